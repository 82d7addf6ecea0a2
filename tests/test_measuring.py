"""Every column of the measures against sums over all texts of toy laws, or against a loop over every draw."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import scored
import toys
from scored import make_scores, make_world
from toys import EOS, A, B, C, D

from completions_lp.records import Choices, InputError, Labelling, Measures, Sampling, Scores, pick_letters
from completions_lp.report import summarize
from completions_lp.score.measures import estimate_steered, measure_completions, read_texts, weigh_completions
from completions_lp.score.profile import profile_tokens
from completions_lp.score.sums import sum_tokens
from completions_lp.stats.bounds import MIN_SURVIVING

MULTIPLIERS = (-1.0, 0.5, 2.0)
ALWAYS = ("n_tokens", "excess_surprisal", "excess_surprisal_se", "kl", "kl_reverse", "n_steered", "n_broken")
"""Told of every prompt, whether it offers the target or not."""
EXACT = {"rtol": 0, "atol": 1e-10}
STEPS = 3


def all_measures(measures):
    return {**measures.unsteered, **measures.steered}


def same(one, two, **tolerance):
    """Whether two sets of measures are equal, NaN equal to NaN."""
    for name, values in all_measures(one).items():
        np.testing.assert_allclose(values, all_measures(two)[name], err_msg=name, **(tolerance or {"rtol": 1e-12}))
    np.testing.assert_array_equal(one.trust, two.trust)


def expect(world, target, within):
    """All that infinitely many draws tell of the target, by adding up every text under every law."""
    first = target if target in world.letters else world.matching
    other = world.not_matching if first == world.matching else world.matching
    tokens, p = scored.TOKENS[first], world.law
    texts = toys.enumerate_texts(p, STEPS)
    probs = np.exp([toys.logprob_of(p, x) for x in texts])
    hits = [(toys.first_answer(x, within, world.answers), w, x) for x, w in zip(texts, probs, strict=True)]
    hits = [(x[: t + 1], w) for (index, t), w, x in hits if index == world.letters.index(first)]
    window = min(STEPS, within)
    entropies = {x[:t]: -np.exp(p(x[:t])) @ p(x[:t]) for x in texts for t in range(len(x))}
    excess = np.array(
        [-np.log(w) - sum(entropies[x[:t]] for t in range(len(x))) for w, x in zip(probs, texts, strict=True)]
    )
    want = SimpleNamespace(
        p_A=world.probability(p, window, first),
        first_A=world.probability(p, window, first),
        first_B=world.probability(p, window, other),
        n_tokens=probs @ [len(x) for x in texts],
        p_A_steered=[world.probability(q, window, first) for q in world.steered],
        first_A_steered=[world.probability(q, window, first) for q in world.steered],
        first_B_steered=[world.probability(q, window, other) for q in world.steered],
        p_A_answer_only=[world.probability(toys.hybrid_law(q, p, (tokens,)), window, first) for q in world.steered],
        p_A_reasoning_only=[world.probability(toys.hybrid_law(p, q, (tokens,)), window, first) for q in world.steered],
        excess_surprisal=0.0,
        excess_surprisal_se=np.sqrt(probs @ excess**2 / sum(world.counts)),
        kl=[],
        kl_reverse=[],
        increase_to_answer_A_rb=[],
        mean_weight_low=1.0,
        mean_weight_high=1.0,
        n_steered=0,
        n_broken=0,
    )
    for q in world.steered:
        logq = np.array([toys.logprob_of(q, x) for x in texts])
        want.kl.append(probs @ (np.log(probs) - logq))
        want.kl_reverse.append(np.exp(logq) @ (logq - np.log(probs)))
        gain = sum(w * (toys.logprob_of(q, x) - toys.logprob_of(p, x)) for x, w in hits)
        want.increase_to_answer_A_rb.append(gain / sum(w for _, w in hits))
    return vars(want)


WORLDS = {
    "own": make_world(0, MULTIPLIERS, steps=STEPS),
    "swapped": make_world(1, MULTIPLIERS, steps=STEPS, matching="B", not_matching="A"),
    "third letter": make_world(2, MULTIPLIERS, steps=STEPS, letters=("A", "C", "B")),
    "not on offer": make_world(3, MULTIPLIERS, steps=STEPS, letters=("C", "D"), matching="C", not_matching="D"),
    "third is the target": make_world(
        4, MULTIPLIERS, steps=STEPS, letters=("A", "C", "D"), matching="C", not_matching="D"
    ),
}
EMPTY = dataclasses.replace(WORLDS["own"], texts=[], counts=[])


@pytest.mark.parametrize("within", [2, 3, 5])
@pytest.mark.parametrize("target", ["A", "B", "C", "matching"])
def test_draws_in_proportion_to_the_probabilities_give_every_measure_exactly(target, within):
    """Windows shorter than the texts, as long and longer; prompts with other answers and without completions."""
    worlds = [*WORLDS.values(), EMPTY]
    scores = make_scores(worlds, within=within, target=target)
    completions = scores.completions
    assert (completions.answer_index == completions.lengths - 1).any() == (within >= STEPS)
    assert (completions.answer_index == 0).any()
    assert completions.ended.any()
    measures = measure_completions(scores, target=target)
    assert measures.prompts == completions.prompts
    assert measures.conditions == scores.conditions
    columns = all_measures(measures)
    offered = [target == "matching" or target in world.letters for world in worlds[:-1]]
    assert sum(offered) in (3, 4, 5)
    for i, world in enumerate(worlds[:-1]):
        want = expect(world, target, within)
        for name, values in want.items():
            values = values if offered[i] or name in ALWAYS else np.nan
            np.testing.assert_allclose(columns[name][..., i], values, err_msg=f"{name} of {i}", **EXACT)
        low, high = columns["p_A_steered_low"][:, i], columns["p_A_steered_high"][:, i]
        if not offered[i]:
            assert np.isnan(
                [low, high, *(columns[name][:, i] for name in ("p_A_steered_se", "p_A_change_se", "ess"))]
            ).all()
            assert (measures.trust[:, i] == "").all()
        elif within <= STEPS:  # every text was seen to its end, so nothing is left open
            np.testing.assert_allclose([low, high], [want["p_A_steered"]] * 2, **EXACT)
            bounds = [measures.unsteered[f"p_A_{side}"][i] for side in ("low", "high")]
            np.testing.assert_allclose(bounds, want["p_A"], **EXACT)
            assert (measures.trust[:, i] == "certified").all()
        else:  # what was cut off might have gone on to answer
            cut = [x for x in world.texts if toys.first_answer(x, within, world.answers)[1] < 0 and x[-1] != EOS]
            rest = [sum(np.exp(toys.logprob_of(q, x)) for x in cut) for q in world.steered]
            np.testing.assert_allclose([low, high], [want["p_A_steered"], low + rest], **EXACT)
    for name, values in columns.items():
        assert (values[..., -1] == 0).all() if name in ("n_steered", "n_broken") else np.isnan(values[..., -1]).all(), (
            name
        )
    assert (measures.trust[:, -1] == "").all()


def read_two(worlds, target):
    """The two-choice read-out of the laws: each prompt's own pair at the first token."""
    pairs = [tuple(tokens[0] for tokens in world.pair(target)) for world in worlds]
    before = [[world.law(())[v] for v in pair] for world, pair in zip(worlds, pairs, strict=True)]
    after = [[[q(())[v] for v in pair] for q in world.steered] for world, pair in zip(worlds, pairs, strict=True)]
    return np.array(before), np.array(after).transpose(1, 0, 2)


def read_all(worlds):
    """The same of every letter: NaN past the last of a prompt."""
    offered, most = tuple(world.letters for world in worlds), max(len(world.letters) for world in worlds)
    before, after = (np.full((*n, len(worlds), most), np.nan) for n in ((), (len(MULTIPLIERS),)))
    for i, world in enumerate(worlds):
        for k, (token,) in enumerate(world.answers):
            before[i, k], after[:, i, k] = world.law(())[token], [q(())[token] for q in world.steered]
    return {
        **{"offered": offered, "baseline_all": before, "logprob_all": after},
        **{"baseline_all_whole": before, "all_whole": after},
    }


@pytest.mark.parametrize("target", ["C", "matching"])
def test_a_target_that_is_a_third_letter_counts_in_every_number(target):
    """Headline, P(A) and read-out cover the same prompts: all that offer it, whatever their own two answers are."""
    worlds = list(WORLDS.values())
    scores = make_scores(worlds, within=STEPS, target=target)
    prompts = scores.completions.prompts
    two = read_two(worlds, target)
    choices = Choices(prompts, pick_letters(prompts, target), scores.conditions, *two, *two, **read_all(worlds))
    measures, profile = (make(scores, target=target) for make in (measure_completions, profile_tokens))
    report = summarize(Scores(sum_tokens(scores), measures, profile), choices, target=target)
    offered = np.array([target == "matching" or target in world.letters for world in worlds])
    assert offered.sum() == {"C": 3, "matching": 5}[target]
    names = ("share_A", "p_A", "increase_to_answer_A", "increase_to_answer_not_A", "p_A_steered", "delta_p_A")
    names += ("logit_diff_change", "mass")
    columns = {name: np.asarray(report.prompts[name]).reshape(len(MULTIPLIERS), -1) for name in names}
    for name, values in columns.items():
        np.testing.assert_array_equal(np.isfinite(values), np.tile(offered, (len(MULTIPLIERS), 1)), err_msg=name)
        rows = [row for row in report.rows if row.quantity == name and row.split == "all"]
        assert {row.estimate.n for row in rows if row.weighting == "macro"} == {offered.sum()}
    assert (profile.n.sum(1) > 0).tolist() == offered.tolist()
    for i in np.flatnonzero(offered):
        want, (first, other) = expect(worlds[i], target, STEPS), (tokens[0] for tokens in worlds[i].pair(target))
        p, q = want["p_A"], np.array(want["p_A_steered"])
        changes = [law(())[first] - law(())[other] for law in (worlds[i].law, *worlds[i].steered)]
        np.testing.assert_allclose(columns["share_A"][:, i], p, **EXACT)
        np.testing.assert_allclose(columns["increase_to_answer_A"][:, i], want["increase_to_answer_A_rb"], **EXACT)
        np.testing.assert_allclose(columns["p_A_steered"][:, i], q, **EXACT)
        np.testing.assert_allclose(columns["delta_p_A"][:, i], 100 * (q - p), rtol=0, atol=1e-8)
        np.testing.assert_allclose(columns["logit_diff_change"][:, i], np.diff(changes).cumsum(), **EXACT)


def test_a_single_draw_is_right_on_average():
    """One text a prompt: the mean over texts of what each alone says of divergences and sampling is exact."""
    world = WORLDS["own"]
    ones = [dataclasses.replace(world, texts=[text], counts=[1]) for text in world.texts]
    measures = measure_completions(make_scores(ones, within=2), target="A")
    weights, want = np.array(world.counts) / sum(world.counts), expect(world, "A", 2)
    assert measures.unsteered["excess_surprisal"] @ weights == pytest.approx(0, abs=1e-10)
    assert measures.unsteered["n_tokens"] @ weights == pytest.approx(want["n_tokens"], abs=1e-10)
    for name in ("kl", "kl_reverse"):
        np.testing.assert_allclose(measures.steered[name] @ weights, want[name], **EXACT)
    assert np.isnan(measures.steered["p_A_steered_se"]).all()  # a single draw says nothing of its own noise
    assert np.isnan(measures.unsteered["p_A_se"]).all()


def draw(seed=0, n=60, *, steps=STEPS, letters=("A", "B")):
    """A world with what a finite number of draws shows of it."""
    world = make_world(seed, MULTIPLIERS, steps=steps, letters=letters)
    texts, counts = toys.sample_texts(world.law, steps, n, seed)
    return dataclasses.replace(world, texts=texts, counts=counts)


def recall(world, within, law):
    """Probability, smallest effective number of draws and range of mean weights, draw by draw (numbers.md P3)."""
    draws = [x for x, count in zip(world.texts, world.counts, strict=True) for _ in range(count)]
    surviving, ess, mean_weight = 1.0, [], []
    for t in range(within):
        alive, w, h = 0, [], []
        for text in draws:
            index, where = toys.first_answer(text, within, world.answers)
            if index == 0 and where < t:
                continue
            alive += 1
            stop = where + 1 if where >= 0 else len(text)
            w.append(np.exp(sum(law(text[:s])[v] - world.law(text[:s])[v] for s, v in enumerate(text[: min(t, stop)]))))
            h.append(np.exp(law(text[:t])[A]) if t < stop else 0.0)
        w, h = np.array(w), np.array(h)
        if surviving > 0.05:
            ess.append(w.sum() ** 2 / (w**2).sum())
            mean_weight.append(w.sum() / len(draws) / surviving)
        surviving *= 1 - w @ h / w.sum()
    return 1 - surviving, min(ess), min(mean_weight), max(mean_weight)


def list_bounds(world, within, law):
    """What the visited texts prove: sums over sets of prefixes and of texts that stopped otherwise."""
    prefixes, stopped = set(), set()
    for text in world.texts:
        index, where = toys.first_answer(text, within, world.answers)
        end = where + 1 if where >= 0 else min(len(text), within)
        prefixes |= {text[:t] for t in range(end)}
        if index != 0 and (where >= 0 or end == within or text[-1] == EOS):
            stopped.add(text[:end])
    low = sum(np.exp(toys.logprob_of(law, u) + law(u)[A]) for u in prefixes)
    return low, 1 - sum(np.exp(toys.logprob_of(law, x)) for x in stopped)


@pytest.mark.parametrize("seed", range(4))
def test_a_finite_sample_equals_a_loop_over_every_draw(seed):
    world, within = draw(seed, letters=("A", "B", "C")), 3
    measures = measure_completions(make_scores([world], within=within), target="A")
    steered, unsteered = ({k: v[..., 0] for k, v in x.items()} for x in (measures.steered, measures.unsteered))
    low, high = list_bounds(world, within, world.law)
    np.testing.assert_allclose([unsteered["p_A_low"], unsteered["p_A_high"]], [low, high], **EXACT)
    assert unsteered["p_A"] == pytest.approx(np.clip(recall(world, within, world.law)[0], low, high), abs=1e-10)
    trust = []
    for c, law in enumerate(world.steered):
        rho, ess, least, most = recall(world, within, law)
        low, high = list_bounds(world, within, law)
        got = [steered[f"p_A_steered{end}"][c] for end in ("", "_low", "_high")]
        np.testing.assert_allclose(got, [np.clip(rho, low, high), low, high], **EXACT)
        got = [steered[name][c] for name in ("ess", "mean_weight_low", "mean_weight_high")]
        np.testing.assert_allclose(got, [ess, least, most], rtol=1e-9)
        green = ess >= 20 and least >= 0.8 and most <= 1.25
        trust.append("certified" if high - low <= 0.05 else "green" if green else "red")
    assert measures.trust[:, 0].tolist() == trust
    assert MIN_SURVIVING == 0.05


def test_lengths_divergences_and_surprisal_are_means_over_every_draw_of_its_whole_text():
    worlds = [draw(0), draw(1, 17)]
    measures = measure_completions(
        make_scores(worlds, within=1), target="A"
    )  # a short window does not shorten the texts
    for i, world in enumerate(worlds):
        p, found = world.law, []
        for text, count in zip(world.texts, world.counts, strict=True):
            excess, kl, reverse, weight = 0.0, np.zeros(3), np.zeros(3), np.ones(3)
            for t, v in enumerate(text):
                logp, logq = p(text[:t]), np.array([q(text[:t]) for q in world.steered])
                excess += -logp[v] + np.exp(logp) @ logp
                kl += (logp - logq) @ np.exp(logp)
                reverse += weight * (np.exp(logq) * (logq - logp)).sum(1)
                weight *= np.exp(logq[:, v] - logp[v])
            found += [(len(text), excess, kl, reverse)] * count
        lengths, excess, kl, reverse = (np.mean(values, axis=0) for values in zip(*found, strict=True))
        assert measures.unsteered["n_tokens"][i] == pytest.approx(lengths, rel=1e-12)
        assert measures.unsteered["excess_surprisal"][i] == pytest.approx(excess, abs=1e-12)
        np.testing.assert_allclose(measures.steered["kl"][:, i], kl, rtol=1e-10)
        np.testing.assert_allclose(measures.steered["kl_reverse"][:, i], reverse, rtol=1e-10)


def survive(world, within, law, counts):
    """The survival estimate for any weights of the texts, text by text."""
    surviving = 1.0
    for t in range(within):
        hits, total = 0.0, 0.0
        for text, count in zip(world.texts, counts, strict=True):
            index, where = toys.first_answer(text, within, world.answers)
            stop = where + 1 if where >= 0 else len(text)
            if index == 0 and where < t:
                continue
            w = np.exp(sum(law(text[:s])[v] - world.law(text[:s])[v] for s, v in enumerate(text[: min(t, stop)])))
            total += count * w
            hits += count * w * (np.exp(law(text[:t])[A]) if t < stop else 0.0)
        surviving *= 1 - hits / total
    return 1 - surviving


def test_standard_errors_are_those_of_numerical_derivatives():
    """sd(IF)/√S, with what one more draw of a text would do; of the change, that of the difference."""
    world, within, step = draw(5, letters=("A", "B", "C")), 2, 1e-4
    measures = measure_completions(make_scores([world], within=within), target="A")
    counts, influence = np.array(world.counts, dtype=float), []
    n = counts.sum()
    assert {toys.first_answer(x, within, world.answers)[0] for x in world.texts} == {-1, 0, 1, 2}
    for law in (world.law, *world.steered):
        moved = [step * np.eye(len(counts))[s] for s in range(len(counts))]
        influence.append(
            [n * (survive(world, within, law, counts + d) - survive(world, within, law, counts - d)) / (2 * step)
             for d in moved]
        )  # fmt: skip
    influence = np.array(influence)

    def spread(values):
        return np.sqrt(values**2 @ counts / (n * (n - 1)))

    np.testing.assert_allclose(measures.unsteered["p_A_se"], spread(influence[0]), rtol=1e-6)
    np.testing.assert_allclose(measures.steered["p_A_steered_se"][:, 0], spread(influence[1:]), rtol=1e-6)
    np.testing.assert_allclose(measures.steered["p_A_change_se"][:, 0], spread(influence[1:] - influence[0]), rtol=1e-6)


def test_steps_that_hardly_any_text_reaches_say_nothing_of_the_weights():
    """As the flag does not ask for them; ESS and mean weights are those that it goes by."""
    p = toys.table_law(lambda x: (0, 0.97, 0, 0.02, 0.01) if not x else (0, 0.1, 0.4, 0.3, 0.2))
    q = toys.table_law(lambda x: (0, 0.99, 0, 0.001, 0.009) if not x else (0, 0.1, 0.4, 0.3, 0.2))
    world = scored.World(p, (q,), [(A,), (C, B), (C, C), (D, A)], [194, 2, 2, 2])
    measures = measure_completions(make_scores([world], within=2), target="A")
    assert recall(world, 2, q)[1:] == pytest.approx((200, 1, 1))
    got = [measures.steered[name][0, 0] for name in ("ess", "mean_weight_low", "mean_weight_high")]
    np.testing.assert_allclose(got, [200, 1, 1], rtol=1e-12)


def two_step(reasoning, informed, blind):
    """C is the reasoning token, D any other; then A or B."""

    def table(prefix):
        if not prefix:
            return (0, 0, 0, reasoning, 1 - reasoning)
        h = informed if prefix[0] == C else blind
        return (0, h, 1 - h, 0, 0)

    return toys.table_law(table)


MODE = two_step(0.001, 0.9, 0.05), (two_step(0.6, 0.95, 0.06),)


def test_a_mode_that_was_never_seen_is_red_and_its_estimate_clipped():
    """O6: 100 effective draws of 100, mean weight .4004, bounds .6 apart; the truth is .594."""
    world = scored.World(*MODE, [(D, A), (D, B)], [5, 95])
    measures = measure_completions(make_scores([world], within=2), target="A")
    steered = {name: values[0, 0] for name, values in measures.steered.items()}
    assert measures.trust.tolist() == [["red"]]
    assert steered["ess"] == pytest.approx(100)
    assert steered["mean_weight_low"] == pytest.approx(0.4004, abs=5e-5)
    assert steered["p_A_steered_high"] - steered["p_A_steered_low"] == pytest.approx(0.6, abs=1e-10)
    assert steered["p_A_steered_low"] <= 0.594 <= steered["p_A_steered_high"]
    never = dataclasses.replace(world, texts=[(C, B), (D, A), (D, B)], counts=[1, 5, 94])
    rho = recall(never, 2, world.steered[0])[0]
    certain = scored.World(MODE[0], (two_step(1.0, 0.9, 0.05),), [(D, A)], [100])  # steering never says D
    lost = measure_completions(make_scores([certain], within=2), target="A")
    assert {name for name, values in lost.steered.items() if np.isfinite(values[0, 0])} == {"n_steered", "n_broken"}
    assert lost.steered["n_broken"][0, 0] == 100
    assert lost.trust.tolist() == [[""]]
    assert 0.05 < rho < 0.95


def test_an_estimate_outside_of_its_bounds_is_clipped():
    """A branch with nearly all of A that was drawn far too seldom is known from its single text."""
    law = toys.table_law(lambda x: (0, 0.9, 0.1, 0, 0) if x == (C,) else (0, 0.02, 0.08, 0.45, 0.45))
    world = scored.World(law, (law,), [(C, A), (D, B)], [1, 60])
    measures = measure_completions(make_scores([world], within=2), target="A")
    low, _ = list_bounds(world, 2, law)
    assert recall(world, 2, law)[0] < low - 0.1
    assert measures.unsteered["p_A"][0] == pytest.approx(low) == pytest.approx(measures.steered["p_A_steered"][0, 0])


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0.7), Sampling(top_p=0.9), Sampling(top_k=3), Sampling(greedy=True)]
)
def test_of_draws_from_another_distribution_only_the_bounds_hold(sampling):
    worlds = [draw(0), draw(1), WORLDS["not on offer"]]
    plain = measure_completions(make_scores(worlds, within=3), target="A")
    measures = measure_completions(make_scores(worlds, within=3, sampling=sampling), target="A")
    kept = ("p_A_low", "p_A_high", "p_A_steered_low", "p_A_steered_high", "n_tokens", "n_steered", "n_broken")
    for name, values in all_measures(measures).items():
        if name in kept:
            np.testing.assert_array_equal(values, all_measures(plain)[name], err_msg=name)
        else:
            assert np.isnan(values).all(), name
    assert measures.trust.tolist() == [["red", "red", ""]] * 3


def share(world, law, within):
    """The self-normalised mean of the weights through the answer, draw by draw."""
    hit, weights = [], []
    for text, count in zip(world.texts, world.counts, strict=True):
        index, where = toys.first_answer(text, within, world.answers)
        stopped = text[: where + 1] if where >= 0 else text[:within]
        weight = np.exp(toys.logprob_of(law, stopped) - toys.logprob_of(world.law, stopped))
        hit += [index == 0] * count
        weights += [weight] * count
    return np.array(hit), np.array(weights)


REGEX = Labelling(rule="regex", within=2, pattern="{letter}")


@pytest.mark.parametrize("target", ["A", "matching"])
def test_an_answer_that_no_single_token_decides_is_a_share_of_weights(target):
    worlds = [WORLDS["own"], WORLDS["swapped"], WORLDS["third letter"]]
    measures = measure_completions(
        make_scores(worlds, within=2, target=target, labelling=REGEX, watch=False), target=target
    )
    unknown = ("first_A", "first_B", "first_A_steered", "first_B_steered", "p_A_answer_only", "p_A_reasoning_only")
    for name in (*unknown, "increase_to_answer_A_rb"):
        assert np.isnan(all_measures(measures)[name]).all(), name
    for i, world in enumerate(worlds):
        want = expect(world, target, 2)
        for name in ("p_A", "p_A_low", "p_A_high", "kl", "n_tokens"):
            np.testing.assert_allclose(all_measures(measures)[name][..., i], want[name[:3] if "p_A" in name else name],
                                       err_msg=name, **EXACT)  # fmt: skip
        for end in ("", "_low", "_high"):
            np.testing.assert_allclose(measures.steered[f"p_A_steered{end}"][:, i], want["p_A_steered"], **EXACT)
        np.testing.assert_allclose(measures.steered["mean_weight_low"][:, i], 1, **EXACT)


def test_the_share_of_a_finite_sample_equals_a_loop_over_every_draw():
    world = draw(3, 80)
    measures = measure_completions(make_scores([world], within=2, labelling=REGEX, watch=False), target="A")
    for c, law in enumerate(world.steered):
        hit, w = share(world, law, 2)
        rho = w[hit].sum() / w.sum()
        se = (w * (hit - rho) / w.mean()).std(ddof=1) / np.sqrt(len(w))
        seen = {toys.first_answer(x, 2, world.answers) + x[:2] for x in world.texts}
        stopped = {x[2 : 3 + x[1]] if x[1] >= 0 else x[2:]: x[0] for x in seen}
        q = {x: np.exp(toys.logprob_of(law, x)) for x in stopped}
        low, high = sum(q[x] for x in q if stopped[x] == 0), 1 - sum(q[x] for x in q if stopped[x] != 0)
        got = [measures.steered[f"p_A_steered{end}"][c, 0] for end in ("", "_low", "_high")]
        np.testing.assert_allclose(got, [np.clip(rho, low, high), low, high], **EXACT)
        got = [measures.steered[name][c, 0] for name in ("p_A_steered_se", "ess", "mean_weight_low")]
        np.testing.assert_allclose(got, [se, w.sum() ** 2 / (w**2).sum(), w.mean()], rtol=1e-10)
        want = (w * (hit - rho) / w.mean() - (hit - hit.mean())).std(ddof=1) / np.sqrt(len(w))
        assert measures.steered["p_A_change_se"][c, 0] == pytest.approx(want, rel=1e-10)
    hit, _ = share(world, world.law, 2)
    low, high = (measures.unsteered[f"p_A_{side}"][0] for side in ("low", "high"))
    assert measures.unsteered["p_A"][0] == pytest.approx(np.clip(hit.mean(), low, high), abs=1e-12)
    assert measures.unsteered["p_A_se"][0] == pytest.approx(hit.std(ddof=1) / np.sqrt(len(hit)), rel=1e-10)


def test_without_divergences_everything_else_is_the_same():
    worlds = [draw(0), WORLDS["own"], EMPTY]
    with_kl = measure_completions(make_scores(worlds, within=3), target="A")
    without = measure_completions(make_scores(worlds, within=3, kl=False), target="A")
    for name, values in all_measures(without).items():
        if name in ("kl", "kl_reverse", "excess_surprisal", "excess_surprisal_se"):
            assert np.isnan(values).all()
            assert np.isfinite(all_measures(with_kl)[name][..., :2]).all()
        else:
            np.testing.assert_array_equal(values, all_measures(with_kl)[name], err_msg=name)
    np.testing.assert_array_equal(with_kl.trust, without.trust)


def test_single_precision_scores_are_reduced_in_double():
    worlds = [draw(seed) for seed in range(3)]
    scores = make_scores(worlds, within=3, dtype=np.float32)
    double = dataclasses.replace(
        scores,
        **{
            field.name: getattr(scores, field.name).astype(np.float64)
            for field in dataclasses.fields(scores)
            if isinstance(getattr(scores, field.name), np.ndarray)
        },
    )
    same(measure_completions(scores, target="A"), measure_completions(double, target="A"))
    for name, values in all_measures(measure_completions(scores, target="A")).items():
        assert values.dtype == np.float64, name


def permute(scores, rows):
    """The same scores with the rows of the completions in another order."""
    completions = scores.completions
    names = ("prompt_index", "token_ids", "lengths", "counts", "ended", "label", "answer_index", "logprob")
    moved = dataclasses.replace(
        completions,
        text=tuple(completions.text[i] for i in rows),
        pieces=tuple(completions.pieces[i] for i in rows),
        **{name: getattr(completions, name)[rows] for name in names},
    )
    steered = {name: getattr(scores, name)[:, rows] for name in ("logprob", "kl", "kl_reverse", "answers")}
    plain = {name: getattr(scores, name)[rows] for name in ("baseline", "entropy", "baseline_answers")}
    return dataclasses.replace(scores, completions=moved, **steered, **plain)


def test_the_order_of_completions_and_of_prompts_changes_nothing():
    worlds = [draw(seed) for seed in range(3)]
    scores = make_scores(worlds, within=3)
    measures = measure_completions(scores, target="A")
    rows = np.random.default_rng(0).permutation(len(scores.completions))
    same(measure_completions(permute(scores, rows), target="A"), measures, rtol=1e-9)
    backwards = measure_completions(make_scores(worlds[::-1], within=3), target="A")
    for name, values in all_measures(backwards).items():
        np.testing.assert_allclose(values[..., ::-1], all_measures(measures)[name], rtol=1e-12, err_msg=name)
    part = measure_completions(dataclasses.replace(scores).select([2, 0]), target="A")
    for name, values in part.steered.items():
        np.testing.assert_allclose(values, measures.steered[name][[2, 0]], rtol=1e-12)


def test_copies_of_a_text_are_its_count():
    world = draw(1, 40)
    rows = [text for text, count in zip(world.texts, world.counts, strict=True) for _ in range(count)]
    copies = dataclasses.replace(world, texts=rows, counts=[1] * len(rows))
    one, two = (measure_completions(make_scores([w], within=3), target="A") for w in (world, copies))
    same(one, two, rtol=1e-9)


def test_no_conditions_leave_what_is_unsteered():
    world = dataclasses.replace(draw(0), steered=())
    measures = measure_completions(make_scores([world], within=3), target="A")
    want = measure_completions(make_scores([draw(0)], within=3), target="A")
    for name, values in measures.unsteered.items():
        np.testing.assert_array_equal(values, want.unsteered[name])
    assert {values.shape for values in measures.steered.values()} == {(0, 1)}
    assert measures.trust.shape == (0, 1)


def test_steering_that_does_nothing_changes_nothing():
    world = draw(0)
    world = dataclasses.replace(world, steered=(world.law,))
    measures = measure_completions(make_scores([world], within=3), target="A")
    for name in ("p_A", "p_A_se", "p_A_low", "p_A_high", "first_A", "first_B"):
        steered = name.replace("p_A", "p_A_steered") if "p_A" in name else f"{name}_steered"
        np.testing.assert_allclose(measures.steered[steered][0], measures.unsteered[name], rtol=1e-12)
    for name in ("kl", "kl_reverse", "increase_to_answer_A_rb"):
        np.testing.assert_allclose(measures.steered[name], 0, atol=1e-12)


def test_several_samplers_of_whom_each_drew_by_its_own_law_pool_to_the_exact_probability():
    world = make_world(0, (1.0,), steps=STEPS)
    q = world.steered[0]
    exact = [np.exp([toys.logprob_of(law, x) for x in world.texts]) for law in (world.law, q)]
    counts = np.rint(2**30 * (0.8 * exact[0] + 0.2 * exact[1]) / 4).astype(int)
    pooled = dataclasses.replace(world, texts=world.texts, counts=counts.tolist())
    for within, watch in itertools.product((2, 3), (True, False)):
        labelling = Labelling(within=within) if watch else dataclasses.replace(REGEX, within=within)
        scores = make_scores([pooled], within=within, watch=watch, labelling=labelling)
        texts = read_texts(scores, scores.completions.rows_of(0), ("A", "B"))
        samplers = np.stack([texts.window["logprob"], texts.window["steered"][0]])
        weight = weigh_completions(texts, samplers, np.array([0.8, 0.2]) * counts.sum())
        found, trust = estimate_steered(texts, weight)
        want = world.probability(q, within, "A")
        assert found["p_A_steered"][0] == pytest.approx(want, abs=1e-6)
        assert found["mean_weight_high"][0] == pytest.approx(1, abs=1e-6)
        assert trust.tolist() == ["certified"]
        assert found.keys() <= set(Measures.STEERED)
    with pytest.raises(InputError, match="count every draw of the pool"):
        weigh_completions(texts, samplers, np.array([1.0, 2.0]))


def test_the_texts_of_a_prompt_are_its_own_and_cut_to_the_window():
    worlds = [draw(0), draw(1)]
    scores = make_scores(worlds, within=2)
    rows = scores.completions.rows_of(1)
    texts = read_texts(scores, rows, ("B", "A"))
    assert texts.steps.counts.tolist() == worlds[1].counts
    assert texts.steps.target.tolist() == [toys.first_answer(x, 2, ((B,), (A,)))[0] == 0 for x in worlds[1].texts]
    assert texts.mask.sum(1).tolist() == [len(x) for x in worlds[1].texts]
    for name in ("logprob", "A", "B"):
        assert texts.window[name].shape == (len(rows), 2)
    np.testing.assert_array_equal(texts.window["A_steered"], scores.answers[:, rows][:, :, :2, 0])
    np.testing.assert_array_equal(texts.window["B"], scores.baseline_answers[rows, :2, 1])

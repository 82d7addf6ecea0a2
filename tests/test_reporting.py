import dataclasses
import inspect
import math

import numpy as np
import pytest
import reference
import scipy.stats
import torch
from conftest import make_completions, make_prompts, make_vector

from completions_lp.records import BASELINE, Choices, Condition, InputError, Sampling, Scores, TokenScores
from completions_lp.report import count_answers, measure_prompts, summarize
from completions_lp.score.choices import read_choices
from completions_lp.score.grid import score_tokens
from completions_lp.score.measures import measure_completions
from completions_lp.score.parts import score_completions
from completions_lp.score.profile import profile_tokens, summarize_profile
from completions_lp.score.sums import check_increases, sum_tokens
from completions_lp.stats import average_by_group

CONDITIONS = (Condition("v", "target", 0, 0.0), Condition("v", "target", 1, 1.0), Condition("v", "target", 1, -1.0))


def make_scores(n_prompts=9, *, seed=0, within=3, conditions=CONDITIONS):
    """Random scores of random completions, of which the first prompt has no A and the second nothing but A."""
    rng = np.random.default_rng(seed)
    rows, labels, answers = [], [], []
    for prompt in range(n_prompts):
        given = {0: ["B", ""] * 3, 1: ["A"] * 6}.get(prompt, ["A", "B", ""] * 2)
        for label in rng.permutation(given).tolist():
            length = int(rng.integers(1, 7))
            rows.append((prompt, rng.integers(2, 300, size=length).tolist()))
            labels.append(label)
            answers.append(-1 if label == "" else int(rng.integers(min(length, within))))
    counts = rng.integers(1, 9, size=len(rows)).tolist()
    prompts = make_prompts((3,) * n_prompts)
    completions = make_completions(prompts, rows, labels=labels, answers=answers, counts=counts, within=within)
    hide = np.where(completions.mask, 0.0, np.nan)
    baseline = rng.normal(-3, 1, size=hide.shape) + hide
    change = rng.normal(size=(len(conditions), *hide.shape)) * [[[c.multiplier]] for c in conditions]
    return TokenScores(completions, tuple(conditions), baseline, baseline + change)


def make_choices(scores, *, seed=0):
    """A random read-out of the same prompts and conditions, the target A first."""
    rng = np.random.default_rng(seed)
    prompts = scores.completions.prompts
    baseline = np.log(rng.dirichlet([1, 1, 1], size=len(prompts))[:, :2])
    logprob = np.log(rng.dirichlet([1, 1, 1], size=(len(scores.conditions), len(prompts)))[..., :2])
    return Choices(prompts, (("A", "B"),) * len(prompts), scores.conditions, baseline, logprob)


def complete(choices):
    """A read-out of two answers as one of all choices, which are these two."""
    whole, before = choices.logprob - 0.1, choices.baseline - 0.2
    return dataclasses.replace(
        choices,
        baseline_whole=before,
        whole=whole,
        offered=choices.letters,
        baseline_all=choices.baseline,
        logprob_all=choices.logprob,
        baseline_all_whole=before,
        all_whole=whole,
    )


def test_sums_over_tokens_equal_a_loop():
    scores = make_scores()
    completions, sums = scores.completions, sum_tokens(scores)
    for c in range(len(CONDITIONS)):
        for row in range(len(completions)):
            n, answer = int(completions.lengths[row]), int(completions.answer_index[row])
            delta = [float(scores.logprob[c, row, t] - scores.baseline[row, t]) for t in range(n)]
            assert sums.increase[c, row] == pytest.approx(sum(delta), abs=1e-12)
            through = delta[: answer + 1] if answer >= 0 else delta[: completions.labelling.within]
            assert sums.increase_to_answer[c, row] == pytest.approx(sum(through), abs=1e-12)
            parts = [sums.before_answer[c, row], sums.at_answer[c, row], sums.after_answer[c, row]]
            if answer < 0:
                assert np.isnan(parts).all()
            else:
                want = [sum(delta[:answer]), delta[answer], sum(delta[answer + 1 :])]
                assert parts == pytest.approx(want, abs=1e-12)
                assert sum(parts) == pytest.approx(sum(delta), abs=1e-12)
    assert sums.baseline == pytest.approx([np.nansum(row) for row in scores.baseline], abs=1e-12)
    lengths, answers = completions.lengths, completions.answer_index
    assert (answers == 0).any()  # an answer at the first token
    assert (answers == lengths - 1).any()  # and at the last
    assert ((answers < 0) & (lengths > 3)).any()  # and none, in a completion longer than the window


def test_sums_are_taken_in_double_precision():
    scores = make_scores()
    single = TokenScores(
        scores.completions, CONDITIONS, scores.baseline.astype(np.float32), scores.logprob.astype(np.float32)
    )
    sums = sum_tokens(single)
    exact = np.nansum(single.increase.astype(np.float64), -1)
    assert sums.increase.dtype == np.float64
    assert np.abs(sums.increase - exact).max() < 1e-12


@pytest.mark.parametrize("target", ["A", "B", "matching"])
def test_means_of_prompts_equal_a_loop_over_every_draw(target):
    increases = sum_tokens(make_scores())
    completions = increases.completions
    columns = measure_prompts(increases, target=target)
    wanted = [p.matching if target == "matching" else target for p in completions.prompts]
    hit = np.array([completions.label[i] == wanted[p] for i, p in enumerate(completions.prompt_index)])
    some = {"A": hit, "not_A": ~hit, "all": np.ones_like(hit)}
    for quantity, part, which in (
        ("increase_to_answer_A", "increase_to_answer", "A"),
        ("increase_A", "increase", "A"),
        ("increase_not_A", "increase", "not_A"),
        ("increase_to_answer_not_A", "increase_to_answer", "not_A"),
        ("increase_all", "increase", "all"),
        ("before_answer_A", "before_answer", "A"),
        ("at_answer_A", "at_answer", "A"),
        ("after_answer_A", "after_answer", "A"),
    ):
        keep = some[which]
        for c in range(len(CONDITIONS)):
            values = getattr(increases, part)[c][keep]
            slow = reference.prompt_means(values, completions.counts[keep], completions.prompt_index[keep], 9)
            np.testing.assert_allclose(columns[quantity][c], slow, atol=1e-12)
    difference = columns["increase_to_answer_A"] - columns["increase_to_answer_not_A"]
    np.testing.assert_array_equal(columns["difference_A_not_A"], difference)
    whole = columns["before_answer_A"] + columns["at_answer_A"] + columns["after_answer_A"]
    np.testing.assert_allclose(whole, columns["increase_A"], atol=1e-12)


def test_a_prompt_without_the_answer_is_undefined_left_out_and_counted():
    scores = make_scores()
    columns = measure_prompts(sum_tokens(scores), target="A")
    report = summarize(sum_tokens(scores), target="A")
    assert np.isnan(columns["increase_to_answer_A"][:, 0]).all()
    assert np.isfinite(columns["increase_to_answer_A"][:, 1:]).all()
    assert np.isnan(columns["increase_not_A"][:, 1]).all()
    for row in report.rows:
        if row.quantity in columns and row.weighting == "macro" and row.split == "all":
            values = columns[row.quantity][CONDITIONS.index(row.condition)]
            kept = values[np.isfinite(values)]
            assert (row.n_dropped, row.estimate.n) == (9 - len(kept), len(kept))
            assert row.estimate.value == pytest.approx(np.mean(kept), abs=1e-12)
            if row.condition.multiplier != 0:
                want = scipy.stats.ttest_1samp(kept, 0).confidence_interval(0.95)
                assert (row.estimate.low, row.estimate.high) == pytest.approx((want.low, want.high), rel=1e-9)
            else:
                assert (row.estimate.low, row.estimate.high) == (None, None)
    assert report.warnings[0].startswith("1 of 9 prompts have no completion with the target answer")
    assert {r.n_dropped for r in report.table("increase_to_answer_A")} == {1}
    assert {r.n_dropped for r in report.table("difference_A_not_A")} == {2}
    assert report.estimate("share_A", BASELINE).n == 9  # a share of 0 is a number
    assert np.isnan(report.prompts["increase_A"].reshape(3, 9)[:, 0]).all()


def test_answers_are_counted_by_draws():
    completions = make_scores().completions
    counts = count_answers(completions, target="A")
    for prompt in range(9):
        rows = completions.prompt_index == prompt
        draws = np.repeat(completions.label[rows], completions.counts[rows])
        assert (counts["n"][prompt], counts["n_unique"][prompt]) == (len(draws), rows.sum())
        assert counts["n_A"][prompt] == (draws == "A").sum()
        assert counts["share_A"][prompt] == pytest.approx((draws == "A").mean())
    assert (counts["share_A"][0], counts["share_A"][1]) == (0, 1)


def test_a_prompt_that_does_not_offer_the_target_is_left_out_of_everything():
    scores = make_scores()
    prompts = list(scores.completions.prompts)
    prompts[4] = dataclasses.replace(prompts[4], letters=("No", "Yes"), matching="Yes", not_matching="No")
    completions = dataclasses.replace(scores.completions, prompts=tuple(prompts))
    scores = TokenScores(completions, CONDITIONS, scores.baseline, scores.logprob)
    columns = measure_prompts(sum_tokens(scores), target="A")
    for values in columns.values():
        assert np.isnan(values[:, 4]).all()
        assert np.isfinite(values[:, 5]).all()
    assert np.isnan(count_answers(completions, target="A")["share_A"][4])
    with pytest.raises(
        InputError,
        match="target 'C' is an answer of no prompt; theirs are A, B, No, Yes",
    ):
        summarize(sum_tokens(scores), target="C")


def test_exact_frequencies_give_the_conditional_increase_and_minus_kl():
    """Counts proportional to rational p, log probs log p and log q: the definitions, to rounding."""
    prompts = make_prompts((3, 4))
    counts = [[5, 1, 3, 7], [2, 2, 9]]
    q = [[0.3, 0.3, 0.05, 0.35], [0.7, 0.1, 0.2]]
    labels = [["A", "A", "B", ""], ["B", "A", ""]]
    rows, p, steered = [], [], []
    for i in range(2):
        for j, count in enumerate(counts[i]):
            rows.append((i, [10 + j, 20 + j]))
            p.append(count / sum(counts[i]))
            steered.append(q[i][j])
    flat = [x for part in labels for x in part]
    completions = make_completions(
        prompts, rows, labels=flat, answers=[1 if x != "" else -1 for x in flat], counts=[*counts[0], *counts[1]]
    )
    share = np.random.default_rng(0).random((len(rows), 1))  # how a sequence's log prob is spread over its tokens
    spread = np.concatenate([share, 1 - share], 1)
    logprob = (np.log(steered)[:, None] * spread)[None]
    scores = TokenScores(completions, CONDITIONS[1:2], np.log(p)[:, None] * spread, logprob)
    columns = measure_prompts(sum_tokens(scores), target="A")
    for i in range(2):
        pairs = [(c / sum(counts[i]), q[i][j], labels[i][j]) for j, c in enumerate(counts[i])]
        kl = sum(a * math.log(a / b) for a, b, _ in pairs)
        mass = sum(a for a, _, label in pairs if label == "A")
        conditional = sum(a * math.log(b / a) for a, b, label in pairs if label == "A") / mass
        assert columns["increase_all"][0, i] == pytest.approx(-kl, abs=1e-9)
        assert columns["increase_A"][0, i] == pytest.approx(conditional, abs=1e-9)
        assert columns["increase_to_answer_A"][0, i] == pytest.approx(conditional, abs=1e-9)
        assert kl > 0
        assert count_answers(completions, target="A")["share_A"][i] == pytest.approx(mass)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_an_enumerable_model_gives_its_exact_increase_and_minus_kl(build_model, dtype, tolerance):
    """Every completion of a small vocabulary, scored in batches and weighted by its exact probability."""
    model = build_model("llama", vocab_size=6, scale=2.0, dtype=dtype)
    (prompt,) = make_prompts((4,), vocab=6)
    vector = make_vector(model, size=0.5)
    condition = Condition("v", "target", 1, 1.0)
    exact = reference.enumerate_completions(model.module, prompt.token_ids, steps=3, eos_ids=(0,))
    added = 1.0 * vector.directions[1]
    steered = reference.enumerate_completions(
        model.module, prompt.token_ids, steps=3, eos_ids=(0,), layer=1, added=added
    )
    sequences = list(exact)
    has_a = np.array([3 in ids for ids in sequences])
    completions = make_completions(
        [prompt],
        [(0, list(ids)) for ids in sequences],
        labels=["A" if a else "" for a in has_a],
        answers=[ids.index(3) if 3 in ids else -1 for ids in sequences],
    )
    scores = score_tokens(model, completions, [vector], [condition], progress=False, batch_size=50)
    increases = sum_tokens(scores)
    weights, groups = np.array(list(exact.values())), completions.prompt_index
    assert weights.sum() == pytest.approx(1)
    for keep, wanted in ((has_a, lambda ids: 3 in ids), (np.ones_like(has_a), lambda ids: True)):
        got = average_by_group(increases.increase, weights, groups, 1, where=keep)
        slow = reference.mean_increase(exact, steered, wanted)
        assert abs(slow) > 1e-3
        assert got[0, 0] == pytest.approx(slow, abs=tolerance)
    kl = scipy.stats.entropy(weights, [steered[ids] for ids in sequences])
    assert average_by_group(increases.increase, weights, groups, 1)[0, 0] == pytest.approx(-kl, abs=tolerance)


def test_the_two_choice_read_out_stands_beside_the_scores():
    scores = make_scores()
    choices = make_choices(scores)
    report = summarize(sum_tokens(scores), choices, target="A")
    p, q = np.exp(choices.baseline), np.exp(choices.logprob)
    for c, condition in enumerate(CONDITIONS):
        before, after = np.log(p[:, 0] / p[:, 1]), np.log(q[c, :, 0] / q[c, :, 1])
        for quantity, values, unit in (
            ("logit_diff", before, "nats"),
            ("logit_diff_steered", after, "nats"),
            ("logit_diff_change", after - before, "nats"),
            ("mass", p.sum(-1), "probability"),
            ("mass_steered", q[c].sum(-1), "probability"),
        ):
            estimate = report.estimate(quantity, condition)
            assert estimate.value == pytest.approx(values.mean(), abs=1e-12)
            assert estimate.unit == unit
    others = dataclasses.replace(choices, conditions=CONDITIONS[::-1])
    with pytest.raises(InputError, match="are of different prompts or conditions; make both anew"):
        summarize(sum_tokens(scores), others, target="A")


def test_the_logit_diff_is_for_the_target_whichever_answer_was_read_first():
    scores = make_scores()
    choices = make_choices(scores)  # read for A against B
    for quantity in ("logit_diff", "logit_diff_steered", "logit_diff_change"):
        a, b = (summarize(sum_tokens(scores), choices, target=t).table(quantity)[-1].estimate for t in "AB")
        assert b.value == pytest.approx(-a.value)
        assert b.value != 0


def test_the_logit_diff_of_an_answer_that_was_not_read_is_undefined():
    scores = make_scores()
    choices = dataclasses.replace(make_choices(scores), letters=(("C", "D"),) * 9)
    row = summarize(sum_tokens(scores), choices, target="B").table("logit_diff_change")[0]
    assert np.isnan(row.estimate.value)
    assert row.n_dropped == 9


def test_order_changes_nothing():
    scores = make_scores()
    choices = make_choices(scores)
    rng = np.random.default_rng(5)
    rows, prompts, turn = rng.permutation(54), rng.permutation(9), rng.permutation(3)
    c, place = scores.completions, np.argsort(prompts)
    arrays = {
        name: getattr(c, name)[rows]
        for name in ("token_ids", "lengths", "counts", "ended", "label", "answer_index", "logprob")
    }
    shuffled = dataclasses.replace(
        c,
        prompts=tuple(c.prompts[i] for i in prompts),
        prompt_index=place[c.prompt_index[rows]].astype(np.int32),
        text=tuple(c.text[i] for i in rows),
        **arrays,
    )
    conditions = tuple(CONDITIONS[i] for i in turn)
    again = summarize(
        sum_tokens(TokenScores(shuffled, conditions, scores.baseline[rows], scores.logprob[turn][:, rows])),
        Choices(
            shuffled.prompts, choices.letters, conditions, choices.baseline[prompts], choices.logprob[turn][:, prompts]
        ),
        target="A",
    )
    for row in summarize(sum_tokens(scores), choices, target="A").rows:
        if row.split != "all":
            continue
        got = again.estimate(row.quantity, row.condition, weighting=row.weighting)
        want = row.estimate
        numbers = [np.nan if x is None else x for x in (got.value, got.low, got.high, want.value, want.low, want.high)]
        np.testing.assert_allclose(numbers[:3], numbers[3:], atol=1e-12)
        assert (got.n, got.n_clusters) == (want.n, want.n_clusters)


def test_clusters_are_the_unit_of_the_interval():
    scores = make_scores(12)
    prompts = tuple(dataclasses.replace(p, cluster=f"c{i // 2}") for i, p in enumerate(scores.completions.prompts))
    completions = dataclasses.replace(scores.completions, prompts=prompts)
    report = summarize(sum_tokens(TokenScores(completions, CONDITIONS, scores.baseline, scores.logprob)), target="A")
    estimate = report.estimate("increase_all", CONDITIONS[1])
    assert (estimate.n, estimate.n_clusters, estimate.method) == (12, 6, "cluster t")
    assert "few prompts: 6 independent units" in report.warnings[1]


def test_checks_are_the_largest_deviations():
    scores = make_scores()
    zero = scores.baseline + np.where(np.arange(54)[:, None] == 7, 1e-4, 0.0)
    logprob = np.concatenate([zero[None], scores.logprob[1:]])
    increases = sum_tokens(TokenScores(scores.completions, CONDITIONS, scores.baseline, logprob))
    checks = check_increases(increases)
    assert checks["noise_floor"] == pytest.approx(1e-4 * scores.completions.lengths[7], rel=1e-6)
    assert checks["sampler_gap"] == pytest.approx(np.abs(np.nansum(scores.baseline, -1)).max())  # drawn at log prob 0
    assert np.isnan(check_increases(sum_tokens(make_scores(conditions=CONDITIONS[1:])))["noise_floor"])


@pytest.mark.parametrize("changes", [{"temperature": 0.7}, {"top_k": 5}, {"greedy": True}])
def test_draws_from_another_distribution_are_warned_of(changes):
    scores = make_scores(25)
    assert not any("temperature 1" in warning for warning in summarize(sum_tokens(scores), target="A").warnings)
    completions = dataclasses.replace(scores.completions, sampling=Sampling(**changes))
    warnings = summarize(
        sum_tokens(TokenScores(completions, CONDITIONS, scores.baseline, scores.logprob)), target="A"
    ).warnings
    assert any("increase_all is not −KL" in warning for warning in warnings)
    assert not any("few prompts" in warning for warning in warnings)


def test_a_score_that_is_no_number_shows_in_the_checks_and_sums():
    scores = make_scores()
    baseline = scores.baseline.copy()
    baseline[0, 0] = np.nan
    increases = sum_tokens(dataclasses.replace(scores, baseline=baseline))
    assert np.isnan(increases.baseline[0])
    assert np.isfinite(increases.baseline[1:]).all()
    assert np.isnan(increases.increase[:, 0]).all()
    assert np.isnan(check_increases(increases)["sampler_gap"])


def test_the_target_is_each_prompts_own_answer_unless_it_is_named():
    """A letter is no behaviour: half of the prompts have A for it, half B."""
    names = (
        "summarize",
        "measure_prompts",
        "measure_completions",
        "profile_tokens",
        "score_completions",
        "read_choices",
    )
    doors = (summarize, measure_prompts, measure_completions, profile_tokens, score_completions, read_choices)
    for name, door in zip(names, doors, strict=True):
        assert inspect.signature(door).parameters["target"].default == "matching", name
    scores = make_scores()
    got, letter = summarize(sum_tokens(scores)), summarize(sum_tokens(scores), target="A")
    assert got.target == "matching"
    matching = np.array([prompt.matching for prompt in scores.completions.prompts])
    shares, of_a = (report.prompts["share_A"][:9] for report in (got, letter))
    np.testing.assert_array_equal(shares[matching == "A"], of_a[matching == "A"])
    assert (shares[matching == "B"] != of_a[matching == "B"]).any()


def test_scores_bring_their_own_measures():
    scores = make_scores()
    made = Scores(sum_tokens(scores), measure_completions(scores), profile_tokens(scores))
    got = summarize(made)
    assert {row.quantity for row in got.rows} >= {"delta_p_A", "increase_to_answer_A"}
    assert got.measures is made.measures
    assert got.profile == summarize_profile(made.profile)
    for wrong in ({"measures": made.measures}, {"profile": got.profile}):
        with pytest.raises(InputError, match=r"leave them out, or give scores\.increases"):
            summarize(made, **wrong)

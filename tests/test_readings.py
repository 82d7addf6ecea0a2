"""Answers at the end of each completion's reasoning: where it ends, what is read there, and whose reasoning it is."""

import dataclasses

import numpy as np
import pytest
import reference
import torch
import toys
from conftest import make_prompts, make_vector
from scored import PARTS, grid_law, make_conditions, make_prompt
from test_final import Tagged

from completions_lp.records import Completions, Draw, InputError, Labelling, Readings, Sampling
from completions_lp.report.readings import measure_readings
from completions_lp.sample.completions import collect_completions
from completions_lp.score.grid import score_places, score_tokens
from completions_lp.score.parts import score_completions
from completions_lp.score.places import find_endings
from completions_lp.stats import average_readings, estimate_survival
from completions_lp.steer.conditions import make_conditions as cross_conditions

TEXTS = ("<|end|>", "A", "B", " A", "So ", "the answer is ", "<think>", "</think>", ".", "(", "x", "Yes", "C")
END, A, B, SPACE_A, SO, PHRASE, OPEN, CLOSE, DOT, CUE, X, YES, C = range(len(TEXTS))
FILLED = (*TEXTS, *(f"w{i}" for i in range(len(TEXTS), 320)))
SAID = {
    "closed": (OPEN, SO, CLOSE, PHRASE, A, DOT),
    "closed otherwise": (OPEN, SO, CLOSE, PHRASE, B),
    "open": (OPEN, SO, SO, SO),
    "unmarked": (SO, SO, PHRASE, B, DOT),
    "none": (SO, SO, DOT, END),
    "at once": (PHRASE, SPACE_A),
    "twice": (PHRASE, A, DOT, PHRASE, B),
    "empty": (END,),
}
AT = {
    "final_answer": {"closed": (3, 3), "closed otherwise": (3, 3), "open": (4, 4), "unmarked": (3, 5), "none": (3, 4),
                     "at once": (1, 2), "twice": (4, 5), "empty": (0, 1)},
    "letter": {"closed": (3, 3), "closed otherwise": (3, 3), "open": (4, 4), "unmarked": (3, 4), "none": (3, 4),
               "at once": (1, 2), "twice": (1, 2), "empty": (0, 1)},
}  # fmt: skip
"""By rule, after how many tokens the answers are read, and how many tokens settle that."""


def collect(prompts, said, *, rule="final_answer", within="all", counts=None, **options):
    """Completions of the first prompt, or of each by turns."""
    drawn, first = [[] for _ in prompts], 0
    for k, ids in enumerate(said):
        n = 1 if counts is None else counts[k]
        draw = Draw(list(ids), [-1.0] * len(ids), list(range(first, first + n)), ids[-1] == END)
        drawn[k % len(prompts)].append(draw)
        first += n
    sampling = Sampling(n=max(1, first), max_new_tokens=max(map(len, said)))
    return collect_completions(Tagged(*FILLED), prompts, drawn, sampling, Labelling(rule, within, **options))


@pytest.fixture
def model(build_model):
    def make(architecture="llama"):
        return dataclasses.replace(build_model(architecture, dtype=torch.float64), tokenizer=Tagged(*FILLED))

    return make


@pytest.mark.parametrize("rule", ["final_answer", "letter"])
def test_where_reasoning_ends_and_what_settles_it(rule):
    (prompt, *_) = make_prompts()
    said = collect([prompt], SAID.values(), rule=rule)
    endings = find_endings(Tagged(*FILLED), said)
    found = {name: pair for name, *pair in zip(SAID, endings.at.tolist(), endings.through.tolist(), strict=True)}
    assert found == {name: list(pair) for name, pair in AT[rule].items()}
    for row, at in enumerate(endings.at.tolist()):
        assert endings.places[endings.index[row]].said == tuple(said.token_ids[row, :at].tolist())
    assert len(endings.places) == len({place.said for place in endings.places}) < len(said)


def test_no_token_past_what_settles_it_changes_where_reasoning_ends():
    """Cut there, or continued otherwise, a completion is read at the same place."""
    (prompt, *_) = make_prompts()
    rng = np.random.default_rng(0)
    for rule in ("final_answer", "substring"):
        texts = [rng.integers(1, len(TEXTS), size=8).tolist() for _ in range(200)]
        said = collect([prompt], texts, rule=rule)
        before = find_endings(Tagged(*FILLED), said)
        assert (before.through < 8).sum() > 20
        tails = rng.integers(1, len(TEXTS), size=(200, 8))
        mixed = [[*text[:n], *tail[n:]] for text, n, tail in zip(texts, before.through, tails.tolist(), strict=True)]
        after = find_endings(Tagged(*FILLED), collect([prompt], mixed, rule=rule))
        settled = before.through < 8  # else the last token bears on whether it stands alone
        np.testing.assert_array_equal(before.at[settled], after.at[settled])
        np.testing.assert_array_equal(before.through[settled], after.through[settled])


def test_the_cue_is_put_behind_the_reasoning_and_part_of_no_completion():
    (prompt, *_) = make_prompts()
    said = collect([prompt], SAID.values())
    plain, asked = (
        find_endings(Tagged(*FILLED), said, cue=cue)
        for cue in (
            "",
            "So (",
        )
    )
    np.testing.assert_array_equal(plain.at, asked.at)
    for row in range(len(said)):
        place = asked.places[asked.index[row]]
        assert place.said == (*plain.places[plain.index[row]].said, SO, CUE)


def test_what_is_not_scored_is_not_read_behind():
    (prompt, *_) = make_prompts()
    said = collect([prompt], SAID.values(), rule="letter", within=2)
    endings = find_endings(Tagged(*FILLED), said, through="window")
    assert endings.at.max() == 2
    assert endings.through.max() == 2


def read_slowly(model, prompt, said, spelled, *, condition=None, vector=None):
    """Log prob that one of some tokens comes next, one full forward for each."""
    steering = {}
    if condition is not None:
        start = len(prompt.token_ids) - 1 if condition.positions == "completion" else 0
        added = condition.multiplier * vector.directions[condition.layer]
        steering = {"layer": condition.layer, "added": added, "start": start}
    logits = reference.logits_of(model.module, [*prompt.token_ids, *said], **steering)
    return float(logits[-1].log_softmax(-1)[list(spelled)].logsumexp(0))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("rule", ["final_answer", "letter"])
def test_readings_are_those_of_one_full_forward_each(model, exact_softmax, architecture, engine, rule):
    model, prompts = model(architecture), make_prompts()[:2]
    said, vector = collect(prompts, SAID.values(), rule=rule), make_vector(model)
    spelled = ((A, SPACE_A), (B,))
    for positions in ("completion", "all"):
        conditions = cross_conditions([vector], layers=[0, 2], multipliers=(0.5,), positions=positions)
        for cue in ("", "So ("):
            endings = find_endings(model.tokenizer, said, cue=cue)
            options = {"engine": engine, "progress": False, "target": "matching"}
            scores, unsteered, steered = score_places(model, said, endings.places, [vector], conditions, **options)
            for k, place in enumerate(endings.places):
                for letter, tokens in enumerate(spelled):
                    want = read_slowly(model, place.prompt, place.said, tokens)
                    assert unsteered[k, letter] == pytest.approx(want, abs=1e-9)
                    for c, condition in enumerate(conditions):
                        want = read_slowly(model, place.prompt, place.said, tokens, condition=condition, vector=vector)
                        assert steered[c, k, letter] == pytest.approx(want, abs=1e-9)
            alone = score_tokens(model, said, [vector], conditions, **options)
            for name in ("baseline", "logprob", "answers", "baseline_answers"):
                one, other = getattr(scores, name), getattr(alone, name)
                assert (one is None) == (other is None)
                if one is not None:
                    np.testing.assert_allclose(one, other, atol=1e-9)


def test_places_are_read_without_any_completions(model):
    model, prompts = model(), make_prompts()[:2]
    said, vector = collect(prompts, SAID.values()), make_vector(model)
    conditions = cross_conditions([vector], layers=[1], multipliers=(1.0,), positions="completion")
    endings = find_endings(model.tokenizer, said)
    options = {"progress": False, "target": "matching"}
    _, *beside = score_places(model, said, endings.places, [vector], conditions, **options)
    scores, *alone = score_places(model, said.take([]), endings.places, [vector], conditions, **options)
    assert len(scores.completions) == 0
    for one, other in zip(beside, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_more_than_two_answers_and_answers_that_begin_alike(model):
    """Letters are told apart by the first token that differs; what all share before it is said and does not count."""
    model = model()
    prompt = dataclasses.replace(make_prompts()[0], letters=("xA", "xB", "C"), matching="xA", not_matching="xB")
    said = collect([prompt], [(SO, SO), (SO, DOT)])
    endings = find_endings(model.tokenizer, said)
    _, unsteered, _ = score_places(model, said, endings.places, [], [], progress=False)
    for k, place in enumerate(endings.places):
        shared = read_slowly(model, prompt, place.said, (X,))
        for letter, tokens in enumerate(((A, SPACE_A), (B,))):
            want = shared + read_slowly(model, prompt, (*place.said, X), tokens)
            assert unsteered[k, letter] == pytest.approx(want, abs=1e-9)
        assert unsteered[k, 2] == pytest.approx(read_slowly(model, prompt, place.said, (C,)), abs=1e-9)


def test_scores_have_the_increase_in_the_reasoning_and_its_tenths(model):
    model, prompts = model(), make_prompts()[:2]
    said, vector = collect(prompts, SAID.values()), make_vector(model)
    conditions = cross_conditions([vector], layers=[0], multipliers=(-1.0, 1.0), positions="completion")
    kept = []
    options = {"readings": True, "keep": kept.append, "keep_all": True, "progress": False}
    scores = score_completions(model, said, [vector], conditions, **options)
    increase, readings, sums = kept[0].increase, scores.readings, scores.increases
    for row in range(len(said)):
        part = increase[:, row, : said.reasoning[row]].sum(-1)
        np.testing.assert_allclose(sums.in_reasoning[:, row], part, atol=1e-9)
        n = int(readings.at[row])
        np.testing.assert_allclose(
            readings.steered_reach[:, row] - readings.reach[row],
            increase[:, row, : readings.through[row]].sum(-1),
            atol=1e-9,
        )
        if not n:
            assert np.isnan(readings.tenths[:, row]).all()
            continue
        fine = np.repeat(increase[:, row, :n], 10, axis=-1) / 10  # each token in ten equal steps, n steps a tenth
        np.testing.assert_allclose(readings.tenths[:, row], fine.reshape(2, 10, n).sum(-1), atol=1e-9)
        np.testing.assert_allclose(readings.tenths[:, row].sum(-1), increase[:, row, :n].sum(-1), atol=1e-9)


# A world in which every text can be written down. Token D closes the reasoning; what comes next is the answer.

STEPS = 4
LETTERS = {"A": toys.A, "B": toys.B}
WORDS = Tagged("<|end|>", "A", "B", "c", "</think>", "p", "q")
CUT = Labelling("final_answer", "all", phrases=("c",))


def closing(law, *, parts=None):
    """A law that closes the reasoning with the last token but one at the latest, and ends with the answer behind it.

    With ``parts`` the probability to close is a multiple of one part, as those of a grid law are.
    """

    def table(prefix):
        probs = np.exp(law(prefix))
        if toys.D in prefix:
            return probs if prefix.index(toys.D) == len(prefix) - 1 else np.eye(toys.VOCAB)[toys.EOS]
        if len(prefix) == STEPS - 2:
            return np.eye(toys.VOCAB)[toys.D]
        close = probs[toys.D] / (probs[toys.C] + probs[toys.D])
        close = close if parts is None else np.clip(round(parts * close), 1, parts - 1) / parts
        return (1 - close) * np.eye(toys.VOCAB)[toys.C] + close * np.eye(toys.VOCAB)[toys.D]

    return toys.table_law(table)


def push(law, seed, multiplier):
    def table(prefix):
        direction = np.random.default_rng([seed, 7, *prefix]).standard_normal(toys.VOCAB)
        return np.exp(toys.normalise(law(prefix) + multiplier * direction))

    return toys.table_law(table)


def read_world(p, steered, texts, counts):
    """Completions of these texts and their readings, every number read off the laws."""
    prompt = make_prompt(0, type("World", (), {"letters": ("A", "B"), "matching": "A", "not_matching": "B"}))
    drawn, first = [], 0
    for text, n in zip(texts, counts, strict=True):
        drawn.append(Draw(list(text), [0.0] * len(text), range(first, first + n), bool(text[-1] == toys.EOS)))
        first += n
    sampling = Sampling(n=1_000_000, max_new_tokens=STEPS)
    said = collect_completions(WORDS, [prompt], [drawn], sampling, CUT)
    endings = find_endings(WORDS, said)
    settled = [tuple(text[:n]) for text, n in zip(texts, endings.through, strict=True)]
    read = [tuple(text[:n]) for text, n in zip(texts, endings.at, strict=True)]

    def find(laws):
        told = np.array([[[law(text)[v] for v in LETTERS.values()] for text in read] for law in laws])
        return np.array([[toys.logprob_of(law, text) for text in settled] for law in laws]), told

    (reach,), (baseline,) = find([p])
    steered_reach, logprob = find(steered)
    tenths = np.zeros((len(steered), len(said), 10))
    conditions = make_conditions(len(steered))
    readings = Readings(said, conditions, endings.at, endings.through, reach, steered_reach, baseline, logprob, tenths)
    return readings, endings


def cut_reasoning(text):
    """What is read behind, the obvious way: through the closing tag, or all but an end of sequence."""
    if toys.D in text:
        return text[: text.index(toys.D) + 1]
    return text[:-1] if text[-1] == toys.EOS else text


def average_bare(readings):
    """The cells of a prompt's A without any bounds, as if no text had been visited."""
    counts, reach = readings.completions.counts, readings.steered_reach
    seen = np.zeros(len(counts), dtype=bool)
    read = readings.baseline[:, 0], readings.logprob[..., 0]
    return average_readings(counts, reach - readings.reach, *read, reach=reach, distinct=seen)


def enumerate_cell(writer, reader, answer=toys.A):
    """Mean probability of the answer behind the reasonings of one law, read by another, by adding up every text."""
    texts = toys.enumerate_texts(writer, STEPS)
    return sum(np.exp(toys.logprob_of(writer, x)) * np.exp(reader(cut_reasoning(x))[answer]) for x in texts)


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_cell_and_every_part_is_that_of_enumeration(seed, closes):
    base = grid_law(seed)
    p = closing(base, parts=PARTS) if closes else base
    steered = [closing(push(base, seed, m)) if closes else push(base, seed, m) for m in (0.5, -1.5)]
    texts = toys.enumerate_texts(p, STEPS)
    counts = [round(np.exp(toys.logprob_of(p, text)) * PARTS**STEPS) for text in texts]
    assert sum(counts) == PARTS**STEPS
    readings, endings = read_world(p, steered, texts, counts)
    for row, text in enumerate(texts):
        assert tuple(endings.places[endings.index[row]].said) == cut_reasoning(text)
    unsteered, told = measure_readings(readings, readings.conditions, target="A")
    bare = average_bare(readings)
    none = enumerate_cell(p, p)
    assert unsteered["read_A"][0] == pytest.approx(none, abs=1e-8)
    assert unsteered["read_mass"][0] == pytest.approx(none + enumerate_cell(p, p, toys.B), abs=1e-8)
    for c, q in enumerate(steered):
        answer, reasoning, both = enumerate_cell(p, q), enumerate_cell(q, p), enumerate_cell(q, q)
        want = {
            "read_A_answer_only": answer,
            "read_A_reasoning_only": reasoning,
            "read_A_steered": both,
            "read_mass_answer_only": answer + enumerate_cell(p, q, toys.B),
            "read_A_change": 100 * (both - none),
            "read_A_by_answer": 50 * (answer - none + both - reasoning),
            "read_A_by_reasoning": 50 * (reasoning - none + both - answer),
            "read_mean_weight": 1.0,
            "read_red": 0.0,
        }
        # What is visited proves these two; the means are right without that, too.
        assert bare.reasoning_only[c] == pytest.approx(reasoning, abs=1e-8)
        assert bare.steered[c] == pytest.approx(both, abs=1e-8)
        for name, value in want.items():
            assert told[name][c, 0] == pytest.approx(value, abs=1e-8), name
        if closes:  # the answer comes right behind the tag: then what is read is P(A) itself
            ends = [x for x in toys.enumerate_texts(q, STEPS) if toys.A in x]
            assert both == pytest.approx(sum(np.exp(toys.logprob_of(q, x)) for x in ends), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_draws_agree_with_enumeration_and_with_survival_within_their_errors(seed):
    base = grid_law(seed)
    p, q = closing(base), closing(push(base, seed, 0.5))
    texts, counts = toys.sample_texts(p, STEPS, 4000, seed)
    readings, _ = read_world(p, [q], texts, counts)
    unsteered, told = measure_readings(readings, readings.conditions, target="A")
    truth = {"read_A_answer_only": enumerate_cell(p, q), "read_A_reasoning_only": enumerate_cell(q, p)}
    truth["read_A_steered"] = enumerate_cell(q, q)
    bare = average_bare(readings)
    pairs = [(unsteered["read_A"][0], unsteered["read_A_se"][0], enumerate_cell(p, p))]
    pairs += [(bare.reasoning_only[0], bare.reasoning_only_se[0], truth["read_A_reasoning_only"])]
    pairs += [(bare.steered[0], bare.steered_se[0], truth["read_A_steered"])]
    pairs += [(told[name][0, 0], told[f"{name}_se"][0, 0], value) for name, value in truth.items()]
    for value, se, want in pairs:
        assert 0 <= se < 0.02
        assert abs(value - want) < 4 * se + 1e-9  # where all reasonings read alike there is no error
    seen = toys.observe(p, [q], texts, counts, within=STEPS)
    survival = estimate_survival(seen.steps, seen.logw, seen.lqA)
    error = np.hypot(survival.se[0], told["read_A_steered_se"][0, 0])
    assert abs(survival.probability[0] - told["read_A_steered"][0, 0]) < 4 * error
    assert told["read_red"][0, 0] == 0


def test_standard_errors_are_the_spread_over_many_samples():
    p, q = grid_law(1), push(grid_law(1), 1, 0.4)
    values, errors = [], []
    for seed in range(300):
        texts, counts = toys.sample_texts(p, STEPS, 100, seed)
        readings, _ = read_world(p, [q], texts, counts)
        _, told = measure_readings(readings, readings.conditions, target="A")
        values.append([average_bare(readings).reasoning_only[0], average_bare(readings).steered[0]])
        errors.append([told[f"{name}_se"][0, 0] for name in ("read_A_reasoning_only", "read_A_steered")])
    ratio = np.mean(errors, 0) / np.std(values, axis=0, ddof=1)
    assert ((ratio > 0.85) & (ratio < 1.15)).all(), ratio


def test_a_reasoning_that_no_draw_has_seen_is_red():
    """q says what p never does: all draws weigh alike, and only their mean weight tells."""

    def law(first):
        def table(prefix):
            if not prefix:
                return [0, 0, 0, 1 - first, first]
            return (
                [0, 0.5, 0.5, 0, 0] if prefix[-1] == toys.D else [0, 0, 0, 0, 1] if len(prefix) < 3 else [1, 0, 0, 0, 0]
            )

        return toys.table_law(table)

    p, q = law(1e-3), law(0.6)
    texts = [x for x in toys.enumerate_texts(p, STEPS) if x[0] == toys.C]
    readings, _ = read_world(p, [q], texts, [50] * len(texts))
    _, told = measure_readings(readings, readings.conditions, target="A")
    assert told["read_ess"][0, 0] == pytest.approx(50 * len(texts))
    assert told["read_mean_weight"][0, 0] < 0.5
    assert told["read_red"][0, 0] == 1


def test_other_samplers_tell_nothing_of_the_steered_models_reasonings():
    base = grid_law(0)
    p, q = closing(base), closing(push(base, 0, 0.5))
    readings, _ = read_world(p, [q], *toys.sample_texts(p, STEPS, 200, 0))
    cold = dataclasses.replace(readings.completions, sampling=Sampling(n=200, max_new_tokens=STEPS, temperature=0.5))
    _, told = measure_readings(dataclasses.replace(readings, completions=cold), readings.conditions, target="A")
    assert np.isfinite(told["read_A_answer_only"]).all()
    for name in ("read_A_reasoning_only", "read_A_steered", "read_A_change", "read_red"):
        assert np.isnan(told[name]).all()


def test_a_prompt_without_the_target_and_a_condition_that_was_not_read_have_no_number():
    base = grid_law(0)
    p, q = closing(base), closing(push(base, 0, 0.5))
    readings, _ = read_world(p, [q], *toys.sample_texts(p, STEPS, 200, 0))
    unsteered, told = measure_readings(readings, [*make_conditions(2)], target="A")
    assert np.isfinite(told["read_A_steered"][0]).all()
    assert np.isnan(told["read_A_steered"][1]).all()
    unsteered, told = measure_readings(readings, readings.conditions, target="C")
    assert np.isnan(unsteered["read_A"]).all()
    assert np.isnan(told["read_A_steered"]).all()


def test_readings_of_parts_join_and_wrong_shapes_are_told():
    base = grid_law(0)
    p, q = closing(base), closing(push(base, 0, 0.5))
    readings, _ = read_world(p, [q], *toys.sample_texts(p, STEPS, 50, 0))
    joined = Readings.join(readings.completions, [readings])
    for name in Readings.ARRAYS:
        np.testing.assert_array_equal(getattr(joined, name), getattr(readings, name))
    assert isinstance(readings.completions, Completions)
    with pytest.raises(InputError, match="readings: baseline has shape"):
        dataclasses.replace(readings, baseline=readings.baseline[:, :1], logprob=readings.logprob[..., :1])

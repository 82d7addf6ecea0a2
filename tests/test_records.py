import dataclasses

import numpy as np
import pytest
from conftest import make_completions, make_prompts

from completions_lp.records import (
    BASELINE,
    Choices,
    Condition,
    Estimate,
    Increases,
    InputError,
    Measures,
    Prompt,
    Report,
    ReportRow,
    Sampling,
    SteeringVector,
    TokenScores,
)

PROMPT = {
    "id": "x",
    "text": "q",
    "token_ids": (1,),
    "letters": ("A", "B"),
    "matching": "A",
    "not_matching": "B",
    "cluster": "x",
}
CONDITIONS = (Condition("v", "target", 1, 1.0), Condition("v", "target", 1, -1.0))


@pytest.fixture
def completions():
    return make_completions(make_prompts((3, 2)), [(0, [4, 5]), (1, [6])])


def make_increases(completions, **changes):
    arrays = {name: np.zeros((2, len(completions))) for name in Increases.PARTS}
    return Increases(completions, CONDITIONS, **{"baseline": np.zeros(len(completions)), **arrays, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_ids": ()}, "prompt 'x': no tokens; a prompt needs at least one"),
        ({"matching": "C"}, r"prompt 'x': answer 'C' is not one of its letters \('A', 'B'\)"),
        ({"not_matching": "C"}, "answer 'C' is not one of its letters"),
        ({"not_matching": "A"}, "prompt 'x': both answers are 'A'"),
    ],
)
def test_an_invalid_prompt_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Prompt(**{**PROMPT, **changes})


def test_a_prompt_knows_its_other_answer():
    prompt = Prompt(**{**PROMPT, "matching": "B", "not_matching": "A"})
    assert (prompt.other("B"), prompt.other("A")) == ("A", "B")


@pytest.mark.parametrize(
    ("target", "want"),
    [("A", True), ("B", True), ("matching", True), ("C", True), ("D", False), ("not_matching", False)],
)
def test_a_prompt_knows_which_answers_it_offers(target, want):
    assert Prompt(**{**PROMPT, "letters": ("A", "B", "C")}).offers(target) == want


def test_arrays_are_read_only_and_the_callers_own_stay_as_they_were(completions):
    mine = np.zeros(2)
    scores = TokenScores(completions, CONDITIONS, np.zeros((2, 2)), np.zeros((2, 2, 2)))
    increases = make_increases(completions, baseline=mine)
    choices = Choices(completions.prompts, (("A", "B"),) * 2, CONDITIONS, np.zeros((2, 2)), np.zeros((2, 2, 2)))
    direction = np.ones(3)
    vector = SteeringVector("v", "target", {0: direction})
    arrays = [completions.token_ids, completions.counts, completions.label, scores.logprob, scores.baseline]
    arrays += [increases.baseline, increases.at_answer, choices.logprob, vector.directions[0]]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[0]
    mine[0], direction[0] = 1.0, 2.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        vector.directions[1] = direction
    with pytest.raises(dataclasses.FrozenInstanceError):
        scores.baseline = mine


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": np.array(["A"])}, "completions: label has 1 rows where prompt_index has 2"),
        ({"text": ("a", "b", "c")}, "completions: text has 3 rows where prompt_index has 2"),
        ({"lengths": np.array([2, 0])}, "every completion needs at least one token"),
        ({"counts": np.array([1, 0])}, "every count must be at least 1"),
        ({"prompt_index": np.array([0, 2])}, "prompt_index out of range"),
        ({"prompt_index": np.array([0, -1])}, "prompt_index out of range"),
    ],
)
def test_completions_must_agree_with_themselves(completions, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(completions, **changes)


def test_prompts_that_share_an_id_are_refused(completions):
    twice = (completions.prompts[0],) * 2
    with pytest.raises(InputError, match=r"prompt ids must be unique; repeated: p0$"):
        dataclasses.replace(completions, prompts=twice)


def test_the_mask_is_true_at_tokens(completions):
    assert completions.mask.tolist() == [[True, True], [True, False]]
    assert len(completions) == 2


@pytest.mark.parametrize(
    ("baseline", "logprob", "message"),
    [
        ((2, 2), (1, 2, 2), r"scores: logprob has shape \(1, 2, 2\), needs \(2, 2, 2\)"),
        ((2, 3), (2, 2, 3), r"scores: baseline has shape \(2, 3\), needs \(2, 2\)"),
    ],
)
def test_scores_must_fit_their_completions(completions, baseline, logprob, message):
    with pytest.raises(InputError, match=message):
        TokenScores(completions, CONDITIONS, np.zeros(baseline), np.zeros(logprob))


def test_a_condition_cannot_occur_twice(completions):
    with pytest.raises(InputError, match="scores: a condition occurs twice"):
        TokenScores(completions, (CONDITIONS[0],) * 2, np.zeros((2, 2)), np.zeros((2, 2, 2)))


def test_increases_are_differences(completions):
    rng = np.random.default_rng(0)
    baseline, logprob = rng.normal(size=(2, 2)), rng.normal(size=(2, 2, 2))
    increase = TokenScores(completions, CONDITIONS, baseline, logprob).increase
    assert increase[1, 0, 1] == logprob[1, 0, 1] - baseline[0, 1]
    increases = make_increases(completions, baseline=baseline[0], increase=logprob[0])
    assert increases.logprob[1, 0] == baseline[0, 0] + logprob[0, 1, 0]


def make_ragged():
    """Completions of three prompts, mingled."""
    rows = [(2, [4]), (0, [5, 6]), (2, [7, 8, 9]), (0, [10])]
    made = make_completions(make_prompts((3, 2, 1)), rows, counts=[1, 2, 3, 4], labels=["A", "B", "C", "D"])
    return dataclasses.replace(made, text=tuple("wxyz"), pieces=(("w",), ("x", ""), ("y", "", ""), ("z",)))


def test_the_rows_of_a_prompt_are_found():
    completions = make_ragged()
    assert [completions.rows_of(i).tolist() for i in range(3)] == [[1, 3], [], [0, 2]]


@pytest.mark.parametrize("prompts", [[0], [2, 0], [1], [], [0, 1, 2], [2, 1]])
def test_the_completions_of_some_prompts_keep_everything_that_belongs_to_them(prompts):
    completions = make_ragged()
    part = completions.select(prompts)
    rows = [row for i in prompts for row in {0: [1, 3], 1: [], 2: [0, 2]}[i]]
    assert [p.id for p in part.prompts] == [f"p{i}" for i in prompts]
    assert [part.prompts[i].id for i in part.prompt_index] == [f"p{completions.prompt_index[row]}" for row in rows]
    for name in ("token_ids", "lengths", "counts", "ended", "label", "answer_index", "logprob"):
        np.testing.assert_array_equal(getattr(part, name), getattr(completions, name)[rows], err_msg=name)
    assert part.text == tuple("wxyz"[row] for row in rows)
    assert [pieces[0] for pieces in part.pieces] == list(part.text)
    assert (part.sampling, part.labelling) == (completions.sampling, completions.labelling)


def test_the_scores_of_some_conditions_are_theirs(completions):
    rng = np.random.default_rng(0)
    steered = {"logprob": (2, 2, 2), "kl": (2, 2, 2), "kl_reverse": (2, 2, 2), "answers": (2, 2, 2, 2)}
    plain = {"baseline": (2, 2), "entropy": (2, 2), "baseline_answers": (2, 2, 2)}
    arrays = {name: rng.normal(size=shape) for name, shape in {**steered, **plain}.items()}
    scores = TokenScores(completions, CONDITIONS, **arrays)
    for chosen in ([1], [1, 0], []):
        part = scores.select(chosen)
        assert part.conditions == tuple(CONDITIONS[c] for c in chosen)
        for name in steered:
            np.testing.assert_array_equal(getattr(part, name), arrays[name][chosen], err_msg=name)
        for name in plain:
            assert np.shares_memory(getattr(part, name), arrays[name])
    bare = TokenScores(completions, CONDITIONS, arrays["baseline"], arrays["logprob"]).select([1])
    assert (bare.kl, bare.kl_reverse, bare.answers, bare.entropy, bare.baseline_answers) == (None,) * 5


def test_increases_of_parts_join_whatever_the_order_of_the_rows():
    completions = make_ragged()
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=(2, 4)) for name in Increases.PARTS}
    whole = Increases(completions, CONDITIONS, rng.normal(size=4), **values)
    rows = {0: [1, 3], 1: [], 2: [0, 2]}
    parts = []
    for prompts in ([0], [1, 2]):
        some = [row for i in prompts for row in rows[i]]
        steered = {name: values[name][:, some] for name in Increases.PARTS}
        parts.append(Increases(completions.select(prompts), CONDITIONS, whole.baseline[some], **steered))
    for given in (parts, [whole]):
        joined = Increases.join(completions, given)
        assert joined.completions is completions
        for name in ("baseline", *Increases.PARTS):
            np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name), err_msg=name)
    with pytest.raises(InputError, match="parts of other completions do not join"):
        Increases.join(completions, parts[:1])
    with pytest.raises(InputError, match="parts of other completions do not join"):
        Increases.join(completions, parts[::-1])
    turned = dataclasses.replace(parts[1], conditions=CONDITIONS[::-1])
    with pytest.raises(InputError, match="increases of different conditions do not join"):
        Increases.join(completions, [parts[0], turned])


def make_measures(prompts, seed=0, conditions=CONDITIONS):
    rng = np.random.default_rng(seed)
    shape = (len(conditions), len(prompts))
    return Measures(
        tuple(prompts),
        conditions,
        {name: rng.random(shape[1]) for name in Measures.UNSTEERED},
        {name: rng.random(shape) for name in Measures.STEERED},
        np.full(shape, "green"),
    )


def test_measures_join_prompt_by_prompt():
    prompts = make_prompts((3, 2, 1))
    one, two = make_measures(prompts[:1], 1), make_measures(prompts[1:], 2)
    joined = Measures.join([one, two])
    assert joined.prompts == prompts
    for name in Measures.UNSTEERED:
        assert joined.unsteered[name].tolist() == [*one.unsteered[name], *two.unsteered[name]]
    for name in Measures.STEERED:
        np.testing.assert_array_equal(joined.steered[name], np.hstack([one.steered[name], two.steered[name]]))
    assert joined.trust.shape == (2, 3)
    with pytest.raises(InputError, match="measures of different conditions do not join"):
        Measures.join([one, make_measures(prompts[1:], conditions=CONDITIONS[::-1])])


def test_measures_are_whole_of_one_shape_and_read_only():
    measures = make_measures(make_prompts((3, 2)))
    for changes, message in (
        (
            {"unsteered": {"p_A": np.zeros(2)}},
            r"measures: got \['p_A'\], needs \['excess_surprisal', 'excess_surprisal_se', 'first_A'",
        ),
        ({"steered": {**measures.steered, "more": np.zeros((2, 2))}}, "measures: got"),
        ({"conditions": CONDITIONS[:1]}, r"measures: .* has shape \(2, 2\), needs \(1, 2\)"),
        ({"prompts": measures.prompts[:1]}, r"measures: .* has shape \(2,\), needs \(1,\)"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(measures, **changes)
    for array in (measures.trust, measures.unsteered["p_A"], measures.steered["kl"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[0]
    with pytest.raises(TypeError, match="does not support item assignment"):
        measures.steered["kl"] = np.zeros((2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SteeringVector("", "target", {0: np.ones(2)}), "a steering vector needs a name"),
        (lambda: SteeringVector("v", "target", {}), "vector 'v' has no layers"),
        (lambda: SteeringVector("v", "target", {3: np.array([1, np.nan])}), "vector 'v', layer 3: .* not finite"),
        (lambda: Condition("v", "target", 0, float("nan")), "multiplier nan is not a finite number"),
        (lambda: Condition("v", "target", 0, float("inf")), "multiplier inf is not a finite number"),
        (lambda: Sampling(seed=-1), "seed is -1; it must be at least 0"),
        (lambda: Sampling(top_up=-1), "top_up is -1; it must be at least 0"),
        (lambda: Sampling(top_up=1, top_k=2), "top_up is 1: draws of the steered model are pooled with plain samples"),
        (lambda: Sampling(temperature=float("nan")), "temperature is nan; it must be above 0"),
    ],
)
def test_invalid_records_say_what_is_wrong(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_vectors_layers_are_sorted_and_of_one_size():
    vector = SteeringVector("v", "target", {5: np.ones(2), 1: np.zeros(2)})
    assert (list(vector.directions), vector.d_model) == ([1, 5], 2)


def test_plain_sampling_is_told_from_the_rest():
    assert Sampling().is_ancestral
    for changes in ({"temperature": 0.9}, {"top_p": 0.9}, {"top_k": 5}, {"greedy": True}):
        assert not Sampling(**changes).is_ancestral
    assert (Sampling(n=7).draws, Sampling(n=7, greedy=True).draws) == (7, 1)


def test_a_report_gives_its_numbers_by_name_and_says_which_it_has():
    estimate = Estimate(0.5, 0.1, 0.9, 0.95, "nats", 9, 9, "t")
    control = Condition("r", "random", 1, 1.0)
    rows = tuple(ReportRow(c, "increase_A", "macro", estimate, 0) for c in (*CONDITIONS, control))
    rows += (ReportRow(BASELINE, "p_A", "macro", estimate, 0),)
    report = Report("A", rows, {}, {})
    assert report.estimate("increase_A", CONDITIONS[1]) is estimate
    assert [row.condition for row in report.table("increase_A")] == list(CONDITIONS)
    assert [row.condition for row in report.table("increase_A", kind="random")] == [control]
    assert len(report.table("increase_A", kind=None)) == 3
    with pytest.raises(InputError, match=r"no macro estimate of 'kl' for Condition.*; quantities: increase_A, p_A$"):
        report.estimate("kl", CONDITIONS[0])

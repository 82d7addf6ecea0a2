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
    Prompt,
    Report,
    ReportRow,
    Sampling,
    Scores,
    SteeringVector,
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


def test_arrays_are_read_only_and_the_callers_own_stay_as_they_were(completions):
    mine = np.zeros(2)
    scores = Scores(completions, CONDITIONS, np.zeros((2, 2)), np.zeros((2, 2, 2)))
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
        Scores(completions, CONDITIONS, np.zeros(baseline), np.zeros(logprob))


def test_a_condition_cannot_occur_twice(completions):
    with pytest.raises(InputError, match="scores: a condition occurs twice"):
        Scores(completions, (CONDITIONS[0],) * 2, np.zeros((2, 2)), np.zeros((2, 2, 2)))


def test_increases_are_differences(completions):
    rng = np.random.default_rng(0)
    baseline, logprob = rng.normal(size=(2, 2)), rng.normal(size=(2, 2, 2))
    increase = Scores(completions, CONDITIONS, baseline, logprob).increase
    assert increase[1, 0, 1] == logprob[1, 0, 1] - baseline[0, 1]
    increases = make_increases(completions, baseline=baseline[0], increase=logprob[0])
    assert increases.logprob[1, 0] == baseline[0, 0] + logprob[0, 1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SteeringVector("", "target", {0: np.ones(2)}), "a steering vector needs a name"),
        (lambda: SteeringVector("v", "target", {}), "vector 'v' has no layers"),
        (lambda: SteeringVector("v", "target", {3: np.array([1, np.nan])}), "vector 'v', layer 3: .* not finite"),
        (lambda: Condition("v", "target", 0, float("nan")), "multiplier nan is not a finite number"),
        (lambda: Condition("v", "target", 0, float("inf")), "multiplier inf is not a finite number"),
        (lambda: Sampling(seed=-1), "seed is -1; it must be at least 0"),
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

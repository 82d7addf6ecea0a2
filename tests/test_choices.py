import dataclasses
import types

import numpy as np
import pytest
import reference
import torch
from conftest import ARCHITECTURES, make_prompts, make_vector

from completions_lp.records import Condition, InputError, pick_letters
from completions_lp.score.choices import read_choices
from completions_lp.steer.conditions import make_conditions

ANSWERS = {
    " (A)": [40, 7, 41],
    " (B)": [40, 9, 41],
    " A": [50],
    " B": [51],
    " [x] A": [40, 44, 7],
    " [x] B": [40, 44, 9],
}


SPOKEN = {7: "A", 9: "B", 40: " (", 41: ")", 44: "x] ", 50: " A", 51: " B", 60: "(A", 61: "\nB.", 62: "BA", 63: "a"}
TEXTS = [SPOKEN.get(token, f"w{token}") for token in range(320)]
SPELLINGS = {"A": [7, 50, 60], "B": [9, 51, 61]}
"""What each of the two may be said with."""


class HandMade:
    """A tokenizer that knows the texts of ``make_prompts`` and their answers, with the tokens that this file says."""

    unk_token_id = None

    def __init__(self, prompts):
        self.known = {prompt.text: list(prompt.token_ids) for prompt in prompts}

    def __call__(self, text, *, add_special_tokens=True):
        for known, ids in self.known.items():
            if text == known or text.removeprefix(known) in ANSWERS:
                return types.SimpleNamespace(input_ids=ids + ANSWERS.get(text.removeprefix(known), []))
        return types.SimpleNamespace(input_ids=[40] if text == "x" else ANSWERS[text])

    def __len__(self):
        return len(TEXTS)

    def decode(self, token_ids, *, skip_special_tokens=False):
        return "".join(TEXTS[i] for i in token_ids)


@pytest.fixture
def asked(build_model):
    """A model in float64 and ragged prompts whose answers start after no, one or two shared tokens."""

    def make(architecture="llama", dtype=torch.float64):
        formats = (" ({letter})", " {letter}", " [x] {letter}", " ({letter})")
        prompts = tuple(
            dataclasses.replace(p, answer_format=form) for p, form in zip(make_prompts(), formats, strict=True)
        )
        model = dataclasses.replace(build_model(architecture, dtype=dtype), tokenizer=HandMade(prompts))
        return model, prompts

    return make


def slow_choices(model, prompts, vector, condition, target="A"):
    """[prompt, 2] log probs of the target and the other answer, one full forward per prompt."""
    steering = {}
    if condition is not None:
        steering = {"layer": condition.layer, "added": condition.multiplier * vector.directions[condition.layer]}
    rows = []
    for prompt in prompts:
        first = prompt.matching if target == "matching" else target
        letters = first, prompt.other(first)
        a, b = (ANSWERS[prompt.answer_format.replace("{letter}", x)] for x in letters)
        same = next(i for i in range(len(a)) if a[i] != b[i])
        start = len(prompt.token_ids) - 1 if condition is not None and condition.positions == "completion" else 0
        logits = reference.logits_of(model.module, [*prompt.token_ids, *a[:same]], start=start, **steering)
        logprob = logits[-1].log_softmax(-1)
        rows.append([float(logprob[SPELLINGS[x]].logsumexp(0)) for x in letters])
    return np.array(rows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("positions", ["completion", "all"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 5e-4)])
@pytest.mark.usefixtures("exact_softmax")
def test_choices_equal_the_slow_twin(asked, architecture, positions, dtype, tolerance):
    model, prompts = asked(architecture, dtype)
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[0, 2], multipliers=(-1.0, 2.0), positions=positions)
    slow = [slow_choices(model, prompts, vector, condition) for condition in (None, *conditions)]
    assert np.abs(slow[1] - slow[0]).min() > 1e-3  # steering does something that a test could miss
    for batch_size in (1, 3, None):
        choices = read_choices(model, prompts, [vector], conditions, batch_size=batch_size, progress=False, target="A")
        assert choices.conditions == conditions
        np.testing.assert_allclose(choices.baseline, slow[0], atol=tolerance)
        np.testing.assert_allclose(choices.logprob, slow[1:], atol=tolerance)


def test_without_conditions_the_unsteered_model_is_read(asked):
    model, prompts = asked()
    choices = read_choices(model, prompts, [], [], progress=False, target="A")
    assert choices.logprob.shape == (0, 4, 2)
    np.testing.assert_allclose(choices.baseline, slow_choices(model, prompts, None, None), atol=1e-9)


def test_the_matching_target_is_each_prompts_own(asked):
    model, prompts = asked()
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[1], multipliers=(1.0,))
    options = {"progress": False}
    by_letter = read_choices(model, prompts, [vector], conditions, target="A", **options)
    matching = read_choices(model, prompts, [vector], conditions, target="matching", **options)
    assert by_letter.letters == (("A", "B"),) * 4
    assert matching.letters == (("B", "A"), ("A", "B"), ("B", "A"), ("A", "B"))
    np.testing.assert_allclose(matching.logprob[:, [0, 2]], by_letter.logprob[:, [0, 2], ::-1], atol=1e-12)
    np.testing.assert_allclose(matching.logprob[:, [1, 3]], by_letter.logprob[:, [1, 3]], atol=1e-12)
    slow = slow_choices(model, prompts, vector, conditions[0], target="matching")
    np.testing.assert_allclose(matching.logprob[0], slow, atol=1e-9)


def test_the_two_answers_share_one_distribution(asked):
    model, prompts = asked()
    choices = read_choices(model, prompts, [], [], progress=False, target="A")
    mass = np.exp(choices.baseline).sum(-1)
    assert (mass > 0).all()
    assert (mass < 1).all()


def test_multiplier_zero_changes_nothing_and_order_does_not_matter(asked):
    model, prompts = asked()
    vector = make_vector(model)
    conditions = make_conditions([vector], multipliers=(0.0, 1.0))
    choices = read_choices(model, prompts, [vector], conditions, progress=False, target="A")
    zero = np.array([c.multiplier == 0 for c in conditions])
    assert np.abs(choices.logprob[zero] - choices.baseline).max() < 1e-10
    assert np.abs(choices.logprob[~zero] - choices.baseline).min() > 1e-4
    turned = read_choices(model, prompts[::-1], [vector], conditions[::-1], batch_size=3, progress=False, target="A")
    np.testing.assert_allclose(turned.logprob, choices.logprob[::-1, ::-1], atol=1e-11)


def test_a_prompt_without_the_target_keeps_its_own_answers():
    (prompt,) = make_prompts((3,))
    words = dataclasses.replace(prompt, letters=("No", "Yes"), matching="Yes", not_matching="No")
    assert pick_letters([prompt, words], "A") == (("A", "B"), ("Yes", "No"))
    assert pick_letters([prompt, words], "No") == (("B", "A"), ("No", "Yes"))
    assert pick_letters([prompt, words], "matching") == (("B", "A"), ("Yes", "No"))


def test_impossible_read_outs_say_what_is_wrong(asked):
    model, prompts = asked()
    vector = make_vector(model)
    with pytest.raises(InputError, match="target 'C' is an answer of no prompt; theirs are A, B"):
        read_choices(model, prompts, [], [], target="C", progress=False)
    with pytest.raises(InputError, match="layer 7 is out of range: llama has layers 0 to 2"):
        read_choices(model, prompts, [vector], [Condition("v", "target", 7, 1.0)], progress=False, target="A")
    mute = dataclasses.replace(prompts[0], answer_format=" A")
    with pytest.raises(InputError, match="prompt 'p0': the tokenizer cannot express the answer 'A' against 'B'"):
        read_choices(model, [mute, *prompts[1:]], [], [], progress=False, target="A")

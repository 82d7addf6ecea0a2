"""Traps that other code for steering and scoring fell into, one test each, all at a glance.

Each test does what the trap does, in a few lines of plain torch on a tiny model, and shows that it gives another
number; then that ours is the right one, by full passes of one text each (``reference``, which shares nothing with the
package). What is tested at greater width elsewhere is named.

- a mask by the length of the present forward pass: under a cache nothing is steered after the prompt
- the vector added twice; or from the first said token on, so that this token itself is said unsteered
- answers that are not A or B counted as probability 0; a share of two answers that hides how much both have
- a chat template's BOS and the tokenizer's
- references without a mask; left padding without position ids
- ``output[0][:] +=`` where the output is the tensor itself: only the first text of a batch
- hidden_states[i] taken for what block i puts out
- tokenising anew what was decoded
- log softmax in half precision
- a sampler's cut and scaled log probs taken for the model's
"""

import dataclasses
import itertools

import numpy as np
import pytest
import reference
import test_prompt_chat
import torch
from conftest import make_completions, make_module, make_prompts, make_vector, random_completions
from reference import blocks_of
from test_prompts import ROW, write

from completions_lp.model import pick_engine, wrap_model
from completions_lp.prompts import answer_tokens, load_prompts
from completions_lp.records import ContrastPair, Sampling
from completions_lp.sample.draws import sample_completions
from completions_lp.score.choices import read_choices
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions
from completions_lp.steer.vectors import extract_vector

PROMPT, SAID = (5, 17, 99, 41, 250, 8), [33, 7, 120, 64]
LAYER = 1
CLOSE, APART = 1e-9, 1e-2
"""Nats by which ours may differ from the truth, in float64, and the least that a trap must differ by."""


@pytest.fixture
def model(build_model):
    return build_model("llama", dtype=torch.float64)


@torch.no_grad()
def run(module, ids, hook=None, **inputs):
    """[row, token, vocab] log probs of one pass, with a hook on what block 1 puts out, and the pass's cache."""
    handle = None if hook is None else blocks_of(module)[LAYER].register_forward_hook(hook)
    try:
        output = module(torch.as_tensor(ids), **inputs)
    finally:
        if handle is not None:
            handle.remove()
    return output.logits.log_softmax(-1), getattr(output, "past_key_values", None)


def stream_of(output):
    return output[0] if isinstance(output, tuple) else output


def add_from(start, added):
    """A hook that adds a vector in place from one token of the pass on."""

    def hook(_module, _inputs, output):
        stream_of(output)[:, start:] += torch.as_tensor(added)

    return hook


def pick(logprob, ids, start):
    """Log probs of tokens that follow one another, the first of them after token ``start``."""
    return np.array([float(logprob[start + t, token]) for t, token in enumerate(ids)])


def make_one(model, *, size=2.0):
    """A prompt, a completion of it, a vector, and the condition that adds it at block 1."""
    (prompt,) = make_prompts((len(PROMPT),))
    prompt = dataclasses.replace(prompt, token_ids=PROMPT)
    vector = make_vector(model, size=size)
    return (
        prompt,
        make_completions([prompt], [(0, SAID)]),
        vector,
        make_conditions([vector], layers=[LAYER], multipliers=(1.0,)),
    )


def score_steered(model):
    """Ours, by both engines, and the truth, for the one text: log probs under the vector."""
    _, completions, vector, conditions = make_one(model)
    ours = [
        score_tokens(model, completions, [vector], conditions, engine=way, progress=False).logprob[0, 0]
        for way in ("tree", "rows")
    ]
    added = vector.directions[LAYER].copy()
    truth = reference.score(model.module, PROMPT, SAID, layer=LAYER, added=added)
    for found in ours:
        np.testing.assert_allclose(found, truth, atol=CLOSE)
    return truth, added


def test_a_mask_by_the_length_of_the_pass_steers_nothing_under_a_cache(model):
    """More widely: test_sampling_steered.test_draws_and_log_probs_equal_the_slow_twin."""
    truth, added = score_steered(model)
    minimum = len(PROMPT) - 1  # steer from here on

    def hook(_module, _inputs, output):
        hidden = stream_of(output)
        mask = torch.arange(hidden.shape[1]) >= minimum  # of this pass: a step under a cache has length 1
        hidden += mask[None, :, None] * torch.as_tensor(added)

    logprob, cache = run(model.module, [PROMPT], hook, use_cache=True)
    trap = [float(logprob[0, -1, SAID[0]])]
    for before, token in itertools.pairwise(SAID):
        logprob, cache = run(model.module, [[before]], hook, use_cache=True, past_key_values=cache)
        trap.append(float(logprob[0, -1, token]))
    assert trap[0] == pytest.approx(truth[0], abs=CLOSE)  # the prompt's last token is steered, and none after it
    assert np.abs(np.array(trap[1:]) - truth[1:]).max() > APART
    _, _, vector, (condition,) = make_one(model)
    options = {"sampling": Sampling(n=3, max_new_tokens=4), "vectors": [vector], "condition": condition}
    for way in ("tree", "rows"):  # ours, while it speaks under a cache
        drawn = sample_completions(model, make_prompts((6,)), engine=way, progress=False, **options)
        for row, ids in enumerate(drawn.token_ids.tolist()):
            said = ids[: drawn.lengths[row]]
            want = reference.score(model.module, drawn.prompts[0].token_ids, said, layer=LAYER, added=added)
            np.testing.assert_allclose(drawn.logprob[row, : len(said)], want, atol=CLOSE)


def test_a_vector_that_is_added_twice_or_one_token_late(model):
    """More widely: test_scoring.test_scores_equal_the_slow_twin; the doctor's test_what_is_made_wrong_is_named."""
    truth, added = score_steered(model)
    last = len(PROMPT) - 1
    unsteered = reference.score(model.module, PROMPT, SAID)
    twice = pick(run(model.module, [[*PROMPT, *SAID]], add_from(last, 2 * added))[0][0], SAID, last)
    late = pick(run(model.module, [[*PROMPT, *SAID]], add_from(last + 1, added))[0][0], SAID, last)
    once = pick(run(model.module, [[*PROMPT, *SAID]], add_from(last, added))[0][0], SAID, last)
    np.testing.assert_allclose(once, truth, atol=CLOSE)
    assert np.abs(twice - truth).max() > APART
    assert late[0] == pytest.approx(unsteered[0], abs=CLOSE)  # the first said token is said unsteered
    assert abs(truth[0] - unsteered[0]) > APART


def test_other_letters_counted_as_nothing_and_a_share_that_hides_the_mass(tmp_path, build_model, tokenizer):
    """More widely: test_all_choices.test_every_number_equals_the_slow_twin."""
    model = build_model("llama", dtype=torch.float64)
    rows = [
        {**ROW, "question": f"Is it {word}?", "answer_matching_behavior": one, "answer_not_matching_behavior": other}
        for word, one, other in (("so", "(A)", "(B)"), ("not", "(C)", "(D)"), ("here", "(B)", "(A)"))
    ]
    prompts = load_prompts(write(tmp_path, rows), tokenizer, prefix="(")
    choices = read_choices(model, prompts, [], [], target="matching", progress=False)
    right, share, trap = [], [], []
    for i, prompt in enumerate(prompts):
        law = reference.logits_of(model.module, prompt.token_ids)[-1].softmax(-1)
        spelled = {x: _sum_spellings(tokenizer, law, x) for x in prompt.letters}
        np.testing.assert_allclose(np.exp(choices.baseline[i, 0]), spelled[prompt.matching], rtol=1e-9)
        np.testing.assert_allclose(np.exp(choices.baseline[i, 1]), spelled[prompt.not_matching], rtol=1e-9)
        right.append(spelled[prompt.matching])
        share.append(spelled[prompt.matching] / sum(spelled.values()))
        trap.append(spelled[prompt.matching] if prompt.matching in "AB" else 0.0)
    assert np.mean(trap) < np.mean(right)  # the question about C adds nothing above and one below
    np.testing.assert_allclose(np.exp(choices.baseline[:, 0]).mean(), np.mean(right), rtol=1e-9)
    mass = np.exp(choices.baseline).sum(-1)
    assert mass.max() < 0.5  # of which a share of the two, however near to 1, says nothing
    np.testing.assert_allclose(np.exp(choices.baseline[:, 0]) / mass, share, rtol=1e-9)


def _sum_spellings(tokenizer, law, letter):
    """Probability of all tokens that are the letter between spaces, brackets and marks."""
    start = tokenizer("x", add_special_tokens=False).input_ids
    texts = [tokenizer.decode([*start, i], skip_special_tokens=True)[1:] for i in range(len(tokenizer))]
    return sum(float(law[i]) for i, text in enumerate(texts) if text.strip(" \t\r\n()[]{}\"'`*.:,;") == letter)


def test_a_chat_templates_beginning_and_the_tokenizers_are_one(tmp_path):
    """More widely: test_prompt_chat.test_a_prompt_has_one_beginning_whoever_writes_it."""
    tokenizer = test_prompt_chat.make_tokenizer(adds=True)
    model = wrap_model(make_module("llama", dtype=torch.float64, vocab_size=400), tokenizer)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": ROW["question"]}], tokenize=False, add_generation_prompt=True
    )
    trap = tokenizer(text).input_ids  # the usual two lines
    right = [tokenizer.bos_token_id, *tokenizer(text.removeprefix("<s>"), add_special_tokens=False).input_ids]
    assert trap == [tokenizer.bos_token_id, *right]
    (prompt,) = load_prompts(write(tmp_path, [ROW]), tokenizer, template="chat")
    assert list(prompt.token_ids) == right
    said = list(answer_tokens(prompt, "A", tokenizer))
    completions = make_completions([prompt], [(0, said)])
    ours = score_tokens(model, completions, [], [], progress=False).baseline[0]
    np.testing.assert_allclose(ours, reference.score(model.module, right, said), atol=CLOSE)
    assert np.abs(reference.score(model.module, trap, said) - ours).max() > APART


def test_padding_is_neither_scored_nor_counted_as_a_place(build_model):
    """More widely: test_scoring.test_scores_equal_the_slow_twin, over ragged prompts on every architecture."""
    model = build_model("gpt2", dtype=torch.float64)  # whose positions are absolute
    prompts = make_prompts((7, 3))
    completions = make_completions(prompts, [(0, [50, 60, 70, 80]), (1, [90, 100])])
    truth = [reference.score(model.module, prompts[0].token_ids, [50, 60, 70, 80]),
             reference.score(model.module, prompts[1].token_ids, [90, 100])]  # fmt: skip
    for way in ("tree", "rows"):
        ours = score_tokens(model, completions, [], [], engine=way, progress=False).baseline
        for row, want in enumerate(truth):
            np.testing.assert_allclose(ours[row, : len(want)], want, atol=CLOSE)
        assert np.isnan(ours[1, 2:]).all()
    # The shorter completion's padding scored with it, as where references have no mask.
    padded = [*prompts[1].token_ids, 90, 100, 1, 1]
    scored = pick(run(model.module, [padded])[0][0], padded[3:], 2)
    assert scored[:2].sum() == pytest.approx(truth[1].sum(), abs=CLOSE)
    assert scored.sum() < truth[1].sum() - APART
    # Padded on the left, with a mask and without positions: they count the padding.
    width = 11
    texts = [*prompts[0].token_ids, 50, 60, 70, 80], [*prompts[1].token_ids, 90, 100]
    ids = [[1] * (width - len(text)) + text for text in texts]
    mask = (torch.tensor(ids) != 1).long()
    logprob, _ = run(model.module, ids, attention_mask=mask)
    np.testing.assert_allclose(pick(logprob[0], [50, 60, 70, 80], 6), truth[0], atol=CLOSE)  # which has no padding
    assert np.abs(pick(logprob[1], [90, 100], width - 3) - truth[1]).max() > APART
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    logprob, _ = run(model.module, ids, attention_mask=mask, position_ids=places)
    np.testing.assert_allclose(pick(logprob[1], [90, 100], width - 3), truth[1], atol=CLOSE)


def test_adding_to_the_first_entry_of_a_bare_tensor_steers_the_first_text_alone(model):
    prompts = make_prompts((6, 6))
    said = [SAID, SAID[::-1]]
    completions, vector = make_completions(prompts, list(enumerate(said))), make_vector(model)
    conditions = make_conditions([vector], layers=[LAYER], multipliers=(1.0,))
    added = torch.as_tensor(vector.directions[LAYER].copy())
    texts = [[*prompt.token_ids, *ids] for prompt, ids in zip(prompts, said, strict=True)]

    def hook(_module, _inputs, output):
        assert isinstance(output, torch.Tensor)  # of transformers 5: no tuple any more, whose first entry it would be
        output[0][5:] += added

    logprob, _ = run(model.module, texts, hook)
    trap = [pick(logprob[row], ids, 5) for row, ids in enumerate(said)]
    truth = [
        reference.score(model.module, prompt.token_ids, ids, layer=LAYER, added=added)
        for prompt, ids in zip(prompts, said, strict=True)
    ]
    np.testing.assert_allclose(trap[0], truth[0], atol=CLOSE)
    np.testing.assert_allclose(trap[1], reference.score(model.module, prompts[1].token_ids, said[1]), atol=CLOSE)
    assert np.abs(trap[1] - truth[1]).max() > APART
    for way in ("tree", "rows"):
        ours = score_tokens(model, completions, [vector], conditions, engine=way, progress=False).logprob[0]
        np.testing.assert_allclose(ours, truth, atol=CLOSE)


def test_what_block_l_puts_out_is_hidden_state_l_plus_1(model):
    """More widely: test_vectors.test_a_vector_equals_the_slow_twin_at_every_layer; the doctor's check of the place."""
    pair = ContrastPair((*PROMPT, 40), (*PROMPT, 44), 6, 6)
    with torch.no_grad():
        states = [
            model.module(torch.tensor([list(ids)]), output_hidden_states=True).hidden_states
            for ids in (pair.positive, pair.negative)
        ]
    differences = [(one[0, 6] - other[0, 6]).numpy() for one, other in zip(*states, strict=True)]
    assert len(differences) == model.n_layers + 1
    vector = extract_vector(model, [pair], progress=False)
    for layer in range(model.n_layers - 1):  # the last hidden state is normed
        np.testing.assert_allclose(vector.directions[layer], differences[layer + 1], atol=CLOSE)
        assert np.abs(vector.directions[layer] - differences[layer]).max() > APART
    # Added where it was read: the text's last token then has the other text's stream from there on.
    moved, _ = run(model.module, [list(pair.negative)], add_from(6, vector.directions[LAYER].copy()))
    wrong, _ = run(model.module, [list(pair.negative)], add_from(6, differences[LAYER]))
    assert float((moved - wrong)[0, -1].abs().max()) > APART


def test_what_was_said_is_scored_by_its_ids_and_not_tokenised_anew(model, tokenizer):
    """The labels, texts and tables of a run keep ids as they were drawn: test_store.py has the round trip."""
    ids = [tokenizer.convert_tokens_to_ids(piece) for piece in ("A", "n", "s", "w", "e", "r")]
    again = tokenizer(tokenizer.decode(ids), add_special_tokens=False).input_ids
    assert again != ids  # one text, other tokens
    assert tokenizer.decode(again) == tokenizer.decode(ids)
    (prompt,) = make_prompts((6,))
    completions = make_completions([prompt], [(0, ids)])
    ours = score_tokens(model, completions, [], [], progress=False).baseline[0]
    np.testing.assert_allclose(ours, reference.score(model.module, prompt.token_ids, ids), atol=CLOSE)
    assert abs(reference.score(model.module, prompt.token_ids, again).sum() - ours.sum()) > APART
    # And where the model itself says such ids, its draws keep them.
    drawn = sample_completions(model, [prompt], sampling=Sampling(n=20, max_new_tokens=6), progress=False)
    rows = [said[:n].tolist() for said, n in zip(drawn.token_ids, drawn.lengths, strict=True)]
    changed = [row for row in rows if tokenizer(tokenizer.decode(row), add_special_tokens=False).input_ids != row]
    assert changed
    for row, said in enumerate(rows):
        want = reference.score(model.module, prompt.token_ids, said)
        np.testing.assert_allclose(drawn.logprob[row, : len(said)], want, atol=CLOSE)


def test_log_softmax_in_half_precision_is_noise(tokenizer):
    """More widely: test_arithmetic.test_scores_are_nearer_to_float32_arithmetic_than_the_plain_way."""
    module = make_module("llama", dtype=torch.bfloat16, scale=4.0)
    model = wrap_model(module, tokenizer, name="half")
    true = make_module("llama", dtype=torch.bfloat16, scale=4.0).double()  # the same rounded weights
    prompts = make_prompts((5, 9))
    completions, vector = random_completions(prompts, per_prompt=4, longest=20), make_vector(model, size=0.5)
    conditions = make_conditions([vector], layers=[LAYER], multipliers=(0.0, 1.0))
    scores = score_tokens(model, completions, [vector], conditions, progress=False)
    trap, ours = [], []
    for row, ids in enumerate(completions.token_ids):
        said, prompt = ids[: completions.lengths[row]].tolist(), prompts[completions.prompt_index[row]].token_ids
        truth = reference.score(true, prompt, said).sum()
        logprob, _ = run(module, [[*prompt, *said]])
        assert logprob.dtype == torch.bfloat16
        trap.append(pick(logprob[0], said, len(prompt) - 1).sum() - truth)
        ours.append(np.nansum(scores.baseline[row], dtype=np.float64) - truth)
    assert np.std(ours) < np.std(trap) / 3
    assert np.nanmax(np.abs(scores.increase[0])) == 0  # both models in one batch: what rounds is gone from the pair
    assert np.nanmax(np.abs(scores.increase[1])) > APART


def test_a_samplers_log_probs_are_not_the_models(model):
    """More widely: test_sampling.test_logprob_is_the_models_own_at_temperature_one."""
    (prompt,) = make_prompts((6,))
    sampling = Sampling(n=10, max_new_tokens=4, temperature=0.6, top_p=0.8)
    drawn = sample_completions(model, [prompt], sampling=sampling, progress=False)
    for row, ids in enumerate(drawn.token_ids):
        said = ids[: drawn.lengths[row]].tolist()
        truth = reference.score(model.module, prompt.token_ids, said)
        trap = []
        for t, token in enumerate(said):
            logits = reference.logits_of(model.module, [*prompt.token_ids, *said[:t]])[-1] / 0.6
            law, order = logits.softmax(-1).sort(descending=True)
            kept = order[: int((law.cumsum(0) < 0.8).sum()) + 1]
            trap.append(float(logits[token] - logits[kept].logsumexp(0)))
        assert sum(trap) > truth.sum() + APART  # cut and sharpened, everything that is drawn looks likelier
        np.testing.assert_allclose(drawn.logprob[row, : len(said)], truth, atol=CLOSE)
    scored = score_tokens(model, drawn, [], [], progress=False).baseline
    np.testing.assert_allclose(scored[drawn.mask], drawn.logprob[drawn.mask], atol=CLOSE)
    assert pick_engine(model) == "tree"

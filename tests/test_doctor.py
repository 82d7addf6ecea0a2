"""The doctor: all is well on models that work, and each thing that may be wrong is named where it is made so."""

import dataclasses

import numpy as np
import pytest
import test_prompt_chat
import torch
from conftest import make_module
from test_prompts import ROW, write
from tokenizers import processors

from completions_lp import doctor
from completions_lp.doctor import rounding, stream
from completions_lp.doctor.case import draw_case, pick_prompts
from completions_lp.doctor.findings import ADVICE, BROKEN, SLOW, Finding
from completions_lp.doctor.tokens import adds_beginning, check_answers, check_beginnings
from completions_lp.model import (
    caches,
    decoding,
    engine,
    network,
    pick_engine,
    reading,
    residual,
    rows,
    tree,
    wavefront,
    wrap_model,
)
from completions_lp.model.engine import Comparison
from completions_lp.model.reading import Reader
from completions_lp.prompts import load_prompts, loading
from completions_lp.records import InputError, SteeringVector
from completions_lp.sample import growth
from completions_lp.score import grid, spelling

WORDS = ("Is it?", "Or not", "I", "So what is it now?")


def ask(folder, tokenizer, **options):
    """Short prompts of different lengths: the models here have little context."""
    return load_prompts(write(folder, [{**ROW, "question": word} for word in WORDS]), tokenizer, **options)


@pytest.fixture
def prompts(tmp_path, tokenizer):
    return ask(tmp_path, tokenizer)


def make_model(tokenizer, architecture="llama", **options):
    """Made anew: what was found of another is not known of it."""
    return wrap_model(make_module(architecture, **options), tokenizer, name=architecture)


def make_vector(model, size=1.0):
    rng = np.random.default_rng(5)
    return SteeringVector("mine", "target", {n: size * rng.standard_normal(model.d_model) for n in range(3)})


def examine(model, prompts, **options):
    """By name, what is found with a vector; the control is a model of its own."""
    control = options.pop("control", lambda: make_model(model.tokenizer))
    return doctor.examine_model(model, prompts, [make_vector(model)], control=control, **options)


def list_failed(diagnosis):
    return {finding.name for finding in diagnosis.failed}


def settle(model, way):
    """Let a model have found its way through the network already; ``way`` tree or rows."""
    assert pick_engine(model) == "tree"
    if way == "rows":
        engine._FOUND[model] = Comparison(float("inf"), reason="it is told to")
    return model


@pytest.mark.parametrize("positions", ["completion", "all"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral", "gemma2"])
def test_everything_is_right_on_a_model_that_works(tokenizer, prompts, architecture, positions):
    model = make_model(tokenizer, architecture)
    diagnosis = examine(model, prompts, positions=positions)
    assert list_failed(diagnosis) == set()
    assert {finding.name for finding in diagnosis.findings} == set(ADVICE)
    assert len(diagnosis.findings) == len(ADVICE)
    assert {finding.verdict for finding in diagnosis.findings} == {"pass"}
    text = doctor.format_diagnosis(diagnosis)
    assert text.splitlines()[0].startswith(f"{architecture}: ")
    assert "3 layers, d_model 32" in text
    assert "mine x 1 at layer 1" in text
    assert text.endswith("everything is computed right on this model")
    assert text.count("\npass  ") == len(ADVICE)
    assert not any(advice in " ".join(text.split()) for advice in ADVICE.values())


def test_plain_rows_pass_and_are_told_to_be_slow(tokenizer, prompts):
    diagnosis = examine(settle(make_model(tokenizer), "rows"), prompts)
    assert list_failed(diagnosis) == set()
    (note,) = [finding for finding in diagnosis.findings if finding.verdict == "note"]
    assert (note.name, note.advice, note.seen) == ("trees = rows", SLOW, "it is told to")
    text = doctor.format_diagnosis(diagnosis)
    assert "note  trees = rows" in text
    assert SLOW in " ".join(text.split())
    assert text.endswith("everything is computed right on this model")


# What is wrong in one way each, in the code that every run goes through.


def add_twice(patch):
    apply = residual.Edits.apply
    patch.setattr(residual.Edits, "apply", lambda self, stream, acts=None: apply(self, apply(self, stream, acts), acts))


def start_one_late(patch):
    """The last prompt token, which says the first token of the answer, is left unsteered."""
    apply = residual.Edits.apply

    def late(self, stream, acts=None):
        acting = torch.ones(stream.shape[:-1], dtype=torch.bool) if acts is None else acts.expand(stream.shape[:-1])
        first = acting & (acting.cumsum(-1) == 1)
        return torch.where(first[..., None], stream, apply(self, stream, acts))

    patch.setattr(residual.Edits, "apply", late)


def change_conditions(patch, change):
    """Conditions become others on the way to either engine."""
    for name in ("score_trees", "score_rows"):
        way = getattr(grid, name)

        def moved(task, way=way):
            changed = [change(c) for c in task.conditions]
            vectors = dict(task.vectors)
            for before, after in zip(
                task.conditions, changed, strict=True
            ):  # a unit has directions of its layers alone
                vector = vectors[before.vector]
                moved = zip(after.layers, before.layers, strict=False)
                directions = {new: vector.directions[old] for new, old in moved} | dict(vector.directions)
                vectors[before.vector] = dataclasses.replace(vector, directions=directions)
            return way(dataclasses.replace(task, conditions=changed, vectors=vectors))

        patch.setattr(grid, name, moved)


def steer_the_prompt(patch):
    change_conditions(patch, lambda c: dataclasses.replace(c, positions="all"))


def shift_layers(by):
    def shift(patch):
        change_conditions(patch, lambda c: dataclasses.replace(c, layer=min(max(c.layer + by, 0), 2), beyond=()))

    return shift


def drop_masks(patch):
    """Every node sees all others, later ones and those of other completions."""

    def see_all(make):
        return lambda model, visible, *positions: make(model, np.ones_like(visible), *positions)

    for module in (wavefront, decoding):
        patch.setattr(module, "make_masks", see_all(module.make_masks))


def attend_padding(patch):
    pad = network.pad_tokens

    def padded(sequences, device, *, left=False):
        ids, there = pad(sequences, device, left=left)
        return ids, torch.ones_like(there)

    patch.setattr(network, "pad_tokens", padded)


def shift_depths(patch):
    """Nodes stand one place too early in their text, the first one excepted."""
    build = wavefront.build_tree

    def built(completions, root):
        made = build(completions, root)
        return dataclasses.replace(made, depths=np.where(made.depths > len(root), made.depths - 1, made.depths))

    patch.setattr(wavefront, "build_tree", built)


def see_siblings(patch):
    seen = tree.Tree.ancestors.fget

    def ancestors(made):
        found = seen(made)
        others = np.flatnonzero(~found[-1])
        found[-1, others[:1]] = True
        return found

    patch.setattr(tree.Tree, "ancestors", property(ancestors))


def change_edits(patch, change):
    """What is added becomes something else, for either engine: ``change`` gets the rows and their conditions."""
    make = network.make_edits

    def made(vectors, conditions, **options):
        found = make(vectors, conditions, **options)
        return {
            layer: dataclasses.replace(edits, added=change(edits.added, layer, [conditions[k] for k in edits.which]))
            for layer, edits in found.items()
        }

    for module in (network, wavefront):
        patch.setattr(module, "make_edits", made)


def leave_something_behind(patch):
    """A tenth of what was added last is added to what is added next."""
    last = []

    def change(added, layer, conditions):
        found = added + (0.1 * last[-1] if last else 0)
        last.append(added.mean(0))
        return found

    change_edits(patch, change)


def change_what_is_read(patch):
    """Keys of the prompts change with each pass that reads them."""
    update = caches.TreeCache.update

    def worn(self, keys, values, layer, *others, **options):
        found = update(self, keys, values, layer, *others, **options)
        if type(self) is caches.TreeCache and self.layers:
            self.layers[layer] = (1.01 * self.layers[layer][0], self.layers[layer][1])
        return found

    patch.setattr(caches.TreeCache, "update", worn)


def take_the_first_multiplier(patch):
    """What is added is remembered by vector and layer, whatever the multiplier."""
    known = {}

    def change(added, layer, conditions):
        rows = zip(conditions, added, strict=True)
        return torch.stack([known.setdefault((c.vector, c.layer, c.operation, layer), row) for c, row in rows])

    change_edits(patch, change)


def add_at_zero(patch):
    """Steered rows get a little more than the multiplier says."""
    change_edits(patch, lambda added, layer, conditions: added + 1e-3)


def lose_mass(patch):
    """Log probs are off by a constant, so they are none."""
    for name in ("read_hidden", "read_logits"):
        read = getattr(Reader, name)

        def reading(self, *arguments, read=read):
            found = read(self, *arguments)
            return {**found, "logprob": found["logprob"] - 0.01}

        patch.setattr(Reader, name, reading)


def lose_a_spelling(patch):
    """One of the tokens that complete an answer is not read."""
    stack = reading.stack_answers

    def stacked(*arguments):
        tokens, allowed = stack(*arguments)
        allowed = allowed.clone()
        allowed[..., -1] = False
        return tokens, allowed

    for module in (wavefront, rows):
        patch.setattr(module, "stack_answers", stacked)


def tell_other_draws(patch):
    draw = growth._draw_tokens

    def drawn(*arguments):
        unsound, tokens, logprob, own = draw(*arguments)
        return unsound, tokens, [value - 0.1 for value in logprob], own

    patch.setattr(growth, "_draw_tokens", drawn)


def speak_unsteered(patch):
    """The decoder's first step, which says the first token, is not steered."""
    for name in ("TreeDecoder", "RowDecoder"):
        step = getattr(decoding, name).step

        def late(self, prompt, parent, token, step=step):
            steering, began = self.steering, getattr(self, "began", False)
            self.began, self.steering = True, steering if began else None
            yield from step(self, prompt, parent, token)
            self.steering = steering

        patch.setattr(getattr(decoding, name), "step", late)


def read_one_layer_early(patch):
    read = stream.read_residuals

    def early(model, texts, index, layers):
        residuals = read(model, texts, index, layers)
        return torch.cat([residuals[:1], residuals[:-1]])

    patch.setattr(stream, "read_residuals", early)


def scale_logits(patch):
    """Log probs that sum to 1 and are of another temperature."""
    for name in ("read_hidden", "read_logits"):
        read = getattr(Reader, name)

        def reading(self, *arguments, read=read):
            *head, values = arguments
            return read(self, *head, values * 1.01)

        patch.setattr(Reader, name, reading)


ONCE, BELOW, BEFORE = (
    "the vector is added once, at its layer",
    "no layer below is touched",
    "no token before is touched",
)
FULL, STREAMS, TREES = "shared prefix = full forward", "residual streams = those of a full forward", "trees = rows"
BATCH, STATE, ZERO = "batched = single", "A, B, A leaves nothing behind", "multiplier 0 = baseline"
SUM, DRAWN, SPOKEN = (
    "probabilities over the vocabulary sum to 1",
    "sampled log probs = scored ones",
    "steered draws = steered scores",
)
MUTATIONS = {
    "the vector is added twice": (add_twice, ("tree", "rows"), {ONCE, FULL, STREAMS}),
    "off by one position, late": (start_one_late, ("tree", "rows"), {ONCE, FULL, STREAMS}),
    "off by one position, early": (steer_the_prompt, ("tree", "rows"), {BEFORE, FULL, STREAMS}),
    "layers shifted up": (shift_layers(1), ("tree", "rows"), {ONCE, FULL, STREAMS}),
    "layers shifted down": (shift_layers(-1), ("tree", "rows"), {ONCE, BELOW, FULL, STREAMS}),
    "the mask dropped": (drop_masks, ("tree",), {TREES, FULL, STREAMS}),
    "padding attended": (attend_padding, ("tree", "rows"), {BATCH, FULL}),
    "depths off by one": (shift_depths, ("tree",), {TREES, FULL, STREAMS}),
    "a sibling seen": (see_siblings, ("tree",), {TREES}),
    "state left behind": (leave_something_behind, ("tree", "rows"), {STATE, ONCE, FULL}),
    "keys that wear off": (change_what_is_read, ("tree",), {BATCH}),
    "a stale vector": (take_the_first_multiplier, ("tree", "rows"), {ONCE, FULL}),
    "something added at 0": (add_at_zero, ("tree", "rows"), {ZERO, ONCE}),
    "log probs that do not normalise": (lose_mass, ("tree", "rows"), {SUM, FULL, DRAWN}),
    "logits of another temperature": (scale_logits, ("tree", "rows"), {FULL, DRAWN}),
    "a spelling that is not read": (lose_a_spelling, ("tree", "rows"), {"answers read out = full forward"}),
    "the sampler's own log probs": (tell_other_draws, ("tree", "rows"), {DRAWN, SPOKEN}),
    "the first token spoken unsteered": (speak_unsteered, ("tree", "rows"), {SPOKEN}),
    "vectors read a layer early": (read_one_layer_early, ("tree",), {"vectors are read at hidden_states[layer + 1]"}),
}


@pytest.mark.parametrize(("mutation", "way"), [(name, way) for name, (_, ways, _) in MUTATIONS.items() for way in ways])
def test_what_is_made_wrong_is_named(tokenizer, prompts, monkeypatch, mutation, way):
    """Of a model that has found its way: without the mutation all is well, with it these checks fail."""
    damage, _, wanted = MUTATIONS[mutation]
    model = settle(make_model(tokenizer), way)
    assert list_failed(examine(model, prompts)) == set()
    damage(monkeypatch)
    diagnosis = examine(model, prompts)
    assert wanted <= list_failed(diagnosis)
    told = " ".join(doctor.format_diagnosis(diagnosis).split())
    for name in wanted:
        assert f"FAIL {name}" in told
        assert ADVICE[name] in told
    n = len(diagnosis.failed)
    assert f"{n} check{'s' if n > 1 else ''} failed: " in told


@pytest.mark.filterwarnings("ignore:.*takes the plain path")
@pytest.mark.parametrize("mutation", ["the mask dropped", "depths off by one", "a sibling seen"])
def test_trees_that_are_wrong_from_the_outset_fail_too(tokenizer, prompts, monkeypatch, mutation):
    """Plain rows, which are right, are no way out where trees are wrong on every model: the control tells."""
    MUTATIONS[mutation][0](monkeypatch)
    assert list_failed(examine(make_model(tokenizer), prompts)) == {TREES}


@pytest.mark.parametrize("mutation", ["the vector is added twice", "off by one position, late", "padding attended"])
def test_a_model_that_nothing_is_right_on_is_refused(tokenizer, prompts, monkeypatch, mutation):
    MUTATIONS[mutation][0](monkeypatch)
    with pytest.raises(InputError, match="gives a text other log probs"):
        examine(make_model(tokenizer), prompts)


@pytest.mark.filterwarnings("ignore:.*takes the plain path")
def test_trees_that_are_wrong_everywhere_are_the_installations_fault(tokenizer, prompts, monkeypatch):
    shift_depths(monkeypatch)
    (failed,) = examine(make_model(tokenizer), prompts).failed
    assert (failed.name, failed.advice) == (TREES, BROKEN)
    assert "on the embedded model: the shared tree is " in failed.seen


@pytest.mark.filterwarnings("ignore:.*takes the plain path")
def test_the_model_is_let_off_where_only_its_own_trees_are_wrong(tokenizer, prompts, monkeypatch):
    control = make_model(tokenizer)
    assert pick_engine(control) == "tree"
    shift_depths(monkeypatch)
    diagnosis = examine(make_model(tokenizer), prompts, control=lambda: control)
    assert list_failed(diagnosis) == set()
    assert [f.name for f in diagnosis.findings if f.verdict == "note"] == [TREES]


def test_a_control_that_is_refused_is_a_fault(tokenizer, prompts):
    def refuse():
        raise InputError("it reads ahead")

    (failed,) = examine(settle(make_model(tokenizer), "rows"), prompts, control=refuse).failed
    assert failed.seen == "it is told to; on the embedded model: it reads ahead"


def test_a_doubled_beginning_is_named(tmp_path, monkeypatch):
    tokenizer = test_prompt_chat.make_tokenizer(adds=True)
    model = make_model(tokenizer, vocab_size=400)
    bos = "one BOS in each prompt"
    assert list_failed(examine(model, ask(tmp_path, tokenizer))) == set()
    encode = loading.encode_text
    monkeypatch.setattr(loading, "encode_text", lambda *args: (tokenizer.bos_token_id, *encode(*args)))
    with pytest.raises(InputError, match="the prompt has '<s>', which begins a text, twice"):
        ask(tmp_path, tokenizer)
    monkeypatch.setattr(loading, "check_beginning", lambda *_: None)
    diagnosis = examine(model, ask(tmp_path, tokenizer))
    assert list_failed(diagnosis) == {bos}
    told = " ".join(doctor.format_diagnosis(diagnosis).split())
    assert f"FAIL {bos} 4 prompts (allowed 0) seen: '<s>' (id 0), put before every text: 4 of 4 prompts" in told
    monkeypatch.setattr(loading, "encode_text", lambda *args: encode(*args)[1:])
    assert check_beginnings(tokenizer, ask(tmp_path, tokenizer)).value == 4


@pytest.mark.parametrize("template", ["chat", "{question}", "<s>{question}"])
@pytest.mark.parametrize("adds", [True, False])
def test_one_beginning_is_right_whoever_writes_it(tmp_path, template, adds):
    tokenizer = test_prompt_chat.make_tokenizer(adds=adds)
    finding = check_beginnings(tokenizer, ask(tmp_path, tokenizer, template=template))
    assert finding.passed
    assert ("put before every text" in finding.seen) == adds
    assert f"{0 if template == '{question}' and not adds else 4} of 4 prompts have it" in finding.seen


def test_what_a_tokenizer_puts_around_its_beginning_is_no_fault(tmp_path):
    """Before it, as some do, and an end after the text, which is the same token for others."""
    tokenizer = test_prompt_chat.make_tokenizer(adds=False)
    core = tokenizer.backend_tokenizer
    both = [("<s>", 0), ("</s>", 1)]
    for single, wanted in (("</s> <s> $A", True), ("$A <s>", False), ("</s> $A", False)):
        core.post_processor = processors.TemplateProcessing(single=single, special_tokens=both)
        asked = ask(tmp_path, tokenizer)
        assert adds_beginning(tokenizer) == wanted
        assert check_beginnings(tokenizer, asked).passed
        assert all(prompt.token_ids.count(0) == int(wanted) for prompt in asked)


def test_a_beginning_of_every_turn_is_right_and_none_is_for_a_tokenizer_without(tmp_path, tokenizer):
    turns = test_prompt_chat.make_tokenizer(test_prompt_chat.BRACKETS)
    asked = ask(tmp_path, turns, template="chat", few_shot=test_prompt_chat.SHOTS)
    assert asked[0].token_ids.count(turns.bos_token_id) == 2
    assert check_beginnings(turns, asked).passed
    finding = check_beginnings(tokenizer, ask(tmp_path, tokenizer))
    assert finding.passed
    assert finding.seen == "4 prompts; this tokenizer has none, and none is right"


def test_the_tokens_of_each_answer_are_shown(tokenizer, prompts):
    finding, spelled = check_answers(tokenizer, prompts, "matching")
    assert finding.passed
    ids = {letter: tokenizer.convert_tokens_to_ids(letter) for letter in "AB"}
    (how,) = spelled
    assert spelled == {how: 4}
    assert all(f"{letter}: '{letter}' ({ids[letter]})" in how for letter in "AB")
    shown = doctor.format_diagnosis(examine(make_model(tokenizer), prompts))
    assert f"  4 prompts: {how}" in " ".join(shown.split("\n")).replace("     ", " ")


def test_a_token_that_does_not_spell_its_answer_is_named(tokenizer, prompts, monkeypatch):
    spell = spelling._spell
    wrong = tokenizer.convert_tokens_to_ids("Q")
    monkeypatch.setattr(spelling, "_spell", lambda *args: spell(*args) | {wrong})
    finding, _ = check_answers(tokenizer, prompts, "matching")
    assert finding.value == 0  # of both answers, so of neither
    monkeypatch.setattr(
        spelling,
        "_spell",
        lambda ids, end, known: spell(ids, end, known) | ({wrong} if "A" in known.decode(ids) else set()),
    )
    finding, _ = check_answers(tokenizer, prompts, "matching")
    assert (finding.value, finding.verdict) == (4, "FAIL")
    assert f"token {wrong} ('Q') is taken for the answer 'A', and does not spell it" in finding.seen


def test_answers_that_nothing_tells_apart_are_named(tmp_path, tokenizer):
    rows = [{**ROW, "answer_matching_behavior": "Yes", "answer_not_matching_behavior": "Yes No"}]
    finding, spelled = check_answers(tokenizer, load_prompts(write(tmp_path, rows), tokenizer), "matching")
    assert (finding.value, spelled) == (1, {})
    assert "cannot express the answer 'Yes' against 'Yes No'" in finding.seen


def test_words_of_several_tokens_are_shown_by_the_one_that_is_read(tmp_path, tokenizer):
    rows = [{**ROW, "answer_matching_behavior": "Yes", "answer_not_matching_behavior": "Nothing"}]
    finding, spelled = check_answers(tokenizer, load_prompts(write(tmp_path, rows), tokenizer), "matching")
    assert finding.passed
    assert "Yes" in next(iter(spelled))


def test_limits_are_tight_enough_to_notice_steering(tokenizer, prompts):
    found = {finding.name: finding for finding in examine(make_model(tokenizer), prompts).findings}
    assert 0 < found[FULL].value < found[FULL].limit / 10
    for name in (ONCE, BELOW, BEFORE, STREAMS):
        assert found[name].value < found[name].limit / 10


def test_what_was_touched_is_read_from_the_residual_stream(tokenizer, prompts):
    model = make_model(tokenizer)
    case = draw_case(model, prompts, [make_vector(model)], layers=[1], multiplier=-2.0)
    condition = case.cells[-1]
    assert (condition.vector, condition.layer, condition.multiplier) == ("mine", 1, -2.0)
    row = case.first_rows[0]
    prompt, said = case.read_row(row)
    touch = stream.read_touch(case, row, condition)
    n = len(prompt) + len(said) - 1
    assert touch.change.shape == (3, n, 32)
    assert float(touch.change[0].abs().max()) == 0
    assert float(touch.change[:, : len(prompt) - 1].abs().max()) == 0
    added = torch.from_numpy(-2.0 * case.vectors["mine"].directions[1]).float()
    torch.testing.assert_close(touch.change[1, len(prompt) - 1 :], added.expand(len(said), -1), atol=1e-5, rtol=1e-5)
    assert bool((touch.change[2, len(prompt) - 1 :].norm(dim=-1) > 0).all())
    seen = stream.check_touch(model, touch, condition, case.vectors["mine"], len(prompt))[0].seen
    last = len(prompt) - 1
    assert seen == f"mine x -2 at layer 1 (completion): layers 1 to 2, tokens {last} to {n - 1} of {n}"


def test_prompts_are_of_different_lengths_where_there_are_such(prompts):
    picked = pick_prompts(prompts, 3)
    assert len({len(prompt.token_ids) for prompt in picked}) == 3
    assert min(len(p.token_ids) for p in prompts) == len(picked[0].token_ids)
    same = [dataclasses.replace(prompts[0], id=str(i)) for i in range(5)]
    assert len(pick_prompts(same, 3)) == 3
    assert len(pick_prompts(same[:2], 3)) == 2


def test_what_a_model_lacks_is_found(tokenizer, prompts):
    model = dataclasses.replace(make_model(tokenizer), eos_ids=frozenset())
    assert list_failed(examine(model, prompts, n_prompts=1)) == {"end of sequence is known"}


def test_a_vector_of_some_layers_and_none_are_examined(tokenizer, prompts):
    model = make_model(tokenizer)
    whole = make_vector(model)
    one = dataclasses.replace(whole, name="probe", directions={2: whole.directions[2]})
    options = {"control": lambda: model, "layers": [0, 1]}
    diagnosis = doctor.examine_model(model, prompts, [one], **options)
    assert list_failed(diagnosis) == set()
    assert "probe of yours x 1 at layer 2" in diagnosis.patient[2]
    assert list_failed(doctor.examine_model(model, prompts, [], **options)) == set()


@pytest.mark.parametrize("residual", ["float32", "weights"])
def test_half_precision_is_checked_in_float32_and_its_rounding_is_told(tokenizer, prompts, residual):
    model = wrap_model(make_module("llama", dtype=torch.bfloat16, scale=4.0), tokenizer, name="half", residual=residual)
    diagnosis = examine(model, prompts, compare=True)
    assert list_failed(diagnosis) == set()
    assert max(f.value for f in diagnosis.findings if f.unit == "nats") < 1e-4
    assert "bfloat16 on cpu; checked as a copy in float32 of 3 of its blocks" in diagnosis.patient[0]
    found = rounding.measure_rounding(model, prompts, compare=True)
    ways = ["float32", "bfloat16 with a float32 residual stream", "bfloat16 throughout"]
    assert set(found) == set(ways)
    assert next(iter(found)) == ways[1 if residual == "float32" else 2]
    assert 3 * found[ways[0]] < found[ways[1]] < found[ways[2]]
    assert list(rounding.measure_rounding(model, prompts)) == [next(iter(found))]
    told = doctor.format_diagnosis(diagnosis, everything=True)
    assert f"{found[ways[0]]:.1e} in float32" in " ".join(told.split())


def test_a_float32_model_is_told_what_half_precision_would_round(tokenizer, prompts):
    model = make_model(tokenizer, scale=4.0)
    assert len(rounding.measure_rounding(model, prompts, compare=True)) == 3
    double = make_model(tokenizer, dtype=torch.float64, scale=4.0)
    assert list(rounding.measure_rounding(double, prompts, compare=True)) == ["float64"]


def test_a_model_that_is_too_large_to_copy_is_examined_at_its_ends(tokenizer, prompts, monkeypatch):
    """The vector goes with its blocks."""
    from completions_lp.doctor import case as cases
    from completions_lp.model import copy_wide

    model = make_model(tokenizer, dtype=torch.bfloat16, num_hidden_layers=6)
    monkeypatch.setattr(cases, "copy_wide", lambda one: copy_wide(one, largest=0))
    rng = np.random.default_rng(0)
    vector = SteeringVector("mine", "target", {n: rng.standard_normal(32) for n in range(6)})
    case = draw_case(model, prompts, [vector])
    assert case.model.n_layers == 4
    for new, old in enumerate((0, 1, 4, 5)):
        np.testing.assert_array_equal(case.vectors["mine"].directions[new], vector.directions[old])


def test_an_undefined_deviation_does_not_pass():
    name = "rounding of an increase"
    assert Finding(name, float("nan"), 1.0).verdict == "FAIL"
    assert Finding(name, 1.0, 1.0).verdict == "pass"
    assert Finding(name, 1.1, 1.0).verdict == "FAIL"
    assert Finding(name, 1.1, 1.0, is_fault=False).verdict == "note"
    assert rounding.judge_rounding({"bfloat16 throughout": 0.3}).verdict == "note"
    assert rounding.judge_rounding({"float32": float("nan")}).verdict == "FAIL"


def test_scores_that_are_no_numbers_fail(tokenizer, prompts, monkeypatch):
    score = grid.score_task

    def spoil(*args, **options):
        arrays = score(*args, **options)
        arrays["logprob"][:, 0, 0] = np.nan
        return arrays

    monkeypatch.setattr(grid, "score_task", spoil)
    assert {FULL, BATCH, ZERO, STATE, TREES} <= list_failed(examine(make_model(tokenizer), prompts))


def test_weights_that_are_no_numbers_are_refused_before_any_check(tokenizer, prompts):
    module = make_module("llama")
    with torch.no_grad():
        module.model.norm.weight[3] = float("nan")
    with pytest.raises(InputError, match=r"weights 'model\.norm\.weight': 1 of 32 values are NaN or infinite"):
        examine(wrap_model(module, tokenizer), prompts)


def test_hooks_are_gone_afterwards(tokenizer, prompts):
    model = make_model(tokenizer)
    examine(model, prompts)  # nnsight keeps hooks of its own
    before = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.module.modules()]
    examine(model, prompts)
    assert before == [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.module.modules()]

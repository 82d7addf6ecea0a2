"""Every setting and every input: what it changes of the keys of units and of what stages record, and what it does not.

A setting that is in neither list fails: whoever adds one says here what hangs on it.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
import vector_bytes as made
from runs import change, compare, do_stages, make_place, read_info, sum_work
from test_prompts import write

from completions_lp.job.config import Config
from completions_lp.job.toml import REPEATED
from completions_lp.records import BASELINE, Condition, Sampling, SteeringVector
from completions_lp.sample.functions import hash_function
from completions_lp.store import read_vector
from completions_lp.work import keys

ALL, SOME = "all", "some"
VECTOR, SAMPLE, SCORE = "vector", "sample", "score"
EVERY = {"draws": ALL, "steered": ALL, "scores": ALL, "choices": ALL}
STEERED = {"steered": ALL, "scores": ALL, "choices": ALL}
VECTORS = {"steered": ALL, "scores": SOME, "choices": SOME}
"""The direction that tells the rounding is of the model alone, and stays."""
STREAM = {"steered": ALL, "scores": SOME}
"""Other random numbers: draws of the steered model are others, and so what is scored of them."""
MORE = {"steered": SOME, "scores": SOME, "choices": SOME}
PLAIN = {"sampling.top_up": 0}
"""Without draws of the steered model, which go with plain sampling only."""
CHAT = {"model.name": "PLACE/chat", "prompts.template": "chat"}
SHOTS = [{"user": "Is ice cold?", "assistant": "Yes"}]

CHANGES = {
    # By setting: the changes; the kinds of units of which all keys are new, or some came or went; the stages remade.
    "model.name": ({"model.name": "PLACE/copy"}, {}, {VECTOR, SAMPLE, SCORE}),  # the same files under another name
    "model.dtype": ({"model.dtype": "float64"}, EVERY, {VECTOR, SAMPLE, SCORE}),
    "model.residual": ({"model.residual": "weights"}, {}, {VECTOR, SAMPLE, SCORE}),  # of float32 weights it is float32
    "prompts.path": ({"prompts.path": "PLACE/same.jsonl"}, {}, {SAMPLE}),
    "prompts.split": ({"prompts.split": "test"}, {}, {SAMPLE}),  # of a hub's files; this one is local
    "prompts.revision": ({"prompts.revision": "x"}, {}, {SAMPLE}),
    "prompts.template": ({"prompts.template": "Q: {question}"}, EVERY, {VECTOR, SAMPLE, SCORE}),
    "prompts.subset": ({"prompts.subset": "all"}, {}, {SAMPLE}),  # of a hub's files, too
    "prompts.system": ({**CHAT, "prompts.system": "Be brief."}, EVERY, {VECTOR, SAMPLE, SCORE}),
    "prompts.few_shot": ({**CHAT, "prompts.few_shot": SHOTS}, EVERY, {VECTOR, SAMPLE, SCORE}),
    "prompts.prefix": ({"prompts.prefix": "("}, EVERY, {VECTOR, SAMPLE, SCORE}),
    "prompts.fields": ({"prompts.fields": {"question": "question"}}, {}, {SAMPLE}),  # which it is called anyway
    "prompts.answers": ({"prompts.answers": ["Yes", "No"]}, {}, {SAMPLE}),  # of rows that have none
    "prompts.letters": ({"prompts.letters": ["A", "B"]}, {}, {SAMPLE}),  # which all of them have
    "prompts.swap": ({"prompts.swap": True}, {"draws": SOME, **MORE}, {SAMPLE, SCORE}),  # asked in one order as before
    "prompts.limit": ({"prompts.limit": 5}, {"draws": SOME, **MORE}, {SAMPLE, SCORE}),
    "vector.pairs": ({"vector.pairs": "PLACE/elsewhere/pairs.jsonl"}, {}, {VECTOR}),
    "vector.pairs: its name": ({"vector.pairs": "PLACE/named.jsonl"}, STREAM, {VECTOR, SCORE}),
    "vector.name": ({"vector.name": "other"}, STREAM, {VECTOR, SCORE}),
    "vector.subset": ({"vector.subset": "all"}, {}, {VECTOR}),
    "vector.split": ({"vector.split": "test"}, {}, {VECTOR}),
    "vector.revision": ({"vector.revision": "x"}, {}, {VECTOR}),
    "vector.fields": ({"vector.fields": {"question": "question"}}, {}, {VECTOR}),
    "vector.path": ({"vector.path": "PLACE/other.safetensors"}, MORE, {VECTOR, SCORE}),
    "vector.format": ({"vector.path": "PLACE/other.safetensors", "vector.format": "own"}, MORE, {VECTOR, SCORE}),
    "vector.layer": ({"vector.path": "PLACE/other.safetensors", "vector.layer": 0}, MORE, {VECTOR, SCORE}),
    "vector.convention": ({"vector.path": "PLACE/v.gguf", "vector.convention": "repeng"}, VECTORS, {VECTOR, SCORE}),
    "vector.feature": (
        {"vector.path": "PLACE/params.npz", "vector.layer": [0], "vector.feature": 1}, VECTORS, {VECTOR, SCORE}
    ),
    "vector.position": ({"vector.path": "PLACE/mean_diffs.pt", "vector.position": -1}, VECTORS, {VECTOR, SCORE}),
    "vector.read_token": ({"vector.read_token": "last"}, VECTORS, {VECTOR, SCORE}),
    "vector.read_token: a mean": ({"vector.read_token": "response_mean"}, VECTORS, {VECTOR, SCORE}),
    "vector.method": ({"vector.method": "lda"}, MORE, {VECTOR, SCORE}),  # of the same norm, so random ones stay
    "vector.layers": ({"vector.layers": [0]}, {}, {VECTOR, SCORE}),  # fewer vectors; those that are scored stay
    "sampling.n": ({"sampling.n": 12}, {"draws": SOME, "scores": SOME}, {SAMPLE, SCORE}),
    "sampling.max_new_tokens": ({"sampling.max_new_tokens": 4}, {"draws": ALL, **STREAM}, {SAMPLE, SCORE}),
    "sampling.temperature": ({**PLAIN, "sampling.temperature": 0.9}, {"draws": ALL, "scores": SOME}, {SAMPLE, SCORE}),
    "sampling.top_p": ({**PLAIN, "sampling.top_p": 0.9}, {"draws": ALL, "scores": SOME}, {SAMPLE, SCORE}),
    "sampling.top_k": ({**PLAIN, "sampling.top_k": 5}, {"draws": ALL, "scores": ALL}, {SAMPLE, SCORE}),
    "sampling.greedy": ({**PLAIN, "sampling.greedy": True}, {"draws": ALL, "scores": ALL}, {SAMPLE, SCORE}),
    "sampling.seed": ({"sampling.seed": 1}, {**EVERY, "choices": SOME}, {VECTOR, SAMPLE, SCORE}),
    "sampling.seeds": ({"sampling.seeds": [0, 1]}, {"draws": SOME, "scores": SOME}, {SAMPLE, SCORE}),
    "sampling.top_up": ({"sampling.top_up": 8}, {"steered": SOME, "scores": SOME}, {SCORE}),
    "label.rule": ({"label.rule": "letter"}, {"scores": ALL}, {SAMPLE, SCORE}),
    "label.target": ({"label.target": "B"}, {"scores": ALL, "choices": ALL}, {SCORE}),
    "label.within": ({"label.within": 5}, {}, {SAMPLE, SCORE}),
    "label.pattern": ({"label.rule": "regex", "label.pattern": "{letter}"}, {"scores": ALL}, {SAMPLE, SCORE}),
    "label.patterns": (
        {"label.rule": "regex", "label.patterns": {"A": "A", "B": "B"}}, {"scores": ALL}, {SAMPLE, SCORE}
    ),
    "label.phrases": ({"label.rule": "final_answer", "label.phrases": ["x"]}, {"scores": ALL}, {SAMPLE, SCORE}),
    "label.thinking": ({"label.thinking": ["<why>", "</why>"]}, {}, {SAMPLE, SCORE}),
    "label.function": (
        {"label.rule": "python", "label.function": "test_keys:find_a", "label.within": "all"},
        {"scores": ALL},
        {SAMPLE, SCORE},
    ),
    "label.outcomes": (
        {"label.rule": "python", "label.function": "test_keys:find_a", "label.outcomes": ["A", "B", "C"]},
        {"scores": ALL, "choices": ALL},
        {SAMPLE, SCORE},
    ),
    "scoring.layers": ({"scoring.layers": [1]}, STEERED, {SCORE}),
    "scoring.multipliers": ({"scoring.multipliers": [-1.0, 2.0]}, MORE, {SCORE}),
    "scoring.unit": ({"scoring.unit": "residual"}, VECTORS, {SCORE}),
    "scoring.dose_prompts": ({"scoring.dose_prompts": 2}, {}, {SCORE}),
    "scoring.positions": ({"scoring.positions": "all"}, STEERED, {SCORE}),
    "scoring.operation": ({"scoring.operation": "ablate"}, VECTORS, {SCORE}),  # rounding is not
    "scoring.kl": ({"scoring.kl": False}, {"scores": SOME}, {SCORE}),
    "scoring.through": ({"scoring.through": "window"}, {"scores": ALL}, {SCORE}),
    "scoring.through: the answer": ({"scoring.through": "answer"}, {"scores": ALL}, {SCORE}),
    "scoring.readings": ({"scoring.readings": True}, {"scores": SOME}, {SCORE}),
    "scoring.cue": ({"scoring.cue": "("}, {"scores": SOME}, {SCORE}),
    "controls.random_directions": ({"controls.random_directions": 2}, MORE, {VECTOR, SCORE}),
    "controls.shuffled_labels": ({"controls.shuffled_labels": 1}, MORE, {VECTOR, SCORE}),
    "controls.negated": ({"controls.negated": True}, MORE, {VECTOR, SCORE}),
    "controls.orthogonal_to": ({"controls.orthogonal_to": ["PLACE/other.safetensors"]}, MORE, {VECTOR, SCORE}),
}  # fmt: skip
NO_CHANGE = {
    "model.device": "cpu",
    "model.device_map": {"": "cpu", "model.layers.1": "disk"},
    "model.offload_folder": "offloaded",
    "run.memory_budget": 0.01,
    "run.workers": 2,
    "run.gpus_per_worker": 2,
}
"""Settings that change neither; auto is the CPU here, and other kinds of device are tried below."""
RANKS = {"model.tp_size"}
"""Settings of several processes, of which test_ranks says that keys are those of one."""
FIXED = {"run.address", "run.store"}
"""Settings that need what is not here: ``test_workers`` has a cluster, ``test_shares`` a common store."""
HUB = {"model.revision", "model.remote"}
"""Settings that local files refuse; the revision of a hub decides which weights are read, and these are hashed. What is
made on a server has a kind of device of its own, see ``test_remote``."""


def find_a(text):
    """A label function."""
    return "A" if "A" in text else None


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """A folder of inputs and copies of them, and two runs: with draws of the steered model, and without."""
    folder = tmp_path_factory.mktemp("place")
    config = make_place(folder, tokenizer)
    shutil.copytree(folder / "model", folder / "copy")
    shutil.copytree(folder / "model", folder / "chat")
    turns = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }} {% endfor %}"
    (folder / "chat" / "chat_template.jinja").write_text(turns)
    (folder / "elsewhere").mkdir()
    for file, copy in (("asked", "same"), ("pairs", "named"), ("pairs", "elsewhere/pairs")):
        shutil.copy(folder / f"{file}.jsonl", folder / f"{copy}.jsonl")
    do_stages(config, folder / "base")
    do_stages(change(config, PLAIN), folder / "plain")
    shutil.copy(folder / "base/vectors/pairs-random-0.safetensors", folder / "other.safetensors")
    rows = made.make_rows(2, width=read_vector(folder / "other.safetensors").d_model)
    (folder / "v.gguf").write_bytes(made.gguf({"direction.0": rows[0]}))
    (folder / "params.npz").write_bytes(made.npz({"W_dec": rows}))
    (folder / "mean_diffs.pt").write_bytes(made.torch_file(rows[None]))
    return folder, config


def put_place(value, folder):
    return json.loads(json.dumps(value).replace("PLACE", str(folder)))


def test_every_setting_is_in_one_list():
    # Sections that may stand several times have tests of their own.
    once = {section: values for section, values in Config().model_dump().items() if section not in REPEATED}
    settings = {f"{section}.{key}" for section, values in once.items() for key in values}
    listed = [name for name in CHANGES if ":" not in name] + [*NO_CHANGE, *FIXED, *HUB, *RANKS]
    assert sorted(listed) == sorted(settings)


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_what_hangs_on_it_and_nothing_else(place, tmp_path, name):
    folder, config = place
    changes, kinds, remade = CHANGES[name]
    base = "plain" if "sampling.top_up" in changes and changes["sampling.top_up"] == 0 else "base"
    do_stages(change(config, put_place(changes, folder)), tmp_path / "out", function=changes.get("label.function", ""))
    assert compare(folder / base, tmp_path / "out") == (kinds, remade)


RULES = {
    "regex": {"label.rule": "regex", "label.pattern": "{letter}"},
    "final_answer": {"label.rule": "final_answer", "label.within": "all", "scoring.readings": False},
    "python": {"label.rule": "python", "label.function": "test_keys:find_a", "label.within": "all"},
}


def test_labels_that_need_no_single_token_change_without_the_network(place, tmp_path):
    """From one such rule to another the same scores serve; and the source of a function is consumed."""
    _, config = place
    out = tmp_path / "out"
    do_stages(change(config, {**RULES["regex"], **PLAIN}), out)
    for name in ("final_answer", "python"):
        function = RULES[name].get("label.function", "")
        assert do_stages(change(config, {**RULES[name], **PLAIN}), out, function=function).has_worked
        assert sum_work(out)["tokens"] == 0
    hashed = [read_info(out)["stages"][stage]["consumed"]["function"] for stage in (SAMPLE, SCORE)]
    assert hashed == [hash_function(find_a)] * 2


def test_a_function_with_another_source_labels_anew(place, tmp_path, monkeypatch):
    config, out, name = change(place[1], {**RULES["python"], **PLAIN}), tmp_path / "out", "test_keys:find_a"
    do_stages(config, out, function=name)
    assert not do_stages(config, out, function=name).has_worked
    monkeypatch.setattr("completions_lp.job.ledger.hash_function", lambda function: "another")
    again = do_stages(config, out, function=name)
    assert again.has_worked
    assert read_info(out)["stages"][SAMPLE]["consumed"]["function"] == "another"
    monkeypatch.undo()
    assert not do_stages(config, out).has_worked  # whoever may not call it takes it for what it was


@pytest.mark.parametrize("name", NO_CHANGE)
def test_a_setting_that_changes_no_number_changes_nothing(place, tmp_path, name):
    folder, config = place
    do_stages(change(config, {name: NO_CHANGE[name]}), tmp_path / "out")
    assert compare(folder / "base", tmp_path / "out") == ({}, set())


def edit_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def flip_a_bit(folder):
    path = folder / "model/model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name].view(np.uint32)[3, 5] ^= 1
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})


def edit_rows(folder, edit, name="asked.jsonl"):
    rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    write(folder, edit(rows), name)


def edit_first(folder, **values):
    edit_rows(folder, lambda rows: [{**rows[0], **values}, *rows[1:]])


SWAPPED = {"answer_matching_behavior": " (B)", "answer_not_matching_behavior": " (A)"}
ROPE = {"rope_theta": 5e3, "rope_type": "default"}
MODEL = {VECTOR, SAMPLE, SCORE}
ONE = {"draws": SOME, **MORE}
INPUTS = {
    # By input: how it is changed; the kinds of units; by stage, which hashes of what it consumed are others.
    "one bit of one weight": (flip_a_bit, EVERY, {"weights": MODEL}),
    "rope_theta": (
        lambda folder: edit_json(folder / "model/config.json", rope_parameters=ROPE),
        EVERY,
        {"config": MODEL, "vectors": {SCORE}, "completions": {SCORE}},
    ),
    "the epsilon of the norms": (
        lambda folder: edit_json(folder / "model/config.json", rms_norm_eps=1e-4),
        EVERY,
        {"config": MODEL, "vectors": {SCORE}, "completions": {SCORE}},
    ),
    "what ends a text": (
        lambda folder: edit_json(folder / "model/generation_config.json", eos_token_id=[0, 7]),
        EVERY,
        {"config": MODEL},
    ),
    "the tokenizer": (
        lambda folder: (folder / "model/chat_template.jinja").write_text("{{ messages[0].content }}"),
        {"scores": ALL, "choices": ALL},
        {"tokenizer": MODEL},
    ),
    "a prompt's text": (
        lambda folder: edit_first(folder, question="Is that\n (A) x\n (B) y"),
        ONE,
        {"prompts": {SAMPLE}, "completions": {SCORE}},
    ),
    "a prompt's id": (lambda folder: edit_first(folder, id="new"), ONE, {"prompts": {SAMPLE}, "completions": {SCORE}}),
    "a prompt's matching answer": (
        lambda folder: edit_first(folder, **SWAPPED),
        {"scores": SOME, "choices": SOME},
        {"prompts": {SAMPLE}, "completions": {SCORE}},
    ),
    "a prompt's cluster": (
        lambda folder: edit_rows(folder, lambda rows: [{**row, "cluster": "one"} for row in rows]),
        {},
        {"prompts": {SAMPLE}, "completions": {SCORE}},
    ),
    "how answers are written": (
        lambda folder: edit_first(folder, answer_matching_behavior="A", answer_not_matching_behavior="B"),
        {"choices": SOME},
        {"prompts": {SAMPLE}, "completions": {SCORE}},
    ),
    "the order of the prompts": (
        lambda folder: edit_rows(folder, lambda rows: [*rows[3::-1], *rows[4:]]),
        {},
        {"prompts": {SAMPLE}, "completions": {SCORE}},
    ),
    "a contrast pair": (
        lambda folder: edit_rows(folder, lambda rows: [{**rows[0], "question": "Hm?"}, *rows[1:]], "pairs.jsonl"),
        VECTORS,
        {"pairs": {VECTOR}, "vectors": {SCORE}},
    ),
    "nothing at all": (lambda folder: None, {}, {}),
    "a time stamp": (lambda folder: (folder / "model/config.json").touch(), {}, {}),
    "a field that nothing reads": (lambda folder: edit_first(folder, note="x"), {}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_changes_what_hangs_on_it_and_nothing_else(place, tmp_path, name):
    folder, config = place
    edit, kinds, consumed = INPUTS[name]
    own = tmp_path / "own"
    shutil.copytree(folder, own, ignore=shutil.ignore_patterns("base", "plain"))
    edit(own)
    do_stages(json.loads(json.dumps(config).replace(str(folder), str(own))), tmp_path / "out")
    assert compare(folder / "base", tmp_path / "out")[0] == kinds
    found = {}
    before, after = (read_info(run)["stages"] for run in (folder / "base", tmp_path / "out"))
    for stage in before:
        for word, then in before[stage]["consumed"].items():
            if after[stage]["consumed"][word] != then:
                found.setdefault(word, set()).add(stage)
    derived = {"vectors", "completions"} - set(consumed)  # which may be what they were, and may not
    assert {word: stages for word, stages in found.items() if word not in derived} == consumed
    assert not derived & set(found) or "weights" in found or "config" in found


def test_the_bytes_of_a_vector_file_are_consumed(place, tmp_path):
    folder, config = place
    shutil.copy(folder / "other.safetensors", tmp_path / "own.safetensors")
    config = change(
        config, {"vector.path": str(tmp_path / "own.safetensors"), "controls.random_directions": 0, **PLAIN}
    )
    do_stages(config, tmp_path / "one")
    with safetensors.safe_open(tmp_path / "own.safetensors", "np") as file:
        tensors, meta = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    for direction in tensors.values():
        direction[0] = np.nextafter(direction[0], np.inf, dtype=direction.dtype)
    safetensors.numpy.save_file(tensors, tmp_path / "own.safetensors", metadata=meta)
    do_stages(config, tmp_path / "two")
    assert compare(tmp_path / "one", tmp_path / "two") == ({"scores": SOME, "choices": SOME}, {VECTOR, SCORE})


@pytest.mark.parametrize("library", ["torch", "transformers", "nnsight"])
def test_units_of_other_versions_are_others(place, tmp_path, monkeypatch, library):
    folder, config = place
    versions = keys.list_versions()
    monkeypatch.setattr(keys, "list_versions", lambda: {**versions, library: "0.0"})
    do_stages(config, tmp_path / "out")
    assert compare(folder / "base", tmp_path / "out") == (EVERY, set())


def test_units_of_another_kind_of_device_or_format_are_others(place, monkeypatch):
    model = read_info(place[0] / "base")["model"]
    here = keys.describe_network(model)
    assert here == keys.describe_network({**model, "device": "cpu:0"})
    assert here != keys.describe_network({**model, "device": "cuda:0"})
    monkeypatch.setattr(keys, "FORMAT", keys.FORMAT + 1)
    assert here != keys.describe_network(model)


def test_how_it_is_run_changes_no_key(place, tmp_path):
    """Threads, tokens to keep, the directory."""
    folder, config = place
    shutil.copytree(folder / "base", tmp_path / "moved")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert not do_stages(config, tmp_path / "moved").has_worked
    finally:
        torch.set_num_threads(threads)
    do_stages(config, tmp_path / "moved", tokens=True)
    assert compare(folder / "base", tmp_path / "moved") == ({}, {SCORE})  # whose table of tokens is another one
    assert sum_work(tmp_path / "moved", of=("choices", "score"))["tokens"] == 0


def test_keys_of_conditions_are_what_is_added_where_and_how_strongly():
    vectors = [
        SteeringVector("v", "target", {0: np.ones(4), 1: np.ones(4)}),
        SteeringVector("w", "random", {0: np.ones(4)}),
    ]
    one = Condition("v", "target", 0, 1.0, "completion")

    def key(condition, **changes):
        return keys.key_condition(replace(condition, **changes), vectors)

    assert key(one) == key(one, vector="w", kind="random")  # the name of a vector adds nothing
    assert key(one, multiplier=0.0) == key(one, multiplier=-0.0)
    assert len({key(one), key(one, layer=1), key(one, multiplier=2.0), key(one, positions="all")}) == 4
    longer = [replace(vectors[0], directions={0: np.ones(4) * (1 + 2**-50)})]
    assert keys.key_condition(one, longer) != key(one)
    model = dict.fromkeys(("weights", "config", "dtype", "tokenizer"), "x") | {"device": "cpu"}
    contexts = [keys.describe_draws(model, Sampling(), vectors, c) for c in (BASELINE, one, replace(one, vector="w"))]
    assert len({json.dumps(context) for context in contexts}) == 3  # but it names the stream of draws

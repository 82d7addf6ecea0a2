"""A vector that goes to another tool's file and back steers as before; off by one layer it does not."""

import dataclasses
import json

import numpy as np
import pytest
import reference
import safetensors
import torch
import vector_bytes as made
from conftest import make_prompts, make_vector, random_completions
from test_vector_formats import put, write

from completions_lp.job.vector_files import Asked, Told, check_fit, export_vector, prepare_export, read_file
from completions_lp.records import InputError, SteeringVector
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions

LAYER, MULTIPLIER = 1, 1.5
ROWS = made.make_rows(3)


@pytest.fixture(scope="module")
def world(build_model):
    """A model in float64, completions of it, a direction, and the log probs of the slow twin with it at one block."""
    patch = pytest.MonkeyPatch()
    softmax = torch.nn.functional.softmax

    def exact(values, dim=None, dtype=None, **options):
        return softmax(values, dim=dim, dtype=None if values.dtype == torch.float64 else dtype, **options)

    patch.setattr(torch.nn.functional, "softmax", exact)
    model = build_model("llama", dtype=torch.float64)
    completions = random_completions(make_prompts(), per_prompt=1)
    direction = make_vector(model).round().directions[LAYER]
    added = MULTIPLIER * direction
    slow = [
        reference.score(
            model.module,
            completions.prompts[completions.prompt_index[row]].token_ids,
            completions.token_ids[row, : completions.lengths[row]].tolist(),
            layer=LAYER,
            added=added,
        ).sum()
        for row in range(len(completions))
    ]
    yield model, completions, direction, np.array(slow)
    patch.undo()


def steer(world, vector):
    """Sums of log probs under the vector at the layer that the twin knows; None where it has no such layer."""
    model, completions, _, _ = world
    if LAYER not in vector.directions:
        return None
    conditions = make_conditions([vector], layers=[LAYER], multipliers=(MULTIPLIER,))
    scores = score_tokens(model, completions, [vector], conditions, progress=False)
    return np.nansum(scores.logprob[0], -1, dtype=np.float64)


def is_right(world, vector):
    """Whether the vector steers as the twin does, to 1e-9."""
    found = steer(world, vector)
    return found is not None and np.abs(found - world[3]).max() < 1e-9


EXPORTS = {
    "gguf": ("v.gguf", Told(convention="repeng")),
    "gguf, as llama.cpp": ("v.gguf", Told(convention="llama.cpp")),
    "caa": ("folder", Told(model="Llama-2-7b-hf")),
    "caa, one file": ("vec_layer_1_model.pt", Told()),
    "persona_vectors": ("v_response_avg_diff.pt", Told(n_layers=3)),
    "lm-eval": ("v.pt", Told()),
    "lm-eval, of GPT-2": ("v.pt", Told(hookpoint="transformer.h.{layer}")),
    "refusal_direction": ("folder", Told(position=-5)),
    "steering-vectors": ("v.pt", Told()),
    "own": ("v.safetensors", Told()),
}


@pytest.mark.parametrize("export", EXPORTS)
def test_what_is_exported_and_read_again_steers_the_same(world, tmp_path, export):
    out, told = EXPORTS[export]
    vector = SteeringVector("v", "target", {LAYER: world[2]})
    name = export.partition(",")[0]
    export_vector(vector, name, tmp_path / out, told, overwrite=False)
    back = read_file(tmp_path / out)
    assert list(back.directions) == [LAYER]
    np.testing.assert_array_equal(back.directions[LAYER], world[2])
    assert is_right(world, back)
    assert not is_right(world, dataclasses.replace(back, directions={LAYER: -world[2]}))  # the sign is seen
    moved = dataclasses.replace(vector, directions={LAYER + 1: world[2], LAYER: world[2][::-1]})
    if name not in ("refusal_direction",) and export != "caa, one file":
        export_vector(moved, name, tmp_path / out, told, overwrite=True)
        assert not is_right(world, read_file(tmp_path / out))


def write_gguf(folder, number, direction):
    return put(folder / "v.gguf", made.gguf({f"direction.{number}": direction}))


def write_persona(folder, row, direction):
    rows = made.make_rows(4, width=len(direction))
    rows[row] = direction
    return put(folder / "v_prompt_avg_diff.pt", made.torch_file(rows))


def write_refusal(folder, layer, direction):
    write(folder / "direction_metadata.json", json.dumps({"pos": -1, "layer": layer}))
    put(folder / "direction.pt", made.torch_file(direction))
    return folder


def write_hook(kind):
    def write_file(folder, block, direction):
        put(folder / "sae_weights.safetensors", made.safetensors({"W_dec": np.stack([direction[::-1], direction])}))
        write(folder / "cfg.json", json.dumps({"hook_name": f"blocks.{block}.hook_resid_{kind}"}))
        return folder

    return write_file


def write_bare(folder, block, direction):
    return put(folder / f"vec_layer_{block}_m.pt", made.torch_file(direction))


def write_lm_eval(folder, block, direction):
    entry = {"steering_vector": direction / 2, "steering_coefficient": 2.0, "action": "add", "bias": None}
    return put(folder / "v.pt", made.torch_file({f"layers.{block}": entry}))


COUNTINGS = {
    # How a tool calls the output of block L, in a file of its own layout.
    "repeng": (write_gguf, 0, {"convention": "repeng"}),
    "llama.cpp": (write_gguf, 1, {"convention": "llama.cpp"}),
    "persona_vectors": (write_persona, 1, {"layer": (LAYER,)}),
    "refusal_direction": (write_refusal, 1, {}),
    "resid_pre": (write_hook("pre"), 1, {"feature": 1}),
    "resid_post": (write_hook("post"), 0, {"feature": 1}),
    "caa": (write_bare, 0, {}),
    "lm-eval": (write_lm_eval, 0, {}),
}


@pytest.mark.parametrize("counting", COUNTINGS)
def test_each_counting_is_right_and_off_by_one_is_not(world, tmp_path, counting):
    write_file, shift, asked = COUNTINGS[counting]
    right = write_file(tmp_path / "right", LAYER + shift, world[2])
    assert is_right(world, read_file(right, Asked(**asked)))
    for wrong in (-1, 1):
        place = write_file(tmp_path / f"wrong{wrong}", LAYER + shift + wrong, world[2])
        try:
            vector = read_file(place, Asked(**asked))
        except InputError:  # which says that there is no such layer
            continue
        assert not is_right(world, vector)


def test_files_that_are_written_are_those_of_their_tools(tmp_path):
    vector = SteeringVector("v", "target", {0: ROWS[0], 2: ROWS[2]})
    tensors = {layer: torch.tensor(ROWS[layer], dtype=torch.float32) for layer in (0, 2)}

    def load(name):
        return torch.load(tmp_path / name, weights_only=True)

    export_vector(vector, "caa", tmp_path / "caa", Told(model="a/b"), overwrite=False)
    assert sorted(p.name for p in (tmp_path / "caa").iterdir()) == ["vec_layer_0_a_b.pt", "vec_layer_2_a_b.pt"]
    assert torch.equal(load("caa/vec_layer_2_a_b.pt"), tensors[2])
    export_vector(vector, "persona_vectors", tmp_path / "p.pt", Told(n_layers=4), overwrite=False)
    rows = load("p.pt")
    assert rows.shape == (5, 4)
    assert torch.equal(rows[1], tensors[0])
    assert torch.equal(rows[3], tensors[2])
    assert torch.isnan(rows[[0, 2, 4]]).all()  # what is not known is no zero
    export_vector(vector, "lm-eval", tmp_path / "l.pt", Told(), overwrite=False)
    entry = load("l.pt")["layers.2"]
    assert torch.equal(entry.pop("steering_vector"), tensors[2])
    assert entry == {"steering_coefficient": 1.0, "action": "add", "bias": None, "head_index": None}
    export_vector(vector, "steering-vectors", tmp_path / "s.pt", Told(), overwrite=False)
    assert load("s.pt")["layer_type"] == "decoder_block"
    assert torch.equal(load("s.pt")["layer_activations"][0], tensors[0])
    one = dataclasses.replace(vector, directions={2: ROWS[2]})
    export_vector(one, "refusal_direction", tmp_path / "r", Told(position=-2), overwrite=False)
    assert json.loads((tmp_path / "r/direction_metadata.json").read_text()) == {"pos": -2, "layer": 3}
    assert torch.equal(load("r/direction.pt"), tensors[2])
    export_vector(vector, "own", tmp_path / "o.safetensors", Told(), overwrite=False)
    with safetensors.safe_open(tmp_path / "o.safetensors", "pt") as opened:
        assert torch.equal(opened.get_tensor("layer.2"), tensors[2])


@pytest.mark.parametrize(
    ("name", "out", "told", "message"),
    [
        ("gguf", "v.gguf", {}, "a GGUF file counts layers in one of two ways, and convention has to say which"),
        ("gguf", "v.gguf", {"convention": "mine"}, "convention has to say which"),
        ("persona_vectors", "v.pt", {}, "say how many blocks it has, --n-layers 28"),
        ("persona_vectors", "v.pt", {"n_layers": 2}, "has layer 2; a model of 2 blocks has 0 to 1"),
        ("refusal_direction", "v", {}, "has layers 0, 2, and a refusal direction is of one: say which with --layer"),
        ("caa", "v.pt", {}, "has layers 0, 2, and a file of CAA is of one: name a folder"),
        ("caa", "v.safetensors", {}, "the format caa is a folder of files; name one, without an ending"),
        ("lm-eval", "v.pt", {"hookpoint": "layers.3"}, "has no {layer} for the number of the block"),
        ("svec", "v.svec", {}, "format 'svec' is not written; known are gguf, caa, persona_vectors"),
        ("own", "there.safetensors", {}, "is there already; name another file, or say --overwrite"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_written(tmp_path, name, out, told, message):
    vector = SteeringVector("v", "target", {0: ROWS[0], 2: ROWS[2]})
    put(tmp_path / "there.safetensors", b"")
    with pytest.raises(InputError) as caught:
        export_vector(vector, name, tmp_path / out, Told(**told), overwrite=False)
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there.safetensors"]


def test_a_vector_of_another_width_or_depth_is_refused(build_model, tmp_path):
    model = build_model("llama")
    with pytest.raises(InputError, match=r"has size 4, but the residual stream of llama has"):
        check_fit(SteeringVector("v", "target", {0: ROWS[0]}), model)
    wide = np.ones(model.d_model)
    with pytest.raises(InputError, match=rf"layer 9 is out of range: llama has layers 0 to {model.n_layers - 1}"):
        check_fit(SteeringVector("v", "target", {9: wide}), model)
    rows = np.ones((model.n_layers, model.d_model))  # one less than persona_vectors writes
    path = put(tmp_path / "v_prompt_avg_diff.pt", made.torch_file(rows))
    with pytest.raises(
        InputError, match=rf"with {model.n_layers - 1} blocks, and llama has {model.n_layers}: .* row more"
    ):
        check_fit(read_file(path), model)
    check_fit(read_file(put(path, made.torch_file(np.ones((model.n_layers + 1, model.d_model))))), model)


def test_an_export_takes_the_models_depth(tmp_path):
    vector = SteeringVector("v", "target", {0: ROWS[0], 2: ROWS[2]}, {}, {"model": "hub/name", "n_layers": 3})
    export_vector(vector, "own", tmp_path / "v.safetensors", Told(), overwrite=False)
    found, told = prepare_export(tmp_path / "v.safetensors", [2], None, {"n_layers": None, "convention": None})
    assert (list(found.directions), told.model, told.n_layers) == ([2], "name", None)

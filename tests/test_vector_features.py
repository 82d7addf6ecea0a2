"""Decoder rows of sparse autoencoders: the one that is asked for, from every suite's layout, at the right block."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
import vector_bytes as made
from test_vector_formats import check, put, refuse, write

from completions_lp.checkpoint.matrices import open_npz
from completions_lp.job.vector_files import Asked, read_file
from completions_lp.records import InputError

W = made.make_rows(6)
"""[feature, d_model]"""
WIDTH, COUNT = {"b_dec": np.zeros(4)}, {"b_enc": np.zeros(6)}


def test_gemma_scope(tmp_path):
    folder = tmp_path / "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"
    path = put(folder / "params.npz", made.npz({"W_dec": W, "W_enc": W.T, **WIDTH, **COUNT}))
    for place in (path, folder):
        vector = check(place, {20: W[3]}, feature=3)
    assert vector.name == "gemma-scope-3"
    assert vector.provenance["read_as"] == "feature 3 of 6, at the output of layer 20 (blocks.20.hook_resid_post)"
    check(path, {7: W[3]}, feature=3, layer=(7,))
    refuse(path, "has 6 features, and no feature is given: say which, from 0 to 5")
    refuse(path, "feature is 6", feature=6)
    cached = tmp_path / "models--google--gemma-scope-9b-it-res/snapshots/abc/layer_31/width_16k/average_l0_76"
    put(cached / "params.npz", made.npz({"W_dec": W}))
    check(cached, {31: W[0]}, feature=0)
    for site in ("gemma-scope-2b-pt-mlp", "gemma-scope-2b-pt-att", "scope"):
        path = put(tmp_path / site / "layer_20/width_16k/params.npz", made.npz({"W_dec": W}))
        refuse(path, "whose files do not say that it was trained on the residual stream between blocks; say", feature=3)


def test_numpys_own_files_and_both_orders_are_read(tmp_path):
    np.savez(tmp_path / "params.npz", W_dec=W.astype(np.float32), threshold=np.zeros(6))
    check(tmp_path / "params.npz", {0: W[5]}, feature=5, layer=(0,))
    check(put(tmp_path / "f.npz", made.npz({"W_dec": W}, fortran=True)), {0: W[5]}, feature=5, layer=(0,))
    check(put(tmp_path / "d.npz", made.npz({"W_dec": W}, dtype="<f8")), {0: W[5]}, feature=5, layer=(0,))
    refuse(put(tmp_path / "c.npz", made.npz({"W_dec": W}, compress=True)), "is compressed", feature=5, layer=(0,))
    np.savez(tmp_path / "objects.npz", W_dec=np.array([{}], dtype=object))
    refuse(tmp_path / "objects.npz", "an array of Python objects, which are never unpickled", feature=0)
    whole = (tmp_path / "params.npz").read_bytes()
    for data in (b"", whole[:50], whole[: len(whole) // 2]):
        refuse(put(tmp_path / "w.npz", data), "not a whole .npz file", feature=0)


def test_gemma_scope_2(tmp_path):
    folder = tmp_path / "resid_post/layer_12_width_16k_l0_medium"
    path = put(folder / "params.safetensors", made.safetensors({"w_dec": W, "w_enc": W.T, **WIDTH}))
    told = {"hf_hook_point_in": "model.layers.12.output", "width": 6, "model_name": "google/gemma-3-1b-pt"}
    write(folder / "config.json", json.dumps(told))
    check(folder, {12: W[1]}, feature=1)
    check(path, {12: W[1]}, feature=1)
    write(folder / "config.json", json.dumps({"hf_hook_point_in": "model.layers.12.mlp.output"}))
    refuse(path, "trained at 'model.layers.12.mlp.output', which is not the residual stream between blocks", feature=1)


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.8.hook_resid_pre", 7),
        ("blocks.8.hook_resid_post", 8),
        ("model.layers.8", 8),
        ("transformer.h.8", 8),
        ("blocks.0.hook_resid_pre", "belongs before block 0, which is the output of no block"),
        ("blocks.8.hook_resid_mid", "which is not the residual stream between blocks"),
        ("blocks.8.hook_mlp_out", "which is not the residual stream between blocks"),
        ("blocks.8.attn.hook_z", "which is not the residual stream between blocks"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_hooks_of_sae_lens(tmp_path, hook, layer, nested):
    put(tmp_path / "sae_weights.safetensors", made.safetensors({"W_dec": W, **WIDTH, **COUNT}))
    told = {"hook_name": hook, "d_in": 4, "d_sae": 6}
    write(tmp_path / "cfg.json", json.dumps({"architecture": "jumprelu", "metadata": told} if nested else told))
    if isinstance(layer, str):
        refuse(tmp_path, layer, feature=2)
    else:
        check(tmp_path, {layer: W[2]}, feature=2)


def test_matrices_the_other_way_round(tmp_path):
    transposed = {"W_dec": W.T, **WIDTH, **COUNT}
    check(put(tmp_path / "layer7.sae.pt", made.torch_file(transposed)), {7: W[4]}, feature=4)
    llama = tmp_path / "llama"
    put(llama / "final.safetensors", made.safetensors({"decoder.weight": W.T, "decoder.bias": np.zeros(4)}))
    write(llama / "hyperparams.json", json.dumps({"hook_point_out": "blocks.9.hook_resid_post"}))
    check(llama, {9: W[4]}, feature=4)
    learning = tmp_path / "learning"
    put(learning / "ae.pt", made.torch_file({"decoder.weight": W.T, "bias": np.zeros(4)}))
    write(learning / "config.json", json.dumps({"trainer": {"layer": 3, "submodule_name": "resid_post_layer_3"}}))
    check(learning, {3: W[4]}, feature=4)
    write(learning / "config.json", json.dumps({"trainer": {"layer": 5, "submodule_name": "resid_post"}}))
    check(learning, {5: W[4]}, feature=4)
    write(learning / "config.json", json.dumps({"trainer": {"layer": 5, "submodule_name": "mlp_out_layer_5"}}))
    refuse(learning, "trained at 'mlp_out_layer_5', which is not the residual stream between blocks", feature=4)
    jump = tmp_path / "jump"  # whose decoder is not transposed
    put(jump / "ae.pt", made.torch_file({"W_dec": W, "b_dec": np.zeros(4)}))
    write(jump / "config.json", json.dumps({"trainer": {"submodule_name": "resid_post_layer_6"}}))
    check(jump, {6: W[4]}, feature=4)
    goodfire = {"decoder_linear.weight": W.T, "decoder_linear.bias": np.zeros(4)}
    check(put(tmp_path / "Llama-3.1-8B-Instruct-SAE-l19.pth", made.torch_file(goodfire)), {19: W[4]}, feature=4)
    torch.save({"W_dec": torch.tensor(W.T).bfloat16()}, tmp_path / "layer1.sae.pt")
    check(tmp_path / "layer1.sae.pt", {1: torch.tensor(W[4]).bfloat16().double().numpy()}, feature=4)


def test_a_layout_that_contradicts_its_biases_is_refused(tmp_path):
    path = put(tmp_path / "layer7.sae.pt", made.torch_file({"W_dec": W, **WIDTH, **COUNT}))
    refuse(path, "b_dec has 4: it is laid out the other way round, so of another format", feature=1)
    put(tmp_path / "sae_weights.safetensors", made.safetensors({"W_dec": W.T, **WIDTH}))
    refuse(tmp_path, "of which 6 would be the width of the residual stream", feature=1, format="sae-lens")


def test_sparsify_tells_the_layer_by_its_folder(tmp_path):
    put(tmp_path / "layers.3/sae.safetensors", made.safetensors({"W_dec": W, **WIDTH}))
    check(tmp_path / "layers.3", {3: W[0]}, feature=0)
    put(tmp_path / "layers.3.mlp/sae.safetensors", made.safetensors({"W_dec": W}))
    refuse(tmp_path / "layers.3.mlp", "trained at 'layers.3.mlp', which is not the residual stream", feature=0)


def test_bfloat16_rows_are_those_that_torch_reads(tmp_path):
    put(tmp_path / "sae_weights.safetensors", made.safetensors({"W_dec": W}, dtype="BF16"))
    found = read_file(tmp_path, Asked(feature=5, layer=(0,))).directions[0]
    np.testing.assert_array_equal(found, torch.tensor(W[5]).bfloat16().double().numpy())


def test_another_key_is_named_with_what_is_there(tmp_path):
    put(tmp_path / "params.npz", made.npz({"decoder": W}))
    refuse(
        tmp_path / "params.npz",
        "has no 'W_dec', the decoder of gemma-scope; it has 'decoder' [6, 4]",
        format="gemma-scope",
    )


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_one_row_is_read_without_the_matrix(tmp_path, ending):
    """Of a decoder of 64 MB, a row takes no memory to speak of."""
    rows = np.zeros((2**14, 2**10), dtype=np.float32)
    rows[9000] = np.arange(2**10)
    write_file = {"npz": made.npz, "safetensors": made.safetensors}[ending]
    name = {"npz": "params.npz", "safetensors": "sae_weights.safetensors"}[ending]
    path = put(tmp_path / name, write_file({"W_dec": rows}))
    tracemalloc.start()
    found = read_file(path, Asked(feature=9000, layer=(0,))).directions[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, rows[9000])
    assert peak < 2**20


def test_a_header_that_claims_more_than_the_file_has_is_refused(tmp_path):
    data = made.npz({"W_dec": W})
    path = put(tmp_path / "v.npz", data.replace(b"'shape': (6, 4), ", b"'shape': (9000,4)"))
    matrices = open_npz(path)
    assert matrices["W_dec"].shape == (9000, 4)
    with pytest.raises(InputError, match="cannot be read"):
        matrices["W_dec"].read(0, 8999)

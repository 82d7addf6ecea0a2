"""A vector file is read exactly, or refused in one line; two vectors never share one file."""

import dataclasses
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from completions_lp import store
from completions_lp.records import InputError, SteeringVector
from completions_lp.store.vectors import name_file

QUALITY = {"norm": 1.0, "norm_se": None, "split_half_cosine": 0.5}


def write(path, tensors, **metadata):
    safetensors.numpy.save_file(tensors, path, metadata=metadata or None)
    return path


def claim(folder, *names):
    """A run that has vectors of these names on its list."""
    store.start_run(folder, {"config": {}, "files": [name_file(name) for name in names]})


def refuse(path, message):
    with pytest.raises(InputError) as caught:
        store.read_vector(path)
    assert message in str(caught.value), str(caught.value)
    assert str(caught.value).isprintable()


def write_raw(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floating_point_numbers_are_read_exactly(tmp_path, dtype):
    values = np.array([1.5, -0.1, 6e-5, 3e4], dtype=dtype)
    vector = store.read_vector(write(tmp_path / "v.safetensors", {"layer.2": values}))
    assert vector.directions[2].dtype == np.float64
    np.testing.assert_array_equal(vector.directions[2], values.astype(np.float64))


def test_bfloat16_is_read_as_torch_reads_it(tmp_path):
    torch = pytest.importorskip("torch")
    import safetensors.torch

    values = torch.tensor([1.5, -0.1, 1e-38, 3e38, -0.0, 7.0], dtype=torch.bfloat16)
    safetensors.torch.save_file({"layer.0": values, "layer.11": -values}, tmp_path / "v.safetensors", {"name": "b"})
    vector = store.read_vector(tmp_path / "v.safetensors")
    assert (vector.name, list(vector.directions)) == ("b", [0, 11])
    np.testing.assert_array_equal(vector.directions[0], values.double().numpy())
    np.testing.assert_array_equal(vector.directions[11], -values.double().numpy())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(3, np.complex64), "tensor 'layer.0' is of type C64; a vector is of type F64, F32, F16, BF16: convert"),
        (np.ones(3, np.int64), "is of type I64"),
        (np.ones(3, bool), "is of type BOOL"),
        (np.ones((3, 1)), "layer.0 has shape [3, 1]; a vector has one axis, d_model"),
        (np.array(1.0), "layer.0 has shape []"),
        (np.ones(0), "layer.0 has shape [0]"),
        (np.array([1.0, np.nan]), "layer.0 has values that are not finite, or too large for float32"),
        (np.array([1.0, -np.inf]), "layer.0 has values that are not finite"),
        (np.array([1.0, 1e308]), "layer.0 has values that are not finite, or too large for float32"),
        (np.zeros(3), "vector 'v' is zero in every layer, so it steers nothing"),
    ],
)
def test_other_numbers_are_refused(tmp_path, values, message):
    refuse(write(tmp_path / "v.safetensors", {"layer.0": values}), message)


@pytest.mark.parametrize(
    "key",
    [
        "weight",
        "layer.",
        "layer.-1",
        "layer.01",
        "layer.10000",
        "layer.1 ",
        "layer.\u0661",
        "layer.1\n",
        "\x1b[31mred",
        "",
    ],
)
def test_other_names_of_tensors_are_refused_and_shown_safely(tmp_path, key):
    refuse(
        write(tmp_path / "v.safetensors", {key: np.ones(3)}),
        "needs keys 'layer.0', 'layer.1', … (below 10000); it has '",
    )


def test_layers_of_different_widths_are_refused(tmp_path):
    path = write(tmp_path / "v.safetensors", {"layer.0": np.ones(3), "layer.1": np.ones(4)})
    refuse(path, "vector 'v': layers of different sizes [3, 4]")


def test_what_is_no_safetensors_file_is_refused_and_never_run(tmp_path):
    path = tmp_path / "v.safetensors"
    refuse(path, "v.safetensors: no such file")
    whole = write(path, {"layer.0": np.ones(3)}).read_bytes()
    mark = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    contents = [
        b"",
        b"hello",
        whole[:-1],
        whole[:20],
        whole + b"x",
        pickle.dumps(Bomb()),
        (2**62).to_bytes(8, "little"),
    ]
    contents += [len(deep := b"[" * 10**5).to_bytes(8, "little") + deep]
    for content in contents:
        path.write_bytes(content)
        refuse(path, "not a safetensors file of a steering vector: ")
    assert not mark.exists()
    overlap = {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("layer.0", "layer.1")}
    refuse(write_raw(path, overlap, bytes(8)), "not a safetensors file of a steering vector: ")
    huge = {"layer.0": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}
    refuse(write_raw(path, huge, bytes(8)), "not a safetensors file of a steering vector: ")
    path.unlink()
    path.mkdir()
    refuse(path, "is a folder; a file is needed")


@pytest.mark.parametrize(
    "quality",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 10**5,
        '{"0": 1}',
        '{"x": {}}',
        '{"0": {}}',
        json.dumps({"0": {**QUALITY, "more": 1.0}}),
        json.dumps({"0": {**QUALITY, "norm": "1"}}),
        json.dumps({"0": {**QUALITY, "norm": True}}),
        json.dumps({"-1": QUALITY}),
        '{"0": {"norm": ' + "1" * 5000 + "}}",
    ],
)
def test_a_malformed_quality_is_refused(tmp_path, quality):
    path = write(tmp_path / "v.safetensors", {"layer.0": np.ones(3)}, quality=quality)
    refuse(path, "its metadata have a quality that is not JSON of norm, norm_se, split_half_cosine by layer")


def test_other_metadata_are_checked(tmp_path):
    path = write(tmp_path / "v.safetensors", {"layer.0": np.ones(3)}, quality=json.dumps({"0": QUALITY}), more="x")
    vector = store.read_vector(path)
    assert (vector.quality[0].norm, math.isnan(vector.quality[0].norm_se)) == (1.0, True)
    assert (vector.name, vector.kind, dict(vector.provenance)) == ("v", "target", {"more": "x"})
    refuse(write(path, {"layer.0": np.ones(3)}, kind="baseline"), "have kind 'baseline'; known are target, negated")
    refuse(write(path, {"layer.0": np.ones(3)}, kind="\x1b[31m"), "have kind '\\x1b[31m'; known are target")
    refuse(write(path, {"layer.0": np.ones(3)}, name=""), "a steering vector needs a name")


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "a_b",
        "..",
        ".",
        "../x",
        "a\nb",
        "a\0b",
        "x" * 300,
        "\u8b39" * 90,
        "\x1b[31m",
        " ",
        "a" * 200,
        "é",
        "CON:",
    ],
)
def test_a_vector_of_any_name_has_a_file_in_the_folder(tmp_path, name):
    vector = SteeringVector(name, "target", {0: np.ones(3)})
    claim(tmp_path, name)
    path = store.write_vector(tmp_path, vector)
    assert path.parent == tmp_path / "vectors"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert len(path.name.encode()) <= 220
    assert not path.name.startswith(".")
    assert store.read_vectors(tmp_path)[0].name == name


def test_names_that_differ_have_files_that_differ(tmp_path):
    names = ["a/b", "a_b", "a\\b", "a:b", "x" * 201, "x" * 202, "..", ".._", "__"]
    vectors = [SteeringVector(name, "random", {0: np.ones(3)}) for name in names]
    vectors[0] = dataclasses.replace(vectors[0], kind="target")
    claim(tmp_path, *names)
    store.write_vectors(tmp_path, vectors)
    assert [v.name for v in store.read_vectors(tmp_path)] == ["a/b", *sorted(names[1:])]
    plain = ("a_b", "cautious-random-0", "é")
    assert tuple(map(name_file, plain)) == tuple(f"vectors/{name}.safetensors" for name in plain)
    for one, two in (("a", "a"), ("a", "A"), ("a/b", Path(name_file("a/b")).stem)):
        pair = [SteeringVector(name, "random", {0: np.ones(3)}) for name in (one, two)]
        with pytest.raises(InputError, match="would be one file: rename one"):
            store.write_vectors(tmp_path, pair)
    assert len(store.read_vectors(tmp_path)) == len(names)  # nothing was written


def test_vectors_of_a_run_that_were_changed_by_hand_are_refused(tmp_path):
    claim(tmp_path, "v", "copy")
    with pytest.raises(InputError, match="no vectors; run the vector stage first"):
        store.read_vectors(tmp_path)
    target = SteeringVector(
        "v", "target", {0: np.zeros(3), 1: np.ones(3)}
    )  # which a run may make; the user's own may not be zero
    path = store.write_vector(tmp_path, target)
    assert store.read_vectors(tmp_path)[0].name == "v"
    copy = path.with_name("copy.safetensors")
    copy.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="needs one target and no name twice, has v, v: files were added, lost"):
        store.read_vectors(tmp_path)
    copy.unlink()
    store.write_vector(tmp_path, dataclasses.replace(target, kind="random"))
    with pytest.raises(InputError, match="needs one target and no name twice, has v: files"):
        store.read_vectors(tmp_path)

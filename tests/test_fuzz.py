"""Whatever the bytes are, a reader reads them or raises InputError with one line of visible text; it writes nothing."""

import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import safetensors.numpy
from edited import TABLES, make_run, read_run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_prompts import ROW

from completions_lp import store
from completions_lp.job.config import load_config, make_config
from completions_lp.prompts import load_pairs, load_prompts
from completions_lp.records import InputError, is_plain
from completions_lp.records.base import MESSAGE


def fuzz(cases):
    """The same cases every time."""
    quiet = list(HealthCheck)
    return settings(max_examples=cases, derandomize=True, deadline=None, database=None, suppress_health_check=quiet)


BOUND = 5.0
"""Seconds that one case may take; the slowest takes a tenth of one."""

NASTY = [
    "",
    "\0",
    "\n",
    "\x1b[31m",
    "\u202e",
    "=1+1",
    "../../x",
    "\ud83d\ude00",
    "(",
    ")" * 50,
    "{",
    "{question}",
    "\\",
    "'",
]
texts = st.sampled_from(NASTY) | st.text(max_size=12) | st.text("(AB). :", max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(scalars, lambda s: st.lists(s, max_size=3) | st.dictionaries(texts, s, max_size=3), max_leaves=6)
NAMES = [*ROW, "id", "cluster", "prompt", "positive", "negative", "matching", "messages", "choices", "answer", "A", "B"]
PARTS = st.fixed_dictionaries({"role": texts, "content": texts}) | st.fixed_dictionaries(
    {"text": texts, "label": texts}
)
values |= st.lists(PARTS, max_size=3) | st.fixed_dictionaries({"prompt": values, "response": texts})
names = st.sampled_from(NAMES) | texts
rows = st.dictionaries(names, values, max_size=4).map(lambda more: {**ROW, **more}) | st.dictionaries(names, values)
edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True), st.sampled_from(["flip", "cut", "drop", "add"]), st.binary(max_size=6)
    ),
    min_size=1,
    max_size=4,
)


def mutate(data, changes):
    """Bytes with some of them flipped, left out or put in, or cut short."""
    for where, how, extra in changes:
        at = int(where * len(data))
        if how == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (1 + sum(extra) % 255)]) + data[at + 1 :]
        elif how == "drop":
            data = data[:at] + data[at + 1 + len(extra) :]
        else:
            data = data[:at] + (extra + data[at:] if how == "add" else b"")
    return data


def check(read, folder=None):
    """The one rule."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")} if folder else {}
    start = time.perf_counter()
    try:
        read()
    except InputError as error:
        told = str(error)
        assert told
        assert all(map(is_plain, told))
        assert len(told.splitlines()) == 1
        assert len(told) <= MESSAGE
    assert time.perf_counter() - start < BOUND
    if folder:
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("fuzz") / "run")


def load_both(path, tokenizer, **options):
    check(lambda: load_prompts(path, tokenizer, **options), path.parent)
    check(lambda: load_pairs(path, tokenizer, **options), path.parent)


@fuzz(300)
@given(content=st.lists(rows, min_size=1, max_size=3), kind=st.sampled_from(["json", "jsonl"]))
@example(content=[{**ROW, "question": "\n" * 5000 + "("}], kind="json")
def test_json_of_any_values(folder, tokenizer, content, kind):
    path = folder / f"x.{kind}"
    path.write_text(json.dumps(content) if kind == "json" else "\n".join(map(json.dumps, content)), encoding="utf-8")
    load_both(path, tokenizer)
    load_both(path, tokenizer, fields={"question": "prompt", "choices": "choices", "answer": "answer"})


@fuzz(300)
@given(changes=edits, kind=st.sampled_from(["json", "jsonl", "csv"]))
def test_text_files_of_damaged_bytes(folder, tokenizer, changes, kind):
    line = json.dumps({**ROW, "id": "\N{GRINNING FACE}"})
    whole = {"json": f"[{line},\n{line}]", "jsonl": f"{line}\n{line}\n"}
    whole["csv"] = ",".join(ROW) + '\n"a ""b"", c\n(A)",(A),(B)\n' * 2
    (folder / f"x.{kind}").write_bytes(mutate(whole[kind].encode(), changes))
    load_both(folder / f"x.{kind}", tokenizer)


@fuzz(150)
@given(content=st.binary(max_size=200), kind=st.sampled_from(["json", "jsonl", "csv", "tsv", "parquet"]))
@example(content=b"\xef\xbb\xbf", kind="csv")
@example(content=b"PAR1PAR1PAR1", kind="parquet")
def test_prompt_files_of_any_bytes(folder, tokenizer, content, kind):
    (folder / f"x.{kind}").write_bytes(content)
    load_both(folder / f"x.{kind}", tokenizer)


@fuzz(250)
@given(changes=edits)
def test_parquet_prompts_of_damaged_bytes(folder, tokenizer, changes):
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(
        pa.Table.from_pylist([ROW, {**ROW, "positive": {"prompt": "q"}, "choices": ["x", "y"]}]), sink
    )
    (folder / "x.parquet").write_bytes(mutate(sink.getvalue().to_pybytes(), changes))
    load_both(folder / "x.parquet", tokenizer)


@fuzz(100)
@given(template=texts | st.lists(st.sampled_from(["{question}", "{", "}", "{id!r}", "{0}", "{}", "x"])).map("".join))
def test_templates_of_any_text(folder, tokenizer, template):
    (folder / "t.jsonl").write_text(json.dumps(ROW), encoding="utf-8")
    load_both(folder / "t.jsonl", tokenizer, template=template)


@fuzz(150)
@given(source=st.text(max_size=30).filter(lambda text: "/" not in text) | st.sampled_from(["~x", "json", "a\0", "*"]))
def test_names_of_prompt_files(tokenizer, source):
    check(lambda: load_prompts(source, tokenizer))


@fuzz(200)
@given(changes=edits)
def test_configurations_of_damaged_bytes(folder, changes):
    (folder / "x.toml").write_bytes(
        mutate(b'[sampling]\nn = 5\n[prompts]\npath = "a\\n.jsonl"\nletters = ["A"]\n', changes)
    )
    check(lambda: load_config(folder / "x.toml"), folder)


KEYS = [f"{section}.{key}" for section, keys in make_config({}).model_dump().items() for key in keys]


@fuzz(300)
@given(key=st.sampled_from(KEYS) | texts, value=texts | values.map(lambda v: json.dumps(v)))
@example(key="sampling.n", value="[" * 2000)
@example(key="sampling.n", value="9" * 5000)
@example(key="model.name", value="\ud800")
def test_overrides_of_any_text(key, value):
    check(lambda: load_config(None, [f"{key}={value}"]))


@fuzz(150)
@given(made=st.dictionaries(st.sampled_from(KEYS).map(lambda k: k.partition(".")[0]) | texts, values))
def test_configurations_of_any_values(made):
    check(lambda: make_config(made))


@fuzz(250)
@given(changes=edits)
def test_vectors_of_damaged_bytes(folder, changes):
    quality = json.dumps({"0": {"norm": 1.0, "norm_se": None, "split_half_cosine": 0.5}})
    metadata = {"name": "v", "kind": "target", "quality": quality}
    tensors = {"layer.0": np.ones(4, np.float32), "layer.1": np.ones(4, np.float32)}
    (folder / "v.safetensors").write_bytes(mutate(safetensors.numpy.save(tensors, metadata), changes))
    check(lambda: store.read_vector(folder / "v.safetensors"), folder)


@fuzz(150)
@given(
    name=texts | st.integers().map(lambda i: f"layer.{i}"),
    shape=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from(["f2", "f4", "f8", "i4", "?", "c8", "u1"]),
    metadata=st.dictionaries(st.sampled_from(["name", "kind", "quality", "x"]), texts | values.map(json.dumps)),
)
def test_vectors_of_any_tensors(folder, name, shape, dtype, metadata):
    metadata = {key: text.encode(errors="replace").decode() for key, text in metadata.items()}
    safe = {name.encode(errors="replace").decode(): np.ones(shape, dtype)}
    (folder / "w.safetensors").write_bytes(safetensors.numpy.save(safe, metadata))
    check(lambda: store.read_vector(folder / "w.safetensors"), folder)


@fuzz(250)
@given(name=st.sampled_from(TABLES), changes=edits)
def test_tables_of_damaged_bytes(run, name, changes):
    path = run / f"{name}.parquet"
    whole = path.read_bytes()
    try:
        path.write_bytes(mutate(whole, changes))
        check(lambda: read_run(run), run)
    finally:
        path.write_bytes(whole)


@fuzz(200)
@given(
    changes=edits | st.just([]), made=st.dictionaries(st.sampled_from(["config", "stages", "seed", "model"]), values)
)
def test_run_json_of_damaged_bytes_and_any_values(folder, changes, made):
    text = json.dumps({"schema_version": 2, "config": {}, **made}).encode()
    (folder / "run.json").write_bytes(mutate(text, changes))
    check(lambda: make_config(store.read_info(folder)["config"]), folder)

"""Units at a URL that runs share: the same names and numbers as in a folder, whole objects or none, few requests."""

import json
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import strategies as st
from object_stores import Objects
from runs import TABLES, begin, change, do_stages, list_keys, make_place, read_info, sum_work

from completions_lp import store
from completions_lp.cli import main
from completions_lp.job.status import clean_run, measure_store
from completions_lp.records import Condition, InputError
from completions_lp.work.cover import Block, Shelf

CONTEXT = {"x": 1}


@pytest.fixture(autouse=True)
def _fresh():
    Objects.clear()


def put(place, items, conditions=("k0",)):
    values = np.full((len(items), 1), -1.0)
    grid = np.full((len(conditions), len(items), 1), -2.0)
    block = Block(items, conditions, {"logprob": values}, {"logprob": grid})
    named = [Condition("v", "target", 0, float(c)) for c in range(len(conditions))]
    table = store.tabulate_sequences(items, items, [1] * len(items), named, block.unsteered, block.steered)
    covers = {"items": list(items), "conditions": list(conditions)}
    return store.write_unit(place, "scores", CONTEXT, covers, table, spent={"tokens": 1, "passes": 1, "seconds": 0.1})


def name_units(place):
    return {name.split("/", 1)[1] for name in store.list_units(place)}


def test_the_tables_of_a_run_are_the_same_wherever_its_units_are(tmp_path, tokenizer):
    config = make_place(tmp_path, tokenizer)
    do_stages(config, tmp_path / "own")
    want = {name: (tmp_path / "own" / f"{name}.parquet").read_bytes() for name in TABLES}
    urls = {"memory": "memory://bucket/place", "objects": "objects://bucket/place"}
    urls |= {name: f"{name}://{tmp_path / name}" for name in ("file", "unmoving")} | {"path": str(tmp_path / "path")}
    for name, url in urls.items():
        shared = change(config, {"run.store": url})
        do_stages(shared, tmp_path / f"by-{name}")
        place = store.open_place(url)
        assert store.is_remote(place) == (name in ("memory", "objects", "unmoving"))
        assert name_units(place) == name_units(tmp_path / "own"), name
        assert not (tmp_path / f"by-{name}" / "units").exists()
        for table, content in want.items():
            assert (tmp_path / f"by-{name}" / f"{table}.parquet").read_bytes() == content, (name, table)
        # Another run, in a directory of its own, finds all of it.
        begun = do_stages(shared, tmp_path / f"again-{name}")
        work = sum_work(tmp_path / f"again-{name}", of=("sample", "choices", "score"))
        assert work["tokens"] == work["units_made"] == 0
        assert work["units_found"] == len(name_units(place))
        assert begun.place == place
    # In a folder there is nothing but units, named as in a run directory, and what they hold is the same.
    assert {path.suffix for path in (tmp_path / "path" / "units").rglob("*") if path.is_file()} == {".parquet"}
    assert list_keys(tmp_path / "path") == list_keys(tmp_path / "own") == list_keys(tmp_path / "file")


def test_a_run_asks_for_each_folder_once_and_for_each_unit_once(tmp_path, tokenizer):
    config = change(make_place(tmp_path, tokenizer), {"run.store": "objects://bucket/place"})
    do_stages(config, tmp_path / "one")
    made = Counter(what for what, _ in Objects.asked)
    units = [path for path in Objects.store if path.endswith(".parquet")]
    contexts = {path.rpartition("/")[0] for path in units}
    assert made["put"] == len(units) + 1 + sum(path.endswith(".index") for path in Objects.store)
    Objects.asked.clear()
    do_stages(config, tmp_path / "two")
    again = Counter(Objects.asked)
    assert {path for what, path in again if what == "list"} == contexts
    assert set(again.values()) == {1} or max(n for (_, path), n in again.items() if "txt" not in path) == 1
    assert not [path for what, path in again if what == "put"]


def test_many_units_are_found_in_a_listing_and_an_index_for_each_few_hundred(monkeypatch):
    place = store.open_place("objects://bucket/many")
    shelf = Shelf(place, "scores", CONTEXT)
    for number in range(600):
        shelf.add(put(place, [f"i{number}"]))
    Objects.asked.clear()
    assert len(store.find_units(place, "scores", CONTEXT)) == 600
    # Two full indices; the run was stopped before the last 88 units were in one, so that each is looked into.
    assert Counter(what for what, _ in Objects.asked) == {"list": 1, "get": 2 + 88}
    shelf.close()
    Objects.asked.clear()
    found = Shelf(place, "scores", CONTEXT)
    assert Counter(what for what, _ in Objects.asked) == {"list": 1, "get": 3}
    assert [unit.covers["items"] for unit, _ in found.find(["i7"])] == [["i7"]]
    assert len(Objects.asked) == 5
    for index in [path for path in Objects.store if path.endswith(".index")]:
        Objects.store[index].seek(0)
        Objects.store[index].write(b"\0" * 40)  # a copy and no more: what is damaged is read from units
    assert len(store.find_units(place, "scores", CONTEXT)) == 600


def test_an_index_cannot_lie_and_foreign_names_are_not_looked_at():
    place = store.open_place("objects://bucket/lies")
    unit = put(place, ["a"])
    folder = place / unit.name.rpartition("/")[0]
    store.write_index(place, "scores", CONTEXT, [{"items": ["b"], "conditions": ["k0"]}])
    for name in ("../../evil.parquet", "x.parquet", "A" * 32 + ".parquet", "0" * 31 + ".index", "1" * 32 + ".index"):
        place.fs.pipe_file(f"{folder.path}/{name}", b"{}")
    shelf = Shelf(place, "scores", CONTEXT)
    assert [found.name for found, _ in shelf.find(["a", "b"])] == [unit.name]
    assert list(store.list_units(place)) == [unit.name]
    renamed = folder / ("0" * 32 + ".parquet")  # of another name than what it covers
    place.fs.pipe_file(renamed.path, (place / unit.name).read_bytes())
    assert len(store.find_units(place, "scores", CONTEXT)) == 1
    named = ["units/scores/../../x", unit.name, "units/scores/" + "f" * 32 + "/" + "f" * 32 + ".parquet"]
    assert [found.name for found in store.open_units(place, "scores", named)] == [unit.name]


@pytest.mark.parametrize("said", [[], {"items": [["a"]]}, {"items": "a"}, {"conditions": []}, {"items": [], "n": 3}])
def test_what_a_unit_says_that_no_unit_covers_is_as_if_not_there(tmp_path, said):
    described = {"covers": said, "spent": {}, "columns": [["x", "int64"]]}
    table = pyarrow.table({"x": [1]}, metadata={"completions_lp": json.dumps(described)})
    name = f"units/scores/{store.hash_value(CONTEXT)}/{store.hash_value(said)}.parquet"
    (tmp_path / name).parent.mkdir(parents=True)
    pyarrow.parquet.write_table(table, tmp_path / name)
    assert len(store.find_units(tmp_path, "scores", CONTEXT)) == 0
    assert store.read_unit(tmp_path, name) is None


def test_a_unit_that_is_cut_short_is_done_again_and_one_that_is_gone_too(tmp_path, tokenizer):
    config = change(make_place(tmp_path, tokenizer), {"run.store": "objects://bucket/place"})
    do_stages(config, tmp_path / "one")
    whole = {path: file.getvalue() for path, file in Objects.store.items()}
    draws, scores = (next(p for p in whole if f"/{kind}/" in p and p.endswith("t")) for kind in ("draws", "scores"))
    Objects.store[scores].truncate(len(whole[scores]) // 2)
    del Objects.store[draws]
    do_stages(config, tmp_path / "two")
    assert sum_work(tmp_path / "two")["units_made"] == 2
    for name in TABLES:
        one, two = (tmp_path / run / f"{name}.parquet" for run in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name
    assert {path for path in Objects.store if path.endswith("t")} == {path for path in whole if path.endswith("t")}


def test_a_unit_that_cannot_be_read_is_an_error_and_not_done_again(tmp_path, tokenizer):
    config = change(make_place(tmp_path, tokenizer), {"run.store": "objects://bucket/place"})
    do_stages(config, tmp_path / "one")
    get = Objects.cat_file

    def refuse(self, path, *rest, **options):
        if path.endswith(".parquet"):
            raise OSError("Connection reset by peer")  # without a number of the system, as of s3fs
        return get(self, path, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objects, "cat_file", refuse)
        with pytest.raises(InputError, match=r"parquet: cannot be read: Connection reset by peer; once it can, the"):
            do_stages(config, tmp_path / "two")
    do_stages(config, tmp_path / "two")
    assert sum_work(tmp_path / "two", of=("sample", "choices", "score"))["tokens"] == 0


def test_nothing_in_a_store_is_ever_removed(tmp_path, tokenizer):
    config = change(make_place(tmp_path, tokenizer), {"run.store": str(tmp_path / "shared"), "sampling.top_up": 0})
    do_stages(config, tmp_path / "other")
    do_stages(change(config, {"sampling.seed": 5}), tmp_path / "mine")
    before = set(store.list_units(tmp_path / "shared"))
    assert clean_run(tmp_path / "mine") == (0, 0)
    begin(config, tmp_path / "mine", fresh=True).sample()
    assert set(store.list_units(tmp_path / "shared")) == before
    assert read_info(tmp_path / "mine")["work"]["sample"]["units_found"] == 1
    where, count, size = measure_store(tmp_path / "mine")
    assert (where, count) == (str(tmp_path / "shared"), len(before))
    assert size == sum((tmp_path / "shared" / name).stat().st_size for name in before)
    assert measure_store(tmp_path / "other") == (where, count, size)


def test_two_writers_of_a_unit_leave_one_and_a_tidying_run_does_no_harm(tmp_path, monkeypatch):
    for place in (tmp_path, store.open_place("objects://bucket/two")):
        assert put(place, ["a"]).name == put(place, ["a"]).name
        assert len(store.list_units(place)) == 1
    replace, tidied = store.files.os.replace, []

    def tidy(partial, path):
        if not tidied:
            tidied.append(partial)
            partial.unlink()  # as a run does that begins to hold the directory
        replace(partial, path)

    monkeypatch.setattr(store.files.os, "replace", tidy)
    assert put(tmp_path, ["b"]).read() is not None
    assert len(tidied) == 1


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nope://place", r"the store nope://place has a protocol or options that fsspec does not know: .*; give "),
        ("s3://bucket/x", r"the store s3://bucket/x needs a package .*: .*s3fs.*pip install \"completions-lp\[s3\]\""),
        ("gs://me:word@x", r"the store gs://x needs a package .*: .*gcsfs.*pip install \"completions-lp\[gcs\]\""),
        ("/proc/none", r"/proc/none: cannot be made"),
    ],
)
def test_a_store_that_cannot_be_is_refused_in_one_line_before_the_model(tmp_path, url, told, capsys):
    for module in ("s3fs", "gcsfs"):
        if module in url.replace("gs:", "gcsfs").replace("s3:", "s3fs"):
            try:
                __import__(module)
            except ImportError:
                continue
            pytest.skip(f"{module} is installed")
    assert main(["run", "--out", str(tmp_path / "run"), "--store", url]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    with pytest.raises(InputError, match=told):
        raise InputError(said)
    assert not (tmp_path / "run").exists()


def test_a_refusal_imports_no_torch(tmp_path):
    code = "import sys; from completions_lp.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    words = ["run", "--out", str(tmp_path / "run"), "--store", "nope://x"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_credentials_that_are_missing_are_told_whatever_the_package_raises(monkeypatch):
    place = store.open_place("objects://bucket/place")
    module = types.ModuleType("botocore.exceptions")
    module.BotoCoreError = type("BotoCoreError", (Exception,), {})
    monkeypatch.setitem(sys.modules, "botocore.exceptions", module)
    for error in (module.BotoCoreError("Unable to locate credentials"), PermissionError(13, "Forbidden")):
        Objects.failing["get"] = error
        with pytest.raises(InputError, match=r"completions_lp.txt: cannot be read: (Unable to locate|Forbidden)"):
            store.check_place(place)
    Objects.failing.clear()
    Objects.failing["put"] = PermissionError(13, "Access Denied")
    with pytest.raises(InputError, match=r"completions_lp.txt: cannot be written: Access Denied"):
        store.check_place(place)
    Objects.failing["put"] = FileNotFoundError("bucket")
    with pytest.raises(InputError, match="cannot be written: there is no such bucket"):
        store.check_place(place)
    Objects.failing.clear()
    store.check_place(place)
    Objects.asked.clear()
    store.check_place(place)  # which writes nothing that is there
    assert [what for what, _ in Objects.asked] == ["get"]


def test_a_store_of_a_configuration_file_is_relative_to_it_and_remembered(tmp_path, monkeypatch):
    from completions_lp.job.config import load_config

    path = tmp_path / "c.toml"
    for given, want in (
        ('"shared"', str(tmp_path / "shared")),
        ('"s3://b/x"', "s3://b/x"),
        (f'"{tmp_path}/y"', f"{tmp_path}/y"),
        ('"~/z"', str(Path("~/z").expanduser())),
    ):
        path.write_text(f"[run]\nstore = {given}\n")
        assert load_config(path).run.store == want
    assert store.open_place(f"file://{tmp_path}/y") == store.open_place(f"{tmp_path}/y") == tmp_path / "y"


covers = st.tuples(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True), st.lists(st.sampled_from(["k0", "k1"]), min_size=1)
)


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
@hypothesis.given(st.lists(covers, max_size=8), st.lists(st.sampled_from("abcdefgh"), unique=True), st.integers(1, 9))
def test_a_catalogue_finds_what_a_list_does(units, items, latest):
    catalogue = store.Catalogue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("completions_lp.store.catalogue.LATEST", latest)
        for number, (some, conditions) in enumerate(units):
            catalogue.add(f"u{number}", {"items": some, "conditions": conditions})
    found = catalogue.find(items, lambda rest: "k1" in rest["conditions"])
    want = [f"u{n}" for n, (some, named) in enumerate(units) if "k1" in named and not {*some}.isdisjoint(items)]
    assert found == want
    assert len(catalogue) == len(units)
    told = [({*said["items"]}, said["conditions"]) for said in catalogue.list_covered(items)]
    assert told == [({*some} & {*items}, named) for some, named in units if not {*some}.isdisjoint(items)]

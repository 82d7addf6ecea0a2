import itertools
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from conftest import make_module
from crashes import WORDS, Forks
from test_prompts import ROW, write

from completions_lp.store.directory import STAGES

FULL = os.environ.get("FULL") == "1"
UNIT = 200
"""Size of the units: several of each kind."""
KINDS = [("error", "ENOSPC"), ("error", "EIO"), ("torn", "ENOSPC"), ("torn", "EIO")]


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """The process that forks runs."""
    started = Forks(tmp_path_factory.mktemp("children"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def config(tmp_path_factory, tokenizer):
    """A configuration of a run with every kind of table and unit."""
    folder = tmp_path_factory.mktemp("asked")
    make_module("llama", num_hidden_layers=2).save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")
    rows = [{**ROW, "question": f"{word}?\n (A) x\n (B) y"} for word in ("Is it", "Or", "What now", "So")]
    write(folder, rows)
    write(folder, [{**row, "question": f"{row['question']}!"} for row in rows], "pairs.jsonl")
    path = folder / "config.toml"
    path.write_text(
        f'''
        [model]
        name = "{folder / "tiny"}"
        [prompts]
        path = "asked.jsonl"
        [vector]
        pairs = "pairs.jsonl"
        [sampling]
        n = 20
        max_new_tokens = 3
        top_up = 10
        [scoring]
        layers = [1]
        multipliers = [-1, 1]
        [label]
        rule = "substring"
        [controls]
        random_directions = 1
        '''
    )
    return path


@pytest.fixture(scope="module")
def go(forks, config):
    """A function that starts the run in a directory, with a fault."""

    def start(out, *more, **options):
        return forks.start("run", config, "--out", out, "--quiet", "--tokens", *more, unit=UNIT, **options)

    return start


@pytest.fixture(scope="module")
def undisturbed(go, tmp_path_factory):
    """The directory of a run without faults, and what it did to the disk."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = go(out).wait()
    assert (done.code, done.err) == (0, "")
    units = [path.parts[-3] for path in out.rglob("units/*/*/*.parquet")]
    assert min(units.count("draws"), units.count("scores")) > 5  # four draws are of the top-up
    assert {"choices", "draws", "scores"} == {*units}
    assert "steered.parquet" in read_tables(out)
    return out, done.events


def read_tables(out):
    """The bytes of the final tables of a run directory, by name."""
    paths = [*out.glob("*.parquet"), *out.glob("*.csv"), *out.glob("vectors/*.safetensors"), *out.glob("report.md")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def list_others(out):
    """Whatever else is there, but for the two files in which times stand."""
    tables = {*read_tables(out), "run.json", "report.html"}
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if str(path.relative_to(out)) not in tables)


def assert_nothing_is_wrong(out, undisturbed, *, partial=False):
    """What a stopped run has left: tables are as they will be, or not there; nothing is half there."""
    expected = read_tables(undisturbed[0])
    for name, data in read_tables(out).items():
        assert data == expected[name], name
    if (out / "run.json").exists():
        json.loads((out / "run.json").read_text())
    assert partial or not list(out.rglob("*.partial"))


def assert_as_undisturbed(out, undisturbed):
    """Every table is the same to the last byte, nothing was counted twice, nothing else is left."""
    assert_nothing_is_wrong(out, undisturbed)
    assert read_tables(out).keys() == read_tables(undisturbed[0]).keys()
    assert list_others(out) == list_others(undisturbed[0])
    now, then = (json.loads((folder / "run.json").read_text()) for folder in (out, undisturbed[0]))
    assert now["stages"] == then["stages"]
    assert now["token_counts"] == then["token_counts"]
    assert now["files"] == then["files"]


def assert_refused(done, *words):
    """It ended with one line, and the code of an input error."""
    assert done.code == 2, done.err
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("completions-lp: ")
    for word in words:
        assert word in lines[0]


def sample(n, size, *, seed=0, full=10**9):
    """Numbers from 1 to n, ``size`` or in FULL ``full`` of them, spread over all; always the first and the last."""
    size = full if FULL else size
    if n <= size:
        return range(1, n + 1)
    edges = np.linspace(1, n + 1, size - 1).astype(int)
    rng = np.random.default_rng(seed)
    inner = [int(rng.integers(low, high)) for low, high in itertools.pairwise(edges)]
    return sorted({1, *inner, n})


def list_kinds(name):
    """How a call fails: with which error, half done or not at all, once or from then on."""
    return [(do, word, lasting) for lasting in (False, True) for do, word in KINDS if name == "write" or do != "torn"]


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(go, tmp_path, undisturbed):
    rng = np.random.default_rng(0)
    killed = chain = 0
    while killed < (80 if FULL else 10):
        out, here = tmp_path / f"out-{chain}", 0
        while True:
            if chain % 2:
                child = go(out)
                time.sleep(rng.uniform(0.02, 0.7))
                if here < 8:
                    child.signal(signal.SIGKILL)
            else:
                child = go(out, do="kill", at=int(rng.integers(1, 500)) if here < 8 else 0, late=bool(here % 2))
            child.wait()
            if child.code == 0:
                break
            assert (child.code, child.err) == (137, "")
            killed, here = killed + 1, here + 1
            assert_nothing_is_wrong(out, undisturbed, partial=True)
        assert_as_undisturbed(out, undisturbed)
        shutil.rmtree(out)
        chain += 1


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_whichever_event_it_is_killed_at(go, tmp_path, undisturbed, late):
    """Before or after each; in the middle of a write."""
    names = undisturbed[1]
    moments = [k for k in range(1, len(names) + 1) if names[k - 1] != "write" or names[k - 2] != "write"]
    for k in sample(len(moments), 4, seed=int(late)):
        out = tmp_path / "out"
        assert go(out, do="kill", at=moments[k - 1], late=late).wait().code == 137
        assert_nothing_is_wrong(out, undisturbed, partial=True)
        assert go(out).wait().code == 0
        assert_as_undisturbed(out, undisturbed)
        shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["write", "fsync", "replace", "open", "mkdir", "chmod"])
def test_whichever_call_fails_it_says_so_in_one_line_and_goes_on(go, tmp_path, undisturbed, name):
    """A full disk, an I/O error, a write of which half gets through; once, or from then on."""
    kinds = list_kinds(name)
    for i, k in enumerate(sample(undisturbed[1].count(name), 5 if name == "write" else 3)):
        do, word, lasting = kinds[i % len(kinds)]
        out = tmp_path / "out"
        done = go(out, do=do, word=word, lasting=lasting, of=[name], at=k).wait()
        assert_refused(done, "cannot be", os.strerror(WORDS[word]))
        if out.exists():
            assert_nothing_is_wrong(out, undisturbed)
        assert go(out).wait().code == 0
        assert_as_undisturbed(out, undisturbed)
        shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_killed_while_it_replaces_the_tables_of_another_run(go, tmp_path, undisturbed, more):
    """Other draws, another vector: whichever moment, the run that goes on has nothing of the old one."""
    old, out = tmp_path / "old", tmp_path / "out"
    done = go(old, "--set", "sampling.seed=5", "--set", "scoring.multipliers=[2]").wait()
    assert done.code == 0
    assert read_tables(old)["summary.csv"] != read_tables(undisturbed[0])["summary.csv"]
    shutil.copytree(old, out)
    names = go(out, *more).wait().events
    moments = [k for k in range(1, len(names) + 1) if names[k - 1] != "write" or names[k - 2] != "write"]
    for k in sample(len(moments), 3, full=100):
        shutil.rmtree(out)
        shutil.copytree(old, out)
        assert go(out, *more, do="kill", at=moments[k - 1], late=bool(k % 2)).wait().code == 137
        for name, data in read_tables(out).items():
            assert data in (read_tables(old).get(name), read_tables(undisturbed[0]).get(name))
        assert go(out).wait().code == 0
        assert read_tables(out) == read_tables(undisturbed[0])


@pytest.mark.slow
def test_what_cannot_be_removed_is_told_in_one_line(go, tmp_path, undisturbed):
    old = tmp_path / "old"
    assert go(old, "--set", "sampling.seed=5").wait().code == 0
    shutil.copytree(old, tmp_path / "counted")
    for i, name in enumerate(("unlink", "rmdir")):
        count = go(tmp_path / "counted", "--overwrite", of=[name]).wait().events.count(name)
        assert count > 2
        for k in sample(count, 2):
            out = tmp_path / "out"
            shutil.copytree(old, out)
            done = go(out, "--overwrite", do="error", word="EIO", lasting=bool((i + k) % 2), of=[name], at=k).wait()
            assert_refused(done, "cannot be removed", "Input/output error")
            assert go(out).wait().code == 0
            assert read_tables(out) == read_tables(undisturbed[0])
            shutil.rmtree(out)


def test_a_second_process_is_refused_while_the_first_works(go, tmp_path, undisturbed):
    out = tmp_path / "out"
    first = go(out, do="pause", at=900)
    first.wait_for("paused")
    before = list_others(out)
    assert_refused(go(out).wait(), "another process is at work there")
    assert_refused(go(out, "--overwrite").wait(), "another process is at work there")
    assert list_others(out) == before
    (first.place / "go").touch()
    assert (first.wait().code, first.err) == (0, "")
    assert_as_undisturbed(out, undisturbed)


@pytest.mark.parametrize("at", [40, 900])
def test_the_lock_of_a_dead_process_stops_nobody(go, tmp_path, undisturbed, at):
    out = tmp_path / "out"
    first = go(out, do="pause", at=at)
    first.wait_for("paused")
    first.signal(signal.SIGKILL)
    assert first.wait().code == 137
    assert (out / ".lock").exists()
    assert go(out).wait().code == 0
    assert_as_undisturbed(out, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("of", ["layer", "write", "replace"])
def test_a_signal_ends_it_cleanly(go, config, tmp_path, undisturbed, number, code, of):
    counted = go(tmp_path / "counted", of=[of]).wait().events if of == "layer" else undisturbed[1]
    for k in sample(counted.count(of), 3, seed=number, full=60)[1:-1]:
        out = tmp_path / "out"
        start = time.perf_counter()
        done = go(out, do="signal", number=int(number), of=[of], at=k, whole=of == "layer").wait(20)
        assert time.perf_counter() - start < 10
        assert_stopped(done, code, out, config)
        if out.exists():
            assert_nothing_is_wrong(out, undisturbed, partial=True)
        assert go(out).wait().code == 0
        assert_as_undisturbed(out, undisturbed)
        shutil.rmtree(out)


def assert_stopped(done, code, out, config):
    """It says what is kept and how to go on, in one line."""
    assert done.code == code, done.err
    lines = [line for line in done.err.splitlines() if line]
    assert len(lines) == 1, done.err
    kept = len(list(out.rglob("units/*/*/*.parquet")))
    command = f"completions-lp run {config} --out {out} --quiet --tokens"
    there = f"; {kept} finished units are kept" if kept else ""
    assert lines[0] == f"completions-lp: stopped{there}; go on with: {command}"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_at_any_time_and_twice(go, config, tmp_path, undisturbed, number):
    rng = np.random.default_rng(int(number))
    for i in range(40 if FULL else 2):
        out = tmp_path / f"out-{i}"
        child = go(out, whole=True)
        time.sleep(rng.uniform(0.15, 0.6))
        child.signal(number)
        if i % 2:
            time.sleep(rng.uniform(0, 0.02))
            child.signal(number)
        child.wait(20)
        if not (child.place / "modules").exists():  # it was still at work
            assert_stopped(child, 128 + number, out, config)
        assert go(out).wait().code == 0
        assert_as_undisturbed(out, undisturbed)


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "removed", "replaced"])
def test_a_damaged_unit_is_done_again(go, tmp_path, undisturbed, how):
    out = tmp_path / "out"
    shutil.copytree(undisturbed[0], out)
    for path in (*out.glob("*.parquet"), out / "run.json"):  # all that is left are units
        path.unlink()
    shutil.copy(undisturbed[0] / "run.json", out)
    units = {path.parts[-3]: path for path in sorted(out.rglob("units/*/*/*.parquet"))}
    other = max(out.rglob("units/scores/*/*.parquet")).read_bytes()
    for path in units.values():
        data = bytearray(path.read_bytes())
        damage(path, data, how, other)
    done = go(out).wait()
    assert (done.code, done.err.count("Traceback")) == (0, 0)
    assert_as_undisturbed(out, undisturbed)


def damage(path, data, how, other):
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        for i in range(100, 140):
            data[i] ^= 0xFF
        path.write_bytes(data)
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "removed":
        path.unlink()
    else:
        path.write_bytes(other)


def test_a_finished_run_started_again_reads_alone(go, tmp_path, undisturbed, config):
    out = tmp_path / "out"
    assert go(out).wait().code == 0
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}
    done = go(out, of=["layer", "load", "write", "fsync", "replace", "unlink", "chmod"], do="error", at=1).wait()
    assert (done.code, done.err, done.events) == (0, "", [])
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.name != ".lock"} == {
        path: data for path, data in before.items() if path.name != ".lock"
    }
    assert "nothing was left to do" in done.out


@pytest.mark.parametrize("begun", [0, 900])
def test_a_directory_that_is_read_only(go, tmp_path, undisturbed, begun):
    out = tmp_path / "out"
    if begun:
        assert go(out, do="kill", at=begun).wait().code == 137
    of = ["write", "replace", "open", "mkdir", "chmod", "unlink", "rmdir"]
    before = list_others(out)
    assert_refused(go(out, do="error", word="EROFS", of=of, at=1, lasting=True).wait(), "cannot be", "Read-only")
    assert list_others(out) == before
    assert go(out).wait().code == 0
    assert_as_undisturbed(out, undisturbed)


@pytest.mark.parametrize("at", [10, 60, 1900])
def test_a_directory_that_was_removed_while_it_ran(go, tmp_path, undisturbed, at):
    out = tmp_path / "out"
    first = go(out, do="pause", at=at)
    first.wait_for("paused")
    shutil.rmtree(out)
    (first.place / "go").touch()
    assert_refused(first.wait(), str(out))
    assert go(out).wait().code == 0
    assert_as_undisturbed(out, undisturbed)


COMMANDS = {
    # What later commands are given after the run directory.
    "report": [],
    "clean": [],
    "figures": ["--only", "prompts"],
    "plan": ["--validate", "--draws", "2", "--quiet"],
}


@pytest.fixture(scope="module")
def whole(go, tmp_path_factory):
    """A whole run that holds units in no table."""
    out = tmp_path_factory.mktemp("whole") / "out"
    for more in ([], ["--set", "sampling.n=24"], []):
        assert go(out, *more).wait().code == 0
    return out


@pytest.fixture(scope="module")
def ask(forks):
    """A function that starts a later command on a run directory, with a fault."""

    def start(command, out, **options):
        return forks.start(command, out, *COMMANDS[command], unit=UNIT, **options).wait()

    return start


@pytest.fixture(scope="module")
def after(ask, whole, tmp_path_factory):
    """By command, what the run directory holds when it has been done without faults, and what it did to the disk."""
    found = {}
    for command in COMMANDS:
        out = tmp_path_factory.mktemp(command) / "out"
        shutil.copytree(whole, out)
        done = ask(command, out)
        assert (done.code, done.err) == (0, "")
        found[command] = read_all(out), done.events
        assert found[command][0] != read_all(whole) or command == "report"  # which is there already
    return found


def read_all(out):
    """The bytes of every file but those in which times stand."""
    paths = [path for path in out.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock")]
    files = {str(path.relative_to(out)): path.read_bytes() for path in paths}
    if "report.html" in files:
        files["report.html"] = b""  # which shows times
    return files


def assert_before_or_after(out, before, end, *, partial=False):
    """Every file is as it was, or as it will be, or not there, and no other is there."""
    now = read_all(out)
    if partial:
        now = {name: data for name, data in now.items() if not name.endswith(".partial")}
    assert now.keys() <= {*before, *end}
    for name, data in now.items():
        assert data in (before.get(name), end.get(name)), name
    assert {*before} & {*end} - {*STAGES["report"]} <= now.keys()  # which that stage writes anew
    json.loads((out / "run.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_later_command_whose_disk_fails_says_so_and_is_done_again(ask, whole, after, tmp_path, command):
    end, events = after[command]
    before, i = read_all(whole), 0
    for name in ("write", "fsync", "replace", "open", "mkdir", "unlink", "rmdir"):
        kinds = [
            (do, word, lasting) for lasting in (False, True) for do, word in KINDS if name == "write" or do != "torn"
        ]
        for k in sample(events.count(name), 2):
            (do, word, lasting), i, out = kinds[i % len(kinds)], i + 1, tmp_path / "out"
            shutil.copytree(whole, out)
            done = ask(command, out, do=do, word=word, lasting=lasting, of=[name], at=k)
            assert_refused(done, "cannot be", os.strerror(WORDS[word]))
            assert_before_or_after(out, before, end)
            assert ask(command, out).code == 0
            assert read_all(out) == end
            shutil.rmtree(out)
    assert i > 2


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_later_command_that_is_killed_is_done_again(ask, whole, after, tmp_path, command):
    end, names = after[command]
    before = read_all(whole)
    moments = [k for k in range(1, len(names) + 1) if names[k - 1] != "write" or names[k - 2] != "write"]
    for k in sample(len(moments), 4):
        out = tmp_path / "out"
        shutil.copytree(whole, out)
        assert ask(command, out, do="kill", at=moments[k - 1], late=bool(k % 2)).code == 137
        assert_before_or_after(out, before, end, partial=True)
        assert ask(command, out).code == 0
        assert read_all(out) == end
        shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", *COMMANDS])
def test_what_cannot_be_read_is_told_in_one_line_and_nothing_is_done(go, ask, config, whole, after, tmp_path, command):
    """The disk fails as a table, a unit, ``run.json``, the prompts or the weights are read."""

    def start(out, **options):
        options |= {"of": ["read", "layer"], "places": [out, config.parent]}
        return go(out, "--overwrite", **options).wait() if command == "run" else ask(command, out, **options)

    before, counted, out = read_all(whole), tmp_path / "counted", tmp_path / "out"
    shutil.copytree(whole, counted)
    events = start(counted).events
    reads = [k for k, name in enumerate(events, 1) if name == "read" and "layer" not in events[:k]]
    assert len(reads) > 3 or command == "clean"
    for i, k in enumerate(sample(len(reads), 5)):
        shutil.copytree(whole, out)
        done = start(out, do="error", word="EIO", at=reads[k - 1], lasting=bool(i % 2))
        assert_refused(done, "cannot be read", "Input/output error")
        assert "layer" not in done.events
        assert not list(out.rglob("*.partial"))
        if command in COMMANDS:
            assert_before_or_after(out, before, after[command][0])
            assert ask(command, out).code == 0
            assert read_all(out) == after[command][0]
        shutil.rmtree(out)


@pytest.mark.parametrize("lasting", [False, True])
def test_a_unit_that_the_system_cannot_read_is_told_and_not_done_again(go, undisturbed, tmp_path, lasting):
    """It may be whole; a damaged one is another matter."""
    out = tmp_path / "out"
    shutil.copytree(undisturbed[0], out)
    (out / "scores.parquet").unlink()
    of, places = ["read", "layer"], [out / "units"]
    reads = go(out, of=of, places=places).wait().events
    assert "layer" not in reads
    for k in sample(len(reads), 3):
        shutil.rmtree(out)
        shutil.copytree(undisturbed[0], out)
        (out / "scores.parquet").unlink()
        done = go(out, of=of, places=places, do="error", word="EIO", at=k, lasting=lasting).wait()
        assert_refused(done, f"{out / 'units'}/", "cannot be read: Input/output error; once it can, the same command")
        assert "layer" not in done.events
        assert go(out).wait().code == 0
        assert_as_undisturbed(out, undisturbed)

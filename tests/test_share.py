"""Shares of a run on machines of their own, and a run as a job array: what they make is what the run finds."""

import json
import os
import re
import shlex
import stat
import sys

import click
import numpy as np
import pyarrow.parquet
import pytest
from object_stores import Objects
from prose import ROOT
from runs import TABLES, begin, change, make_place, read_info, sum_work

from completions_lp import store
from completions_lp.cli import main
from completions_lp.cli.shares import _read_time, submit
from completions_lp.job.config import make_config
from completions_lp.job.ledger import Options
from completions_lp.job.share import Share, work_share
from completions_lp.job.submission import Command, Resources, submit_run
from completions_lp.records import InputError

QUIET = Options(progress=False)


@pytest.fixture
def place(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr("completions_lp.work.batches.UNIT", 40)  # prompts of their own, in spite of so little work
    Objects.clear()
    return make_place(tmp_path, tokenizer)


def read(folder, name):
    return pyarrow.parquet.read_table(folder / f"{name}.parquet")


def same(one, two, *, but=0.0):
    """Whether two runs have the same tables, numbers but for rounding."""
    for name in TABLES:
        left, right = read(one, name), read(two, name)
        assert left.schema == right.schema, name
        for column in left.column_names:
            a, b = (table[column] for table in (left, right))
            if pyarrow.types.is_floating(a.type):
                np.testing.assert_allclose(a.to_numpy(), b.to_numpy(), atol=but, rtol=0, err_msg=f"{name} {column}")
            elif not pyarrow.types.is_list(a.type):
                assert a.equals(b), (name, column)


@pytest.mark.parametrize("url", [None, "objects://bucket/place"])
def test_the_run_finds_what_its_shares_have_done_and_does_nothing_itself(place, tmp_path, url):
    config = change(place, {"run.store": url})
    begin(config, tmp_path / "alone").all()
    Objects.clear()
    begin(config, tmp_path / "shared").vector()
    made = [work_share(make_config(config), tmp_path / "shared", f"{k}/3", options=QUIET) for k in range(3)]
    assert min(made) >= 3  # draws, the read-out and scores
    before = {path.name: path.read_bytes() for path in (tmp_path / "shared").iterdir() if path.is_file()}
    assert set(before) <= {"run.json", ".lock"}  # no table is made by a share, and nothing is entered
    begin(config, tmp_path / "shared").all()
    work = sum_work(tmp_path / "shared", of=("sample", "choices", "score"))
    assert work["units_made"] == work["passes"] == 0
    same(tmp_path / "alone", tmp_path / "shared", but=1e-5)
    # Shares that come late, or once more, do nothing.
    assert [work_share(make_config(config), tmp_path / "shared", f"{k}/2", options=QUIET) for k in range(2)] == [0, 0]


def test_how_many_shares_there_are_changes_no_number(place, tmp_path):
    for count in (1, 4):
        folder = tmp_path / f"by-{count}"
        begin(place, folder).vector()
        for k in reversed(range(count)):
            work_share(make_config(place), folder, f"{k}/{count}", options=QUIET)
        begin(place, folder).all()
    same(tmp_path / "by-1", tmp_path / "by-4")
    assert list(store.list_units(tmp_path / "by-1")) == list(store.list_units(tmp_path / "by-4"))


def test_a_share_that_died_is_done_by_the_run(place, tmp_path):
    begin(place, tmp_path / "shared").vector()
    work_share(make_config(place), tmp_path / "shared", "0/2", options=QUIET)
    some = len(store.list_units(tmp_path / "shared"))
    begin(place, tmp_path / "shared").all()
    work = sum_work(tmp_path / "shared", of=("sample", "choices", "score"))
    assert work["units_found"] >= some > 0
    assert work["units_made"] > 0


def test_shares_are_every_prompt_once_together_where_there_are_many(place, tmp_path, monkeypatch):
    begin(place, tmp_path / "shared").vector()
    for few in (1, 3):
        config = make_config(change(place, {"prompts.limit": 6}))
        shares = [Share(config, tmp_path / "shared", k, few, options=QUIET) for k in range(few)]
        groups = [group for share in shares for group in share.split()[share._number :: few]]
        assert sorted(p.id for group in groups for p in group) == sorted(p.id for p in shares[0].prompts)
    monkeypatch.setattr("completions_lp.work.batches.UNIT", 2)
    many = Share(config, tmp_path / "shared", 0, 1, options=QUIET)
    many.__dict__["prompts"] = shares[0].prompts * 200
    assert min(len(group) for group in many.split()[:-1]) >= 8


def test_a_share_needs_vectors_and_a_part(place, tmp_path):
    config = make_config(place)
    begin(place, tmp_path / "shared").sample()
    with pytest.raises(InputError, match=r"needs the vectors .*it has not been made; run `completions-lp vec"):
        work_share(config, tmp_path / "shared", "0/2", options=QUIET)
    for part in ("2/2", "x", "1", "-1/2", "0/0", "²/3"):
        with pytest.raises(InputError, match="part"):
            work_share(config, tmp_path / "shared", part, options=QUIET)


def test_a_share_holds_a_few_prompts_at_a_time(place, tmp_path, monkeypatch):
    begin(place, tmp_path / "shared").vector()
    share, held = Share(make_config(place), tmp_path / "shared", 0, 1, options=QUIET), []
    monkeypatch.setattr(Share, "split", lambda self: [[prompt] for prompt in self.prompts])
    draw = Share._draw

    def watch(self, prompts, *rest, **options):
        held.append(len(prompts))
        return draw(self, prompts, *rest, **options)

    monkeypatch.setattr(Share, "_draw", watch)
    share.work()
    assert set(held) == {1}
    assert share.units.used == {}


def test_a_run_as_local_jobs(place, tmp_path, capsys, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = tmp_path / "my.toml"
    lines = [f"{name}.{key} = {json.dumps(value)}\n" for name, keys in place.items() for key, value in keys.items()]
    config.write_text("".join(lines))
    words = ["submit", str(config), "--out", str(tmp_path / "run"), "--jobs", "2", "--executor", "local"]
    assert main([*words, "--store", str(tmp_path / "units")]) == 0
    said = capsys.readouterr().out
    assert f"watch it with: completions-lp status {tmp_path / 'run'}; logs are in {tmp_path / 'run'}-jobs" in said
    assert (tmp_path / "run" / "report.html").is_file()
    info = read_info(tmp_path / "run")
    assert info["config"]["run"]["store"] == str(tmp_path / "units")
    assert all(info["work"][stage]["units_made"] == 0 for stage in ("sample", "choices", "score"))
    assert not (tmp_path / "run" / "units").exists()
    config.write_text(config.read_text().replace("asked.jsonl", "none.jsonl"))
    assert main(words) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err


def test_a_first_job_that_fails_is_told(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    logs = tmp_path / "logs"
    with pytest.raises(InputError, match=r"the vector job has failed; its log is .*logs.*err"):
        submit_run(tmp_path / "run", [], tmp_path / "none.toml", 1, Resources(minutes=2), executor="local", logs=logs)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm that takes every job: what sbatch was given is kept."""
    pytest.importorskip("submitit")
    (tmp_path / "bin").mkdir()
    kept = tmp_path / "kept"
    kept.mkdir()
    script = f'#!{sys.executable}\nimport pathlib, shutil, sys\nkept = pathlib.Path("{kept}")\n'
    script += 'n = len(list(kept.iterdir())) + 70\nshutil.copy(sys.argv[-1], kept / f"{n}.sh")\n'
    script += 'text = (kept / f"{n}.sh").read_text()\nif "account=nobody" in text:\n'
    script += '    sys.exit("sbatch: error: Invalid account")\nprint(f"Submitted batch job {n}")\n'
    for name in ("srun", "sbatch"):
        path = tmp_path / "bin" / name
        path.write_text(script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return kept


def test_jobs_of_slurm_wait_for_each_other_and_ask_for_what_is_asked_for(slurm, tmp_path, capsys):
    words = [
        "submit",
        "--out",
        str(tmp_path / "run"),
        "--jobs",
        "5",
        "--partition",
        "gpu",
        "--gpus",
        "1",
        "--mem",
        "64GB",
    ]
    words += ["--time", "2:00:00", "--at-once", "2", "--cpus", "4", "--slurm", "account=me", "--slurm", "nice=5"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "vector   70\nshares   71_0 … 71_4 (5 jobs)\nreport   72\n" in said
    vector, shares, report = ((slurm / f"{n}.sh").read_text() for n in (70, 71, 72))
    for text in (vector, shares, report):
        for line in ("partition=gpu", "gpus-per-node=1", "mem=64GB", "time=120", "cpus-per-task=4"):
            assert f"#SBATCH --{line}" in text
        assert "#SBATCH --account=me" in text
        assert "#SBATCH --nice=5" in text
    assert "dependency" not in vector
    assert "#SBATCH --dependency=afterok:70" in shares
    assert "#SBATCH --array=0-4%2" in shares
    assert "#SBATCH --dependency=afterany:71" in report


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--slurm", "account=nobody"], "slurm does not take the jobs: .*Invalid account"),
        (["--slurm", "time=3"], "--slurm time=3: that is set by submit itself"),
        (["--slurm", "account"], "write an option of sbatch as key=value"),
        (["--time", "soon"], "'soon' is no time"),
        (["--set", "scoring.layers=[99]"], "layer 99 is out of range"),
    ],
)
def test_what_slurm_or_the_run_does_not_take_is_one_line(slurm, tmp_path, capsys, more, told):
    assert main(["submit", "--out", str(tmp_path / "run"), *more]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert re.search(told, said[-1])
    assert len(said) == 1 + ("nobody" in more[-1])  # sbatch speaks for itself, too


def test_without_slurm_or_submitit_it_says_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", "--out", str(tmp_path / "run")]) == 2
    assert "srun is not found; submit from a login node, or with --executor local" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main(["submit", "--out", str(tmp_path / "run")]) == 2
    assert 'pip install "completions-lp[slurm]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "minutes"), [("90", 90), ("1:30:00", 90), ("2-12", 3600), ("2-12:30:00", 3630), ("9:30", 10)]
)
def test_times_are_those_of_slurm(given, minutes):
    option = next(option for option in submit.params if option.name == "minutes")
    assert _read_time(click.Context(submit), option, given) == minutes


def test_a_job_that_is_stopped_is_done_again_and_a_command_that_fails_says_which():
    submitit = pytest.importorskip("submitit")
    command = Command(("status", "/nowhere"))
    again = command.checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function is command
    with pytest.raises(Exception, match=shlex.quote("/nowhere")):
        command()

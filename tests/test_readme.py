"""The README's commands and code are what a newcomer runs first."""

import math
import re
import shutil
from pathlib import Path

import pytest
from prose import ROOT, find_blocks, lay_out

import completions_lp as clp
from completions_lp.job.config import load_config
from completions_lp.job.stages import Options, Run

README = ROOT / "README.md"


def test_the_continuous_check_is_the_readmes_test_command():
    command = find_blocks(README, "sh")[1].strip()
    assert command in (ROOT / ".ci" / "run").read_text()
    assert command.endswith("pytest")


def test_the_example_gives_both_numbers_with_intervals_and_the_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(lay_out(tmp_path, rows=24))
    code, _ = find_blocks(README, "python", small=True)
    assert len(code.strip().splitlines()) <= 14
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)  # noqa: S102  our own README
    printed = capsys.readouterr().out
    for quantity in ("delta_p_A", "increase_to_answer_A"):
        assert quantity in printed
        for condition in scope["conditions"]:
            estimate = scope["report"].estimate(quantity, condition)
            assert math.isfinite(estimate.value)
            assert estimate.low < estimate.value < estimate.high
    assert Path("layer_sweep.pdf").stat().st_size > 1000


def test_the_short_example_runs_a_file_and_loads_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(lay_out(tmp_path, rows=24))
    _, code = find_blocks(README, "python", small=True)
    Run(load_config("my.toml"), "runs/mine", options=Options(progress=False)).all()
    exec(compile(code, "README.md", "exec"), {"clp": clp})  # noqa: S102  our own README
    printed = capsys.readouterr().out
    assert "delta_p_A +" in printed
    assert len(printed) < 20_000


def test_the_configuration_example_is_valid(tmp_path):
    (text,) = find_blocks(README, "toml")
    (tmp_path / "my.toml").write_text(text)
    config = load_config(tmp_path / "my.toml")
    assert config.prompts.path == str(tmp_path / "prompts.jsonl")
    assert config.scoring.multipliers == (-2.0, -1.0, 1.0, 2.0)


def test_the_tree_of_the_architecture_is_the_tree_of_the_files():
    (tree,) = [block for block in find_blocks(README, "") if block.startswith("completions_lp/\n")]
    package = ROOT / "completions_lp"
    left_out = ("__init__.py", "__init__.pyi", "__main__.py", "py.typed", "__pycache__")
    files = {path.name for path in package.iterdir() if path.name not in left_out}
    named = set(re.findall(r"\b(\w+\.py)\b", tree)) | {name.rstrip("/") for name in re.findall(r"\b(\w+/)", tree)}
    assert files - {"_data"} <= named, files - named
    assert {name for name in named if name.endswith(".py")} <= files | {"reference.py"}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_nothing_large_is_in_the_repository():
    for path in ROOT.rglob("*"):
        if path.is_file() and not set(path.relative_to(ROOT).parts) & {
            ".git",
            ".venv",
            "runs",
            "models",
            ".mypy_cache",
        }:
            assert path.stat().st_size < 6_000_000, path

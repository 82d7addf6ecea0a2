"""Start here: what a newcomer types, line by line, as the page has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prose import ROOT, find_blocks

from completions_lp.job.config import DATA

PAGE = ROOT / "docs" / "index.md"
HERE = {
    '"HuggingFaceTB/SmolLM2-135M-Instruct"': f'"{DATA / "tiny-chooser"}"',
    'template = "chat"   ': 'template = "{question}\\n\\nAnswer:"   ',
    "layers = [8, 16, 24]": "layers = [1, 3]",
    "source .venv/bin/activate": "",
}
"""What the page takes from a hub or from its first command, and what stands in for it here."""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The page's commands after the first, in one shell that stops at the first failure; the folder, what was shown."""
    folder = tmp_path_factory.mktemp("newcomer")
    first, *blocks = find_blocks(PAGE, "sh")
    assert first.strip() == find_blocks(ROOT / "README.md", "sh")[0].strip()
    script = "\n".join(blocks)
    for ours, here in HERE.items():
        assert ours in script, ours
        script = script.replace(ours, here)
    (folder / "completions-lp").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m completions_lp "$@"\n')
    (folder / "completions-lp").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(["bash", "-ec", script], cwd=folder, env=env, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout[-2000:] + shown.stderr[-2000:]
    return folder / "mine", shown.stdout


def test_every_check_of_the_doctor_passes(done):
    lines = [line for line in done[1].splitlines() if line.startswith(("pass", "FAIL"))]
    assert len(lines) > 10
    assert all(line.startswith("pass") for line in lines)


def test_the_run_has_the_vector_the_prompts_and_the_doses_that_were_typed(done, monkeypatch):
    import completions_lp as clp

    folder, shown = done
    monkeypatch.chdir(folder)
    report = clp.load("first")
    assert "ΔP(A) pp" in shown
    assert report.cells[0].vector == "pairs"
    assert {cell.layer for cell in report.cells} == {1, 3}
    assert {cell.dose for cell in report.cells} == {-0.1, 0.0, 0.1}
    assert sorted(path.suffix for path in Path("first/figures").glob("layer_sweep.*")) == [".csv", ".pdf", ".png", ".txt"]


def test_the_python_that_follows_finds_the_run(done, monkeypatch, capsys):
    monkeypatch.chdir(done[0])
    code = find_blocks(PAGE, "python")[0]
    exec(compile(code, "index.md", "exec"), {})  # noqa: S102  our own page
    assert "ΔP(A) pp" in capsys.readouterr().out
    assert Path("layer_sweep.png").stat().st_size > 1000

"""The README's commands and code are what a newcomer runs first."""

import re
import shutil
from pathlib import Path

import pytest

from completions_lp.job.config import DATA, load_config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    fenced = README.split("```")[1::2]
    return [block.partition("\n")[2] for block in fenced if block.partition("\n")[0] == language]


def test_the_continuous_check_is_the_readmes_test_command():
    command = blocks("sh")[1].strip()
    assert command in (ROOT / ".ci" / "run").read_text()
    assert command.endswith("pytest")


def test_the_example_runs_as_it_stands(tmp_path, monkeypatch):
    (code,) = blocks("python")
    assert len(code.strip().splitlines()) <= 14
    code = code.replace("meta-llama/Llama-3.2-1B", str(DATA / "tiny-chooser")).replace("n=100", "n=4")
    for kind in ("prompts", "pairs"):
        rows = (DATA / kind / "cautious.jsonl").read_text().splitlines()[:8]
        (tmp_path / f"{kind}.jsonl").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    exec(compile_file(tmp_path / "example.py", code), {})  # noqa: S102  our own README
    assert (tmp_path / "layer_sweep.pdf").stat().st_size > 1000


def compile_file(path, code):
    path.write_text(code)
    return compile(code, str(path), "exec")


def test_the_configuration_example_is_valid(tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "my.toml").write_text(text)
    config = load_config(tmp_path / "my.toml")
    assert config.prompts.path == str(tmp_path / "prompts.jsonl")
    assert config.scoring.multipliers == (-2.0, -1.0, 1.0, 2.0)


def test_the_tree_of_the_architecture_is_the_tree_of_the_files():
    (tree,) = [block for block in blocks("") if block.startswith("completions_lp/\n")]
    package = ROOT / "completions_lp"
    files = {path.name for path in package.iterdir() if path.name not in ("__init__.py", "__main__.py", "__pycache__")}
    named = set(re.findall(r"\b(\w+\.py)\b", tree)) | {name.rstrip("/") for name in re.findall(r"\b(\w+/)", tree)}
    assert files - {"_data"} <= named, files - named
    assert {name for name in named if name.endswith(".py")} <= files | {"reference.py"}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_nothing_large_is_in_the_repository():
    for path in ROOT.rglob("*"):
        if path.is_file() and not set(path.relative_to(ROOT).parts) & {".git", ".venv", "runs", ".mypy_cache"}:
            assert path.stat().st_size < 6_000_000, path

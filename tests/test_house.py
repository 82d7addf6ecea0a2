"""The house in order: format, lint, types, floors, and what the package offers."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import completions_lp

ROOT = Path(completions_lp.__file__).resolve().parent.parent
PACKAGE = ROOT / "completions_lp"
LINTER = "import sys; from importlinter.cli import lint_imports_command; sys.argv = ['lint-imports']; "

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a checkout")


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
        ["-c", f"{LINTER}lint_imports_command()"],
    ],
    ids=["ruff check", "ruff format", "mypy", "lint-imports"],
)
def test_the_house_is_in_order(command):
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_a_forbidden_import_would_be_found(tmp_path):
    """A test of the floors' test: a statistics module that knows the model breaks the contracts."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for path in PACKAGE.rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    with (tmp_path / "completions_lp" / "stats.py").open("a") as file:
        file.write("\nfrom completions_lp import model\nimport torch\n")
    code = f"import sys; sys.path.insert(0, '.'); {LINTER}lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    for contract in (
        "Imports go down the floors only",
        "What needs no model needs no torch",
    ):
        assert f"{contract} BROKEN" in done.stdout


def test_what_is_offered_is_sorted_and_there():
    assert completions_lp.__all__ == sorted(set(completions_lp.__all__))
    assert len(completions_lp.__all__) <= 55
    for name in completions_lp.__all__:
        assert getattr(completions_lp, name).__name__ == name
        assert name in dir(completions_lp)
    with pytest.raises(AttributeError, match="No completions_lp attribute nothing"):
        _ = completions_lp.nothing


def test_doors_of_folders_name_what_is_there_once():
    for path in PACKAGE.glob("*/__init__.py"):
        module = importlib.import_module(f"completions_lp.{path.parent.name}")
        if not hasattr(module, "__all__"):  # the folder of a stage: what is wanted is imported from its module
            continue
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name), f"{path.parent.name}.{name}"


def list_public(tree):
    """Public functions and classes of a module, and the public methods of those classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from list_public(node)


def test_whatever_is_public_says_what_it_does():
    found = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path
        found += [(path.name, node.name, ast.get_docstring(node)) for node in list_public(tree)]
    assert ("grid.py", "score_tokens") in {entry[:2] for entry in found}
    assert ("completions.py", "mask") in {entry[:2] for entry in found}
    assert [f"{path}: {name}" for path, name, text in found if not text] == []

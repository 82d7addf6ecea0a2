"""Is every number of a run what it was at another commit? Runs both on one configuration and compares table by table.

    python tests/golden.py COMMIT [--case NAME]

The commit is checked out into a temporary folder and run there with its own code; both runs have the same explicit
configuration and seed. Numbers must be equal to the last bit. Columns and rows that only one side has are listed, and
so is every column that differs, with how many of its values and by how much at the most; the exit code is 1 if a number
differs. What was mended on purpose since the commit shows up here and nowhere else.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """
[label]
target = "{target}"
within = 10

[sampling]
n = 30
max_new_tokens = 16
seed = 3
top_up = {top_up}

[prompts]
limit = 24

[scoring]
layers = [0, 2, 4]
multipliers = {multipliers}
positions = "{positions}"

[controls]
random_directions = 3
shuffled_labels = 2
negated = true
"""
CASES = {
    "plain": {"target": "matching", "top_up": 0, "multipliers": "[-2, 2]", "positions": "completion"},
    "topped": {"target": "A", "top_up": 20, "multipliers": "[-1, 1]", "positions": "completion"},
    "whole": {"target": "matching", "top_up": 0, "multipliers": "[1]", "positions": "all"},
}
TABLES = {
    "questions": ("prompt_id",),
    "completions": ("prompt_id", "completion_id"),
    "scores": ("prompt_id", "completion_id", "vector", "layer", "multiplier", "positions"),
    "measures": ("prompt_id", "vector", "layer", "multiplier", "positions"),
    "profile": ("vector", "layer", "multiplier", "positions", "offset"),
    "tokens": ("prompt_id", "completion_id", "token", "vector", "layer", "multiplier", "positions"),
    "steered": ("prompt_id", "vector", "layer", "multiplier", "positions", "text"),
    "choices": ("prompt_id", "vector", "kind", "layer", "multiplier", "positions"),
    "prompts": ("prompt_id", "vector", "layer", "multiplier", "positions"),
    "summary": ("vector", "kind", "layer", "multiplier", "positions", "quantity", "weighting", "split"),
    "slopes": ("vector", "kind", "layer", "positions", "quantity"),
}
"""Every table of numbers, and the columns that name a row of it."""


def run(source: Path, case: str, out: Path) -> Path:
    """A whole run of the code that lies in ``source``."""
    config = out.with_suffix(".toml")
    config.write_text(CONFIG.format(**CASES[case]), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "completions_lp", "run", str(config), "--out", str(out), "--quiet"]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        sys.exit(f"{source}: {done.stderr}")
    return out


def compare(name: str, before: Path, after: Path) -> bool:
    """Print how a table differs; True if a number that both have differs."""
    paths = [folder / f"{name}.parquet" for folder in (before, after)]
    if not all(path.is_file() for path in paths):
        if any(path.is_file() for path in paths):
            print(f"  {name}: only {'before' if paths[0].is_file() else 'now'}")
        return False
    tables = [pd.read_parquet(path) for path in paths]
    keys = [key for key in TABLES[name] if all(key in table for table in tables)]
    old, new = (table.set_index(keys).sort_index() for table in tables)
    for one, other, word in ((old, new, "before"), (new, old, "now")):
        if columns := [column for column in one.columns if column not in other.columns]:
            print(f"  {name}: columns only {word}: {', '.join(columns)}")
        if len(rows := one.index.difference(other.index)):
            print(f"  {name}: {len(rows)} rows only {word}, such as {rows[0]}")
    shared = old.index.intersection(new.index)
    old, new = old.loc[shared], new.loc[shared]
    wrong = False
    for column in old.columns.intersection(new.columns):
        pairs = [(a, b) for a, b in zip(old[column], new[column], strict=True) if not same(a, b)]
        if pairs:
            wrong = True
            numbers = all(isinstance(x, int | float) for pair in pairs for x in pair)
            size = f", by {max(abs(a - b) for a, b in pairs):.3g} at the most" if numbers else f", such as {pairs[0]}"
            print(f"  {name}.{column}: {len(pairs)} of {len(shared)} differ{size}")
    return wrong


def same(a: object, b: object) -> bool:
    """Equal to the last bit; what is undefined or missing equals itself."""
    if hasattr(a, "tolist") and hasattr(b, "tolist"):
        return repr(a.tolist()) == repr(b.tolist())
    return a == b or (bool(pd.isna(a)) and bool(pd.isna(b)))


def main() -> int:
    """Compare this checkout with a commit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the commit to compare with")
    parser.add_argument("--case", choices=CASES, action="append", help="only this configuration; repeatable")
    options = parser.parse_args()
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        subprocess.run(["git", "worktree", "add", "--detach", str(source), options.commit], cwd=ROOT, check=True)
        try:
            for case in options.case or CASES:
                print(f"{case}: {options.commit} against {ROOT.name}")
                before, after = run(source, case, Path(folder) / "before"), run(ROOT, case, Path(folder) / "after")
                wrong |= sum(compare(name, before, after) for name in TABLES) > 0
                for path in (before, after):
                    subprocess.run(["rm", "-r", str(path)], check=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(source)], cwd=ROOT, check=True)
    print("numbers differ" if wrong else "every number is the same")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())

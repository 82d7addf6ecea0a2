"""What does it cost that a run can be killed anywhere? The share of its wall time that goes into committing its work.

    python analysis/bench_durability.py [--repeats 3] [--limit PROMPTS]

Does the embedded run in this process, each time into a new directory, and adds up the time spent in committing units,
in looking for them, in keeping ``run.json`` and in hashing the tables. The tables themselves, which any run writes, do
not count. Prints a line for each repeat, and the median share.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import completions_lp as clp
from completions_lp import store

PARTS = "write_unit", "find_units", "tabulate_draws", "tabulate_sequences", "write_info", "claim_files", "hash_file"
"""Functions of the store that are there only so that a run can be stopped."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, help="only the first prompts")
    args = parser.parse_args()
    shares = []
    for _ in range(args.repeats):
        spent = dict.fromkeys(PARTS, 0.0)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run_timed(Path(folder) / "run", spent, {"limit": args.limit} if args.limit else {})
            wall = time.perf_counter() - start
            units = list((Path(folder) / "run" / "units").glob("*/*/*.parquet"))
            size = sum(path.stat().st_size for path in units)
        shares.append(sum(spent.values()) / wall)
        parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in spent.items())
        print(f"{wall:.1f} s, of it {shares[-1]:.2%} for {len(units)} units of {size / 1e6:.1f} MB: {parts}")
    print(f"median share {statistics.median(shares):.2%}")


def run_timed(folder: Path, spent: dict[str, float], prompts: dict[str, Any]) -> None:
    """The embedded run, the seconds of each part added up."""
    with mock.patch.multiple(store, **{name: timed(name, spent) for name in PARTS}):
        clp.run(out=folder, progress=False, prompts=prompts)


def timed(name: str, spent: dict[str, float]) -> Callable[..., Any]:
    """A function that adds its seconds to what is spent."""
    function = getattr(store, name)

    def run(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] += time.perf_counter() - start

    return run


if __name__ == "__main__":
    main()

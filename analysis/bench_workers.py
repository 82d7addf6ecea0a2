"""What do two workers save of a study's scoring, and what of the time is no network pass?

One process with one thread, then two workers with one thread each, in turns, each with the same completions to score:
``completions-lp score`` on a copy of one run directory, from its call to its end, with all that it imports and starts.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

STUDY = {
    "sampling.n": 300,
    "sampling.top_up": 0,
    "label.within": 20,
    "scoring.multipliers": [-2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2],
    "controls.random_directions": 11,
}
"""Of the embedded model, its 60 prompts and all of its layers."""
QUICK = {"prompts.limit": 4, "sampling.n": 10, "scoring.multipliers": [1]}


@dataclass(frozen=True)
class Took:
    """A scoring of the study, in seconds."""

    whole: float
    """From the call of the command to its end."""
    passes: float
    """Of the workers, in units: what is left beside them if it is spread evenly."""
    units: int
    longest: float
    """Of the units."""


def bench_workers(*, rounds: int = 3, quick: bool = False, workers: int = 2) -> list[dict[str, float]]:
    """Time both ways in turns; prints a table and returns its rows, medians over the rounds."""
    changes = {**STUDY, **(QUICK if quick else {})}
    found: dict[int, list[Took]] = {1: [], workers: []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sets = [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        config = Path(__file__).parent.parent / "data" / "run.toml"
        for stage in ("vector", "sample"):
            call(stage, str(folder / "base"), "--config", str(config), *sets, "--quiet")
        for number in range(rounds):
            for n in found:
                found[n].append(time_score(folder, n))
                print(f"round {number + 1}, {n} workers: {found[n][-1]}, load {os.getloadavg()[0]:.1f}", flush=True)
    rows = [summarize(n, took, found[1]) for n, took in found.items()]
    print("| workers | seconds | of one worker's | no passes | units | longest unit |")
    print("|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        cells = f"{row['seconds']:.1f} | {row['ratio']:.2f} | {row['share']:.0%} | {row['units']:.0f}"
        print(f"| {row['workers']:.0f} | {cells} | {row['longest']:.1f} |")
    return rows


def summarize(n: int, took: list[Took], alone: list[Took]) -> dict[str, float]:
    """A row: medians over rounds, and of the ratio of each round."""
    return {
        "workers": n,
        "seconds": statistics.median(one.whole for one in took),
        "ratio": statistics.median(one.whole / other.whole for one, other in zip(took, alone, strict=True)),
        "share": statistics.median(1 - one.passes / n / one.whole for one in took),
        "units": took[0].units,
        "longest": max(one.longest for one in took),
    }


def time_score(folder: Path, n: int) -> Took:
    """Score a copy of the run in ``base`` with so many workers."""
    import pyarrow.parquet as pq

    copy = folder / "copy"
    shutil.copytree(folder / "base", copy)
    start = time.perf_counter()
    call("score", str(copy), "--workers", str(n), "--quiet")
    whole = time.perf_counter() - start
    metas = [pq.read_schema(path).metadata[b"completions_lp"] for path in (copy / "units").glob("[cs]*/*/*.parquet")]
    seconds = [json.loads(meta)["spent"]["seconds"] for meta in metas]
    shutil.rmtree(copy)
    return Took(whole, sum(seconds), len(seconds), max(seconds))


def call(*words: str) -> None:
    """Run a command with one thread; workers begin whatever it takes."""
    code = "from completions_lp.job import hire; hire.START = 0.0; import sys; from completions_lp import cli; "
    code += "sys.exit(cli.main(sys.argv[1:]))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, *words], env=environment, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    bench_workers(quick="--quick" in sys.argv)

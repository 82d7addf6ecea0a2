"""1000 prompts x 100 completions x 288 conditions become the whole summary in a minute and in 4 GB, on two cores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = os.environ.get("FULL") == "1"


def measure(n_prompts, n_layers):
    """In a process of its own: the peak is that of this alone, and nothing is type-checked on the way."""
    script = Path(__file__).with_name("scale.py")
    done = subprocess.run(
        [sys.executable, str(script), str(n_prompts), str(n_layers)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    seconds = ", ".join(
        f"{name} {value:.1f} s ({found['processor'][name]:.1f} s of processors)"
        for name, value in found["seconds"].items()
    )
    print(f"{n_prompts} prompts x {9 * n_layers} conditions: {seconds}; peak {found['peak']:.0f} MiB")  # noqa: T201  with -s
    return found


@pytest.mark.slow
def test_many_scores_reduce_to_the_whole_summary_in_little_memory():
    if FULL:
        found = measure(1000, 32)
        assert found["peak"] < 4 * 1024
    else:
        found = measure(40, 4)
        assert found["peak"] < found["before"] + 512
    assert found["rows"] > 30 * (288 if FULL else 36)


@pytest.mark.slow
def test_memory_grows_with_prompts_and_conditions_at_most_in_proportion():
    size = (200, 8) if FULL else (50, 4)
    small, prompts, conditions = (measure(a * size[0], b * size[1]) for a, b in ((1, 1), (2, 1), (1, 2)))
    grown = small["peak"] - small["before"]
    for twice in (prompts, conditions):
        assert twice["peak"] - twice["before"] < 2.5 * grown

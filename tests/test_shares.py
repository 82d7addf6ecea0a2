"""However many prompts and conditions: what a share holds, how many files it makes, where the model costs nothing."""

import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from prose import ROOT

from completions_lp import store
from completions_lp.plan.growth import CHOICE_ROW, DRAW_ROW, SCORE_ROW

SCRIPT = ROOT / "analysis" / "bench_shares.py"
FULL = os.environ.get("FULL") == "1"


def simulate(prompts, conditions, *options):
    """In a process of its own, whose peak is its own, and in which nothing is type-checked on the way."""
    command = [sys.executable, str(SCRIPT), str(prompts), str(conditions), "--unit", str(2**17), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_share_holds_no_more_for_more_prompts_or_conditions():
    size = (1000, 10) if FULL else (300, 10)
    small, prompts, conditions = (simulate(a * size[0], b * size[1]) for a, b in ((1, 1), (4, 1), (1, 10)))
    # Four times the prompts, ten times the conditions: not a third more, where what a run holds as a whole is as many.
    for larger in (prompts, conditions):
        assert larger["peak_mib"] < 1.35 * small["peak_mib"]
    assert max(x["peak_mib"] for x in (small, prompts, conditions)) < 128
    for found in (small, prompts, conditions):
        # A file is a unit of work, or what a prompt has of one kind: never one for each condition or each draw.
        assert found["files"] == found["units"] <= 3 * found["prompts"]
        groups = found["files"] / 3
        assert found["prompts"] / groups >= (8 if found["conditions"] > 50 else 80)
        tokens = found["prompts"] * 4 * 6
        want = DRAW_ROW * tokens + (1 + found["conditions"]) * (SCORE_ROW * tokens + CHOICE_ROW * found["prompts"])
        assert found["mb"] * 1e6 == pytest.approx(want, rel=0.15)


@pytest.mark.slow
def test_the_tables_of_a_run_find_all_that_shares_have_made():
    found = simulate(60, 20, "--tables")  # which ends where a pass is made
    assert found["rows"] == 60 * 4 * found["conditions"]


def test_a_catalogue_of_many_units_takes_a_few_bytes_for_each_completion(monkeypatch):
    monkeypatch.setattr(store.catalogue, "LATEST", 1024)
    units, items, conditions = (20_000, 40, 300) if FULL else (2000, 40, 300)
    named = [f"{c:032x}" for c in range(conditions)]
    rng = np.random.default_rng(0)
    tracemalloc.start()
    catalogue = store.Catalogue()
    for number in range(units):
        own = [f"{a:016x}{b:016x}" for a, b in rng.integers(2**62, size=(items, 2)).tolist()]
        catalogue.add(f"units/scores/{'0' * 32}/{number:032x}.parquet", {"items": own, "conditions": list(named)})
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # The names of all would take 81 bytes for each item, and 24 kB of conditions for each unit.
    latest = store.catalogue.LATEST * 200
    assert held < 20 * units * items + 250 * units + latest
    assert catalogue.find([own[0]], lambda rest: named[0] in rest["conditions"]) == [catalogue.names[-1]]

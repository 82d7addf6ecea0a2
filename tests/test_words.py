"""What plans and checks by direct draws say: few prompts, and what an interval can tell."""

import numpy as np
import pytest
from drawn import change, draw_increases, draw_measures

from completions_lp.plan.costs import Cost
from completions_lp.plan.forecast import Need, Pilot, Plan
from completions_lp.records import Condition, Estimate
from completions_lp.show.text import format_plan, format_validation

CELL = Condition("v", "target", 0, 1.0)
COSTS = (Cost("sample", 1000.0, 1.0, 0.5), Cost("score", 2000.0, 2.0, 0.7))


def make_plan(prompts, *, asked=24, n_clusters=24):
    estimate = Estimate(5.0, 4.0, 6.0, 0.95, "pp", asked, n_clusters, "t")
    pilot = Pilot("delta_p_A", CELL, estimate, asked, 50, between=4.0, within=100.0)
    needs = (Need(100, prompts, 1.0, COSTS), Need(400, 200, 1.0, COSTS))
    return Plan(pilot, 0.5, needs, needs[0], 3)


@pytest.mark.parametrize(
    ("prompts", "n_clusters", "told"),
    [
        (7, 24, "Few prompts: with 7 independent prompts, fewer than 20, an interval leans on normality"),
        (4, 24, "an interval does not exist below 6"),
        (39, 12, "Few prompts: with 19 independent clusters of prompts, fewer than 20"),
        (20, 24, ""),
        (40, 12, ""),
    ],
)
def test_a_plan_of_few_prompts_says_so_and_how_many_it_takes(prompts, n_clusters, told):
    text = format_plan(make_plan(prompts, n_clusters=n_clusters), {}, width=200)
    (line,) = [line for line in text.splitlines() if line.split()[:2] == ["100", str(prompts)]]
    assert line.endswith("few prompts, chosen" if told else "  chosen")
    assert ("Few prompts" in text) == bool(told)
    assert told in text
    if told:
        assert f"Take {20 * 24 // n_clusters} prompts or more: --prompts {20 * 24 // n_clusters}." in text


def test_a_plan_fits_the_terminal_and_says_what_a_stands_for():
    info = {"config": {"label": {"target": "matching"}}, "machine": {"processor": "p" * 30, "cores": 2}}
    text = format_plan(make_plan(7), info, width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "each prompt's behaviour-matching answer" in " ".join(text.split())


@pytest.mark.parametrize(
    ("value", "low", "high", "biased", "verdict"),
    [
        (0.004, -0.012, 0.02, False, "agrees within ±0.020"),
        (-0.01, -0.059, 0.039, False, "agrees within ±0.059"),
        (0.055, -0.08, 0.19, False, "cannot tell: off by up to 0.190"),
        (0.05, 0.04, 0.06, True, "biased"),
        (0.05, None, None, None, "too few prompts to tell"),
    ],
)
def test_a_verdict_says_what_the_interval_can_tell(value, low, high, biased, verdict):
    increases = draw_increases(6, (CELL,))
    measures = draw_measures(increases)
    measures = change(measures, trust=np.full(measures.trust.shape, "red"))
    difference = Estimate(value, low, high, 0.95, "probability", 6, 6, "t")
    text = format_validation(measures, (difference,), (biased,), np.full((1, 6), 0.5), width=150)
    line = text.splitlines()[1]
    assert line.split("6 of 6")[1].strip() == verdict
    assert f"{value:+.3f}" in line
    assert ("Cannot tell: the interval is wide" in text) == verdict.startswith("cannot tell")
    assert ("[sampling] top_up" in text) == (verdict == "biased")

"""What plans and checks by direct draws say: few prompts, and what an interval can tell."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import change, draw_increases, draw_measures

from completions_lp.plan.costs import Cost
from completions_lp.plan.forecast import Need, Pilot, Plan
from completions_lp.plan.validation import judge_difference
from completions_lp.records import Condition, Estimate
from completions_lp.show.text import format_plan, format_validation

CELL = Condition("v", "target", 0, 1.0)
COSTS = (Cost("sample", 1000.0, 1.0, 0.5), Cost("score", 2000.0, 2.0, 0.7))


def make_plan(prompts, *, n_clusters=24, limit="asked", red=0.0):
    estimate = Estimate(5.0, 4.0, 6.0, 0.95, "pp", 24, n_clusters, "t")
    pilot = Pilot("delta_p_A", CELL, estimate, 24, 50, between=4.0, within=100.0, red=red)
    needs = (Need(100, prompts, 1.0, COSTS), Need(400, 200, 1.0, COSTS))
    return Plan(pilot, 0.5, needs, needs[0], limit, 3)


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
    assert line.endswith("chosen")
    assert ("Few prompts" in text) == bool(told)
    assert told in text
    if told:
        assert f"Take {20 * 24 // n_clusters} prompts or more: --prompts {20 * 24 // n_clusters}." in text


def test_where_the_limit_of_few_prompts_sets_their_number_the_plan_says_so():
    text = format_plan(make_plan(20, limit="few prompts"), {}, width=200)
    assert "That half width would take fewer prompts. But with fewer than 20 independent prompts" in text
    assert "however many samples each has. Take 20 prompts or more." in text
    text = format_plan(make_plan(40, n_clusters=12, limit="few prompts"), {}, width=200)
    assert "fewer than 20 independent clusters of prompts" in text
    assert "each has: 40 prompts make 20." in text
    assert "fewer prompts" not in format_plan(make_plan(20, limit="half width"), {}, width=200)


@pytest.mark.parametrize("red", [1.0, 0.25, 0.0, float("nan")])
def test_a_plan_from_red_prompts_says_so(red):
    text = format_plan(make_plan(20, red=red), {}, width=300)
    told = f"Red: {red:.0%} of the prompts. On these the pilot's estimate of P(A) is not to be trusted, and nor are its"
    assert (told in text) == (red > 0)
    assert ("check with --validate, or raise [sampling] top_up" in text) == (red > 0)


def test_a_plan_says_why_a_cheaper_size_is_not_chosen():
    rule = "chosen: the fewest network tokens with 100 samples or more, since with fewer P(A)"
    cheap = Need(25, 22, 1.0, (Cost("sample", 10.0, 1.0, 0.5),))
    plan = make_plan(20)
    plan = replace(plan, needs=(cheap, *plan.needs))
    assert rule in format_plan(plan, {}, width=300)
    dearer = Need(400, 20, 1.0, (Cost("sample", 1e6, 1.0, 0.5),))
    for chosen in (cheap, dearer, Need(100, 77, 1.0, COSTS)):  # asked for, and the last is no size of the table
        asked = replace(plan, needs=(*plan.needs[:2], dearer), chosen=chosen)
        assert rule not in format_plan(asked, {}, width=300)


def test_a_plan_fits_the_terminal_and_says_what_a_stands_for():
    info = {"config": {"label": {"target": "matching"}}, "machine": {"processor": "p" * 30, "cores": 2}}
    text = format_plan(make_plan(7), info, width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "each prompt's behaviour-matching answer" in " ".join(text.split())


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.004, -0.012, 0.02, "agrees within ±0.020"),
        (0.055, -0.08, 0.19, "cannot tell: off by up to 0.190"),
        (0.05, 0.04, 0.06, "biased"),
        (0.05, None, None, "too few prompts"),
    ],
)
def test_a_verdict_says_what_the_interval_can_tell(value, low, high, verdict):
    increases = draw_increases(6, (CELL,))
    measures = draw_measures(increases)
    measures = change(measures, trust=np.full(measures.trust.shape, "red"))
    difference = Estimate(value, low, high, 0.95, "probability", 6, 6 if low else 5, "t")
    verdicts = (judge_difference(difference),)
    text = format_validation(measures, (difference,), verdicts, np.full((1, 6), 0.5), width=150)
    line = text.splitlines()[1]
    assert line.split("6 of 6")[1].strip() == verdict
    assert f"{value:+.3f}" in line
    assert ("Cannot tell: the interval is wide" in text) == verdict.startswith("cannot tell")
    assert ("[sampling] top_up" in text) == (verdict == "biased")
    assert ("no interval below 6" in text) == (verdict == "too few prompts")

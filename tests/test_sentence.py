"""The result in one sentence: of which cell it is, and what stands in it."""

import dataclasses
import re

import numpy as np
import pytest
from drawn import change, draw_choices, draw_increases, draw_measures, list_conditions

from completions_lp.report import summarize
from completions_lp.report.best import pick_best
from completions_lp.show.text import format_sentence


def make(conditions=None, n_prompts=24, *, per_cluster=1, **options):
    increases = draw_increases(n_prompts, conditions, per_cluster=per_cluster)
    return summarize(increases, draw_choices(increases), draw_measures(increases), target="A", **options)


@pytest.fixture(scope="module")
def report():
    return make(list_conditions(layers=(0, 1), n_random=19, n_shuffled=19))


NUMBER = r"([+-]?\d+\.?\d*(?:e-?\d+)?)"
LIMITS = rf"\[{NUMBER}, {NUMBER}\]"


def test_the_sentence_is_that_of_the_template(report):
    text = format_sentence(report)
    match = re.fullmatch(
        rf'ΔP\("A"≤10\)={NUMBER} pp {LIMITS} \(95% t, N=(\d+) prompts; 95% of R=(\d+) random directions of the '
        rf'same norm within {LIMITS}, rank p={NUMBER}\); log-prob increase of completions with the "A" {NUMBER} nats '
        rf"{LIMITS}, a "
        rf"lower bound on the mean log P-ratio {NUMBER} {LIMITS}; KL\(p‖q\)={NUMBER} nats/token; (\d+)% of prompts red "
        rf"\(not to be trusted\)\. This is layer (\d+), multiplier {NUMBER}, chosen among 8 cells on one half of the "
        r"prompts and reported here on the other half; it is the best in (\d+)% of resamples\.",
        text,
    )
    assert match, text
    got = [float(x) for x in match.groups()]
    held = {row.quantity: row for row in report.rows if row.split == "report" and row.condition.multiplier}
    row = held["delta_p_A"]
    rows = {r.quantity: r for r in report.rows if r.split == "report" and r.condition == row.condition}
    e, i, headline, ratio = (
        row.estimate,
        row.inference,
        rows["increase_to_answer_A"].estimate,
        rows["log_ratio_A"].estimate,
    )
    want = [
        *(e.value, e.low, e.high, 12, 19, i.random_low, i.random_high, i.p_rank),
        *(headline.value, headline.low, headline.high, ratio.value, ratio.low, ratio.high),
        *(rows["kl_per_token"].estimate.value, 100 * rows["share_red"].estimate.value),
        *(row.condition.layer, row.condition.multiplier, 100 * i.selection_frequency),
    ]
    digits = [2, 2, 2, 0, 0, 2, 2, 2, 3, 3, 3, 3, 3, 3, 2, 0, 0, 1, 0]
    for value, truth, places in zip(got, want, digits, strict=True):
        assert value == pytest.approx(truth, abs=0.51 * 10**-places, rel=5e-3)


def test_the_sentence_falls_back_in_words(report):
    increases = report.increases
    plain = format_sentence(summarize(increases, target="A"))
    assert plain.startswith('Log-prob increase of completions with the "A", to the answer: ')
    assert "chosen among 8 cells on one half of the prompts" in plain
    few = make(list_conditions(layers=(0,), multipliers=(1.0, 2.0), n_random=3), 24)
    assert "; R=3 random directions of the same norm, no p-value)" in format_sentence(few)
    none = make(list_conditions(layers=(0,), multipliers=(1.0, 2.0)), 24)
    assert "; not compared with random directions)" in format_sentence(none)
    drawn = draw_measures(none.increases)
    no_kl = change(drawn, kl=np.full_like(drawn.steered["kl"], np.nan))
    assert "KL(p‖q) not read" in format_sentence(summarize(none.increases, None, no_kl, target="A"))
    small = format_sentence(make(list_conditions(layers=(0,), multipliers=(1.0, 2.0)), 8))
    assert "(no interval, N=4 prompts;" in small
    assert "[" not in small.split(";")[0]


def test_the_sentence_of_clusters_and_of_another_target():
    increases = draw_increases(40, per_cluster=2)
    measures = draw_measures(increases)
    text = format_sentence(summarize(increases, None, measures, target="matching"))
    assert text.startswith("ΔP(matching answer≤10)=")
    assert "(95% cluster t, N=20 prompts in 10 clusters;" in text
    assert "log-prob increase of completions with the matching answer" in text
    assert format_sentence(summarize(increases, None, measures, target="B", level=0.9)).startswith('ΔP("B"≤10)=')
    assert "(90% cluster t" in format_sentence(summarize(increases, None, measures, target="B", level=0.9))


def test_where_no_half_could_be_held_back_the_sentence_says_so():
    few = make(list_conditions(layers=(0,), multipliers=(1.0, 2.0)), 3, per_cluster=3)
    assert not few.best.held_out
    text = format_sentence(few)
    best = max(few.table("delta_p_A"), key=lambda row: row.estimate.value)
    assert text.startswith(f'ΔP("A"≤10)={best.estimate.value:+.2f} pp')
    assert text.endswith(f"multiplier {best.condition.multiplier:+g}, the largest of 2 and chosen for it.")


@pytest.mark.parametrize("per_cluster", [1, 24])
@pytest.mark.parametrize("measured", [True, False])
def test_with_only_negative_multipliers_the_sentence_is_of_the_cell_that_figures_and_plans_take(per_cluster, measured):
    conditions = list_conditions(layers=(0, 1), multipliers=(-2.0, -1.0))
    increases = draw_increases(24, conditions, per_cluster=per_cluster)
    got = summarize(increases, None, draw_measures(increases, effect=1.0) if measured else None, target="A")
    best = pick_best(got).condition
    text = format_sentence(got)
    assert f"This is layer {best.layer}, multiplier {best.multiplier:+g}, " in text
    split = "report" if got.best.held_out else "all"
    (row,) = [
        r
        for r in got.rows
        if (r.condition, r.quantity, r.split) == (best, got.best.quantity, split) and r.weighting == "macro"
    ]
    digits = 2 if measured else 3
    assert f"{row.estimate.value:+.{digits}f} " in text
    assert row.estimate.value < 0
    assert got.best.held_out == (per_cluster == 1)
    assert ("the smallest of 4 and chosen for it" in text) == (not got.best.held_out)


def test_the_sentence_without_a_single_answer():
    increases = draw_increases(8)
    completions = dataclasses.replace(increases.completions, label=np.full(40, "B"))
    text = format_sentence(summarize(dataclasses.replace(increases, completions=completions), target="A"))
    assert text == "No prompt has a completion with the target answer: the average increase is undefined."

"""Runs side by side."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from synthetic import make_study

from completions_lp.records import InputError
from completions_lp.report.comparison import compare_reports
from completions_lp.show.text import format_comparison, tabulate_comparison
from completions_lp.stats import difference_interval


def shift(report, by, *, quantity="delta_p_A", rename=None):
    """The same report with a quantity moved, and its prompts renamed."""
    table = dict(report.prompts)
    table[quantity] = table[quantity] + by
    if rename:
        table["prompt_id"] = np.array([rename + i for i in table["prompt_id"]], dtype=object)
        table["cluster"] = np.array([rename + i for i in table["cluster"]], dtype=object)
    return replace(report, prompts=table)


@pytest.fixture(scope="module")
def study():
    report = make_study(n_prompts=14, n_random=0)
    clusters = np.array([f"c{i[1:]}" for i in report.prompts["prompt_id"]], dtype=object)
    positions = np.full(len(clusters), "completion", dtype=object)
    return replace(report, prompts={**report.prompts, "cluster": clusters, "positions": positions})


def values_of(report, condition, quantity):
    table = report.prompts
    here = (table["vector"] == condition.vector) & (table["layer"] == condition.layer)
    return table[quantity][here & (table["multiplier"] == condition.multiplier)]


def test_shared_prompts_are_compared_one_by_one(study):
    noise = np.random.default_rng(0).normal(0, 0.1, len(study.prompts["delta_p_A"]))
    other = shift(study, 3.0 + noise)
    found = compare_reports({"one": study, "two": other}, quantities=["delta_p_A"])
    cells = {d.cells[0] for d in found}
    assert len(cells) == 3 * 4  # all cells of the target vector
    for d in found[1:]:  # the first is best against best
        change = values_of(other, d.cells[1], "delta_p_A") - values_of(study, d.cells[0], "delta_p_A")
        want = stats.ttest_1samp(change, 0).confidence_interval()
        assert d.paired
        assert d.difference.value == pytest.approx(change.mean())
        assert (d.difference.low, d.difference.high) == pytest.approx(tuple(want))
        own = stats.ttest_1samp(values_of(study, d.cells[0], "delta_p_A"), 0).confidence_interval()
        assert (d.values[0].low, d.values[0].high) == pytest.approx(tuple(own))
        assert d.difference.high - d.difference.low < 0.5 * (d.values[0].high - d.values[0].low)


def test_the_difference_can_be_read_off_the_means_over_shared_prompts(study):
    """Each run has prompts of its own, and one that both asked is undefined in the second."""
    ids = study.prompts["prompt_id"]
    other = shift(study, np.random.default_rng(0).normal(0, 20, len(ids)))
    other.prompts["delta_p_A"][ids == "p5"] = np.nan
    parts = []
    for report, left_out in ((study, ("p0", "p1")), (other, ("p2", "p3", "p4"))):
        keep = ~np.isin(ids, left_out)
        parts.append(replace(report, prompts={name: values[keep] for name, values in report.prompts.items()}))
    for d in compare_reports({"one": parts[0], "two": parts[1]}, quantities=["delta_p_A"]):
        one, two = d.shared
        assert d.paired
        assert (d.values[0].n, d.values[1].n, one.n, two.n, d.difference.n) == (12, 10, 8, 8, 8)
        assert two.value - one.value == pytest.approx(d.difference.value, abs=1e-12)
        assert abs(d.values[1].value - d.values[0].value - d.difference.value) > 0.1
        for side, report, cell in zip(d.shared, (study, other), d.cells, strict=True):
            values = values_of(report, cell, "delta_p_A")[6:]
            assert side.value == pytest.approx(values.mean())
            want = stats.ttest_1samp(values, 0).confidence_interval()
            assert (side.low, side.high) == pytest.approx(tuple(want))


def test_other_prompts_are_an_independent_sample(study):
    other = shift(make_like(study, seed=1), 3.0, rename="x")
    for d in compare_reports({"one": study, "two": other}, quantities=["delta_p_A", "kl_per_token"])[2:]:
        one, two = (values_of(r, c, d.quantity) for r, c in zip((study, other), d.cells, strict=True))
        want = stats.ttest_ind(two, one, equal_var=False)
        assert not d.paired
        assert d.difference.value == pytest.approx(two.mean() - one.mean())
        assert (d.difference.low, d.difference.high) == pytest.approx(tuple(want.confidence_interval()))
        assert d.difference.unit == {"delta_p_A": "pp", "kl_per_token": "nats/token"}[d.quantity]


def make_like(study, *, seed):
    other = make_study(n_prompts=14, n_random=0, seed=seed)
    columns = ("cluster", "positions")
    return replace(other, prompts={**other.prompts, **{name: study.prompts[name] for name in columns}})


def test_the_best_cell_of_each_run_comes_first(study):
    first = compare_reports({"one": study, "two": study}, quantities=["delta_p_A"])[0]
    assert first.cells == (study.best.condition, study.best.condition)
    assert first.difference.value == 0
    assert first.difference.low is None  # all differences are the same: no spread is known


def test_few_shared_prompts_have_no_interval_of_their_own(study):
    few = np.isin(study.prompts["prompt_id"], [f"p{i}" for i in range(5)])
    part = replace(study, prompts={name: values[few] for name, values in study.prompts.items()})
    for d in compare_reports({"one": study, "few": part}, quantities=["delta_p_A"]):
        assert not d.paired
        assert d.shared is None
        assert d.difference.low is None
        assert d.values[1].low is None


def test_what_cannot_be_compared_is_said(study):
    with pytest.raises(InputError, match="at least two"):
        compare_reports({"one": study})
    with pytest.raises(InputError, match="shares no quantity and no cell"):
        compare_reports({"one": study, "two": study}, quantities=["bound_gap"])
    with pytest.raises(InputError, match="no quantity 'delta_p_a'; the nearest is 'delta_p_A'"):
        compare_reports({"one": study, "two": study}, quantities=["kl", "delta_p_a"])


def test_the_table_and_the_rows_have_the_same_numbers(study):
    found = compare_reports({"one": study, "two\x1b[31m": shift(study, 1.0)}, quantities=["delta_p_A"])
    text = format_comparison(found, everything=True)
    rows = tabulate_comparison(found)
    assert "\x1b" not in text
    lines = text.split("\n\n")[1].splitlines()[1:]
    assert len(lines) == len(rows) == len(found)
    for line, row, d in zip(lines, rows, found, strict=True):
        assert f"{row['difference_value']:+.2f}" in line
        assert (row["first_value"], row["first_shared_value"]) == (d.values[0].value, d.shared[0].value)
        assert (row["first_layer"], row["second_multiplier"]) == (d.cells[0].layer, d.cells[1].multiplier)
        assert (row["paired"], row["unit"]) == (True, "pp")


def test_best_cells_come_first_then_those_that_differ_most(study):
    other = dict(study.prompts)
    moved = (other["layer"] == 2) & (other["multiplier"] == -1.0)
    other["delta_p_A"] = other["delta_p_A"] + np.where(moved, 40.0, 1.0)
    found = compare_reports({"one": study, "two": replace(study, prompts=other)})
    text = format_comparison(found, width=120)
    lines = text.split("\n\n")[1].splitlines()[1:]
    assert len(found) > len(lines) == 12
    best = study.best.condition
    n = sum(d.cells[0] == best for d in found)
    assert all(line.strip().startswith(f"layer {best.layer}, {best.multiplier:+g} ") for line in lines[:n])
    assert lines[n].strip().startswith("layer 2, -1 ")
    assert f"{len(found) - 12} more: --all" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_table_says_over_which_prompts_each_number_is(study):
    part = np.isin(study.prompts["prompt_id"], [f"p{i}" for i in range(8)])
    few = replace(study, prompts={name: values[part] for name, values in study.prompts.items()})
    found = compare_reports({"one": study, "few": few}, quantities=["delta_p_A"])
    text = format_comparison(found, width=200)
    assert "Both means and their difference are over the 8 prompts that both runs asked" in text
    assert "over its own prompts, 14 and 8, each run's report has other means" in text
    first = text.split("\n\n")[1].splitlines()[1]
    mean = f"{found[0].shared[0].value:+.2f} ["
    assert mean in first
    assert f"{found[0].values[0].value:+.2f} [" not in first
    other = compare_reports({"one": study, "other": shift(study, 1.0, rename="x")}, quantities=["delta_p_A"])
    assert "over 14 prompts of the first and 14 of the second run: independent" in format_comparison(other, width=200)
    mixed = [replace(d, second="x") for d in (*found[:1], *other[:1])]
    lines = [line.strip() for line in format_comparison(mixed, width=200).split("\n\n")[1].splitlines()]
    assert [line.rsplit("  ", 1)[1].strip() for line in lines] == ["prompts", "8 shared", "14 and 14"]
    same = compare_reports({"one": study, "two": study}, quantities=["delta_p_A"])
    assert "over the 14 prompts that both runs asked." in format_comparison(same, width=200)


def test_runs_of_different_answers_are_told_apart(study):
    found = compare_reports({"one": study, "two": study}, quantities=["delta_p_A"])
    assert 'A: the answer "B".' in format_comparison(found, targets={"one": "B", "two": "B"})
    text = format_comparison(found, targets={"one": "matching", "two": "B"})
    assert 'A of two: the answer "B".' in text
    assert "The runs measure different answers" in text


@pytest.mark.parametrize("sizes", [(8, 30), (12, 12), (40, 7)])
def test_the_difference_of_independent_samples_is_welch(sizes):
    rng = np.random.default_rng(3)
    one, two = rng.normal(0, 1, sizes[0]), rng.normal(1, 3, sizes[1])
    got = difference_interval(one, two, *(np.arange(n) for n in sizes), unit="nats", level=0.9)
    want = stats.ttest_ind(two, one, equal_var=False)
    assert (got.low, got.high) == pytest.approx(tuple(want.confidence_interval(0.9)))
    assert got.df == pytest.approx(want.df)
    assert (got.n, got.n_clusters, got.method) == (sum(sizes), sum(sizes), "Welch t")


def test_clusters_count_once_in_the_difference():
    rng = np.random.default_rng(4)
    one, two = rng.normal(0, 1, 8), rng.normal(1, 1, 9)
    doubled = difference_interval(
        np.repeat(one, 2), np.repeat(two, 2), np.repeat(np.arange(8), 2), np.repeat(np.arange(9), 2), unit="nats"
    )
    single = difference_interval(one, two, np.arange(8), np.arange(9), unit="nats")
    assert (doubled.low, doubled.high) == pytest.approx((single.low, single.high))

"""Effect against cost: lines by vector or by layer, in the picture, the table and the words; sweeps by dose."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.lines import Line2D
from synthetic import make_study

from completions_lp.records import Condition, Dose, InputError, VectorRow
from completions_lp.show.figures import GALLERY, say_skipped
from completions_lp.show.figures.costs import Costs
from completions_lp.show.figures.heatmap import Heatmap
from completions_lp.show.figures.layers import LayerSweep


@pytest.fixture(scope="module")
def study():
    return make_study()


def rename(row, vector, kind):
    return replace(row, condition=replace(row.condition, vector=vector, kind=kind))


@pytest.fixture(scope="module")
def several(study):
    """The same cells once more as another vector's, at half the effect."""
    more = []
    for row in study.rows:
        if row.condition.kind == "target" and row.split == "all":
            other = rename(row, "other", "further")
            if row.quantity == "delta_p_A":
                other = replace(other, estimate=replace(other.estimate, value=other.estimate.value / 2))
            more.append(other)
    rows = (*study.rows, *more)
    cells = [row for row in rows if row.quantity == "delta_p_A" and row.condition == study.best.condition][:1]
    cells.append(next(r for r in more if r.quantity == "delta_p_A" and r.condition.layer == 0))
    vectors = tuple(VectorRow(r.condition, None, "delta_p_A", r.estimate, None, None, 0, "report") for r in cells)
    return replace(study, rows=rows, vectors=vectors)


def find(report, quantity, condition):
    return next(row.estimate for row in report.table(quantity, kind=None) if row.condition == condition)


def test_a_vector_has_a_line_per_layer_and_sign(study):
    view = Costs.of(study)
    assert [(line.name, line.positive) for line in view.lines] == [
        (f"layer {layer}", positive) for layer in range(3) for positive in (True, False)
    ]
    (axes,) = view.draw().axes
    assert axes.get_xscale() == "log"
    drawn = {line.get_label(): line for line in axes.get_lines()}
    for line in view.lines[::2]:
        cells = [gain.condition for _, gain in line.points]
        assert all(c.multiplier > 0 and c.layer == int(line.name[-1]) for c in cells)
        x, y = drawn[line.name].get_data()
        assert list(x) == sorted(find(study, "kl_per_token", c).value for c in cells)
        assert list(y) == [find(study, "delta_p_A", c).value for c in cells]
    (cloud,) = [line for line in axes.get_lines() if line.get_label() == "_random"]
    assert len(cloud.get_xdata()) == 19 * 12
    assert view.rows[0]["line"] == "layer 0"
    assert "a line per layer" in view.caption
    assert "19 random directions" in view.caption


def test_several_vectors_have_a_line_each_where_their_best_cells_are(several):
    view = Costs.of(several)
    own, other = several.vectors
    assert [(line.name, line.positive) for line in view.lines] == [
        (name, positive) for name in (own.condition.vector, "other") for positive in (True, False)
    ]
    sites = {line.name: {gain.condition.layer for _, gain in line.points} for line in view.lines}
    assert sites == {own.condition.vector: {own.condition.layer}, "other": {0}}
    left, right = view.draw().axes
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == [own.condition.vector, "other"]
    dots = [line for line in right.get_lines() if isinstance(line, Line2D) and line.get_marker() == "o"]
    assert [dot.get_xdata()[0] for dot in dots] == [own.value.value, other.value.value]
    assert "a line per vector" in view.caption
    assert "on the half of the prompts that chose none of them" in view.caption
    assert [row["vector"] for row in view.rows if row["line"] == "best cell"] == [own.condition.vector, "other"]


def test_without_divergences_there_is_nothing_to_draw(study):
    bare = replace(study, rows=tuple(row for row in study.rows if row.quantity != "kl_per_token"))
    view = Costs.of(bare)
    assert view.rows == []
    assert "to draw" in view.caption
    (axes,) = view.draw().axes
    assert any("per token" in text.get_text() for text in axes.texts)
    assert "costs" in GALLERY
    with pytest.raises(InputError, match="no positions"):
        Costs.of(study, positions="first:3")
    assert say_skipped("costs", study) == ""


@pytest.fixture(scope="module")
def dosed(study):
    """The same study with doses in KL: multipliers that differ from layer to layer."""

    def dose(c):
        if not c.steers or c.is_neutral:
            return c
        return replace(c, multiplier=c.multiplier * (1 + 0.1 * c.layer), dose=c.multiplier / 10)

    rows = tuple(replace(row, condition=dose(row.condition)) for row in study.rows)
    best = replace(study.best, condition=dose(study.best.condition))
    cells = {row.condition for row in rows if row.condition.steers}
    return replace(study, rows=rows, best=best, doses=tuple(Dose(c, "kl", 0.1, abs(c.asked)) for c in cells))


def test_sweeps_are_by_dose_where_multipliers_differ(study, dosed):
    plain, view = Heatmap.of(study), Heatmap.of(dosed)
    assert view.multipliers == [-0.2, -0.1, 0.1, 0.2]
    axes, others = view.draw().axes[0], plain.draw().axes[0]
    assert axes.get_ylabel() == "KL dose (nats/token)"
    assert others.get_ylabel() == "multiplier"
    np.testing.assert_array_equal(axes.collections[0].get_array(), others.collections[0].get_array())
    sweep = LayerSweep.of(dosed)
    assert sweep.multipliers == [-0.2, -0.1, 0.1, 0.2]
    assert [panel.get_title() for panel in sweep.draw().axes] == [
        f"KL dose (nats/token) {sign}" for sign in ("−0.2", "−0.1", "+0.1", "+0.2")
    ]
    assert "19 random directions at the same KL" in sweep.caption
    assert "of the same norm" in LayerSweep.of(study).caption


def test_a_condition_is_asked_for_by_its_dose():
    assert Condition("v", "target", 0, 2.0).asked == 2.0
    assert Condition("v", "target", 0, 2.0, dose=0.1).asked == 0.1

"""Figures over layers and multipliers: the line's data, the interval's ends, the labels with their units."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from synthetic import make_study

from completions_lp.records import BASELINE, Condition, Estimate, Report, ReportRow
from completions_lp.show.figures import Damage, DoseResponse, Heatmap, LayerSweep, Probabilities, PromptEffects


@pytest.fixture(scope="module")
def study():
    return make_study()


def lines_of(axes):
    """{label: (x, y)} of the lines that stand in the legend."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def ends_at(ribbon, x):
    """Lower and upper end of an area at one place."""
    corners = np.concatenate([path.vertices for path in ribbon.get_paths()])
    at = corners[np.isclose(corners[:, 0], x), 1]
    return at.min(), at.max()


def find(report, quantity, layer, multiplier):
    (row,) = [r for r in report.table(quantity) if (r.condition.layer, r.condition.multiplier) == (layer, multiplier)]
    return row


def keep(report, *quantities):
    """The report with these quantities only."""
    return Report(report.target, tuple(r for r in report.rows if r.quantity in quantities), {}, {})


def change(report, test, **estimate):
    """The report with the estimates of some rows changed."""
    rows = [replace(r, estimate=replace(r.estimate, **estimate)) if test(r) else r for r in report.rows]
    return Report(report.target, tuple(rows), report.prompts, report.checks)


def test_a_panel_of_the_layer_sweep_has_the_mean_and_three_bands(study):
    figure = LayerSweep.of(study).draw()
    panels = figure.axes
    assert [panel.get_title() for panel in panels] == [f"multiplier {m}" for m in ("−2", "−1", "+1", "+2")]
    for panel, m in zip(panels, (-2.0, -1.0, 1.0, 2.0), strict=True):
        x, y = lines_of(panel)["mean"]
        assert x == [0, 1, 2]
        assert y == [find(study, "delta_p_A", layer, m).estimate.value for layer in x]
        controls, band, interval = panel.collections[:3]
        for layer in x:
            row = find(study, "delta_p_A", layer, m)
            i = row.inference
            assert ends_at(controls, layer) == pytest.approx((i.random_low, i.random_high))
            assert ends_at(band, layer) == pytest.approx((i.band_low, i.band_high))
            assert ends_at(interval, layer) == pytest.approx((row.estimate.low, row.estimate.high))
    assert figure.get_supylabel() == "change of P(A) (pp)"
    assert figure.get_supxlabel() == "layer at whose output the vector is added"
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown[:4] == ["mean", "interval", "whole sweep", "random"]


def test_markers_are_hollow_where_more_than_a_tenth_of_the_prompts_are_red(study):
    def share(layer):
        return {0: 0.1, 1: 0.11, 2: float("nan")}[layer]

    rows = [r for r in study.rows if r.quantity != "share_red"]
    cells = {r.condition for r in rows if r.condition.kind == "target"}
    count = Estimate(0.0, None, None, 0.95, "share", 12, 12, "count")
    rows += [ReportRow(c, "share_red", "macro", replace(count, value=share(c.layer)), 0) for c in cells]
    report = Report("A", tuple(rows), study.prompts, {})
    for panel in LayerSweep.of(report).draw().axes:
        (hollow,) = [line for line in panel.get_lines() if line.get_label() == "_hollow"]
        assert list(hollow.get_xdata()) == [1]
        assert hollow.get_markerfacecolor() == "white"
        (mean,) = [line for line in panel.get_lines() if line.get_label() == "mean"]
        assert list(mean.get_markevery()) == [True, False, True]
    table = LayerSweep.of(report).rows
    assert {row["layer"] for row in table if row["untrusted"]} == {1}
    assert "Hollow: more than 10 % of the prompts are red" in LayerSweep.of(report).caption
    assert "Hollow" not in LayerSweep.of(keep(study, "delta_p_A")).caption
    for layer, places in ((0, None), (1, [-2, -1, 1, 2])):
        (axes,) = DoseResponse.of(report, layer=layer).draw().axes
        hollow = [list(line.get_xdata()) for line in axes.get_lines() if line.get_label() == "_hollow"]
        assert hollow == ([places] if places else [])
    titles = [PromptEffects.of(report, layer=n, multiplier=1.0).draw().axes[0].get_title() for n in (0, 1)]
    assert titles == ["layer 0, multiplier +1", "layer 1, multiplier +1, over 10 % red"]


def test_on_axes_of_the_user_there_is_a_line_for_every_multiplier(study):
    axes = Figure().subplots()
    LayerSweep.of(study, quantity="log_ratio_A").draw(axes)
    lines = lines_of(axes)
    assert list(lines) == ["−2", "−1", "+1", "+2"]
    for m, (x, y) in zip((-2.0, -1.0, 1.0, 2.0), lines.values(), strict=True):
        assert y == [find(study, "log_ratio_A", layer, m).estimate.value for layer in x]
    assert axes.get_ylabel() == "log ratio of P(A) (nats)"
    assert axes.get_legend().get_title().get_text() == "multiplier"
    drawn = [line for line in axes.get_lines() if line.get_label() in lines]
    assert len({line.get_marker() for line in drawn}) == 4
    greys = sorted(float(np.dot(mpl.colors.to_rgb(line.get_color()), [0.3, 0.6, 0.1])) for line in drawn)
    assert min(np.diff(greys)) > 0.1


def test_multiplier_0_is_no_steering_and_is_left_out(study):
    zero = Condition("v", "target", 0, 0.0)
    row = ReportRow(zero, "delta_p_A", "macro", Estimate(0.0, None, None, 0.95, "pp", 12, 12, "t"), 0)
    report = Report("A", (*study.rows, row), {}, {})
    assert len(LayerSweep.of(report).draw().axes) == 4
    assert all(line["multiplier"] != 0 for line in LayerSweep.of(report).rows)


def test_other_kinds_of_vectors_can_be_drawn_one_at_a_time(study):
    axes = Figure().subplots()
    LayerSweep.of(study, kind="random", vector="v-random-3").draw(axes)
    wanted = [r.estimate.value for r in study.table("delta_p_A", kind="random") if r.condition.vector == "v-random-3"]
    assert sorted(y for _, ys in lines_of(axes).values() for y in ys) == sorted(wanted)


def test_a_missing_interval_leaves_a_gap_and_a_lone_one_is_a_bar(study):
    report = change(study, lambda r: r.quantity == "delta_p_A" and r.condition.layer != 1, low=None, high=None)
    axes = Figure().subplots()
    LayerSweep.of(report).draw(axes)
    bars = [c for c in axes.collections if isinstance(c, mpl.collections.LineCollection)]
    segments = [segment for bar in bars for segment in bar.get_segments()]
    assert len(segments) == 4
    for segment, m in zip(segments, (-2.0, -1.0, 1.0, 2.0), strict=True):
        e = find(report, "delta_p_A", 1, m).estimate
        assert segment.tolist() == [[1, e.low], [1, e.high]]
    undefined = change(study, lambda r: r.condition.layer == 1, value=float("nan"), low=None, high=None, n=0)
    (_, y), *_ = lines_of(LayerSweep.of(undefined).draw().axes[0]).values()
    assert np.isnan(y).tolist() == [False, True, False]


def test_the_dose_response_goes_through_the_origin_and_shades_the_gap(study):
    (axes,) = DoseResponse.of(study, layer=1).draw().axes
    lines, doses = lines_of(axes), [-2.0, -1.0, 0.0, 1.0, 2.0]
    drawn = {
        "log ratio of P(A)": "log_ratio_A",
        "A completions (bound)": "increase_to_answer_A",
        "other completions": "increase_to_answer_not_A",
        "−KL, all": "kl",
    }
    for label, quantity in drawn.items():
        sign = -1 if quantity == "kl" else 1
        wanted = [0.0 if m == 0 else sign * find(study, quantity, 1, m).estimate.value for m in doses]
        assert lines[label] == (doses, pytest.approx(wanted))
    (gap,) = [c for c in axes.collections if c.get_label() == "gap"]
    for m in (-2.0, 2.0):
        values = [find(study, name, 1, m).estimate.value for name in ("log_ratio_A", "increase_to_answer_A")]
        assert ends_at(gap, m) == pytest.approx(sorted(values))
    (band,) = [c for c in axes.collections if c.get_label() == "random directions"]
    i = find(study, "log_ratio_A", 1, 2.0).inference
    assert ends_at(band, 2.0) == pytest.approx((i.random_low, i.random_high))
    assert ends_at(band, 0.0) == (0, 0)
    x, y = lines["mean slope"]
    assert y[1] / x[1] == pytest.approx(0.6)  # the slope of layer 1
    assert "mean slope +0.60 [+0.40, +0.80] nats/multiplier" in [text.get_text() for text in axes.texts]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("multiplier", "nats", "layer 1")
    dashed = {line.get_label(): line.is_dashed() for line in axes.get_lines()}
    assert dashed["other completions"]
    assert not dashed["log ratio of P(A)"]


def test_the_intervals_of_minus_kl_are_turned_around(study):
    (axes,) = DoseResponse.of(study, layer=1).draw().axes
    e = find(study, "kl", 1, 2.0).estimate
    segments = [s.tolist() for c in axes.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    other = find(study, "increase_to_answer_not_A", 1, 2.0).estimate
    beside = 2.0 + 0.012 * 4  # else it might hide behind that of the other completions
    assert [[beside, pytest.approx(-e.high)], [beside, pytest.approx(-e.low)]] in segments
    assert [[2.0, other.low], [2.0, other.high]] in segments
    assert axes.get_ylim()[0] < -e.high


def test_the_heat_map_is_centred_and_marks_what_it_should(study):
    axes, bar = Heatmap.of(study).draw().axes
    mesh = axes.collections[0]
    rows = study.table("delta_p_A")
    grid = np.array([[find(study, "delta_p_A", n, m).estimate.value for n in (0, 1, 2)] for m in (-2, -1, 1, 2)])
    np.testing.assert_allclose(mesh.get_array().reshape(4, 3), grid)
    assert mesh.norm.vmin == -mesh.norm.vmax == -np.abs(grid).max()
    white = mesh.cmap(0.5)
    assert min(white[:3]) > 0.97
    assert [t.get_text() for t in axes.get_yticklabels()] == ["−2", "−1", "+1", "+2"]
    assert bar.get_ylabel() == "change of P(A) (pp)"
    dots = [line for line in axes.get_lines() if line.get_label() == "_significant"]
    assert len(dots) == sum(row.inference.p_max_t < 0.05 for row in rows)
    patches = [p for p in axes.patches if isinstance(p, Rectangle)]
    (chosen,) = [p for p in patches if p.get_label() != "_untrusted"]
    assert not any(p.get_hatch() for p in patches)
    (held_out,) = [r for r in study.rows if r.split == "report" and r.quantity == "delta_p_A"]
    c = held_out.condition
    assert chosen.get_xy() == (c.layer - 0.5, [-2, -1, 1, 2].index(c.multiplier) - 0.5)
    red = {r.condition for r in study.table("share_red") if r.estimate.value > 0.1}
    assert sum(p.get_label() == "_untrusted" for p in patches) == len(red)
    said = Heatmap.of(study).caption
    assert (
        f"(layer {c.layer}, multiplier +{c.multiplier:g}); on the 6 others it is +{held_out.estimate.value:.1f}" in said
    )
    assert "mean over 12 prompts" in said


def test_the_heat_map_of_many_layers_has_no_numbers_in_it(study):
    few, many = (Heatmap.of(make_study(layers=tuple(range(n)), n_random=0)).draw() for n in (9, 10))
    assert len(few.axes[0].texts) == 36
    assert len(many.axes[0].texts) == 0


def test_efficacy_stands_against_damage_with_crosses_and_a_front(study):
    (axes,) = Damage.of(study).draw().axes
    marks = {line.get_label(): line for line in axes.get_lines() if line.get_label().startswith("_layer")}
    assert len(marks) == 12
    for n, m in ((0, -2.0), (1, 1.0)):
        mark = marks[f"_layer {n}, {m:+g}"]
        gain, cost = find(study, "delta_p_A", n, m).estimate, find(study, "kl_per_token", n, m).estimate
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (cost.value, gain.value)
        assert mark.get_marker() == ("^" if m > 0 else "v")
        segments = [s.tolist() for c in axes.collections for s in c.get_segments()]
        assert [[cost.value, gain.low], [cost.value, gain.high]] in segments
        assert [[cost.low, gain.value], [cost.high, gain.value]] in segments
    (cloud,) = [line for line in axes.get_lines() if line.get_label() == "random directions"]
    assert len(cloud.get_xdata()) == 19 * 12
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "KL(unsteered ‖ steered) per token (nats/token)"
    points = [
        (find(study, "kl_per_token", n, m).estimate.value, find(study, "delta_p_A", n, m).estimate.value)
        for n in range(3)
        for m in (-2, -1, 1, 2)
    ]
    rivals = [*points, (0.0, 0.0)]  # no steering at all
    slow = [p for p in points if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in rivals)]
    (front,) = [line for line in axes.get_lines() if line.get_label() == "front"]
    assert list(zip(*front.get_data(), strict=True)) == sorted(slow)
    table = Damage.of(study).rows
    assert sorted((r["kl_per_token"], r["value"]) for r in table if r["on_front"]) == sorted(slow)


def test_a_front_of_one_cell_is_neither_drawn_nor_named(study):
    best = max(study.table("delta_p_A"), key=lambda row: row.estimate.value).condition
    cheap = change(
        study, lambda r: r.quantity == "kl_per_token" and r.condition == best, value=1e-4, low=None, high=None
    )
    for report, shown in ((study, True), (cheap, False)):
        view = Damage.of(report)
        (axes,) = view.draw().axes
        assert sum(row["on_front"] for row in view.rows) == 1 or shown
        assert ("front" in [line.get_label() for line in axes.get_lines()]) == shown
        assert ("front" in [text.get_text() for text in axes.get_legend().get_texts()]) == shown
        assert ("Stepped line" in view.caption) == shown


def test_probabilities_of_all_layers_meet_at_the_unsteered_one(study):
    (axes,) = Probabilities.of(study).draw().axes
    unsteered = study.estimate("p_A", BASELINE)
    lines = lines_of(axes)
    assert list(lines) == ["0", "1", "2"]
    for label, (x, y) in lines.items():
        assert x == [-2, -1, 0, 1, 2]
        wanted = [unsteered.value if m == 0 else find(study, "p_A_steered", int(label), m).estimate.value for m in x]
        assert y == wanted
    assert ends_at(axes.collections[0], 0.0) == pytest.approx((unsteered.low, unsteered.high))
    assert axes.get_ylabel() == "P(A), steered"
    table = Probabilities.of(study).rows
    assert len(table) == 13
    assert sum(row["kind"] == "baseline" for row in table) == 1


def test_many_layers_are_named_by_a_colour_bar():
    figure = Probabilities.of(make_study(layers=tuple(range(12)), n_random=0)).draw()
    axes, bar = figure.axes
    assert axes.get_legend() is None
    assert bar.get_ylabel() == "layer"
    assert not any(isinstance(c, mpl.collections.PolyCollection) for c in axes.collections)
    assert not any(isinstance(c, PathCollection) for c in axes.collections)
    assert "the table beside it has them" in Probabilities.of(make_study(layers=tuple(range(12)), n_random=0)).caption


def test_without_a_measured_probability_the_sweep_is_of_the_average_increase(study):
    plain = keep(study, "increase_to_answer_A", "logit_diff_change")
    assert LayerSweep.of(plain).draw().get_supylabel() == "log-prob increase of A completions,\nto the answer (nats)"
    assert {row["quantity"] for row in Heatmap.of(plain).rows} == {"increase_to_answer_A"}
    assert LayerSweep.of(plain).caption.startswith(
        "At which layers does the vector steer? Layer sweep: log-prob increase of A completions, to the answer (nats)"
    )
    assert {row["quantity"] for row in Heatmap.of(plain, quantity="logit_diff_change").rows} == {"logit_diff_change"}

"""Figures with prompts as points: where they stand, how they are marked, what is said of them."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from synthetic import make_study

from completions_lp.records import Estimate, Report, ReportRow
from completions_lp.show.figures import Agreement, Odds, Promotion, PromptEffects, Steerability


@pytest.fixture(scope="module")
def study():
    return make_study()


def columns_of(report, layer, multiplier):
    """The per-prompt table of one cell of the target, found row by row."""
    table = report.prompts
    rows = [
        i
        for i in range(len(table["layer"]))
        if (table["kind"][i], table["layer"][i], table["multiplier"][i]) == ("target", layer, multiplier)
    ]
    return {name: np.array([values[i] for i in rows]) for name, values in table.items()}


def points_of(axes):
    """{label: (x, y) pairs} of the markers."""
    return {c.get_label(): c.get_offsets().tolist() for c in axes.collections if isinstance(c, PathCollection)}


def segments_of(axes):
    return [s.tolist() for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()]


def near(points):
    return pytest.approx(np.array(sorted(points)))


def test_every_prompt_stands_at_its_two_probabilities_marked_by_trust(study):
    figure = PromptEffects.of(study, layer=1, multiplier=2.0).draw()
    axes, columns = figure.axes[0], columns_of(study, 1, 2.0)
    drawn = points_of(axes)
    assert set(drawn) == set(columns["trust"])
    for trust, points in drawn.items():
        mine = columns["trust"] == trust
        wanted = np.stack([columns["p_A"][mine], columns["p_A_steered"][mine]], 1).clip(0.002, 0.998).tolist()
        assert np.array(sorted(points)) == near(wanted)
    assert (axes.get_xscale(), axes.get_yscale()) == ("logit", "logit")
    assert axes.get_xlim() == axes.get_ylim()
    (diagonal,) = [line for line in axes.get_lines() if line.get_label() == "_diagonal"]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("P(A), unsteered", "P(A), steered")
    sizes = {
        tuple(p): s
        for c in axes.collections
        if isinstance(c, PathCollection)
        for p, s in zip(c.get_offsets().tolist(), c.get_sizes(), strict=True)
    }
    order = [sizes[key] for key in sorted(sizes, key=lambda key: key[0])]  # more of the answer, larger
    assert order[0] < order[-1]


def test_bars_are_bounds_where_they_certify_and_else_standard_errors(study):
    axes = PromptEffects.of(study, layer=1, multiplier=1.0).draw().axes[0]
    columns, drawn = columns_of(study, 1, 1.0), segments_of(axes)
    assert {"certified", "green"} <= set(columns["trust"])
    for i, trust in enumerate(columns["trust"]):
        q, se = columns["p_A_steered"][i], columns["p_A_steered_se"][i]
        low, high = columns["p_A_steered_low"][i], columns["p_A_steered_high"][i]
        ends = (low, high) if trust == "certified" else (q - se, q + se)
        wanted = [[columns["p_A"][i], end] for end in np.clip(ends, 0.002, 0.998)]
        assert any(np.allclose(segment, wanted) for segment in drawn), (i, trust)


def test_the_inset_has_the_log_ratios_and_the_shrunken_share(study):
    inset = PromptEffects.of(study, layer=1, multiplier=2.0).draw().axes[0].child_axes[0]
    ratios = columns_of(study, 1, 2.0)["log_ratio_A"]
    assert sum(bar.get_height() for bar in inset.patches) == len(ratios)
    assert inset.patches[0].get_x() == pytest.approx(ratios.min())
    assert inset.get_xlabel() == "log ratio (nats)"
    (row,) = [r for r in study.table("below_zero_delta_p_A") if (r.condition.layer, r.condition.multiplier) == (1, 2.0)]
    assert inset.get_title() == f"{100 * row.estimate.value:.0f} % steered the wrong way"
    without = Report("A", tuple(r for r in study.rows if r.quantity == "delta_p_A"), study.prompts, {})
    assert PromptEffects.of(without, layer=1, multiplier=2.0).draw().axes[0].child_axes[0].get_title() == ""


def test_the_change_stands_under_its_ceiling(study):
    axes = PromptEffects.of(study, layer=1, multiplier=2.0, change=True).draw().axes[0]
    columns = columns_of(study, 1, 2.0)
    points = [p for found in points_of(axes).values() for p in found]
    assert np.array(sorted(points)) == near(np.stack([columns["p_A"], columns["log_ratio_A"]], 1).tolist())
    (ceiling,) = [line for line in axes.get_lines() if line.get_label() == "ceiling −log P"]
    assert np.exp(-ceiling.get_ydata()) == pytest.approx(ceiling.get_xdata())
    assert axes.get_ylabel() == "log ratio of P(A) (nats)"
    said = PromptEffects.of(study, change=True).caption
    assert "the ceiling −log P" in said
    assert "log ratio (nats) of P(A) against the unsteered P(A), 12 prompts" in said


def test_prompts_without_a_probability_are_left_out(study):
    columns = {name: np.array(values, copy=True) for name, values in study.prompts.items()}
    columns["p_A_steered"][columns["prompt_id"] == "p3"] = np.nan
    report = Report("A", study.rows, columns, {})
    assert len(PromptEffects.of(report).rows) == 11
    assert "11 prompts" in PromptEffects.of(report).caption


def test_a_thousand_prompts_at_the_edges_stay_on_the_page():
    report = make_study(layers=(0,), multipliers=(1.0,), n_prompts=300, n_random=0)
    columns = {name: np.array(values, copy=True) for name, values in report.prompts.items()}
    columns["p_A_steered"][:50], columns["p_A"][50:90] = 1.0, 0.0
    figure = PromptEffects.of(Report("A", report.rows, columns, {})).draw()
    figure.draw_without_rendering()
    points = np.array([p for found in points_of(figure.axes[0]).values() for p in found])
    assert len(points) == 300
    assert points.min() == 0.002
    assert points.max() == 0.998


def test_promotion_has_the_others_across_and_the_answer_up(study):
    axes = Promotion.of(study, layer=1, multiplier=2.0).draw().axes[0]
    columns = columns_of(study, 1, 2.0)
    (prompts,) = [line for line in axes.get_lines() if line.get_label() == "prompts"]
    known = np.isfinite(columns["increase_to_answer_A"])
    assert list(prompts.get_xdata()) == columns["increase_to_answer_not_A"][known].tolist()
    assert list(prompts.get_ydata()) == columns["increase_to_answer_A"][known].tolist()
    means = [
        next(r.estimate for r in study.table(name) if (r.condition.layer, r.condition.multiplier) == (1, 2.0))
        for name in ("increase_to_answer_not_A", "increase_to_answer_A")
    ]
    across, up = means
    assert [[across.value, up.low], [across.value, up.high]] in segments_of(axes)
    assert [[across.low, up.value], [across.high, up.value]] in segments_of(axes)
    assert axes.get_xlabel() == "log-prob increase of other completions (nats)"
    assert axes.get_ylabel() == "log-prob increase of A completions (nats)"


def test_propensity_curves_go_through_the_unsteered_logit_diff(study):
    left, right = Steerability.of(study, layer=2).draw().axes
    (curves,) = [c for c in left.collections if c.get_label() == "prompts"]
    doses = [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert len(curves.get_segments()) == 12
    for i, segment in enumerate(curves.get_segments()):
        wanted = [columns_of(study, 2, m or 1.0)["logit_diff_steered" if m else "logit_diff"][i] for m in doses]
        assert segment[:, 0].tolist() == doses
        assert segment[:, 1] == pytest.approx(wanted)
    (mean,) = [line for line in left.get_lines() if line.get_label() == "mean"]
    assert list(mean.get_ydata()) == pytest.approx(np.mean([s[:, 1] for s in curves.get_segments()], axis=0))
    assert "mean slope +0.70 [+0.50, +0.90] nats/multiplier\n8 % steered the wrong way" in [
        t.get_text() for t in left.texts
    ]
    (slopes,) = [line for line in right.get_lines() if line.get_label() == "slope"]
    assert (list(slopes.get_xdata()), list(slopes.get_ydata())) == ([0, 1, 2], pytest.approx([0.5, 0.6, 0.7]))
    assert segments_of(right)[2] == [[2, pytest.approx(0.5)], [2, pytest.approx(0.9)]]
    assert right.get_ylabel() == "steerability (nats/multiplier)"
    assert left.get_ylabel().replace("\n", " ") == "logit diff of the two answers (nats)"


def cover(axes, box):
    """The words and legends of some axes that lie on a box of pixels."""
    words = [*axes.texts, *([axes.get_legend()] if axes.get_legend() else [])]
    return [found for found in words if found.get_window_extent().overlaps(box)]


@pytest.mark.parametrize("spread", [0.3, 5.0])
def test_no_word_and_no_legend_covers_a_prompt(study, spread):
    """Prompts also in the corners, where the words stand."""
    columns = {name: np.array(values, copy=True) for name, values in study.prompts.items()}
    corners = [(-1, -1), (1, -1), (-1, 1), (1, 1)]
    for name, at in (("increase_to_answer_not_A", 0), ("increase_to_answer_A", 1)):
        columns[name] = spread * np.array([corners[i % 4][at] for i in range(len(columns[name]))])
    figure = Promotion.of(replace(study, prompts=columns), layer=1, multiplier=2.0).draw()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (prompts,) = [line for line in axes.get_lines() if line.get_label() == "prompts"]
    for x, y in axes.transData.transform(prompts.get_xydata()):
        assert not cover(axes, Bbox([[x - 2, y - 2], [x + 2, y + 2]]))


@pytest.mark.parametrize("slope", [-3.0, 0.0, 3.0])
def test_no_word_and_no_legend_covers_a_propensity_curve(study, slope):
    columns = {name: np.array(values, copy=True) for name, values in study.prompts.items()}
    columns["logit_diff_steered"] = columns["logit_diff"] + slope * columns["multiplier"]
    figure = Steerability.of(replace(study, prompts=columns), layer=2).draw()
    figure.draw_without_rendering()
    left = figure.axes[0]
    (curves,) = [c for c in left.collections if c.get_label() == "prompts"]
    for segment in curves.get_segments():
        for x, y in left.transData.transform(segment):
            assert not cover(left, Bbox([[x - 1, y - 1], [x + 1, y + 1]]))


def test_agreement_of_cells_has_crosses_and_a_diagonal(study):
    (axes,) = Agreement.of(study).draw().axes
    marks = {line.get_label(): line for line in axes.get_lines()}
    sampled = {r.condition: r.estimate.value for r in study.table("log_odds_change_A_B")}
    trusted = {r.condition for r in study.table("share_red") if r.estimate.value <= 0.1}
    colors = {}
    for row in study.table("logit_diff_change"):
        c = row.condition
        mark = marks[f"_layer {c.layer}, {c.multiplier:+g}"]
        assert mark.get_xydata().tolist() == [[row.estimate.value, sampled[c]]]
        assert (mark.get_marker(), mark.get_markersize()) == (
            "^" if c.multiplier > 0 else "v",
            2.5 + 2 * abs(c.multiplier),
        )
        assert (mark.get_markerfacecolor() == "white") == (c not in trusted)
        colors.setdefault(c.layer, set()).add(mark.get_markeredgecolor())
    assert [len(found) for found in colors.values()] == [1, 1, 1]
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == [*(f"layer {n}" for n in range(3)), *(f"multiplier {m}" for m in ("−2", "−1", "+1", "+2"))]
    e = [
        next(r.estimate for r in study.table(q) if (r.condition.layer, r.condition.multiplier) == (1, 2.0))
        for q in ("logit_diff_change", "log_odds_change_A_B")
    ]
    assert [[e[0].value, e[1].low], [e[0].value, e[1].high]] in segments_of(axes)
    assert [[e[0].low, e[1].value], [e[0].high, e[1].value]] in segments_of(axes)
    diagonal = axes.get_lines()[-1]
    assert (diagonal.get_slope(), diagonal.get_xy1()) == (1, (0, 0))
    assert axes.get_xlabel() == "change of the two-choice logit diff (nats)"


def test_odds_set_the_read_out_beside_the_completions(study):
    view = Odds.of(study, layer=1)
    axes = view.draw().axes
    pairs = (("pref_odds_change", "log_odds_change_A_B"), ("util_odds_change", "log_odds_change_answered"))
    for panel, pair in zip(axes, pairs, strict=True):
        lines = {line.get_label(): line for line in panel.get_lines()}
        for name, label in zip(pair, ("read-out", "completions"), strict=True):
            rows = [r for r in study.table(name) if r.condition.layer == 1]
            want = sorted([(r.condition.multiplier, r.estimate.value) for r in rows] + [(0.0, 0.0)])
            assert lines[label].get_xydata().tolist() == [list(point) for point in want]
    assert [panel.get_title() for panel in axes] == ["PrefOdds: which answer", "UtilOdds: any answer"]
    assert {row["quantity"] for row in view.rows} == {name for pair in pairs for name in pair}
    assert {row["unit"] for row in view.rows} == {"nats"}
    assert "95 % t intervals over 12 prompts" in view.caption
    without = replace(study, rows=tuple(r for r in study.rows if "odds" not in r.quantity))
    assert Odds.of(without).caption == "PrefOdds and UtilOdds: nothing to draw."
    assert Odds.of(without).rows == []


def test_agreement_of_prompts_says_their_correlation_where_the_report_has_it(study):
    (axes,) = Agreement.of(study, layer=1, multiplier=2.0).draw().axes
    columns = columns_of(study, 1, 2.0)
    points = [p for found in points_of(axes).values() for p in found]
    wanted = np.stack([columns["logit_diff_change"], columns["log_odds_change_A_B"]], 1).tolist()
    assert np.array(sorted(points)) == near(wanted)
    assert not any("correlation" in text.get_text() for text in axes.texts)
    cell = next(r.condition for r in study.rows if (r.condition.layer, r.condition.multiplier) == (1, 2.0))
    e = Estimate(0.914, 0.8, 0.97, 0.95, "correlation", 12, 12, "Fisher z")
    report = replace(study, rows=(*study.rows, ReportRow(cell, "agreement_logit_diff", "macro", e, 0)))
    (axes,) = Agreement.of(report, layer=1, multiplier=2.0).draw(Figure().subplots()).axes
    assert [t.get_text() for t in axes.texts] == ["correlation +0.91 [+0.80, +0.97]"]
    assert Agreement.of(report, layer=1, multiplier=2.0).caption.endswith(
        "correlation +0.91 [+0.80, +0.97]. Vector v. The target is the answer A."
    )

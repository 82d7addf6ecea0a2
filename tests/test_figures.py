import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from completions_lp.figures import plot_layers
from completions_lp.records import Condition, Estimate, Report, ReportRow


def make_report(layers=(2, 0, 1), multipliers=(1.0, -1.0, 0.0), *, interval=True, unit="nats", kind="target"):
    rows = []
    for layer in layers:
        for m in multipliers:
            value = 10 * layer + m
            low, high = (value - 0.5, value + 0.25) if interval else (None, None)
            estimate = Estimate(value, low, high, 0.95, unit, 9, 9, "t")
            for quantity in ("increase_to_answer_A", "mass_steered"):
                rows.append(ReportRow(Condition("v", kind, layer, m), quantity, "macro", estimate, 0))
    return Report("A", tuple(rows), {}, {})


def lines_of(axes):
    """{label: (x, y)} of the lines that stand in the legend."""
    return {
        line.get_label(): (line.get_xdata(), line.get_ydata())
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def test_a_line_is_drawn_for_every_multiplier_over_the_layers():
    (axes,) = plot_layers(make_report()).axes
    lines = lines_of(axes)
    assert list(lines) == ["-1", "+1"]  # multiplier 0 is no steering
    for label, (x, y) in lines.items():
        assert list(x) == [0, 1, 2]
        assert list(y) == [10 * layer + float(label) for layer in range(3)]
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["-1", "+1"]
    assert legend.get_title().get_text() == "multiplier"


def test_the_band_ends_where_the_interval_ends():
    (axes,) = plot_layers(make_report()).axes
    assert len(axes.collections) == 2
    for band, m in zip(axes.collections, (-1.0, 1.0), strict=True):
        corners = band.get_paths()[0].vertices
        for layer in range(3):
            ends = corners[corners[:, 0] == layer, 1]
            assert (ends.min(), ends.max()) == (10 * layer + m - 0.5, 10 * layer + m + 0.25)


def test_an_interval_that_does_not_exist_is_not_drawn():
    (axes,) = plot_layers(make_report(interval=False)).axes
    assert len(axes.collections) == 0
    assert list(lines_of(axes)) == ["-1", "+1"]


def test_labels_say_what_is_drawn_in_which_unit():
    (axes,) = plot_layers(make_report()).axes
    assert axes.get_ylabel() == "log-prob increase of A-completions,\nto the answer\n(nats)"
    assert axes.get_xlabel() == "layer at whose output the vector is added"
    (axes,) = plot_layers(make_report(unit="probability"), quantity="mass_steered").axes
    assert axes.get_ylabel() == "mass_steered\n(probability)"


def test_lines_differ_in_more_than_colour():
    (axes,) = plot_layers(make_report(multipliers=(-2.0, -1.0, 1.0, 2.0))).axes
    drawn = [line for line in axes.get_lines() if line.get_label() in lines_of(axes)]
    assert len({line.get_marker() for line in drawn}) == 4
    greys = sorted(float(np.dot(mpl.colors.to_rgb(line.get_color()), [0.3, 0.6, 0.1])) for line in drawn)
    assert min(np.diff(greys)) > 0.1


def test_an_empty_report_says_so():
    for report in (make_report(layers=()), make_report(kind="random")):
        (axes,) = plot_layers(report).axes
        assert lines_of(axes) == {}
        assert [text.get_text() for text in axes.texts] == ["no conditions to draw"]
        assert axes.get_legend() is None
    (axes,) = plot_layers(make_report(kind="random"), kind="random").axes
    assert list(lines_of(axes)) == ["-1", "+1"]


def test_an_undefined_value_is_a_gap():
    estimate = Estimate(float("nan"), None, None, 0.95, "nats", 0, 0, "t")
    rows = list(make_report().rows)
    rows = [
        ReportRow(row.condition, row.quantity, "macro", estimate, 9) if row.condition.layer == 1 else row
        for row in rows
    ]
    (axes,) = plot_layers(Report("A", tuple(rows), {}, {})).axes
    assert np.isnan(lines_of(axes)["+1"][1]).tolist() == [False, True, False]


def test_settings_of_the_user_survive():
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 17, "axes.spines.top": True}):
        inside = dict(mpl.rcParams)
        plot_layers(make_report())
        assert dict(mpl.rcParams) == inside
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("nested", [False, True])
def test_axes_of_the_user_are_drawn_into(nested):
    figure = Figure()
    home = figure.subfigures(1, 2)[1] if nested else figure
    left, right = home.subplots(1, 2)
    assert plot_layers(make_report(), axes=right) is figure
    assert list(lines_of(right)) == ["-1", "+1"]
    assert lines_of(left) == {}


def test_a_figure_can_be_saved(tmp_path):
    figure = plot_layers(make_report())
    figure.savefig(tmp_path / "layers.pdf")
    figure.savefig(tmp_path / "layers.png")
    assert (tmp_path / "layers.pdf").read_bytes().startswith(b"%PDF")
    assert figure.get_figwidth() == 3.4

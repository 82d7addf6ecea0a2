"""What holds of every figure: whose axes and settings it uses, what it says when there is nothing to draw."""

import re
import zlib

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from synthetic import make_study

from completions_lp.records import InputError, Report
from completions_lp.show.figures import GALLERY, caption, tabulate
from completions_lp.show.figures.page import COLUMN, WIDE

PANELS = {"token_profile": 2, "steerability": 2, "diagnostics": 6, "distributions": 4}
"""Axes that a figure asks for, where it is not one."""
NAMES = sorted(GALLERY)


@pytest.fixture(scope="module")
def study():
    return make_study()


@pytest.fixture(scope="module")
def single():
    return make_study(n_prompts=1)


def texts_of(figure):
    """Everything that is written in a figure."""
    found = [text.get_text() for text in figure.findobj(mpl.text.Text)]
    return [text for text in found if text]


@pytest.mark.parametrize("name", NAMES)
def test_a_new_page_fits_a_column_and_can_be_saved(name, study, tmp_path):
    figure = GALLERY[name].plot(study)
    assert figure.get_figwidth() in (COLUMN, WIDE)
    for suffix in ("pdf", "png"):
        figure.savefig(tmp_path / f"figure.{suffix}")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "figure.png").stat().st_size > 2000


@pytest.mark.parametrize("name", NAMES)
def test_axes_of_the_user_are_drawn_into(name, study):
    mine = Figure()
    home = mine.subfigures(1, 2)[1]
    panels = home.subplots(1, PANELS.get(name, 1) + 1)
    chosen, spare = panels[:-1], panels[-1]
    assert GALLERY[name].plot(study, axes=chosen if len(chosen) > 1 else chosen[0]) is mine
    assert all(panel.has_data() for panel in chosen if name != "diagnostics")
    assert not spare.has_data()


@pytest.mark.parametrize("name", sorted(PANELS))
def test_too_few_axes_are_an_error(name, study):
    with pytest.raises(InputError, match=rf"this figure has {PANELS[name]} panels and got 1 axes"):
        GALLERY[name].plot(study, axes=Figure().subplots())


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_the_user_survive(name, study):
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 17, "axes.spines.top": True, "text.parse_math": True}):
        inside = dict(mpl.rcParams)
        GALLERY[name].plot(study)
        assert dict(mpl.rcParams) == inside
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_run_says_so(name):
    for report in (Report("A", (), {}, {}), make_study(layers=(), n_prompts=0)):
        figure = GALLERY[name].plot(report)
        figure.draw_without_rendering()
        assert any(re.match("no ", text) for text in texts_of(figure)), texts_of(figure)
        assert not figure.legends
        assert tabulate(report, name) == []
        assert "to draw" in caption(report, name) or name == "diagnostics"


def widths_of(figure):
    """Extents of whatever is drawn as an interval: ribbons up and down, bars along their length."""
    for artist in figure.findobj(PolyCollection):
        for path in artist.get_paths():
            yield float(np.ptp(path.vertices[:, 1]))
    for artist in figure.findobj(LineCollection):
        if artist.get_label() != "prompts":
            for segment in artist.get_segments():
                yield float(np.ptp(segment, axis=0).max())


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_one_prompt_says_so_and_has_no_interval(name, single):
    figure = GALLERY[name].plot(single)
    figure.draw_without_rendering()
    assert all(width > 0 for width in widths_of(figure))
    without = {"distributions", "diagnostics", "prompts_change", "heatmap"}  # these have no intervals at all
    said = [text for text in texts_of(figure) if text.startswith("1 prompt: no ")]
    assert bool(said) == (name not in without)
    assert "95 %" not in caption(single, name).replace("central 95 %", "")


@pytest.mark.parametrize("name", NAMES)
def test_captions_say_how_many_prompts_and_which_interval(name, study):
    text = caption(study, name)
    assert text.endswith(".")
    assert "  " not in text
    assert "\n" not in text
    if name not in ("diagnostics", "distributions", "prompts", "prompts_change"):
        assert "95 % t interval" in text
    if name != "diagnostics":
        assert re.search(r"\b12 prompts", text)
        assert re.search(r"nats|pp|probability|P\(A\)", text)


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_behind_a_figure_are_tidy(name, study):
    table = tabulate(study, name)
    assert len(table) > 0
    for row in table:
        assert all(v is None or np.isscalar(v) or isinstance(v, np.generic) for v in row.values()), row


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["_$x^{$ & #\x1b[1m", r"$\frac{1}{ 50 %"])
def test_text_of_files_is_drawn_as_it_stands(name, text):
    report = make_study(layers=(0, 1), multipliers=(-1.0, 1.0), vector=text, target=text)
    with mpl.rc_context({"text.parse_math": True}):
        figure = GALLERY[name].plot(report)
        mine = Figure()
        GALLERY[name].plot(report, axes=mine.subplots(1, {**PANELS, "distributions": 2}.get(name, 1)))
        figure.draw_without_rendering()
        mine.draw_without_rendering()
    assert not any("\x1b" in found for found in texts_of(figure))
    assert "\x1b" not in caption(report, name)


def test_fonts_are_embedded_whatever_the_settings_are_when_saving(tmp_path):
    figure = GALLERY["layer_sweep"].plot(make_study())
    with mpl.rc_context({"pdf.fonttype": 3}):
        figure.savefig(tmp_path / "figure.pdf")
        assert mpl.rcParams["pdf.fonttype"] == 3
    raw = (tmp_path / "figure.pdf").read_bytes()
    streams = [
        zlib.decompress(part) for part in re.findall(rb"stream\n(.*?)\nendstream", raw, re.S) if part[:1] == b"x"
    ]
    assert b"/FontFile2" in raw + b"".join(streams)
    assert b"/Subtype /Type3" not in raw + b"".join(streams)


def test_a_cell_can_be_named_and_a_wrong_one_is_an_error(study):
    assert "layer 0, multiplier −1" in caption(study, "prompts", layer=0, multiplier=-1.0)
    assert "layer 1, multiplier +2 (chosen on the other half" in caption(study, "prompts")
    assert "layer 2, multiplier +2 (the largest delta_p_A of 4 cells, and chosen for it)" in caption(
        study, "promotion", layer=2
    )
    with pytest.raises(InputError, match=r"no cell at layer 7, multiplier None; there are layers 0, 1, 2 and mult"):
        GALLERY["prompts"].plot(study, layer=7)
    with pytest.raises(InputError, match=r"no figure 'histogram'; there are layer_sweep, dose_response"):
        caption(study, "histogram")
    with pytest.raises(InputError, match="no target vector 'w' in this report; it has v"):
        GALLERY["layer_sweep"].plot(study, vector="w")


def test_a_sweep_of_negative_multipliers_shows_the_largest_decrease():
    report = make_study(multipliers=(-1.0, -2.0), n_random=0)
    report = Report("A", tuple(row for row in report.rows if row.split == "all"), report.prompts, {})
    lowest = min(report.table("delta_p_A"), key=lambda row: row.estimate.value).condition
    assert f"layer {lowest.layer}, multiplier −{abs(lowest.multiplier):g} (the smallest" in caption(report, "prompts")

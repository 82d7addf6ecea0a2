"""What holds of every figure: whose axes and settings it uses, what it says when there is nothing to draw."""

import re
import zlib
from dataclasses import FrozenInstanceError, replace

import matplotlib as mpl
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from synthetic import add_others, make_study

from completions_lp.quantities import QUANTITIES
from completions_lp.records import InputError, Report, Slope
from completions_lp.show.figures import GALLERY as EVERY
from completions_lp.show.figures import (
    Agreement,
    Damage,
    Distributions,
    DoseResponse,
    Heatmap,
    LayerSweep,
    Probabilities,
    Promotion,
    PromptEffects,
    Steerability,
    TokenProfile,
    check_names,
)
from completions_lp.show.figures.page import COLUMN, WIDE

SPECIAL = ("rivals", "off_target", "quality")
"""Figures of what only some runs have, which the study is given for them."""


def _draw_of(name, make):
    return lambda report, **options: make(add_others(report) if name in SPECIAL else report, **options)


GALLERY = {name: _draw_of(name, make) for name, make in EVERY.items()}
PANELS = {
    "rivals": 2,
    "off_target": 3,
    "odds": 2,
    "quality": 3,
    "reasoning": 2,
    "token_profile": 3,
    "steerability": 2,
    "diagnostics": 5,
    "distributions": 4,
}
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
    figure = GALLERY[name](study).draw()
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
    assert GALLERY[name](study).draw(chosen if len(chosen) > 1 else chosen[0]) is mine
    assert all(panel.has_data() for panel in chosen if name != "diagnostics")
    assert not spare.has_data()


@pytest.mark.parametrize("name", sorted(PANELS))
def test_too_few_axes_are_an_error(name, study):
    with pytest.raises(InputError, match=rf"this figure has {PANELS[name]} panels and got 1 axes"):
        GALLERY[name](study).draw(Figure().subplots())


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_the_user_survive(name, study):
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 17, "axes.spines.top": True, "text.parse_math": True}):
        inside = dict(mpl.rcParams)
        GALLERY[name](study).draw()
        assert dict(mpl.rcParams) == inside
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_run_says_so(name):
    for report in (Report("A", (), {}, {}), make_study(layers=(), n_prompts=0)):
        figure = GALLERY[name](report).draw()
        figure.draw_without_rendering()
        assert any(re.match("no ", text) for text in texts_of(figure)), texts_of(figure)
        assert not figure.legends
        assert GALLERY[name](report).rows == []
        assert "to draw" in GALLERY[name](report).caption or name == "diagnostics"


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
    figure = GALLERY[name](single).draw()
    figure.draw_without_rendering()
    assert all(width > 0 for width in widths_of(figure))
    without = {"distributions", "diagnostics", "prompts_change", "heatmap"}  # these have no intervals at all
    said = [text for text in texts_of(figure) if text.startswith("1 prompt: no ")]
    assert bool(said) == (name not in without)
    assert "95 %" not in GALLERY[name](single).caption.replace("central 95 %", "")


@pytest.mark.parametrize("name", NAMES)
def test_captions_say_how_many_prompts_and_which_interval(name, study):
    text = GALLERY[name](study).caption
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
    table = GALLERY[name](study).rows
    assert len(table) > 0
    for row in table:
        assert all(v is None or np.isscalar(v) or isinstance(v, np.generic) for v in row.values()), row


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["_$x^{$ & #\x1b[1m", r"$\frac{1}{ 50 %"])
def test_text_of_files_is_drawn_as_it_stands(name, text):
    report = make_study(layers=(0, 1), multipliers=(-1.0, 1.0), vector=text, target=text)
    with mpl.rc_context({"text.parse_math": True}):
        figure = GALLERY[name](report).draw()
        mine = Figure()
        GALLERY[name](report).draw(mine.subplots(1, {**PANELS, "distributions": 2}.get(name, 1)))
        figure.draw_without_rendering()
        mine.draw_without_rendering()
    assert not any("\x1b" in found for found in texts_of(figure))
    assert "\x1b" not in GALLERY[name](report).caption


def test_fonts_are_embedded_whatever_the_settings_are_when_saving(tmp_path):
    figure = GALLERY["layer_sweep"](make_study()).draw()
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
    assert "layer 0, multiplier −1:" in PromptEffects.of(study, layer=0, multiplier=-1.0).caption
    assert "layer 1, multiplier +2 (chosen on the other half" in PromptEffects.of(study).caption
    said = Promotion.of(study, layer=2).caption
    assert "layer 2, multiplier +2 (the largest change of P(A) of 4 cells, and chosen for it)" in said
    with pytest.raises(InputError, match=r"there is no such cell of the target vector; the cells .* 0:-2, 0:-1"):
        PromptEffects.of(study, layer=7)
    with pytest.raises(InputError, match=r"no figure 'histogram'; there are layer_sweep, dose_response"):
        check_names(["heatmap", "histogram"])
    with pytest.raises(InputError, match="no target vector 'w' in this report; it has v"):
        LayerSweep.of(study, vector="w")


def test_a_sweep_of_negative_multipliers_shows_the_largest_decrease():
    report = make_study(multipliers=(-1.0, -2.0), n_random=0)
    report = Report("A", tuple(row for row in report.rows if row.split == "all"), report.prompts, {})
    lowest = min(report.table("delta_p_A"), key=lambda row: row.estimate.value).condition
    said = PromptEffects.of(report).caption
    assert f"layer {lowest.layer}, multiplier −{abs(lowest.multiplier):g} (the smallest change of P(A) of 6" in said


@pytest.mark.parametrize("figure", [PromptEffects, Promotion, TokenProfile])
def test_figures_of_one_cell_show_the_best_cell_of_the_report(figure, study):
    cell = next(row.condition for row in study.rows if (row.condition.layer, row.condition.multiplier) == (0, 1.0))
    report = replace(study, best=replace(study.best, condition=cell))
    assert {(row["layer"], row["multiplier"]) for row in figure.of(report).rows} == {(0, 1.0)}
    assert "layer 0, multiplier +1 (chosen on the other half of the prompts)" in figure.of(report).caption


@pytest.mark.parametrize("figure", [DoseResponse, Steerability, Distributions])
def test_figures_of_one_layer_show_that_of_the_best_cell(figure, study):
    cell = next(row.condition for row in study.rows if row.condition.layer == 2)
    assert "at layer 2" in figure.of(replace(study, best=replace(study.best, condition=cell))).caption


def steer_twice(report):
    """The report with everything a second time, steered at all positions, where all numbers are larger by 1."""

    def move(row):
        e = row.estimate
        ends = {name: None if getattr(e, name) is None else getattr(e, name) + 1 for name in ("low", "high")}
        changes = {"estimate": replace(e, value=e.value + 1, **ends)}
        if isinstance(row, Slope):
            return replace(row, positions="all", **changes)
        return replace(row, condition=replace(row.condition, positions="all"), **changes)

    steered = [row for row in report.rows if row.condition.kind != "baseline"]
    columns = {name: np.asarray(values) for name, values in report.prompts.items()}
    columns["positions"] = np.full(len(columns["layer"]), "completion")
    second = {
        name: values + 1 if values.dtype == float and name != "multiplier" else values
        for name, values in columns.items()
    }
    second["positions"] = np.full(len(columns["layer"]), "all")
    increases = report.increases
    arrays = increases.PARTS
    return replace(
        report,
        rows=(*report.rows, *(move(row) for row in steered)),
        prompts={name: np.concatenate([values, second[name]]) for name, values in columns.items()},
        profile=(*report.profile, *(move(row) for row in report.profile)),
        slopes=(*report.slopes, *(move(slope) for slope in report.slopes)),
        increases=replace(
            increases,
            conditions=(*increases.conditions, *(replace(c, positions="all") for c in increases.conditions)),
            **{name: np.concatenate([getattr(increases, name), getattr(increases, name) + 1]) for name in arrays},
        ),
    )


@pytest.mark.parametrize("name", NAMES)
def test_two_positions_are_never_mixed(name, study):
    report = steer_twice(study)
    view = GALLERY[name](report)
    assert [str(row) for row in view.rows] == [str(row) for row in GALLERY[name](study).rows]
    note = " Steered at the positions “completion”; the report also has “all”."
    assert view.caption == GALLERY[name](study).caption + note
    view.draw()
    other = GALLERY[name](report, positions="all")
    assert len(other.rows) == len(view.rows)
    assert [str(row) for row in other.rows] != [str(row) for row in view.rows]
    assert "Steered at the positions “all”" in other.caption
    with pytest.raises(InputError, match="no positions 'all' in this report; it has completion"):
        GALLERY[name](study, positions="all")


def test_without_a_best_cell_the_first_positions_are_shown(study):
    report = replace(steer_twice(study), best=None)
    assert "“completion”; the report also" in LayerSweep.of(report).caption
    best = replace(study.best, condition=replace(study.best.condition, positions="all"))
    assert "“all”; the report also" in PromptEffects.of(replace(report, best=best)).caption


@pytest.mark.parametrize("figure", [LayerSweep, Heatmap, Damage, Probabilities, Agreement])
def test_an_unknown_quantity_is_an_error_that_names_the_nearest(figure, study):
    with pytest.raises(InputError, match="no quantity 'garbage'; the nearest is"):
        figure.of(study, quantity="garbage")
    with pytest.raises(InputError, match="no quantity 'delta_p'; the nearest is 'delta_p_A'"):
        figure.of(study, quantity="delta_p")
    assert figure.of(study, quantity="bound_gap").rows == []  # known, and not in this report


def labels_of(figure):
    """Each axis label, with the panel whose side it stands at, or None for those of the whole figure."""
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            if axis.label.get_text():
                yield axis.label, panel
    for text in (figure._supxlabel, figure._supylabel):
        if text is not None:
            yield text, None


def check_labels(figure):
    """Not one label is cut by the edge of the page, and none reaches into what stands beside its panel."""
    figure.draw_without_rendering()
    for label, panel in labels_of(figure):
        box, words = label.get_window_extent(), label.get_text()
        page = figure.bbox
        assert page.x0 <= box.x0, words
        assert page.y0 <= box.y0, words
        assert box.x1 <= page.x1, words
        assert box.y1 <= page.y1, words
        if panel is not None:
            side = (box.height, panel.bbox.height) if label.get_rotation() == 90 else (box.width, panel.bbox.width)
            assert side[0] <= 1.02 * side[1], words
        assert label.get_fontsize() >= 6, words


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", ["A", "matching", "a much longer answer"])
def test_no_label_is_cut(name, target):
    check_labels(GALLERY[name](make_study(target=target)).draw())


@pytest.mark.parametrize("figure", [LayerSweep, Heatmap, Damage])
@pytest.mark.parametrize("multipliers", [(1.0,), (-1.0, 1.0)])
def test_the_labels_of_the_longest_quantities_are_not_cut(figure, multipliers):
    report = make_study(multipliers=multipliers, target="matching", n_random=0)
    rows = [row for row in report.rows if row.quantity == "delta_p_A"]
    longest = sorted(QUANTITIES, key=lambda name: -len(QUANTITIES[name].label))[:2]
    for name in ("increase_to_answer_A", "increase_A", *longest):
        renamed = [replace(row, quantity=name) for row in rows] + list(report.table("kl_per_token"))
        check_labels(figure.of(replace(report, rows=tuple(renamed)), quantity=name).draw())


def test_a_notebook_shows_the_picture(study):
    view = LayerSweep.of(study)
    for shown in (view, view.draw()):
        data, about = DisplayFormatter().format(shown)
        assert data["image/png"].startswith(b"\x89PNG")
        assert about["image/png"]["width"] == 700
        assert 235 < about["image/png"]["height"] < 275


@pytest.mark.parametrize("name", NAMES)
def test_a_view_is_short_to_look_at_and_cannot_be_changed(name, study):
    view = GALLERY[name](study)
    assert repr(view) == f"<{type(view).__name__}: {view.caption}>"
    with pytest.raises(FrozenInstanceError):
        view.part = None


@pytest.mark.parametrize("name", NAMES)
def test_captions_say_what_the_answer_stands_for(name, study):
    assert GALLERY[name](study).caption.endswith(" The target is the answer A.")
    matching = GALLERY[name](make_study(target="matching"))
    assert matching.caption.endswith(" The target is each prompt's answer that matches the behaviour.")


def test_a_view_saves_its_drawing_rows_and_caption(study, tmp_path):
    view = Heatmap.of(study)
    assert view.save(tmp_path / "maps" / "sweep") == tmp_path / "maps" / "sweep.pdf"
    assert sorted(path.suffix for path in (tmp_path / "maps").iterdir()) == [".csv", ".pdf", ".png", ".txt"]
    assert (tmp_path / "maps" / "sweep.txt").read_text(encoding="utf-8") == view.caption + "\n"
    assert len((tmp_path / "maps" / "sweep.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(view.rows)
    first = {path.name: path.read_bytes() for path in (tmp_path / "maps").iterdir()}
    view.save(tmp_path / "maps" / "sweep")
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "maps").iterdir()}

"""What figures say to one who has read nothing: a question, what the numbers are of, and no name of a column."""

import re
from colorsys import rgb_to_hsv
from dataclasses import replace

import matplotlib as mpl
import pytest
from synthetic import add_others, make_study

from completions_lp.quantities import QUANTITIES, TRUST, TRUST_COLORS
from completions_lp.records import Report
from completions_lp.show.figures import GALLERY, Distributions, DoseResponse, LayerSweep, Odds, Probabilities
from completions_lp.show.figures.prompts import TRUST as MARKS

RAW = re.compile(r"\b(" + "|".join(name for name in QUANTITIES if "_" in name) + r")\b|excess surprisal|shrunken")
INFO = {"config": {"model": {"name": "maker/chooser"}, "prompts": {"path": "data/cautious.jsonl"}}}


def texts_of(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


@pytest.fixture(scope="module")
def study():
    return replace(add_others(make_study()), info=INFO)


@pytest.mark.parametrize("name", sorted(GALLERY))
def test_a_figure_asks_one_question_and_says_what_it_is_of(name, study):
    view = GALLERY[name](study)
    figure = view.draw()
    *_, question, subject = figure.texts  # labels that panels share stand before them
    assert question.get_text().endswith("?")
    assert view.caption.startswith(question.get_text().replace("\n", " "))
    assert subject.get_text().replace("\n", " ") == "Model chooser, vector v, behaviour cautious"
    assert "Model chooser, vector v, behaviour cautious." in view.caption
    figure.draw_without_rendering()
    for panel in figure.axes:
        assert panel.get_tightbbox().y1 <= subject.get_window_extent().y0 + 1
    for legend in figure.legends:
        assert not any(legend.get_window_extent().overlaps(panel.get_tightbbox()) for panel in figure.axes)


@pytest.mark.parametrize("name", sorted(GALLERY))
def test_no_column_is_named_in_a_figure(name, study):
    for report in (study, Report("A", (), {}, {})):
        view = GALLERY[name](report)
        for text in (*texts_of(view.draw()), view.caption):
            assert not RAW.search(text), text


@pytest.mark.parametrize("figure", [DoseResponse, Probabilities, Odds])
@pytest.mark.parametrize("doses", [(-1.0, 1.0), (-2.0, -1.0, -0.05, 0.05, 1.0, 2.0)])
def test_ticks_stand_at_doses_that_were_run_and_nowhere_else(figure, doses):
    for panel in figure.of(make_study(multipliers=doses)).draw().axes:
        assert set(panel.get_xticks()) <= {0.0, *doses}


def test_trust_is_drawn_in_the_colours_that_it_is_called_after():
    hues = {name: 360 * rgb_to_hsv(*mpl.colors.to_rgb(color))[0] for name, color in TRUST_COLORS.items()}
    assert tuple(hues) == TRUST
    assert 90 < hues["green"] < 170
    assert hues["red"] < 20 or hues["red"] > 340
    assert len({MARKS[name]["marker"] for name in TRUST}) == 3
    assert all(MARKS[name]["edgecolor"] == TRUST_COLORS[name] for name in TRUST)


@pytest.mark.parametrize("figure", [LayerSweep, Distributions])
def test_axes_of_the_user_get_no_heading(figure, study):
    view = figure.of(study)
    home = mpl.figure.Figure()
    panels = home.subplots(1, 1 if figure is LayerSweep else 4)
    view.draw(panels)
    assert view.question not in texts_of(home)


def test_the_quality_stands_beside_the_effect_at_one_dose_whatever_each_layer_is_multiplied_with():
    def dose(condition):
        return replace(condition, multiplier=condition.multiplier * (1 + condition.layer), dose=condition.multiplier)

    study = make_study()
    rows = tuple(replace(row, condition=dose(row.condition)) for row in study.rows if row.condition.kind == "target")
    best = replace(study.best, condition=dose(study.best.condition))
    drawn = [row.condition for row in GALLERY["quality"](replace(study, rows=rows, best=best)).cells]
    assert [condition.layer for condition in drawn] == [0, 1, 2]
    assert len({condition.multiplier for condition in drawn}) == 3

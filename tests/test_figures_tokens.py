"""Figures from tokens and completions, the checks, and the convergence of the vector."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from synthetic import make_study

from completions_lp.records import Estimate, InputError, Report, ReportRow
from completions_lp.show.figures import Damage, Diagnostics, Distributions, DoseResponse, TokenProfile
from completions_lp.show.figures.convergence import Batch, Convergence
from completions_lp.show.figures.distributions import STEPS


@pytest.fixture(scope="module")
def study():
    return make_study()


def line_of(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def find(report, quantity, layer, multiplier):
    return next(
        r.estimate for r in report.table(quantity) if (r.condition.layer, r.condition.multiplier) == (layer, multiplier)
    )


def test_the_profile_has_the_tokens_and_how_many_completions_have_them(study):
    left, risk, _ = TokenProfile.of(study, layer=1, multiplier=2.0).draw().axes
    rows = [r for r in study.profile if (r.condition.layer, r.condition.multiplier) == (1, 2.0)]
    line = line_of(left, "mean increase")
    assert list(line.get_xdata()) == list(range(-4, 7))
    assert list(line.get_ydata()) == [row.estimate.value for row in rows]
    corners = left.collections[0].get_paths()[0].vertices
    ends = corners[corners[:, 0] == 2, 1]
    assert (ends.min(), ends.max()) == (rows[6].estimate.low, rows[6].estimate.high)
    assert [bar.get_height() for bar in risk.patches] == [row.n_completions for row in rows]
    assert left.get_xlabel() == "token, relative to the one that gives A"
    assert left.get_ylabel() == "mean increase (nats)"


def test_the_parts_are_stacked_to_their_sums(study):
    right = TokenProfile.of(study, layer=1, multiplier=2.0).draw().axes[2]
    names = ["before_answer_A", "at_answer_A", "after_answer_A", "increase_A", "answer_share", "reasoning_share"]
    names += ["delta_logit_A"]
    values = [find(study, name, 1, 2.0) for name in names]
    bars = right.patches
    assert [bar.get_height() for bar in bars] == pytest.approx([e.value for e in values])
    starts = [0, values[0].value, values[0].value + values[1].value, 0, 0, values[4].value, 0]
    assert [bar.get_y() for bar in bars] == pytest.approx(starts)
    assert bars[2].get_y() + bars[2].get_height() == pytest.approx(bars[3].get_height())
    ends = [s[:, 1].tolist() for c in right.collections for s in c.get_segments() if s[0, 0] == s[1, 0]]
    assert ends == [pytest.approx([e.low + start, e.high + start]) for e, start in zip(values, starts, strict=True)]
    labels = [t.get_text() for t in right.get_xticklabels()]
    assert labels == ["before", "at", "after", "sum", "answer", "reasoning", "sum"]


def slow_curve(report, condition, gave):
    """The share of draws up to each value, every prompt with the same weight, counted draw by draw."""
    increases = report.increases
    c, completions = increases.conditions.index(condition), increases.completions
    draws = {}
    for i, prompt in enumerate(completions.prompt_index):
        if (completions.label[i] == "A") == gave:
            draws.setdefault(prompt, []).extend([increases.increase_to_answer[c, i]] * completions.counts[i])
    values = sorted({value for found in draws.values() for value in found})
    return values, [np.mean([np.mean(np.array(found) <= value) for found in draws.values()]) for value in values]


def test_distributions_weigh_every_prompt_the_same(study):
    panels = Distributions.of(study, layer=1).draw().axes
    assert [panel.get_title() for panel in panels] == [f"multiplier {m}" for m in ("−2", "−1", "+1", "+2")]
    for panel, m in zip(panels, (-2.0, -1.0, 1.0, 2.0), strict=True):
        condition = next(c for c in study.increases.conditions if (c.layer, c.multiplier) == (1, m))
        for label, gave in (("A", True), ("not A", False)):
            line = line_of(panel, label)
            x, y = slow_curve(study, condition, gave)
            assert list(line.get_xdata()) == pytest.approx(x)
            assert list(line.get_ydata()) == pytest.approx(y)
            assert line.get_ydata()[-1] == pytest.approx(1)
        controls = [line for line in panel.get_lines() if line.get_label() in ("_random", "random directions")]
        assert len(controls) == 2 * 19
        assert line_of(panel, "not A").is_dashed()


def test_long_distributions_are_thinned_and_keep_their_ends():
    report = make_study(layers=(0,), multipliers=(1.0,), n_prompts=300, n_random=0)
    (axes,) = Distributions.of(report).draw().axes
    x, y = line_of(axes, "A").get_data()
    values, shares = slow_curve(report, report.increases.conditions[0], True)
    assert 200 < len(x) <= STEPS + 1 < len(values)
    assert (x[0], x[-1]) == (values[0], values[-1])
    assert y == pytest.approx([shares[values.index(v)] for v in x])


@pytest.mark.parametrize("moved", [(), ("target",), ("random",), ("target", "random")])
def test_the_caption_says_how_much_lies_outside_the_axes(moved):
    """With one rare text of each kind of direction far out, or with none."""
    study = make_study(layers=(1,), n_prompts=60, n_random=2)
    rare = int(np.argmin(study.increases.completions.counts))
    values = study.increases.increase_to_answer.clip(-1, 1)
    values[[c.kind in moved for c in study.increases.conditions], rare] = -50
    report = replace(study, increases=replace(study.increases, increase_to_answer=values))
    view, most = Distributions.of(report, layer=1), {"target": 0.0, "random": 0.0}
    for panel, m in zip(view.draw().axes, (-2.0, -1.0, 1.0, 2.0), strict=True):
        low, high = panel.get_xlim()
        for c in study.increases.conditions:
            if (c.layer, c.multiplier) == (1, m):
                for gave in (True, False):
                    x, y = map(np.array, slow_curve(report, c, gave))
                    share = np.diff(y, prepend=0.0)[(x < low) | (x > high)].sum()
                    most[c.kind] = max(most[c.kind], share)
    names = {"target": "curve", "random": "grey one"}
    said = [f"{100 * most[kind]:.2g} % of a {name}" for kind, name in names.items() if most[kind]]
    assert tuple(kind for kind in names if most[kind]) == moved
    cut = f"Far tails are cut: at most {' and '.join(said)} lie outside the axes."
    assert (cut in view.caption) == bool(said)
    assert ("tails" in view.caption) == bool(said)


def test_prompts_that_do_not_offer_the_target_are_left_out(study):
    wanted = Distributions.of(study).caption
    assert "draws of 12 prompts" in wanted
    matching = make_study(target="matching")
    assert "completions that gave the matching answer (solid)" in Distributions.of(matching).caption


def test_diagnostics_draw_each_check(study):
    rows = [
        {"prompt_id": "p0", "p_A_steered": 0.4, "share": 0.5, "low": 0.3, "high": 0.7, "trust": "green"},
        {"prompt_id": "p1", "p_A_steered": 0.8, "share": 0.6, "low": 0.5, "high": 0.7, "trust": "red"},
        {"prompt_id": "p2", "p_A_steered": None, "share": None, "low": None, "high": None, "trust": ""},
    ]
    checked, ess, weights, trust, sampler, null = Diagnostics.of(study, layer=1, validation=rows).draw().axes
    points = {c.get_label(): c.get_offsets().tolist() for c in checked.collections if isinstance(c, PathCollection)}
    assert (points["green"], points["red"]) == ([[0.4, 0.5]], [[0.8, 0.6]])
    assert [[0.8, 0.5], [0.8, 0.7]] in [
        s.tolist() for c in checked.collections[:4] if hasattr(c, "get_segments") for s in c.get_segments()
    ]
    mean = line_of(ess, "mean")
    assert list(mean.get_xdata()) == [-2, -1, 1, 2]
    assert list(mean.get_ydata()) == [find(study, "ess", 1, m).value for m in (-2, -1, 1, 2)]
    points = [line for line in ess.get_lines() if line.get_label() == "_prompts"]
    here = (study.prompts["kind"] == "target") & (study.prompts["layer"] == 1) & (study.prompts["multiplier"] == 2)
    assert list(points[-1].get_ydata()) == study.prompts["ess"][here].tolist()
    assert list(line_of(weights, "least").get_ydata()) == [
        find(study, "mean_weight_low", 1, m).value for m in (-2, -1, 1, 2)
    ]
    heights = np.array([bar.get_height() for bar in trust.patches]).reshape(3, 4)
    assert heights.sum(0) == pytest.approx(np.ones(4))
    assert heights[2].tolist() == [find(study, "share_red", 1, m).value for m in (-2, -1, 1, 2)]
    values = study.prompts["excess_surprisal"][:12]
    assert list(line_of(sampler, "prompts").get_ydata()) == sorted(values)
    assert [t.get_text() for t in sampler.texts] == ["z = +0.42"]
    p = sorted(r.inference.p_t for r in study.table("delta_p_A", kind="random"))
    x, y = line_of(null, "random directions").get_data()
    assert list(x) == p
    assert list(y) == pytest.approx([(i + 1) / len(p) for i in range(len(p))])
    assert sampler.get_xlabel() == "prompts, sorted"
    text = Diagnostics.of(study, layer=1, validation=rows).caption
    assert "2 sets of draws" in text
    assert "Clopper–Pearson" in text
    assert len([r for r in Diagnostics.of(study, validation=rows).rows if r["panel"] == "a"]) == 2


def test_checks_without_numbers_are_left_out_and_the_caption_says_which(study):
    assert Diagnostics.of(study).letters == "bcdef"
    assert "(a), estimates against draws of the steered model kept apart" in Diagnostics.of(study).caption
    bare = Diagnostics.of(make_study(n_random=0))
    assert bare.letters == "bcde"
    assert "(f), p-values of random directions, is left out" in bare.caption
    assert [panel.get_title(loc="left") for panel in bare.draw().axes] == ["(b)", "(c)", "(d)", "(e)"]
    assert all(panel.has_data() and panel.get_xticks().size for panel in bare.draw().axes)


def test_the_caption_knows_of_steered_draws(study):
    cells = [row.condition for row in study.table("delta_p_A")]
    drawn = Estimate(25.0, None, None, 0.95, "draws", 12, 12, "t")
    rows = (*study.rows, *(ReportRow(c, "n_steered", "macro", drawn, 0) for c in cells))
    said = Diagnostics.of(replace(study, rows=rows)).caption
    assert "1200 draws of the steered model at this layer joined its estimates" in said
    assert "joined its estimates" not in Diagnostics.of(study).caption


def test_a_report_without_measures_still_has_its_other_figures(study):
    rows = tuple(r for r in study.rows if r.quantity in ("increase_to_answer_A", "increase_to_answer_not_A"))
    plain = Report("A", rows, {}, {}, increases=study.increases)
    assert "no effective draws" in [t.get_text() for panel in Diagnostics.of(plain).draw().axes for t in panel.texts]
    assert len(DoseResponse.of(plain).rows) == 2 * 5
    assert Damage.of(plain).rows == []
    assert len(Distributions.of(plain).draw().axes) == 4


def make_convergence(**changes):
    def effect(value, ends=0.1):
        interval = (None, None) if ends is None else (value - ends, value + ends)
        return Estimate(value, *interval, 0.95, "pp", 60, 12, "cluster t")

    batches = [Batch(10, k, 0.7 + 0.01 * k, 0.8, effect(10.0 + k)) for k in range(5)]
    batches += [Batch(50, 0, 0.95, float("nan"), effect(12.5))]
    values = {"vector": "v", "layer": 2, "multiplier": 1.0, "quantity": "delta_p_A", "target": "A", **changes}
    return Convergence(**{"batches": tuple(batches), **values})


def test_convergence_shows_every_batch_beside_its_fellows():
    left, right = make_convergence().draw().axes
    y = line_of(left, "split-half").get_ydata()
    assert list(y) == pytest.approx([0.7, 0.71, 0.72, 0.73, 0.74, 0.95])
    vectors = line_of(right, "vectors")
    assert list(vectors.get_ydata()) == [10, 11, 12, 13, 14, 12.5]
    x = vectors.get_xdata()
    assert x[2] == 10
    assert x[5] == 50
    assert np.all(np.diff(x) > 0)
    assert np.log(x[4] / 10) == pytest.approx(np.log(10 / x[0]))
    (bars,) = right.collections
    assert [s[:, 1].tolist() for s in bars.get_segments()][-1] == pytest.approx([12.4, 12.6])
    assert right.get_ylabel() == "change of P(A) (pp)"
    assert right.get_title() == "layer 2, multiplier +1"
    said = make_convergence().caption
    assert "(5 of 10, 1 of 50 pairs)" in said
    assert "95 % cluster t intervals over 60 prompts in 12 clusters" in said
    table = make_convergence().rows
    assert [row["n_pairs"] for row in table] == [10] * 5 + [50]
    assert table[0]["value"] == 10.0


def test_convergence_without_vectors_or_intervals_says_so():
    empty = make_convergence(batches=())
    figure = empty.draw()
    figure.draw_without_rendering()
    assert "no vectors" in [t.get_text() for t in figure.axes[0].texts]
    assert empty.caption == "Convergence: no vectors to draw."
    lone = Batch(1, 0, float("nan"), float("nan"), Estimate(1.0, None, None, 0.95, "pp", 2, 2, "t"))
    figure = make_convergence(batches=(lone,)).draw(Figure().subplots(1, 2))
    assert "2 prompts: no intervals" in [t.get_text() for t in figure.axes[1].texts]
    assert len(figure.axes[1].collections) == 0


def test_convergence_is_of_the_best_cell_and_of_a_quantity_that_there_is(study):
    batches = make_convergence().batches
    view = Convergence.of(study, batches)
    best = study.best.condition
    assert (view.vector, view.layer, view.multiplier, view.quantity) == ("v", best.layer, best.multiplier, "delta_p_A")
    assert len(view.rows) == len(batches)
    with pytest.raises(InputError, match="no quantity 'garbage'; the nearest is"):
        Convergence.of(study, batches, quantity="garbage")
    with pytest.raises(InputError, match="no best cell"):
        Convergence.of(Report("A", (), {}, {}), batches)

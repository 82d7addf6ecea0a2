"""What the tables and the sentence say, read back from the text."""

import dataclasses
import math
import re

import numpy as np
import pytest
from drawn import change, draw_choices, draw_increases, draw_measures, list_conditions

from completions_lp.records import BASELINE, Estimate, Report, ReportRow, VectorQuality
from completions_lp.report import summarize
from completions_lp.show.text import (
    format_checks,
    format_estimate,
    format_quality,
    format_quality_line,
    format_report,
    format_sentence,
    format_table,
)
from completions_lp.show.text import (
    list_conditions as list_steered,
)
from completions_lp.show.text.text import format_p

QUALITY = {0: VectorQuality(2.0, 0.5, 0.75), 1: VectorQuality(1.0, 0.1, 0.9)}
NARROW = 150


def make(conditions=None, n_prompts=24, **options):
    increases = draw_increases(n_prompts, conditions)
    return summarize(increases, draw_choices(increases), draw_measures(increases), target="A", **options)


@pytest.fixture(scope="module")
def report():
    return make(list_conditions(layers=(0, 1), n_random=19, n_shuffled=19))


def read_table(text):
    """Lines of a table as {title: cell}; columns are at least two spaces apart."""
    lines = text.splitlines()
    ends = [m.end() for m in re.finditer(r"\S+(?: \S+)*", lines[0])]
    titles = re.findall(r"\S+(?: \S+)*", lines[0])
    rows = []
    for line in lines[1:]:
        starts = [0, *ends[:-1]]
        rows.append({t: line[a:b].strip() for t, a, b in zip(titles, starts, ends, strict=True)})
    return rows


def find_block(text, heading):
    """The table under a heading of the report."""
    part = text.split(f"## {heading}\n", 1)[1]
    return part.split("```\n", 2)[1].rstrip("\n")


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "text"),
    [
        (0.12345, 0.1, 0.2, "nats", "+0.123 [+0.100, +0.200]"),
        (-0.5, None, None, "nats", "-0.500"),
        (math.nan, None, None, "nats", "–"),
        (12.346, -1.0, 25.0, "pp", "+12.35 [-1.00, +25.00]"),
        (0.5, 0.4, 0.6, "probability", "0.500 [0.400, 0.600]"),
        (0.126, None, None, "share", "13%"),
        (0.01234, 0.01, 0.02, "nats/token", "0.0123 [0.0100, 0.0200]"),
        (0.5, 0.25, 0.75, "nats/multiplier", "+0.500 [+0.250, +0.750]"),
    ],
)
def test_an_estimate_is_written_in_its_unit(value, low, high, unit, text):
    estimate = Estimate(value, low, high, 0.95, unit, 9, 9, "t")
    assert format_estimate(estimate) == text
    assert format_estimate(estimate, interval=False) == text.split(" [")[0]


def test_small_p_values_are_not_zero():
    assert [format_p(p) for p in (0.0, 0.0004, 0.0006, 0.0312, 1.0, math.nan)] == [
        "<.001",
        "<.001",
        "0.001",
        "0.031",
        "1.000",
        "",
    ]


def test_the_table_has_one_line_per_condition_and_what_is_needed_first(report):
    rows = read_table(format_table(report))
    shown = [c for c in report.increases.conditions if c.kind == "target"]
    assert [(row["layer"], row["mult"]) for row in rows] == [(str(c.layer), f"{c.multiplier:+g}") for c in shown]
    for row, c in zip(rows, shown, strict=True):
        want = {name: report.estimate(name, c) for name in ("delta_p_A", "share_red", "increase_to_answer_A")}
        assert row["ΔP(A) pp"] == format_estimate(want["delta_p_A"])
        assert row["red"] == f"{want['share_red'].value:.0%}"
        assert row["to the answer"] == format_estimate(want["increase_to_answer_A"])
        assert row["n"] == str(want["increase_to_answer_A"].n)
        for title, name in (
            ("log ratio", "log_ratio_A"),
            ("KL/token", "kl_per_token"),
            ("logit diff", "logit_diff_change"),
            ("mass", "mass_steered"),
        ):
            assert row[title] == format_estimate(report.estimate(name, c), interval=False)


def test_without_measures_the_table_is_about_the_increases(report):
    increases = report.increases
    rows = read_table(format_table(summarize(increases, target="A")))
    assert list(rows[0]) == ["layer", "mult", "to the answer", "whole, A", "whole, not A", "whole, all", "n"]
    assert "logit diff" in read_table(format_table(summarize(increases, draw_choices(increases), target="A")))[0]


def test_names_stand_where_they_differ():
    got = make(list_conditions(layers=(0,), multipliers=(1.0,), negated=True), 8)
    assert [row["vector"] for row in read_table(format_table(got))] == ["v", "v-negated"]
    conditions = list_conditions(layers=(0,), multipliers=(1.0,))
    conditions += tuple(dataclasses.replace(c, positions="all") for c in conditions)
    assert [row["positions"] for row in read_table(format_table(make(conditions, 8)))] == ["completion", "all"]
    alone = make(list_conditions(layers=(0,), multipliers=(1.0,), n_random=3), 8)
    alone = dataclasses.replace(alone, rows=tuple(r for r in alone.rows if r.condition.kind == "random"))
    assert len(read_table(format_table(alone))) == 3  # random vectors alone are shown
    assert list_steered(alone) == tuple(dict.fromkeys(r.condition for r in alone.rows))


NUMBER = r"([+-]?\d+\.?\d*(?:e-?\d+)?)"
LIMITS = rf"\[{NUMBER}, {NUMBER}\]"


def test_the_sentence_is_that_of_the_template(report):
    text = format_sentence(report)
    match = re.fullmatch(
        rf"ΔP\(A≤10\)={NUMBER} pp {LIMITS} \(95% t, N=(\d+) prompts; 95% of R=(\d+) same-norm random directions within "
        rf"{LIMITS}, rank p={NUMBER}\); log-prob increase of 'A' completions {NUMBER} nats {LIMITS}, a lower bound on "
        rf"the mean log P-ratio {NUMBER} {LIMITS}; KL\(p‖q\)={NUMBER} nats/token; (\d+)% of prompts red\. "
        rf"This is layer (\d+), multiplier {NUMBER}, chosen among 8 on one half of the prompts and reported here on "
        r"the other half; it is the best in (\d+)% of resamples\.",
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
    assert plain.startswith("Log prob of the 'A' completions, to the answer: ")
    assert "multiplier +0" not in plain
    assert plain.endswith("and chosen for it.")
    few = make(list_conditions(layers=(0,), multipliers=(1.0, 2.0), n_random=3), 24)
    assert "; R=3 same-norm random directions, no p-value)" in format_sentence(few)
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
    assert "log-prob increase of behaviour-matching completions" in text
    assert format_sentence(summarize(increases, None, measures, target="B", level=0.9)).startswith("ΔP(B≤10)=")
    assert "(90% cluster t" in format_sentence(summarize(increases, None, measures, target="B", level=0.9))


def test_where_no_half_could_be_held_back_the_sentence_says_so():
    one = make(list_conditions(layers=(0,), multipliers=(1.0, 2.0)), 24)
    rows = tuple(row for row in one.rows if row.split == "all")
    text = format_sentence(dataclasses.replace(one, rows=rows))
    assert text.endswith("multiplier +2, the largest of 2 and chosen for it.")
    best = max(one.table("delta_p_A"), key=lambda row: row.estimate.value)
    assert text.startswith(f"ΔP(A≤10)={best.estimate.value:+.2f} pp")


def test_the_sentence_without_a_single_answer():
    increases = draw_increases(8)
    completions = dataclasses.replace(increases.completions, label=np.full(40, "B"))
    text = format_sentence(summarize(dataclasses.replace(increases, completions=completions), target="A"))
    assert text == "No prompt has a completion with the target answer: the average increase is undefined."


def test_errors_come_first_then_warnings(report):
    failed = dataclasses.replace(report, errors=("one broke", "two\x1b[31m"), warnings=("mind",))
    lines = format_report(failed, title="model: prompts", quality=QUALITY).splitlines()
    assert lines[:5] == ["ERROR: one broke", "", "ERROR: two\\x1b[31m", "", "# model: prompts"]
    assert "- mind" in lines
    fine = format_report(dataclasses.replace(report, warnings=()), title="t", quality={})
    assert fine.splitlines()[0] == "# t"
    assert "Read this first" not in fine
    assert "## The vector" not in fine


BLOCKS = [
    *("At a glance", "How much", "The average increase and its bound", "Whole completions and divergences"),
    *("The two-choice read-out", "Where the gain is", "Controls", "The sweep", "Dose and response", "The vector"),
]


def test_every_block_is_there_and_narrow(report):
    text = format_report(report, title="t", quality=QUALITY)
    assert re.findall(r"^## (.*)$", text, re.M) == ["The run", *BLOCKS]
    for block in BLOCKS:
        table = find_block(text, block)
        assert max(len(line) for line in table.splitlines()) <= NARROW
        assert len(read_table(table)) >= 2


def test_blocks_without_numbers_are_left_out():
    increases = draw_increases(8, list_conditions(layers=(0,), multipliers=(1.0,)))
    text = format_report(summarize(increases, target="A"), title="t", quality={})
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings == [
        *("The run", "At a glance", "The average increase and its bound", "Whole completions and divergences"),
        *("Where the gain is", "The sweep"),
    ]


@pytest.mark.parametrize(
    ("block", "title", "quantity", "weighting"),
    [
        ("How much", "P(A) steered", "p_A_steered", "macro"),
        ("How much", "ΔP(A) pp", "delta_p_A", "macro"),
        ("How much", "log ratio", "log_ratio_A", "macro"),
        ("How much", "Δlogit, marginal", "delta_logit_A", "marginal"),
        ("How much", "log A:B", "log_odds_change_A_B", "macro"),
        ("The average increase and its bound", "to the answer", "increase_to_answer_A", "macro"),
        ("The average increase and its bound", "next token averaged", "increase_to_answer_A_rb", "macro"),
        ("The average increase and its bound", "gap", "bound_gap", "macro"),
        ("The average increase and its bound", "not A", "increase_to_answer_not_A", "macro"),
        ("The average increase and its bound", "A − not A", "difference_A_not_A", "macro"),
        ("The average increase and its bound", "micro", "increase_to_answer_A", "micro"),
        ("Whole completions and divergences", "whole, A", "increase_A", "macro"),
        ("Whole completions and divergences", "whole, not A", "increase_not_A", "macro"),
        ("Whole completions and divergences", "whole, all", "increase_all", "macro"),
        ("Whole completions and divergences", "KL(p‖q)", "kl", "macro"),
        ("Whole completions and divergences", "KL/token", "kl_per_token", "macro"),
        ("Whole completions and divergences", "KL(q‖p)", "kl_reverse", "macro"),
        ("The two-choice read-out", "logit diff", "logit_diff", "macro"),
        ("The two-choice read-out", "steered", "logit_diff_steered", "macro"),
        ("The two-choice read-out", "change", "logit_diff_change", "macro"),
        ("The two-choice read-out", "mass", "mass", "macro"),
        ("The two-choice read-out", "mass steered", "mass_steered", "macro"),
        ("Where the gain is", "before the answer", "before_answer_A", "macro"),
        ("Where the gain is", "at its token", "at_answer_A", "macro"),
        ("Where the gain is", "after it", "after_answer_A", "macro"),
        ("Where the gain is", "answer share", "answer_share", "macro"),
        ("Where the gain is", "reasoning share", "reasoning_share", "macro"),
        ("Controls", "value", "delta_p_A", "macro"),
        ("The sweep", "value", "delta_p_A", "macro"),
    ],
)
def test_a_column_is_what_its_title_says(report, block, title, quantity, weighting):
    rows = read_table(find_block(format_report(report, title="t", quality={}), block))
    shown = [c for c in report.increases.conditions if c.kind == "target" and c.multiplier != 0]
    assert len(rows) == len(shown)
    for row, c in zip(rows, shown, strict=True):
        estimate = report.estimate(quantity, c, weighting=weighting)
        assert row[title] in (format_estimate(estimate), format_estimate(estimate, interval=False))
        assert (row["layer"], row["mult"]) == (str(c.layer), f"{c.multiplier:+g}")


def test_trust_odd_parts_and_p_values_stand_in_their_columns(report):
    text = format_report(report, title="t", quality={})
    shown = [r for r in report.table("delta_p_A") if r.condition.multiplier != 0]
    first, controls, sweep = (read_table(find_block(text, b)) for b in ("How much", "Controls", "The sweep"))
    for row, one, two, three in zip(shown, first, controls, sweep, strict=True):
        c, i = row.condition, row.inference
        shares = [report.estimate(f"share_{trust}", c).value for trust in ("certified", "green", "red")]
        assert one["cert/green/red"] == "/".join(f"{100 * x:.0f}" for x in shares) + " %"
        assert one["answered"] == f"{report.estimate('answered_steered', c).value:.3f}"
        odd = format_estimate(report.estimate("delta_p_A_odd", c)) if c.multiplier > 0 else ""
        assert two["odd part"] == odd
        assert two["random mean ± sd"] == f"{i.random_mean:+.3f} ± {i.random_sd:.3f}"
        assert two["random band"] == f"[{i.random_low:+.3f}, {i.random_high:+.3f}]"
        p_values = {"rank p": i.p_rank, "predictive p": i.p_predictive, "shuffled rank p": i.p_rank_shuffled}
        assert {title: two[title] for title in p_values} == {title: format_p(p) for title, p in p_values.items()}
        assert three["band of all cells"] == f"[{i.band_low:+.3f}, {i.band_high:+.3f}]"
        assert three["bootstrap-t"] == f"[{i.boot_low:+.3f}, {i.boot_high:+.3f}]"
        p_values = {"p": i.p_t, "flips": i.p_signflip, "max-T": i.p_max_t, "Holm": i.p_holm, "BH": i.p_bh}
        assert {title: three[title] for title in p_values} == {title: format_p(p) for title, p in p_values.items()}
        assert three["best in"] == f"{i.selection_frequency:.0%}"
    assert f"best cell: {report.checks['p_rank_sweep']:.3f}." in text


def test_slopes_and_the_vector_are_told(report):
    text = format_report(report, title="t", quality=QUALITY)
    rows = read_table(find_block(text, "Dose and response"))
    slopes = [s for s in report.slopes if s.kind == "target"]
    assert [row["slope"] for row in rows] == [format_estimate(s.estimate) for s in slopes]
    assert [row["below 0"] for row in rows] == [f"{s.below_zero:.0%}" for s in slopes]
    assert rows[0]["multipliers"] == "-2 -1 0 1 2"
    assert format_quality(QUALITY).splitlines()[1].split() == ["0", "2.000", "0.500", "0.750"]
    assert format_quality_line(QUALITY) == (
        "Vector: split-half cosine at least 0.750 (layer 0); standard error of its norm at most 25.0% (layer 0)."
    )
    assert format_quality_line({}) == "Vector: read from a file that does not say how well it is known."


def test_the_head_says_what_was_measured(report):
    text = format_report(report, title="t", quality={})
    completions = report.increases.completions
    head = text.split("## The run\n\n")[1].split("\n\n## ")[0].splitlines()
    n_a = [
        int(completions.counts[(completions.prompt_index == i) & (completions.label == "A")].sum()) for i in range(24)
    ]
    assert (
        head[0] == "- target 'A', by first passage within the first 10 tokens (rule letter); 24 of 24 prompts offer it"
    )
    assert head[1] == (
        "- 100 completions a prompt of up to 24 tokens, temperature 1, top_p 1, top_k off, seed 0; steered positions: "
        "completion"
    )
    assert head[2] == "- each prompt is its own cluster"
    share = len(completions) / completions.counts.sum()
    assert head[3] == (
        f"- completions with the target, by prompt: 0 to {max(n_a)}, median {np.median(n_a):g}; prompts without any: "
        f"1; distinct ones: {share:.0%} of the draws"
    )
    assert head[4] == f"- unsteered P(A): {format_estimate(report.estimate('p_A', BASELINE))}"
    assert head[-1] == f"- {format_checks(report)}"


def test_checks_that_were_not_made_say_so(report):
    text = format_checks(report)
    assert f"Noise floor (largest change under multiplier 0): {report.checks['noise_floor']:.1e} nats;" in text
    assert f"z = {report.checks['sampler_z']:+.1f};" in text
    bare = Report("A", (), {}, {"noise_floor": math.nan, "sampler_gap": 1e-6})
    assert format_checks(bare).count("not measured") == 4


def test_text_of_files_reaches_no_terminal_as_it_is():
    estimate = Estimate(1.0, 0.5, 1.5, 0.95, "nats", 9, 9, "t")
    conditions = [
        dataclasses.replace(c, vector=name)
        for c, name in zip(list_conditions()[3:5], ("a\x1b[31m", "b\n"), strict=True)
    ]
    rows = tuple(ReportRow(c, "increase_to_answer_A", "macro", estimate, 0) for c in conditions)
    report = Report("A", rows, {}, {})
    table = format_table(report)
    assert "\x1b" not in table
    assert len(table.splitlines()) == 3
    text = format_report(report, title="t\x1b", quality={})
    assert "\x1b" not in text


def test_a_report_of_nothing_is_no_crash():
    text = format_report(Report("A", (), {}, {}), title="t", quality={})
    assert "No prompt has a completion with the target answer" in text
    assert format_table(Report("A", (), {}, {})) == "layer  mult"
    one = summarize(draw_increases(1, list_conditions(layers=(0,))), target="A")
    assert "undefined" in format_report(one, title="t", quality={})

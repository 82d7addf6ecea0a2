"""What the tables and the sentence say, read back from the text."""

import dataclasses
import math
import re

import numpy as np
import pytest
from drawn import draw_choices, draw_increases, draw_measures, list_conditions

from completions_lp.quantities import find_quantity
from completions_lp.records import BASELINE, Best, Condition, Estimate, Report, ReportRow, VectorQuality
from completions_lp.report import summarize
from completions_lp.show.text import (
    format_checks,
    format_overview,
    format_quality_line,
    format_report,
    format_table,
)
from completions_lp.show.text.numbers import format_estimate, format_p
from completions_lp.show.text.tables import Column, draw_markdown, draw_table, wrap_text

QUALITY = {0: VectorQuality(2.0, 0.5, 0.75), 1: VectorQuality(1.0, 0.1, 0.9)}
WIDE = 200


def make(conditions=None, n_prompts=24, **options):
    increases = draw_increases(n_prompts, conditions)
    return summarize(increases, draw_choices(increases), draw_measures(increases), target="A", **options)


@pytest.fixture(scope="module")
def report():
    return make(list_conditions(layers=(0, 1), n_random=19, n_shuffled=19))


def read_table(text):
    """Lines of the headline's table as {title: cell}; columns are at least two spaces apart, the mark stands first."""
    head, *lines = text.split("\n\n", 1)[1].rsplit("\n\n", 1)[0].splitlines()
    found = list(re.finditer(r"\S+(?: \S+)*", head))
    ends, titles = [m.end() for m in found], [m.group() for m in found]
    starts = [1, *ends[:-1]] if any(line.startswith(">") for line in text.splitlines()) else [0, *ends[:-1]]
    cut = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines if line]
    return [dict(zip(titles, cells, strict=True)) for cells in cut]


def find_block(text, heading):
    """The table under a heading of ``report.md``, as {title: cell}."""
    part = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    head, rule, *lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    assert {cell.strip("-") for cell in rule} == {":"}
    titles = [cell.strip() for cell in head]
    return [dict(zip(titles, (cell.strip() for cell in line), strict=True)) for line in lines]


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
        (-0.001, -0.004, 0.002, "pp", "+0.00 [+0.00, +0.00]"),
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
    rows = read_table(format_table(report, width=WIDE))
    shown = [c for c in report.increases.conditions if c.kind == "target"]
    assert [(row["layer"], row["mult"]) for row in rows] == [(str(c.layer), f"{c.multiplier:+g}") for c in shown]
    for row, c in zip(rows, shown, strict=True):
        want = {name: report.estimate(name, c) for name in ("delta_p_A", "share_red", "increase_to_answer_A")}
        assert row["ΔP(A) pp"] == format_estimate(want["delta_p_A"])
        assert row["red"] == f"{want['share_red'].value:.0%}"
        assert row["to the answer"] == format_estimate(want["increase_to_answer_A"])
        assert row["prompts"] == str(want["increase_to_answer_A"].n)
        for title, name in (
            ("log ratio", "log_ratio_A"),
            ("KL/token", "kl_per_token"),
            ("logit diff", "logit_diff_change"),
            ("mass", "mass_steered"),
        ):
            assert row[title] == format_estimate(report.estimate(name, c), interval=False)


def test_without_measures_the_table_is_about_the_increases(report):
    increases = report.increases
    rows = read_table(format_table(summarize(increases, target="A"), width=WIDE))
    assert list(rows[0]) == ["layer", "mult", "to the answer", "whole, A", "whole, not A", "whole, all", "prompts"]
    assert (
        "logit diff"
        in read_table(format_table(summarize(increases, draw_choices(increases), target="A"), width=WIDE))[0]
    )


def test_names_stand_where_they_differ():
    got = make(list_conditions(layers=(0,), multipliers=(1.0,), negated=True), 8)
    assert [row["vector"] for row in read_table(format_table(got, width=WIDE))] == ["v", "v-negated"]
    conditions = list_conditions(layers=(0,), multipliers=(1.0,))
    conditions += tuple(dataclasses.replace(c, positions="all") for c in conditions)
    assert [row["positions"] for row in read_table(format_table(make(conditions, 8), width=WIDE))] == [
        "completion",
        "all",
    ]
    alone = make(list_conditions(layers=(0,), multipliers=(1.0,), n_random=3), 8)
    alone = dataclasses.replace(alone, rows=tuple(r for r in alone.rows if r.condition.kind == "random"))
    assert len(read_table(format_table(alone, width=WIDE))) == 3  # random vectors alone are shown


def test_errors_come_first_then_warnings(report):
    failed = dataclasses.replace(report, errors=("one broke", "two\x1b[31m"), warnings=("mind",))
    lines = format_report(failed, title="model: prompts_1", quality=QUALITY).splitlines()
    assert lines[:5] == ["ERROR: one broke", "", "ERROR: two\\\\x1b\\[31m", "", "# model: prompts\\_1"]
    assert "- mind" in lines
    fine = format_report(dataclasses.replace(report, warnings=()), title="t", quality={})
    assert fine.splitlines()[0] == "# t"
    assert "Read this first" not in fine
    assert "## The vector" not in fine


BLOCKS = [
    *("At a glance", "How much", "The average increase and its bound", "Whole completions and divergences"),
    *("The two-choice read-out", "All choices of the read-out", "Where the gain is", "Controls", "The sweep"),
    *("Dose and response", "The vector"),
]


def test_every_block_is_there(report):
    text = format_report(report, title="t", quality=QUALITY)
    assert re.findall(r"^## (.*)$", text, re.M) == ["The run", *BLOCKS]
    for block in BLOCKS:
        assert len(find_block(text, block)) >= 2


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
        ("The average increase and its bound", "to the answer, micro", "increase_to_answer_A", "micro"),
        ("Whole completions and divergences", "whole, A", "increase_A", "macro"),
        ("Whole completions and divergences", "whole, not A", "increase_not_A", "macro"),
        ("Whole completions and divergences", "whole, all", "increase_all", "macro"),
        ("Whole completions and divergences", "KL(p‖q)", "kl", "macro"),
        ("Whole completions and divergences", "KL/token", "kl_per_token", "macro"),
        ("Whole completions and divergences", "KL(q‖p)", "kl_reverse", "macro"),
        ("The two-choice read-out", "logit diff, unsteered", "logit_diff", "macro"),
        ("The two-choice read-out", "logit diff, steered", "logit_diff_steered", "macro"),
        ("The two-choice read-out", "logit diff", "logit_diff_change", "macro"),
        ("The two-choice read-out", "mass, unsteered", "mass", "macro"),
        ("The two-choice read-out", "mass", "mass_steered", "macro"),
        ("All choices of the read-out", "PrefOdds", "pref_odds_steered", "macro"),
        ("All choices of the read-out", "UtilOdds", "util_odds_steered", "macro"),
        ("All choices of the read-out", "P(A) of said", "p_choice_steered", "macro"),
        ("All choices of the read-out", "greedy, unsteered", "greedy", "macro"),
        ("All choices of the read-out", "greedy", "greedy_steered", "macro"),
        ("Where the gain is", "before the answer", "before_answer_A", "macro"),
        ("Where the gain is", "at its token", "at_answer_A", "macro"),
        ("Where the gain is", "after it", "after_answer_A", "macro"),
        ("Where the gain is", "answer share", "answer_share", "macro"),
        ("Where the gain is", "reasoning share", "reasoning_share", "macro"),
        ("Controls", "ΔP(A) pp", "delta_p_A", "macro"),
        ("The sweep", "ΔP(A) pp", "delta_p_A", "macro"),
    ],
)
def test_a_column_is_what_its_title_says(report, block, title, quantity, weighting):
    rows = find_block(format_report(report, title="t", quality={}), block)
    shown = [c for c in report.increases.conditions if c.kind == "target" and c.multiplier != 0]
    assert len(rows) == len(shown)
    for row, c in zip(rows, shown, strict=True):
        estimate = report.estimate(quantity, c, weighting=weighting)
        assert row[title] in (format_estimate(estimate), format_estimate(estimate, interval=False))
        assert (row["layer"], row["mult"]) == (str(c.layer), f"{c.multiplier:+g}")


def test_trust_odd_parts_and_p_values_stand_in_their_columns(report):
    text = format_report(report, title="t", quality={})
    shown = [r for r in report.table("delta_p_A") if r.condition.multiplier != 0]
    first, controls, sweep = (find_block(text, b) for b in ("How much", "Controls", "The sweep"))
    for row, one, two, three in zip(shown, first, controls, sweep, strict=True):
        c, i = row.condition, row.inference
        shares = [report.estimate(f"share_{trust}", c).value for trust in ("certified", "green", "red")]
        assert one["certified/green/red"] == "/".join(f"{100 * x:.0f}" for x in shares) + " %"
        assert one["answered"] == f"{report.estimate('answered_steered', c).value:.3f}"
        odd = format_estimate(report.estimate("delta_p_A_odd", c)) if c.multiplier > 0 else ""
        assert two["odd part"] == odd
        assert two["random mean ± sd"] == f"{i.random_mean:+.2f} ± {i.random_sd:.2f}"
        assert two["random band"] == f"[{i.random_low:+.2f}, {i.random_high:+.2f}]"
        p_values = {"rank p": i.p_rank, "predictive p": i.p_predictive, "shuffled rank p": i.p_rank_shuffled}
        assert {title: two[title] for title in p_values} == {title: format_p(p) for title, p in p_values.items()}
        assert three["band of all cells"] == f"[{i.band_low:+.2f}, {i.band_high:+.2f}]"
        assert three["bootstrap-t"] == f"[{i.boot_low:+.2f}, {i.boot_high:+.2f}]"
        p_values = {"p": i.p_t, "flips": i.p_signflip, "max-T": i.p_max_t, "Holm": i.p_holm, "BH": i.p_bh}
        assert {title: three[title] for title in p_values} == {title: format_p(p) for title, p in p_values.items()}
        assert three["best in"] == f"{i.selection_frequency:.0%}"
    assert f"best cell: {report.checks['p_rank_sweep']:.3f}." in text


def test_slopes_and_the_vector_are_told(report):
    text = format_report(report, title="t", quality=QUALITY)
    rows = find_block(text, "Dose and response")
    slopes = [s for s in report.slopes if s.kind == "target"]
    assert [row["slope"] for row in rows] == [format_estimate(s.estimate) for s in slopes]
    assert [row["below 0"] for row in rows] == [f"{s.below_zero:.0%}" for s in slopes]
    assert rows[0]["multipliers"] == "-2 -1 0 1 2"
    assert list(find_block(text, "The vector")[0].values()) == ["0", "2.000", "0.500", "0.750"]
    assert format_quality_line(QUALITY) == (
        "Vector: split-half cosine at least 0.750 (layer 0); standard error of its norm at most 25.0% (layer 0)."
    )
    assert format_quality_line({}) == "Vector: read from a file that does not say how well it is known."


def test_quantised_weights_are_named(report):
    told = dataclasses.replace(report, info={"model": {"quantization": "GGUF Q4_1"}})
    line = "- the weights are quantised: GGUF Q4\\_1; all numbers are of the model as it is"
    assert line in format_report(told, title="t", quality={}).splitlines()
    assert "quantised" not in format_report(report, title="t", quality={})


def test_the_head_says_what_was_measured(report):
    text = format_report(report, title="t", quality={})
    completions = report.increases.completions
    head = text.split("## The run\n\n")[1].split("\n\n## ")[0].splitlines()
    n_a = [
        int(completions.counts[(completions.prompt_index == i) & (completions.label == "A")].sum()) for i in range(24)
    ]
    assert head[0] == (
        '- A, the target: the answer "A", by first passage within the first 10 tokens (the window; rule letter); 24 of '
        "24 prompts offer it"
    )
    assert head[1].startswith("- Numbers are means over prompts (macro), brackets 95% intervals over prompts.")
    assert head[2] == (
        "- 100 completions a prompt of up to 24 tokens, temperature 1, top_p 1, top_k off, seed 0; steered positions: "
        "completion"
    )
    assert head[3] == "- each prompt is its own cluster"
    share = len(completions) / completions.counts.sum()
    assert head[4] == (
        f"- completions with the target, by prompt: 0 to {max(n_a)}, median {np.median(n_a):g}; prompts without any: "
        f"1; distinct ones: {share:.0%} of the draws"
    )
    silent, cut = (report.estimate(name, BASELINE).value for name in ("share_uncommitted", "share_cut_off"))
    told = f"{silent:.0%} give no answer by this rule and {cut:.0%} are cut off before they end"
    assert head[5] == f"- of the completions {told}"
    assert head[6] == f"- unsteered P(A): {format_estimate(report.estimate('p_A', BASELINE))}"
    assert head[-1] == f"- {format_checks(report)}"


def test_checks_that_were_not_made_say_so(report):
    text = format_checks(report)
    assert f"Noise floor (largest change under multiplier 0): {report.checks['noise_floor']:.1e} nats;" in text
    assert f"z = {report.checks['sampler_z']:+.1f};" in text
    bare = Report("A", (), {}, {"noise_floor": math.nan, "sampler_gap": 1e-6})
    assert format_checks(bare).count("not measured") == 5


def test_text_of_files_reaches_no_terminal_as_it_is():
    estimate = Estimate(1.0, 0.5, 1.5, 0.95, "nats", 9, 9, "t")
    conditions = [
        dataclasses.replace(c, vector=name)
        for c, name in zip(list_conditions()[3:5], ("a\x1b[31m", "b\n"), strict=True)
    ]
    rows = tuple(ReportRow(c, "increase_to_answer_A", "macro", estimate, 0) for c in conditions)
    report = Report("A", rows, {}, {})
    rows = read_table(format_table(report))
    assert [row["vector"] for row in rows] == ["a\\x1b[31m", "b\\n"]
    told = dataclasses.replace(report, warnings=("[bold]w\x1b",), errors=("e\x1b",))
    for text in (format_report(told, title="t\x1b", quality={}), format_overview(told, title="t\x1b")):
        assert "\x1b" not in text
    assert "[bold]w\\x1b" in format_overview(told, title="t")


def test_markup_in_a_name_is_text():
    name = "[red]a|b[/red] <i>:smile:</i>"
    column = Column("vector", (name,), foreign=True)
    assert draw_table([column, Column("n", ("1",))]).splitlines()[1].split("  ") == [name, "1"]
    line = draw_markdown([column]).splitlines()[-1]
    assert line == "| \\[red\\]a\\|b\\[/red\\] \\<i\\>:smile:\\</i\\> |"


def test_a_report_of_nothing_is_no_crash():
    text = format_report(Report("A", (), {}, {}), title="t", quality={})
    assert "No prompt has a completion with the target answer" in text
    assert format_table(Report("A", (), {}, {})).endswith("layer  mult")
    one = summarize(draw_increases(1, list_conditions(layers=(0,))), target="A")
    assert "undefined" in format_report(one, title="t", quality={})


def make_large(report):
    """As many cells as a model of 32 layers has; layer 7 is the best, layer 20 damages."""
    layers, multipliers = range(32), (-2.0, -1.0, 1.0, 2.0)
    cells = [Condition("v", "target", layer, m) for layer in layers for m in multipliers]
    best = Condition("v", "target", 7, 2.0)

    def write(c):
        effect = c.multiplier * (9.0 if c.layer == 7 else 1 + c.layer / 100)
        kl = 3.0 if c.layer == 20 else 0.01 * abs(c.multiplier)
        for name, value, unit in (("delta_p_A", effect, "pp"), ("kl_per_token", kl, "nats/token")):
            yield ReportRow(c, name, "macro", Estimate(value, value - 1, value + 1, 0.95, unit, 30, 30, "t"), 0)

    rows = tuple(row for c in cells for row in write(c))
    return dataclasses.replace(report, rows=rows, best=Best(best, "delta_p_A", False, len(cells)))


def test_a_large_sweep_shows_what_matters_first_and_says_how_to_see_the_rest(report):
    large = make_large(report)
    text = format_table(large, width=120)
    rows = read_table(text)
    assert len(rows) == 12
    assert next(line for line in text.splitlines() if line.startswith(">")).split()[1:4] == ["7", "+2", "+18.00"]
    assert [(row["layer"], row["mult"]) for row in rows[:3]] == [("7", "+2"), ("7", "+1"), ("31", "+2")]
    assert {row["layer"] for row in rows[8:]} == {"20"}
    assert "116 more: --all" in text
    whole = format_table(large, everything=True, width=120)
    assert len(read_table(whole)) == 128
    assert "--all" not in whole


def test_where_all_multipliers_are_negative_the_smallest_come_first(report):
    large = make_large(report)
    rows = tuple(row for row in large.rows if row.condition.multiplier < 0)
    best = Best(Condition("v", "target", 7, -2.0), "delta_p_A", False, 64)
    text = format_table(dataclasses.replace(large, rows=rows, best=best), width=120)
    assert [(row["layer"], row["mult"]) for row in read_table(text)[:3]] == [("7", "-2"), ("7", "-1"), ("31", "-2")]
    assert "the 8 cells with the smallest ΔP(A)" in text


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_everything_that_is_printed_fits_the_terminal(report, width):
    told = dataclasses.replace(report, warnings=("a warning of many words " * 12,))
    text = format_overview(told, title="t", width=width)
    assert max(map(len, text.splitlines())) <= width
    assert {"a", "warning", "of", "many", "words"} == set(text.split("! ")[1].split("\n\n")[0].split())


def test_the_width_is_that_of_the_terminal(report, monkeypatch):
    for width in (70, 110):
        monkeypatch.setenv("COLUMNS", str(width))
        assert width - 15 < max(map(len, format_table(report).splitlines())) <= width


def test_a_narrow_table_keeps_its_first_columns_and_says_what_it_leaves_out():
    columns = [Column("name", ("a",)), Column("value here", ("+1.00 [+0.50, +1.50]",)), Column("last", ("0.123",))]
    assert draw_table(columns, width=40).splitlines() == [
        "name            value here   last",
        "   a  +1.00 [+0.50, +1.50]  0.123",
    ]
    folded = draw_table(columns, width=30).splitlines()
    assert folded == ["name         value here   last", "   a              +1.00  0.123", "         [+0.50, +1.50]"]
    assert draw_table(columns, width=22).splitlines()[-1] == "(too narrow for: last)"


def test_warnings_are_broken_between_words():
    text = wrap_text("one two-choice three\nfour", width=12, first="! ", rest="  ")
    assert text.splitlines() == ["! one", "  two-choice", "  three", "! four"]


@pytest.mark.parametrize(
    ("target", "words"), [("matching", "each prompt's behaviour-matching answer"), ("B", 'the answer "B"')]
)
def test_every_table_says_what_a_stands_for(report, target, words):
    other = dataclasses.replace(report, target=target)
    assert format_table(other).startswith(f"A: {words}, given within the first 10 tokens")
    assert f"- A, the target: {words}, " in format_report(other, title="t", quality={})


def test_numbers_are_explained_where_they_first_stand(report):
    text = format_report(report, title="t", quality={})
    for name in ("delta_p_A", "share_red", "increase_to_answer_A", "kl", "mass_steered", "answer_share"):
        quantity = find_quantity(name)
        explained = f"- *{quantity.head}*: {quantity.meaning}"
        assert text.count(explained) == 1, name
        assert text.index(explained) < text.index(f" {quantity.head} |"), name
    assert "Red: share of the prompts whose steered probability is not to be trusted." in format_table(report)
    for word in ("*cell*", "*Macro*", "(the window"):
        assert word in text

"""LaTeX tables: what stands in each cell, and that no text of a file is a command."""

import re
from dataclasses import replace

import pytest
from synthetic import make_study

from completions_lp.quantities import find_quantity
from completions_lp.records import Dose, InputError, Report
from completions_lp.show.escape import escape_latex
from completions_lp.show.text.latex import format_booktabs, format_latex


@pytest.fixture(scope="module")
def study():
    return make_study()


def cells_of(text):
    """Cells of the body, line by line."""
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    lines = [line for line in body.splitlines() if line != r"\addlinespace"]
    return [line.removesuffix(r" \\").split(" & ") for line in lines]


def test_a_line_for_every_cell_with_estimates_and_intervals(study):
    text = format_latex(study, ["delta_p_A", "kl_per_token"])
    assert text.startswith(
        "\\begin{tabular}{rrrr}\n\\toprule\n"
        "layer & multiplier & $\\Delta P$ (pp) & $\\mathrm{KL}$ (nats/token) \\\\\n\\midrule\n"
    )
    assert text.endswith("\\end{tabular}\n")
    rows = study.table("delta_p_A")
    lines = cells_of(text)
    assert len(lines) == len(rows) == 12
    for line, row in zip(lines, rows, strict=True):
        e = row.estimate
        star = "^{*}" if row.inference.p_max_t < 0.05 else ""
        assert line[:2] == [str(row.condition.layer), f"${row.condition.multiplier:+g}$"]
        assert line[2] == f"${e.value:+.2f}{star}$ $[{e.low:+.2f}, {e.high:+.2f}]$"
    assert text.count(r"\addlinespace") == 2  # between layers
    assert '$P$: probability of the answer "A". ' in text
    assert r"Means over 12 prompts; brackets: 95\,\% t intervals." in text
    assert "adjusted for the whole sweep by max-T" in text


def test_missing_intervals_undefined_values_and_shares(study):
    def spoil(row):
        if row.condition.layer == 0:
            return replace(row, estimate=replace(row.estimate, low=None, high=None))
        return replace(row, estimate=replace(row.estimate, value=float("nan"), low=None, high=None))

    report = Report("A", tuple(spoil(r) for r in study.table("log_ratio_A")), {}, {})
    text = format_latex(report)
    assert [line[2] for line in cells_of(text)[4:]] == ["--"] * 8
    assert re.fullmatch(r"\$[+-]\d\.\d{3}(\^\{\*\})?\$", cells_of(text)[0][2])
    assert "No intervals: too few prompts." in text
    shares = cells_of(format_latex(study, ["share_red"]))
    assert all(re.fullmatch(r"\$\d+\\%\$", line[-1]) for line in shares)
    costs = [f"${row.estimate.value:.2g}$" for row in study.table("kl_per_token")]
    assert [line[2] for line in shares] == costs


def test_several_vectors_are_named_and_nothing_in_a_name_is_a_command():
    report = make_study(layers=(0,), multipliers=(1.0,), vector=r"50%_$x^2$\input{a}&~")
    lines = cells_of(format_latex(report, ["delta_p_A"], kind="random"))
    assert len(lines) == 19
    name = " & ".join(lines[0][: len(lines[0]) - 4])
    assert name == r"50\%\_\$x\textasciicircum{}2\$\textbackslash{}input\{a\}\&\textasciitilde{}-random-0"


def test_no_number_at_all_is_an_error(study):
    with pytest.raises(InputError, match="no macro mass of target vectors; there are after_answer_A, answer_share"):
        format_latex(study, ["mass"])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a_b", r"a\_b"),
        ("\x1b[0m", r"\textbackslash{}x1b[0m"),
        ("ΔP ‖ −1", r"$\Delta$P $\Vert$ $-$1"),
        ("<|>", r"\textless{}\textbar{}\textgreater{}"),
    ],
)
def test_text_is_escaped(text, wanted):
    assert escape_latex(text) == wanted


def test_a_table_of_any_cells():
    text = format_booktabs(["a", "b"], [["1", "x"], ["1", "y"], ["2", "z"]], note="n", group=0)
    assert text.splitlines()[3:] == [
        r"\midrule",
        r"1 & x \\",
        r"1 & y \\",
        r"\addlinespace",
        r"2 & z \\",
        r"\bottomrule",
        r"\multicolumn{2}{l}{\footnotesize n} \\",
        r"\end{tabular}",
    ]
    assert "addlinespace" not in format_booktabs(["a"], [["1"], ["2"]])


def test_heads_are_those_of_the_quantities(study):
    names = ["delta_logit_A", "before_answer_A", "share_red"]
    head = format_latex(study, names).splitlines()[2].split(" & ")
    assert head[2] == r"$\mathrm{KL}$ (nats/token)", "what a cell costs stands beside its multiplier"
    head = head[3:]
    for text, name in zip(head, names, strict=True):
        quantity = find_quantity(name)
        assert text.removesuffix(r" \\") == f"{quantity.latex or quantity.head} ({quantity.unit})"
    assert r"probability of each prompt's behaviour-matching answer" in format_latex(replace(study, target="matching"))


def test_doses_stand_beside_multipliers(study):
    cells = [row.condition for row in study.table("delta_p_A")]
    settled = {c: replace(c, multiplier=1.5 * c.multiplier, dose=c.multiplier) for c in cells}
    rows = tuple(replace(row, condition=settled.get(row.condition, row.condition)) for row in study.rows)
    doses = tuple(Dose(c, relative=0.123, unit="kl", n_prompts=8) for c in settled.values())
    text = format_latex(replace(study, rows=rows, doses=doses, best=None))
    assert text.splitlines()[2].split(" & ")[1:4] == ["multiplier", "dose", r"$\lVert mv\rVert/\lVert h\rVert$"]
    first, c = cells_of(text)[0], min(settled.values(), key=lambda c: (c.layers, c.multiplier))
    assert first[1:4] == [f"${c.multiplier:+.4g}$", f"${c.dose:+.3g}$", "$0.12$"]

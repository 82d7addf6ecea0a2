"""Text of files and models is safe to look at wherever it is shown."""

import csv
from dataclasses import replace

import pytest
from synthetic import make_study

from completions_lp.show.escape import (
    escape_cell,
    escape_html,
    escape_latex,
    escape_markdown,
    escape_rows,
    escape_text,
    printable,
)
from completions_lp.show.figures import GALLERY

NASTY = "a\x1b[31m\u202eb\ud800\n<b>&_{\\"


def test_control_and_format_characters_become_visible():
    assert escape_text(NASTY) == "a\\x1b[31m\\u202eb\\ud800\n<b>&_{\\"
    assert printable(NASTY) == escape_text(NASTY).replace("\n", "\\n")
    assert printable("abcdef", limit=4) == "abc…"
    assert printable("👨\u200d👩") == "👨\u200d👩"  # a joiner of an emoji is part of it


def test_nothing_is_markup():
    assert escape_html("<b a='\"'>&") == "&lt;b a=&#x27;&quot;&#x27;&gt;&amp;"
    assert escape_latex("50% of $x_1^2$ {\\a}~") == (
        r"50\% of \$x\_1\textasciicircum{}2\$ \{\textbackslash{}a\}\textasciitilde{}"
    )
    assert escape_markdown("*a* <b> | `c`") == r"\*a\* \<b\> \| \`c\`"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_spreadsheet_takes_a_text_for_a_formula(text, tmp_path):
    assert escape_cell(text) == f"'{text}"
    assert escape_rows([{"name": text, "value": -1.0}]) == [{"name": f"'{text}", "value": -1.0}]
    assert escape_cell("plain = text") == "plain = text"


def test_ids_that_look_like_formulas_are_text_in_the_tables_of_figures(tmp_path):
    study = make_study(n_random=0)
    study = replace(study, prompts={**study.prompts, "prompt_id": ["=cmd()" for _ in study.prompts["prompt_id"]]})
    GALLERY["prompts"](study).save(tmp_path / "prompts")
    rows = list(csv.DictReader((tmp_path / "prompts.csv").read_text().splitlines()))
    assert {row["prompt_id"] for row in rows} == {"'=cmd()"}

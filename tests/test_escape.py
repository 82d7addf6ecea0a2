"""Text of files and models is safe to look at wherever it is shown."""

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
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
from completions_lp.show.figures import GALLERY, view
from completions_lp.show.page import make_page
from completions_lp.show.text import format_latex, format_report

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


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
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


FORMULAS = ("=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1")


@pytest.mark.parametrize("name", GALLERY)
def test_no_table_behind_a_figure_has_a_formula(name, monkeypatch, tmp_path):
    """Whatever prompts and vectors are called."""
    study = make_study(vector="=HYPERLINK(0)", n_random=2)
    ids = study.prompts["prompt_id"]
    named = {prompt: f"{FORMULAS[i % len(FORMULAS)]} {i}" for i, prompt in enumerate(dict.fromkeys(ids))}
    study = replace(study, prompts={**study.prompts, "prompt_id": [named[prompt] for prompt in ids]})
    monkeypatch.setattr(view.View, "draw", lambda figure: None)
    monkeypatch.setattr(
        view, "write_figure", lambda folder, stem, _, rows, caption: view_rows.extend(rows) or folder / stem
    )
    view_rows = []
    GALLERY[name](study).save(tmp_path / name)
    texts = {value for row in view_rows for value in row.values() if isinstance(value, str)}
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
    named_there = {key for row in view_rows for key in ("vector", "prompt_id") if key in row}
    assert not named_there or any(text.startswith("'") for text in texts)


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "![a](http://example.org/x.png)",
    "**b** __i__ `c` ~~s~~",
    "# head",
    "a | b | c",
    "http://example.org/ <http://example.org/>",
    "&lt;b&gt; &amp; &#60;",
    "\\input{/etc/passwd} $x_1^2$ 50% & # {a}~",
    "a\x1b[31m\u202eb\ud800\0",
    "a\n\n- b\n# c",
    "-->]]></style>",
]
"""Names of vectors and prompts that mean something in Markdown, HTML, LaTeX or a terminal."""


def list_tags(text):
    """The elements of a page, with their attributes."""
    found = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: found.append((tag, attrs))
    reader.feed(text)
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_vector_and_a_prompt_are_called_a_report_has_no_markup_of_theirs(text):
    kinds = {
        name: replace(
            study := make_study(layers=(0,), multipliers=(1.0,), vector=vector, n_random=1),
            warnings=(f"told of {vector}",),
            errors=(f"{vector} broke",),
        )
        for name, vector in (("hostile", text), ("plain", "plain"))
    }
    del study
    pages = {
        name: MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .render(format_report(report, title=f"run of {text if name == 'hostile' else 'plain'}", quality={}))
        for name, report in kinds.items()
    }
    assert list_tags(pages["hostile"]) == list_tags(pages["plain"])
    assert not re.search("[\x00\x1b\u202e\ud800]", pages["hostile"])


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_vector_is_called_a_latex_table_prints_it(text):
    tables = [
        format_latex(make_study(layers=(0,), multipliers=(1.0,), vector=name, n_random=2), kind="random")
        for name in (text, "plain")
    ]
    assert escape_latex(text) in tables[0]
    assert tables[0].replace(escape_latex(text), "plain") == tables[1]
    assert not re.search("[\x00\x1b\u202e\ud800]", tables[0])


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_vector_and_a_prompt_are_called_a_page_has_no_element_of_theirs(text):
    pages = []
    for name in (text, "plain"):
        study = make_study(layers=(0,), multipliers=(1.0,), vector=name, n_random=1)
        study = replace(study, warnings=(f"told of {name}",), errors=(f"{name} broke",))
        pages.append(make_page(study, {"config": {"prompts": {"path": name}, "model": {"name": name}}}))
    assert [(tag, sorted(k for k, _ in attrs)) for tag, attrs in list_tags(pages[0])] == [
        (tag, sorted(k for k, _ in attrs)) for tag, attrs in list_tags(pages[1])
    ]
    assert not re.search("[\x00\x1b\u202e\ud800]", re.sub(r"<script.*?</script>", "", pages[0], flags=re.DOTALL))

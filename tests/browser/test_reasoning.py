"""Reasoning apart from the answer, where a label rule looks for an answer behind it."""

from dataclasses import replace

import numpy as np
import pytest
from browser.driver import Page
from page_runs import make_run

from completions_lp.records import Labelling


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run whose reasoning is all before the answer's own token, or all there is but the last token."""
    made = make_run(tmp_path_factory.mktemp("page") / "run", n_prompts=6)
    increases = made.report.increases
    said = increases.completions
    reasoning = np.where(said.answer_index >= 0, said.answer_index, said.lengths - 1).astype(np.int32)
    completions = replace(said, labelling=Labelling("final_answer", "all"), reasoning=reasoning)
    in_reasoning = np.where(said.answer_index >= 0, increases.before_answer, 0.0)
    report = replace(made.report, increases=replace(increases, completions=completions, in_reasoning=in_reasoning))
    return replace(made, report=report)


def count_expected(completions):
    """Of the first prompt: completions with a bar, since reasoning is there and something follows it."""
    rows = completions.rows_of(0)
    return int(((completions.reasoning[rows] > 0) & (completions.reasoning[rows] < completions.lengths[rows])).sum())


def test_reasoning_is_in_italics_and_ends_at_a_bar(driver, made, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(made.make(), encoding="utf-8")
    page = Page(driver).open(path)
    page.settle()
    drawn = page.run("return document.querySelectorAll('.tokens .turn, .parts .turn').length")
    shown = page.run("return document.querySelectorAll('p.tokens, p.parts').length")
    completions = made.report.increases.completions
    assert shown == len(completions.rows_of(0))
    assert drawn == count_expected(completions)
    assert page.run("return document.querySelectorAll('.piece.thought').length") > drawn
    assert page.run("return getComputedStyle(document.querySelector('.piece.thought')).fontStyle") == "italic"
    assert page.run(
        "return [...document.querySelectorAll('.piece.at, .piece.after')].every((p) => !p.matches('.thought'))"
    )
    assert "reasoning is in italics" in page.run("return document.getElementById('token-legend').textContent")
    sent, console = page.drain_logs()
    assert console == []
    assert all(url.startswith(("data:", "about:", path.as_uri())) for url in sent)


def test_parts_split_at_the_end_of_the_reasoning(driver, made, tmp_path):
    """Where the increases of single tokens are not stored, the reasoning is one part."""
    path = tmp_path / "report.html"
    path.write_text(replace(made, tokens=None).make(), encoding="utf-8")
    page = Page(driver).open(path)
    page.settle()
    titles = page.run("return [...document.querySelectorAll('p.parts .piece')].map((p) => p.title)")
    assert any(title.startswith("reasoning: ") for title in titles)
    assert page.run("return document.querySelectorAll('p.parts .turn').length") > 0


def test_without_such_a_rule_nothing_is_set_apart(page):
    assert page.run("return document.querySelectorAll('.turn, .thought').length") == 0

"""How records show themselves in Jupyter."""

import html
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_completions, make_prompts
from synthetic import make_study

from completions_lp.records import Condition, TokenIncreases
from completions_lp.show import notebook
from completions_lp.show.notebook import show_completions, show_report, show_tokens
from completions_lp.show.text import format_table

NASTY = "<script>alert(1)</script>"


@pytest.fixture
def completions():
    prompts = make_prompts((4, 3))
    prompts = (replace(prompts[0], text=f"{NASTY} & what?", id="<b>"), prompts[1])
    said = make_completions(
        prompts,
        [(0, [5, 6, 7]), (0, [5, 8]), (1, [9])],
        labels=["A", "", "B"],
        answers=[1, -1, 0],
        counts=[3, 7, 1],
    )
    pieces = (("so ", "A", "\u202e\x1b"), (NASTY, " שלום"), ("B",))
    return replace(said, pieces=pieces, logprob=np.where(said.mask, -1.0, np.nan))


def test_the_report_shows_its_table_and_what_is_wrong_with_it():
    report = replace(make_study(n_random=0), warnings=("few <prompts>",), errors=("broken & bad",))
    shown = show_report(report)
    assert "few &lt;prompts&gt;" in shown
    assert shown.index("broken &amp; bad") < shown.index("few")
    for line in format_table(report).splitlines():
        assert html.escape(line) in shown


def test_completions_come_most_frequent_first_with_the_answer_outlined(completions):
    shown = show_completions(completions)
    assert shown.index("&lt;script&gt;alert(1)&lt;/script&gt;</span>") < shown.index(">so <")
    assert shown.count("outline:") == 2  # one for each answer
    assert "outline:1.5px solid'>A<" in shown
    assert "3 distinct completions of 2 prompts" in shown


def test_text_of_a_model_stays_text(completions):
    for shown in (show_completions(completions), show_tokens(completions, make_tokens(completions))):
        assert "<script" not in shown
        assert "\u202e" not in shown
        assert "\x1b" not in shown
        assert "&lt;b&gt;" in shown
        assert "שלום" in shown
        assert "<bdi" in shown


def make_tokens(completions):
    increase = np.array([[0.01, 0.01, 9.0], [0.5, -1.5, 0.0]])[:, None, :] * np.ones((2, 3, 1))
    conditions = tuple(Condition("v<", "target", layer, 1.0) for layer in (3, 4))
    return TokenIncreases(conditions, np.where(completions.mask, increase, np.nan))


def test_scores_are_coloured_by_the_condition_that_moves_the_answers(completions):
    shown = show_tokens(completions, make_tokens(completions))
    assert "v&lt;, layer 4, multiplier +1" in shown
    assert "title='-1.500 nats' style='background:rgba(33,102,172,0.41);outline" in shown
    assert "title='+0.500 nats' style='background:rgba(178,88,6,0.14)" in shown
    assert ">-1.00<" in shown  # the sum of 0.5, -1.5 and 0


def test_only_so_many_are_shown(completions, monkeypatch):
    monkeypatch.setattr(notebook, "PROMPTS", 1)
    monkeypatch.setattr(notebook, "TEXTS", 1)
    shown = show_completions(completions)
    assert "and 1 more" in shown
    assert "<b>p1</b>" not in shown


def test_a_notebook_shows_them_by_itself_and_a_script_imports_nothing():
    pytest.importorskip("IPython")
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "import completions_lp\n"
        "from completions_lp.records import Report\n"
        "report = Report('A', (), {}, {'noise_floor': 0.0, 'sampler_gap': 0.0})\n"
        "data, _ = shell.display_formatter.format(report)\n"
        "assert '<p>' in data['text/html'], data\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    light = "import sys, completions_lp; assert 'IPython' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", light], check=True, timeout=120)

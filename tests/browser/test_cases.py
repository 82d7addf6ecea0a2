"""Runs that lack something, or have too much of it."""

import os
import resource
import shutil
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from browser.driver import Page, number
from browser.stored import PARTS, check_table, read_rows, read_scores, shown_completions
from page_runs import make_run


def test_without_token_increases_parts_are_coloured(driver, tmp_path):
    page = Page(driver).open(make_run(tmp_path, tokens="chosen", n_prompts=8).write())
    page.pick("#layer", "1")
    page.settle()
    assert page.text("#token-note") == ""
    page.pick("#layer", "2")
    page.settle()
    assert "completions-lp score DIR --tokens" in page.text("#token-note")
    stored = {row["completion_id"]: row for row in read_scores(tmp_path, "p0", page.condition())}
    page.find("#under").click()
    for i, row in stored.items():
        parts = [row[name] for name in PARTS[2:]] if row["answer_index"] >= 0 else [row["increase"]]
        texts = page.texts(f"[data-completion='{i}'] .said")
        assert "".join(texts) == row["text"]
        shown = [number(text) for text in page.texts(f"[data-completion='{i}'] .figure") if "·" not in text]
        assert all(min(abs(value - part) for part in parts) < 0.0066 for value in shown)


def test_without_any_tokens_or_measures_parts_are_coloured(driver, tmp_path):
    made = make_run(tmp_path, tokens=None, n_prompts=8)
    lacking = {"trust", "p_A_steered", "p_A", "share_A"}
    columns = {name: values for name, values in made.report.prompts.items() if name not in lacking}
    page = Page(driver).open(replace(made, report=replace(made.report, prompts=columns)).write())
    assert "completions-lp score DIR --tokens" in page.text("#token-note")
    assert page.texts("#token-note button") == []
    assert {len(page.texts(f"#completions > li:nth-child({i}) .piece")) for i in range(1, 8)} <= {1, 2, 3}
    assert not {"Trust", "P(matching)"} & set(page.texts("#prompt-numbers dt"))
    assert page.drain_logs()[1] == []


def test_one_prompt_has_points_and_no_intervals(driver, tmp_path):
    page = Page(driver).open(make_run(tmp_path, n_prompts=1).write())
    assert len(page.texts("#lines .point")) == 3
    assert page.texts("#lines .interval") == []
    assert "no interval exists" in page.text("#lines-note")
    check_table(page, tmp_path, page.condition(), exact=False)
    assert page.drain_logs()[1] == []


def test_a_run_without_the_answer_says_so(driver, tmp_path):
    page = Page(driver).open(make_run(tmp_path, n_prompts=7, answers=("",)).write())
    page.pick("#quantity", "increase_to_answer_A|macro")
    assert "Nothing to draw" in page.text("#lines-note")
    assert page.texts("#lines .point") == []
    assert set(page.texts("#heat .cell:not(.none)")) == {"\N{EN DASH}"}
    assert page.drain_logs()[1] == []


def test_what_was_left_out_is_said_and_nothing_fails(driver, tmp_path):
    made = make_run(tmp_path, n_prompts=150, n_completions=20, n_tokens=30, n_random=3)
    page = Page(driver).open(made.write(limit=1_000_000))
    said = page.text("#left-out")
    assert "the token colours under 18 of the 18 conditions of control vectors" in said
    assert "the completions' increases under 18 of the 18 conditions of control vectors" in said
    assert "drawn at random (seed 0) are here" in said
    page.pick("#vector", "random-0")
    page.settle()
    assert "left out of this file" in page.text("#token-note")
    check_table(page, tmp_path, page.condition(), exact=False)
    assert page.drain_logs()[1] == []


@pytest.mark.slow
def test_a_large_run_is_written_and_opened_in_time(driver, tmp_path):
    full = os.environ.get("FULL") == "1"
    size = {"n_prompts": 1000, "n_completions": 40, "n_tokens": 24} if full else {"n_prompts": 150, "n_completions": 20}
    cells = {"layers": tuple(range(8)), "multipliers": (-2.0, -1.0, 1.0, 2.0), "n_random": 2}
    made = make_run(tmp_path, tokens="chosen", **cells, **size)
    start = time.perf_counter()
    path = made.write()
    assert time.perf_counter() - start < 30
    assert path.stat().st_size <= 40_000_000
    assert full is False or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4_000_000  # what made the run included
    page = Page(driver).open(path)
    assert int(page.run("return document.documentElement.dataset.ready")) < 3000
    start = time.perf_counter()
    for layer in "0123":
        page.pick("#layer", layer)
        page.settle()
    assert time.perf_counter() - start < 4
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("share", [1, 2])
def test_every_prompt_shows_its_own_completions(driver, tmp_path, share):
    """Also of later groups, and where prompts before it were left out."""
    made = make_run(
        tmp_path, n_prompts=170, n_completions=12, layers=(0, 1, 2), n_random=0, n_tokens=40, multipliers=(1.0, 2.0)
    )
    path = made.write(limit=40_000_000 if share == 1 else 1_000_000)
    stored = pq.read_table(tmp_path / "completions.parquet").to_pylist()
    page = Page(driver)
    for place in (1, 39, 40, 81):
        page.open(path, fragment=f"#prompt={place}")
        prompt = page.text("#prompt-id")
        assert share == 2 or prompt == f"p{place}"
        rows = {row["completion_id"]: row for row in read_scores(tmp_path, prompt, page.condition())}
        texts = {row["completion_id"]: row["pieces"] for row in stored if row["prompt_id"] == prompt}
        increases = read_rows(tmp_path, "tokens.parquet", page.condition(), prompt)
        shown = shown_completions(page)
        assert len(shown) == 12
        for c in shown:
            row, i = rows[c["number"]], c["number"]
            assert number(c["increase"]) == pytest.approx(row["increase"], abs=0.00051)
            assert page.texts(f"[data-completion='{i}'] .piece") == [piece or "end" for piece in texts[i]]
            titles = page.run(
                f"return [...document.querySelectorAll(`[data-completion='{i}'] .piece`)].map((n) => n.title)"
            )
            for title, token in zip(titles, [t for t in increases if t["completion_id"] == i], strict=True):
                told = title.split(": ")[1].split(" nats")[0]
                assert "·" in told or number(told) == pytest.approx(token["increase"], abs=0.00051)
                assert f"id {token['token_id']}:" in title
    assert (len(page.texts("#left-out")) == 1) == (share == 2)

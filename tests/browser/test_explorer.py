"""The completion explorer: numbers of the stored tables, and foreign text that stays text."""

import pytest
from browser.driver import number, tolerance
from browser.stored import read_rows, read_scores, shown_completions
from page_runs import FAMILY, STRANGE


@pytest.mark.parametrize(
    ("sort", "key"),
    [("to_answer", "increase_to_answer"), ("increase", "increase"), ("count", "count"), ("logprob", "logprob")],
)
def test_completions_are_sorted_and_show_their_scores(page, run_folder, sort, key):
    page.pick("#vector", "random-0")
    page.settle()
    condition = page.condition()
    stored = {row["completion_id"]: row for row in read_scores(run_folder, "p<0>", condition)}
    for direction in (1, -1):
        page.pick("#sort", f"{sort}|{'down' if direction == 1 else 'up'}")
        shown = shown_completions(page)
        values = [stored[c["number"]][key] for c in shown]
        assert values == sorted(values, reverse=direction == 1)
        assert len(shown) == len(stored)
        for c in shown:
            row = stored[c["number"]]
            assert (c["count"], c["label"]) == (row["count"], row["label"] or "no answer")
            for name, column in (("logprob", "logprob"), ("to_answer", "increase_to_answer"), ("increase", "increase")):
                assert number(c[name]) == pytest.approx(row[column], abs=0.00051), name
            for name in ("before", "at", "after") if row["answer_index"] >= 0 else ():
                assert number(c[name]) == pytest.approx(row[f"{name}_answer"], abs=0.0016), name
            assert ("before" in c) == (row["answer_index"] >= 0), "what is undefined is not shown"
            if row["answer_index"] >= 0:
                total = sum(number(c[name]) for name in ("before", "at", "after"))
                assert total == pytest.approx(number(c["increase"]), abs=1e-9), "parts add up as they are shown"


def test_completions_are_filtered_by_label_and_by_text(page, run_folder):
    stored = read_scores(run_folder, "p<0>", page.condition())
    page.pick("#label-filter", "=B")
    assert {c["label"] for c in shown_completions(page)} == {"B"}
    assert len(shown_completions(page)) == sum(row["label"] == "B" for row in stored)
    page.pick("#label-filter", "")
    page.pick("#text-filter", "SCRIPT")
    assert sorted(c["number"] for c in shown_completions(page)) == [0, 1]
    page.pick("#text-filter", "no such text")
    assert shown_completions(page) == []
    assert page.text("#completion-count").startswith("0 of 7 distinct completions, 0 of")


def test_foreign_text_is_text(page):
    assert page.driver.title == "made-up: <made> up"
    shown = {c["number"]: c["text"] for c in shown_completions(page)}
    for number_of, pieces in list(enumerate(STRANGE))[:3]:
        assert shown[number_of].startswith("".join(pieces))
    for sign in ("U+202E", "U+001B", "U+0000", "U+2028", "⇥"):
        assert sign in shown[3]
    assert not any(c in shown[3] for c in "\u202e\x1b\x00\u2028\t")
    assert "↵\n" in shown[4]
    prompt = page.text("#prompt-body")
    assert "</script><script>document.title = 'taken'</script>" in prompt
    assert "U+202E" in prompt
    assert "{{meta}}" in prompt
    assert page.run("return document.querySelectorAll('main script, main img, main b, main i').length") == 0


def test_text_has_its_own_direction(page):
    script = "return getComputedStyle(document.querySelector(`[data-completion='${arguments[0]}'] .text`)).direction"
    assert page.run(script, 2) == "rtl"
    assert page.run(script, 0) == "ltr"
    isolated = "return getComputedStyle(document.querySelector(`[data-completion='2'] .text`)).unicodeBidi"
    assert page.run(isolated) in ("isolate", "plaintext")


def test_tokens_of_one_character_share_a_piece(page):
    pieces = page.texts("[data-completion='2'] .piece")
    assert pieces == [*STRANGE[2][:5], FAMILY, "end"]
    title = page.find("[data-completion='2'] .piece:nth-child(6)").get_attribute("title")
    assert [line.split(",")[0] for line in title.splitlines()[:3]] == ["token 5", "token 6", "token 7"]


def test_tokens_show_their_increase_and_the_answer(page, run_folder):
    condition = page.condition()
    page.find("#under").click()
    stored = read_rows(run_folder, "tokens.parquet", condition, "p<0>")
    for row in read_scores(run_folder, "p<0>", condition):
        i = row["completion_id"]
        increases = [token["increase"] for token in stored if token["completion_id"] == i]
        shown = page.texts(f"[data-completion='{i}'] .figure")
        if len(shown) == len(increases):
            for text, value in zip(shown, increases, strict=True):
                assert "·" in text or number(text) == pytest.approx(value, abs=0.0056)
        script = "return [...document.querySelectorAll(arguments[0])].map((n) => n.className.split(' ')[1])"
        kinds = page.run(script, f"[data-completion='{i}'] .piece")
        if row["answer_index"] < 0:
            assert set(kinds) == {""} or not set(kinds) & {"before", "at", "after"}
        else:
            assert kinds.count("at") == 1
            assert kinds == sorted(kinds, key=["before", "at", "after"].index)
            assert page.text(f"[data-completion='{i}'] .at .said").strip() == row["label"]
    up, down = (page.run(f"return document.querySelectorAll('#completions .{name}').length") for name in ("up", "down"))
    assert up > 0 < down


def test_a_completion_opens_as_a_table_from_the_keyboard(page, run_folder):
    from selenium.webdriver.common.keys import Keys

    page.run("document.querySelector('#completions .open').focus()")
    page.press(Keys.ARROW_DOWN, Keys.ENTER)
    item = page.find("#completions > li:nth-child(2)")
    button = page.find("#completions > li:nth-child(2) .open")
    assert button.get_attribute("aria-expanded") == "true"
    number_of = int(item.get_attribute("data-completion"))
    stored = read_scores(run_folder, "p<0>", page.condition())
    row = next(row for row in stored if row["completion_id"] == number_of)
    shown = page.texts("#completions > li:nth-child(2) tbody td:nth-child(3)")
    assert [int(text) for text in shown] == row["token_ids"]
    at, n = row["answer_index"], len(row["token_ids"])
    parts = [""] * n if at < 0 else ["before"] * at + ["the answer"] + ["after"] * (n - at - 1)
    assert page.texts("#completions > li:nth-child(2) tbody td:last-child") == parts
    page.press(Keys.ENTER)
    assert button.get_attribute("aria-expanded") == "false"
    assert page.texts("#completions table") == []
    page.press(Keys.ARROW_RIGHT)
    page.wait("return document.getElementById('prompt-id').textContent === 'p1'")
    page.settle()
    assert page.run("return document.activeElement.matches('#completions .open')")


def test_the_prompt_list_is_walked_searched_and_sorted(page, run_folder):
    from selenium.webdriver.common.keys import Keys

    page.run("document.getElementById('prompt-list').focus()")
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    page.wait("return document.getElementById('prompt-id').textContent === 'p2'")
    assert page.find("#prompt-list").get_attribute("aria-activedescendant") == "prompt-2"
    page.find("#prompt-next").click()
    page.wait("return document.getElementById('prompt-id').textContent === 'p3'")
    page.pick("#prompt-search", "question 1")
    assert [text[:2] for text in page.texts("#prompt-list .place")] == ["2", "11", "12"]
    page.pick("#prompt-search", "")
    page.pick("#prompt-order", "increase_to_answer_A")
    rows = read_rows(run_folder, "prompts.parquet", page.condition())
    want = sorted((row["increase_to_answer_A"] for row in rows), reverse=True)
    shown = [number(text) for text in page.texts("#prompt-list .number")]
    assert shown == pytest.approx(want, abs=0.00051)


def test_the_numbers_of_a_prompt_are_those_of_the_table(page, run_folder):
    page.pick("#layer", "2")
    page.settle()
    row = read_rows(run_folder, "prompts.parquet", page.condition(), "p<0>")[0]
    for name in ("p_A", "p_A_steered", "delta_p_A", "increase_all", "n", "n_A"):
        value, _, limits = page.text(f"#prompt-numbers [data-column='{name}'] dd").partition("[")
        assert number(value) == pytest.approx(row[name], abs=1.02 * tolerance(name))
        assert bool(limits) == (f"{name}_low" in row)
        if limits:
            low, high = (number(text) for text in limits.strip("]").split(", "))
            assert (low, high) == pytest.approx((row[f"{name}_low"], row[f"{name}_high"]), abs=1.02 * tolerance(name))
    mark, word = page.text("#prompt-numbers [data-column='trust'] dd").split(" ")
    assert word == row["trust"]
    assert mark == {"certified": "✓✓", "green": "✓", "red": "✕"}[word]

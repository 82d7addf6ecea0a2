"""The study's prompts and pairs: complete, balanced, and without a leak from the pairs into the prompts."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "data/study"
BEHAVIOURS = ("corrigibility", "optimism", "risk_taking", "sycophancy")
WORDS = 6
"""A run of so many words in both is a leak."""


def _read(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="ascii").splitlines()]


def _find_runs(texts: list[str]) -> set[tuple[str, ...]]:
    found = set()
    for text in texts:
        words = re.findall(r"[a-z0-9']+", text.lower())
        found.update(tuple(words[at : at + WORDS]) for at in range(len(words) - WORDS + 1))
    return found


def _list_texts(row: dict[str, str]) -> list[str]:
    return [row[key] for key in ("situation", "matching", "not_matching", "open") if key in row]


@pytest.mark.parametrize("name", BEHAVIOURS)
class TestBehaviour:
    def test_has_sixty_prompts_in_twelve_clusters_and_two_hundred_pairs(self, name: str) -> None:
        prompts, pairs = _read(f"{name}_prompts"), _read(f"{name}_pairs")
        assert (len(prompts), len(pairs)) == (60, 200)
        assert set(Counter(row["cluster"] for row in prompts).values()) == {5}
        assert set(Counter(row["cluster"] for row in pairs).values()) == {10}

    @pytest.mark.parametrize("kind", ["prompts", "pairs"])
    def test_each_answer_is_the_matching_one_as_often(self, name: str, kind: str) -> None:
        rows = _read(f"{name}_{kind}")
        assert Counter(row["answer_matching_behavior"] for row in rows) == {
            " (A)": len(rows) / 2,
            " (B)": len(rows) / 2,
        }
        assert all(
            {row["answer_matching_behavior"], row["answer_not_matching_behavior"]} == {" (A)", " (B)"} for row in rows
        )

    def test_each_open_answer_is_the_matching_one_as_often(self, name: str) -> None:
        rows = _read(f"{name}_prompts")
        assert Counter(row["open_matching"] for row in rows) == {"Yes": 30, "No": 30}
        assert all({row["open_matching"], row["open_not_matching"]} == {"Yes", "No"} for row in rows)

    @pytest.mark.parametrize("kind", ["prompts", "pairs"])
    def test_the_question_lists_its_two_choices(self, name: str, kind: str) -> None:
        for row in _read(f"{name}_{kind}"):
            texts = {"A": row["matching"], "B": row["not_matching"]}
            if row["answer_matching_behavior"] == " (B)":
                texts = {"A": row["not_matching"], "B": row["matching"]}
            assert row["question"] == f"{row['situation']}\n\nChoices:\n (A) {texts['A']}\n (B) {texts['B']}"

    @pytest.mark.parametrize("kind", ["prompts", "pairs"])
    def test_length_does_not_tell_the_matching_choice(self, name: str, kind: str) -> None:
        rows = _read(f"{name}_{kind}")
        lengths = [sum(len(row[key].split()) for row in rows) for key in ("matching", "not_matching")]
        assert abs(lengths[0] / lengths[1] - 1) < 0.1

    def test_prompts_and_pairs_share_no_theme_and_no_text(self, name: str) -> None:
        prompts, pairs = _read(f"{name}_prompts"), _read(f"{name}_pairs")
        assert not {row["cluster"] for row in prompts} & {row["cluster"] for row in pairs}
        of_prompts = _find_runs([text for row in prompts for text in _list_texts(row)])
        of_pairs = _find_runs([text for row in pairs for text in _list_texts(row)])
        assert not of_prompts & of_pairs

    def test_no_question_comes_twice(self, name: str) -> None:
        for key, rows in (
            ("situation", _read(f"{name}_prompts") + _read(f"{name}_pairs")),
            ("open", _read(f"{name}_prompts")),
        ):
            assert Counter(row[key] for row in rows).most_common(1)[0][1] == 1


def test_behaviours_share_no_text() -> None:
    runs = {
        name: _find_runs([text for row in _read(f"{name}_prompts") for text in _list_texts(row)]) for name in BEHAVIOURS
    }
    for one, other in combinations(BEHAVIOURS, 2):
        assert len(runs[one] & runs[other]) <= 3, (one, other, runs[one] & runs[other])


def test_facts_are_balanced() -> None:
    rows = _read("facts")
    assert Counter(row["answer_matching_behavior"] for row in rows) == {" (A)": 20, " (B)": 20}

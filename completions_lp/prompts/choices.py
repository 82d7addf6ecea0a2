"""The choices of a question: listed in its text, or in a column of their own with the place of the right one."""

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from completions_lp.records import InputError

LISTED = re.compile(r"^[^\S\n]*\(([A-Z]|[a-z]|\d{1,2})\)", re.MULTILINE)
"""A choice as a question lists it: `` (A) Yes``, one a line."""
BARE = re.compile(r"^[^\S\n]*([A-Z])[.)]\s", re.MULTILINE)
"""``A. Yes`` or ``A) Yes``, taken for choices where they begin with A and leave none out."""
MOST = len(string.ascii_uppercase)


@dataclass(frozen=True)
class Choice:
    """One choice: the letter by which a model names it, and what it says."""

    letter: str
    text: str


def find_letters(question: str, like: str) -> tuple[str, ...]:
    """Letters of the choices that a question lists; none where the answer ``like`` is not one of them."""
    found = [letter for letter in LISTED.findall(question) if _kind(letter) == _kind(like)]
    if not found:
        for letter in BARE.findall(question):
            if len(found) < MOST and letter == string.ascii_uppercase[len(found)]:
                found.append(letter)
    return tuple(dict.fromkeys(found)) if like in found else ()


def read_choices(value: Any, where: str) -> tuple[Choice, ...]:
    """Choices as data sets write them: texts, texts with labels, or texts by letter; none where it is none of these.

    A text without a label has the letter of its place: A, B, C. A list may be written as JSON, as in a CSV cell.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            return ()
    pairs: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, Mapping) and isinstance(value.get("text"), list) and isinstance(value.get("label"), list):
        pairs = list(zip(value["label"], value["text"], strict=False))
    elif isinstance(value, Mapping):
        pairs = [(letter, text) for letter, text in value.items() if text not in (None, "")]
    elif isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        pairs = [(item.get("label"), item.get("text")) for item in value]
    elif isinstance(value, list):
        texts = list(value)
        while texts and texts[-1] in (None, ""):  # a table's questions may have fewer than the most
            texts.pop()
        if len(texts) > MOST:
            raise InputError(f"{where}: {len(texts)} choices; there are letters for {MOST}")
        pairs = list(zip(string.ascii_uppercase, texts, strict=False))
    if len(pairs) < 2 or not all(_is_label(letter) and _is_scalar(text) for letter, text in pairs):
        return ()
    if len({str(letter) for letter, _ in pairs}) < len(pairs):
        raise InputError(f"{where}: two choices have one letter: {', '.join(str(letter) for letter, _ in pairs)}")
    return tuple(Choice(str(letter), str(text)) for letter, text in pairs)


def pick_choice(choices: Sequence[Choice], answer: Any, where: str) -> str | None:
    """The letter that an answer names: by its place (0 is the first), its letter or its text; None if none of these.

    Raises:
        InputError: It names two, or a place that there is not.
    """
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(choices):
            raise InputError(
                f"{where}: the answer is number {answer} of {len(choices)} choices; they are counted from 0 to "
                f"{len(choices) - 1}"
            )
        return choices[answer].letter
    if not isinstance(answer, str):
        return None
    text, letter = answer.strip(), answer.strip(" \t\n().:")
    named = {choice.letter for choice in choices if choice.text.strip() == text or choice.letter == letter}
    labelled = any(choice.letter.isdecimal() for choice in choices)
    if re.fullmatch(r"\d{1,2}", text, re.ASCII) and not labelled and int(text) < len(choices):
        named.add(choices[int(text)].letter)  # a table of text has its numbers as text
    if len(named) > 1:
        raise InputError(
            f"{where}: the answer {answer[:200]!r} is the text of one choice, and the letter or the number (counted "
            f"from 0) of another: {', '.join(sorted(named))}; write its letter, or its number as a number"
        )
    return next(iter(named), None)


def list_choices(question: str, choices: Sequence[Choice]) -> str:
    """The question with its choices below it, unless it lists them itself."""
    if {choice.letter for choice in choices} <= set(find_letters(question, choices[0].letter)):
        return question
    lines = "".join(f"\n ({choice.letter}) {choice.text}" for choice in choices)
    return f"{question}\n\nChoices:{lines}"


def exchange_choices(question: str, first: str, second: str) -> str | None:
    """The question with the texts of two of its choices exchanged, and all else in its place; None if that cannot be.

    It cannot where it does not list both, lists one of them twice, or does not show where the last choice ends: where
    other choices take several lines, so does it, up to an empty line; else it ends with its line.
    """
    letters = find_letters(question, first)
    if not {first, second} <= set(letters):
        return None
    form = LISTED if first in LISTED.findall(question) else BARE
    marks = [mark for mark in form.finditer(question) if mark[1] in letters]
    ends = [*(mark.start() for mark in marks[1:]), len(question)]
    texts = [question[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    spans = [(mark.end(), mark.end() + len(text.rstrip())) for mark, text in zip(marks, texts, strict=True)]
    several = any("\n" in text.strip() for text in texts[:-1])
    last, *after = re.split(r"\n[^\S\n]*\n" if several else r"\n", texts[-1].rstrip(), maxsplit=1)
    spans[-1] = (marks[-1].end(), marks[-1].end() + len(last.rstrip()))
    found = [[span for mark, span in zip(marks, spans, strict=True) if mark[1] == one] for one in (first, second)]
    if len(found[0]) != 1 or len(found[1]) != 1 or (several and "\n" in last.strip() and not after):
        return None
    (begin, end), (start, stop) = sorted((found[0][0], found[1][0]))
    parts = question[:begin], question[start:stop], question[end:start], question[begin:end], question[stop:]
    return "".join(parts)


def _kind(letter: str) -> str:
    if letter.isdecimal():
        return "number"
    return "upper" if letter.isupper() else "lower"


def _is_label(value: Any) -> bool:
    return (
        isinstance(value, str | int)
        and not isinstance(value, bool)
        and re.fullmatch(r"\w{1,2}", str(value)) is not None
    )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)

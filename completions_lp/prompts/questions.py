"""One question with its answers, and the sides of a contrast pair, as a row has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from completions_lp.prompts.choices import exchange_choices
from completions_lp.prompts.files import Row
from completions_lp.records import InputError

SPEAKERS = {"human": "user", "gpt": "assistant"}
"""Roles under other names."""
TURN = (("role", "from"), ("content", "value"))
"""Who says what, by either name."""


@dataclass(frozen=True)
class Side:
    """What one side of a contrast pair asks and answers."""

    text: str
    turns: tuple[Mapping[str, str], ...]
    """Earlier turns of a chat, each with ``role`` and ``content``."""
    response: str

    def asks_as(self, other: "Side") -> bool:
        """Whether both ask the same."""
        return (self.text, self.turns) == (other.text, other.turns)


@dataclass(frozen=True)
class Question:
    """One question, whatever its file's format."""

    row: Row
    """Its place, and the fields that a template is filled from: the file's own, and ``question``."""
    answers: tuple[str, ...]
    """As the file writes them, `` (A)``: the matching one, the one to compare with, all others."""
    turns: tuple[Mapping[str, str], ...] = ()
    """Earlier turns of a chat."""

    @property
    def text(self) -> str:
        """What is asked; empty where the file has no such field."""
        return str(self.row.fields.get("question", ""))

    def exchange(self) -> "Question":
        """The same question with its first two answers exchanged."""
        return replace(self, answers=(self.answers[1], self.answers[0], *self.answers[2:]))

    def swap(self) -> "Question | None":
        """The same question with the texts of the two compared choices exchanged, so that the other letter matches.

        None where it does not list both.
        """
        text = exchange_choices(self.text, self.split(0)[1], self.split(1)[1])
        if text is None:
            return None
        return replace(self.exchange(), row=replace(self.row, fields={**self.row.fields, "question": text}))

    def split(self, i: int) -> tuple[str, str, str]:
        """`` (A)``, an answer -> what stands before it, the answer, what stands after it.

        Raises:
            InputError: Nothing is left, or a bracket without its other half.
        """
        raw = self.answers[i]
        begin = len(raw) - len(raw.lstrip())
        begin += raw[begin : begin + 1] == "("
        end = len(raw.rstrip())
        end -= end > begin and raw[end - 1] in ".:"
        end -= end > begin and raw[end - 1] == ")"
        answer = raw[begin:end].strip()
        if answer and not {"(", ")"} & {*answer}:
            return raw[:begin], answer, raw[end:]
        whole = raw.strip()
        if whole.count("(") == whole.count(")") and any(sign.isalnum() for sign in whole):
            return "", whole, ""  # a sentence with brackets of its own
        raise InputError(f"{self.row.where}: an answer is {cut(raw)}; it should look like '(A)', 'A' or 'Yes'")


def ask_side(row: Row, side: Side, other: str) -> Question:
    """One side of a contrast pair as a question, against another answer."""
    row = replace(row, fields={**row.fields, "question": side.text})
    return Question(row, (side.response, other), side.turns)


def read_turns(row: Row, name: str, value: Sequence[Any]) -> list[dict[str, str]]:
    """Turns of a chat, each with ``role`` and ``content``; at least one."""
    turns = []
    for turn in value:
        found = turn if isinstance(turn, Mapping) else {}
        role, content = (next((found[key] for key in keys if found.get(key) is not None), None) for keys in TURN)
        if isinstance(content, list) and all(
            isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
        ):
            content = "".join(part["text"] for part in content)
        if not isinstance(role, str) or not isinstance(content, str):
            raise InputError(f"{row.where}: field {name!r} must be turns with 'role' and 'content', both text")
        turns.append({"role": SPEAKERS.get(role, role), "content": content})
    if not turns:
        raise InputError(f"{row.where}: field {name!r} has no turns; at least one, the user's, is needed")
    return turns


def read_side(row: Row, name: str, value: Any) -> Side:
    """One side of a contrast pair: a record of ``prompt`` and ``response``, or a chat that the assistant ends."""
    prompt, response = value, None
    if isinstance(value, Mapping):
        prompt, response = value.get("prompt"), value.get("response")
    elif isinstance(value, list):
        *prompt, last = read_turns(row, name, value)
        if not prompt or last["role"] != "assistant":
            raise InputError(f"{row.where}: field {name!r} must end with what the user asks and the assistant answers")
        response = last["content"]
    turns: list[dict[str, str]] = []
    if isinstance(prompt, list):
        *turns, last = read_turns(row, name, prompt)
        prompt = last["content"]
    if not isinstance(prompt, str) or not isinstance(response, str):
        has = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise InputError(
            f"{row.where}: field {name!r} must be a text, or have 'prompt' and 'response', both text; it has: {has}"
        )
    return Side(prompt, tuple(turns), response)


def cut(text: str) -> str:
    """A text in quotes, its end left out where it is long."""
    return repr(text if len(text) <= 200 else f"{text[:199]}…")


def as_list(value: Any) -> list[Any]:
    """A list of what is there; empty for nothing."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def as_text(row: Row, name: str, value: Any, why: str) -> str:
    """A value as text; InputError where it is a list or a record. ``why`` says what it is for."""
    if not isinstance(value, str | int | float):
        raise InputError(f"{row.where}: field {name!r} ({why}) must be text, got {type(value).__name__}")
    return str(value)

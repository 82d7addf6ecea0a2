"""Rows in the formats of the field -> questions with their answers: which column says what, and in which form."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from completions_lp.prompts.choices import Choice, list_choices, pick_choice, read_choices
from completions_lp.prompts.files import Row
from completions_lp.prompts.questions import Question, Side, as_list, as_text, ask_side, read_side, read_turns
from completions_lp.records import InputError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "prompt"),
    "messages": ("messages", "conversations"),
    "matching": ("answer_matching_behavior", "matching", "correct"),
    "not_matching": ("answer_not_matching_behavior", "not_matching", "incorrect"),
    "choices": ("choices", "options"),
    "answer": ("answer", "answerKey"),
    "positive": ("positive",),
    "negative": ("negative",),
    "id": ("id",),
    "cluster": ("cluster",),
}
"""What is read of a row, and what the formats of the field call it; ``fields`` may name another column."""
SEVERAL = ("not_matching", "choices")
"""What may stand in several columns, a text in each."""
LETTERS = tuple("ABCDEFGHIJ")
"""Columns of choices, one for each: ``A``, ``B``, ``C``, ``D`` beside ``answer``."""


@dataclass(frozen=True)
class Format:
    """Which columns say what: those that ``fields`` names, else those of the known formats."""

    fields: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    answers: Sequence[str] = ()
    """Answers to the questions whose rows have none, the matching one first."""
    section: str = "prompts"
    """Whose key ``fields`` is in the configuration, for messages."""

    def __post_init__(self) -> None:
        for name, columns in self.fields.items():
            if name not in COLUMNS:
                near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0)[0]
                known = ", ".join(COLUMNS)
                raise InputError(f"[{self.section}] fields has {name!r}; the nearest is {near!r}. Known: {known}")
            if not isinstance(columns, str) and name not in SEVERAL:
                raise InputError(
                    f"[{self.section}] fields: {name} is {list(columns)}; it must be one column (only "
                    f"{' and '.join(SEVERAL)} may be a list of columns)"
                )
        if self.answers and (len(set(self.answers)) < len(self.answers) or len(self.answers) < 2):
            raise InputError(
                f"[{self.section}] answers is {list(self.answers)}; it must be two or more that differ, the matching "
                'one first, for example ["Yes", "No"]'
            )

    @property
    def columns(self) -> set[str]:
        """All columns that rows may be read for."""
        named = [[one] if isinstance(one, str) else one for one in self.fields.values()]
        return {*LETTERS}.union(*COLUMNS.values(), *named)

    def read_question(self, row: Row) -> Question:
        """A question with two or more answers.

        Raises:
            InputError: The row has none: with the fields that it has, and the key that would name them.
        """
        sides = self.find_sides(row)
        if sides is not None:
            if not sides[0].asks_as(sides[1]):
                raise InputError(
                    f"{row.where}: 'positive' and 'negative' do not ask the same: that is a contrast pair, no prompt"
                )
            return ask_side(row, sides[0], sides[1].response)
        if self.find_texts(row) is not None:
            raise InputError(
                f"{row.where}: 'positive' and 'negative' are two plain texts: that is a contrast pair, and no prompt; "
                f"where they answer a question, name it: {self.tell_key('question')}"
            )
        row, turns = self._read_text(row)
        return self._read_answers(row, turns)

    def find_texts(self, row: Row) -> tuple[str, str] | None:
        """The two plain texts of a contrast pair, if that is what a row is: no question stands beside them."""
        texts = self._find(row, "positive"), self._find(row, "negative")
        asked = self._find(row, "question") is not None or self._find(row, "messages") is not None
        if not asked and isinstance(texts[0], str) and isinstance(texts[1], str):
            return texts[0], texts[1]
        return None

    def find_sides(self, row: Row) -> tuple[Side, Side] | None:
        """What ``positive`` and ``negative`` ask and answer, if each of them is a record or a chat."""
        found = self._find(row, "positive"), self._find(row, "negative")
        if not all(isinstance(side, Mapping | list) for side in found):
            return None
        first, second = found
        return read_side(row, "positive", first), read_side(row, "negative", second)

    def read_optional(self, row: Row, name: str) -> str:
        """A field as text; empty where the row has none. 0 is a value."""
        value = self._find(row, name)
        return "" if value is None else as_text(row, name, value, "optional")

    def refuse(self, row: Row, column: str, why: str, *, key: str = "") -> InputError:
        """The error for a field that a row lacks; ``key`` of ``fields`` is what would name another one."""
        told = f"; where another field is meant, name it: {self.tell_key(key)}" if key else ""
        if key == "matching" and self.section == "prompts":
            told += (
                '; where it is an open question, name its answers: [prompts] answers = ["Yes", "No"]; what no single '
                "answer tells, such as a refusal, will need a [label] rule of its own"
            )
        return InputError(f"{row.where}: no field {column!r} ({why}); its fields: {row.list_names()}{told}")

    def tell_key(self, name: str) -> str:
        """How a column is named in the configuration."""
        return f'[{self.section}] fields = {{{name} = "COLUMN"}}'

    def _find(self, row: Row, name: str) -> Any:
        """The value of what is called so, or those of several columns; None where the row has none."""
        named = self.fields.get(name)
        if named is None:
            return next((row.fields[c] for c in COLUMNS[name] if row.fields.get(c) is not None), None)
        columns = [named] if isinstance(named, str) else list(named)
        missing = [column for column in columns if column not in row.fields]
        if missing:
            raise InputError(
                f"{row.where}: no field {missing[0]!r}, which [{self.section}] fields names for {name}; its fields: "
                f"{row.list_names()}"
            )
        values = [row.fields[column] for column in columns]
        return values[0] if isinstance(named, str) else values

    def _read_text(self, row: Row) -> tuple[Row, tuple[Mapping[str, str], ...]]:
        """The row with what is asked as ``question``, and the turns before it."""
        name = "messages"
        if "question" in self.fields or self._find(row, name) is None:
            name = "question"
        value, turns = self._find(row, name), list[dict[str, str]]()
        if isinstance(value, list) and (name == "messages" or any(isinstance(turn, Mapping) for turn in value)):
            *turns, last = read_turns(row, name, value)
            if last["role"] != "user":
                raise InputError(f"{row.where}: the last turn is the {last['role']}'s; a prompt ends with the user's")
            value = last["content"]
        if value is None:
            return row, ()
        return replace(row, fields={**row.fields, "question": value}), tuple(turns)

    def _read_answers(self, row: Row, turns: tuple[Mapping[str, str], ...]) -> Question:
        matching, others = self._find(row, "matching"), as_list(self._find(row, "not_matching"))
        others = [other for other in others if other is not None]
        beside = row.fields.get("question") is not None
        if matching is None and beside and isinstance(self._find(row, "positive"), str):
            matching, others = self._find(row, "positive"), as_list(self._find(row, "negative"))
        answer = self._find(row, "answer") if matching is None else matching
        choices = self._find_choices(row, answer)
        letter = pick_choice(choices, answer, row.where) if choices else None
        if letter is not None:
            return _list_choices(row, turns, choices, letter, others)
        if choices and (matching is None or "choices" in self.fields):
            raise InputError(f"{row.where}: the answer {answer!r:.200} is none of its choices: {_show(choices)}")
        if matching is None and not others and self.answers:
            matching, others = self.answers[0], list(self.answers[1:])
        if matching is None or not others:
            missing = "matching" if matching is None else "not_matching"
            raise self.refuse(row, COLUMNS[missing][0], "an answer", key=missing)
        if isinstance(matching, list):
            if len(matching) != 1:
                raise InputError(
                    f"{row.where}: {len(matching)} matching answers; one is needed, and others to compare with"
                )
            matching = matching[0]
        names = COLUMNS["matching"][0], COLUMNS["not_matching"][0]
        texts = [as_text(row, names[i > 0], value, "an answer") for i, value in enumerate([matching, *others])]
        return Question(row, tuple(texts), turns)

    def _find_choices(self, row: Row, answer: Any) -> tuple[Choice, ...]:
        """Choices from a column or columns; none where no answer says which of them is meant."""
        if answer is None or isinstance(answer, list):
            return ()
        value = self._find(row, "choices")
        if value is None and all(row.fields.get(letter) is not None for letter in LETTERS[:2]):
            value = {letter: row.fields.get(letter) for letter in LETTERS}
        choices = read_choices(value, row.where)
        if not choices and "choices" in self.fields:
            raise InputError(
                f"{row.where}: field {self.fields['choices']!r} has no choices; it must be a list of at least two "
                "texts, or texts by letter; or name a list of columns"
            )
        return choices


def _list_choices(
    row: Row, turns: tuple[Mapping[str, str], ...], choices: tuple[Choice, ...], letter: str, others: list[Any]
) -> Question:
    """A question that lists its choices; the one to compare with is what ``others`` names first, else the first."""
    first = [pick_choice(choices, other, row.where) for other in others[:1]]
    if None in first:
        raise InputError(f"{row.where}: the answer {others[0]!r:.200} is none of its choices: {_show(choices)}")
    rest = [choice.letter for choice in choices if choice.letter != letter]
    rest.sort(key=lambda one: one not in first)
    text = row.fields.get("question")
    if isinstance(text, str):
        row = replace(row, fields={**row.fields, "question": list_choices(text, choices)})
    return Question(row, tuple(f" ({one})" for one in (letter, *rest)), turns)


def _show(choices: tuple[Choice, ...]) -> str:
    return ", ".join(f"({choice.letter}) {choice.text}" for choice in choices)

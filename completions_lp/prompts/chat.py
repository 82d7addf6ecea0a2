"""Questions -> the text that a model is asked: format strings, and the tokenizer's own chat template."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from completions_lp.prompts.files import Row
from completions_lp.prompts.formats import Format
from completions_lp.prompts.questions import Question
from completions_lp.records import InputError, Tokenizer, describe_cause

DEFAULT_TEMPLATE = "{question}\n\nAnswer:"
TEMPLATE_ERRORS = (
    *(jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError),
)
"""What a chat template, a small program of the model's, may end in; its own refusals are ``TemplateError``."""
NO_TEMPLATE = 'template = "chat", but this model\'s tokenizer has no chat template; give a format string'
_SPEAKERS = ("user", "assistant")


@dataclass(frozen=True)
class Template:
    """How questions are put."""

    form: str = DEFAULT_TEMPLATE
    """A format string over the file's fields, or ``"chat"``."""
    system: str = ""
    """What a chat begins with: the system's turn."""
    few_shot: Sequence[Mapping[str, str]] = ()
    """Turns before the question, each with what the ``user`` asks and the ``assistant`` answers."""
    prefix: str = ""
    """How the answer begins: the start of the assistant's turn, or the end of a format string's text."""
    prepend: str = ""
    """What stands right before the question in the user's turn, or before all of a format string."""

    def __post_init__(self) -> None:
        for name in ("system", "few_shot"):
            if getattr(self, name) and not self.is_chat:
                raise InputError(
                    f'[prompts] {name} goes with template = "chat"; in a format string write it where it belongs: '
                    f"template is {self.form!r}"
                )
        for shot in self.few_shot:
            if sorted(shot) != sorted(_SPEAKERS) or not all(isinstance(said, str) and said for said in shot.values()):
                raise InputError(
                    f"[prompts] few_shot has {dict(shot)!r}; each must have what the user asks and the assistant "
                    'answers: {user = "...", assistant = "..."}'
                )
        if not self.is_chat:
            _parse(self.form)

    @property
    def is_chat(self) -> bool:
        """Whether the tokenizer's chat template is filled, and not a format string."""
        return self.form == "chat"

    @property
    def columns(self) -> set[str]:
        """The fields that it names."""
        return set() if self.is_chat else {name for _, name, _, _ in _parse(self.form) if name}

    def write(self, question: Question, form: Format, tokenizer: Tokenizer) -> tuple[str, str]:
        """The text that is asked, and what stands between it and an answer: nothing, or a space."""
        if self.is_chat:
            text, seam = self._fill_chat(question, form, tokenizer)
        elif question.turns:
            raise InputError(
                f"{question.row.where}: a chat of {len(question.turns) + 1} turns, which needs [prompts] "
                'template = "chat"'
            )
        else:
            text, seam = self.prepend + self._fill(question.row, form), " "
            if self.prefix:
                apart = text[-1:].isspace() or self.prefix[0].isspace() or not text
                text += self.prefix if apart else f" {self.prefix}"
        return text, "" if text[-1:].isspace() else seam

    def _fill(self, row: Row, form: Format) -> str:
        why = f"needed by the template {self.form!r}"
        return "".join(
            before + ("" if name is None else _read_field(row, name, why, form))
            for before, name, _, _ in _parse(self.form)
        )

    def _fill_chat(self, question: Question, form: Format, tokenizer: Tokenizer) -> tuple[str, str]:
        where = question.row.where
        if not getattr(tokenizer, "chat_template", None) or not hasattr(tokenizer, "apply_chat_template"):
            raise InputError(NO_TEMPLATE)
        messages = self._list_turns(question, form)
        try:
            if self.prefix:
                text = _apply(tokenizer, [*messages, {"role": "assistant", "content": self.prefix}], begun=True)
                seam = " "
            else:
                text = _apply(tokenizer, messages, begun=False)
                seam = _find_seam(tokenizer, messages, text)
        except TEMPLATE_ERRORS as error:
            less = " or leave [prompts] system out" if self.system else ""
            raise InputError(
                f"{where}: this model's chat template refuses it: {describe_cause(error)}; give a format string{less}"
            ) from None
        for message in messages:
            if message["role"] != "assistant" and message["content"].strip() not in text:
                raise InputError(
                    f"{where}: this model's chat template leaves out the {message['role']}'s turn "
                    f"{message['content'][:80]!r}; give a format string"
                )
        if self.prefix and not text.endswith(self.prefix):
            raise InputError(
                f"{where}: this model's chat template does not keep the prefix {self.prefix!r}: the text ends in "
                f"{text[-20:]!r}; write it without spaces around it"
            )
        return text, seam

    def _list_turns(self, question: Question, form: Format) -> list[dict[str, str]]:
        row = question.row
        asked = _read_field(row, "question", "the user's turn of the chat template", form)
        turns = [dict(turn) for turn in question.turns]
        if self.system and any(turn["role"] == "system" for turn in turns):
            raise InputError(f"{row.where}: has a system turn of its own; leave [prompts] system out")
        if turns and turns[0]["role"] == "system":
            system = [turns.pop(0)]
        else:
            system = [{"role": "system", "content": self.system}] if self.system else []
        shots = [{"role": role, "content": shot[role]} for shot in self.few_shot for role in _SPEAKERS]
        return [*system, *shots, *turns, {"role": "user", "content": self.prepend + asked}]


def _apply(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, begun: bool) -> str:
    """The chat as text, up to where the assistant speaks; or, with ``begun``, goes on with the last turn."""
    options = {"continue_final_message": True} if begun else {"add_generation_prompt": True}
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


def _find_seam(tokenizer: Any, messages: Sequence[Mapping[str, str]], text: str) -> str:
    """What the chat template writes between the assistant's mark and its words: for Llama 2 a space, for most nothing.

    A space where the template does not tell, because it writes more there or has no assistant's turn.
    """
    try:
        longer = _apply(tokenizer, [*messages, {"role": "assistant", "content": "A"}], begun=True)
    except TEMPLATE_ERRORS:
        return " "
    seam = longer.removeprefix(text).removesuffix("A") if longer.startswith(text) else " "
    return seam if not seam.strip() else " "


def _read_field(row: Row, name: str, why: str, form: Format) -> str:
    if row.fields.get(name) is None:
        raise form.refuse(row, name, why, key="question" if name == "question" else "")
    value = row.fields[name]
    if not isinstance(value, str | int | float):
        raise InputError(f"{row.where}: field {name!r} ({why}) must be text, got {type(value).__name__}")
    return str(value)


def _parse(template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        template.encode()  # half of a surrogate pair is no text: a ValueError, too
        return list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"template {template!r} is not a format string: {error}") from None

"""Rows -> prompts and contrast pairs: templates, the formats of the field, answers."""

import hashlib
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jinja2

from completions_lp.prompts.answers import answer_tokens, encode, first_difference
from completions_lp.prompts.files import Row, read_rows
from completions_lp.records import ContrastPair, InputError, Prompt, Tokenizer, describe_cause

DEFAULT_TEMPLATE = "{question}\n\nAnswer:"
ANSWER_FIELDS = (
    ("answer_matching_behavior", "answer_not_matching_behavior"),
    ("matching", "not_matching"),
    ("correct", "incorrect"),
)
CHOICE = re.compile(r"^[^\S\n]*\(([A-Z])\)", re.MULTILINE)  # " (A) Yes", one per line of the question
TEMPLATE_ERRORS = (
    *(jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError),
)
"""What a chat template, a small program of the model's, may end in; its own refusals are ``TemplateError``."""


def load_prompts(
    source: str | Path,
    tokenizer: Tokenizer,
    *,
    template: str = DEFAULT_TEMPLATE,
    split: str = "train",
    revision: str | None = None,
    letters: Sequence[str] = (),
    limit: int | None = None,
) -> tuple[Prompt, ...]:
    """Read two-choice prompts and tokenise them.

    Args:
        source: A ``.json``, ``.jsonl``, ``.csv`` or ``.parquet`` file, or the name of a hub dataset.
        tokenizer: The model's tokenizer.
        template: A format string over the file's fields, or ``"chat"`` for the tokenizer's chat template, in which the
            question is the user's turn.
        split: Split of a hub dataset.
        revision: Revision of a hub dataset.
        letters: Keep only prompts whose two answers are among these; all by default.
        limit: Keep only the first prompts.

    Raises:
        InputError: The file is missing, malformed, empty, or lacks a field, with the line at fault.
    """
    prompts: list[Prompt] = []
    seen: dict[str, int] = {}
    for row in read_rows(source, list_columns(template), split=split, revision=revision):
        if limit is not None and len(prompts) >= limit:
            break
        prompt = _make_prompt(_normalise(row), tokenizer, template, seen)
        if not letters or {prompt.matching, prompt.not_matching} <= set(letters):
            prompts.append(prompt)
    if not prompts:
        kept = f" with both answers among {', '.join(letters)}" if letters else ""
        raise InputError(f"{source}: no prompts{kept}; at least one is needed")
    return tuple(prompts)


def load_pairs(
    source: str | Path,
    tokenizer: Tokenizer,
    *,
    template: str = DEFAULT_TEMPLATE,
    read_token: str | int = "letter",
    split: str = "train",
    revision: str | None = None,
    limit: int | None = None,
) -> tuple[ContrastPair, ...]:
    """Read contrast pairs: the question with its matching answer against the question with the other one.

    Arguments and errors are those of ``load_prompts``. Rows may also be two plain texts, ``positive`` and ``negative``,
    which are taken as they are, without the template. ``read_token`` says where a text is read: ``"letter"`` (the first
    token in which the two answers differ; for plain texts the last token), ``"last"``, or an index such as -2.
    """
    pairs: list[ContrastPair] = []
    for row in read_rows(source, list_columns(template), split=split, revision=revision):
        if limit is not None and len(pairs) >= limit:
            break
        if isinstance(row.fields.get("positive"), str) and isinstance(row.fields.get("negative"), str):
            texts = [encode(tokenizer, str(row.fields[side]), special=True) for side in ("positive", "negative")]
            letter = None
        else:
            prompt = _make_prompt(_normalise(row), tokenizer, template, {})
            letters = prompt.matching, prompt.not_matching
            texts = [prompt.token_ids + answer_tokens(prompt, x, tokenizer) for x in letters]
            letter = len(prompt.token_ids) + len(first_difference(prompt, prompt.matching, tokenizer)[2])
        pairs.append(_make_pair(texts[0], texts[1], letter, read_token, row.where))
    if not pairs:
        raise InputError(f"{source}: no contrast pairs; at least one is needed")
    return tuple(pairs)


def _make_prompt(row: Row, tokenizer: Tokenizer, template: str, seen: dict[str, int]) -> Prompt:
    text = _fill(template, row, tokenizer)
    token_ids = encode(tokenizer, text, special=template != "chat")
    if not token_ids:
        raise InputError(f"{row.where}: the prompt is empty")
    parts = [_split_answer(row, name) for name in ANSWER_FIELDS[0]]
    (before, matching, after), (_, not_matching, _) = parts
    if matching == not_matching:
        raise InputError(f"{row.where}: both answers are {_cut(matching)}; a two-choice prompt needs two")
    choices = CHOICE.findall(str(row.fields.get("question", "")))
    letters = tuple(sorted({matching, not_matching, *(choices if matching in choices else ())}))
    identity = _name_uniquely(_optional(row, "id") or hashlib.sha256(text.encode()).hexdigest()[:10], seen)
    space = "" if text[-1:].isspace() else " "
    return Prompt(
        id=identity,
        text=text,
        token_ids=token_ids,
        letters=letters,
        matching=matching,
        not_matching=not_matching,
        cluster=_optional(row, "cluster") or identity,
        answer_format=f"{space}{before.strip()}{{letter}}{after.strip()}",
    )


def _name_uniquely(identity: str, seen: dict[str, int]) -> str:
    """The identity itself, or for a question that is repeated with its number: ``x``, ``x-2``, ``x-3``."""
    while True:
        seen[identity] = seen.get(identity, 0) + 1
        if seen[identity] == 1:
            return identity
        identity = f"{identity}-{seen[identity]}"  # a file may have an "x-2" of its own


def list_columns(template: str) -> set[str]:
    """The fields that rows are read for: those of the formats and those that the template names."""
    known = {
        "id",
        "cluster",
        "question",
        "prompt",
        "positive",
        "negative",
        *(n for pair in ANSWER_FIELDS for n in pair),
    }
    return known | ({name for _, name, _, _ in _parse(template) if name} if template != "chat" else set())


def _optional(row: Row, name: str) -> str:
    """A field as text; empty where the row has none. 0 is a value."""
    return _field(row, name, "optional") if row.fields.get(name) is not None else ""


def _make_pair(
    positive: tuple[int, ...], negative: tuple[int, ...], letter: int | None, read_token: str | int, where: str
) -> ContrastPair:
    index = []
    for ids in (positive, negative):
        if read_token == "letter" and letter is not None:
            index.append(letter)
        elif read_token in ("letter", "last"):
            index.append(len(ids) - 1)
        elif isinstance(read_token, int) and -len(ids) <= read_token < len(ids):
            index.append(read_token % len(ids))
        else:
            raise InputError(
                f"{where}: read_token is {read_token!r}; needs 'letter', 'last' or an index into the {len(ids)} tokens"
            )
    return ContrastPair(positive, negative, index[0], index[1])


def _normalise(row: Row) -> Row:
    """Bring the other formats of the field to ``question`` and the two answers of the model-written evals."""
    fields = dict(row.fields)
    if isinstance(fields.get("positive"), Mapping) and isinstance(fields.get("negative"), Mapping):
        fields.setdefault("question", fields["positive"].get("prompt"))
        for name, side in zip(ANSWER_FIELDS[0], ("positive", "negative"), strict=True):
            fields.setdefault(name, fields[side].get("response"))
    for names in ANSWER_FIELDS[1:]:
        for name, alias in zip(ANSWER_FIELDS[0], names, strict=True):
            if alias in fields:
                fields.setdefault(name, fields[alias])
    if "prompt" in fields:
        fields.setdefault("question", fields["prompt"])
    return replace(row, fields={k: v for k, v in fields.items() if v is not None})


def _field(row: Row, name: str, why: str) -> str:
    if name not in row.fields:
        names = ", ".join(row.names or row.fields) or "none"
        raise InputError(f"{row.where}: no field {name!r} ({why}); its fields: {names}")
    value = row.fields[name]
    if not isinstance(value, str | int | float):
        raise InputError(f"{row.where}: field {name!r} ({why}) must be text, got {type(value).__name__}")
    return str(value)


def _split_answer(row: Row, name: str) -> tuple[str, str, str]:
    """`` (A)`` -> what stands before the answer, the answer, what stands after it."""
    raw = _field(row, name, "an answer")
    begin = len(raw) - len(raw.lstrip())
    begin += raw[begin : begin + 1] == "("
    end = len(raw.rstrip())
    end -= end > begin and raw[end - 1] in ".:"
    end -= end > begin and raw[end - 1] == ")"
    answer = raw[begin:end].strip()
    if not answer or {"(", ")"} & {*answer}:
        raise InputError(f"{row.where}: field {name!r} is {_cut(raw)}; an answer looks like '(A)', 'A' or 'Yes'")
    return raw[:begin], answer, raw[end:]


def _cut(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:199]}…")


def _fill(template: str, row: Row, tokenizer: Tokenizer) -> str:
    if template == "chat":
        question = _field(row, "question", "the user's turn of the chat template")
        try:
            return _fill_chat(tokenizer, question)
        except InputError:
            raise
        except TEMPLATE_ERRORS as error:
            raise InputError(
                f"{row.where}: this model's chat template refuses it: {describe_cause(error)}; give a format string"
            ) from None
    return "".join(
        before + ("" if name is None else _field(row, name, f"needed by the template {template!r}"))
        for before, name, _, _ in _parse(template)
    )


def _parse(template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        template.encode()  # half of a surrogate pair is no text: a ValueError, too
        return list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"template {template!r} is not a format string: {error}") from None


def _fill_chat(tokenizer: Tokenizer, question: str) -> str:
    apply = getattr(tokenizer, "apply_chat_template", None)
    if apply is None or not getattr(tokenizer, "chat_template", None):
        raise InputError('template = "chat", but this model\'s tokenizer has no chat template; give a format string')
    messages = [{"role": "user", "content": question}]
    return str(apply(messages, add_generation_prompt=True, tokenize=False))

"""Files and data sets -> prompts and contrast pairs, tokenised."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from completions_lp.prompts.answers import (
    check_beginning,
    continue_text,
    count_shared,
    encode_text,
    find_part,
    form_answer,
)
from completions_lp.prompts.balance import tell_doubled, tell_unbalanced
from completions_lp.prompts.chat import DEFAULT_TEMPLATE, Template
from completions_lp.prompts.choices import find_letters
from completions_lp.prompts.files import Row, read_rows
from completions_lp.prompts.formats import Format
from completions_lp.prompts.pairs import join_pair, make_pair
from completions_lp.prompts.questions import Question, ask_side, cut
from completions_lp.records import ContrastPair, InputError, Prompt, Tokenizer

NAMED = 3
"""Questions that a message names; of more it says how many."""
Source = str | Path | Iterable[Mapping[str, Any]]
Fields = Mapping[str, str | Sequence[str]]


def load_prompts(
    source: Source,
    tokenizer: Tokenizer,
    *,
    template: str = DEFAULT_TEMPLATE,
    system: str = "",
    few_shot: Sequence[Mapping[str, str]] = (),
    prefix: str = "",
    prepend: str = "",
    fields: Fields | None = None,
    answers: Sequence[str] = (),
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    letters: Sequence[str] = (),
    swap: bool = False,
    limit: int | None = None,
) -> tuple[Prompt, ...]:
    """Read questions with two or more answers and tokenise them, each with one BOS if the tokenizer writes any.

    Args:
        source: A ``.json``, ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file, the name of a hub dataset, or rows: a
            dataset of ``datasets``, or a list of dictionaries.
        tokenizer: The model's tokenizer.
        template: A format string over the file's fields, or ``"chat"`` for the tokenizer's chat template, in which the
            question is the user's turn.
        system: The system's turn of a chat.
        few_shot: Turns of a chat before the question, each ``{"user": ..., "assistant": ...}``.
        prefix: How the answer begins, such as ``"("`` or ``"My answer is: ("``: put at the start of the assistant's
            turn, or after a format string. What it has of an answer's writing is not written again.
        prepend: What stands right before the question in the user's turn, or before all of a format string.
        fields: Names of columns where they are not those of a known format: ``question``, ``matching``,
            ``not_matching`` (a column or several), ``choices`` (a column, or one for each), ``answer``, ``messages``,
            ``positive``, ``negative``, ``id``, ``cluster``.
        answers: Answers to the questions whose rows have none, the matching one first.
        subset: Subset (configuration) of a hub dataset.
        split: Split of a hub dataset.
        revision: Revision of a hub dataset.
        letters: Keep only prompts whose two answers are among these; all by default.
        swap: Ask each question a second time, right after the first, with the texts of the two choices that are
            compared exchanged: letters stay in their places, so the other one matches. Its ``twin`` is the first
            prompt's id, its own id that id with ``/swapped``, and the two are of one cluster.
        limit: Keep only the first questions.

    Raises:
        InputError: The file is missing, malformed, empty, or lacks a field (with the line at fault and the key that
            would name it), or a prompt has its BOS twice; with ``swap``, there are questions that do not list the two
            choices (how many, and which).
    """
    form = Format(fields or {}, tuple(answers))
    asking = Template(template, system, tuple(few_shot), prefix, prepend)
    asked: list[tuple[Question, Prompt]] = []
    seen: dict[str, int] = {}
    for row in read_rows(source, form.columns | asking.columns, subset=subset, split=split, revision=revision):
        if limit is not None and len(asked) >= limit:
            break
        question = form.read_question(row)
        prompt = _make_prompt(question, form, asking, tokenizer, seen)
        if not letters or {prompt.matching, prompt.not_matching} <= set(letters):
            asked.append((question, prompt))
    if swap:
        asked = _add_twins(asked, form, asking, tokenizer, seen)
    prompts = [prompt for _, prompt in asked]
    if not prompts:
        kept = f" with both answers among {', '.join(letters)}" if letters else ""
        raise InputError(f"{_name(source)}: no prompts{kept}; at least one is needed")
    tell_unbalanced([(prompt.matching, prompt.letters) for prompt in prompts], _name(source))
    if not asking.is_chat:
        tell_doubled([prompt.text for prompt in prompts], [question.text for question, _ in asked], _name(source))
    return tuple(prompts)


def load_pairs(
    source: Source,
    tokenizer: Tokenizer,
    *,
    template: str = DEFAULT_TEMPLATE,
    system: str = "",
    few_shot: Sequence[Mapping[str, str]] = (),
    prefix: str = "",
    fields: Fields | None = None,
    read_token: str | int = "letter",
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    limit: int | None = None,
) -> tuple[ContrastPair, ...]:
    """Read contrast pairs: the question with its matching answer against the question with the first other one.

    Arguments and errors are those of ``load_prompts``. Rows may also be two plain texts, ``positive`` and ``negative``,
    which are taken as they are, without the template, or two questions with an answer each. ``read_token`` says where a
    text is read: ``"letter"`` (the first token in which the two answers differ; the last token of plain texts, and of
    two questions with one answer), ``"last"``, an index such as -2, ``"response_mean"`` (the mean over all tokens of
    the answer) or ``"prompt_mean"`` (over all of what is asked, its beginning and an answer's ``prefix`` included).
    """
    form = Format(fields or {}, section="vector")
    asking = Template(template, system, tuple(few_shot), prefix)
    pairs: list[ContrastPair] = []
    asked: list[tuple[str, tuple[str, ...]]] = []
    for row in read_rows(source, form.columns | asking.columns, subset=subset, split=split, revision=revision):
        if limit is not None and len(pairs) >= limit:
            break
        texts = form.find_texts(row)
        if texts is not None:
            ids = [encode_text(tokenizer, text) for text in texts]
            pairs.append(make_pair(ids[0], ids[1], read_token, row.where))
            continue
        pair, letters = _make_answered(row, form, asking, tokenizer, read_token)
        pairs.append(pair)
        asked.append(letters)
    if not pairs:
        raise InputError(f"{_name(source)}: no contrast pairs; at least one is needed")
    tell_unbalanced(asked, _name(source))
    return tuple(pairs)


def check_asking(
    *,
    template: str,
    system: str,
    few_shot: Sequence[Mapping[str, str]],
    prefix: str,
    fields: Fields,
    answers: Sequence[str] = (),
    section: str = "prompts",
) -> None:
    """Raise InputError where options of ``load_prompts`` do not go together, whatever the source has."""
    Template(template, system, few_shot, prefix)
    Format(fields, answers, section)


def _make_prompt(
    question: Question, form: Format, asking: Template, tokenizer: Tokenizer, seen: dict[str, int]
) -> Prompt:
    row = question.row
    text, seam, token_ids = _put(question, form, asking, tokenizer)
    before, matching, after = question.split(0)
    letters = _list_letters(question)
    identity = form.read_optional(row, "id") or hashlib.sha256(text.encode()).hexdigest()[:10]
    identity = _name_uniquely(identity, seen)
    return Prompt(
        id=identity,
        text=text,
        token_ids=token_ids,
        letters=letters,
        matching=matching,
        not_matching=question.split(1)[1],
        cluster=form.read_optional(row, "cluster") or identity,
        answer_format=form_answer(text, seam, before, after),
    )


def _add_twins(
    asked: Sequence[tuple[Question, Prompt]],
    form: Format,
    asking: Template,
    tokenizer: Tokenizer,
    seen: dict[str, int],
) -> list[tuple[Question, Prompt]]:
    """Every question followed by its twin, the choices exchanged; ids that the file has come first.

    Raises:
        InputError: Some cannot be exchanged.
    """
    found: list[tuple[Question, Prompt]] = []
    stuck: list[str] = []
    for question, prompt in asked:
        other = question.swap()
        if other is None:
            stuck.append(question.row.where)
            continue
        text, seam, token_ids = _put(other, form, asking, tokenizer)
        if text == prompt.text:
            raise InputError(
                f"{question.row.where}: [prompts] swap exchanges the choices in the question, and the template "
                f"{asking.form!r} does not ask {{question}}"
            )
        before, matching, after = other.split(0)
        twin = replace(
            prompt,
            id=_name_uniquely(f"{prompt.id}/swapped", seen),
            text=text,
            token_ids=token_ids,
            matching=matching,
            not_matching=prompt.matching,
            answer_format=form_answer(text, seam, before, after),
            twin=prompt.id,
        )
        found += [(question, prompt), (other, twin)]
    if stuck:
        more = f" and {len(stuck) - NAMED} more" if len(stuck) > NAMED else ""
        raise InputError(
            f"[prompts] swap: {len(stuck)} of {len(asked)} questions do not list both choices that are compared, each "
            f"on a line such as ' (A) ...', so they cannot be exchanged: {'; '.join(stuck[:NAMED])}{more}; list the "
            "choices, ask these questions in a run of their own, or leave swap out"
        )
    return found


def _put(question: Question, form: Format, asking: Template, tokenizer: Tokenizer) -> tuple[str, str, tuple[int, ...]]:
    """A question as it is asked: its text, what stands between it and an answer, its token ids."""
    text, seam = asking.write(question, form, tokenizer)
    token_ids = encode_text(tokenizer, text)
    if not token_ids:
        raise InputError(f"{question.row.where}: the prompt is empty")
    check_beginning(tokenizer, text, token_ids, question.row.where)
    return text, seam, token_ids


def _list_letters(question: Question) -> tuple[str, ...]:
    """All answers on offer: those that the file names, and the letters of the choices that the question lists."""
    matching, *others = (question.split(i)[1] for i in range(len(question.answers)))
    if matching in others:
        raise InputError(f"{question.row.where}: both answers are {cut(matching)}; a prompt needs two that differ")
    return tuple(sorted({matching, *others, *find_letters(question.text, matching)}))


def _name_uniquely(identity: str, seen: dict[str, int]) -> str:
    """The identity itself, or for a question that is repeated with its number: ``x``, ``x-2``, ``x-3``."""
    while True:
        seen[identity] = seen.get(identity, 0) + 1
        if seen[identity] == 1:
            return identity
        identity = f"{identity}-{seen[identity]}"  # a file may have an "x-2" of its own


def _make_answered(
    row: Row, form: Format, asking: Template, tokenizer: Tokenizer, read_token: str | int
) -> tuple[ContrastPair, tuple[str, tuple[str, ...]]]:
    """A pair of a question with either answer, or of two questions; and the positive answer with all on offer."""
    sides = form.find_sides(row)
    if sides is None or sides[0].asks_as(sides[1]):
        first = form.read_question(row)
        second, letters = first.exchange(), _list_letters(first)
    else:
        first, second = ask_side(row, sides[0], sides[1].response), ask_side(row, sides[1], sides[0].response)
        letters = tuple(sorted({first.split(0)[1], second.split(0)[1]}))
    texts, said = [], []
    for question in (first, second):
        text, seam, token_ids = _put(question, form, asking, tokenizer)
        before, letter, after = question.split(0)
        answer = form_answer(text, seam, before, after).replace("{letter}", letter)
        texts.append(token_ids)
        said.append(continue_text(text, token_ids, answer, tokenizer))
    part = find_part(said[0], said[1], tokenizer)
    if read_token == "letter" and len(letters) > 1:
        names = first.split(0)[1], second.split(0)[1]
        part = count_shared(said[0], said[1], names, tokenizer, row.where)
    pair = join_pair((texts[0], texts[1]), (said[0], said[1]), part, read_token, row.where, told=len(letters) > 1)
    return pair, (first.split(0)[1], letters)


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else "the rows"

"""What stands in token ids: one beginning, an end that is known, and which ids spell each answer."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from completions_lp.doctor.findings import Finding
from completions_lp.model import Model
from completions_lp.prompts import answer_tokens
from completions_lp.records import InputError, Prompt
from completions_lp.sample.vocabulary import strip_marks
from completions_lp.score.spelling import Side, spell_answers

NAMED = 3
"""Prompts that a finding names; of more it says how many."""
SHOWN = 8
"""Tokens of an answer that are shown; of more it is said how many."""


def check_beginnings(tokenizer: Any, prompts: Sequence[Prompt]) -> Finding:
    """Prompts that begin with another number of BOS than they should, or have more of them than their text says.

    One, where the tokenizer puts it before every text or the text begins with it; else none. A chat template may begin
    every turn with one: then it stands in the text.
    """
    bos, adds = getattr(tokenizer, "bos_token_id", None), adds_beginning(tokenizer)
    wrong = [prompt.id for prompt in prompts if not has_one_beginning(tokenizer, prompt)]
    if bos is None:
        seen = f"{len(prompts)} prompts; this tokenizer has none, and none is right"
    else:
        name = f"{tokenizer.convert_ids_to_tokens(bos)!r} (id {bos})"
        ones = sum(bos in prompt.token_ids for prompt in prompts)
        rule = "put before every text" if adds else "not put there by this tokenizer: as the template writes it"
        seen = f"{name}, {rule}: {ones} of {len(prompts)} prompts have it"
    seen += f"; wrong: {', '.join(map(repr, wrong[:NAMED]))}" if wrong else ""
    return Finding("one BOS in each prompt", float(len(wrong)), 0.0, "prompts", seen, is_shown=True)


def adds_beginning(tokenizer: Any) -> bool:
    """Whether a tokenizer puts its BOS before a text by itself, perhaps with other tokens around it."""
    bare, whole = (list(tokenizer("x", add_special_tokens=special).input_ids) for special in (False, True))
    before = next((whole[:i] for i in range(len(whole)) if whole[i : i + len(bare)] == bare), [])
    return getattr(tokenizer, "bos_token_id", None) in before


def has_one_beginning(tokenizer: Any, prompt: Prompt) -> bool:
    """Whether a prompt has one BOS or none, as it should, and no other one than its text has."""
    bos = getattr(tokenizer, "bos_token_id", None)
    if bos is None:
        return True
    name, ids = str(tokenizer.convert_ids_to_tokens(bos)), prompt.token_ids
    added = adds_beginning(tokenizer) and not prompt.text.startswith(name)
    first = ids.index(bos) if bos in ids else len(ids)
    return ids.count(bos) == prompt.text.count(name) + int(added) and ids[first + 1 : first + 2] != (bos,)


def check_answers(tokenizer: Any, prompts: Sequence[Prompt], target: str) -> tuple[Finding, dict[str, int]]:
    """Prompts whose answers no tokens tell apart, or whose tokens spell something else; and how each is spelled."""
    asked = [prompt for prompt in prompts if prompt.is_read_out]
    told: Counter[str] = Counter()
    wrong: dict[str, str] = {}
    for prompt in asked:
        try:
            sides = spell_answers(prompt, prompt.pair(target)[0], tokenizer).sides[2:]
        except InputError as error:
            wrong[prompt.id] = str(error)
            continue
        told[_show_sides(tokenizer, prompt, sides)] += 1
        faults = [_find_fault(tokenizer, prompt, name, side) for name, side in zip(prompt.letters, sides, strict=True)]
        found = [fault for fault in faults if fault]
        uses = Counter(token for side in sides if side is not None for token in side.tokens)
        ends = {side.end for side in sides if side is not None}
        found += ["a token is of two answers"] if len(ends) == 1 and max(uses.values(), default=0) > 1 else []
        if found:
            wrong[prompt.id] = found[0]
    seen = f"{len(asked)} prompts" if asked else "answers are outcomes of a rule, which no text spells"
    seen += "".join(f"; {name!r}: {why}" for name, why in list(wrong.items())[:NAMED])
    name = "each answer has tokens of its own that spell it"
    return Finding(name, float(len(wrong)), 0.0, "prompts", seen), dict(told.most_common())


def check_end(model: Model) -> Finding:
    """Whether it is known which tokens end a text."""
    names = ", ".join(repr(model.tokenizer.convert_ids_to_tokens(i)) for i in sorted(model.eos_ids)[:SHOWN])
    return Finding("end of sequence is known", float(not model.eos_ids), 0.0, "missing", names)


def _find_fault(tokenizer: Any, prompt: Prompt, name: str, side: Side | None) -> str:
    """What is wrong with the tokens of an answer, by decoding them; empty where nothing is."""
    if side is None:
        return ""  # it begins another answer, and is not read
    answer = prompt.answer_format.replace("{letter}", name)
    written = answer_tokens(prompt, name, tokenizer)
    said = _decode_after(tokenizer, prompt.token_ids[-1], written)
    if side.written != written or said.strip() != answer.strip():
        return f"answer {name!r} is written as {said!r}, not as {answer!r}"
    own = _decode_after(tokenizer, written[side.end - 1] if side.end else prompt.token_ids[-1], written[side.end :])
    for token in side.tokens:
        text = strip_marks(_decode_after(tokenizer, prompt.token_ids[-1], (token,)))
        if token != written[side.end] and (not text or not strip_marks(own).startswith(text)):
            return f"token {token} ({text!r}) is taken for the answer {name!r}, and does not spell it"
    return ""


def _decode_after(tokenizer: Any, before: int, ids: Sequence[int]) -> str:
    """Text of some tokens as it stands after another one, with the space that they bring."""
    start = str(tokenizer.decode([before], clean_up_tokenization_spaces=False))
    return str(tokenizer.decode([before, *ids], clean_up_tokenization_spaces=False))[len(start) :]


def _show_sides(tokenizer: Any, prompt: Prompt, sides: Sequence[Side | None]) -> str:
    """The answers of a prompt with the tokens that are read for each: text and id."""
    shown = []
    for name, side in zip(prompt.letters, sides, strict=True):
        if side is None:
            shown.append(f"{name}: begins another answer, so it is not read")
            continue
        last, others = side.written[side.end], [t for t in side.tokens if t != side.written[side.end]]
        texts = [
            f"{_decode_after(tokenizer, prompt.token_ids[-1], (t,))!r} ({t})" for t in [last, *others[: SHOWN - 1]]
        ]
        more = f" and {len(others) - SHOWN + 1} more" if len(others) >= SHOWN else ""
        before = side.written[: side.end]
        after = f" after {_decode_after(tokenizer, prompt.token_ids[-1], before)!r}" if before else ""
        shown.append(f"{name}: {', '.join(texts)}{more}{after}")
    return " | ".join(shown)

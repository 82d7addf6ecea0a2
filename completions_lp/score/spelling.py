"""How the answers of a prompt are told apart: their tokens, where they part, and every token that spells one there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from completions_lp.model import Watch
from completions_lp.prompts import answer_tokens, first_difference
from completions_lp.prompts.answers import encode
from completions_lp.records import PARTIAL, Prompt, Tokenizer
from completions_lp.sample.vocabulary import list_spellings, list_texts, strip_marks


@dataclass(frozen=True)
class Side:
    """One answer among others: it is said once one of ``tokens`` follows its own tokens up to ``end``."""

    written: tuple[int, ...]
    """All its tokens, as the file writes it."""
    start: int
    """How many of them every answer begins with: they are said, and do not count."""
    end: int
    """Index of the first token that tells it from every other answer."""
    tokens: tuple[int, ...]
    """All tokens that spell it there, of which each belongs to one answer alone."""


@dataclass(frozen=True)
class Spelling:
    """How a prompt's answers are read."""

    written: tuple[tuple[int, ...], ...]
    """The tokens of each answer, in the order of the prompt's letters."""
    sides: tuple[Side | None, ...]
    """The two that are compared, told from one another; then each letter, told from all the others. None where that
    cannot be: it begins another answer, or the tokenizer does not know it."""

    @property
    def watch(self) -> Watch:
        """What a pass is to read: which tokens complete each side after what has been said."""
        sets = [None if side is None else (side.written[: side.end], np.array(side.tokens)) for side in self.sides]
        return lambda said: [one[1] if one is not None and one[0] == said else None for one in sets]

    def row(self, side: Side) -> int:
        """Which of ``written`` a side is read from."""
        return self.written.index(side.written)


def spell_answers(prompt: Prompt, letter: str, tokenizer: Tokenizer) -> Spelling:
    """How the answers of a prompt are read, where ``letter`` is compared with the other one.

    Raises:
        InputError: The tokenizer cannot tell these two apart.
    """
    first_difference(prompt, letter, tokenizer)
    written = {name: answer_tokens(prompt, name, tokenizer) for name in prompt.letters}
    pair = {name: written[name] for name in (letter, prompt.other(letter))}
    told = [_tell_apart(pair, tokenizer), _tell_apart(written, tokenizer)]
    sides = (*(told[0][name] for name in pair), *(told[1][name] for name in prompt.letters))
    return Spelling(tuple(written.values()), sides)


def spell_alone(letters: Sequence[str], tokenizer: Tokenizer) -> tuple[Side | None, ...]:
    """How answers are read where nothing but the answer is to follow, each told from all others."""
    sides = _tell_apart({letter: encode(tokenizer, letter) for letter in letters}, tokenizer)
    return tuple(sides[letter] for letter in letters)


def _tell_apart(written: Mapping[str, tuple[int, ...]], tokenizer: Tokenizer) -> dict[str, Side | None]:
    """Each answer against all the others."""
    unknown, start = getattr(tokenizer, "unk_token_id", None), _count_common(list(written.values()))
    ends: dict[str, int | None] = {}
    for name, ids in written.items():
        shared = max(_count_common([ids, other]) for key, other in written.items() if key != name)
        ends[name] = shared if shared < len(ids) and ids[shared] != unknown else None
    own = {
        name: _spell(written[name], end, tokenizer) if end is not None else frozenset() for name, end in ends.items()
    }
    sides: dict[str, Side | None] = dict.fromkeys(written)
    for name, end in ends.items():
        if end is None:
            continue
        ids, others = written[name], set()
        for other, theirs in written.items():
            if other != name and theirs[:end] == ids[:end]:
                others |= {*theirs[end : end + 1], *(own[other] if ends[other] == end else ())}
        tokens = {ids[end]} | (own[name] - others)
        sides[name] = Side(ids, start, end, tuple(sorted(tokens)))
    return sides


def _spell(ids: tuple[int, ...], end: int, tokenizer: Tokenizer) -> frozenset[int]:
    """Tokens that spell what the token at ``end`` spells, or all of the answer from there on."""
    spelled = {strip_marks(list_texts(tokenizer)[ids[end]]), strip_marks(str(tokenizer.decode(list(ids[end:]))))}
    known = list_spellings(tokenizer)
    return frozenset(token for text in spelled if PARTIAL not in text for token in known.get(text, ()))


def _count_common(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all begin with."""
    n = 0
    for column in zip(*sequences, strict=False):
        if len({*column}) > 1:
            break
        n += 1
    return n

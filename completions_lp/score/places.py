"""Where in what has been said the answers of a prompt are read: after any tokens, without drawing the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from completions_lp.prompts.answers import encode
from completions_lp.records import Completions, Prompt, Through, Tokenizer
from completions_lp.sample.reasoning import Thinking
from completions_lp.score.spelling import Side, spell_alone

Told = Sequence[Int[np.ndarray, " token"] | None]
"""By answer, the tokens that complete it; None where it is not to be read."""


@dataclass(frozen=True)
class Place:
    """Tokens said after a prompt, behind which its answers are read."""

    prompt: Prompt
    said: tuple[int, ...]
    sides: tuple[Side | None, ...]
    """By letter of the prompt, how it is read; None where it cannot be told from another."""


@dataclass(frozen=True, eq=False)
class Endings:
    """Where the reasoning of each completion ends, and what is read there."""

    at: Int[np.ndarray, " completion"]
    """Tokens of the completion that come before."""
    through: Int[np.ndarray, " completion"]
    """Tokens of the completion that settle ``at``: no later one bears on it."""
    index: Int[np.ndarray, " completion"]
    """Which of ``places``."""
    places: tuple[Place, ...]
    """The distinct ones."""


def find_endings(tokenizer: Tokenizer, completions: Completions, *, cue: str = "", through: Through = "end") -> Endings:
    """Where each completion's reasoning ends; there, and behind a ``cue`` that is put there, the answers are read.

    It ends with the first thinking part that is closed; where none is, or a rule that stops at the first answer has
    stopped before, in front of the tokens that spell the answer; without an answer it is all that is scored
    (``through``), but for an end of sequence. What settles that: the thinking part alone; else, by a rule that stops at
    the first answer, what comes through it; else all that is scored.

    The tokens are those that were drawn. The cue is tokenised by itself.
    """
    thinking = Thinking(tokenizer, completions.labelling.thinking)
    asked = encode(tokenizer, cue) if cue else ()
    sides = {prompt.letters: spell_alone(prompt.letters, tokenizer) for prompt in completions.prompts}
    scored = completions.count_scored(through).tolist()
    at, settled, index = ([0] * len(completions) for _ in range(3))
    places: dict[Place, int] = {}
    for row, (i, n) in enumerate(zip(completions.prompt_index.tolist(), scored, strict=True)):
        prompt, ids = completions.prompts[i], completions.token_ids[row, :n].tolist()
        opened = thinking.is_opened(prompt.token_ids)
        closed = thinking.find_end(ids, completions.pieces[row][:n], opened=opened)
        answer = int(completions.answer_index[row]) if completions.labelling.is_first_passage else -1
        if closed is None or 0 <= answer < closed:
            at[row], settled[row] = _end_unmarked(completions, row, n)
        else:
            at[row] = settled[row] = closed
        place = Place(prompt, (*ids[: at[row]], *asked), sides[prompt.letters])
        index[row] = places.setdefault(place, len(places))
    ends, settling, which = (np.array(values, dtype=np.int64) for values in (at, settled, index))
    return Endings(ends, settling, which, tuple(places))


def _end_unmarked(completions: Completions, row: int, n: int) -> tuple[int, int]:
    """Where reasoning that is not marked ends, and what settles that."""
    answer = int(completions.answer_index[row])
    if answer < 0:
        ended = bool(completions.ended[row]) and n == completions.lengths[row]
        return n - int(ended), n
    before = answer if completions.reasoning is None else int(completions.reasoning[row])
    return min(before, answer), answer + 1 if completions.labelling.is_first_passage else n


class PlaceReader:
    """Reads places beside whatever else goes through the network: as sequences whose last token is not asked for."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = places
        self.width = max((len(place.sides) for place in places), default=0)

    @cached_property
    def heads(self) -> list[tuple[int, tuple[int, ...]]]:
        """What goes through the network: of which place, and its tokens up to where an answer parts from the others."""
        found = [
            (k, place.said + side.written[: side.end])
            for k, place in enumerate(self.places)
            for side in place.sides
            if side is not None
        ]
        return list(dict.fromkeys(found))

    @property
    def sequences(self) -> list[list[int]]:
        """The same with one more token, so that the network reads on behind them."""
        return [[*head, self._follow(k)] for k, head in self.heads]

    def _follow(self, k: int) -> int:
        return next(side.written[side.end] for side in self.places[k].sides if side is not None)

    @cached_property
    def watched(self) -> Mapping[str, Mapping[tuple[int, ...], Told]]:
        """By the id of a prompt and what has been said after it, which tokens complete its answers there."""
        found: dict[str, dict[tuple[int, ...], list[Int[np.ndarray, " token"] | None]]] = {}
        for place in self.places:
            own = found.setdefault(place.prompt.id, {})
            for number, side in enumerate(place.sides):
                if side is not None:
                    told = own.setdefault(place.said + side.written[: side.end], [None] * self.width)
                    told[number] = np.array(side.tokens)
        return found

    def read(
        self,
        logprob: Float[np.ndarray, "*condition row token"],
        answers: Float[np.ndarray, "*condition row token side"],
    ) -> Float[np.ndarray, "*condition place choice"]:
        """Log prob of each answer at each place, from the rows of ``sequences``; NaN where there is none to be read."""
        row_of = {head: row for row, head in enumerate(self.heads)}
        found = np.full((*logprob.shape[:-2], len(self.places), self.width), np.nan)
        for k, place in enumerate(self.places):
            for number, side in enumerate(place.sides):
                if side is None:
                    continue
                row, n = row_of[k, place.said + side.written[: side.end]], len(place.said)
                said = logprob[..., row, n + side.start : n + side.end].sum(-1)
                found[..., k, number] = said + answers[..., row, n + side.end, number]
        return found

"""Token ids -> where a completion reasons, where it answers, and what comes after.

Models that think before they answer mark it with tags, ``<think>`` and ``</think>``. A tag that is one token of the
tokenizer is known by its id, whether or not it is seen in the text; else by the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from completions_lp.records import Labelling, Tokenizer
from completions_lp.sample.pieces import Cutter


@dataclass(frozen=True)
class Parts:
    """A completion's tokens as three ranges that follow each other, in their order; each may be empty."""

    reasoning: range
    answer: range
    after: range


class Thinking:
    """Finds the thinking part of completions, by the tags that open and close it."""

    def __init__(self, tokenizer: Tokenizer, tags: Sequence[str]) -> None:
        self.cutter = Cutter(tokenizer)
        self._tokenizer = tokenizer
        self._tags = tuple(tags)
        self._opened: dict[tuple[int, ...], bool] = {}

    def find(
        self, token_ids: Sequence[int], pieces: Sequence[str] | None = None, *, opened: bool = False
    ) -> list[range]:
        """The tokens of each thinking part, the tags among them; ``pieces`` are the texts of the tokens, if known.

        One that is not closed goes on to the end. It begins with the completion where the prompt has ``opened`` it, or
        where the first tag is one that closes.
        """
        return [span for span, _ in self._follow(token_ids, pieces, opened)]

    def find_end(
        self, token_ids: Sequence[int], pieces: Sequence[str] | None = None, *, opened: bool = False
    ) -> int | None:
        """How many tokens there are through the end of the first thinking part that is closed; None without one."""
        return next((span.stop for span, closed in self._follow(token_ids, pieces, opened) if closed), None)

    def _follow(
        self, token_ids: Sequence[int], pieces: Sequence[str] | None, opened: bool
    ) -> Iterator[tuple[range, bool]]:
        """Each thinking part, and whether it is closed."""
        marks = sorted(self._list_marks(token_ids, pieces))
        start = 0 if opened or (marks and not marks[0][2]) else None
        for first, end, opens in marks:
            if opens and start is None:
                start = first
            elif not opens and start is not None:
                yield range(start, end), True
                start = None
        if start is not None:
            yield range(start, len(token_ids)), False

    def is_opened(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt, by its token ids, ends inside a thinking part, as some chat templates leave it."""
        ids = tuple(prompt)
        if ids not in self._opened:
            marks = sorted(self._list_marks(ids, None))
            self._opened[ids] = bool(marks) and marks[-1][2]
        return self._opened[ids]

    @cached_property
    def _ids(self) -> list[int | None]:
        """By tag, the token that is all of it; None where there is none such."""
        last = [list(self._tokenizer(tag, add_special_tokens=False).input_ids)[-1:] for tag in self._tags]
        spelled = [str(self._tokenizer.decode(ids)).strip() for ids in last]
        return [int(ids[0]) if text == tag else None for ids, text, tag in zip(last, spelled, self._tags, strict=True)]

    def _list_marks(self, token_ids: Sequence[int], pieces: Sequence[str] | None) -> Iterator[tuple[int, int, bool]]:
        """Every tag: its first token, the one past its last, and whether it opens."""
        for tag, known, opens in zip(self._tags, self._ids, (True, False), strict=False):
            if known is not None:
                yield from ((t, t + 1, opens) for t, token in enumerate(token_ids) if token == known)
                continue
            if pieces is None:
                pieces = self.cutter.cut_ids(token_ids)
            text, ends = "".join(pieces), find_ends(pieces)
            place = text.find(tag)
            while place >= 0:
                yield find_token(ends, place + 1), find_token(ends, place + len(tag)) + 1, opens
                place = text.find(tag, place + len(tag))


class Splitter:
    """Splits the tokens of completions into reasoning, answer and what comes after."""

    def __init__(self, tokenizer: Tokenizer, labelling: Labelling) -> None:
        self._thinking = Thinking(tokenizer, labelling.thinking)
        self._spelled = not labelling.names

    def split(
        self,
        token_ids: Sequence[int],
        *,
        label: str = "",
        answer_index: int = -1,
        pieces: Sequence[str] | None = None,
        prompt: Sequence[int] = (),
    ) -> Parts:
        """The three parts of one completion; ``label`` and ``answer_index`` as ``Completions`` has them.

        With a thinking part that is marked, the reasoning is all through its end, and the answer what follows through
        the token that completes it (without one, all that follows). Without, the reasoning is all before the tokens
        that spell the answer, and without an answer all there is; an outcome with a name of its own is spelled by no
        token, and its text is all answer. ``prompt`` has the token ids of the prompt, whose template may have opened
        the thinking part.
        """
        n = len(token_ids)
        if pieces is None:
            pieces = self._thinking.cutter.cut_ids(token_ids)
        spans = self._thinking.find(token_ids, pieces, opened=self._thinking.is_opened(prompt))
        end = n if answer_index < 0 else answer_index + 1
        inside = any(answer_index in span for span in spans)
        before = [span for span in spans if span.stop <= end] if answer_index >= 0 else spans
        if before and not inside:
            start = before[-1].stop
        elif answer_index < 0:
            start = n if self._spelled else 0
        else:
            start = _find_start(pieces, label, answer_index) if self._spelled else 0
        return Parts(range(start), range(start, end), range(end, n))


def find_ends(pieces: Sequence[str]) -> Int[np.ndarray, " token"]:
    """Characters of the text through each token."""
    return np.cumsum([len(piece) for piece in pieces], dtype=np.int64)


def find_token(ends: Int[np.ndarray, " token"], n: int) -> int:
    """The token with which the text has ``n`` characters, of those that all tokens have."""
    return int(np.searchsorted(ends, n))


def _find_start(pieces: Sequence[str], label: str, last: int) -> int:
    """The first of the tokens that spell an answer, of which the last is known."""
    text = ""
    for start in range(last, -1, -1):
        text = pieces[start] + text
        if label.lower() in text.lower():
            return start
    return last

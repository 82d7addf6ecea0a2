"""Token ids -> the text of each token, for people only: nothing is ever tokenised again from these."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from completions_lp.records import PARTIAL, Tokenizer


class Cutter:
    """Cuts decoded texts into the pieces that their tokens wrote, and remembers pairs of tokens that it has seen."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._pairs: dict[tuple[int, int], str] = {}

    def cut(self, token_ids: Sequence[int], text: str) -> tuple[str, ...]:
        """One piece per token; together they are ``text``, the decoding of the tokens without special ones.

        A token of which nothing is seen (a special one, or the first bytes of a character) has an empty piece; the
        token that completes a character has all of it.
        """
        ids = list(token_ids)
        quick = tuple(self._follow(before, token) for before, token in zip([-1, *ids], ids, strict=False))
        if "".join(quick) == text:
            return quick
        return self._cut_slowly(ids, text)

    def cut_ids(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """The same, where the text is not at hand."""
        ids = list(token_ids)
        return self.cut(ids, self._decode(ids)) if ids else ()

    def _follow(self, before: int, token: int) -> str:
        """What a token adds after another one; most tokenizers write a token alike after any."""
        if (before, token) not in self._pairs:
            context = [] if before < 0 else [before]
            start, whole = self._decode(context), self._decode([*context, token])
            self._pairs[before, token] = whole[len(start) :]
        return self._pairs[before, token]

    def _cut_slowly(self, ids: list[int], text: str) -> tuple[str, ...]:
        """Prefix by prefix: what is seen after each token, as far as it is the beginning of the whole text."""
        ends: list[int] = []
        for n in range(1, len(ids) + 1):
            seen = self._decode(ids[:n]).rstrip(PARTIAL)
            ends.append(max(ends[-1] if ends else 0, len(seen)) if text.startswith(seen) else ends[-1] if ends else 0)
        ends[-1] = len(text)
        return tuple(text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True))

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""


class PieceTokenizer:
    """Stands in for a tokenizer where the pieces of completions are stored and their tokenizer is not at hand.

    A token of its own is a piece of text. What wrote nothing, but at the end of a completion that has ended, is taken
    for the first bytes of a character.
    """

    def __init__(self) -> None:
        self._texts = ["", PARTIAL]
        self._ids: dict[str, int] = {}

    def encode(self, pieces: Sequence[str], *, ended: bool) -> list[int]:
        """Token ids of a completion, by its pieces."""
        ids = []
        for piece in pieces:
            if piece and piece not in self._ids:
                self._ids[piece] = len(self._texts)
                self._texts.append(piece)
            ids.append(self._ids[piece] if piece else 1)
        return [*ids[:-1], 0] if ended and ids and not pieces[-1] else ids

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Any:
        """No text has token ids here."""
        return SimpleNamespace(input_ids=[])

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> str:
        """The pieces, joined; at the end bytes of a character that is not whole are seen as decoders write them."""
        ids = list(token_ids)
        text = "".join(self._texts[i] for i in ids if i != 1)
        return f"{text}{PARTIAL}" if ids and ids[-1] == 1 else text


def is_plain_text(pieces: Sequence[str], *, ended: bool) -> bool:
    """Whether every token of a completion wrote something, but for the one that has ended it."""
    return all(pieces[: len(pieces) - ended])

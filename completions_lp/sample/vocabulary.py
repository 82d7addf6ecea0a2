"""The text of every token of a tokenizer, as it stands inside a longer text."""

from collections.abc import Mapping, Sequence, Sized
from typing import cast
from weakref import WeakKeyDictionary

from completions_lp.records import Tokenizer

MARKS = " \t\r\n()[]{}\"'`*.:,;"
"""What may stand around an answer within a token that still spells it: ``(A``, `` A``, ``A)``, ``**A``."""
_TEXTS: WeakKeyDictionary[Tokenizer, list[str]] = WeakKeyDictionary()
_SPELLINGS: WeakKeyDictionary[Tokenizer, dict[str, list[int]]] = WeakKeyDictionary()


def list_texts(tokenizer: Tokenizer) -> Sequence[str]:
    """By token, its text after another one: with the space that it brings; empty for special tokens. Decoded once."""
    if tokenizer not in _TEXTS:
        before = list(tokenizer("x", add_special_tokens=False).input_ids)[-1:]
        skip = len(str(tokenizer.decode(before)))
        size = len(cast(Sized, tokenizer))
        _TEXTS[tokenizer] = [
            str(tokenizer.decode([*before, token], skip_special_tokens=True))[skip:] for token in range(size)
        ]
    return _TEXTS[tokenizer]


def find_tokens(tokenizer: Tokenizer, character: str) -> list[tuple[int, str]]:
    """Tokens whose text holds a character, with that text."""
    return [(token, text) for token, text in enumerate(list_texts(tokenizer)) if character in text]


def strip_marks(text: str) -> str:
    """A text without the spaces, brackets, quotes and stops around it."""
    return text.strip(MARKS)


def list_spellings(tokenizer: Tokenizer) -> Mapping[str, Sequence[int]]:
    """By what a token spells, its text without ``MARKS`` around it, all tokens that do; none spells no text."""
    if tokenizer not in _SPELLINGS:
        found: dict[str, list[int]] = {}
        for token, text in enumerate(list_texts(tokenizer)):
            if spelled := strip_marks(text):
                found.setdefault(spelled, []).append(token)
        _SPELLINGS[tokenizer] = found
    return _SPELLINGS[tokenizer]

"""Token ids -> label and answer position.

A completion is labelled by *first passage*: reading its first ``within`` tokens one by one, the first answer that
appears is its label, and the token at which it appears is the answer position. If both answers occur, the first one
decides. By two rules it is not the first answer that decides, but the window as a whole: the last answer that is
committed in it, or what a function says of its text. The label depends on no token past the window.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from completions_lp.records import PARTIAL, InputError, Labelling, Prompt, Tokenizer, compile_pattern
from completions_lp.sample.final import FinalAnswers
from completions_lp.sample.functions import call_function
from completions_lp.sample.reasoning import Thinking, find_ends, find_token
from completions_lp.sample.vocabulary import find_tokens

MOST_TEXTS = 2**14
"""Decoded prefixes that are kept: long completions have hundreds each, and share few."""


class Labeller:
    """Labels completions by one rule; keeps the decoded prefixes, which samples of a prompt share.

    Rules (``Labelling.rule``):

    - ``letter``: the answer stands alone: ``A``, `` A``, ``(A``, ``A)``, but not ``As an AI``. Whether a letter stands
      alone is settled by the character after it, so a letter at the end of a token waits for the next token to confirm
      it; the answer position is still that of the letter. At the end of the window or of the text it stands alone.
    - ``token``: one token whose text, without spaces around it, is the answer.
    - ``substring``: the answer anywhere in the text, inside words too.
    - ``regex``: ``Labelling.pattern`` with ``{letter}`` replaced by the answer, searched in the text so far; or one of
      ``Labelling.patterns`` for each outcome.
    - ``final_answer``: the last answer of the window that is committed, see ``FinalAnswers``, outside of the thinking
      parts that ``Labelling.thinking`` marks. Its position is that of the token that completes it.
    - ``python``: what ``Labelling.function`` says of the text of the window, thinking parts and all; its position is
      that of the window's last token, since all of them decide.
    """

    def __init__(self, tokenizer: Tokenizer, labelling: Labelling) -> None:
        self.tokenizer = tokenizer
        self.labelling = labelling
        self._texts: dict[tuple[int, ...], str] = {(): ""}
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._completing: dict[tuple[str, str], Int[np.ndarray, " token"]] = {}
        self._final, self._thinking = FinalAnswers(labelling), Thinking(tokenizer, labelling.thinking)

    def label(
        self, token_ids: Sequence[int], *, letters: Sequence[str], prompt: Prompt | None = None
    ) -> tuple[str, int]:
        """Which of ``letters`` the completion gives by the rule, and the 0-based index of the token that completes it.

        Returns ``("", -1)`` where no answer appears within the window. Two answers that appear with the same token
        are told apart by their place in the text. ``prompt`` is what was completed: whether it ends inside a thinking
        part, and what errors call it.

        Raises:
            InputError: The function of ``rule = "python"`` fails, or gives what is none of ``letters``.
        """
        window = tuple(token_ids[: self.labelling.size_window(len(token_ids))])
        if self.labelling.rule == "python":
            return self._ask_function(window, letters, prompt)
        if self.labelling.rule == "final_answer":
            return self._find_committed(window, letters, prompt)
        for end in range(1, len(window) + 1):
            places = [(self._find(window, end, letter), letter) for letter in letters]
            found = [(place, letter) for place, letter in places if place is not None]
            if found:
                return min(found)[1], end - 1
        return "", -1

    def completing_tokens(self, said: Sequence[int], *, letter: str) -> Int[np.ndarray, " token"] | None:
        """Every token that would complete the answer after ``said``, in which it has not been given yet.

        A stand-alone letter at the end of a token counts, although the token after it may yet refute it. None where
        that is not known of single tokens (``Labelling.is_by_token``): for a regular expression, and for the rules that
        look at all of the window, by which a later token may undo an answer.
        """
        if not self.labelling.is_by_token:
            return None
        tail = ""
        if self.labelling.rule != "token":
            tail = _reduce_tail(self._text(tuple(said))[-len(letter) - 1 :], letter)
        if (tail, letter) not in self._completing:
            candidates = find_tokens(self.tokenizer, letter[-1])
            hits = [token for token, text in candidates if self._completes(tail, text, letter)]
            self._completing[tail, letter] = np.array(hits, dtype=np.int64)
        return self._completing[tail, letter]

    def _completes(self, tail: str, text: str, letter: str) -> bool:
        if self.labelling.rule == "token":
            return text.strip() == letter
        return any(match.end() > len(tail) for match in self._pattern(letter).finditer(tail + text))

    def _ask_function(self, window: tuple[int, ...], letters: Sequence[str], prompt: Prompt | None) -> tuple[str, int]:
        text, name = self._text(window), self.labelling.function
        where = "a completion" if prompt is None else f"a completion of prompt {prompt.id!r}"
        label = call_function(name, text, where)
        if label and label not in letters:
            raise InputError(
                f"the label function gave {label!r} for {where}, which is none of its answers ({', '.join(letters)}): "
                "name all that it gives in [label] outcomes"
            )
        return (label, len(window) - 1) if label else ("", -1)

    def _find_committed(
        self, window: tuple[int, ...], letters: Sequence[str], prompt: Prompt | None
    ) -> tuple[str, int]:
        pieces = self._thinking.cutter.cut_ids(window)
        opened = prompt is not None and self._thinking.is_opened(prompt.token_ids)
        thinking = self._thinking.find(window, pieces, opened=opened)
        ends = find_ends(pieces)
        segments, start, is_behind = [], 0, False
        for span in thinking:
            segments.append((start, int(ends[span.start - 1]) if span.start else 0, is_behind))
            start, is_behind = int(ends[span.stop - 1]) if span.stop else 0, True
        text = "".join(pieces)
        segments.append((start, len(text), is_behind))
        found = self._final.find(text, segments, letters)
        return ("", -1) if found is None else (found.letter, find_token(ends, found.end))

    def _find(self, window: tuple[int, ...], end: int, letter: str) -> int | None:
        """Where in the text of ``window[:end]`` the answer stands, if token ``end - 1`` completes it."""
        if self.labelling.rule == "token":
            return 0 if self._text(window[end - 1 : end]).strip() == letter else None
        text = self._text(window[:end])
        if self.labelling.rule == "letter":
            text = text.rstrip(PARTIAL)
            return self._find_alone(text, letter, self._text_after(window, end)) if letter in text else None
        match = self._pattern(letter).search(text)
        return match.start() if match else None

    def _find_alone(self, text: str, letter: str, longer: str) -> int | None:
        """Place of a stand-alone ``letter`` in ``text``; ``longer`` has the next token too, if there is one."""
        for match in self._pattern(letter).finditer(text):
            if match.end() < len(text) or self._pattern(letter).match(longer, match.start()):
                return match.start()
        return None

    def _text_after(self, window: tuple[int, ...], end: int) -> str:
        """The text of ``window[:end]`` with the next token too, or with as many as its first character takes."""
        while end < len(window):
            end += 1
            text = self._text(window[:end])
            if not text.endswith(PARTIAL):
                return text
        return self._text(window).rstrip(PARTIAL)

    def _pattern(self, letter: str) -> re.Pattern[str]:
        if letter not in self._patterns:
            literal, shown = re.escape(letter), self.labelling.pattern or self.labelling.patterns.get(letter, "")
            source = {
                "letter": rf"(?<!\w){literal}(?!\w)",
                "substring": literal,
                "regex": self.labelling.pattern.replace("{letter}", literal) or shown,
            }[self.labelling.rule]
            if not source:
                raise InputError(f"label patterns have none for {letter!r}: {', '.join(self.labelling.patterns)}")
            self._patterns[letter] = compile_pattern(source, "label pattern", shown)
        return self._patterns[letter]

    def _text(self, token_ids: tuple[int, ...]) -> str:
        """Decoded text; special tokens (an end of sequence spells letters too) are left out."""
        if token_ids not in self._texts:
            if len(self._texts) > MOST_TEXTS:
                self._texts = {(): ""}
            self._texts[token_ids] = str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))
        return self._texts[token_ids]


@lru_cache(maxsize=2**16)
def _reduce_tail(tail: str, letter: str) -> str:
    """The end of a text as far as it bears on what completes ``letter``: other characters count as words or not."""
    word = next(c for c in map(chr, range(0x4E00, 0x9FFF)) if c not in letter)  # more than any answer has
    return "".join(c if c in letter else word if re.match(r"\w", c) else "\n" for c in tail)

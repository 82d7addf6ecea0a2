"""Text -> the committed answer: the last one that stands right behind a phrase such as "the answer is"."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from completions_lp.records import InputError, Labelling, compile_pattern

_FILLERS = (
    *("is", "the", "that", "would", "be", "option", "choice", "letter", "answer", "therefore", "thus", "hence", "so"),
    *("clearly", "definitely", "simply", "probably", "likely", "most", "indeed", "still", "again", "with", "correct"),
    *("best", "boxed", "text", "textbf", "mathbf", "mathrm", "mbox"),
)
"""Words that may stand between a phrase and its answer. None of them denies it, as "not" would."""
_GAP = r"[^\w.!?;]{0,40}"
"""What else may: marks and spaces that end no sentence."""


@dataclass(frozen=True)
class Found:
    """An answer in a text: which, and its place in characters."""

    letter: str
    start: int
    end: int


class FinalAnswers:
    """Finds committed answers by one labelling; keeps the regular expressions.

    An answer is committed where it stands alone right behind a phrase, but for marks, spaces and words such as "option"
    or "therefore"; where ``Labelling.pattern`` finds it; or where it is alone on the first line after a thinking part.
    Phrases are found in whatever case and with whatever marks of emphasis between their words, and so are answers that
    are words; an answer of one character must be written as it is.
    """

    def __init__(self, labelling: Labelling) -> None:
        self.labelling = labelling
        self._patterns: dict[str, list[re.Pattern[str]]] = {}
        self._alone: dict[str, re.Pattern[str]] = {}

    def find(self, text: str, segments: Sequence[tuple[int, int, bool]], letters: Sequence[str]) -> Found | None:
        """The last committed answer of a text, of which only the segments count; None where there is none.

        A segment is a range of characters, and whether it begins right behind a thinking part. Of two answers at one
        place the longer one is it.
        """
        found: list[Found] = []
        for start, end, is_behind in segments:
            for letter in letters:
                for pattern in self._compile(letter):
                    found += [Found(letter, *match.span("answer")) for match in pattern.finditer(text, start, end)]
                alone = self._compile_alone(letter).match(text, start, end) if is_behind else None
                found += [] if alone is None else [Found(letter, *alone.span("answer"))]
        return max(found, key=lambda one: (one.start, one.end), default=None)

    def _compile(self, letter: str) -> list[re.Pattern[str]]:
        if letter not in self._patterns:
            answer, sources = _write_answer(letter), []
            if self.labelling.phrases:
                phrases = "|".join(map(_write_phrase, self.labelling.phrases))
                fillers = "|".join(_FILLERS)
                sources.append(rf"(?i:{phrases}){_GAP}(?i:(?:{fillers})\b{_GAP}){{0,6}}{answer}")
            patterns = [re.compile(source) for source in sources]
            if self.labelling.pattern:
                first, rest = self.labelling.pattern.split("{letter}", 1)
                literal = re.escape(letter)
                source = f"{first}(?P<answer>{literal}){rest.replace('{letter}', literal)}"
                patterns.append(compile_pattern(source, "label pattern", self.labelling.pattern))
                if "answer" not in patterns[-1].groupindex:
                    raise InputError(
                        f"label pattern {self.labelling.pattern!r} has {{letter}} inside of [...], where it stands for "
                        "single characters: write it outside"
                    )
            self._patterns[letter] = patterns
        return self._patterns[letter]

    def _compile_alone(self, letter: str) -> re.Pattern[str]:
        if letter not in self._alone:
            self._alone[letter] = re.compile(rf"[\W_]*?{_write_answer(letter)}[^\w\n]*(?:\n|\Z)")
        return self._alone[letter]


def _write_answer(letter: str) -> str:
    literal = re.escape(letter)
    return rf"(?P<answer>(?<!\w){literal if len(letter) == 1 else f'(?i:{literal})'}(?!\w))"


def _write_phrase(phrase: str) -> str:
    """A regular expression for a phrase: between its words any spaces, and marks that make them bold, say."""
    words = re.findall(r"\w+|[^\w\s]", phrase)
    source = re.escape(words[0])
    for before, word in itertools.pairwise(words):
        joined = before[-1].isalnum() and word[0].isalnum()
        source += (r"[\s*_\"]+" if joined else r"[\s*_]*") + re.escape(word)
    start, end = (r"(?<!\w)" if words[0][0].isalnum() else ""), (r"(?!\w)" if words[-1][-1].isalnum() else "")
    return f"{start}{source}{end}"

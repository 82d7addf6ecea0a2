"""What a set of prompts or pairs should be told of as a whole, though every row of it can be read."""

import math
import warnings
from collections import Counter
from collections.abc import Sequence

from completions_lp.records.base import Notice

LIMIT = 3.0
"""Standard errors by which the commonest matching answer may be commoner than chance has it."""
ENOUGH = 20
"""Prompts below which nothing is told of their answers: by chance, 3 standard errors are nearly all of them."""


def tell_unbalanced(asked: Sequence[tuple[str, tuple[str, ...]]], source: str) -> None:
    """Notice where one answer is the matching one more often than chance has it.

    ``asked`` is, by prompt, the matching answer and all of its letters. A model that likes the letter seems to show the
    behaviour then, and a vector made of such pairs points to the letter, too.
    """
    if len(asked) < ENOUGH:
        return
    letter, n = Counter(matching for matching, _ in asked).most_common(1)[0]
    chances = [1 / len(letters) if letter in letters else 0.0 for _, letters in asked]
    mean, variance = sum(chances), sum(chance * (1 - chance) for chance in chances)
    if n - mean > LIMIT * math.sqrt(variance):
        warnings.warn(
            f"{source}: the matching answer is {letter!r} in {n} of {len(asked)} rows ({n / len(asked):.0%}, and "
            f"{mean / len(asked):.0%} where answers are balanced): what favours {letter!r} looks like the behaviour; "
            "ask as many rows with each answer, or each question with its choices exchanged as well",
            Notice,
            stacklevel=1,
        )


def tell_doubled(texts: Sequence[str], questions: Sequence[str], source: str) -> None:
    """Notice where questions end as the template goes on, such as with ``Answer:``, which stands twice then."""
    ends = [_find_doubled(text, question) for text, question in zip(texts, questions, strict=True)]
    n = sum(end != "" for end in ends)
    if n:
        warnings.warn(
            f"{source}: {n} of {len(texts)} questions end in {next(filter(None, ends))!r}, which the template writes "
            "after them once more; leave it out of [prompts] template",
            Notice,
            stacklevel=1,
        )


def _find_doubled(text: str, question: str) -> str:
    """What stands after the question, if the question ends in it, too; else nothing."""
    after = text.rpartition(question)[2].strip() if question.strip() and question in text else ""
    return after if after and question.rstrip().endswith(after) else ""

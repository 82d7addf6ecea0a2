"""What is asked, and the contrast pairs that a vector is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from completions_lp.records.base import InputError, require
from completions_lp.records.labelling import Labelling


@dataclass(frozen=True)
class Prompt:
    """One question as the model is asked it, with two answers that are compared, and any others."""

    id: str
    """Names the prompt and its random stream: the file's own ``id``, or a hash of the text."""
    text: str
    token_ids: tuple[int, ...]
    letters: tuple[str, ...]
    """The answers on offer, as a model writes them: ``("A", "B")``, or ``("No", "Yes")``."""
    matching: str
    """The letter that goes with the behaviour."""
    not_matching: str
    cluster: str
    """The unit of resampling: the prompt itself, with its twin, unless the file has a ``cluster`` field."""
    answer_format: str = " ({letter})"
    """How the file writes an answer after the text; where the two-choice read-out finds the answer's token. Empty: its
    answers are outcomes, which no text spells, and are not read out."""
    twin: str = ""
    """The id of the prompt that this one asks once more with the texts of its two choices exchanged, letters in place;
    empty for a question as its file has it."""

    def __post_init__(self) -> None:
        where = f"prompt {self.id!r}"
        require(len(self.token_ids) > 0, f"{where}: no tokens; a prompt needs at least one")
        require(all(self.letters), f"{where}: an answer is empty; an empty label stands for no answer")
        for letter in (self.matching, self.not_matching):
            require(letter in self.letters, f"{where}: answer {letter!r} is not one of its letters {self.letters}")
        require(self.matching != self.not_matching, f"{where}: both answers are {self.matching!r}")
        require(self.twin != self.id, f"{where}: is named as its own twin")

    @property
    def is_read_out(self) -> bool:
        """Whether its answers are texts that may follow it, so that the two-choice read-out can be had."""
        return bool(self.answer_format)

    def other(self, letter: str) -> str:
        """The answer that ``letter`` is compared with in the two-choice read-out."""
        return self.not_matching if letter == self.matching else self.matching

    def offers(self, target: str) -> bool:
        """Whether the target is one of its answers; ``"matching"``, each prompt's own, always is."""
        return target == "matching" or target in self.letters

    def pair(self, target: str) -> tuple[str, str]:
        """The target answer (``"matching"``: the prompt's own) and the one that it is compared with.

        A prompt that does not offer the target keeps its own two, the matching one first.
        """
        letter = target if target in self.letters else self.matching
        return letter, self.other(letter)


def pick_letters(prompts: Sequence[Prompt], target: str) -> tuple[tuple[str, str], ...]:
    """By prompt, its ``pair``: the target answer and the one that it is compared with.

    What is said of the target leaves out a prompt that does not offer it.

    Raises:
        InputError: No prompt offers the target; or it is ``"matching"``, and answers are outcomes, of which none is.
    """
    if target == "matching" and not all(prompt.is_read_out for prompt in prompts):
        named = sorted({letter for prompt in prompts if not prompt.is_read_out for letter in prompt.letters})
        raise InputError(
            f"target is 'matching', but the answers are outcomes, none of which is a prompt's own: {', '.join(named)}. "
            "Name one of them as the target"
        )
    if target != "matching" and not any(prompt.offers(target) for prompt in prompts):
        offered = sorted({letter for prompt in prompts for letter in prompt.letters})
        raise InputError(
            f"target {target!r} is an answer of no prompt; theirs are {', '.join(offered)}. "
            "Name one of them, or 'matching' for each prompt's own"
        )
    return tuple(prompt.pair(target) for prompt in prompts)


def pair_twins(prompts: Sequence[Prompt]) -> tuple[tuple[int, int], ...]:
    """Indices of every question that is there in both orders: as its file has it, and with its choices exchanged.

    Where both are about the same outcome, whatever its letter, there is nothing that the orders tell apart.
    """
    places = {prompt.id: i for i, prompt in enumerate(prompts)}
    pairs = [(places[prompt.twin], i) for i, prompt in enumerate(prompts) if prompt.twin in places]
    return tuple((i, j) for i, j in pairs if prompts[i].pair("matching") == prompts[j].pair("matching")[::-1])


def name_outcomes(prompts: Sequence[Prompt], labelling: Labelling) -> Sequence[Prompt]:
    """Prompts whose letters are the outcomes that a labelling has names for; as they are where it has none.

    A prompt whose two answers are both outcomes keeps them. Else the first two outcomes are compared (of a single one
    its absence is the other, which is no label), and nothing is read out.
    """
    names = labelling.names
    letters = (*names, f"no {names[0]}") if len(names) == 1 else names
    return [
        prompt
        if not names or prompt.letters == letters
        else replace(prompt, letters=letters)
        if {prompt.matching, prompt.not_matching} <= {*names}
        else replace(prompt, letters=letters, matching=letters[0], not_matching=letters[1], answer_format="")
        for prompt in prompts
    ]


@dataclass(frozen=True)
class ContrastPair:
    """Two texts that differ in the behaviour, and where each is read: at one token, or over several, as their mean."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    positive_index: int
    """The token at which it is read; of a mean, the last token that is in it."""
    negative_index: int
    positive_start: int | None = None
    """Where its response starts, after all that is asked; None of a plain text, which has no response."""
    negative_start: int | None = None
    part: int | None = None
    """How many tokens both responses begin with alike: behind them stand the two answers. None where they do not part,
    or there is no response."""
    mean: Literal["", "response", "prompt"] = ""
    """What is averaged: all tokens of the response, or all of the prompt; empty where one token is read."""

    @property
    def spans(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The tokens that are read of the positive and of the negative text, as half-open ranges of places."""
        found = []
        for index, start in ((self.positive_index, self.positive_start), (self.negative_index, self.negative_start)):
            first = {"": index, "response": start or 0, "prompt": 0}[self.mean]
            found.append((first, index + 1))
        return found[0], found[1]

    @property
    def answers(self) -> tuple[int, int, int] | None:
        """The place in the positive text behind which the answer stands, its token there, and the negative text's."""
        if self.part is None or self.positive_start is None or self.negative_start is None:
            return None
        ours, theirs = self.positive_start + self.part, self.negative_start + self.part
        return ours - 1, self.positive[ours], self.negative[theirs]

    def describe(self) -> dict[str, Any]:
        """What is read of which texts: all that a vector depends on."""
        names = ("positive", "negative", "positive_index", "negative_index")
        told = {name: getattr(self, name) for name in names}
        return {**told, "spans": self.spans} if self.mean else told

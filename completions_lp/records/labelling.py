"""When a completion counts as having given an answer."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from completions_lp.records.base import InputError, Rule, require

Within = int | Literal["all"]
LabelFunction = Callable[[str], str | None]
"""The text of a completion's window -> its label, one of the answers; None or ``""`` for none."""

LONGEST_WINDOW = 1_000_000
"""Tokens of a window that is given as a number."""
PHRASES = (
    *("answer is", "answer:", "answer would be", "answer should be", "answer must be", "final answer"),
    *("correct choice is", "correct option is", "best choice is", "best option is", "my choice is", "my choice:"),
    *("i choose", "i would choose", "i will choose", "i'll choose", "i pick", "i would pick", "i'll go with"),
    *("i will go with", "i would go with"),
)
"""What an answer is committed after, in whatever case."""
THINKING = ("<think>", "</think>")
"""What opens and what closes the thinking part of a completion."""


@dataclass(frozen=True)
class Labelling:
    """When a completion counts as having given an answer; see ``labels``."""

    rule: Rule = "letter"
    within: Within = 10
    """Only the first ``within`` tokens, the window, decide; ``"all"``: the whole completion."""
    pattern: str = ""
    """A regular expression in which ``{letter}`` stands for the answer: the whole of ``rule = "regex"``; beside the
    phrases, for ``rule = "final_answer"``."""
    patterns: Mapping[str, str] = field(default_factory=dict, hash=False)
    """For ``rule = "regex"``, in place of ``pattern``: a regular expression for each outcome, by its name."""
    phrases: tuple[str, ...] = PHRASES
    """For ``rule = "final_answer"``: an answer right behind one of these is committed."""
    thinking: tuple[str, ...] = THINKING
    """What opens and what closes the thinking part of a completion; ``()`` if none is marked."""
    function: str | LabelFunction = ""
    """For ``rule = "python"``: what labels a text; by its name, ``"module:function"``, it is called by nothing: see
    ``sample.functions.load_function``."""
    outcomes: tuple[str, ...] = ()
    """For ``rule = "python"``: the labels that the function may give, where they are not the letters of the prompts."""

    def __post_init__(self) -> None:
        require(self.rule in get_args(Rule), f"label rule {self.rule!r} is none of {', '.join(get_args(Rule))}")
        self._check_window()
        self._check_pattern()
        self._check_patterns()
        self._check_function()
        require(
            self.rule == "final_answer" or tuple(self.phrases) == PHRASES,
            'label phrases go with rule = "final_answer", and only with it',
        )
        require(
            self.rule != "final_answer" or bool(self.phrases or self.pattern),
            'label rule = "final_answer" has neither phrases nor a pattern to find an answer by: give one of them',
        )
        require(all(phrase.strip() for phrase in self.phrases), "label phrases: one is empty, which any text has")
        tags = self.thinking
        require(
            not tags or (len(tags) == 2 and all(tags) and tags[0] != tags[1]),
            f"label thinking is {list(tags)}; it is two tags, what opens and what closes, or [] for none",
        )

    @property
    def is_first_passage(self) -> bool:
        """Whether the first answer decides, so that no token past it bears on the label; else the window does."""
        return self.rule not in ("final_answer", "python")

    @property
    def is_by_token(self) -> bool:
        """Whether it is known of single tokens that they complete an answer."""
        return self.rule in ("letter", "token", "substring")

    @property
    def names(self) -> tuple[str, ...]:
        """Outcomes with names of their own, which stand in place of the prompts' letters; else empty."""
        return tuple(self.patterns) or self.outcomes

    def size_window(self, longest: int) -> int:
        """Tokens of the window of completions that have ``longest`` at most.

        Where the window as a whole decides, it is no longer than the completions: a text that is cut there has a label
        that no later token changes.
        """
        if self.within == "all":
            return longest
        return self.within if self.is_first_passage else min(self.within, longest)

    def describe(self) -> dict[str, Any]:
        """Rule, window and pattern, and whatever else is not its default: as the keys of ``[label]``, for JSON."""
        told: dict[str, Any] = {"rule": self.rule, "within": self.within, "pattern": self.pattern}
        plain = Labelling()
        for name in (item.name for item in fields(self) if item.name not in told):
            if getattr(self, name) != getattr(plain, name):
                told[name] = getattr(self, name)
        told |= {name: list(told[name]) for name in ("phrases", "thinking", "outcomes") if name in told}
        told |= {"patterns": dict(self.patterns)} if self.patterns else {}
        return told | ({"function": name_function(self.function)} if self.function else {})

    def _check_window(self) -> None:
        if self.within == "all":
            return
        require(isinstance(self.within, int), f'label within is {self.within!r}; it is a number of tokens or "all"')
        require(self.within >= 1, f"label within is {self.within}; at least 1 token is needed")
        require(
            self.within <= LONGEST_WINDOW, f"label within is {self.within}; it must be at most {LONGEST_WINDOW}, or all"
        )

    def _check_pattern(self) -> None:
        require(
            not self.pattern or self.rule in ("regex", "final_answer"),
            'label pattern goes with rule = "regex", and only with it (or "final_answer"); for example '
            "'(?i)answer is \\(?{letter}\\b'",
        )
        require(
            self.rule != "regex" or bool(self.pattern) != bool(self.patterns),
            "label rule = \"regex\" needs a pattern, for example '(?i)answer is \\(?{letter}\\b', or patterns, one for "
            'each outcome, for example {refusal = "(?i)I can\'t", comply = "(?i)sure"}, and not both',
        )
        require(
            not self.pattern or "{letter}" in self.pattern,
            f"label pattern {self.pattern!r} does not say where the answer stands: write {{letter}} there",
        )
        compile_pattern(self.pattern.replace("{letter}", "A"), "label pattern", self.pattern)

    def _check_patterns(self) -> None:
        require(not self.patterns or self.rule == "regex", 'label patterns go with rule = "regex", and only with it')
        _check_names(tuple(self.patterns), "patterns")
        for name, pattern in self.patterns.items():
            found = compile_pattern(pattern, f"the label pattern of {name!r},", pattern).search("")
            require(
                found is None,
                f"the label pattern of {name!r}, {pattern!r}, is found in an empty text, and so in any: it must say "
                'what is there; what is not there takes rule = "python"',
            )

    def _check_function(self) -> None:
        require(
            (self.rule == "python") == bool(self.function),
            'label function goes with rule = "python", and only with it; for example "mylabels:find_refusal"',
        )
        require(not self.outcomes or self.rule == "python", 'label outcomes go with rule = "python", and only with it')
        _check_names(self.outcomes, "outcomes")
        if isinstance(self.function, str) and self.function:
            module, _, name = self.function.partition(":")
            named = all(part.isidentifier() for part in module.split(".")) and name and not name.startswith(".")
            require(
                bool(named), f'label function {self.function!r} is no "module:function", for example "mylabels:find"'
            )


def compile_pattern(source: str, what: str, shown: str) -> re.Pattern[str]:
    """A regular expression; raises InputError that names it where it is none."""
    try:
        return re.compile(source)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{what} {shown!r} is not a regular expression: {error}") from None


def name_function(function: str | LabelFunction) -> str:
    """The name of a label function, ``module:function``."""
    if isinstance(function, str):
        return function
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def _check_names(names: Sequence[str], key: str) -> None:
    require(all(name.strip() for name in names), f"label {key}: an outcome has no name")
    require(len(set(names)) == len(names), f"label {key}: two outcomes are called alike: {', '.join(names)}")
    require("matching" not in names, f'label {key}: "matching" is what a target is called, so no outcome may be')

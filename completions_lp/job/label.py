"""The [label] section of a configuration, and what every section is."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from completions_lp.records import Labelling, Rule
from completions_lp.records.labelling import PHRASES, THINKING


class Section(BaseModel):
    """A part of the configuration: immutable, with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LabelSection(Section):
    """When a completion counts as an answer, and which answer the numbers are of."""

    rule: Rule = "letter"
    """The answer as a letter that stands alone, as a token, as a substring, or by a regular expression; the last one
    that is committed after reasoning (final_answer); or what a function of your own says (python)."""
    target: str = "matching"
    """The answer whose probability is measured: "matching" is each prompt's own behaviour-matching one; or a letter, or
    an outcome."""
    within: int | Literal["all"] = 10
    """Only so many tokens, the first ones, decide; "all": the whole completion, as final_answer and python need it."""
    pattern: str = ""
    """For rule = "regex": a regular expression in which {letter} stands for the answer; for final_answer, one that
    finds an answer beside the phrases."""
    patterns: Annotated[dict[str, str], Field(max_length=100)] = {}
    """For rule = "regex", in place of pattern: a regular expression for each outcome, for example {refusal = "(?i)I
    can't", comply = "(?i)sure"}; their names are the answers then."""
    phrases: tuple[str, ...] = PHRASES
    """For rule = "final_answer": an answer right behind one of these is committed, and the last one counts."""
    thinking: tuple[str, ...] = THINKING
    """What opens and what closes the thinking part of a completion, in which no answer is final; [] for none."""
    function: str = ""
    """For rule = "python", and only for it: "module:function", from a completion's text to its label, or None. It is
    called only where your own command or file names it, never because a stored run does."""
    outcomes: tuple[str, ...] = ()
    """For rule = "python": all labels that the function may give, where they are not the letters of the prompts."""

    @property
    def labelling(self) -> Labelling:
        """The rule as a record."""
        return Labelling(**self.model_dump(exclude={"target"}))

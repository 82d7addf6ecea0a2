"""The [[rival]] sections of a configuration: what steering is compared with, on the very same completions."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from completions_lp.job.label import Section
from completions_lp.records import Condition, InputError, make_rival

MOST = 100
"""Rivals of a run."""
ASKED = ("system", "few_shot", "template", "prepend")
"""Keys by which a rival asks the same questions otherwise."""


class RivalSection(Section):
    """What steering is compared with, on the very same completions: another prompt, or another model.

    It stands beside the vector in every table. Each is under [[rival]], with a name and at least one other key.
    """

    name: Annotated[str, Field(max_length=100)] = ""
    """What it is called in tables; no vector's name."""
    system: str | None = None
    """The system's turn of the chat that it is asked, in place of that of [prompts]: for example "Answer as a cautious
    assistant would."."""
    few_shot: tuple[dict[Literal["user", "assistant"], str], ...] | None = None
    """Turns of the chat before the question, in place of those of [prompts]."""
    template: str | None = None
    """A format string, or "chat", in place of that of [prompts]."""
    prepend: str = ""
    """Text right before the question in a chat, or before all of a format string: how a model without a chat template
    is told something."""
    model: str | None = None
    """Another model, as [model] name has it: a fine-tune of the run's, or a LoRA adapter's folder. It must have the
    same tokenizer, and runs in the same precision on the same device; its weights are in memory beside the run's."""
    revision: str | None = None
    """A branch, tag or commit of the hub, of that model."""

    @property
    def asks(self) -> bool:
        """Whether it is asked otherwise than the run's own prompts."""
        return bool(self.prepend) or any(given is not None for given in (self.system, self.few_shot, self.template))

    @property
    def words(self) -> str:
        """What kind of rival it is, in a word or two."""
        asked = [
            *(["system prompt"] if self.system is not None else []),
            *(["few shots"] if self.few_shot is not None else []),
            *(["template"] if self.template is not None else []),
            *(["prepended text"] if self.prepend else []),
        ]
        return " and ".join([*asked, *(["another model"] if self.model is not None else [])])

    def make_asking(self, asking: Mapping[str, Any]) -> dict[str, Any]:
        """How it is asked, where the run's own prompts are asked like this: options of ``load_prompts``."""
        given = {name: getattr(self, name) for name in ASKED if getattr(self, name) is not None}
        # A format string has no turns: those of the run's chat do not go with it.
        own = dict(asking) | ({"system": "", "few_shot": ()} if self.template not in (None, "chat") else {})
        return own | given


def check_rivals(rivals: Sequence[RivalSection], *, template: str) -> None:
    """Raise InputError for rivals that do not differ from the run, or from one another by name, or cannot be asked."""
    for number, rival in enumerate(rivals, start=1):
        if not rival.name.strip():
            raise InputError(f'[[rival]] number {number} has no name; give one, for example name = "cautious"')
        where = f"[[rival]] {rival.name!r}"
        if [other.name for other in rivals].count(rival.name) > 1:
            raise InputError(f"{where} stands twice: names tell rivals apart; rename one")
        if not rival.asks and rival.model is None:
            raise InputError(
                f"{where} differs in nothing from the run: give another prompt ({', '.join(ASKED)}) or another model"
            )
        if rival.revision is not None and rival.model is None:
            raise InputError(f"{where} has a revision and no model: name the model that it is of")
        for key in ("system", "few_shot"):
            asked = template if rival.template is None else rival.template
            if getattr(rival, key) and asked != "chat":
                raise InputError(
                    f'{where}: {key} goes with template = "chat", which has turns, and the template is {asked!r}; '
                    "use prepend, or write it into a template of the rival's own"
                )


def check_names(rivals: Sequence[RivalSection], taken: Collection[str]) -> None:
    """Raise InputError for a rival that has the name of a vector."""
    for rival in rivals:
        if rival.name in taken:
            raise InputError(
                f"[[rival]] {rival.name!r} has the name of a vector; the tables could not tell them apart: rename it"
            )


def make_conditions(rivals: Sequence[RivalSection], grid: Sequence[Condition]) -> tuple[Condition, ...]:
    """The rivals as conditions beside those of the vectors.

    Raises:
        InputError: A rival has the name of a vector.
    """
    check_names(rivals, {condition.vector for condition in grid})
    return tuple(make_rival(rival.name, positions=grid[0].positions) for rival in rivals)

"""The [[off_target]] sections of a configuration: prompts on which the same vector should change nothing.

A set is a run of its own in ``off_target/NAME`` of the run directory, with the same model and the very vector of the
run, at a few cells: what is made and missing of it, what is stale and why, follows from its own ``run.json``.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from completions_lp.job.label import Section
from completions_lp.records import InputError

FOLDER = "off_target"
"""Of a run directory, that of its sets."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""A set's name, which is that of a folder."""
_ASKED = ("template", "system", "few_shot", "prefix")
_READ = ("path", "subset", "split", "revision", "fields", "answers", "letters", "swap", "limit")

Layer = Annotated[int, Field(ge=0, lt=10_000)]


class OffTargetSection(Section):
    """Prompts on which the same vector should change nothing, or cost no accuracy: its collateral damage.

    They are sampled, scored and read out in the best cell of the run, or in the cells that are named. Each is under
    [[off_target]], with a name and a path.
    """

    name: Annotated[str, Field(max_length=64)] = ""
    """What it is called in tables; also of its folder."""
    path: str = ""
    """Questions with their answers, as of [prompts]."""
    subset: str | None = None
    """Subset (configuration) of a hub dataset."""
    split: str = "train"
    """Split of a hub dataset."""
    revision: str | None = None
    """Revision of a hub dataset."""
    template: str | None = None
    """A format string over the file's fields, or "chat"; as [prompts] has it by default."""
    system: str | None = None
    """The system's turn of a chat; as [prompts] has it by default."""
    few_shot: tuple[dict[Literal["user", "assistant"], str], ...] | None = None
    """Turns of a chat before the question; as [prompts] has them by default."""
    prefix: str | None = None
    """How the answer begins; as [prompts] has it by default."""
    fields: dict[str, str | tuple[str, ...]] = {}  # noqa: RUF012  pydantic copies it
    """Columns of the file, as of [prompts]."""
    answers: tuple[str, ...] = ()
    """Answers to open questions, the matching one first."""
    letters: tuple[str, ...] = ()
    """Keep only prompts whose two answers are among these; [] keeps all."""
    swap: bool = False
    """Ask each question also with the texts of its two choices exchanged."""
    limit: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Keep only so many questions, the first ones."""
    n: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Draws per prompt; as [sampling] has it by default."""
    target: str | None = None
    """The answer whose probability is measured; as [label] has it by default."""
    layers: tuple[Layer, ...] = ()
    """Layers of its cells, among those of [scoring]; the best cell's by default."""
    multipliers: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...] = ()
    """Multipliers of its cells, among those of [scoring]; the best cell's by default."""


def check_sets(
    sets: Sequence[OffTargetSection], *, layers: Collection[Any] | None, multipliers: Sequence[float]
) -> None:
    """Raise InputError for sets without a name or a path of their own, or in cells that the run does not score."""
    for number, one in enumerate(sets, start=1):
        if not NAME.fullmatch(one.name):
            raise InputError(
                f"[[off_target]] number {number} is called {one.name!r}; its name is that of a folder: letters, "
                "digits, '.', '_' and '-', not the first of them a mark"
            )
        where = f"[[off_target]] {one.name!r}"
        if [other.name.lower() for other in sets].count(one.name.lower()) > 1:
            raise InputError(f"{where} stands twice: names tell sets apart; rename one")
        if not one.path:
            raise InputError(f"{where} has no path: which prompts are asked?")
        strange = [] if layers is None else sorted({*one.layers} - {*layers})
        if strange:
            raise InputError(f"{where} has layer {strange[0]}, which [scoring] layers has not: {list(layers or ())}")
        other = sorted({*one.multipliers} - {*multipliers})
        if other:
            raise InputError(
                f"{where} has multiplier {other[0]:g}, which [scoring] multipliers has not: {list(multipliers)}; its "
                "effect there would stand beside none"
            )


def make_values(
    values: Mapping[str, Any], one: OffTargetSection, *, vector: Path | None, cell: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The configuration of a set's own run, from the values of the run's.

    ``vector`` is the file of the run's vector, where there is one yet, ``cell`` its best cell, where it is known.
    """
    given = one.model_dump()
    prompts = {name: given[name] for name in _READ}
    prompts |= {name: values["prompts"][name] if given[name] is None else given[name] for name in _ASKED}
    scoring = {**values["scoring"], "unit": "vector"}  # the run has settled what its best cell is multiplied with
    best: dict[str, Any] = {}
    if cell is not None:
        group = (cell["layer"], *cell["beyond"])
        best = {"layers": (group if cell["beyond"] else cell["layer"],), "multipliers": (cell["multiplier"],)}
    for key in ("layers", "multipliers"):
        scoring[key] = given[key] or best.get(key) or scoring[key]
    return {
        "model": values["model"],
        "prompts": prompts,
        "vector": values["vector"] if vector is None else {"path": str(vector)},
        "sampling": {**values["sampling"], **({} if one.n is None else {"n": one.n})},
        "label": {**values["label"], **({} if one.target is None else {"target": one.target})},
        "scoring": scoring,
        "run": values["run"],
    }

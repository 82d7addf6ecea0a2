"""The state of a run directory, in a few lines."""

from collections.abc import Sequence
from typing import Any

from completions_lp.show.escape import printable


def format_status(
    stages: Sequence[Any],
    units: int,
    size: int,
    unused: int,
    *,
    held: bool = False,
    shared: tuple[str, int, int] | None = None,
) -> str:
    """A line for each stage, what a run would do, and the units; ``stages`` are of ``job.status``.

    Where the directory is ``held``, a line says that another process is at work there. ``shared`` is of its store:
    where it is, how many units of whichever runs are there, and their bytes.
    """
    lines = []
    wide = max(8, *(len(stage.stage) + 1 for stage in stages))
    for stage in stages:
        state = "made" if stage.made else "to do"
        why = "; ".join(map(printable, stage.reasons))
        kept = f" ({stage.units} finished units are kept)" if stage.units else ""
        lines.append(f"{stage.stage:<{wide}}{state:<7}{why}{kept}".rstrip())
    todo = [stage.stage for stage in stages if not stage.made]
    doubtful = [stage.stage for stage in stages if stage.made and stage.reasons]
    lines.append("a run would " + (f"do {', '.join(todo)}" if todo else "do nothing: all of it is made"))
    if doubtful:
        lines[-1] += f", and look first whether {', '.join(doubtful)} still holds"
    spare = f"; {unused} in no table (completions-lp clean)" if unused and not todo else ""
    lines.append(f"units: {units}, {size / 1e6:.1f} MB{spare}")
    if shared is not None:
        where, count, bytes_there = shared
        lines.append(f"store: {printable(where)}: {count} units of whichever runs, {bytes_there / 1e6:.1f} MB")
    lines += ["another process is at work there: a run would be refused until its end"] * held
    return "\n".join(lines)

"""The state of a run directory, in a few lines."""

import time
from collections.abc import Mapping, Sequence
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
    progress: Mapping[str, Any] | None = None,
) -> str:
    """A line for each stage, what a run would do, and the units; ``stages`` are of ``job.status``.

    Where the directory is ``held``, a line says that another process is at work there, and others, by what it has left
    in ``progress`` (``store.read_progress``), what it does, and when this might end. ``shared`` is of its store: where
    it is, how many units of whichever runs are there, and their bytes.
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
    lines += [] if progress is None else format_progress(progress, time.time())
    return "\n".join(lines)


def format_progress(told: Mapping[str, Any], now: float) -> list[str]:
    """What a run is at, at a time (seconds since the epoch): how much is done, for how long, what workers do."""
    try:
        done, total, seconds = int(told["done"]), int(told["total"]), max(0.0, now - float(told["since"]))
        share = float(told["work"]) / float(told["whole"]) if told.get("whole") else done / max(1, total)
        left = f", about {_tell_time(seconds * (1 - share) / share)} left" if 0 < share < 1 else ""
        title, unit = printable(str(told["title"])), printable(str(told["unit"]))
        lines = [f"in progress: {title}, {done} of {total} {unit}s, for {_tell_time(seconds)}{left}"]
        workers = [
            (f"{one['number']}", str(one["node"]), str(one["doing"]), one["since"]) for one in told.get("workers", ())
        ]
        for number, node, doing, since in workers:
            where = f" on {printable(node)}" if node else ""
            lines.append(
                f"  worker {number}{where}: {printable(doing)}, for {_tell_time(max(0.0, now - float(since)))}"
            )
    except (KeyError, TypeError, ValueError):  # of another version
        return []
    return lines


def _tell_time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

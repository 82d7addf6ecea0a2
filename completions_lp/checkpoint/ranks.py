"""Which of the processes that share one model this is: torchrun says so in the environment, and nothing else does."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from completions_lp.records import InputError

STARTED = "torchrun --nproc-per-node {n} -m completions_lp run ..."


@dataclass(frozen=True)
class Rank:
    """One of ``size`` processes, counted from 0."""

    number: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that decides, writes and talks."""
        return self.number == 0


def find_rank(environment: Mapping[str, str] | None = None) -> Rank:
    """That of this process; the only one where no launcher says otherwise."""
    told = os.environ if environment is None else environment
    number, size = told.get("RANK", ""), told.get("WORLD_SIZE", "")
    if not (number.isdecimal() and size.isdecimal() and "MASTER_ADDR" in told):
        return Rank()
    return Rank(int(number), int(size))


def check_ranks(tp_size: int, rank: Rank | None = None) -> None:
    """Raise InputError unless there are as many processes as are to share a model."""
    size = (rank or find_rank()).size
    if tp_size > 1 and size == 1:
        raise InputError(
            f"tp_size is {tp_size}, and this is one process: start all of them, with {STARTED.format(n=tp_size)}"
        )
    if size not in (1, tp_size) or (tp_size == 1 and size > 1):
        raise InputError(
            f"{size} processes were started by torchrun, and tp_size is {tp_size}: set [model] tp_size = {size}, or "
            f"start {tp_size if tp_size > 1 else 'one without torchrun'}"
        )


class OutOfStep(InputError):  # noqa: N818  it is none until the others are thought of
    """Something is wrong with one rank, as far as it knows, so that the others wait for it: all of them have to end."""

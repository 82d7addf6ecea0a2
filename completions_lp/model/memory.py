"""How much memory a pass may take: the budget, what fits in it, and what is done where memory runs out all the same."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import psutil
import torch

from completions_lp.checkpoint import OutOfStep
from completions_lp.model.loading import Model
from completions_lp.model.placement import count_bytes
from completions_lp.records import OutOfRoom
from completions_lp.records.base import Notice

CPU_CEILING = 2**30
"""On a CPU a pass over 1 GiB gains nothing: the arithmetic is bound by the cores, and fresh pages cost time."""

SERVER = 2**32
"""On a server, whose memory is not known: 4 GiB, which is little beside the weights of a model that is kept there."""

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass
class Room:
    """Bytes that the arrays of one pass may take; fewer from the moment at which memory ran out."""

    bytes: int
    ran_out: bool = False
    most_kept: int | None = None
    together: bool = False
    """Whether other processes make the same passes, which none can make again in smaller parts by itself."""

    @property
    def kept(self) -> int:
        """Bytes that keys and values of one prompt may take: on a CPU, as long as memory lasts, more than a pass."""
        return self.bytes if self.most_kept is None or self.ran_out else self.most_kept

    @classmethod
    def find(cls, model: Model, memory_budget: float | None) -> "Room":
        """The one room of a model and a budget in GiB: what one call learned of its memory, later calls know.

        By default a quarter of all the memory that its machine has, not of what is free at the moment: the same command
        makes the same batches, whatever else runs. On a GPU at most half of what the model's weights leave of it, and
        of several devices what the fullest one has.
        """
        rooms = _ROOMS.setdefault(model, {})
        if memory_budget not in rooms:
            if memory_budget is None:
                most = SERVER if model.is_remote else min(_find_most(model, device) for device in model.devices)
                ceiling = most if model.is_remote or model.device.type == "cuda" else CPU_CEILING
                rooms[memory_budget] = cls(min(most, ceiling), most_kept=most, together=model.tp_size > 1)
            else:
                rooms[memory_budget] = cls(int(memory_budget * 2**30), together=model.tp_size > 1)
        return rooms[memory_budget]

    def share(
        self,
        items: Sequence[Item],
        work: Callable[[Sequence[Item]], Found],
        *,
        each: int,
        fixed: int = 0,
        most: int | None = None,
        name: Callable[[Item], tuple[str | None, str]] | None = None,
    ) -> Iterator[tuple[Sequence[Item], Found]]:
        """Work on runs of items, as many at a time as fit, and yield each run with what came of it.

        Where a run takes more memory than there is, half of its items are tried again, and what these are thought to
        take is all that any later pass may take, of this work or of another one that has the same room. An item takes
        about ``each`` bytes and a pass ``fixed`` bytes beside its items. As long as memory does not run out, a pass has
        ``most`` items, whatever they take. ``name`` gives the prompt that an item is of, by id, if it is of one, and
        the item in words, with its size.

        Raises:
            OutOfRoom: A single item does not fit. What its failures seemed to tell is forgotten: without it, the others
                go at the size that they went before.
            MemoryError: It does not, and has no name: for the work around this one to be done in smaller parts.
        """
        start, known = 0, (self.bytes, self.ran_out)
        while start < len(items):
            fit = max(1, (self.bytes - fixed) // each)
            size = min(fit, most or fit) if self.ran_out else most or fit
            part = items[start : start + size]
            found, reason = _attempt(work, part)
            if not reason:
                yield part, found[0]
                start, known = start + len(part), (self.bytes, self.ran_out)
                continue
            if self.together:
                raise OutOfStep(
                    f"memory ran out ({reason}); with [model] tp_size a pass is not tried again in smaller parts, as "
                    f"all ranks would have to: set [run] memory_budget below {self.bytes / 2**30:.3g} (GiB)"
                )
            self.ran_out = True
            self.bytes = min(self.bytes, fixed + each * (len(part) // 2))
            if len(part) == 1:
                if name is None:
                    raise MemoryError(reason)
                self.bytes, self.ran_out = known
                raise _describe_failure(*name(part[0]), reason)


_ROOMS: "WeakKeyDictionary[Model, dict[float | None, Room]]" = WeakKeyDictionary()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _find_most(model: Model, device: torch.device) -> int:
    """Bytes that a pass may take of one of the model's devices."""
    if device.type == "cuda":
        total = int(torch.cuda.get_device_properties(device).total_memory)
        most = max(1, min(total // 4, (total - count_bytes(model.module).get(device, 0)) // 2))
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept by this process
        if free < most:
            warnings.warn(
                f"{device} has {free / 2**30:.2g} GiB free, and passes are made for {most / 2**30:.2g}, of all that it "
                "has: something else takes the rest; [run] memory_budget makes smaller ones",
                Notice,
                stacklevel=4,
            )
        return most
    return int(psutil.virtual_memory().total // 4)


def _describe_failure(prompt_id: str | None, item: str, reason: str) -> OutOfRoom:
    message = (
        f"{item} does not fit in memory, not even alone in a pass ({reason}); shorten it or leave it out, load the "
        "model in half precision, or run on a device with more memory"
    )
    return OutOfRoom(message, item=item.rstrip(","), prompt_id=prompt_id)


def _attempt(work: Callable[[Sequence[Item]], Found], part: Sequence[Item]) -> tuple[list[Found], str]:
    """What came of the work, or why memory did not suffice; the error, which holds the pass's arrays, is let go."""
    try:
        return [work(part)], ""
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
    torch.cuda.empty_cache()
    return [], reason

"""Processes that share one model: rank 0 decides, writes and talks, and the others make every pass along with it.

What is asked of the model goes to all of them as a function and its arguments, through the store that torchrun's
processes meet in; so it works whatever the ranks are busy with, and they exchange nothing else but the parts of passes.
"""

import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import timedelta
from functools import cached_property
from typing import Any, TextIO

import torch
from torch import distributed

from completions_lp.checkpoint import OutOfStep, Rank, find_rank
from completions_lp.model import Model, load_model
from completions_lp.records import InputError
from completions_lp.work.hands import Hands, SomePiece, try_task
from completions_lp.work.tasks import Done

PATIENCE = timedelta(days=30)
"""How long a rank waits for what to do next: another one may be writing a long report, or its user thinking."""
BEHIND = timedelta(seconds=float(os.environ.get("COMPLETIONS_LP_BEHIND", "60")))
"""How long rank 0 may take to come to the error that another one came to."""
_END = b""


class Channel:
    """What rank 0 asks of the others, in order."""

    def __init__(self, rank: Rank) -> None:
        self.rank, self.number = rank, 0
        self.kept: list[int] = []
        """Numbers of what the store still holds."""
        if not distributed.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend)
        common = distributed.distributed_c10d._get_default_store()
        self.store: Any = distributed.distributed_c10d.PrefixStore(__name__, common)

    def send(self, order: bytes) -> int:
        """Ask the others for something; returns its number."""
        self.number += 1
        self.store.set(f"order {self.number}", order)
        self.kept.append(self.number)
        while self.kept and self.store.add(f"read {self.kept[0]}", 0) == self.rank.size - 1:
            self.store.delete_key(f"order {self.kept.pop(0)}")
        return self.number

    def receive(self) -> bytes:
        """What is asked next."""
        self.number += 1
        self.store.wait([f"order {self.number}"], PATIENCE)
        order = bytes(self.store.get(f"order {self.number}"))
        self.store.add(f"read {self.number}", 1)
        return order

    def enter(self, number: int, how: str) -> None:
        """Say that rank 0 has done what it asked for, or how that has failed."""
        self.store.set(f"done {number}", how)

    def look_up(self, number: int) -> str | None:
        """How it went at rank 0; None where it has not come to an end in time."""
        try:
            self.store.wait([f"done {number}"], BEHIND)
        except (RuntimeError, ValueError):
            return None
        return str(self.store.get(f"done {number}").decode())


_CHANNEL: list[Channel] = []


def open_channel() -> Channel:
    """That of this process, opened once."""
    if not _CHANNEL:
        _CHANNEL.append(Channel(find_rank()))
    return _CHANNEL[0]


class Together(Hands):
    """This process and those that share its model."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._key = repr(sorted(self._options.items(), key=str))
        if not find_rank().leads:
            raise InputError(
                f"rank {find_rank().number} of {find_rank().size} cannot make a run: start all of them with torchrun "
                "-m completions_lp run; in Python, all ranks call load_model and what takes a model"
            )

    @cached_property
    def model(self) -> Model:
        """The model, which all ranks load."""
        return self._ask(None, self._options)  # type: ignore[no-any-return]

    def do(self, pieces: Sequence[SomePiece], title: str = "") -> Iterator[tuple[SomePiece, Done | InputError]]:
        """In the order in which they are given."""
        for piece in pieces:
            yield piece, self.call(try_task, piece.make())

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives of the model and these arguments, here as with all others."""
        _ = self.model
        return self._ask(function, arguments)

    def _ask(self, function: Callable[..., Any] | None, arguments: Any) -> Any:
        channel = open_channel()
        number, how = channel.send(pickle.dumps((self._key, function, arguments))), "failed"
        try:
            found = load_model(**arguments) if function is None else function(self.model, *arguments)
            how = "done"
        except InputError as error:
            how = "failed" if isinstance(error, OutOfStep) else type(error).__name__
            raise
        finally:
            channel.enter(number, how)
        return found


def dismiss() -> None:
    """Let the other ranks end: this one has nothing more to ask."""
    open_channel().send(_END)


def follow() -> int:
    """Do what rank 0 asks, in silence, until it ends; returns the exit code."""
    channel, out = open_channel(), sys.stderr
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
        try:
            _follow(channel, out)
        except KeyboardInterrupt:  # of which rank 0 tells
            return 130
    return 0


def _follow(channel: Channel, out: TextIO) -> None:
    models = dict[str, Model]()
    while order := channel.receive():
        key, function, arguments = pickle.loads(order)  # noqa: S301  of our own rank 0
        try:
            if function is None:
                models[key] = load_model(**arguments)
            else:
                function(models[key], *arguments)
        except InputError as error:  # which rank 0 has come to, too, unless something is wrong here alone
            if isinstance(error, OutOfStep) or channel.look_up(channel.number) != type(error).__name__:
                out.write(f"completions-lp: rank {channel.rank.number} of {channel.rank.size}: {error}\n")
                out.flush()
                os._exit(2)  # the others wait for it within a pass: torchrun ends them

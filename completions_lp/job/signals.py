"""Signals that end a run: what is open is closed, what is done is kept, and a message says how to go on."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 2.0
"""Seconds in which a run that was told to end may do so."""


@contextmanager
def end_on_signals(found: list[int]) -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, once; ``found`` is an empty list, to which the number comes.

    More of them change nothing at first (a terminal and the program that started us may both send one). After
    ``PATIENCE`` seconds one ends the process at once, as SIGKILL does at any time without a loss.
    """
    since = 0.0

    def stop(number: int, _: object) -> None:
        nonlocal since
        if not found:
            found.append(number)
            since = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - since > PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if not found:  # otherwise the process is about to end
            for number, handler in before.items():
                signal.signal(number, handler)

"""How far a run is: on the screen as a bar, and in a file for whoever asks meanwhile."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from completions_lp import store

EVERY = 2.0
"""Seconds between two writes of the file, at least."""


class Progress:
    """What a run is at. Without a folder, on the screen alone; with ``show`` false, not there either."""

    def __init__(self, folder: Path | None, *, show: bool) -> None:
        self._folder, self._show = folder, show
        self._bar: Any = None
        self._now: dict[str, Any] = {}
        self._written = 0.0
        self._there = False

    @contextmanager
    def begin(
        self, title: str, total: int, unit: str, *, work: float = 0.0, leave: bool = True
    ) -> Iterator[Callable[..., Any]]:
        """Something that has so many parts; what it yields is called as some are done.

        Where ``work`` is given, what is left is estimated by it: parts may differ in size.
        """
        if not title:
            yield lambda *_, **__: None
            return
        outer = self._bar, self._now
        self._now = {"title": title, "unit": unit, "done": 0, "total": total, "since": time.time(), "tokens": 0}
        self._now |= {"work": 0.0, "whole": work} if work else {}
        quiet = not (self._show and total)
        with tqdm(total=total, desc=title, unit=unit, disable=quiet, leave=leave) as self._bar:
            self._write()
            try:
                yield self._step
            finally:
                self._bar, self._now = outer

    def _step(self, n: int, *, tokens: int = 0, work: float = 0.0) -> None:
        self._now["done"] += n
        self._now["tokens"] += tokens
        if work:
            self._now["work"] += work
        self._bar.update(n)
        self._write()

    def show(self, workers: Sequence[dict[str, Any]]) -> None:
        """What each worker does now."""
        self._now["workers"] = list(workers)
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(describe_workers(self._now, brief=True), refresh=True)
        self._write()

    def say(self, text: str) -> None:
        """What one waits for."""
        self._now["waits"] = text
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=True)
        self._write()

    def end(self) -> None:
        """Nothing is done any more."""
        if self._there and self._folder is not None:
            store.drop_progress(self._folder)
            self._there = False

    def _write(self) -> None:
        now = time.monotonic()
        if self._folder is not None and self._now.get("title") and now - self._written > EVERY:
            store.write_progress(self._folder, {**self._now, "updated": time.time()})
            self._written, self._there = now, True


def describe_workers(now: dict[str, Any], *, brief: bool = False) -> str:
    """Tokens per second, and what workers do: of a few each, of many how many do what."""
    seconds = max(time.time() - now.get("since", time.time()), 1e-9)
    rate = f"{now.get('tokens', 0) / seconds:,.0f} tokens/s"
    workers = now.get("workers", [])
    if len(workers) <= 4:
        doing = [f"{one['number']}: {one['doing']}" for one in workers]
    else:
        words = [one["doing"].partition(" of ")[0] for one in workers]
        doing = [f"{words.count(word)} {word}" for word in dict.fromkeys(words)]
    return ", ".join([rate, *doing]) if brief else "; ".join(doing)

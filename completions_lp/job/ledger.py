"""The ledger of a run: what is made and of what, whose files they are, what it took; kept in ``run.json``."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from completions_lp import store
from completions_lp.job.config import Config
from completions_lp.job.hire import hire_crew
from completions_lp.job.inputs import Inputs
from completions_lp.job.places import find_place
from completions_lp.job.provenance import (
    CONSUMED,
    NEEDS,
    check_earlier,
    check_model,
    describe_stage,
    find_reasons,
    list_changed,
    list_outdated,
    list_stale,
    tell_removed,
)
from completions_lp.job.rivals import RivalUnits
from completions_lp.job.sources import hash_sources
from completions_lp.model import Model, Usage
from completions_lp.records import Dose, InputError, OutOfRoom, Prompt, SteeringVector
from completions_lp.sample.functions import hash_function, refuse_name
from completions_lp.work.crew import Crew
from completions_lp.work.machine import describe_machine, list_versions, read_peak, reset_peak
from completions_lp.work.progress import Progress

Made = TypeVar("Made")


@dataclass(frozen=True)
class Options:
    """How a run behaves; nothing here changes a number."""

    tokens: bool = False
    """Keep every condition in ``tokens.parquet``, not only a few."""
    progress: bool = True
    fresh: bool = False
    """Begin anew in a directory that already holds a run, instead of going on with it."""
    tell: Callable[[str], None] = lambda _: None
    """Gets what the user should know while it runs, such as which tables a stage has removed."""
    expected: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By stage, what is to be consumed, where a stored run is done again: with anything else nothing is done."""
    function: str = ""
    """The label function that the user's own command, file or code names: no other one is imported or called."""


class Ledger(Inputs):
    """A run directory that is held while a run works in it; without a folder, nothing is read or written."""

    units: RivalUnits
    """Of the step at work."""

    def __init__(self, config: Config, folder: str | Path | None = None, *, options: Options | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.options = options or Options()
        self.info: dict[str, Any] = {"stages": {}, "files": []}
        self.has_worked = False
        """Whether a stage was done, and not found as it should be."""
        self.doses: tuple[Dose, ...] = ()
        """Of the score stage, once they are settled."""
        self.vectors_made: tuple[SteeringVector, ...] = ()
        """Of a run as a whole, once they are there."""
        self.progress = Progress(self.folder, show=self.options.progress)
        self._depth, self._whole = 0, False
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._units: set[str] = set()
        self._failed: dict[str, str] = {}
        if self.folder is not None and (self.folder / "run.json").is_file():
            self.info = store.read_info(self.folder)
        super().__init__(config, self.info.get("model"), function=self.options.function)
        self._follow()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other processes out of the run directory, and begin with what it holds now; end all workers after."""
        if self.folder is not None and not self._depth and self.config.run.store is not None:
            store.check_place(store.open_place(self.config.run.store))
        with nullcontext() if self.folder is None or self._depth else store.hold_run(self.folder):
            if self.folder is not None and not self._depth and (self.folder / "run.json").is_file():
                self.info = store.read_info(self.folder)
                if self.options.fresh:
                    self._start_afresh(self.folder)
                self._follow()
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    self._let_go()

    def _let_go(self) -> None:
        """End all workers, and leave nothing that only a run at work has."""
        crew = self.__dict__.get("crew")
        if crew is not None and self._owner is None:
            crew.close()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
        self.progress.end()

    @cached_property
    def crew(self) -> Crew | None:
        """The workers of the run, if it has any beside this process."""
        if self._owner is not None:
            return self._owner.crew
        return hire_crew(self, self.progress, self.options.tell)

    def say(self, text: str) -> None:
        """Show what a server says while one waits for it."""
        self.progress.say(text)

    @property
    def place(self) -> store.Place | None:
        """Where units are kept: in the run directory or a store; with workers in any case, for as long as they work."""
        found = find_place(self.config, self.folder)
        if found is not None or not self.hands.many:
            return found
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="clp-units-")
        return Path(self._scratch.name)

    @property
    def _directory(self) -> Path:
        if self.folder is None:
            raise InputError("this run has no directory to read from; give it one")
        return self.folder

    def _follow(self) -> None:
        """Enter the configuration: what is made from now on follows it."""
        self.info |= {"config": self.config.model_dump(), "seed": self.config.sampling.seed}

    def _start_afresh(self, folder: Path) -> None:
        """Remove all that the run in the directory has made."""
        dropped = {"stages": {}, "files": [], "config": self.config.model_dump()}
        before, self.info = self.info, dropped
        store.write_info(folder, {**dropped, "files": before.get("files", [])})
        store.drop_stages(folder, before, list(store.STAGES))
        store.remove_units(folder, [*store.list_units(folder)])
        store.write_info(folder, dropped)

    def _claim(self, *names: str) -> None:
        store.claim_files(self._directory, self.info, names)

    @property
    def known_rivals(self) -> Mapping[str, Any]:
        """What the run has recorded of rivals' networks, by name."""
        return dict(self.info.get("rivals", {}))

    def _list_open(self) -> list[Model]:
        """The models whose weights are in memory."""
        own = [self.model] if self.is_open else []
        others = [rival.network for rival in self.rivals if rival.network is not self]
        return [*own, *(network.model for network in others if network.is_open)]

    def _count_usage(self) -> Usage:
        """What went through all networks of the run so far."""
        found = [model.usage for model in reversed(self._list_open())]  # the run's own, whose engine counts, the last
        usage = Usage()
        for one in ([] if self.crew is None else [self.crew.usage]) + found:
            usage.enter(one)
        return usage

    def _is_made(self, stage: str, consumed: Mapping[str, str]) -> bool:
        if self.folder is None:
            return False
        if not self._whole:
            check_earlier(stage, self.info["config"], self.info["stages"], self.folder)
        return not find_reasons(stage, self.info["config"], self.info["stages"], self.folder, consumed)

    def _check_earlier(self, stage: str) -> None:
        """Raise InputError unless the stages whose tables this one reads are valid."""
        if self.folder is None:
            return
        check_earlier(stage, self.info["config"], self.info["stages"], self.folder)
        check_model(stage, self.network, self.info["stages"], self.folder)
        for earlier in NEEDS[stage]:
            for changed in list_changed(earlier, self.info["stages"], self.folder):
                raise InputError(f"{self.folder}: {changed}; run `completions-lp {earlier} {self.folder}` again first")

    def _consume(self, stage: str) -> dict[str, str]:
        """What one of the first two stages reads, as hashes."""
        if stage == "vector":
            return {**self.describe_network(), **self.hash_vector()}
        return {**self.describe_network(), "prompts": self.hash_prompts(), **self._hash_function()}

    def _hash_function(self) -> dict[str, str]:
        """Stands for what labels by a function of the user's own: what it is now, or was, where it may not be asked."""
        function = self.labelling.function
        if not isinstance(function, str):
            return {"function": hash_function(function)}
        known: str | None = self.info["stages"].get("sample", {}).get("consumed", {}).get("function")
        if function and known is None:
            refuse_name(function)
        return {} if known is None or not function else {"function": known}

    def _check_expected(self, stage: str, consumed: Mapping[str, str]) -> None:
        """Raise InputError where a stored run is to be done again and what a stage reads is not what it was."""
        for word, expected in self.options.expected.get(stage, {}).items():
            if word in consumed and consumed[word] != expected:
                raise InputError(f"{CONSUMED[word]} of the stored run: it cannot be done again as it was")

    @contextmanager
    def _stage(self, name: str, consumed: Mapping[str, str]) -> Iterator[None]:
        """A stage that writes tables: those that it makes stale go first; what it is made of goes into ``run.json``."""
        if not self.has_worked:
            self.info["work"] = {}
        config, made, self.has_worked = self.info["config"], self.info["stages"], True
        if self.folder is not None:
            self._check_earlier(name)
            stale = list_stale(name, config, made)
            for later in (name, *stale):
                made.pop(later, None)
            store.start_run(self.folder, self.info)  # first of all, tables that are about to go are no longer valid
            dropped = store.drop_stages(self.folder, self.info, [name, *stale])
            again = {file for later in (store.STAGES if self._whole else (name,)) for file in store.STAGES[later]}
            removed = tell_removed(name, dropped, again, self.folder)
            if removed:
                self.options.tell(removed)
            for earlier, followed in list_outdated(name, config, made).items():
                self.options.tell(
                    f"{name}: the {earlier} stage followed {followed} and is stale now; "
                    f"`completions-lp {earlier} {self.folder}` makes it again"
                )
        self._units, self._failed = set(), {}
        yield
        if self.folder is not None:
            made[name] = describe_stage(name, self.info, self.folder, consumed=consumed, units=self._units)
            made[name] |= {"sources": hash_sources(self.config).get(name, {}), "failed": self._failed}
            store.write_info(self.folder, self.info)
        else:
            made[name] = {"failed": self._failed}

    def open_units(self) -> RivalUnits:
        """The units of a step, none of which has been looked for yet."""
        return RivalUnits(
            self.hands,
            self.network,
            self.config.run.memory_budget,
            self.place,
            rivals={rival.section.name: rival for rival in self.rivals},
        )

    @contextmanager
    def time(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step and count its tokens; what it left in the notes goes into ``run.json`` with them.

        ``timings`` and ``token_counts`` are of all that the tables hold, ``work`` of what was done this time.
        """
        self.units = self.open_units()
        before = self._count_usage()
        start = time.perf_counter()
        notes: dict[str, Any] = {}
        reset_peak()
        yield notes
        self.units.close()
        seconds, used = time.perf_counter() - start, self._count_usage()
        whole = used.since(before)
        spent = whole.counts
        found = [took for unit, took in self.units.used.items() if unit not in self.units.made]
        for took in found:
            whole.enter(Usage.of(took))
        self.info.setdefault("timings", {})[name] = round(seconds + sum(took["seconds"] for took in found), 3)
        self.info.setdefault("memory", {})[name] = round(read_peak(), 3)
        self.info.setdefault("token_counts", {})[name] = whole.counts
        if spent["passes"] and used.engine:
            self.info.setdefault("engines", {})[name] = used.engine
        work = {**spent, "seconds": round(seconds, 3), "units_made": len(self.units.made), "units_found": len(found)}
        self.info.setdefault("work", {})[name] = work
        self.info |= {"machine": describe_machine(), "model": dict(self.network), "versions": list_versions(), **notes}
        self._units |= set(self.units.used)
        if self.folder is not None:
            store.write_info(self.folder, self.info)

    def spare(self, prompts: Sequence[Prompt], work: Callable[[Sequence[Prompt]], Made]) -> Made:
        """Work on prompts; one that does not fit in memory, not even alone, is left out, and the others go on.

        What was finished of them is found in its units. Raises OutOfRoom where no prompt is left.
        """
        while True:
            try:
                return work([prompt for prompt in prompts if prompt.id not in self._failed])
            except OutOfRoom as error:
                if error.prompt_id is None or len(self._failed) + 1 == len(prompts):
                    raise
                self._failed[error.prompt_id] = str(error)
                self.options.tell(f"{error}; left out")

"""A share of a run: units of some of its prompts, for the run to find; no table is written, and no lock is taken.

Many machines each do a share at once. A share takes its prompts a few at a time, draws from them and scores them, and
lets go of them before it takes the next few: its memory does not grow with the prompts or the conditions of the run.
Which prompts go together follows from the work alone, not from how many shares there are.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from completions_lp import store
from completions_lp.job.config import Config
from completions_lp.job.dosing import Dosing, choose_prompts, find_norms
from completions_lp.job.ledger import Options
from completions_lp.job.places import find_place
from completions_lp.job.provenance import find_reasons
from completions_lp.job.stages import Run
from completions_lp.records import Condition, InputError, OutOfRoom, Prompt, SteeringVector, pick_letters
from completions_lp.work.batches import measure_unit, split_work

TOGETHER = 8
"""Prompts that go together at least, where there are many: fewer would leave a device idle as they are drawn from."""
APART = 64
"""Groups there are at least before prompts go together for that: fewer could not be dealt out to machines evenly."""


class Share(Run):
    """One of ``count`` shares, by its number from 0 on, of the run that a directory holds the vectors of."""

    def __init__(self, config: Config, folder: Path, number: int, count: int, *, options: Options) -> None:
        if not 0 <= number < count:
            raise InputError(f"--part {number}/{count}: parts are numbered from 0 to {count - 1}")
        super().__init__(config, None, options=replace(options, progress=False))
        self._conditions: tuple[Condition, ...] | None = None
        self._run, self._number, self._count, self._shown = folder, number, count, options.progress
        info = store.read_info(folder)
        self.info["rivals"] = info.get("rivals", {})
        self._known = info.get("model") or {}  # else each machine would read all weights to know whose they are
        reasons = find_reasons("vector", config.model_dump(), info["stages"], folder)
        if reasons:
            raise InputError(
                f"{folder}: a share needs the vectors of the run, and theirs are not to be had: {reasons[0]}; run "
                f"`completions-lp vector {folder}` first, once for all shares"
            )

    @property
    def place(self) -> store.Place | None:
        """Where the run looks for its units."""
        return find_place(self.config, self._run)

    def work(self) -> int:
        """Do what is missing of this share; returns how many units were made."""
        with self.hold():  # of nothing but workers, which end with it
            self.check_prompts()
            self.check_rivals()
            pick_letters(self.prompts, self.config.label.target)
            return self._work_through(store.read_vectors(self._run))

    def _work_through(self, vectors: Sequence[SteeringVector]) -> int:
        self.units = self.open_units()
        groups = self.split()[self._number :: self._count]
        with tqdm(total=sum(map(len, groups)), desc="share", unit="prompt", disable=not self._shown) as bar:
            for prompts in groups:
                try:
                    self._do(prompts, vectors)
                except OutOfRoom as error:
                    self.options.tell(f"{error}; left to the run itself")
                self.units.used.clear()
                bar.update(len(prompts))
        self.units.close()
        return len(self.units.made)

    def split(self) -> list[list[Prompt]]:
        """The prompts of the run in groups, by the work that they are; long ones first."""
        prompts, sampling = self.prompts, self.config.sampling
        conditions = len(self.make_conditions(store.read_vectors(self._run)))
        together = max(1, min(TOGETHER, len(prompts) // APART))
        unit = max(measure_unit(self.network), together)
        size = min(sampling.draws * sampling.max_new_tokens * (1 + conditions), unit // together)
        return [[prompts[i] for i in batch] for batch in split_work(prompts, [size] * len(prompts), unit)]

    def _settle_all(self, vectors: Sequence[SteeringVector]) -> Sequence[Condition]:
        """The conditions of the run, whose multipliers may hang on a few of all its prompts: settled once."""
        asked = self.make_conditions(vectors)
        if self.config.scoring.unit == "vector":
            return asked
        if self._conditions is None:
            some = [self.prompts[i] for i in choose_prompts(self.prompts, self.config)]
            sample = self._draw(some, self.config.sampling, self.labelling)
            self._conditions = Dosing(self, vectors).settle(asked, sample, find_norms(self, sample))[0]
        return self._conditions

    def _do(self, prompts: Sequence[Prompt], vectors: Sequence[SteeringVector]) -> None:
        """Draw from a few prompts, and score them, as the stages of a run do."""
        conditions = self._settle_all(vectors)
        completions = self._draw(prompts, self.config.sampling, self.labelling)
        if all(prompt.is_read_out for prompt in prompts):
            self._read(completions, vectors, conditions)
        self._score(completions, vectors, conditions, keep_all=False)


def work_share(config: Config, folder: Path, part: str, *, options: Options) -> int:
    """Do a share, ``NUMBER/COUNT``, of the run of a directory; returns how many units were made.

    Raises:
        InputError: There is no such share, or the directory does not have the vectors of this configuration.
    """
    number, _, count = part.partition("/")
    if not (number.isascii() and number.isdigit() and count.isascii() and count.isdigit() and int(count)):
        raise InputError(f"--part {part!r}: write NUMBER/COUNT, such as 0/16 for the first of sixteen")
    return Share(config, folder, int(number), int(count), options=options).work()

"""A run: configuration -> stages in order -> run directory. The only module that knows every stage."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from completions_lp import store
from completions_lp.job.config import EMBEDDED, Config, load_config, make_config
from completions_lp.job.inputs import Inputs
from completions_lp.job.machine import describe_machine, list_versions, read_peak, reset_peak
from completions_lp.job.provenance import check_earlier, check_model, describe_stage, join_names, list_stale
from completions_lp.job.results import load, write_report
from completions_lp.job.validation import validate_cells
from completions_lp.model import Usage, check_conditions
from completions_lp.plan.validation import Validation, choose_cells, pick_cells
from completions_lp.records import Choices, Completions, InputError, Report, Scores, SteeringVector, pick_letters
from completions_lp.report import summarize
from completions_lp.report.best import pick_best
from completions_lp.sample.draws import sample_completions
from completions_lp.score.choices import read_choices
from completions_lp.score.parts import score_completions
from completions_lp.score.profile import summarize_profile
from completions_lp.score.topup import top_up


def run(
    config: str | Path | Config | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    tokens: bool = False,
    progress: bool = True,
    **sections: Mapping[str, Any],
) -> Report:
    """The whole job: vectors, completions, scores and the report.

    Args:
        config: A TOML file or a configuration; by default the run of the embedded model.
        out: A run directory to write; by default nothing is written, and the report holds everything but the vectors.
        overwrite: Replace a run that ``out`` already holds.
        tokens: Keep every condition in ``tokens.parquet``, not only a few.
        progress: Show progress bars.
        sections: Keys of the configuration to override, by section: ``sampling={"n": 50}``.

    Returns:
        The report: means over prompts with their intervals, in nats and percentage points.

    Raises:
        InputError: Something in the configuration or the input is wrong, or ``out`` already holds a run.
    """
    base = config if isinstance(config, Config) else load_config(config or EMBEDDED)
    values = base.model_dump()
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **dict(section)}
    whole = make_config(values)
    if out is not None and (Path(out) / "run.json").exists() and not overwrite:
        raise InputError(f"{out} already holds a run; give another out, or overwrite=True to replace it")
    return Run(whole, out, options=Options(tokens=tokens, progress=progress, fresh=overwrite)).all()


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


class Run(Inputs):
    """A run and its stages, each from the records of earlier ones, or else from what they left in the directory.

    All that can be is checked before the network works or anything is written; without a directory nothing is.
    """

    def __init__(self, config: Config, folder: str | Path | None = None, *, options: Options | None = None) -> None:
        super().__init__(config)
        self.folder = None if folder is None else Path(folder)
        self.options = options or Options()
        self.info: dict[str, Any] = {"stages": {}}
        if self.folder is not None and (self.folder / "run.json").is_file():
            before = store.read_info(self.folder)
            if self.options.fresh:
                store.drop_stages(self.folder, list(store.STAGES))
            else:
                self.info = before
        self.info |= {"config": config.model_dump(), "seed": config.sampling.seed}

    @classmethod
    def open(cls, folder: str | Path, *, options: Options | None = None) -> "Run":
        """The run that a directory holds, with the configuration it was made with."""
        return cls(make_config(store.read_info(Path(folder))["config"]), folder, options=options)

    def all(self) -> Report:
        """The whole job, from record to record."""
        self.check()
        vectors = self.vector()
        completions = self.sample()
        scores, choices = self.score(completions, vectors)
        return self.report(scores, choices, vectors)

    def check(self) -> None:
        """Raise InputError for whatever is wrong with the input of any stage, before any work is done."""
        self.check_prompts()
        self.check_vector()

    def vector(self) -> tuple[SteeringVector, ...]:
        """Stage 1: the target vector and its controls, in the precision in which they are stored."""
        self.check_vector()
        with self._stage("vector") as notes:
            vectors = tuple(vector.round() for vector in self.make_vectors(progress=self.options.progress))
            if self.folder is not None:
                store.write_vectors(self.folder, vectors)
            quality = {str(layer): vars(q) for layer, q in vectors[0].quality.items()}
            notes["vector"] = {"n_pairs": vectors[0].provenance.get("n_pairs"), "quality": quality}
        return store.sort_vectors(vectors)

    def sample(self) -> Completions:
        """Stage 2: completions of the unsteered model, labelled."""
        self.check_prompts()
        with self._stage("sample"):
            completions = sample_completions(
                self.model, self.prompts, sampling=self.config.sampling, labelling=self.config.labelling, **self._common
            )
            if self.folder is not None:
                store.write_completions(self.folder, completions)
        return completions

    def score(
        self, completions: Completions | None = None, vectors: Sequence[SteeringVector] | None = None
    ) -> tuple[Scores, Choices]:
        """Stage 3: the same token ids under every condition, and the two-choice read-out; by default as stored."""
        if completions is None or vectors is None:
            self._check_earlier("score")
            sampling, labelling = self.config.sampling, self.config.labelling
            completions = store.read_completions(self._directory, sampling=sampling, labelling=labelling)
            vectors = store.read_vectors(self._directory)
        conditions, common = self.make_conditions(vectors), {"target": self.config.label.target, **self._common}
        check_conditions(self.model, vectors, conditions)
        pick_letters(completions.prompts, self.config.label.target)
        tokens = nullcontext() if self.folder is None else store.open_tokens(self.folder)
        with self._stage("score"), tokens as keep:
            scores = score_completions(
                self.model,
                completions,
                vectors,
                conditions,
                kl=self.config.scoring.kl,
                keep=keep,
                keep_all=self.options.tokens,
                **common,
            )
            if self.config.sampling.top_up:
                measures, drawn = top_up(self.model, completions, vectors, scores.measures, **common)
                scores = replace(scores, measures=measures)
                if drawn and self.folder is not None:
                    store.write_steered(self.folder, drawn)
            if self.folder is not None:
                store.write_increases(self.folder, scores.increases)
                store.write_measures(self.folder, scores.measures)
                store.write_profile(self.folder, summarize_profile(scores.profile))
        with self._time("choices"):
            choices = read_choices(self.model, completions.prompts, vectors, conditions, **common)
            if self.folder is not None:
                store.write_choices(self.folder, choices)
        return scores, choices

    def report(self, scores: Scores, choices: Choices, vectors: Sequence[SteeringVector]) -> Report:
        """Stage 4: the numbers of the paper. From the stored tables alone: ``results.make_report``."""
        start = time.perf_counter()
        report = summarize(scores, choices, target=self.config.label.target, seed=self.config.sampling.seed)
        quality = next((vector.quality for vector in vectors if vector.kind == "target"), {})
        report = replace(report, tokens=scores.tokens, quality=quality, info=self.info)
        if self.folder is not None:
            report = write_report(report, self.folder, start)
        self.info = dict(report.info)
        return report

    def validate(self, *, layers: Sequence[int] = (), multipliers: Sequence[float] = (), draws: int = 50) -> Validation:
        """Draw from the steered model in cells of the target vector (see ``choose_cells``), beside the estimates."""
        report = load(self._directory)
        measures, target = report.measures, self.config.label.target
        if measures is None or report.increases is None:
            raise InputError(f"{self.folder}: nothing is estimated there; run the score stage first")
        if layers or multipliers:
            conditions = pick_cells(measures, layers=layers, multipliers=multipliers)
        else:
            conditions = choose_cells(measures, best=pick_best(report).condition)
        check_model("report", self.model.describe(), self.info["stages"], self._directory)
        with self._time("validate"):
            completions, vectors = report.increases.completions, store.read_vectors(self._directory)
            validation = validate_cells(
                self.model, completions, vectors, measures, conditions, target=target, draws=draws, **self._common
            )
            counted = {"n": validation.draws, "n_A": validation.hits, "share": validation.share}
            low, high = validation.limits
            store.write_validation(self._directory, validation.measures, {**counted, "low": low, "high": high})
        return validation

    @property
    def _directory(self) -> Path:
        if self.folder is None:
            raise InputError("this run has no directory to read from; give it one")
        return self.folder

    @property
    def _common(self) -> dict[str, Any]:
        return {"memory_budget": self.config.run.memory_budget, "progress": self.options.progress}

    def _check_earlier(self, stage: str) -> None:
        if self.folder is not None:
            check_earlier(stage, self.info["config"], self.info["stages"], self.folder)

    @contextmanager
    def _stage(self, name: str) -> Iterator[dict[str, Any]]:
        """A stage that writes tables: those that it makes stale go first; what it followed goes into ``run.json``."""
        self._check_earlier(name)
        config, made = self.info["config"], self.info["stages"]
        if self.folder is not None:
            check_model(name, self.model.describe(), made, self.folder)
            store.start_run(self.folder, self.info)
            stale = list_stale(name, config, made)
            dropped = store.drop_stages(self.folder, [name, *stale])
            told = [file for file in dropped if file not in store.STAGES[name]]
            if told:
                self.options.tell(
                    f"{name}: {join_names(told)} of an earlier {name} stage no longer hold and are removed"
                )
            for later in (name, *stale):
                made.pop(later, None)
        with self._time(name) as notes:
            yield notes
            made[name] = describe_stage(name, config, self.model.describe())

    @contextmanager
    def _time(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step and count its tokens; what it left in the notes goes into ``run.json`` with them."""
        before = replace(self.model.usage) if "model" in self.__dict__ else None
        start = time.perf_counter()
        notes: dict[str, Any] = {}
        reset_peak()
        yield notes
        self.info.setdefault("timings", {})[name] = round(time.perf_counter() - start, 3)
        self.info.setdefault("memory", {})[name] = round(read_peak(), 3)
        used, before = self.model.usage, before or Usage()
        spent = {"tokens": used.tokens - before.tokens, "passes": used.passes - before.passes}
        self.info.setdefault("token_counts", {})[name] = spent
        self.info |= {
            "machine": describe_machine(),
            "model": self.model.describe(),
            "versions": list_versions(),
            **notes,
        }
        if self.folder is not None:
            store.write_info(self.folder, self.info)

"""A run: configuration -> stages in order -> run directory. The only module that knows every stage."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from completions_lp import store
from completions_lp.job.checkup import check_instrument
from completions_lp.job.config import EMBEDDED, Config, load_config, make_config
from completions_lp.job.dosing import settle_doses
from completions_lp.job.inputs import hash_completions
from completions_lp.job.ledger import Ledger, Options
from completions_lp.job.nested import check_sets, hash_sets, join_sets, run_sets
from completions_lp.job.provenance import check_model, find_reasons
from completions_lp.job.results import load, tell_found, write_report, write_scores
from completions_lp.job.scoring import Scoring
from completions_lp.job.toml import replace_keys
from completions_lp.job.validation import validate_cells
from completions_lp.job.vector_files import tell_origins
from completions_lp.model import Model
from completions_lp.plan.validation import Validation, choose_cells, pick_cells
from completions_lp.records import (
    Choices,
    Completions,
    Condition,
    InputError,
    Labelling,
    Prompt,
    Report,
    Sampling,
    Scores,
    SteeringVector,
    pick_letters,
)
from completions_lp.report import summarize
from completions_lp.report.best import pick_best
from completions_lp.sample.completions import collect_completions
from completions_lp.score.profile import summarize_profile
from completions_lp.score.windows import Windows
from completions_lp.show.escape import escape_rows
from completions_lp.work.hashes import hash_vectors


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

    What a run directory holds already, whole or in part, is not done again: a run that was stopped goes on, and one
    with more prompts, draws, layers, multipliers or vectors than before does only these.

    Args:
        config: A TOML file or a configuration; by default the run of the embedded model.
        out: A run directory to write; by default nothing is written, and the report holds everything but the vectors.
        overwrite: Begin afresh where ``out`` holds a run.
        tokens: Keep every condition in ``tokens.parquet``, not only a few.
        progress: Show progress bars.
        sections: Keys of the configuration to override, by section: ``sampling={"n": 50}``.

    Returns:
        The report: means over prompts with their intervals, in nats and percentage points.

    Raises:
        InputError: Something in the configuration or the input is wrong, ``out`` holds files that are not of a run, or
            another process is at work there.
    """
    base = config if isinstance(config, Config) else load_config(config or EMBEDDED)
    values = base.model_dump()
    for name, section in sections.items():
        values[name] = replace_keys(values.get(name, {}), section)
    made = make_config(values)
    options = Options(tokens=tokens, progress=progress, fresh=overwrite, function=made.label.function)
    return Run(made, out, options=options).all()


class Run(Ledger):
    """A run and its stages, each from the records of earlier ones, or else from what they left in the directory.

    A stage whose tables are valid is not done again. Without a directory nothing is written.
    """

    @classmethod
    def open(cls, folder: str | Path, *, options: Options | None = None) -> "Run":
        """The run that a directory holds, with the configuration it was made with."""
        return cls(make_config(store.read_info(Path(folder))["config"]), folder, options=options)

    def all(self) -> Report:
        """The whole job, from record to record."""
        with self.hold():
            self._whole = True
            consumed = {stage: self._consume(stage) for stage in ("sample", "vector")}
            for stage, read in consumed.items():
                self._check_expected(stage, read)
            if not all(self._is_made(stage, read) for stage, read in consumed.items()):
                self.check()
            vectors, completions = self.vector(), self.sample()
            scored = self.score(completions, vectors)
            self.vectors_made = vectors
            # Off-target sets are scored where the vector does most, which the report tells.
            report = load(self._directory, sets=False) if scored is None else self.report(*scored, vectors)
            sets, worked = run_sets(self, report) if self.config.off_target else ({}, False)
            self.has_worked |= worked
            report = join_sets(report, sets)
            self.info = {**self.info, **report.info}
            if self.folder is None:
                return report
            made = self.info["stages"]
            if find_reasons("report", self.info["config"], made, self.folder, hash_sets(report)):
                self.has_worked = True
                report = write_report(report, self.folder, time.perf_counter())
            return report

    def check(self) -> None:
        """Raise InputError for whatever is wrong with the input of any stage, before any work is done."""
        self.check_prompts()
        self.check_vector()
        self.check_rivals()
        check_sets(self)

    def vector(self) -> tuple[SteeringVector, ...]:
        """Stage 1: the target vector and its controls, in the precision in which they are stored."""
        with self.hold():
            consumed = self._consume("vector")
            if self._is_made("vector", consumed):
                return store.read_vectors(self._directory)
            self.check_vector()
            with self._stage("vector", consumed), self.time("vector") as notes:
                vectors = tuple(vector.round() for vector in self.make_vectors(progress=self.options.progress))
                for origin in tell_origins(self.config.vectors, vectors):
                    self.options.tell(origin)
                if self.folder is not None:
                    self._claim(*(store.name_file(vector.name) for vector in vectors))
                    store.write_vectors(self.folder, vectors)
                quality = {str(layer): vars(q) for layer, q in vectors[0].quality.items()}
                notes["vector"] = {"n_pairs": vectors[0].provenance.get("n_pairs"), "quality": quality}
        return store.sort_vectors(vectors)

    def sample(self) -> Completions:
        """Stage 2: completions of the unsteered model, labelled."""
        with self.hold():
            consumed = self._consume("sample")
            if self._is_made("sample", consumed):
                return self._read_completions()
            self.check_prompts()
            with self._stage("sample", consumed), self.time("sample"):
                sampling, labelling = self.config.sampling, self.labelling
                completions = self.spare(
                    self.prompts, lambda prompts: self._draw(prompts, sampling, labelling, title="sample")
                )
                if self.folder is not None:
                    self._claim(*store.STAGES["sample"])
                    store.write_completions(self.folder, completions)
        return completions

    def score(
        self, completions: Completions | None = None, vectors: Sequence[SteeringVector] | None = None
    ) -> tuple[Scores, Choices | None] | None:
        """Stage 3: the same token ids under every condition, and the two-choice read-out; by default as stored.

        None where that is made already: then the tables have it. Answers that are outcomes are not read out.
        """
        with self.hold():
            if completions is None or vectors is None:
                self._check_earlier("score")
                completions, vectors = self._read_completions(), store.read_vectors(self._directory)
            pick_letters(completions.prompts, self.config.label.target)
            before = self.info["stages"].get("score", {}).get("consumed", {})
            kept = "all" if self.options.tokens else before.get("kept", "few")
            made_of = {"vectors": hash_vectors(vectors), "completions": hash_completions(completions), "kept": kept}
            consumed = {**self.describe_network(), **made_of, **self._hash_function(), **self.hash_rivals()}
            if self._is_made("score", consumed):
                return None
            self._check_expected("score", consumed)
            self.info["rivals"] = self.describe_rivals()
            self.check_rivals()
            asked = self.make_conditions(vectors)
            given = self.config.scoring.unit == "vector"  # else multipliers are known only once they are settled
            if given:
                self._check_instrument(completions, vectors, asked)
            with self._stage("score", consumed):
                if self.folder is not None:
                    self._claim(*store.STAGES["score"])
                conditions, self.doses = settle_doses(self, completions, vectors, asked)
                if self.folder is not None:
                    store.write_doses(self.folder, self.doses, escape=escape_rows)
                if not given:
                    self._check_instrument(completions, vectors, conditions)
                scores, choices = self.spare(
                    completions.prompts, lambda prompts: self._work(completions, prompts, vectors, conditions, kept)
                )
        return scores, choices

    def report(self, scores: Scores, choices: Choices | None, vectors: Sequence[SteeringVector]) -> Report:
        """Stage 4: the numbers of the paper. From the stored tables alone: ``results.make_report``."""
        start = time.perf_counter()
        asked: dict[str, Any] = {"target": self.config.label.target, "seed": self.config.sampling.seed}
        report = summarize(scores, choices, doses=self.doses, **asked)
        quality = next((vector.quality for vector in vectors if vector.kind == "target"), {})
        report = tell_found(replace(report, tokens=scores.tokens, quality=quality, info=self.info))
        if self.folder is not None:
            with self.hold():
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
        check_model("report", self.network, self.info["stages"], self._directory)
        with self.hold(), self.time("validate"):
            completions = replace(report.increases.completions, labelling=self.labelling)
            vectors = store.read_vectors(self._directory)
            options: dict[str, Any] = {
                "memory_budget": self.config.run.memory_budget,
                "progress": self.options.progress,
            }
            asked = completions, vectors, measures, conditions
            validation: Validation = self.join(_validate, asked, {"target": target, "draws": draws, **options})
            counted = {"n": validation.draws, "n_A": validation.hits, "share": validation.share}
            low, high = validation.limits
            self._claim("validation.parquet")
            store.write_validation(self._directory, validation.measures, {**counted, "low": low, "high": high})
        return validation

    def _check_instrument(
        self, completions: Completions, vectors: Sequence[SteeringVector], conditions: Sequence[Condition]
    ) -> None:
        steered = [condition for condition in conditions if condition.steers]
        self.info["instrument"] = check_instrument(self, completions, vectors, steered)

    def _draw(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        labelling: Labelling,
        *,
        title: str = "",
        **steered: Any,
    ) -> Completions:
        """Completions of some prompts, from units; with a bar where there is a title."""
        if self.hands.many:
            self.units.prepare(self.units.ask_draws(prompts, sampling, **steered), title)
        with self.watch(title, len(prompts) * len(sampling.split()), "prompt") as advance:
            drawn = self.units.draw(prompts, sampling, advance=advance, **steered)
        dtype = np.float64 if self.network["dtype"] == "float64" else np.float32
        return collect_completions(self.tokenizer, prompts, drawn, sampling, labelling, dtype=dtype)

    def _work(
        self,
        completions: Completions,
        prompts: Sequence[Prompt],
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        kept: str,
    ) -> tuple[Scores, Choices | None]:
        chosen = {prompt.id for prompt in prompts}
        if len(chosen) < len(completions.prompts):
            completions = completions.select([i for i, p in enumerate(completions.prompts) if p.id in chosen])
        choices = None
        if all(prompt.is_read_out for prompt in completions.prompts):
            with self.time("choices"):
                choices = self._read(completions, vectors, conditions)
        with self.time("score"):
            scores = self._score(completions, vectors, conditions, keep_all=kept == "all")
        return scores, choices

    def _read(
        self, completions: Completions, vectors: Sequence[SteeringVector], conditions: Sequence[Condition]
    ) -> Choices:
        total, asked = len(completions.prompts) * len(conditions), {"target": self.config.label.target}
        if self.hands.many:
            self.units.prepare(self.units.ask_choices(completions.prompts, vectors, conditions, **asked), "choices")
        with self.watch("choices", total, "row") as advance:
            choices = self.units.read(completions.prompts, vectors, conditions, advance=advance, **asked)
        if self.folder is not None:
            store.write_choices(self.folder, choices)
        return choices

    def _score(
        self,
        completions: Completions,
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        *,
        keep_all: bool,
    ) -> Scores:
        scoring = Scoring(self.config, self.units, self.tokenizer, vectors, conditions, self._draw)
        total, windows = len(completions) * len(conditions), Windows() if self.config.sampling.top_up else None
        scoring.prepare(completions)
        tokens = nullcontext() if self.folder is None else store.open_tokens(self.folder)
        with tokens as keep, self.watch("score", total, "row") as advance:
            kept: dict[str, Any] = {"keep": keep, "keep_all": keep_all, "windows": windows}
            scores = scoring.reduce(completions, advance, **kept)
        drawn: Mapping[Condition, Completions] = {}
        if windows is not None:
            measures, drawn = scoring.mend(completions, scores.measures, windows, progress=self.options.progress)
            scores = replace(scores, measures=measures)
        if self.folder is not None:
            if drawn:
                store.write_steered(self.folder, drawn)
            told = scores.by_seed, summarize_profile(scores.profile), scores.readings
            write_scores(self.folder, scores.increases, scores.measures, *told)
        return scores

    def watch(self, title: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], Any]]:
        """A bar of what is done; where workers did it before, it is soon full, and goes."""
        return self.progress.begin(title, total, unit, leave=not self.hands.many)

    def _read_completions(self) -> Completions:
        return store.read_completions(self._directory, sampling=self.config.sampling, labelling=self.labelling)


def _validate(model: Model, asked: Sequence[Any], options: Mapping[str, Any]) -> Validation:
    return validate_cells(model, *asked, **options)

"""A run: configuration -> stages in order -> run directory. The only module that knows every stage."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from completions_lp import store
from completions_lp.model import Model, Usage, check_conditions, load_model
from completions_lp.plan.validation import Validation, choose_cells, pick_cells
from completions_lp.prompts import first_difference, load_pairs, load_prompts
from completions_lp.records import (
    Choices,
    Completions,
    Condition,
    ContrastPair,
    InputError,
    Prompt,
    Report,
    Scores,
    SteeringVector,
    pick_letters,
)
from completions_lp.report.best import pick_best
from completions_lp.run.config import Config, dump_config, make_config
from completions_lp.run.machine import describe_machine, list_versions, read_peak, reset_peak
from completions_lp.run.results import load, make_report
from completions_lp.run.settled import check_settled
from completions_lp.run.validation import validate_cells
from completions_lp.sample.draws import check_context, sample_completions
from completions_lp.score.choices import read_choices
from completions_lp.score.parts import score_completions
from completions_lp.score.profile import summarize_profile
from completions_lp.score.topup import top_up
from completions_lp.steer.conditions import make_conditions
from completions_lp.steer.controls import draw_random_vectors, negate_vector, remove_direction, shuffle_labels
from completions_lp.steer.vectors import average_differences, check_pairs, describe_source, read_differences


@dataclass(frozen=True)
class Options:
    """How a run behaves; nothing here changes a number."""

    tokens: bool = False
    """Keep every condition in ``tokens.parquet``, not only a few."""
    progress: bool = True


class Run:
    """A run directory and its stages. Each stage reads what earlier ones left in the directory and writes its own.

    Everything that can be checked is checked before the network does any work and before anything is written.
    """

    def __init__(self, config: Config, folder: str | Path, *, options: Options | None = None) -> None:
        self.config = config
        self.folder = Path(folder)
        self.options = options or Options()
        self.info: dict[str, Any] = {"config": dump_config(config), "seed": config.sampling.seed}
        self.stored: dict[str, Any] = {}
        if (self.folder / "run.json").is_file():
            before = store.read_info(self.folder)
            self.stored = before["config"]
            self.info = {**before, **self.info}

    @classmethod
    def open(cls, folder: str | Path, *, options: Options | None = None) -> "Run":
        """The run that a directory holds, with the configuration it was made with."""
        return cls(make_config(store.read_info(Path(folder))["config"]), folder, options=options)

    def all(self) -> Report:
        """The whole job."""
        self.check()
        self.vector()
        self.sample()
        self.score()
        return self.report()

    def check(self) -> None:
        """Raise InputError for whatever is wrong with the input of any stage, before any work is done."""
        self._check_prompts(self.prompts)
        self._check_vector()

    def vector(self) -> tuple[SteeringVector, ...]:
        """Stage 1: the target vector and its controls."""
        self._check_vector()
        with self._stage("vector") as notes:
            vectors = self._make_vectors()
            store.write_vectors(self.folder, vectors)
            quality = vectors[0].quality
            notes["vector"] = {"n_pairs": vectors[0].provenance.get("n_pairs"), "quality": _jsonable(quality)}
        return vectors

    def sample(self) -> Completions:
        """Stage 2: completions of the unsteered model, labelled."""
        self._check_prompts(self.prompts)
        with self._stage("sample"):
            completions = sample_completions(
                self.model,
                self.prompts,
                sampling=self.config.sampling,
                labelling=self.config.labelling,
                memory_budget=self.config.run.memory_budget,
                progress=self.options.progress,
            )
            store.write_completions(self.folder, completions)
        return completions

    def score(self) -> tuple[Scores, Choices]:
        """Stage 3: the same token ids under every condition, and the two-choice read-out beside them."""
        check_settled("score", self.info["config"], self.stored, self.folder)
        completions = self._read_completions()
        vectors = store.read_vectors(self.folder)
        conditions = self._make_conditions(vectors)
        check_conditions(self.model, vectors, conditions)
        pick_letters(completions.prompts, self.config.label.target)
        common: dict[str, Any] = {"memory_budget": self.config.run.memory_budget, "progress": self.options.progress}
        target = self.config.label.target
        with self._stage("score"), store.open_tokens(self.folder) as keep:
            evaluation = score_completions(
                self.model,
                completions,
                vectors,
                conditions,
                target=target,
                kl=self.config.scoring.kl,
                keep=keep,
                keep_all=self.options.tokens,
                **common,
            )
            if self.config.sampling.top_up:
                measures, drawn = top_up(self.model, completions, vectors, evaluation.measures, target=target, **common)
                evaluation = replace(evaluation, measures=measures)
                if drawn:
                    store.write_steered(self.folder, drawn)
            store.write_increases(self.folder, evaluation.increases)
            store.write_measures(self.folder, evaluation.measures)
            store.write_profile(self.folder, summarize_profile(evaluation.profile))
        with self._stage("choices"):
            choices = read_choices(self.model, completions.prompts, vectors, conditions, target=target, **common)
            store.write_choices(self.folder, choices)
        return evaluation, choices

    def report(self) -> Report:
        """Stage 4: the numbers of the paper, from the stored tables alone; see ``results``."""
        report = make_report(self.folder, config=self.config)
        self.info = store.read_info(self.folder)
        return report

    def validate(self, *, layers: Sequence[int] = (), multipliers: Sequence[float] = (), draws: int = 50) -> Validation:
        """Draw from the steered model in a few cells of the target vector, beside what the run has estimated there.

        Without ``layers`` and ``multipliers``: in the best cell and two others, see ``choose_cells``.
        """
        completions = self._read_completions()
        measures = store.read_measures(self.folder, completions.prompts)
        if layers or multipliers:
            conditions = pick_cells(measures, layers=layers, multipliers=multipliers)
        else:
            best = pick_best(load(self.folder, config=self.config)).condition
            conditions = choose_cells(measures, best=best)
        with self._stage("validate"):
            validation = validate_cells(
                self.model,
                completions,
                store.read_vectors(self.folder),
                measures,
                conditions,
                target=self.config.label.target,
                draws=draws,
                memory_budget=self.config.run.memory_budget,
                progress=self.options.progress,
            )
            counted = {"n": validation.draws, "n_A": validation.hits, "share": validation.share}
            low, high = validation.limits
            store.write_validation(self.folder, validation.measures, {**counted, "low": low, "high": high})
        return validation

    @cached_property
    def model(self) -> Model:
        """The model, loaded when a stage first needs it."""
        section = self.config.model
        return load_model(section.name, revision=section.revision, dtype=section.dtype, device=section.device)

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts as asked."""
        section = self.config.prompts
        return load_prompts(
            section.path,
            self.model.tokenizer,
            template=section.template,
            split=section.split,
            revision=section.revision,
            letters=section.letters,
            limit=section.limit,
        )

    @cached_property
    def pairs(self) -> tuple[ContrastPair, ...]:
        """The contrast pairs, asked by the template of the prompts."""
        return load_pairs(
            self.config.vector.pairs,
            self.model.tokenizer,
            template=self.config.prompts.template,
            read_token=self.config.vector.read_token,
        )

    def _check_prompts(self, prompts: tuple[Prompt, ...]) -> None:
        check_context(self.model, prompts, self.config.sampling.max_new_tokens)
        letters = pick_letters(prompts, self.config.label.target)
        for prompt, pair in zip(prompts, letters, strict=True):
            first_difference(prompt, pair[0], self.model.tokenizer)

    def _check_vector(self) -> None:
        self._list_layers()
        names = [vector.name for vector in self._read_confounds()]
        if len(set(names)) < len(names):
            raise InputError(f"[controls] orthogonal_to has two vectors of one name ({', '.join(names)}): rename one")
        if self.config.vector.path is None:
            check_pairs(self.model, self.pairs)
        else:
            vectors = [self._read_target()]
            check_conditions(self.model, vectors, self._make_conditions(vectors))

    def _list_layers(self) -> tuple[int, ...] | None:
        """Layers that the configuration names, checked; None for all."""
        for layers in (self.config.vector.layers, self.config.scoring.layers):
            if layers != "all":
                self.model.check_layers(layers)
        return None if self.config.vector.layers == "all" else tuple(self.config.vector.layers)

    def _read_confounds(self) -> list[SteeringVector]:
        return [store.read_vector(Path(path)) for path in self.config.controls.orthogonal_to]

    def _read_target(self) -> SteeringVector:
        return replace(store.read_vector(Path(str(self.config.vector.path))), kind="target")

    def _make_vectors(self) -> tuple[SteeringVector, ...]:
        controls, seed = self.config.controls, self.config.sampling.seed
        shuffled: tuple[SteeringVector, ...] = ()
        if self.config.vector.path is not None:
            target = self._read_target()
        else:
            differences = read_differences(
                self.model,
                self.pairs,
                layers=self._list_layers(),
                memory_budget=self.config.run.memory_budget,
                progress=self.options.progress,
            )
            source = self.config.vector.pairs
            target = average_differences(
                differences,
                name=Path(source).stem,
                provenance={
                    **describe_source(self.model, differences),
                    "pairs": Path(source).name,
                    "pairs_sha256": _hash_file(source),
                    "read_token": self.config.vector.read_token,
                    "template": self.config.prompts.template,
                },
            )
            shuffled = shuffle_labels(differences, target, controls.shuffled_labels, seed=seed)
        negated = (negate_vector(target),) if controls.negated else ()
        orthogonal = tuple(remove_direction(target, vector) for vector in self._read_confounds())
        random = draw_random_vectors(target, controls.random_directions, seed=seed)
        return (target, *negated, *orthogonal, *random, *shuffled)

    def _make_conditions(self, vectors: tuple[SteeringVector, ...] | list[SteeringVector]) -> tuple[Condition, ...]:
        """The grid, and the target vector with multiplier 0 at its lowest layer: the run's noise floor."""
        section = self.config.scoring
        layers = None if section.layers == "all" else section.layers
        grid = make_conditions(vectors, layers=layers, multipliers=section.multipliers, positions=section.positions)
        if any(c.multiplier == 0 for c in grid):
            return grid
        return (replace(grid[0], vector=vectors[0].name, kind=vectors[0].kind, multiplier=0.0), *grid)

    def _read_completions(self) -> Completions:
        return store.read_completions(self.folder, sampling=self.config.sampling, labelling=self.config.labelling)

    @contextmanager
    def _stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a stage and count its tokens; what it left in ``notes`` goes into ``run.json`` with them."""
        if name in store.STAGES:
            store.start_run(self.folder, self.info)
            store.drop_stale(self.folder, name)
        before = replace(self.model.usage) if "model" in self.__dict__ else None
        start = time.perf_counter()
        notes: dict[str, Any] = {}
        reset_peak()
        yield notes
        self.info.setdefault("timings", {})[name] = round(time.perf_counter() - start, 3)
        peak = read_peak()
        if peak is not None:
            self.info.setdefault("memory", {})[name] = round(peak, 3)
        self.info["machine"] = describe_machine()
        if "model" in self.__dict__:
            used, before = self.model.usage, before or Usage()
            spent = {"tokens": used.tokens - before.tokens, "passes": used.passes - before.passes}
            self.info.setdefault("token_counts", {})[name] = spent
            self.info["model"] = self.model.describe()
        self.info["versions"] = list_versions()
        self.info.update(notes)
        store.write_info(self.folder, self.info)


def _jsonable(quality: Mapping[int, Any]) -> dict[str, Any]:
    return {str(layer): vars(q) for layer, q in quality.items()}


def _hash_file(source: str) -> str:
    """sha256 of a local file; empty for a hub dataset, whose revision says which it is."""
    path = Path(source)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

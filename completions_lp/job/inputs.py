"""Configuration -> what a run begins with: model, prompts, contrast pairs, vectors, the grid of conditions; checked."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from completions_lp import store
from completions_lp.job.config import Config, VectorSection
from completions_lp.job.further import name_pairs
from completions_lp.job.network import Network
from completions_lp.job.outset import check_scope, check_vector, make_grid, read_confounds, read_finished, read_target
from completions_lp.job.rivals import Rival, open_rivals
from completions_lp.model import Model, draw_rounding_vector
from completions_lp.prompts import first_difference, load_pairs, load_prompts
from completions_lp.records import (
    Completions,
    Condition,
    ContrastPair,
    Labelling,
    Prompt,
    SteeringVector,
    name_outcomes,
    pick_letters,
)
from completions_lp.sample.draws import check_context
from completions_lp.sample.functions import load_function, refuse_name
from completions_lp.steer.controls import draw_random_vectors, negate_vector, remove_direction, shuffle_labels
from completions_lp.steer.estimates import Method
from completions_lp.steer.quality import place_vectors
from completions_lp.steer.vectors import (
    Differences,
    PairDifferences,
    check_pairs,
    describe_source,
    form_vector,
    read_differences,
)
from completions_lp.work.hashes import hash_array, hash_vectors
from completions_lp.work.keys import describe_prompt


class Inputs(Network):
    """What a configuration asks for, read when it is first needed; the weights, when a number is to be computed."""

    def __init__(self, config: Config, known: Mapping[str, Any] | None = None, *, function: str = "") -> None:
        super().__init__(config.model, known)
        self.config = config
        self._function = function
        self._pairs: dict[str, tuple[ContrastPair, ...]] = {}
        """By what was asked: several vectors may be of the same pairs."""

    @cached_property
    def labelling(self) -> Labelling:
        """The label rule; with its function itself, where that is the one which the user has named, else its name."""
        labelling = self.config.labelling
        if labelling.function and labelling.function == self._function:
            return replace(labelling, function=load_function(self._function))
        return labelling

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts as asked; where there are outcomes with names, these are their letters."""
        prompts = load_prompts(self.config.prompts.path, self.tokenizer, **self.config.prompts_options)
        return tuple(name_outcomes(prompts, self.config.labelling))

    @cached_property
    def pairs(self) -> tuple[ContrastPair, ...]:
        """The contrast pairs, asked as the prompts are."""
        return self._load_pairs(self.config.vector)

    def _load_pairs(self, section: VectorSection) -> tuple[ContrastPair, ...]:
        asked = {"source": section.pairs, **self.config.pairs_options(section)}
        key = store.hash_value(asked)
        if key not in self._pairs:
            self._pairs[key] = load_pairs(tokenizer=self.tokenizer, **asked)
        return self._pairs[key]

    def check_prompts(self) -> None:
        """Raise InputError unless the prompts fit into the context and offer the answers to be told apart."""
        self.ask(check_context, self.prompts, self.config.sampling.max_new_tokens)
        for prompt, pair in zip(self.prompts, pick_letters(self.prompts, self.config.label.target), strict=True):
            if prompt.is_read_out:
                first_difference(prompt, pair[0], self.tokenizer)
        if isinstance(self.labelling.function, str) and self.labelling.function:
            refuse_name(self.labelling.function)

    @cached_property
    def rivals(self) -> tuple[Rival, ...]:
        """What steering is compared with; ``known_rivals`` is what a run has recorded of their networks, by name."""
        return open_rivals(self.config.rival, self, self.known_rivals)

    @property
    def known_rivals(self) -> Mapping[str, Any]:
        """By name, what is known of rivals' networks: nothing, without a run that has recorded it."""
        return {}

    def check_rivals(self) -> None:
        """Raise InputError where a rival's tokenizer is another, or its prompts do not fit."""
        sampling = self.config.sampling
        for rival in self.rivals:
            rival.check(self, target=self.config.label.target, max_new_tokens=sampling.max_new_tokens)

    def describe_rivals(self) -> dict[str, Any]:
        """By name, what the networks of those rivals are that have one of their own."""
        others = [rival for rival in self.rivals if rival.network is not self]
        return {rival.section.name: dict(rival.network.network) for rival in others}

    def hash_rivals(self) -> dict[str, str]:
        """Stands for the rivals: their names, prompts and networks; nothing where there is none."""
        if not self.rivals:
            return {}
        return {"rivals": store.hash_value([[rival.section.name, rival.hash(self)] for rival in self.rivals])}

    def hash_prompts(self) -> str:
        """Stands for the prompts as asked."""
        return store.hash_value([describe_prompt(prompt) for prompt in self.prompts])

    def hash_vector(self) -> dict[str, str]:
        """Stands for what the vectors are made from, or the file that has one, and for the confounds."""
        confounds = {"confounds": store.hash_value([hash_vectors([one]) for one in read_confounds(self.config)])}
        if self.config.further:
            made = [_hash_made(one, self._load_pairs) for one in self.config.further]
            confounds["further"] = store.hash_value(made)
        if self.config.vector.path is not None:
            return {"vector": hash_vectors([read_target(self.config)]), **confounds}
        return {"pairs": store.hash_value([pair.describe() for pair in self.pairs]), **confounds}

    def check_vector(self) -> None:
        """Raise InputError where the layers, the pairs or the vector files are wrong."""
        self.ask(_check_vector, self.config)
        for one in self.config.further:
            if one.path is None:
                self.ask(check_pairs, self._load_pairs(one), one.method)
        if self.config.vector.path is None:
            self.ask(check_pairs, self.pairs, self.config.vector.method)
        elif self.config.controls.orthogonal_to:
            for confound in read_confounds(self.config):
                remove_direction(read_target(self.config), confound)  # of which nothing may be left

    def make_vectors(self, *, progress: bool) -> tuple[SteeringVector, ...]:
        """The target vector and its controls, further vectors, and the direction that tells the rounding."""
        controls, seed = self.config.controls, self.config.sampling.seed
        read: dict[str, Differences] = {}
        target, differences = self._make_vector(self.config.vector, read, progress=progress)
        shuffled: tuple[SteeringVector, ...] = ()
        if differences is not None:
            shuffled = shuffle_labels(differences, target, controls.shuffled_labels, seed=seed)
        negated = (negate_vector(target),) if controls.negated else ()
        orthogonal = tuple(remove_direction(target, vector) for vector in read_confounds(self.config))
        random = draw_random_vectors(target, controls.random_directions, seed=seed)
        made = (target, *negated, *orthogonal, *random, *shuffled)
        if differences is not None:
            made = place_vectors(made, differences.layers, differences.average_sides())
        others = [self._make_vector(one, read, progress=progress)[0] for one in self.config.further]
        made += tuple(replace(vector, kind="further") for vector in others)
        return (*made, self.ask(draw_rounding_vector, [vector.name for vector in made]))

    def _make_vector(
        self, section: VectorSection, read: dict[str, Differences], *, progress: bool
    ) -> tuple[SteeringVector, Differences | None]:
        """A vector as a section asks for it, and the differences that it is made of, where it is of pairs.

        What is ``read`` of pairs serves every vector that is made of them, by whatever method.
        """
        if section.path is not None:
            return read_finished(section), None
        pairs = self._load_pairs(section)
        layers, budget = None if section.layers == "all" else section.layers, self.config.run.memory_budget
        key = store.hash_value([[pair.describe() for pair in pairs], layers])
        known = read.get(key)
        if isinstance(known, PairDifferences):  # a server, which makes the vector itself, gives no streams
            differences: Differences = replace(known, method=section.method)
        else:
            differences = read[key] = self.ask(_read_pairs, pairs, layers, section.method, budget, progress)
        provenance = {
            **self.ask(describe_source, differences.method, differences.n_pairs),
            "pairs": Path(section.pairs).name,
            "pairs_sha256": _hash_file(Path(section.pairs)),
            "read_token": section.read_token,
            **self._describe_asking(),
        }
        name = name_pairs(section.name, section.pairs)
        return form_vector(differences, name=name, provenance=provenance), differences

    def _describe_asking(self) -> dict[str, str]:
        """How pairs were asked, as far as it is not by default; what is no text as JSON."""
        asking = self.config.prompts.asking
        told = {name: value for name, value in asking.items() if value or name == "template"}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}

    def make_conditions(self, vectors: Sequence[SteeringVector]) -> tuple[Condition, ...]:
        """The grid, the run's noise floor, and the direction that tells its rounding."""
        return make_grid(self.config, vectors)


def _check_vector(model: Model, config: Config) -> None:
    check_scope(config, model)
    check_vector(config, model)


def _read_pairs(
    model: Model,
    pairs: Sequence[ContrastPair],
    layers: Sequence[int] | None,
    method: Method,
    budget: float | None,
    progress: bool,
) -> Differences:
    return read_differences(model, pairs, layers=layers, method=method, memory_budget=budget, progress=progress)


def _hash_made(section: VectorSection, load: Callable[[VectorSection], Sequence[ContrastPair]]) -> str:
    """Stands for what a vector is made of: its file, or its pairs."""
    if section.path is not None:
        return hash_vectors([read_finished(section)])
    return store.hash_value([pair.describe() for pair in load(section)])


def _hash_file(path: Path) -> str:
    """sha256 of a local file; empty for a hub dataset, whose revision says which it is."""
    return store.hash_file(path) if path.is_file() else ""


def hash_completions(completions: Completions) -> str:
    """Stands for completions: of which prompts, their tokens, how often each was drawn, how, and what it answers.

    Draws of the steered model are no part of them; how long an answer was waited for is, whatever they answer.
    """
    names = "token_ids", "lengths", "counts", "ended", "answer_index", "prompt_index", "logprob"
    arrays = [hash_array(np.asarray(getattr(completions, name), dtype=float)) for name in names]
    how = {**asdict(completions.sampling), "top_up": 0}, completions.labelling.describe()
    if completions.seed_counts is None:  # as in runs of earlier versions, which have one seed
        del how[0]["seeds"]
    else:
        arrays.append(hash_array(completions.seed_counts.astype(float)))
    asked = [describe_prompt(prompt) for prompt in completions.prompts]
    return store.hash_value([asked, *how, completions.label.tolist(), *arrays])

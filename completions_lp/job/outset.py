"""What a run sets out with, as far as its files tell: what is wrong there is refused before torch is imported.

The same rules hold again where the model itself is at hand; here they see its configuration, and a stand-in for its
tokenizer.
"""

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from completions_lp.checkpoint import (
    Outline,
    Shape,
    Sized,
    check_conditions,
    check_files,
    check_layers,
    check_length,
    check_map,
    check_place,
    check_ranks,
    locate,
    read_shape,
)
from completions_lp.checkpoint.vocabulary import check_tokenizers
from completions_lp.job import rival
from completions_lp.job.config import Config, VectorSection, make_config
from completions_lp.job.further import check_distinct, name_pairs
from completions_lp.job.off_target import OffTargetSection, make_values
from completions_lp.job.rival import RivalSection
from completions_lp.job.vector_files import check_fit, read_complete, read_vector
from completions_lp.prompts import check_asking, is_of_hub, load_pairs, load_prompts
from completions_lp.records import (
    Condition,
    InputError,
    Prompt,
    SteeringVector,
    Tokenizer,
    name_outcomes,
    pick_letters,
)
from completions_lp.records.base import Notice
from completions_lp.steer.conditions import make_conditions, name_control, place_rounding, place_zero
from completions_lp.steer.quality import check_number
from completions_lp.work.machine import check_ray


def check_input(config: Config, stages: Collection[str]) -> None:
    """Raise InputError for what files tell is wrong with the input of these stages; no weights are read.

    Of a model of the hub, its configuration is fetched, as it will be anyway; of its data sets nothing is.
    """
    check_place(config.model.dtype, config.model.device)
    check_map(config.model.device_map, config.model.device)
    check_ranks(config.model.tp_size)
    if config.run.workers > 1 or config.run.address:
        check_ray()
    checkpoint = locate(config.model.name, config.model.revision)
    if checkpoint.local:
        check_files(checkpoint)
    shape = read_shape(checkpoint)
    outline = Outline(checkpoint)
    asking = config.prompts.asking
    check_asking(**asking, fields=config.prompts.fields, answers=config.prompts.answers)
    for section in config.vectors:
        check_asking(**asking, fields=section.fields, section="vector")
    if "sample" in stages and not is_of_hub(config.prompts.path):
        _check_prompts(config, outline, shape)
    if stages:
        _check_rivals(config, outline)
        for one in config.off_target if "sample" in stages else ():
            nested = make_set(config, one)
            if not is_of_hub(nested.prompts.path):
                with naming(one):
                    _check_prompts(nested, outline, shape)
    if shape is not None:
        check_scope(config, shape)
    if "vector" in stages:
        check_vector(config, shape)
        for section in config.vectors:
            if section.path is None and not is_of_hub(section.pairs):
                _check_pairs(config, section, outline)


def make_set(config: Config, one: OffTargetSection, *, vector: Path | None = None, cell: Any = None) -> Config:
    """The configuration of a set's own run."""
    try:
        return make_config(make_values(config.model_dump(), one, vector=vector, cell=cell))
    except InputError as error:
        raise InputError(f"[[off_target]] {one.name!r}: {error}") from None


@contextmanager
def naming(one: OffTargetSection) -> Iterator[None]:
    """Let an error say of which set it is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"[[off_target]] {one.name!r}: {error}") from None


def check_scope(config: Config, model: Sized) -> None:
    """Raise InputError for a layer that the model does not have."""
    check_layers(model, config.scoring.named_layers)
    for vector in config.vectors:
        if vector.layers != "all":
            check_layers(model, vector.layers)


def check_vector(config: Config, model: Sized | None) -> None:
    """Raise InputError where vector files are wrong, by themselves or for the model, if its shape is known."""
    names = [vector.name for vector in read_confounds(config)]
    if len(set(names)) < len(names):
        raise InputError(f"[controls] orthogonal_to has two vectors of one name ({', '.join(names)}): rename one")
    check_distinct(_list_vectors(config))
    vectors = [read_finished(section) for section in config.vectors if section.path is not None]
    if vectors and model is not None:
        for vector in vectors:
            check_fit(vector, model)
        check_conditions(model, vectors, make_grid(config, vectors))


def read_target(config: Config) -> SteeringVector:
    """The finished vector of [vector] path."""
    return read_finished(config.vector)


def read_finished(section: VectorSection) -> SteeringVector:
    """A finished vector, from its file, called as the section says."""
    vector = read_vector(section)
    return replace(vector, kind="target", name=section.name or vector.name)


def _name_vector(section: VectorSection) -> str:
    return name_pairs(section.name, section.pairs) if section.path is None else read_finished(section).name


def read_confounds(config: Config) -> list[SteeringVector]:
    """The vectors of [controls] orthogonal_to."""
    return [read_complete(Path(path)) for path in config.controls.orthogonal_to]


def make_grid(config: Config, vectors: Sequence[SteeringVector]) -> tuple[Condition, ...]:
    """All conditions; the target vector with multiplier 0 at its lowest layer; the direction that tells rounding."""
    section = config.scoring
    steering = [vector for vector in vectors if vector.kind != "rounding"]
    grid = make_conditions(
        steering,
        layers=section.groups,
        multipliers=section.multipliers,
        positions=section.positions,
        operation=section.operation,
    )
    if not any(c.is_neutral for c in grid):
        grid = (place_zero(grid[0], steering[0]), *grid)
    swept = [condition.layer for condition in grid]
    grid += rival.make_conditions(config.rival, grid)
    return grid + tuple(
        condition
        for vector in vectors
        if vector.kind == "rounding"
        for condition in place_rounding(vector, swept, n_layers=len(vector.directions), positions=section.positions)
    )


def load_asked(config: Config, section: RivalSection, tokenizer: Tokenizer) -> tuple[Prompt, ...]:
    """The prompts of a run as a rival is asked them.

    Raises:
        InputError: As ``load_prompts``, with the rival's name.
    """
    options = config.prompts_options | section.make_asking(config.prompts.asking)
    with warnings.catch_warnings():  # what is to be told of the file is told once, of the run's own prompts
        warnings.simplefilter("ignore", Notice)
        try:
            return load_prompts(config.prompts.path, tokenizer, **options)
        except InputError as error:
            raise InputError(f"[[rival]] {section.name!r}: {error}") from None


def _check_prompts(config: Config, outline: Outline, shape: Shape | None) -> None:
    prompts = load_prompts(config.prompts.path, outline, **config.prompts_options)
    pick_letters(name_outcomes(prompts, config.labelling), config.label.target)
    if shape is None:
        return
    new = config.sampling.max_new_tokens
    for prompt in prompts:
        if len(prompt.text.encode()) + new > shape.context_length:  # no token is shorter than a byte
            check_length(shape, prompt, outline.count_tokens(prompt.text), new)


def _check_rivals(config: Config, outline: Outline) -> None:
    """Raise InputError for rivals that cannot be asked, or whose model is not there or has another tokenizer."""
    rival.check_names(config.rival, {*_list_vectors(config)})
    for section in config.rival:
        where = f"[[rival]] {section.name!r}"
        if section.model is not None:
            checkpoint = locate(section.model, section.revision)
            if checkpoint.local:
                check_files(checkpoint)
            theirs = Outline(checkpoint).tokenizer
            if outline.tokenizer is not None and theirs is not None:
                check_tokenizers(where, outline.tokenizer, theirs)
        if section.asks and not is_of_hub(config.prompts.path):
            load_asked(config, section, outline)


def _list_vectors(config: Config) -> list[str]:
    """What the vectors of a run will be called."""
    controls = config.controls
    own, *further = map(_name_vector, config.vectors)
    several = [("random", controls.random_directions), ("shuffled", controls.shuffled_labels)]
    return [
        own,
        *further,
        *[name_control(own, "negated")] * controls.negated,
        *(name_control(own, kind, i) for kind, n in several for i in range(n)),
        *(name_control(own, "orthogonal", vector.name) for vector in read_confounds(config)),
    ]


def _check_pairs(config: Config, section: VectorSection, outline: Outline) -> None:
    where = section.read_token if isinstance(section.read_token, str) else "last"  # tokens are not known
    pairs = load_pairs(section.pairs, outline, **{**config.pairs_options(section), "read_token": where})
    check_number(len(pairs), section.method)

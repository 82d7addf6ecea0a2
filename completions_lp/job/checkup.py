"""What the doctor is given: a configuration's own model, prompts and vector, as much of them as it takes; and in a run.

A run makes the doctor's cheap checks before it scores. What they find stands in ``run.json``, and with its report.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from completions_lp.doctor import Diagnosis, Finding, check_quickly, examine_model
from completions_lp.job.config import Config, make_config
from completions_lp.job.inputs import Inputs, hash_completions
from completions_lp.job.ledger import Ledger
from completions_lp.job.outset import read_target
from completions_lp.job.resources import DATA
from completions_lp.model import Model, check_conditions, load_model
from completions_lp.records import Completions, Condition, ContrastPair, InputError, OutOfRoom, Prompt, SteeringVector
from completions_lp.sample.draws import check_context
from completions_lp.steer.estimates import Method
from completions_lp.steer.vectors import check_pairs, form_vector, read_differences
from completions_lp.store import hash_value
from completions_lp.work.hashes import hash_vectors
from completions_lp.work.keys import describe_network
from completions_lp.work.tasks import keep_ids

CHECKS = {
    "one BOS in each prompt": "bos_wrong",
    "the vector is added once, at its layer": "vector_off",
    "no layer below is touched": "below_layer",
    "no token before is touched": "before_position",
    "probabilities over the vocabulary sum to 1": "mass_off",
}
"""Names of the checks that every run makes, in ``run.json``."""
PROMPTS, PAIRS = 200, 4
"""So many are read, the first ones: the doctor takes no longer on a large file than on a small one."""
TOKENS = 16
"""After a prompt, for which there must be room."""


def examine(config: Config, *, compare: bool = False, tell: Callable[[str], None] = lambda _: None) -> Diagnosis:
    """Every check of the doctor on what a configuration asks for; ``tell`` gets a line once the weights are loaded.

    With ``compare`` also what rounding would be in other precisions, which takes most of the time on a CPU.

    Raises:
        InputError: The model cannot be loaded or steered, or prompts or the vector are wrong.
    """
    if config.model.remote:
        raise InputError(
            f"the doctor watches residual streams, and this model's are on {config.model.remote}: run it on a copy "
            "of yours, or on a smaller model of the same family, without [model] remote"
        )
    inputs = _limit(config)
    model, prompts = inputs.model, inputs.prompts
    tell(f"{model.name} is loaded")
    check_context(model, prompts, TOKENS)
    section = config.scoring
    options = {
        "layers": section.named_layers,
        "multiplier": max(section.multipliers, key=abs) or 1.0,
        "positions": section.positions,
        "operation": section.operation,
        "target": config.label.target,
        "seed": config.sampling.seed,
        "compare": compare,
    }
    found: Diagnosis = inputs.join(_examine, prompts, [_make_vector(inputs)], options)
    return found


def _examine(
    model: Model, prompts: Sequence[Prompt], vectors: Sequence[SteeringVector], options: Mapping[str, Any]
) -> Diagnosis:
    return examine_model(model, prompts, vectors, control=lambda: load_control(model), **options)


def check_instrument(
    run: Ledger, completions: Completions, vectors: Sequence[SteeringVector], conditions: Sequence[Condition]
) -> dict[str, Any]:
    """The doctor's cheap checks before a run is scored, for ``run.json``: numbers by name, and errors, which are told.

    What was checked already, of the same network, vectors and completions, is not checked again. Numbers are missing
    where one completion has no room alone: the run tells so itself.

    Raises:
        InputError: A condition cannot be computed on the model.
    """
    run.ask(check_conditions, vectors, conditions)
    of = hash_value([describe_network(run.network), hash_vectors(vectors), hash_completions(completions)])
    known: dict[str, Any] = run.info.get("instrument", {})
    if known.get("of") == of:
        return known
    try:
        budget = run.config.run.memory_budget
        findings = run.ask(_check_quickly, keep_ids(completions), vectors, conditions, budget)
    except OutOfRoom:
        findings = []
    errors = [f"{finding.describe()}: run completions-lp doctor" for finding in findings if not finding.passed]
    for error in errors:
        run.options.tell(error)
    return {"of": of, "checks": {CHECKS[finding.name]: finding.value for finding in findings}, "errors": errors}


def _check_quickly(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    conditions: Sequence[Condition],
    budget: float | None,
) -> list[Finding]:
    return check_quickly(model, completions, vectors, conditions, memory_budget=budget)


def load_control(model: Model) -> Model:
    """The embedded model, which goes all ways right, where a model is: what is wrong with it is wrong here."""
    return load_model(DATA / "tiny-chooser", dtype="float32", device=str(model.device))


def _limit(config: Config) -> Inputs:
    values: dict[str, Any] = config.model_dump()
    values["prompts"]["limit"] = min(config.prompts.limit or PROMPTS, PROMPTS)
    return Inputs(make_config(values))


def _make_vector(inputs: Inputs) -> SteeringVector:
    """The finished vector that is named, or that of the first pairs, made as a run makes it."""
    section = inputs.config.vector
    if section.path is not None:
        return read_target(inputs.config)
    pairs = inputs.pairs[:PAIRS]
    check_pairs(inputs.model, pairs, section.method)
    layers = None if section.layers == "all" else section.layers
    differences = inputs.join(_read_differences, pairs, layers, section.method)
    return form_vector(differences, name=Path(section.pairs).stem)


def _read_differences(model: Model, pairs: Sequence[ContrastPair], layers: Sequence[int] | None, method: Method) -> Any:
    return read_differences(model, pairs, layers=layers, method=method, progress=False)

"""A pilot and the shape of another model -> what a run of any size takes: tokens, FLOPs, hours, money, bytes, files.

Tokens are counted as for the pilot's own model (``costs.Workload``): prompts and completions are taken to be as long,
and to share as much. A token that is scored under a condition goes through the layers above the steered one alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor

from completions_lp.checkpoint.weights import Weights
from completions_lp.plan.costs import Workload
from completions_lp.records import Completions, InputError

SCORE_ROW = 21.0
"""Bytes in a unit of one token under one condition: five numbers of four bytes and what goes around them, measured."""
DRAW_ROW = 20.0
"""Bytes in a unit of one token of a distinct completion, measured."""
CHOICE_ROW = 70.0
"""Bytes in a unit of one prompt under one condition: eight numbers, measured."""
SHARED = 2**30 / 2
"""Bytes that a share or a worker holds beside its model: libraries, and a few prompts at work, measured."""


@dataclass(frozen=True)
class Prices:
    """What a device does and costs. None of it is measured here: say what yours is."""

    flops: float = 989e12
    """Floating-point operations a second, at most: of an H100 in half precision."""
    utilisation: float = 0.3
    """Share of these that the network's work gets; 0.5 to 0.65 of the best products on a CPU (analysis/README.md), on a
    GPU not measured."""
    memory: float = 80e9
    """Bytes of a device."""
    per_hour: float = 2.5
    """Of a device, in whichever currency."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0 or (name == "utilisation" and value > 1):
                raise InputError(f"{name} is {value:g}; it must be above 0{' and at most 1' * (name[0] == 'u')}")


@dataclass(frozen=True)
class Growth:
    """What a run of one size takes with one shape of a model."""

    weights: Weights
    prompts: int
    samples: int
    conditions: int
    tokens: Mapping[str, float]
    """Through the network, by stage."""
    flops: float
    devices: int
    """That hold the model once, in half precision with a fifth to spare."""
    hours: float
    """Of devices, all together."""
    money: float
    stored: float
    """Bytes of all units."""
    traffic: float
    """Bytes to and from the store: each unit is put once, and got once for the tables."""
    files: float
    straggler: float
    """Seconds of the longest unit: what the last worker may take while others wait."""
    tables: float
    """Bytes of memory that the tables of all conditions take at once."""


def predict_growth(
    completions: Completions,
    workload: Workload,
    weights: Weights,
    *,
    prompts: int,
    samples: int,
    conditions: int,
    unit: int,
    above: float = 0.5,
    prices: Prices | None = None,
) -> Growth:
    """What a run takes of a model with these weights.

    Args:
        completions: The pilot's, for how long its texts are.
        workload: The pilot's work.
        weights: Of the model.
        prompts: Of the run.
        samples: Draws of each.
        conditions: Beside the unsteered model.
        unit: Tokens times conditions of a unit of work, as the run would cut it.
        above: Mean share of the layers that are above the steered one: a half where all layers are swept.
        prices: What a device does and costs.
    """
    prices = prices or Prices()
    for name, given in (("prompts", prompts), ("samples", samples), ("conditions", conditions)):
        if given < 1:
            raise InputError(f"{name} is {given}; at least 1 is needed")
    size = prompts, samples
    stored, files, cuts, longest = _measure_store(completions, workload, prompts, samples, conditions, unit)
    tokens = {stage: workload.weigh(stage, *size, conditions) for stage in ("sample", "score", "choices")}
    unsteered = {stage: workload.weigh(stage, *size, 0) for stage in tokens}
    # A prompt whose conditions are several units goes through the network unsteered in each.
    again = (cuts - 1) * unsteered["score"]
    tokens["score"] += again
    unsteered["score"] += again
    read = (2 + cuts) * prompts * workload.prompt_tokens  # once in each stage or unit, and without the head
    attended = 4 * weights.d_model * (workload.prompt_tokens + workload.width / 2)
    body = weights.n_layers * (2 * weights.layer + attended)
    flops = sum(unsteered.values()) * body + (sum(unsteered.values()) - read) * 2 * weights.head
    steered = sum(tokens[stage] - unsteered[stage] for stage in tokens)
    share = 1.0 if workload.whole else above
    flops += steered * (share * body + 2 * weights.head)
    devices = ceil(2.4 * weights.total / prices.memory)
    seconds = flops / (prices.flops * prices.utilisation)
    score = tokens["score"] / sum(tokens.values()) * seconds / devices / prompts
    return Growth(
        weights,
        prompts,
        samples,
        conditions,
        tokens,
        flops,
        devices,
        seconds / 3600,
        seconds / 3600 * prices.per_hour,
        stored,
        2 * stored,
        files,
        longest * score,
        workload.hold("sample", *size, conditions) + workload.hold("score", *size, conditions),
    )


def _measure_store(
    completions: Completions, workload: Workload, prompts: int, samples: int, conditions: int, unit: int
) -> tuple[float, float, int, float]:
    """Bytes and files of all units; how many the conditions of a prompt are cut into; prompts of the largest unit."""
    texts = workload.count_distinct(workload.texts, samples)
    said = float(completions.lengths.mean())
    scored = float(completions.count_scored(workload.through).mean())
    every = 1 + conditions + workload.rivals
    sizes = {
        "draws": (DRAW_ROW * texts * said, samples * completions.sampling.max_new_tokens),
        "choices": (CHOICE_ROW * every, 2 * every),
        "scores": (SCORE_ROW * texts * scored * every, texts * scored * every),
    }
    stored = prompts * sum(size for size, _ in sizes.values())
    together = {kind: max(1, floor(unit / work)) for kind, (_, work) in sizes.items()}
    work = together["scores"] * sizes["scores"][1]
    cuts = max(1, min(conditions, ceil(work / (2 * unit))))  # as ``work.requests`` cuts them
    files = sum(ceil(prompts / n) * (cuts if kind == "scores" else 1) for kind, n in together.items())
    return stored, float(files), cuts, together["scores"] / cuts

"""A pilot's directory, and models by name -> what runs of any size take with them, on paper."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from completions_lp.checkpoint import locate
from completions_lp.checkpoint.weights import NAMED, Weights, read_weights
from completions_lp.job.results import load
from completions_lp.plan.costs import Workload
from completions_lp.plan.growth import Growth, Prices, predict_growth
from completions_lp.records import Condition, InputError, Report
from completions_lp.work.batches import measure_unit

DEVICE = "cuda"
"""The kind of device by which units are cut."""


def predict_run(
    folder: str | Path,
    shapes: Sequence[str],
    *,
    prompts: int | None = None,
    samples: int | None = None,
    conditions: int | None = None,
    prices: Mapping[str, float | None] | None = None,
) -> list[Growth]:
    """What a run of this size takes of each of some models: ``7B``, ``70B``, ``405B``, hub names or folders.

    The pilot tells how long prompts and completions are and how much they share; by default the run is as large. Of
    ``prices``, ``peak`` is in TFLOPS, ``utilisation`` a share of that, ``price`` for an hour of a device.

    Raises:
        InputError: The pilot is not finished, a model is not there, or its configuration does not tell its shape.
    """
    report = load(folder, sets=False)
    assert report.increases is not None  # noqa: S101  which every stored run has
    completions = report.increases.completions
    workload = Workload.of(completions, report.increases.conditions, report.through)
    given = {"flops": "peak", "utilisation": "utilisation", "per_hour": "price"}
    asked = {name: (prices or {}).get(key) for name, key in given.items()}
    asked["flops"] = None if asked["flops"] is None else asked["flops"] * 1e12
    size: dict[str, Any] = {
        "prompts": prompts or workload.n_prompts,
        "samples": samples or workload.samples,
        "conditions": conditions or workload.conditions,
        "above": _measure_above(report),
        "prices": replace(Prices(), **{name: value for name, value in asked.items() if value is not None}),
    }
    return [
        predict_growth(completions, workload, weights, unit=cut_units(weights), **size)
        for weights in map(find_weights, shapes)
    ]


def find_weights(shape: str) -> Weights:
    """The weights of a model by its size, its name on the hub or its folder."""
    return NAMED[shape] if shape in NAMED else read_weights(locate(shape, None))


def cut_units(weights: Weights) -> int:
    """Tokens times conditions of a unit of work of such a model on a GPU."""
    shape = {"n_layers": weights.n_layers, "d_model": weights.d_model, "vocab_size": weights.vocab_size}
    return measure_unit({**shape, "device": DEVICE})


def _measure_above(report: Report) -> float:
    """Mean share of the layers that are above the steered one; a half where the pilot does not tell."""
    depth = report.info.get("model", {}).get("n_layers")
    assert report.increases is not None  # noqa: S101
    steering: list[Condition] = [c for c in report.increases.conditions if c.steers]
    if not isinstance(depth, int) or not depth or not steering:
        return 0.5
    found = float(np.mean([(depth - 1 - condition.layer) / depth for condition in steering]))
    if not 0 <= found < 1:
        raise InputError(f"the pilot's conditions are at layers that its model of {depth} layers does not have")
    return found

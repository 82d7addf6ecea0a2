"""Whether a run has workers beside its own process: those that are asked for, where they are worth their beginning."""

from collections.abc import Callable
from typing import Any

from completions_lp.checkpoint import locate, read_shape
from completions_lp.job.config import Config
from completions_lp.model import pick_device
from completions_lp.work.cluster import Cluster
from completions_lp.work.crew import Crew
from completions_lp.work.machine import check_ray
from completions_lp.work.progress import Progress

START = 12.0
"""Seconds until two workers on one machine are at work: Ray begins, and each imports torch and opens a small model
(measured on two cores; more with a large model or a slow disk)."""
SHARED = 0.15
"""Of the tokens that could be drawn, about so many are: completions share beginnings, and many end early (measured on
the embedded model; of a large one it is more, and then there is work enough in any case)."""
SPEED = {"cpu": 1.5e11, "cuda": 7e13}
"""Floating-point operations a second of one worker, about, by kind of device."""


def hire_crew(run: Any, progress: Progress, tell: Callable[[str], None]) -> Crew | None:
    """The workers of a run (its ``Ledger``); None where one process does it, or does it sooner, which is told.

    Raises:
        InputError: Ray is not installed.
    """
    section = run.config.run
    if section.workers == 1 and not section.address:
        return None
    check_ray()
    if not section.address and section.workers > 1:
        seconds = estimate_seconds(run)
        if seconds is not None and seconds * (1 - 1 / section.workers) < START:
            tell(
                f"one worker is faster for so little: about {seconds:.0f} s of passes, and {section.workers} workers "
                f"take about {START:.0f} s to begin; this process does it alone"
            )
            return None
    cluster = Cluster(section.address, section.workers, device=run.config.model.device, gpus=section.gpus_per_worker)
    return Crew(cluster, progress, tell)


def estimate_seconds(run: Any) -> float | None:
    """How long the passes of a run take one worker, about; None where its files do not tell.

    From the prompts and the configuration alone: no model is opened.
    """
    config: Config = run.config
    shape = read_shape(locate(config.model.name, config.model.revision))
    if shape is None:
        return None
    sampling = config.sampling
    drawn = SHARED * len(run.prompts) * sampling.draws * sampling.max_new_tokens
    weights = 12 * shape.n_layers * shape.d_model**2 + len(run.tokenizer) * shape.d_model
    work = 2.0 * weights * drawn * (2 + _count_conditions(config, shape.n_layers))
    return work / SPEED.get(pick_device(config.model.device).type, SPEED["cpu"])


def _count_conditions(config: Config, n_layers: int) -> int:
    """Conditions of a run: its grid under the vector and its controls."""
    controls, groups = config.controls, config.scoring.groups
    vectors = 1 + controls.random_directions + controls.shuffled_labels + controls.negated + len(controls.orthogonal_to)
    cells = (n_layers if groups is None else len(groups)) * len(config.scoring.multipliers)
    return vectors * cells + len(config.rival)

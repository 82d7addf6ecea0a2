"""How far to trust P(A) under steering, by its flag: what was estimated against draws of the steered model itself.

    python analysis/calibrate_trust.py [--samples 100] [--top-up 25 100 400] [--seeds 6]
    python analysis/calibrate_trust.py --samples 400 --top-up 400 800
    python analysis/calibrate_trust.py --tune                       # what other thresholds do, on the other prompts

The embedded model, its prompts, layers 2 to 4, multipliers ±0.5, ±1, ±2, and 400 direct draws in every cell, under
random numbers that neither the estimate nor the top-up has used. Prompts in even places are for choosing thresholds
(``--tune`` is about these alone), those in odd places for the table. Prints Markdown; minutes on two cores.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from completions_lp.job.config import EMBEDDED, load_config
from completions_lp.job.validation import validate_cells
from completions_lp.model import load_model
from completions_lp.plan.validation import Validation
from completions_lp.prompts import load_pairs, load_prompts
from completions_lp.records import Measures, Sampling
from completions_lp.sample.draws import sample_completions
from completions_lp.score.grid import score_tokens
from completions_lp.score.measures import measure_completions
from completions_lp.score.topup import top_up
from completions_lp.stats.bounds import CERTIFIED_WIDTH, MEAN_WEIGHT, MIN_ESS
from completions_lp.steer.conditions import make_conditions
from completions_lp.steer.vectors import extract_vector


@dataclass(frozen=True, eq=False)
class Cells:
    """Prompt x condition cells, flat: the estimate and what it is judged by, and the check."""

    estimate: np.ndarray
    error: np.ndarray
    """The estimate's own standard error."""
    low: np.ndarray
    high: np.ndarray
    ess: np.ndarray
    weight_low: np.ndarray
    weight_high: np.ndarray
    trust: np.ndarray
    share: np.ndarray
    """Of the direct draws."""
    noise: np.ndarray
    """Binomial standard deviation of the share, were all seeds' direct draws right."""
    tail: np.ndarray
    """Probability of a count as far out as that of the direct draws, were P(A) at the nearer of its bounds."""

    @classmethod
    def of(cls, measures: Measures, checked: Validation, settled: np.ndarray) -> "Cells":
        """All cells of some measures; ``settled`` is the share of all seeds' direct draws, from ``settle_shares``."""
        names = ("p_A_steered", "p_A_steered_se", "p_A_steered_low", "p_A_steered_high", "ess")
        names = (*names, "mean_weight_low", "mean_weight_high")
        noise = np.sqrt(settled * (1 - settled) / checked.draws)
        columns = [measures.steered[name] for name in names]
        n, hits, low, high = checked.draws, checked.hits, columns[2], columns[3]
        tail = np.minimum(stats.binom.cdf(hits, n, low), stats.binom.sf(hits - 1, n, high))
        return cls(*(np.ravel(x) for x in (*columns, measures.trust, checked.share, noise, tail)))

    @classmethod
    def join(cls, parts: Sequence["Cells"]) -> "Cells":
        """Those of several sets of draws."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})

    def select(self, where: np.ndarray) -> "Cells":
        """Some cells."""
        return Cells(**{name: values[where] for name, values in vars(self).items()})

    def grade(self, width: float, ess: float, weight: tuple[float, float]) -> np.ndarray:
        """The flags that other thresholds would give."""
        green = (self.ess >= ess) & (self.weight_low >= weight[0]) & (self.weight_high <= weight[1])
        return np.where(self.high - self.low <= width, "certified", np.where(green, "green", "red"))


def main() -> None:
    """Draw, estimate, top up, check; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100, help="unsteered draws per prompt")
    parser.add_argument("--top-up", type=int, nargs="*", default=[25, 100, 400], help="steered draws in red cells")
    parser.add_argument("--draws", type=int, default=400, help="steered draws of the check, per cell")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--multipliers", type=float, nargs="+", default=[-2, -1, -0.5, 0.5, 1, 2])
    parser.add_argument("--limit", type=int, default=None, help="prompts (default: all)")
    parser.add_argument("--seeds", type=int, default=6, help="sets of draws, each with a seed of its own")
    parser.add_argument("--tune", action="store_true", help="on the prompts in even places: what thresholds would do")
    options = parser.parse_args()
    if options.tune:
        options.top_up = []
    found = [collect(options, seed) for seed in range(options.seeds)]
    settled = settle_shares([checked for _, checked in found])
    by_top_up = {
        n: Cells.join([Cells.of(measures[n], checked, settled) for measures, checked in found]) for n in found[0][0]
    }
    print(f"{options.samples} unsteered draws a prompt, {options.draws} direct draws a cell, {options.seeds} seeds\n")
    print(format_tuning(by_top_up[0]) if options.tune else format_table(by_top_up))


def settle_shares(checks: Sequence[Validation]) -> np.ndarray:
    """The share of all seeds' direct draws, (hits + 1)/(draws + 2), so that none is certain.

    It is where the noise of one seed's share is taken: at that share itself, one that fell low by chance would have its
    noise look small, and of estimates that are right 1 to 2 % would lie beyond 3 sd of a share below .05.
    """
    hits, draws = (np.sum([getattr(check, name) for check in checks], axis=0) for name in ("hits", "draws"))
    return (hits + 1) / (draws + 2)


def collect(options: argparse.Namespace, seed: int) -> tuple[dict[int, Measures], Validation]:
    """One half of the prompts: measures by steered draws that joined the red cells (0: before any did); the check."""
    half = 0 if options.tune else 1
    config = load_config(EMBEDDED)
    model = load_model(config.model.name)
    prompts = load_prompts(config.prompts.path, model.tokenizer, limit=options.limit)[half::2]
    pairs = load_pairs(config.vector.pairs, model.tokenizer)
    vectors = [extract_vector(model, pairs, name="cautious", progress=False)]
    sampling = Sampling(n=options.samples, seed=seed)
    completions = sample_completions(model, prompts, sampling=sampling)
    conditions = make_conditions(vectors, layers=options.layers, multipliers=options.multipliers)
    common: dict[str, Any] = {"target": config.label.target}
    measures = {0: measure_completions(score_tokens(model, completions, vectors, conditions, **common), **common)}
    for n in options.top_up:
        more = replace(completions, sampling=replace(sampling, top_up=n))
        measures[n] = top_up(model, more, vectors, measures[0], **common)[0]
    checked = validate_cells(model, completions, vectors, measures[0], conditions, draws=options.draws, **common)
    return measures, checked


def format_table(by_top_up: Mapping[int, Cells]) -> str:
    """By flag, how the estimates lie to the direct draws; and the worst bound."""
    before = by_top_up[0]
    red = before.trust == "red"
    groups = [(name, before.select(before.trust == name)) for name in ("certified", "green")]
    groups += [("certified and green", before.select(~red)), ("red", before.select(red))]
    for n, after in by_top_up.items():
        if n:
            groups.append((f"red, {n} steered draws added", after.select(red)))
            groups.append(("– of these still red", after.select(red & (after.trust == "red"))))
    names = ("flag", "cells", "bias", "mean abs.", "RMSE", "noise", "RMSE ÷ noise", "÷ combined", "> 3 sd", "largest")
    lines = [f"| {' | '.join((*names, 'in bounds'))} |", "|---|" + "---:|" * len(names)]
    lines += [f"| {name} | {describe(cells)} |" for name, cells in groups]
    worst = min(cells.tail.min() for cells in by_top_up.values())
    size = len(before.share)
    lines += [
        "",
        f"The count least probable under its bounds: p = {worst:.1g}; times {size} cells, {worst * size:.1g}.",
    ]
    return "\n".join(lines)


def describe(cells: Cells) -> str:
    """One row: combined noise is the check's and the estimate's own; bounds hold up to 3 sd of the check."""
    if not len(cells.share):
        return " | ".join(["0", *["–"] * 9])
    error = cells.estimate - cells.share
    rmse, noise = np.sqrt(np.mean(error**2)), np.sqrt(np.mean(cells.noise**2))
    combined = np.sqrt(np.mean(cells.noise**2 + cells.error**2))
    slack = 3 * cells.noise
    held = (cells.share >= cells.low - slack) & (cells.share <= cells.high + slack)
    return " | ".join(
        [
            f"{len(error)}",
            f"{error.mean():+.4f}",
            f"{np.abs(error).mean():.4f}",
            f"{rmse:.4f}",
            f"{noise:.4f}",
            f"{rmse / noise:.2f}",
            f"{rmse / combined:.2f}",
            f"{(np.abs(error) > slack).mean():.1%}",
            f"{np.abs(error).max():.3f}",
            f"{held.mean():.1%}",
        ]
    )


def format_tuning(cells: Cells) -> str:
    """What goes with an error where the bounds do not settle it, and what other thresholds would keep."""
    if not np.array_equal(cells.grade(CERTIFIED_WIDTH, MIN_ESS, MEAN_WEIGHT), cells.trust):
        raise SystemExit("the flags are not those of the thresholds; this script does not know the rule any more")
    with np.errstate(divide="ignore"):
        factor = np.maximum(cells.weight_high, 1 / cells.weight_low)
    width = cells.high - cells.low
    wide = width > CERTIFIED_WIDTH
    lines = [
        "| where | cells | bias | RMSE ÷ noise | ÷ combined | > 3 sd | largest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]

    def tell(name: str, where: np.ndarray) -> None:
        row = describe(cells.select(where)).split(" | ")
        lines.append(f"| {name} | {' | '.join(row[i] for i in (0, 1, 5, 6, 7, 8))} |")

    for low, high in pairwise((0.0, 0.03, 0.05, 0.1, 1.0)):
        tell(f"bounds {low:g} to {high:g} apart", (width > low) & (width <= high))
    for low, high in pairwise((1.0, 1.1, 1.25, 1.35, 1.8, np.inf)):
        chosen = wide & (cells.ess >= MIN_ESS) & (factor > low) & (factor <= high)
        tell(f"enough draws, mean weight off by a factor of {low:g} to {high:g}", chosen)
    for low, high in pairwise((0, 20, 30, 50, np.inf)):
        chosen = wide & (factor <= MEAN_WEIGHT[1]) & (cells.ess >= low) & (cells.ess < high)
        tell(f"mean weight right, {low:g} to {high:g} effective draws", chosen)
    for limits in itertools.product((0.03, 0.05, 0.1), (20, 50), (1.1, 1.25, 1.35)):
        kept = cells.grade(limits[0], limits[1], (1 / limits[2], limits[2])) != "red"
        tell(f"kept: width {limits[0]:g}, {limits[1]} draws, factor {limits[2]:g} ({kept.mean():.0%})", kept)
    return "\n".join(lines)


if __name__ == "__main__":
    main()

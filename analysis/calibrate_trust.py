"""How far to trust P(A) under steering, by its flag: what was estimated against draws of the steered model itself.

    python analysis/calibrate_trust.py                                   # 100 unsteered draws, red topped up with 25
    python analysis/calibrate_trust.py --samples 400 --top-up 400
    python analysis/calibrate_trust.py --tune                            # thresholds, on the other half of the prompts

The embedded model, its 60 prompts, layers 2 to 4, multipliers ±0.5, ±1, ±2; 400 direct draws in every cell, under
random numbers that neither the estimate nor the top-up has used. Prompts in even places are for choosing thresholds
(``--tune`` shows those alone), prompts in odd places for the table. Prints Markdown.
"""

import argparse
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from completions_lp.config import EMBEDDED, load_config
from completions_lp.measuring import measure_completions
from completions_lp.model import load_model
from completions_lp.prompts import load_pairs, load_prompts
from completions_lp.records import Measures, Sampling
from completions_lp.sampling import sample_completions
from completions_lp.scoring import make_conditions, score_completions
from completions_lp.stats.bounds import CERTIFIED_WIDTH, MEAN_WEIGHT, MIN_ESS
from completions_lp.validating import Validation, top_up, validate_cells
from completions_lp.vectors import extract_vector


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
    """Binomial standard deviation of the share."""

    @classmethod
    def of(cls, measures: Measures, checked: Validation) -> "Cells":
        """All cells of some measures; the noise is that at (hits + 1)/(draws + 2), so that no share of 0 is certain."""
        names = ("p_A_steered", "p_A_steered_se", "p_A_steered_low", "p_A_steered_high", "ess")
        names = (*names, "mean_weight_low", "mean_weight_high")
        smoothed = (checked.hits + 1) / (checked.draws + 2)
        noise = np.sqrt(smoothed * (1 - smoothed) / checked.draws)
        columns = [measures.steered[name] for name in names]
        return cls(*(np.ravel(x) for x in (*columns, measures.trust, checked.share, noise)))

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
    parser.add_argument("--top-up", type=int, default=25, help="steered draws in red cells")
    parser.add_argument("--draws", type=int, default=400, help="steered draws of the check, per cell")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--multipliers", type=float, nargs="+", default=[-2, -1, -0.5, 0.5, 1, 2])
    parser.add_argument("--limit", type=int, default=None, help="prompts (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tune", action="store_true", help="on the prompts in even places: what thresholds would do")
    options = parser.parse_args()
    before, after = collect(options, half=0 if options.tune else 1)
    print(f"{options.samples} unsteered draws a prompt, top-up {options.top_up}, {options.draws} direct draws a cell\n")
    print(format_tuning(before) if options.tune else format_table(before, after))


def collect(options: argparse.Namespace, *, half: int) -> tuple[Cells, Cells]:
    """The cells of one half of the prompts, from the unsteered draws alone and after the top-up."""
    config = load_config(EMBEDDED)
    model = load_model(config.model.name)
    prompts = load_prompts(config.prompts.path, model.tokenizer, limit=options.limit)[half::2]
    pairs = load_pairs(config.vector.pairs, model.tokenizer)
    vectors = [extract_vector(model, pairs, name="cautious", progress=False)]
    sampling = Sampling(n=options.samples, seed=options.seed)
    completions = sample_completions(model, prompts, sampling=sampling)
    conditions = make_conditions(vectors, layers=options.layers, multipliers=options.multipliers)
    common: dict[str, Any] = {"target": config.label.target}
    scores = score_completions(model, completions, vectors, conditions, **common)
    measures = measure_completions(scores, **common)
    pooled = replace(completions, sampling=replace(sampling, top_up=options.top_up))
    topped, _ = top_up(model, pooled, vectors, measures, **common)
    checked = validate_cells(model, completions, vectors, measures, conditions, draws=options.draws, **common)
    return Cells.of(measures, checked), Cells.of(topped, checked)


def format_table(before: Cells, after: Cells) -> str:
    """By flag, how the estimates lie to the direct draws."""
    red = before.trust == "red"
    groups = {
        "certified": before.select(before.trust == "certified"),
        "green": before.select(before.trust == "green"),
        "certified and green": before.select(~red),
        "red": before.select(red),
        "red, topped up": after.select(red),
        "– now certified or green": after.select(red & (after.trust != "red")),
        "– still red": after.select(red & (after.trust == "red")),
    }
    lines = [
        "| flag | cells | bias | mean abs. | RMSE | noise | RMSE ÷ noise | ÷ combined | > 3 sd | largest | bounds |"
    ]
    lines.append("|---|" + "---:|" * 10)
    return "\n".join([*lines, *(f"| {name} | {describe(cells)} |" for name, cells in groups.items())])


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
    """What the certified and green cells would be under other thresholds."""
    current = cells.grade(CERTIFIED_WIDTH, MIN_ESS, MEAN_WEIGHT)
    if not np.array_equal(current, cells.trust):
        raise SystemExit("the flags are not those of the thresholds; this script does not know the rule any more")
    lines = ["| width | min. ESS | mean weight | kept | flag | RMSE ÷ noise | ÷ combined | > 3 sd | largest |"]
    lines.append("|---:|---:|---|---:|---|---:|---:|---:|---:|")
    for width in (0.05, 0.1):
        for ess in (10, 20, 30, 50, 100):
            for factor in (1.35, 1.25, 1.15, 1.1):
                trust = cells.grade(width, ess, (1 / factor, factor))
                for name, where in (("certified, green", trust != "red"), ("green", trust == "green")):
                    row = describe(cells.select(where)).split(" | ")
                    shown = " | ".join([row[5], row[6], row[7], row[8]])
                    lines.append(
                        f"| {width:g} | {ess} | {1 / factor:.2f}–{factor:g} | {where.mean():.0%} | {name} | {shown} |"
                    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""How many contrast pairs does a vector need? One estimate from 50 pairs against five from 10, and other sizes.

    python analysis/convergence.py RUN_DIR [RUN_DIR ...] [--sizes 5 10 25 50 100] [--quantity delta_p_A] [--out DIR]

Needs the run's model: vectors are made from batches of its contrast pairs (no pair in two batches of one size, and the
smaller batches are parts of the larger ones), and the run's completions are scored under each. It writes nothing into
the run directory.
"""

from pathlib import Path

import numpy as np
from drawing import for_each_run, make_parser, save

from completions_lp.job.stages import Run
from completions_lp.quantities import PRIMARY
from completions_lp.records import Condition, InputError, Report, SteeringVector
from completions_lp.report import summarize
from completions_lp.report.comparison import pick_best
from completions_lp.score.parts import score_completions
from completions_lp.show.figures import Batch, Convergence, caption_convergence, plot_convergence, tabulate_convergence
from completions_lp.steer.vectors import PairDifferences, average_differences, read_differences
from completions_lp.store import read_completions

MOST = 5
"""Batches of one size."""


def measure(run: Run, cell: Condition, sizes: list[int], quantity: str, *, seed: int) -> Convergence:
    """Make the vectors of all batches and score the run's completions under each."""
    config, target = run.config, run.config.label.target
    differences = read_differences(run.model, run.pairs, layers=[cell.layer], progress=False)
    order = np.random.default_rng(seed).permutation(differences.values.shape[1])
    batches = list_batches(order, sizes)
    vectors = [make_vector(differences, rows, f"{len(rows)}-{number}") for number, rows in batches]
    conditions = [Condition(v.name, "target", cell.layer, cell.multiplier, cell.positions) for v in vectors]
    completions = read_completions(run.folder, sampling=config.sampling, labelling=config.labelling)
    found = score_completions(run.model, completions, vectors, conditions, target=target, kl=False, progress=False)
    report = summarize(found.increases, None, found.measures, target=target, seed=config.sampling.seed)
    made = tuple(
        Batch(
            n_pairs=len(rows),
            number=number,
            split_half_cosine=vector.quality[cell.layer].split_half_cosine,
            cosine_to_rest=compare_to_rest(differences, rows),
            effect=report.estimate(quantity, condition),
        )
        for (number, rows), vector, condition in zip(batches, vectors, conditions, strict=True)
    )
    return Convergence(cell.vector, cell.layer, cell.multiplier, quantity, target, made)


def list_batches(order: np.ndarray, sizes: list[int]) -> list[tuple[int, np.ndarray]]:
    """Number and pairs of each batch: consecutive stretches of one random order, at most ``MOST`` of a size."""
    chosen = [size for size in sizes if size <= len(order)] or [len(order)]
    counts = [(size, min(MOST, len(order) // size)) for size in sorted(set(chosen))]
    return [(k, order[k * size : (k + 1) * size]) for size, count in counts for k in range(count)]


def make_vector(differences: PairDifferences, rows: np.ndarray, name: str) -> SteeringVector:
    """The mean over some of the pairs."""
    return average_differences(PairDifferences(differences.layers, differences.values[:, rows]), name=name)


def compare_to_rest(differences: PairDifferences, rows: np.ndarray) -> float:
    """Cosine between the mean of these pairs and that of all others; NaN where no other is left."""
    inside = np.zeros(differences.values.shape[1], dtype=bool)
    inside[rows] = True
    if inside.all():
        return float("nan")
    values = differences.values[0].astype(np.float64)
    one, rest = values[inside].mean(0), values[~inside].mean(0)
    return float(one @ rest / (np.linalg.norm(one) * np.linalg.norm(rest)))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[5, 10, 25, 50, 100], help="pairs per batch")
    parser.add_argument("--quantity", default=PRIMARY, help="the effect, a name of summary.csv")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the pairs")
    given = parser.parse_args()

    def make(path: Path, report: Report, folder: Path) -> None:
        cell = pick_best(report)
        if cell is None:
            raise InputError(f"{path}: no best cell; the run needs two prompts or more and a multiplier other than 0")
        found = measure(Run.open(path), cell, given.sizes, given.quantity, seed=given.seed)
        save(folder, "convergence", plot_convergence(found), tabulate_convergence(found), caption_convergence(found))

    for_each_run(given.runs, given.out, make)


if __name__ == "__main__":
    main()

"""Does P(A) under steering, estimated from the unsteered draws, agree with draws of the steered model itself?

    python analysis/validation.py RUN_DIR [RUN_DIR ...] [--draws 50] [--out DIR]

Needs the run's model. Draws of their own (another seed than the run's) are made in up to three cells of the best layer:
the best multiplier, its opposite and the smallest one. validation.csv has a row per prompt and cell, with
Clopper-Pearson intervals; diagnostics.py draws it. It writes nothing into the run directory.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from drawing import for_each_run, make_parser, write_csv
from scipy import stats

from completions_lp.comparing import pick_best
from completions_lp.figures.cells import select_prompts
from completions_lp.records import Condition, InputError, Report
from completions_lp.run import Run
from completions_lp.store import read_completions, read_vectors
from completions_lp.validating import count_target, draw_steered


def list_cells(report: Report) -> list[Condition]:
    """The best cell, its opposite, and the smallest multiplier of its layer, where they were scored."""
    best = pick_best(report)
    if best is None:
        raise InputError("no best cell; the run needs two prompts or more and a multiplier other than 0")
    cells = {row.condition for row in report.table("p_A_steered") if row.condition.multiplier != 0}
    layer = [c for c in cells if c.layer == best.layer and c.vector == best.vector]
    smallest = min(layer, key=lambda c: (abs(c.multiplier), -c.multiplier))
    wanted = (best, replace(best, multiplier=-best.multiplier), smallest)
    return [cell for cell in dict.fromkeys(wanted) if cell in cells]


def validate(run: Run, report: Report, cell: Condition, draws: int, *, seed: int) -> list[dict[str, Any]]:
    """Rows of one cell: the estimate and its trust beside the share of steered draws with its interval."""
    config = run.config
    sampling = replace(config.sampling, seed=seed)
    completions = read_completions(run.folder, sampling=sampling, labelling=config.labelling)
    drawn = draw_steered(run.model, completions, read_vectors(run.folder), cell, draws, progress=False)
    hits, totals = count_target(drawn, config.label.target)
    columns = select_prompts(report, cell)
    rows = []
    for i, (k, n) in enumerate(zip(hits.tolist(), totals.tolist(), strict=True)):
        if np.isfinite(columns["p_A_steered"][i]) and n:
            inside = stats.binomtest(k, n).proportion_ci(method="exact")
            row = {"prompt_id": columns["prompt_id"][i], "layer": cell.layer, "multiplier": cell.multiplier}
            row |= {"p_A_steered": float(columns["p_A_steered"][i]), "trust": str(columns["trust"][i])}
            rows.append(row | {"frequency": k / n, "low": inside.low, "high": inside.high, "draws": n})
    return rows


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--draws", type=int, default=50, help="steered draws per prompt and cell")
    given = parser.parse_args()
    for path in given.runs:
        folder = given.out if len(given.runs) == 1 else given.out / path.resolve().name

        def make(report: Report, out: Path, path: Path = path) -> None:
            run = Run.open(path)
            seed = run.config.sampling.seed + 1  # the run's own steered draws may be part of its estimates
            table = [row for cell in list_cells(report) for row in validate(run, report, cell, given.draws, seed=seed)]
            out.mkdir(parents=True, exist_ok=True)
            write_csv(out / "validation.csv", table)
            print(out / "validation.csv")

        for_each_run([path], folder, make)


if __name__ == "__main__":
    main()

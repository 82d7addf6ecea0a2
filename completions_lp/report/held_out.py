"""Best cells on the clusters that had no say in their choice."""

from dataclasses import replace

from completions_lp.records import ReportRow
from completions_lp.report.averages import average_prompts, count_shares
from completions_lp.report.controls import compare_directions
from completions_lp.report.prompts import Columns
from completions_lp.report.rows import make_rows
from completions_lp.report.sweep import Sweep
from completions_lp.stats import mean_t, measure_spread


def report_held_out(columns: Columns, sweep: Sweep, *, level: float, seed: int) -> list[ReportRow]:
    """Best cells on the clusters that had no say in their choice; none where no cluster is left.

    First every swept quantity in its own best cell, with how often it is best; then all others in the primary one's.
    """
    halves = [best.chosen_by for best in sweep.best.values()]
    if not halves or halves[0].all():
        return []
    told = ~halves[0]
    inference = {}
    for quantity in sweep.inference:
        values, clusters = columns.steered[quantity][:, told], columns.clusters[told]
        means = measure_spread(values, clusters)[0]
        inference[quantity] = compare_directions(
            means, columns.conditions, sweep.cells, level=level, lost=columns.count_lost()
        )
        inference[quantity]["p_t"] = mean_t(values[sweep.cells], clusters)[1]
    rows = {}
    for cell in {best.cell for best in sweep.best.values()}:
        one = columns.select(conditions=[sweep.cells[cell]], prompts=told)
        here = {name: {field: x[[cell]] for field, x in fields.items()} for name, fields in inference.items()}
        numbers = [*average_prompts(one, level=level, seed=seed, inference=here), *count_shares(one, level=level)]
        rows[cell] = {row.quantity: replace(row, split="report") for row in make_rows(one, numbers)}
    found = []
    for quantity, best in sweep.best.items():
        row = rows[best.cell].pop(quantity)
        frequency = float(best.frequency[best.cell])
        found.append(replace(row, inference=replace(row.inference, selection_frequency=frequency)))
    return [*found, *(rows[sweep.best[sweep.primary].cell].values() if sweep.primary in sweep.best else ())]

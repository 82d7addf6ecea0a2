"""Effect against collateral damage: what the same vector does in the same cell on prompts that it is not about."""

from collections.abc import Mapping

from completions_lp.quantities import HEADLINE, PRIMARY
from completions_lp.records import OffTargetRow, Report
from completions_lp.report.best import find_primary

QUANTITIES = (PRIMARY, HEADLINE, "increase_all", "kl_per_token", "logit_diff_change", "greedy_change")
"""What is told of each set: the changes of its own answer, the divergence, and the change of its accuracy."""


def compare_sets(report: Report, sets: Mapping[str, Report]) -> tuple[OffTargetRow, ...]:
    """By set and cell, what steering does there, beside its effect on the run's own prompts by the primary quantity.

    Means over the prompts of each, with their own intervals; the two are of different prompts, and no difference of
    them is taken.
    """
    primary = find_primary(report)
    effects = {row.condition: row.estimate for row in report.table(primary)}
    found = []
    for name, other in sets.items():
        for quantity in QUANTITIES:
            for row in other.table(quantity):
                if not row.condition.is_neutral and row.condition in effects:
                    effect, n = effects[row.condition], row.n_dropped
                    found.append(OffTargetRow(name, row.condition, quantity, row.estimate, n, primary, effect))
    order = {condition: i for i, condition in enumerate(effects)}
    names = list(sets)
    return tuple(sorted(found, key=lambda row: (order[row.condition], names.index(row.name))))

"""Effect against collateral damage: what the same vector does in the same cell on prompts that it is not about."""

from collections.abc import Mapping
from dataclasses import replace

from completions_lp.quantities import HEADLINE, PRIMARY
from completions_lp.records import Condition, OffTargetRow, Report
from completions_lp.report.best import find_primary

QUANTITIES = (PRIMARY, HEADLINE, "increase_all", "kl_per_token", "logit_diff_change", "greedy_change")
"""What is told of each set: the changes of its own answer, the divergence, and the change of its accuracy."""


def compare_sets(report: Report, sets: Mapping[str, Report]) -> tuple[OffTargetRow, ...]:
    """By set and cell, what steering does there, beside its effect on the run's own prompts by the primary quantity.

    Means over the prompts of each, with their own intervals; the two are of different prompts, and no difference of
    them is taken.
    """
    primary = find_primary(report)
    named = {_undose(row.condition): row.condition for row in report.table(primary)}
    effects = {row.condition: row.estimate for row in report.table(primary)}
    found = []
    for name, other in sets.items():
        for quantity in QUANTITIES:
            for row in other.table(quantity):
                cell = named.get(_undose(row.condition))
                if not row.condition.is_neutral and cell is not None:
                    found.append(
                        OffTargetRow(name, cell, quantity, row.estimate, row.n_dropped, primary, effects[cell])
                    )
    order = {condition: i for i, condition in enumerate(effects)}
    names = list(sets)
    return tuple(sorted(found, key=lambda row: (order[row.condition], names.index(row.name))))


def _undose(condition: Condition) -> Condition:
    """The condition by what is done, whatever dose was asked for."""
    return replace(condition, dose=None)

"""The per-prompt table -> shares of the prompts, of which no interval is made."""

from collections.abc import Sequence

import numpy as np

from completions_lp.quantities import PRIMARY, TRUST
from completions_lp.records import Estimate
from completions_lp.report.averages import measure_errors
from completions_lp.report.prompts import Columns
from completions_lp.report.rows import Numbers
from completions_lp.stats import share_below_zero


def count_shares(columns: Columns, *, level: float) -> list[Numbers]:
    """Shares of the prompts that were steered the wrong way, and by trust."""
    if columns.trust is None:
        return []
    values, errors = columns.steered[PRIMARY], measure_errors(columns)[PRIMARY]
    both = np.isfinite(values) & np.isfinite(errors)
    below = [share_below_zero(v, e) for v, e in zip(values, errors, strict=True)]
    numbers = [_make_shares(f"below_zero_{PRIMARY}", below, both, columns, level, "normal shrinkage")]
    graded = columns.trust != ""
    for name in TRUST:
        with np.errstate(invalid="ignore"):
            share = (columns.trust == name).sum(-1) / np.float64(graded.sum(-1))
        numbers.append(_make_shares(f"share_{name}", share.tolist(), graded, columns, level, "count"))
    return numbers


def _make_shares(
    quantity: str, shares: Sequence[float], among: np.ndarray, columns: Columns, level: float, method: str
) -> Numbers:
    clusters = [len(np.unique(columns.clusters[keep])) for keep in among]
    estimates = [
        Estimate(share, None, None, level, "share", n, g, method)
        for share, n, g in zip(shares, among.sum(-1).tolist(), clusters, strict=True)
    ]
    return Numbers(quantity, "macro", estimates)

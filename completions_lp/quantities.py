"""The numbers by name: their units, and which inference each of them gets.

Names are those of the run directory's tables; ``A`` stands for the target answer, whatever its letter.
"""

PRIMARY = "delta_p_A"
"""The estimand: the change of P(A within K), in percentage points."""
HEADLINE = "increase_to_answer_A"
"""The average log-prob increase through the answer's token: a lower bound on the log ratio of P(A)."""
SWEPT = (PRIMARY, "log_ratio_A", HEADLINE, "logit_diff_change")
"""What a sweep is judged by: simultaneous bands, adjusted p-values, comparison with directions, best cell."""
SKEWED = ("kl", "kl_per_token", "kl_reverse")
"""Divergences: a t interval covers too rarely (STATISTICS §4), so bootstrap-t."""
POOLED = {
    HEADLINE: "A",
    "increase_A": "A",
    "increase_to_answer_not_A": "not_A",
    "increase_not_A": "not_A",
    "increase_all": "all",
}
"""Also as ``micro``, pooled over completions; the value says over which."""
ODD = (HEADLINE, "log_ratio_A", PRIMARY)
"""Also as ``NAME_odd``, [f(m) − f(−m)]/2, which even-order damage does not touch (STATISTICS I6)."""
TRUST = ("certified", "green", "red")

_UNITS = {
    "probability": (
        *("mass", "mass_steered", "share_A", "p_A", "p_A_low", "p_A_high"),
        *("p_A_steered", "p_A_steered_low", "p_A_steered_high", "first_A", "first_B"),
        *("first_A_steered", "first_B_steered", "answered", "answered_steered"),
    ),
    "pp": (PRIMARY, f"{PRIMARY}_odd"),
    "nats/token": ("kl_per_token",),
    "share": (f"below_zero_{PRIMARY}", *(f"share_{trust}" for trust in TRUST)),
    "draws": ("ess", "n_steered"),
    "tokens": ("n_tokens",),
    "ratio": ("mean_weight_low", "mean_weight_high"),
}
_UNIT_OF = {name: unit for unit, names in _UNITS.items() for name in names}


def name_unit(quantity: str) -> str:
    """The unit of a quantity; nats for all that have no other."""
    return _UNIT_OF.get(quantity, "nats")

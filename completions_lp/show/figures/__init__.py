"""Report -> matplotlib Figure. Draws, never computes or saves.

Every figure comes with its caption and with the tidy rows behind it; ``GALLERY`` has them all by name. Settings of
matplotlib hold inside the functions only. Intervals that do not exist are not drawn, and a figure of an empty or
one-prompt run says so.
"""

from completions_lp.show.figures.agreement import plot_agreement
from completions_lp.show.figures.convergence import (
    Batch,
    Convergence,
    caption_convergence,
    plot_convergence,
    tabulate_convergence,
)
from completions_lp.show.figures.damage import plot_damage
from completions_lp.show.figures.diagnostics import plot_diagnostics
from completions_lp.show.figures.distributions import plot_distributions
from completions_lp.show.figures.doses import plot_dose
from completions_lp.show.figures.gallery import GALLERY, Entry, caption, check_names, tabulate
from completions_lp.show.figures.heatmap import plot_heatmap
from completions_lp.show.figures.layers import plot_layers
from completions_lp.show.figures.probabilities import plot_probabilities
from completions_lp.show.figures.profile import plot_profile
from completions_lp.show.figures.promotion import plot_promotion
from completions_lp.show.figures.prompts import plot_prompts
from completions_lp.show.figures.steerability import plot_steerability

__all__ = [
    "GALLERY",
    "Batch",
    "Convergence",
    "Entry",
    "caption",
    "caption_convergence",
    "check_names",
    "plot_agreement",
    "plot_convergence",
    "plot_damage",
    "plot_diagnostics",
    "plot_distributions",
    "plot_dose",
    "plot_heatmap",
    "plot_layers",
    "plot_probabilities",
    "plot_profile",
    "plot_promotion",
    "plot_prompts",
    "plot_steerability",
    "tabulate",
    "tabulate_convergence",
]

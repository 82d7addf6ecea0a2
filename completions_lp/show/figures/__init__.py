"""Report -> figures, each an object with its drawing, its tidy rows and its caption. Draws, never computes or saves.

``GALLERY`` makes them all by name.
"""

from completions_lp.show.figures.agreement import Agreement
from completions_lp.show.figures.convergence import Batch, Convergence
from completions_lp.show.figures.damage import Damage
from completions_lp.show.figures.diagnostics import Diagnostics
from completions_lp.show.figures.distributions import Distributions
from completions_lp.show.figures.doses import DoseResponse
from completions_lp.show.figures.gallery import GALLERY, check_names
from completions_lp.show.figures.heatmap import Heatmap
from completions_lp.show.figures.layers import LayerSweep
from completions_lp.show.figures.probabilities import Probabilities
from completions_lp.show.figures.profile import TokenProfile
from completions_lp.show.figures.promotion import Promotion
from completions_lp.show.figures.prompts import PromptEffects
from completions_lp.show.figures.steerability import Steerability
from completions_lp.show.figures.view import View

__all__ = [
    "GALLERY",
    "Agreement",
    "Batch",
    "Convergence",
    "Damage",
    "Diagnostics",
    "Distributions",
    "DoseResponse",
    "Heatmap",
    "LayerSweep",
    "Probabilities",
    "Promotion",
    "PromptEffects",
    "Steerability",
    "TokenProfile",
    "View",
    "check_names",
]

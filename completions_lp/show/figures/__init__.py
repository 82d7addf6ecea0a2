"""Report -> figures, with drawing, tidy rows and caption; ``GALLERY`` makes all. Draws, never computes or saves."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

from completions_lp.quantities import list_missing
from completions_lp.records import InputError, Report
from completions_lp.show.figures.agreement import Agreement
from completions_lp.show.figures.costs import Costs
from completions_lp.show.figures.damage import DAMAGE, Damage
from completions_lp.show.figures.diagnostics import Diagnostics
from completions_lp.show.figures.distributions import Distributions
from completions_lp.show.figures.doses import DoseResponse
from completions_lp.show.figures.heatmap import Heatmap
from completions_lp.show.figures.layers import LayerSweep
from completions_lp.show.figures.odds import Odds
from completions_lp.show.figures.off_target import OffTarget
from completions_lp.show.figures.probabilities import Probabilities
from completions_lp.show.figures.profile import TokenProfile
from completions_lp.show.figures.promotion import Promotion
from completions_lp.show.figures.prompts import PromptEffects
from completions_lp.show.figures.quality import Quality
from completions_lp.show.figures.reasoning import Reasoning
from completions_lp.show.figures.rivals import Rivals
from completions_lp.show.figures.steerability import Steerability
from completions_lp.show.figures.view import View

GALLERY: Mapping[str, Callable[..., View]] = MappingProxyType(
    {
        "layer_sweep": LayerSweep.of,
        "dose_response": DoseResponse.of,
        "heatmap": Heatmap.of,
        "prompts": PromptEffects.of,
        "prompts_change": partial(PromptEffects.of, change=True),
        "damage": Damage.of,
        "costs": Costs.of,
        "token_profile": TokenProfile.of,
        "distributions": Distributions.of,
        "diagnostics": Diagnostics.of,
        "probabilities": Probabilities.of,
        "steerability": Steerability.of,
        "promotion": Promotion.of,
        "quality": Quality.of,
        "agreement": Agreement.of,
        "odds": Odds.of,
        "reasoning": Reasoning.of,
        "rivals": Rivals.of,
        "off_target": OffTarget.of,
    }
)
"""By name, in the order of a paper: what makes each figure of a report and of its own options."""


OVER_WHOLE: Mapping[str, str] = MappingProxyType({"damage": DAMAGE, "costs": DAMAGE})
"""Figures that have nothing to draw without a quantity over whole completions, and which."""


def say_skipped(name: str, report: Report) -> str:
    """Why a figure of this report is not drawn; empty where it is."""
    for asked, found, section in (("rivals", report.rivals, "rival"), ("off_target", report.off_target, "off_target")):
        if name == asked and not found:
            return f"figure {name}: left out, since the run has none ([[{section}]])"
    if name == "quality" and not report.quality:
        return "figure quality: left out, since the file of the run's vector does not say how well it is known"
    needed = OVER_WHOLE.get(name)
    if needed not in list_missing(report.through):
        return ""
    return (
        f"figure {name}: left out, since {needed} is over whole completions, which are scored through the "
        f"{report.through} only ([scoring] through)"
    )


def check_names(names: Iterable[str]) -> None:
    """Raise InputError unless there is a figure of every name."""
    for name in names:
        if name not in GALLERY:
            raise InputError(f"no figure {name!r}; there are {', '.join(GALLERY)}")

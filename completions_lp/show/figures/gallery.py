"""All figures of a Report by name, each with its caption and the table behind it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from matplotlib.figure import Figure

from completions_lp.records import InputError, Report
from completions_lp.show.figures.agreement import caption_agreement, plot_agreement, tabulate_agreement
from completions_lp.show.figures.cells import Table
from completions_lp.show.figures.damage import caption_damage, plot_damage, tabulate_damage
from completions_lp.show.figures.diagnostics import caption_diagnostics, plot_diagnostics, tabulate_diagnostics
from completions_lp.show.figures.distributions import caption_distributions, plot_distributions, tabulate_distributions
from completions_lp.show.figures.doses import caption_dose, plot_dose, tabulate_dose
from completions_lp.show.figures.heatmap import caption_heatmap, plot_heatmap, tabulate_heatmap
from completions_lp.show.figures.layers import caption_layers, plot_layers, tabulate_layers
from completions_lp.show.figures.probabilities import caption_probabilities, plot_probabilities, tabulate_probabilities
from completions_lp.show.figures.profile import caption_profile, plot_profile, tabulate_profile
from completions_lp.show.figures.promotion import caption_promotion, plot_promotion, tabulate_promotion
from completions_lp.show.figures.prompts import caption_prompts, plot_prompts, tabulate_prompts
from completions_lp.show.figures.steerability import caption_steerability, plot_steerability, tabulate_steerability


@dataclass(frozen=True)
class Entry:
    """One figure: three functions that take a Report and the same options."""

    plot: Callable[..., Figure]
    caption: Callable[..., str]
    tabulate: Callable[..., Table]


GALLERY: Mapping[str, Entry] = MappingProxyType(
    {
        "layer_sweep": Entry(plot_layers, caption_layers, tabulate_layers),
        "dose_response": Entry(plot_dose, caption_dose, tabulate_dose),
        "heatmap": Entry(plot_heatmap, caption_heatmap, tabulate_heatmap),
        "prompts": Entry(plot_prompts, caption_prompts, tabulate_prompts),
        "prompts_change": Entry(
            partial(plot_prompts, change=True),
            partial(caption_prompts, change=True),
            partial(tabulate_prompts, change=True),
        ),
        "damage": Entry(plot_damage, caption_damage, tabulate_damage),
        "token_profile": Entry(plot_profile, caption_profile, tabulate_profile),
        "distributions": Entry(plot_distributions, caption_distributions, tabulate_distributions),
        "diagnostics": Entry(plot_diagnostics, caption_diagnostics, tabulate_diagnostics),
        "probabilities": Entry(plot_probabilities, caption_probabilities, tabulate_probabilities),
        "steerability": Entry(plot_steerability, caption_steerability, tabulate_steerability),
        "promotion": Entry(plot_promotion, caption_promotion, tabulate_promotion),
        "agreement": Entry(plot_agreement, caption_agreement, tabulate_agreement),
    }
)
"""By name, in the order of a paper."""


def caption(report: Report, name: str, **options: Any) -> str:
    """The caption of a figure: what is drawn, intervals and their level, prompts, units, what the marks mean.

    Args:
        report: What is drawn.
        name: A name of the gallery.
        options: As given to the figure's own function.

    Raises:
        InputError: There is no such figure.
    """
    return _find(name).caption(report, **options)


def tabulate(report: Report, name: str, **options: Any) -> Table:
    """The tidy rows behind a figure, each a dictionary; empty where there is nothing to draw.

    Arguments and errors are those of ``caption``.
    """
    return _find(name).tabulate(report, **options)


def check_names(names: Iterable[str]) -> None:
    """Raise InputError unless there is a figure of every name."""
    for name in names:
        if name not in GALLERY:
            raise InputError(f"no figure {name!r}; there are {', '.join(GALLERY)}")


def _find(name: str) -> Entry:
    check_names([name])
    return GALLERY[name]

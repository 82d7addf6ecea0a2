"""The page that figures are drawn on: its style and its sizes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.records import InputError

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.fancybox": False,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.75,
    "legend.handlelength": 1.8,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "hatch.linewidth": 0.5,
    "figure.dpi": 200,
    # Names of vectors and answers come from files: a "$" or a "_" in them is no formula.
    "text.usetex": False,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
}
PRINT: dict[Any, Any] = {"pdf.fonttype": 42, "ps.fonttype": 42, "text.usetex": False}
"""Fonts embedded as TrueType, which journals ask for; read when a figure is saved, not when it is drawn."""
COLUMN, WIDE = 3.4, 7.0
"""Width of one and of two columns of a paper, in inches."""
BLUE, RED, YELLOW = "#004488", "#BB5566", "#DDAA33"
"""Paul Tol's high-contrast colours: safe for the colour-blind, and three different greys."""
GREY, BAND = "0.45", "0.88"
"""Controls: single ones, and the band of many."""
Panels = Axes | Iterable[Axes]


class Page(Figure):
    """A figure whose fonts are embedded whenever it is saved, whatever the settings are then."""

    def savefig(self, *args: Any, **options: Any) -> None:
        """As ``Figure.savefig``."""
        with mpl.rc_context(PRINT):
            super().savefig(*args, **options)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture, for a notebook, which shows it at 100 pixels an inch and as sharp as it is."""
        data = BytesIO()
        self.savefig(data, format="png")
        width, height = (round(100 * inches) for inches in self.get_size_inches())
        return data.getvalue(), {"width": width, "height": height}


@dataclass(frozen=True)
class Sheet:
    """How many panels a figure has, and the new page that they would stand on."""

    n: int
    size: tuple[float, float]
    """Width and height, in inches."""
    columns: int = 1
    """Panels side by side."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For ``Figure.subplots``."""


def open_axes(axes: Panels | None, sheet: Sheet) -> tuple[Figure, list[Axes]]:
    """The axes to draw on: the caller's, or new ones on a page.

    Raises:
        InputError: The caller gave another number of axes than there are panels.
    """
    n, columns = sheet.n, sheet.columns
    if axes is None:
        page = Page(figsize=sheet.size, layout="constrained")
        grid = page.subplots(-(-n // columns), columns, squeeze=False, **sheet.options)
        for spare in grid.flat[n:]:
            spare.remove()
        for lowest in grid.flat[max(0, n - columns) : n]:  # shared ticks are labelled under the last row alone
            lowest.tick_params(labelbottom=True)
        return page, list(grid.flat[:n])
    given = [axes] if isinstance(axes, Axes) else list(np.ravel(np.asarray(list(axes), dtype=object)))
    if len(given) != n:
        raise InputError(f"this figure has {n} panels and got {len(given)} axes; give as many, or none for a new page")
    figure = given[0].get_figure(root=True)
    assert isinstance(figure, Figure)  # noqa: S101  Axes in use have one
    return figure, given


def count_columns(n: int) -> int:
    """Panels side by side, so that ``n`` of them fill rows of at most four evenly."""
    return -(-n // -(-n // 4)) if n else 1

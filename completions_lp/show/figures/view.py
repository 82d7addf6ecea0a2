"""What every figure is: an object that picked its numbers once, and draws, tabulates and describes them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.show.escape import escape_rows
from completions_lp.show.figures.axes import fit_labels
from completions_lp.show.figures.heading import write_heading
from completions_lp.show.figures.page import COLUMN, STYLE, Page, Panels, Sheet, open_axes
from completions_lp.store import write_figure

Table = list[dict[str, Any]]
"""The tidy rows behind a figure, one dictionary a row."""


class View(ABC):
    """One figure. Its ``of`` picks what is shown; the drawing, the rows and the caption follow from that alone."""

    question: ClassVar[str]
    """What the figure answers, in plain words: the title of a new page."""
    sheet: ClassVar[Sheet] = Sheet(1, (COLUMN, 3.0))
    """The panels, where they are the same for all reports and axes."""

    def draw(self, axes: Panels | None = None) -> Figure:
        """Draw on a new page, or on the caller's axes, as many as there are panels; returns their figure.

        Settings of matplotlib hold inside this function only. Intervals that do not exist are not drawn, and a figure
        with nothing to draw says so. Another number of axes than of panels is an InputError.
        """
        with mpl.rc_context(STYLE):
            figure, panels = open_axes(axes, self._plan(new=axes is None))
            page = figure if isinstance(figure, Page) and axes is None else None
            self._draw(panels, page)
            if page is not None:
                write_heading(page, self._ask(), self._name_subject())
            fit_labels(figure.axes if axes is None else panels)
            return figure

    def save(self, path: str | Path) -> Path:
        """Write PATH.pdf and .png, the tidy rows as .csv and the caption as .txt; returns the first."""
        path = Path(path)
        return write_figure(path.parent, path.name, self.draw(), escape_rows(self.rows), self.caption)

    @property
    @abstractmethod
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The numbers drawn, tidy: a dictionary each, with units; a missing interval is None. Empty without any."""

    @property
    @abstractmethod
    def caption(self) -> str:
        """What is drawn: intervals and their level, prompts, units, what the marks mean."""

    def _ask(self) -> str:
        """The question, of this report."""
        return self.question

    def _name_subject(self) -> str:
        """Which model, vector and behaviour the numbers are of; empty where that is not known."""
        return ""

    def _plan(self, *, new: bool) -> Sheet:
        """The panels needed, on a new page or on the caller's axes."""
        return self.sheet

    @abstractmethod
    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        """Draw on these panels, which are those of a new page or (None) the caller's."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture, for a notebook."""
        page = self.draw()
        assert isinstance(page, Page)  # noqa: S101  without axes it is one
        return page._repr_png_()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.caption}>"

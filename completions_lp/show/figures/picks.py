"""Figures of a part of a report: what they have in common, and how one of a cell or of a layer picks it."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from completions_lp.records import Positions, Report
from completions_lp.show.figures.part import Cell, Part
from completions_lp.show.figures.view import View

AnyLayerView = TypeVar("AnyLayerView", bound="LayerView")
AnyCellView = TypeVar("AnyCellView", bound="CellView")


@dataclass(frozen=True, eq=False, repr=False)
class PartView(View):
    """A figure of what a report has at the same positions."""

    part: Part

    @property
    def caption(self) -> str:
        """What is drawn."""
        said = self._describe()
        return said if isinstance(said, str) else self.part.finish([self._ask(), *said])

    def _name_subject(self) -> str:
        return self.part.subject

    @abstractmethod
    def _describe(self) -> str | Sequence[str]:
        """The caption's sentences, empty ones among them; or all of it, where there is nothing to draw."""


@dataclass(frozen=True, eq=False, repr=False)
class PlaceView(PartView):
    """A figure of one cell, or of that cell's layer."""

    cell: Cell | None
    """None for a report without steering."""


class LayerView(PlaceView):
    """A figure of one layer."""

    @classmethod
    def of(
        cls: type[AnyLayerView], report: Report, *, layer: int | None = None, positions: Positions | None = None
    ) -> AnyLayerView:
        """Pick a layer and positions, by default the best cell's; InputError where the report has no such."""
        part = Part.of(report, positions)
        return cls._read(part, part.pick_cell(layer=layer))

    @classmethod
    @abstractmethod
    def _read(cls: type[AnyLayerView], part: Part, cell: Cell | None) -> AnyLayerView:
        """Pick all else from the part."""


class CellView(PlaceView):
    """A figure of one layer and multiplier."""

    @classmethod
    def of(
        cls: type[AnyCellView],
        report: Report,
        *,
        layer: int | None = None,
        multiplier: float | None = None,
        positions: Positions | None = None,
    ) -> AnyCellView:
        """Pick what is shown, as of a figure of one layer; ``multiplier``, too, is the best cell's by default."""
        part = Part.of(report, positions)
        return cls._read(part, part.pick_cell(layer=layer, multiplier=multiplier))

    @classmethod
    @abstractmethod
    def _read(cls: type[AnyCellView], part: Part, cell: Cell | None) -> AnyCellView:
        """Pick all else from the part."""

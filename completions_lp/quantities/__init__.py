"""Every number of the report, defined once: its name, unit, words and place.

Tables, axes, captions, the page and the documentation take their words, units and order from here. ``A`` in a name
stands for the target answer, whatever its letter, and ``{A}`` in a label is replaced by what it stands for; ``B`` is
the answer that it is compared with. A name is written out where the number is computed, and nowhere else.
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from completions_lp.quantities.catalogue import CATALOGUE
from completions_lp.quantities.kinds import (
    BROKEN,
    CHOSEN,
    GROUPS,
    HEADLINE,
    JUDGED,
    PRIMARY,
    SIGNS,
    TRUST,
    TRUST_COLORS,
    UNITS,
    Pool,
    Quantity,
    Unit,
)
from completions_lp.records import InputError, Through

__all__ = [
    "BROKEN", "CHOSEN", "GROUPS", "HEADLINE", "JUDGED", "ODD", "POOLED", "PRIMARY", "QUANTITIES", "SKEWED", "SWEPT",
    "TRUST", "TRUST_COLORS", "UNITS", "WHOLE", "Quantity", "Unit", "find_quantity", "list_missing", "name_unit",
    "rank_quantity",
]  # fmt: skip

QUANTITIES: Mapping[str, Quantity] = MappingProxyType({quantity.name: quantity for quantity in CATALOGUE})
"""By name, in the order in which tables have them."""
SWEPT = tuple(quantity.name for quantity in CATALOGUE if quantity.swept)
"""What a sweep is judged by, the first of them first."""
WHOLE = tuple(quantity.name for quantity in CATALOGUE if quantity.whole)
"""What is over all tokens of completions."""
SKEWED = tuple(quantity.name for quantity in CATALOGUE if quantity.skewed)
POOLED: Mapping[str, Pool] = MappingProxyType({q.name: q.pooled for q in CATALOGUE if q.pooled})
"""Also as ``micro``, pooled over completions; the value says over which."""
ODD = tuple(quantity.name for quantity in CATALOGUE if quantity.odd)
_ODD = "_odd"


def find_quantity(name: str) -> Quantity:
    """The definition of a number, also of a ``NAME_odd``.

    Raises:
        InputError: There is no such quantity; the nearest is named.
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    stem = name.removesuffix(_ODD)
    if stem in ODD:
        whole = QUANTITIES[stem]
        meaning = f"Half the difference between m and −m times the vector: even damage cancels. {whole.meaning}"
        return Quantity(name, whole.unit, "odd part", f"{whole.label}, odd part", SIGNS, meaning)
    near = difflib.get_close_matches(name, QUANTITIES, n=1, cutoff=0)[0]
    raise InputError(f"no quantity {name!r}; the nearest is {near!r}. All of them: {', '.join(QUANTITIES)}")


def list_missing(through: Through) -> tuple[str, ...]:
    """Quantities that a report has not where its completions are scored so far."""
    return () if through == "end" else WHOLE


def name_unit(quantity: str) -> str:
    """The unit of a quantity."""
    return find_quantity(quantity).unit


def rank_quantity(name: str) -> int:
    """Its place in the order in which tables have quantities; odd parts come last."""
    return _ORDER[name]


_ORDER = {name: place for place, name in enumerate([*QUANTITIES, *(f"{name}{_ODD}" for name in ODD)])}

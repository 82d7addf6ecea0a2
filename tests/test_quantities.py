"""Every number of the report is defined once."""

import re

import pytest
from test_house import PACKAGE

from completions_lp.quantities import GROUPS, ODD, PRIMARY, QUANTITIES, SWEPT, UNITS, find_quantity, rank_quantity
from completions_lp.records import InputError, Measures


def test_every_quantity_is_whole():
    for name, quantity in QUANTITIES.items():
        assert (name, quantity.group in GROUPS, quantity.unit in UNITS) == (quantity.name, True, True)
        assert quantity.head != ""
        assert quantity.label != ""
        assert re.fullmatch(r"[A-Z].*\.", quantity.meaning), name
    assert {*Measures.UNSTEERED, *Measures.STEERED} - {*QUANTITIES} == {"p_A_answer_only", "p_A_reasoning_only"}
    groups = [quantity.group for quantity in QUANTITIES.values()]
    assert groups == sorted(groups, key=GROUPS.index)
    assert SWEPT[0] == PRIMARY


def test_the_two_divergences_are_not_confused():
    assert "KL(unsteered ‖ steered)" in find_quantity("kl").meaning
    assert "KL(steered ‖ unsteered)" in find_quantity("kl_reverse").meaning


def test_an_odd_part_has_the_words_of_its_whole():
    for name in ODD:
        odd = find_quantity(f"{name}_odd")
        assert (odd.unit, odd.odd, odd.swept) == (find_quantity(name).unit, False, False)
        assert rank_quantity(odd.name) > max(map(rank_quantity, QUANTITIES))


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(InputError, match="no quantity 'delta_p'; the nearest is 'delta_p_A'"):
        find_quantity("delta_p")
    with pytest.raises(InputError, match="no quantity 'kl_odd'"):
        find_quantity("kl_odd")


def test_the_estimands_name_stands_where_it_is_defined_and_where_it_is_computed():
    """Whoever else speaks of it asks for PRIMARY."""
    found = [
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if re.search(r'"delta_p_A', path.read_text())
    ]
    assert sorted(found) == ["quantities/kinds.py", "report/prompts.py"], found

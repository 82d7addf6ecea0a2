"""Runs that ablate, or steer several layers at once: what they store, say and draw."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

import completions_lp as clp
from completions_lp.job.config import load_config, make_config
from completions_lp.records import InputError
from completions_lp.show.figures.part import Part

SECTIONS = {
    "prompts": {"limit": 8},
    "sampling": {"n": 12, "max_new_tokens": 6, "top_up": 0},
    "scoring": {"operation": "ablate", "layers": [1, [1, 2], "all"], "multipliers": [1.0, 2.0], "positions": "first:4"},
    "controls": {"random_directions": 1, "negated": True},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablated") / "run"
    return folder, clp.run(out=folder, progress=False, **SECTIONS)


def test_each_way_is_a_condition_of_its_own(done):
    folder, report = done
    cells = [row.condition for row in report.table("delta_p_A")]
    assert {c.site for c in cells} == {"1", "1,2", "0-4"}
    assert {c.positions for c in cells} == {"first:4"}
    assert {c.operation for c in cells} == {"ablate"}
    table = pq.read_table(folder / "summary.parquet").to_pylist()
    steered = [row for row in table if row["kind"] == "target"]
    assert {row["layers"] for row in steered} == {"1", "1,2", "0,1,2,3,4"}
    assert {(row["layer"], row["dose"]) for row in steered} >= {(0, 2.0), (1, 1.0)}
    assert {row["operation"] for row in steered} == {"ablate"}


def test_a_stored_run_is_the_run(done):
    folder, report = done
    assert repr(clp.load(folder).rows) == repr(report.rows)
    again = clp.run(out=folder, progress=False, **SECTIONS)
    assert repr(again.rows) == repr(report.rows)


def test_ablating_the_opposite_is_ablating(done):
    """A direction has no sign where its component is taken away."""
    _, report = done
    rows = {row.condition: row.estimate.value for row in report.table("kl", kind=None)}
    for condition, value in rows.items():
        if condition.kind == "target" and not condition.is_neutral:
            other = dataclasses.replace(condition, vector=f"{condition.vector}-negated", kind="negated")
            assert rows[other] == pytest.approx(value, abs=1e-5)
            assert value > 0


def test_the_report_names_layers_and_operation(done):
    folder, report = done
    text = (folder / "report.md").read_text()
    assert "|   0-4 |   +1 |" in text
    assert f"{report.best.condition.place}" in " ".join(text.split())


def test_figures_show_one_group_of_a_layer_and_say_so(done):
    _, report = done
    part = Part.of(report)
    sites = {row.condition.site for row in part.select("delta_p_A")}
    assert len({row.condition.layer for row in part.select("delta_p_A")}) == len(sites) == 2
    best = report.best.condition
    assert best.site in sites
    hidden = {"1", "1,2", "0-4"} - sites
    assert f"Not shown: layers {hidden.pop()}." in part.note
    assert "Steered at once: layers " in part.note
    assert set(np.unique(part.report.prompts["layers"])) <= {"-1", "1", "1,2", "0,1,2,3,4"}
    assert part.prompts(best)["layers"].tolist() == [best.every_layer] * 8


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        ({"positions": "first:0"}, "[scoring] positions is 'first:0'; it must be"),
        ({"positions": "last"}, '"first:N" with N from 1 to 999999, such as "first:3"'),
        ({"operation": "erase"}, "it must be 'add', 'ablate' or 'clamp'"),
        ({"layers": [[]]}, "[scoring] layers is [[]]"),
    ],
)
def test_what_means_nothing_is_refused(scoring, message):
    with pytest.raises(InputError) as caught:
        make_config({"scoring": scoring})
    assert message in str(caught.value)


def test_groups_read_from_a_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('[scoring]\nlayers = [3, [10, 11], "all"]\n')
    section = load_config(path).scoring
    assert section.groups == (3, (10, 11), "all")
    assert section.named_layers == (3, 10, 11)
    with pytest.raises(InputError, match="layer 10 is out of range"):
        clp.run(path, progress=False)

"""Several vectors in one run: on the same completions, each in its own best cell, compared prompt by prompt."""

import csv
import itertools
import re
import shutil

import numpy as np
import pytest
import scipy.stats
from runs import begin, change, make_place, read_info
from scored import make_scores, make_world

import completions_lp as clp
from completions_lp import store
from completions_lp.job.config import load_config, make_config
from completions_lp.job.outset import check_input
from completions_lp.job.provenance import find_reasons
from completions_lp.records import Condition, InputError
from completions_lp.score.measures import measure_completions
from completions_lp.score.sums import sum_tokens
from completions_lp.show.page import make_page
from completions_lp.show.text import format_overview, format_report

SETTINGS = {
    "sampling.n": 12,
    "sampling.max_new_tokens": 4,
    "sampling.top_up": 0,
    "prompts.limit": 6,
    "scoring.layers": [0, 1],
    "scoring.multipliers": [-2.0, 2.0],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("place")
    config = change(make_place(folder, tokenizer), SETTINGS)
    base = begin(config, folder / "base")
    base.all()
    shutil.copy(folder / "base/vectors/pairs.safetensors", folder / "one.safetensors")
    shutil.copy(folder / "base/vectors/pairs-random-0.safetensors", folder / "two.safetensors")
    return folder, config


def list_vectors(folder):
    """Three: of pairs, of the same pairs read elsewhere, and of a file."""
    pairs = str(folder / "pairs.jsonl")
    return [
        {"pairs": pairs},
        {"pairs": pairs, "name": "last", "read_token": "last"},
        {"path": str(folder / "two.safetensors"), "name": "other"},
    ]


@pytest.fixture(scope="module")
def several(place):
    folder, config = place
    return folder / "several", begin({**config, "vector": list_vectors(folder)}, folder / "several").all()


def read_effects(report, quantity, vector):
    """By cell, the values of the prompts."""
    table = report.prompts
    found = {}
    for row in range(len(table["prompt_id"])):
        if table["vector"][row] == vector and table["multiplier"][row] != 0:
            cell = int(table["layer"][row]), float(table["multiplier"][row])
            found.setdefault(cell, []).append(float(table[quantity][row]))
    return {cell: np.array(values) for cell, values in found.items()}


def test_a_further_vector_is_scored_as_one_that_is_alone(place, several):
    folder, config = place
    _, report = several
    kinds = {c.vector: c.kind for c in report.increases.conditions if c.steers and c.kind != "rounding"}
    assert kinds == {"pairs": "target", "pairs-random-0": "random", "last": "further", "other": "further"}
    alone = begin({**config, "vector": {"path": str(folder / "two.safetensors")}}, folder / "alone").all()
    assert np.array_equal(alone.increases.completions.token_ids, report.increases.completions.token_ids)
    name = next(c.vector for c in alone.increases.conditions if c.kind == "target")
    theirs, ours = (read_effects(r, "increase_all", v) for r, v in ((alone, name), (report, "other")))
    assert theirs.keys() == ours.keys()
    for cell, values in theirs.items():
        np.testing.assert_allclose(ours[cell], values, atol=1e-5)


def test_best_cells_and_differences_are_those_of_hand(several):
    _, report = several
    quantity = report.best.quantity
    names = ["pairs", "last", "other"]
    effects = {name: read_effects(report, quantity, name) for name in names}
    alone = {row.condition.vector: row for row in report.vectors if row.against is None and row.quantity == quantity}
    assert [*alone] == names
    assert alone["pairs"].condition == report.best.condition
    if report.best.held_out:
        assert {row.split for row in report.vectors} == {"report"}
        told = len(next(iter(effects["pairs"].values()))) // 2
        assert {row.value.n + row.n_dropped for row in report.vectors} == {told}
    compared = [row for row in report.vectors if row.against is not None and row.quantity == quantity]
    assert [(row.condition.vector, row.against.vector) for row in compared] == [
        *(("last", "pairs"), ("other", "pairs"), ("other", "last")),
    ]
    for row in compared:
        assert row.difference.value == pytest.approx(row.value.value - row.reference.value)
        assert row.condition == alone[row.condition.vector].condition


def test_differences_are_paired_by_prompt():
    """Of toy scores: the interval is that of the differences themselves, on the half that chose nothing."""
    conditions = tuple(
        Condition(name, kind, layer, 1.0) for name, kind in (("one", "target"), ("two", "further")) for layer in (0, 1)
    )
    worlds = [make_world(seed, (0.5, 1.0, -0.3, 0.8), steps=2) for seed in range(16)]
    scores = make_scores(worlds, within=2, conditions=conditions)
    report = clp.summarize(sum_tokens(scores), None, measure_completions(scores, target="A"), target="A")
    rows = {(r.condition.vector, r.against is not None, r.quantity): r for r in report.vectors}
    for quantity in ("increase_to_answer_A", "delta_p_A"):
        one, two = rows["one", False, quantity], rows["two", False, quantity]
        less = rows["two", True, quantity]
        values = {
            name: read_effects(report, quantity, name)[row.condition.layer, 1.0]
            for name, row in (("one", one), ("two", two))
        }
        both = np.stack([values["two"], values["one"]])
        # Which half told: the one whose mean is the row's own.
        halves = [list(half) for half in itertools.combinations(range(16), 8)]
        found = [half for half in halves if np.isclose(both[0, half].mean(), two.value.value, rtol=1e-12)]
        assert len(found) == 1
        gap = both[0, found[0]] - both[1, found[0]]
        low, high = scipy.stats.t.interval(0.95, 7, gap.mean(), gap.std(ddof=1) / np.sqrt(8))
        assert (less.difference.value, less.difference.low, less.difference.high) == pytest.approx(
            (gap.mean(), low, high)
        )
        assert two.split == "report"
        # And the cell is the best of its vector on the other half.
        rest = [i for i in range(16) if i not in found[0]]
        if quantity == report.best.quantity:
            means = {cell: x[rest].mean() for cell, x in read_effects(report, quantity, "two").items()}
            assert max(means, key=means.get) == (two.condition.layer, 1.0)


def test_tables_text_and_page_have_them(several):
    folder, report = several
    rows = list(csv.DictReader((folder / "vectors.csv").read_text().splitlines()))
    assert {row["vector"] for row in rows} == {"pairs", "last", "other"}
    assert {row["against_vector"] for row in rows} == {"", "pairs", "last"}
    kept = clp.load(folder)
    assert kept.vectors == report.vectors
    for text in (format_report(kept, title="x", quality={}), format_overview(kept, title="x")):
        assert "Vector last: " in text
        assert "; less pairs (layer" in text
    assert "Vectors side by side" in format_report(kept, title="x", quality={})
    assert "Vectors side by side" in make_page(kept, kept.info)
    assert not begin(read_info(folder)["config"], folder).all().errors
    assert find_reasons("vector", read_info(folder)["config"], read_info(folder)["stages"], folder) == []


def test_a_list_of_paths_is_as_many_vectors(place, tmp_path):
    folder, config = place
    paths = [str(folder / "one.safetensors"), str(folder / "two.safetensors")]
    made = make_config({**config, "controls": {}, "vector": {"path": paths, "layers": [0]}})
    assert [vector.path for vector in made.vectors] == paths
    assert {vector.layers for vector in made.vectors} == {(0,)}
    assert make_config(made.model_dump()) == made
    (tmp_path / "c.toml").write_text('[[vector]]\npath = "a.safetensors"\n[[vector]]\npath = ["b.safetensors"]\n')
    read = load_config(tmp_path / "c.toml", ["vector.layers=[1]"])
    assert [vector.path for vector in read.vectors] == [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    assert {vector.layers for vector in read.vectors} == {(1,)}
    given = load_config(None, [f'vector=[{{path = "{paths[0]}"}}, {{path = "{paths[1]}"}}]'])
    assert [vector.path for vector in given.vectors] == paths


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([], "at least one"),
        ({"path": ["a", "b"], "name": "x"}, "leave name out"),
        ([{}, {}], "2 vectors are called 'cautious'"),
        ([{}, {"name": "cautious-random-0"}], "2 vectors are called 'cautious-random-0'"),
        ([{}, {"nmae": "x"}], "unknown key of [[vector]]: 'nmae'; the nearest is 'name'"),
        ([{}, {"layers": [0], "name": "x"}], "for which no vector is made"),
    ],
)
def test_what_is_wrong_is_told(vector, said):
    with pytest.raises(InputError, match=re.escape(said)):
        refuse({"vector": vector, "controls": {"random_directions": 1}, "scoring": {"layers": [1]}})


def refuse(given):
    check_input(make_config(given), {"vector"})


def test_a_change_of_a_further_vector_is_found(place, several, tmp_path):
    folder, config = place
    out, _ = several
    shutil.copytree(out, tmp_path / "out")
    vectors = list_vectors(folder)
    same = begin({**config, "vector": vectors}, tmp_path / "out")
    same.all()
    assert not same.has_worked
    vectors[2] = {"path": str(folder / "one.safetensors"), "name": "other"}
    again = begin({**config, "vector": vectors}, tmp_path / "out")
    assert again.all().vectors
    assert again.has_worked
    assert [v.name for v in store.read_vectors(tmp_path / "out") if v.kind == "further"] == ["last", "other"]


def test_pairs_are_read_once_for_all_methods(place, tmp_path):
    """What they are is what they are alone, for the passes of one."""
    folder, config = place
    methods = ("mean_difference", "pca", "lda")
    sections = [{"pairs": str(folder / "pairs.jsonl"), "name": method, "method": method} for method in methods]
    begin({**config, "vector": sections}, tmp_path / "all").vector()
    together = {vector.name: vector for vector in store.read_vectors(tmp_path / "all")}
    took = []
    for section in sections:
        begin({**config, "vector": section}, tmp_path / section["method"]).vector()
        (alone,) = [v for v in store.read_vectors(tmp_path / section["method"]) if v.kind == "target"]
        took.append(read_info(tmp_path / section["method"])["work"]["vector"]["tokens"])
        for layer, direction in alone.directions.items():
            np.testing.assert_array_equal(together[alone.name].directions[layer], direction)
        assert together[alone.name].spans == alone.spans
        assert together[alone.name].provenance["method"] == alone.provenance["method"]
    assert len({together[method].directions[1].tobytes() for method in methods}) == 3
    assert read_info(tmp_path / "all")["work"]["vector"]["tokens"] == took[0] == took[1] == took[2] > 0

import csv
import dataclasses
import json
import math

import numpy as np
import pyarrow.parquet
import pytest
import safetensors
import safetensors.numpy
from test_reporting import CONDITIONS, make_choices, make_scores

from completions_lp import store
from completions_lp.records import InputError, Labelling, Sampling, SteeringVector, VectorQuality
from completions_lp.reporting import sum_tokens, summarize

SUMMARY = ["vector", "kind", "layer", "multiplier", "quantity", "weighting", "value", "low", "high", "level", "unit"]
SUMMARY += ["method", "n_prompts", "n_dropped", "n_clusters"]
QUALITY = {1: VectorQuality(2.0, 0.5, 0.75), 3: VectorQuality(1.0, math.nan, math.nan)}


@pytest.fixture
def scores():
    return make_scores()


@pytest.fixture
def vector():
    rng = np.random.default_rng(0)
    directions = {layer: rng.normal(size=5).astype(np.float32).astype(np.float64) for layer in (1, 3, 11)}
    return SteeringVector("cautious", "target", directions, QUALITY, {"model": "m", "d_model": 5, "n_pairs": 7})


def write_all(folder, scores):
    store.start_run(folder, {"config": {}})
    store.write_completions(folder, scores.completions)
    store.write_increases(folder, sum_tokens(scores))
    store.write_choices(folder, make_choices(scores))
    store.write_tokens(folder, scores)
    report = summarize(scores, make_choices(scores))
    store.write_report(folder, report, "# text\n")
    return report


def same(one, two):
    """Whether two records are equal, field by field, NaN equal to NaN."""
    for item in dataclasses.fields(one):
        a, b = getattr(one, item.name), getattr(two, item.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=item.name)
            assert a.dtype.kind == b.dtype.kind
        else:
            assert a == b, item.name


def test_completions_come_back_as_they_were(tmp_path, scores):
    made = dataclasses.replace(scores.completions, text=tuple(f"é\n{i}" for i in range(54)))
    store.write_completions(tmp_path, made)
    same(made, store.read_completions(tmp_path, sampling=made.sampling, labelling=made.labelling))
    other = store.read_completions(tmp_path, sampling=Sampling(n=3), labelling=Labelling(within=2))
    assert (other.sampling.n, other.labelling.within) == (3, 2)  # they stand in run.json, not in the tables


def test_increases_come_back_as_they_were(tmp_path, scores):
    made = sum_tokens(scores)
    store.write_increases(tmp_path, made)
    back = store.read_increases(tmp_path, scores.completions)
    assert back.conditions == CONDITIONS
    for part in made.PARTS:
        np.testing.assert_array_equal(getattr(back, part), getattr(made, part))
    np.testing.assert_allclose(back.baseline, made.baseline, rtol=1e-14)


def test_choices_come_back_as_they_were(tmp_path, scores):
    made = make_choices(scores)
    store.write_choices(tmp_path, made)
    same(made, store.read_choices(tmp_path, scores.completions.prompts))


def test_a_report_from_the_stored_tables_is_the_report(tmp_path, scores):
    report = write_all(tmp_path, scores)
    completions = store.read_completions(
        tmp_path, sampling=scores.completions.sampling, labelling=scores.completions.labelling
    )
    again = summarize(store.read_increases(tmp_path, completions), store.read_choices(tmp_path, completions.prompts))
    assert [repr(row) for row in again.rows] == [repr(row) for row in report.rows]
    assert again.warnings == report.warnings


def test_vectors_come_back_with_quality_and_provenance(tmp_path, vector):
    path = store.write_vector(tmp_path, vector)
    assert path == tmp_path / "vectors" / "cautious.safetensors"
    back = store.read_vector(path)
    assert (back.name, back.kind, list(back.directions)) == ("cautious", "target", [1, 3, 11])
    for layer, direction in vector.directions.items():
        np.testing.assert_array_equal(back.directions[layer], direction)
    assert back.quality[1] == QUALITY[1]
    assert (back.quality[3].norm, math.isnan(back.quality[3].norm_se)) == (1.0, True)
    assert back.provenance["model"] == "m"
    assert back.provenance["n_pairs"] == "7"
    with safetensors.safe_open(path, framework="numpy") as file:
        assert sorted(file.keys()) == ["layer.1", "layer.11", "layer.3"]
        assert file.get_tensor("layer.3").dtype == np.float32


def test_vectors_of_a_run_come_target_first_and_without_older_ones(tmp_path, vector):
    control = dataclasses.replace(vector, name="a-random", kind="random")
    store.write_vectors(tmp_path, [vector, control])
    assert [v.name for v in store.read_vectors(tmp_path)] == ["cautious", "a-random"]
    store.write_vectors(tmp_path, [dataclasses.replace(vector, name="bold/1")])
    assert [v.name for v in store.read_vectors(tmp_path)] == ["bold/1"]
    assert [path.name for path in (tmp_path / "vectors").iterdir()] == ["bold_1.safetensors"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "not a safetensors file of a steering vector"),
        (lambda path: path.write_text("hello"), "not a safetensors file of a steering vector"),
        (
            lambda path: safetensors.numpy.save_file({"weight": np.ones(3)}, path),
            r"needs keys 'layer\.0', 'layer\.1', …; it has weight",
        ),
        (
            lambda path: safetensors.numpy.save_file({"layer.0": np.array([np.nan, 1.0])}, path),
            "vector 'v', layer 0: has values that are not finite",
        ),
    ],
)
def test_a_file_that_is_no_vector_is_refused(tmp_path, write, message):
    path = tmp_path / "v.safetensors"
    write(path)
    with pytest.raises(InputError, match=message):
        store.read_vector(path)


def test_the_summary_has_the_columns_of_the_contract(tmp_path, scores):
    report = write_all(tmp_path, scores)
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[: len(SUMMARY)] == SUMMARY
    assert len(rows) == len(report.rows)
    for written, row in zip(rows, report.rows, strict=True):
        assert (written["vector"], written["quantity"], written["weighting"]) == (
            row.condition.vector,
            row.quantity,
            "macro",
        )
        assert float(written["value"]) == row.estimate.value
        assert (written["low"] == "") == (row.estimate.low is None)
        assert int(written["n_dropped"]) == row.n_dropped
        assert int(written["n_prompts"]) == row.estimate.n
    table = pyarrow.parquet.read_table(tmp_path / "summary.parquet")
    assert table.column_names == list(rows[0])
    assert table["low"].to_pylist() == [row.estimate.low for row in report.rows]


def test_columns_have_their_type_where_no_interval_exists(tmp_path):
    write_all(tmp_path, make_scores(3))
    table = pyarrow.parquet.read_table(tmp_path / "summary.parquet")
    assert table["low"].null_count == table.num_rows
    assert str(table["low"].type) == "double"


def test_tables_have_the_columns_of_the_contract(tmp_path, scores):
    write_all(tmp_path, scores)
    condition = ["vector", "kind", "layer", "multiplier"]
    parts = ["increase", "increase_to_answer", "before_answer", "at_answer", "after_answer"]
    said = ["text", "ended", "label", "answer_index", "logprob"]
    letters = ["logit_diff", "logprob_A", "logprob_B", "mass", "letter_1", "letter_2"]
    for name, rows, columns in (
        ("completions", 54, ["prompt_id", "cluster", "completion_id", "count", "token_ids", *said]),
        ("scores", 3 * 54, ["prompt_id", "completion_id", *condition, "positions", "logprob", *parts]),
        ("choices", 4 * 9, ["prompt_id", *condition, *letters]),
        ("prompts", 3 * 9, ["prompt_id", "cluster", *condition, "n", "n_unique", "n_A", "increase_A", "increase_all"]),
        ("tokens", 3 * int(scores.completions.lengths.sum()), ["prompt_id", "token_id", *condition, "increase"]),
    ):
        table = pyarrow.parquet.read_table(tmp_path / f"{name}.parquet")
        assert table.num_rows == rows, name
        assert set(columns) <= set(table.column_names), name
    table = pyarrow.parquet.read_table(tmp_path / "completions.parquet").to_pylist()
    assert [row["completion_id"] for row in table[:7]] == [0, 1, 2, 3, 4, 5, 0]
    assert str(pyarrow.parquet.read_schema(tmp_path / "completions.parquet").field("token_ids").type).startswith(
        "list<element: int32>"
    )
    first = pyarrow.parquet.read_table(tmp_path / "choices.parquet").to_pylist()[0]
    assert (first["kind"], first["layer"], first["multiplier"]) == ("baseline", -1, 0.0)


def test_undefined_numbers_are_written_as_undefined(tmp_path, scores):
    write_all(tmp_path, scores)
    rows = pyarrow.parquet.read_table(tmp_path / "prompts.parquet").to_pylist()
    assert all(math.isnan(row["increase_to_answer_A"]) for row in rows if row["prompt_id"] == "p0")
    assert all(row["n_A"] == 0 for row in rows if row["prompt_id"] == "p0")
    rows = pyarrow.parquet.read_table(tmp_path / "scores.parquet").to_pylist()
    labels = pyarrow.parquet.read_table(tmp_path / "completions.parquet")["label"].to_pylist()
    for row, label in zip(rows, labels * 3, strict=True):
        assert math.isnan(row["at_answer"]) == (label == "none")
    store.write_info(tmp_path, {"checks": {"noise_floor": math.nan, "n": np.float32(2)}, "seen": (math.inf, True)})
    info = json.loads((tmp_path / "run.json").read_text())
    assert info == {"schema_version": 1, "checks": {"noise_floor": None, "n": 2.0}, "seen": [None, True]}


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, scores, vector, monkeypatch):
    write_all(tmp_path, scores)
    store.write_vectors(tmp_path, [vector])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) == 11
    with pytest.raises(TypeError, match="not JSON serializable"):
        store.write_info(tmp_path, {"a": object()})

    def fail(*arguments, **options):
        path = next(x for x in arguments if hasattr(x, "write_text"))
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pyarrow.parquet, "write_table", fail)
    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    choices = make_choices(scores)
    for write in (
        lambda: store.write_completions(tmp_path, scores.completions),
        lambda: store.write_choices(tmp_path, choices),
        lambda: store.write_report(tmp_path, summarize(scores, choices), "# other\n"),
        lambda: store.write_vectors(tmp_path, [vector]),
    ):
        with pytest.raises(OSError, match="disk full"):
            write()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not a run directory .no run.json.$"),
        ("{", "run.json: not valid JSON: "),
        ("[1]", "run.json: schema version None; this version of completions_lp reads 1"),
        ('{"schema_version": 2}', "run.json: schema version 2; this version of completions_lp reads 1"),
    ],
)
def test_a_directory_that_is_no_run_of_this_version_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=message):
        store.read_info(tmp_path)


def test_missing_and_broken_tables_say_which_stage_makes_them(tmp_path, scores):
    options = {"sampling": Sampling(), "labelling": Labelling()}
    with pytest.raises(InputError, match=r": no questions\.parquet; run the sample stage first$"):
        store.read_completions(tmp_path, **options)
    with pytest.raises(InputError, match=r": no scores\.parquet; run the score stage first$"):
        store.read_increases(tmp_path, scores.completions)
    with pytest.raises(InputError, match=r": no vectors; run the vector stage first$"):
        store.read_vectors(tmp_path)
    (tmp_path / "choices.parquet").write_text("no table")
    with pytest.raises(InputError, match=r"choices\.parquet: not a Parquet file: "):
        store.read_choices(tmp_path, scores.completions.prompts)


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ("vector", {"questions.parquet", "completions.parquet"}),
        ("sample", set()),
        ("score", {"questions.parquet", "completions.parquet"}),
        ("report", {"questions.parquet", "completions.parquet", "scores.parquet", "tokens.parquet", "choices.parquet"}),
    ],
)
def test_a_stage_run_anew_drops_what_it_makes_stale(tmp_path, scores, vector, stage, kept):
    write_all(tmp_path, scores)
    store.write_vectors(tmp_path, [vector])
    store.drop_stale(tmp_path, stage)
    assert {path.name for path in tmp_path.iterdir()} == kept | {"run.json", "vectors"}
    assert len(store.read_vectors(tmp_path)) == 1

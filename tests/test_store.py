import csv
import dataclasses
import errno
import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import safetensors
import safetensors.numpy
from drawn import draw_increases, draw_measures
from test_reporting import CONDITIONS, complete, make_choices, make_scores

from completions_lp import store
from completions_lp.records import InputError, Labelling, Measures, Sampling, SteeringVector, VectorQuality
from completions_lp.report import summarize
from completions_lp.score.measures import measure_completions
from completions_lp.score.profile import profile_tokens, summarize_profile
from completions_lp.score.sums import sum_tokens
from completions_lp.show.escape import escape_rows
from completions_lp.store.files import make_folder, write_text
from completions_lp.store.keys import make_condition

SUMMARY = ["vector", "kind", "layer", "multiplier", "quantity", "weighting", "value", "low", "high", "level", "unit"]
SUMMARY += ["method", "n_prompts", "n_dropped", "n_clusters"]
FILES = {"questions.parquet", "completions.parquet", "scores.parquet", "measures.parquet", "profile.parquet"}
FILES |= {"tokens.parquet", "steered.parquet", "choices.parquet", "prompts.parquet", "summary.parquet", "summary.csv"}
FILES |= {"slopes.parquet", "slopes.csv", "report.md"}
SCORED = FILES - {"prompts.parquet", "summary.parquet", "summary.csv", "slopes.parquet", "slopes.csv", "report.md"}
QUALITY = {1: VectorQuality(2.0, 0.5, 0.75), 3: VectorQuality(1.0, math.nan, math.nan)}


@pytest.fixture
def scores():
    return make_whole_scores()


def make_whole_scores(n_prompts=9):
    """TokenScores with all that can be read at a token."""
    scores, rng = make_scores(n_prompts), np.random.default_rng(5)
    shape, hide = scores.logprob.shape, scores.baseline * 0
    plain = np.log(rng.uniform(0.01, 0.2, size=(*shape[1:], 2))) + hide[..., None]
    plain[rng.random(plain.shape) < 0.2] = -np.inf  # no token would complete the answer
    return dataclasses.replace(
        scores,
        entropy=rng.random(shape[1:]) + hide,
        kl=rng.random(shape) + hide,
        kl_reverse=rng.random(shape) + hide,
        baseline_answers=plain,
        answers=plain + rng.normal(scale=0.1, size=(*shape, 2)),
    )


@pytest.fixture
def vector():
    rng = np.random.default_rng(0)
    directions = {layer: rng.normal(size=5).astype(np.float32).astype(np.float64) for layer in (1, 3, 11)}
    return SteeringVector("cautious", "target", directions, QUALITY, {"model": "m", "d_model": 5, "n_pairs": 7})


def write_all(folder, scores):
    store.start_run(folder, {"config": {}, "files": sorted(FILES)})
    store.write_completions(folder, scores.completions)
    increases, measures = sum_tokens(scores), measure_completions(scores, target="A")
    store.write_increases(folder, increases)
    store.write_measures(folder, measures)
    profile = summarize_profile(profile_tokens(scores, target="A"))
    store.write_profile(folder, profile)
    store.write_choices(folder, complete(make_choices(scores)))
    store.write_steered(folder, {scores.conditions[1]: scores.completions})
    with store.open_tokens(folder) as keep:
        keep(scores)
    report = summarize(increases, complete(make_choices(scores)), measures, profile=profile, target="A")
    store.write_report(folder, report, "# text\n", doses={}, escape=escape_rows)
    return report


def same(one, two):
    """Whether two records are equal, field by field, NaN equal to NaN."""
    for item in dataclasses.fields(one):
        a, b = getattr(one, item.name), getattr(two, item.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=item.name)
            assert a.dtype.kind == b.dtype.kind
        elif hasattr(a, "items"):
            assert set(a) == set(b)
            for name in a:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        else:
            assert a == b, item.name


def test_completions_come_back_as_they_were(tmp_path, scores):
    text, pieces = tuple(f"é\n{i}" for i in range(54)), tuple(("é", "\n", str(i)) for i in range(54))
    made = dataclasses.replace(scores.completions, text=text, pieces=pieces)
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
    same(made, store.read_choices(tmp_path, sum_tokens(scores)))


def test_measures_come_back_as_they_were(tmp_path, scores):
    made = measure_completions(scores, target="A")
    assert set(made.trust.ravel()) > {"red"}
    store.write_measures(tmp_path, made)
    same(made, store.read_measures(tmp_path, sum_tokens(scores)))
    hidden = dataclasses.replace(made, trust=np.full(made.trust.shape, ""))  # the target is not on offer anywhere
    store.write_measures(tmp_path, hidden)
    same(hidden, store.read_measures(tmp_path, sum_tokens(scores)))
    table = pyarrow.parquet.read_table(tmp_path / "measures.parquet")
    columns = ["prompt_id", *store.CONDITION, *Measures.UNSTEERED, *Measures.STEERED, "trust"]
    assert table.column_names == columns
    assert table.num_rows == 3 * 9


def test_profiles_come_back_as_they_were(tmp_path, scores):
    made = summarize_profile(profile_tokens(scores, target="A"))
    assert {row.estimate.low is None for row in made} == {True, False}
    store.write_profile(tmp_path, made)
    back = store.read_profile(tmp_path)
    assert [repr(row) for row in back] == [repr(row) for row in made]
    store.write_profile(tmp_path, ())
    assert store.read_profile(tmp_path) == ()
    with pytest.raises(InputError, match=r": no measures\.parquet; run the score stage first$"):
        store.read_measures(tmp_path, sum_tokens(scores))


def test_a_report_from_the_stored_tables_is_the_report(tmp_path, scores):
    report = write_all(tmp_path, scores)
    completions = store.read_completions(
        tmp_path, sampling=scores.completions.sampling, labelling=scores.completions.labelling
    )
    again = summarize(
        increases := store.read_increases(tmp_path, completions),
        store.read_choices(tmp_path, increases),
        store.read_measures(tmp_path, increases),
        profile=store.read_profile(tmp_path),
        target="A",
    )
    assert len(report.rows) > 100
    assert [repr(row) for row in again.rows] == [repr(row) for row in report.rows]
    assert again.warnings == report.warnings
    assert repr(again.profile) == repr(report.profile)


def test_tokens_written_in_parts_are_those_of_one_part(tmp_path, scores):
    """Every number at its place: prompt, completion, token and condition; and nothing is there until all of it is."""
    path, completions = tmp_path / "tokens.parquet", scores.completions
    with store.open_tokens(tmp_path) as keep:
        for prompts in ([0, 1, 2], [3], [4, 5, 6, 7, 8]):
            rows = np.concatenate([completions.rows_of(i) for i in prompts])
            part = {name: getattr(scores, name)[:, rows] for name in ("logprob", "kl", "kl_reverse", "answers")}
            part |= {name: getattr(scores, name)[rows] for name in ("baseline", "entropy", "baseline_answers")}
            keep(dataclasses.replace(scores, completions=completions.select(prompts), **part))
            assert not path.exists()
    rows = pyarrow.parquet.read_table(path).to_pylist()
    assert len(rows) == 3 * int(completions.lengths.sum())
    ids = store.completion_ids(completions)
    names = [completions.prompts[p].id for p in completions.prompt_index]
    place = {key: i for i, key in enumerate(zip(names, ids.tolist(), strict=True))}
    for row in rows:
        c = CONDITIONS.index(make_condition(row))
        i, t = place[row["prompt_id"], row["completion_id"]], row["token"]
        want = {
            "token_id": completions.token_ids[i, t],
            "logprob": scores.logprob[c, i, t],
            "increase": scores.logprob[c, i, t] - scores.baseline[i, t],
            "kl": scores.kl[c, i, t],
            "kl_reverse": scores.kl_reverse[c, i, t],
            "entropy": scores.entropy[i, t],
            "answer_logprob": scores.answers[c, i, t, 0],
            "other_logprob": scores.answers[c, i, t, 1],
            "answer_baseline": scores.baseline_answers[i, t, 0],
            "other_baseline": scores.baseline_answers[i, t, 1],
        }
        assert want == {name: row[name] for name in want}
    keys = {tuple(row[name] for name in ("prompt_id", "completion_id", "token", *store.CONDITION)) for row in rows}
    assert len(keys) == len(rows)


def test_tokens_of_which_little_was_read_have_fewer_columns(tmp_path, scores):
    left_out = dict.fromkeys(("entropy", "kl", "kl_reverse", "answers", "baseline_answers"))
    with store.open_tokens(tmp_path) as keep:
        keep(dataclasses.replace(scores, **left_out))
    names = pyarrow.parquet.read_schema(tmp_path / "tokens.parquet").names
    assert names == ["prompt_id", "completion_id", "token", "token_id", *store.CONDITION, "logprob", "increase"]


def test_tokens_are_whole_or_not_there(tmp_path, scores):
    with store.open_tokens(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    with store.open_tokens(tmp_path) as keep:
        keep(scores)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()

    def keep_some(*parts, error=None):
        with store.open_tokens(tmp_path) as keep:
            for part in parts:
                keep(part)
            if error:
                raise error

    with pytest.raises(KeyboardInterrupt):
        keep_some(scores.select([0]), error=KeyboardInterrupt())
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="does not match"):
        keep_some(scores.select([1]), dataclasses.replace(scores, kl=None))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_steered_draws_are_written_by_condition(tmp_path, scores):
    completions = scores.completions
    drawn = {CONDITIONS[2]: completions, CONDITIONS[1]: completions.select([8, 2])}
    store.write_steered(tmp_path, drawn)
    rows = pyarrow.parquet.read_table(tmp_path / "steered.parquet").to_pylist()
    want = []
    for condition, made in drawn.items():
        for i, n in enumerate(made.lengths):
            want.append(
                {
                    "prompt_id": made.prompts[made.prompt_index[i]].id,
                    **condition.columns,
                    "count": made.counts[i],
                    "token_ids": made.token_ids[i, :n].tolist(),
                    "text": made.text[i],
                    "ended": made.ended[i],
                    "label": made.label[i] or None,
                    "answer_index": made.answer_index[i],
                    "logprob": pytest.approx(np.nansum(made.logprob[i])),
                }
            )
    assert rows == want
    assert {row["prompt_id"] for row in rows[54:]} == {"p8", "p2"}


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


def test_vectors_of_a_run_come_target_first_and_without_those_of_others(tmp_path, vector):
    control = dataclasses.replace(vector, name="a-random", kind="random")
    bold, info = dataclasses.replace(vector, name="bold/1"), {"config": {}}
    store.start_run(tmp_path, info)
    store.claim_files(tmp_path, info, [store.name_file(v.name) for v in (vector, control)])
    store.write_vectors(tmp_path, [vector, control])
    store.write_vector(tmp_path, bold)  # not of the run: nobody has listed it
    assert [v.name for v in store.read_vectors(tmp_path)] == ["cautious", "a-random"]
    store.drop_stages(tmp_path, info, ["vector"])
    store.claim_files(tmp_path, info, ["vectors/new.safetensors"])
    store.write_vectors(tmp_path, [dataclasses.replace(vector, name="new")])
    assert [v.name for v in store.read_vectors(tmp_path)] == ["new"]
    assert {path.name for path in (tmp_path / "vectors").iterdir()} == {
        "bold_1-328fd994c7ba.safetensors",
        "new.safetensors",
    }


def test_the_summary_has_the_columns_of_the_contract(tmp_path, scores):
    report = write_all(tmp_path, scores)
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[: len(SUMMARY)] == SUMMARY
    assert len(rows) == len(report.rows)
    for written, row in zip(rows, report.rows, strict=True):
        assert (written["vector"], written["quantity"], written["weighting"], written["split"]) == (
            row.condition.vector,
            row.quantity,
            row.weighting,
            row.split,
        )
        np.testing.assert_equal(float(written["value"] or "nan"), row.estimate.value)
        for name, value in {**dataclasses.asdict(row.inference), "se": row.estimate.se, "df": row.estimate.df}.items():
            np.testing.assert_equal(float(written[name] or "nan"), value, err_msg=name)
        assert (written["low"] == "") == (row.estimate.low is None)
        assert int(written["n_dropped"]) == row.n_dropped
        assert int(written["n_prompts"]) == row.estimate.n
    table = pyarrow.parquet.read_table(tmp_path / "summary.parquet")
    assert table.column_names == list(rows[0])
    assert table["low"].to_pylist() == [row.estimate.low for row in report.rows]


def test_the_slopes_have_the_columns_of_the_contract(tmp_path, scores):
    report = write_all(tmp_path, scores)
    rows = pyarrow.parquet.read_table(tmp_path / "slopes.parquet").to_pylist()
    assert len(rows) == len(report.slopes) > 0
    for written, slope in zip(rows, report.slopes, strict=True):
        for name in ("vector", "kind", "layer", "positions", "quantity"):
            assert written[name] == getattr(slope, name)
        assert written["multipliers"] == list(slope.multipliers)
        ends = [written[name] for name in ("value", "low", "high", "n_prompts", "below_zero")]
        e = slope.estimate
        np.testing.assert_equal(ends, [e.value, e.low, e.high, e.n, slope.below_zero])
    with (tmp_path / "slopes.csv").open(encoding="utf-8", newline="") as file:
        flat = list(csv.DictReader(file))
    assert [row["quantity"] for row in flat] == [slope.quantity for slope in report.slopes]


def test_columns_have_their_type_where_no_interval_exists(tmp_path):
    write_all(tmp_path, make_whole_scores(3))
    table = pyarrow.parquet.read_table(tmp_path / "summary.parquet")
    assert table["low"].null_count == table.num_rows
    assert str(table["low"].type) == "double"


def test_tables_have_the_columns_of_the_contract(tmp_path, scores):
    write_all(tmp_path, scores)
    condition = ["vector", "kind", "layer", "multiplier"]
    parts = ["increase", "increase_to_answer", "before_answer", "at_answer", "after_answer"]
    said = ["text", "ended", "label", "answer_index", "logprob"]
    letters = ["logit_diff", "logprob_A", "logprob_B", "mass", "letter_1", "letter_2", "letters", "p_choices"]
    letters += ["logprobs", "logprobs_whole", "logprob_A_whole", "logprob_B_whole"]
    measured = ["p_A", "p_A_low", "p_A_steered", "p_A_steered_low", "p_A_steered_high", "kl", "trust", "share_A"]
    grown = ["increase_A", "increase_to_answer_A", "increase_not_A", "increase_all", "delta_p_A", "log_ratio_A"]
    read = ["token", "logprob", "increase", "kl", "kl_reverse", "entropy", "answer_logprob", "other_baseline"]
    for name, rows, columns in (
        ("completions", 54, ["prompt_id", "cluster", "completion_id", "count", "token_ids", *said]),
        ("scores", 3 * 54, ["prompt_id", "completion_id", *condition, "positions", "logprob", *parts]),
        ("choices", 4 * 9, ["prompt_id", *condition, *letters]),
        ("prompts", 3 * 9, ["prompt_id", "cluster", *condition, "n", "n_unique", "n_A", *grown, *measured]),
        ("tokens", 3 * int(scores.completions.lengths.sum()), ["prompt_id", "token_id", *condition, *read]),
        ("measures", 3 * 9, ["prompt_id", *condition, "positions", *measured[:-1], "n_steered"]),
        ("steered", 54, ["prompt_id", *condition, "positions", "count", "token_ids", *said]),
        ("questions", 9, ["prompt_id", "text", "token_ids", "letters", "matching", "not_matching", "cluster"]),
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
        assert math.isnan(row["at_answer"]) == (label is None)
    store.write_info(tmp_path, {"checks": {"noise_floor": math.nan, "n": np.float32(2)}, "seen": (math.inf, True)})
    info = json.loads((tmp_path / "run.json").read_text())
    assert info == {"schema_version": 3, "checks": {"noise_floor": None, "n": 2.0}, "seen": [None, True]}


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, scores, vector, monkeypatch):
    write_all(tmp_path, scores)
    store.write_vectors(tmp_path, [vector])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in before} == FILES | {"run.json", "cautious.safetensors"}
    with pytest.raises(TypeError, match="not JSON serializable"):
        store.write_info(tmp_path, {"a": object()})

    def fail(file, data):
        io.FileIO.write(file, memoryview(data).cast("B")[:2])
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("completions_lp.store.files._Aside.write", fail)
    choices = make_choices(scores)
    for write in (
        lambda: store.write_completions(tmp_path, scores.completions),
        lambda: store.write_increases(tmp_path, sum_tokens(scores)),
        lambda: store.write_measures(tmp_path, measure_completions(scores, target="A")),
        lambda: store.write_profile(tmp_path, ()),
        lambda: store.write_steered(tmp_path, {CONDITIONS[0]: scores.completions}),
        lambda: store.write_choices(tmp_path, choices),
        lambda: store.write_report(
            tmp_path, summarize(sum_tokens(scores), choices, target="A"), "# other\n", doses={}, escape=escape_rows
        ),
        lambda: store.write_vectors(tmp_path, [vector]),
    ):
        with pytest.raises(InputError, match=": cannot be written: disk full"):
            write()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not a run directory .no run.json.$"),
        ("{", "run.json: not valid JSON: "),
        ("[1]", "run.json: schema version None; this version of completions_lp reads 3"),
        ('{"schema_version": 1}', "run.json: schema version 1; this version of completions_lp reads 3"),
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
    store.start_run(tmp_path, {"config": {}})
    with pytest.raises(InputError, match=r": no vectors; run the vector stage first$"):
        store.read_vectors(tmp_path)
    (tmp_path / "choices.parquet").write_text("no table")
    with pytest.raises(InputError, match=r"choices\.parquet: not a Parquet file: "):
        store.read_choices(tmp_path, sum_tokens(scores))


@pytest.mark.parametrize(
    ("stages", "kept"),
    [
        (["score", "report"], {"questions.parquet", "completions.parquet"}),
        (["sample", "score", "report"], set()),
        (["report"], SCORED),
    ],
)
def test_what_stages_wrote_is_dropped_and_told(tmp_path, scores, vector, stages, kept):
    write_all(tmp_path, scores)
    store.write_vectors(tmp_path, [vector])
    (tmp_path / "notes.csv").write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    dropped = store.drop_stages(tmp_path, store.read_info(tmp_path), stages)
    left = {"run.json", "vectors", "notes.csv"}
    assert {path.name for path in tmp_path.iterdir()} == kept | left
    assert set(dropped) == before - kept - left
    assert store.drop_stages(tmp_path, {}, ["vector", *store.STAGES]) == []  # what nobody has listed stays


def test_tables_are_read_by_their_keys_in_whatever_order_they_stand(tmp_path, scores):
    write_all(tmp_path, scores)
    increases = store.read_increases(tmp_path, scores.completions)
    choices, measures = store.read_choices(tmp_path, increases), store.read_measures(tmp_path, increases)
    rng = np.random.default_rng(0)
    for name in ("scores", "choices", "measures"):
        table = pyarrow.parquet.read_table(tmp_path / f"{name}.parquet")
        mixed = table.take(pyarrow.array(rng.permutation(table.num_rows)))
        pyarrow.parquet.write_table(mixed, tmp_path / f"{name}.parquet")
    again = store.read_increases(tmp_path, scores.completions)
    order = [again.conditions.index(c) for c in increases.conditions]
    for part in increases.PARTS:
        np.testing.assert_array_equal(getattr(again, part)[order], getattr(increases, part))
    same(store.read_choices(tmp_path, increases), choices)
    same(store.read_measures(tmp_path, increases), measures)


@pytest.mark.parametrize("name", ["scores", "choices", "measures"])
@pytest.mark.parametrize("change", ["lost", "doubled", "renamed"])
def test_rows_that_were_changed_are_told(tmp_path, scores, name, change):
    write_all(tmp_path, scores)
    increases, path = store.read_increases(tmp_path, scores.completions), tmp_path / f"{name}.parquet"
    table = pyarrow.parquet.read_table(path)
    if change == "renamed":
        table = table.set_column(0, "prompt_id", pyarrow.array(["p?", *table["prompt_id"].to_pylist()[1:]]))
    else:
        rows = [*range(table.num_rows - 1), *([0] if change == "doubled" else [])]
        table = table.take(pyarrow.array(rows))
    pyarrow.parquet.write_table(table, path)
    read = store.read_increases if name == "scores" else getattr(store, f"read_{name}")
    with pytest.raises(InputError, match=rf"{name}\.parquet: has .* rows were lost, doubled or changed"):
        read(tmp_path, scores.completions if name == "scores" else increases)


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)"])
def test_no_spreadsheet_takes_a_name_for_a_formula(tmp_path, scores, name):
    conditions = tuple(dataclasses.replace(c, vector=name) for c in scores.conditions)
    write_all(tmp_path, dataclasses.replace(scores, conditions=conditions))
    for file in ("summary.csv", "slopes.csv"):
        with (tmp_path / file).open(encoding="utf-8", newline="") as lines:
            assert {row["vector"] for row in csv.DictReader(lines)} <= {f"'{name}", ""}
    assert set(pyarrow.parquet.read_table(tmp_path / "slopes.parquet")["vector"].to_pylist()) == {name}


@pytest.mark.skipif(os.name == "nt", reason="folders are not flushed there")
def test_a_folder_that_may_not_be_read_can_be_written_to(tmp_path, monkeypatch):
    opened = os.open

    def refuse(path, flags, *rest, **options):
        if Path(path) == tmp_path:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    make_folder(tmp_path / "in")
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


def test_a_large_table_is_written_a_few_conditions_at_a_time_and_is_the_same(tmp_path, monkeypatch):
    increases = draw_increases(6, seed=1)
    measures = draw_measures(increases, seed=1)
    for name, rows in (("whole", 2**20), ("parts", 2 * len(increases.completions))):
        monkeypatch.setattr(store.files, "ROWS", rows)
        (tmp_path / name).mkdir()
        store.write_increases(tmp_path / name, increases)
        store.write_measures(tmp_path / name, measures)
    for table in ("scores", "measures"):
        whole, parts = (
            pyarrow.parquet.ParquetFile(tmp_path / name / f"{table}.parquet") for name in ("whole", "parts")
        )
        assert whole.num_row_groups == 1
        assert str(whole.read().to_pylist()) == str(parts.read().to_pylist())
    assert pyarrow.parquet.ParquetFile(tmp_path / "parts" / "scores.parquet").num_row_groups == -(
        -len(increases.conditions) // 2
    )

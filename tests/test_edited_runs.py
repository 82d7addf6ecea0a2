"""A run directory that was edited is read rightly or refused in one line that names the table; never half read."""

import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from edited import TABLES, list_edits, make_run, read_run
from test_store import same

from completions_lp import cli, store
from completions_lp.job import results
from completions_lp.records import InputError

DROPPABLE = {"cluster", "logprob", "logit_diff", "mass", "token_id", "kl", "kl_reverse", "entropy", "n_scored"}
DROPPABLE |= {"baseline", "p_choices", "sampler_logprob"}
DROPPABLE |= {f"{side}_{what}" for side in ("answer", "other") for what in ("logprob", "baseline")}
"""Columns for people, which no reader needs, but for those that have the name of one that is needed elsewhere."""
NEEDED = {("questions", "cluster"), ("scores", "logprob"), ("measures", "kl"), ("measures", "kl_reverse")}
ADDED = {("questions", "twin"), ("scores", "in_reasoning")}
ADDED |= {("completions", "token_sampler_logprob"), ("completions", "seed_counts")}
"""Columns that runs of earlier versions do not have."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("edited") / "run")


@pytest.fixture
def run(tmp_path, whole):
    return shutil.copytree(whole, tmp_path / "run")


def tell(run):
    """What a reader of the run says is wrong; None where nothing is."""
    try:
        read_run(run)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", TABLES)
def test_every_edit_of_a_table_is_read_or_refused_in_one_line(run, name):
    path = run / f"{name}.parquet"
    table = pyarrow.parquet.read_table(path)
    read = refused = 0
    for what, edited in list_edits(table):
        pyarrow.parquet.write_table(edited, path)
        told = tell(run)
        read, refused = read + (told is None), refused + (told is not None)
        assert told is None or (".parquet: " in told or ".parquet, row " in told), (what, told)
        assert told is None or (told.isprintable() and len(told) <= 600), what
    assert read + refused == 20 * len(table.column_names) + 5
    assert refused > read / 4


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("how", ["dropped", "renamed", "retyped"])
def test_a_column_that_is_missing_is_named_with_its_table_and_stage(run, name, how):
    path = run / f"{name}.parquet"
    table = pyarrow.parquet.read_table(path)
    stage = "sample" if name in TABLES[:2] else "score"
    for i, column in enumerate(table.column_names):
        edited = table.drop_columns([column])
        if how == "renamed":
            edited = table.rename_columns([f"{x}_" if x == column else x for x in table.column_names])
        if how == "retyped":
            edited = table.set_column(i, column, pa.array([{"a": 1}] * table.num_rows))
        pyarrow.parquet.write_table(edited, path)
        added = (name, column) in ADDED and how != "retyped"
        if added or (column in DROPPABLE and (name, column) not in NEEDED):
            read_run(run)
            continue
        with pytest.raises(InputError) as caught:
            read_run(run)
        assert str(caught.value).startswith(f"{path}: "), column
        assert f"column {column!r}" in str(caught.value)
        assert str(caught.value).endswith(f"it was changed since it was written; run the {stage} stage again")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("how", ["reversed", "shuffled", "columns", "wider"])
def test_rows_in_another_order_and_wider_types_are_read_rightly(run, name, how):
    before, path = read_run(run), run / f"{name}.parquet"
    table = pyarrow.parquet.read_table(path)
    n = table.num_rows
    order = {"reversed": np.arange(n)[::-1], "shuffled": np.random.default_rng(1).permutation(n)}.get(how, np.arange(n))
    if name in ("questions", "profile"):
        order = np.arange(n)  # whose order is the order of what is told
    table = table.take(pa.array(order))
    if how == "columns":
        table = table.select(table.column_names[::-1]).append_column("note", pa.array(["mine"] * n))
    if how == "wider":  # as pandas and polars write them
        wide = {
            pa.string(): pa.large_string(),
            pa.int16(): pa.int64(),
            pa.int32(): pa.int64(),
            pa.float32(): pa.float64(),
        }
        for i, field in enumerate(table.schema):
            table = table.set_column(i, field.name, table[field.name].cast(wide.get(field.type, field.type)))
    pyarrow.parquet.write_table(table, path)
    after = read_run(run)
    for record in ("completions", "choices", "measures"):
        same(before[record], after[record]) if name != "scores" or how in ("columns", "wider") else None
    conditions = [after["scores"].conditions.index(c) for c in before["scores"].conditions]
    np.testing.assert_array_equal(before["scores"].increase, after["scores"].increase[conditions])
    np.testing.assert_allclose(before["scores"].baseline, after["scores"].baseline, rtol=1e-14)  # from the first row
    places = [after["tokens"].conditions.index(c) for c in before["tokens"].conditions]
    np.testing.assert_array_equal(before["tokens"].increase, after["tokens"].increase[places])
    assert repr(before["profile"]) == repr(after["profile"])


def test_completions_sorted_by_count_keep_their_scores(run):
    """Their numbers are in the table: the place of a row is no longer one."""
    before, path = read_run(run), run / "completions.parquet"
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.sort_by([("count", "descending"), ("text", "ascending")]), path)
    same(before["completions"], read_run(run)["completions"])


def test_a_missing_number_is_an_undefined_one(run):
    path = run / "measures.parquet"
    table = pyarrow.parquet.read_table(path)
    place = table.schema.get_field_index("kl")
    pyarrow.parquet.write_table(table.set_column(place, "kl", pa.nulls(table.num_rows, pa.float64())), path)
    assert np.isnan(read_run(run)["measures"].steered["kl"]).all()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("prompt_id", "else", "row 1: has prompt 'else', which is not in questions.parquet"),
        ("completion_id", 7, "a completion_id that is not its number within its prompt"),
        ("count", 0, "a count below 1"),
        ("count", 2**40, "a count below 1 or beyond 32 bits"),
        ("token_ids", [], "no tokens, or ids that are none"),
        ("token_ids", [2**40], "no tokens, or ids that are none"),
        ("token_logprob", [0.0] * 50, "lists of different lengths"),
        ("label", "\x1b[31m", "label '\\x1b[31m', which is no answer of its prompt"),
        ("answer_index", 99, "an answer_index that its label and tokens do not have"),
        ("answer_index", -2, "an answer_index that its label and tokens do not have"),
    ],
)
def test_a_completion_that_no_run_has_written_is_refused(run, column, value, message):
    path = run / "completions.parquet"
    table = pyarrow.parquet.read_table(path)
    place, kind = table.schema.get_field_index(column), table.schema.field(column).type
    kind = pa.list_(pa.int64()) if column == "token_ids" else pa.int64() if column == "count" else kind
    pyarrow.parquet.write_table(
        table.set_column(place, column, pa.array([value, *table[column].to_pylist()[1:]], kind)), path
    )
    with pytest.raises(InputError) as caught:
        read_run(run)
    assert message.replace("\x1b", "\\x1b") in str(caught.value)


@pytest.mark.parametrize("name", TABLES)
def test_a_truncated_or_damaged_table_is_refused(run, name):
    path = run / f"{name}.parquet"
    whole = path.read_bytes()
    for broken in (b"", whole[:-1], whole[: len(whole) // 2], b"PAR1" * 3, whole[:100] + bytes(100) + whole[200:]):
        path.write_bytes(broken)
        with pytest.raises(InputError) as caught:
            read_run(run)
        assert str(caught.value).startswith(f"{path}: not a Parquet file: ")
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "schema version None"),
        ('{"schema_version": [2]}', "schema version [2]"),
        ('{"schema_version": true}', "schema version True"),
        ('{"schema_version": 3}', "config: Field required; restore the file"),
        ("[" * 100_000, "not valid JSON: maximum recursion depth exceeded"),
        ('{"schema_version": ' + "2" * 5000 + "}", "not valid JSON: Exceeds the limit"),
        ('{"schema_version": 3, "config": []}', "config: Input should be a valid dictionary"),
        ('{"schema_version": 3, "config": {"model": 1}}', "config.model: Input should be"),
        ('{"schema_version": 3, "config": {}, "stages": []}', "stages: Input should be"),
        ('{"schema_version": 3, "config": {}, "stages": {"vector": []}}', "stages.vector: Input should be"),
        ('{"schema_version": 3, "config": {}, "stages": {"vector": {"settings": 1}}}', "stages.vector.settings: Input"),
        ('{"schema_version": 3, "config": {}, "stages": {"vector": {"files": [1]}}}', "stages.vector.files: Input"),
        ('{"schema_version": 3, "config": {}, "files": ["../x"]}', "files.0: String should match pattern"),
        ('{"schema_version": 3, "config": {}, "files": ["vectors/../x"]}', "files.0: String should match pattern"),
        ('{"schema_version": 3, "config": {}, "seed": "x"}', "seed: Input should be a valid integer"),
        ('{"schema_version": 3, "config": {}, "timings": {"score": "x"}}', "timings.score: Input should be"),
        ('{"schema_version": 3, "config": {}, "token_counts": {"score": 1}}', "token_counts.score: Input should be"),
        ('{"schema_version": 3, "config": {}, "machine": 1}', "machine: Input should be"),
        ('{"schema_version": 3, "config": {}, "model": "\\ud800"}', "not valid JSON: 'utf-8' codec can't encode"),
    ],
)
def test_a_run_json_of_other_types_is_refused(run, text, message, capsys):
    (run / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        store.read_info(run)
    assert str(caught.value).startswith(f"{run / 'run.json'}: ")
    assert message in str(caught.value)
    for command in ("report", "figures", "compare", "plan"):
        assert cli.main([command, str(run)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_run_json_that_is_no_file_is_refused(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(InputError, match="is a folder; a file is needed"):
        store.read_info(tmp_path)
    (tmp_path / "run.json").rmdir()
    (tmp_path / "run.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 7\)"):
        store.read_info(tmp_path)
    (tmp_path / "run.json").unlink()
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(InputError, match="is no regular file"):
        store.read_info(tmp_path)


@pytest.mark.parametrize("name", [*TABLES, "figures/heatmap.txt"])
def test_a_report_writes_nothing_unless_all_can_be_read(run, name):
    (run / "figures").mkdir()
    (run / "figures" / "heatmap.png").write_bytes(b"x")
    listed = ["figures/heatmap.png", "figures/heatmap.txt", *store.STAGES["report"]]
    store.write_info(run, {"config": {}, "stages": {"sample": {}, "score": {}}, "files": listed})
    results.make_report(run)
    (run / name if "/" in name else run / f"{name}.parquet").write_bytes(b"\xff" * 100)
    state = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("[!.]*")}
    with pytest.raises(InputError):
        results.make_report(run)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("[!.]*")} == state

"""A prompt file is read by plain readers: exactly the one named, only what is asked for, or refused in one line."""

import csv
import json
import os
import socket

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from test_prompts import ANSWERS, OTHER, ROW, write

from completions_lp.prompts import load_pairs, load_prompts, parquet
from completions_lp.records import InputError
from completions_lp.records.base import Notice

LINE = json.dumps(ROW)


def refuse(path, tokenizer, message, **options):
    with pytest.raises(InputError) as caught:
        load_prompts(path, tokenizer, **options)
    assert message in str(caught.value), str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["run[1].jsonl", "$FOO.jsonl", "p*.jsonl", "{a,b}.jsonl", "x?.jsonl", "~nobody-x.jsonl"]
)
def test_exactly_the_named_file_is_read(tmp_path, tokenizer, monkeypatch, name):
    monkeypatch.setenv("FOO", "other")
    monkeypatch.chdir(tmp_path)
    for other in ("run1.jsonl", "other.jsonl", "p1.jsonl", "a.jsonl", "b.jsonl", "x1.jsonl"):
        write(tmp_path, [OTHER], other)
    refuse(name, tokenizer, ": no such file" if name[0] != "~" else ": ")
    refuse(tmp_path / name, tokenizer, ": no such file")
    write(tmp_path, [ROW], name)
    (prompt,) = load_prompts(tmp_path / name, tokenizer)
    assert ROW["question"] in prompt.text


@pytest.mark.parametrize(
    "name", ["json", "csv", "parquet", "imagefolder", "a/*", "a/b\0c", "a/..", "x" * 5000, "a/" + "b" * 300]
)
def test_no_name_lets_another_package_look_around(tmp_path, tokenizer, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, [ROW], "near.json")
    refuse(name, tokenizer, "hub datasets (OWNER/NAME)")


def test_a_folder_a_pipe_or_a_loop_is_refused_at_once(tmp_path, tokenizer):
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    refuse(tmp_path / "folder.jsonl", tokenizer, "is a folder; a file is needed")
    refuse(tmp_path / "pipe.jsonl", tokenizer, "is no regular file; a file is needed")
    refuse(tmp_path / "device.csv", tokenizer, "is no regular file; a file is needed")
    refuse(tmp_path / "loop.jsonl", tokenizer, "cannot be read: Too many levels of symbolic links")
    refuse("a\0b.jsonl", tokenizer, "a\\x00b.jsonl: cannot be read")
    refuse(f"{'x' * 5000}.jsonl", tokenizer, "cannot be read: File name too long")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path, tokenizer):
    path = write(tmp_path, [ROW])
    path.chmod(0)
    refuse(path, tokenizer, "cannot be read: Permission denied")


@pytest.mark.parametrize("column", ["question", "id", "picture"])
@pytest.mark.parametrize("kind", ["Image", "Audio"])
def test_a_column_declared_as_an_image_is_never_opened(tmp_path, tokenizer, monkeypatch, column, kind):
    """What ``datasets`` would follow: a path of a local file, or an address."""

    def connect(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    picture = pa.array(
        [{"bytes": None, "path": "/etc/hostname"}, {"bytes": None, "path": "http://localhost:1/x.png"}],
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    )
    table = pa.Table.from_pylist([ROW, OTHER])
    place = table.schema.get_field_index(column)
    table = table.append_column(column, picture) if place < 0 else table.set_column(place, column, picture)
    features = {name: {"dtype": "string", "_type": "Value"} for name in table.column_names} | {column: {"_type": kind}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    if column == "question":
        refuse(tmp_path / "x.parquet", tokenizer, "no field 'question' (needed by the template")
        refuse(tmp_path / "x.parquet", tokenizer, "question (struct<bytes: binary, path: string>, which is not read)")
    else:
        first, second = load_prompts(tmp_path / "x.parquet", tokenizer)
        assert (first.text[:10], second.text[:10]) == ("Which one?", "And now?\n\n")


def test_a_parquet_file_that_decompresses_to_more_than_the_bound_is_refused(tmp_path, tokenizer, monkeypatch):
    """By what the file says of itself, and, where a dictionary makes it say little, by what is read of it."""
    monkeypatch.setattr(parquet, "MOST_BYTES", 2**24)
    rows = [{**ROW, "question": f"{i:03d}" + "x" * 2**16} for i in range(300)]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", compression="zstd", use_dictionary=False)
    assert (tmp_path / "x.parquet").stat().st_size < 2**17
    refuse(tmp_path / "x.parquet", tokenizer, "take more than 16777216 bytes decompressed: split the file")
    rows = [{**ROW, "question": "x" * 2**20}] * 1000
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "y.parquet")
    held = pa.parquet.read_metadata(tmp_path / "y.parquet").row_group(0).total_byte_size
    assert held < 2**22
    before = pa.total_allocated_bytes()
    refuse(tmp_path / "y.parquet", tokenizer, "take more than 16777216 bytes decompressed")
    assert pa.total_allocated_bytes() - before < 2**24
    monkeypatch.setattr(parquet, "MOST_ROWS", 2)
    pa.parquet.write_table(pa.Table.from_pylist([ROW] * 3), tmp_path / "z.parquet")
    refuse(tmp_path / "z.parquet", tokenizer, "has 3 rows; at most 2 are read")


def test_what_is_not_asked_for_is_not_read(tmp_path, tokenizer, monkeypatch):
    """A gigabyte beside the questions costs nothing, and a column of a type of its own does not matter."""
    monkeypatch.setattr(parquet, "MOST_BYTES", 2**16)
    table = pa.Table.from_pylist([ROW, OTHER])
    table = table.append_column("blob", pa.array([b"x" * 2**20] * 2)).append_column(
        "when", pa.array([1, 2], pa.date32())
    )
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    assert len(load_prompts(tmp_path / "x.parquet", tokenizer)) == 2
    refuse(tmp_path / "x.parquet", tokenizer, "when (date32[day], which is not read)", template="{when}")


def test_parquet_columns_of_every_plain_type_are_read(tmp_path, tokenizer):
    sides = {
        side: {"prompt": ROW["question"], "response": ROW[name], "more": [1]}
        for side, name in zip(("positive", "negative"), ANSWERS, strict=True)
    }
    table = pa.Table.from_pylist([sides, sides])
    table = table.append_column("id", pa.array(["a", "b"]).dictionary_encode())
    table = table.append_column("cluster", pa.array([7.0, np.nan]))
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    first, second = load_prompts(tmp_path / "x.parquet", tokenizer)
    assert (first.id, first.cluster, second.id, second.cluster) == ("a", "7.0", "b", "b")
    assert first.text == load_prompts(write(tmp_path, [ROW]), tokenizer)[0].text


def test_a_broken_parquet_file_says_so_in_one_line(tmp_path, tokenizer):
    path = write(tmp_path, [ROW, OTHER], "x.parquet")
    whole = path.read_bytes()
    for broken in (whole[:-20], whole[:8], whole[:200] + bytes(50) + whole[250:]):
        path.write_bytes(broken)
        refuse(path, tokenizer, "x.parquet: not a Parquet file: ")
    table = pa.Table.from_pylist([ROW])
    pa.parquet.write_table(table.append_column("id", table["question"]).rename_columns([*ROW, "question"]), path)
    refuse(path, tokenizer, "the column 'question' stands twice")
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pa.parquet.write_table(pa.Table.from_pylist([ROW]).set_column(0, "question", bad), path)
    refuse(path, tokenizer, "not a Parquet file: ")


def test_csv_cells_are_text_of_any_length(tmp_path, tokenizer):
    rows = [{"id": "001", **ROW}, {"id": "1e5", **ROW, "question": "x" * 200_000}, {"id": "NA", **ROW}]
    path = write(tmp_path, rows, "x.csv")
    before = csv.field_size_limit()
    prompts = load_prompts(path, tokenizer)
    assert [p.id for p in prompts] == ["001", "1e5", "NA"]
    assert len(prompts[1].text) > 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"\xef\xbb\xbf", "x.csv: the file is empty"),
        ("x.jsonl", b"\xef\xbb\xbf\n", "x.jsonl: the file is empty"),
        ("x.csv", b"question\nA\0B\n", "it has NUL characters"),
        ("x.csv", "question\nA\n".encode("utf-16"), "x.csv: not UTF-8 text (byte 0)"),
        ("x.csv", b"a,b,a\n1,2,3\n", "the column 'a' stands twice in the header"),
        ("x.csv", b'a,b\n"1"2,3\n4\r5,6', "x.csv, line "),
        ("x.json", b"[" * 100_000, "x.json: nested too deeply"),
        ("x.jsonl", b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "x.jsonl, line 1: nested too deeply"),
        ("x.jsonl", b'{"id": ' + b"1" * 5000 + b"}", "line 1: has a number of thousands of digits"),
        ("x.jsonl", b'{"id": NaN}', "line 1: NaN is not JSON"),
        ("x.json", b'[{"id": -Infinity}]', "x.json: -Infinity is not JSON"),
        ("x.jsonl", b'{"id": 1, "id": 2}', "line 1: the field 'id' stands twice in an object"),
        ("x.jsonl", b'{"id": "\\ud800"}', "line 1: has half of a surrogate pair"),
        ("x.jsonl", b'{"\\udfff": 1}', "line 1: has half of a surrogate pair"),
        ("x.jsonl", b'{"id": "\xed\xa0\x80"}', "x.jsonl: not UTF-8 text (byte 8)"),
    ],
)
def test_hostile_text_is_refused_with_its_place(tmp_path, tokenizer, name, content, message):
    (tmp_path / name).write_bytes(content)
    refuse(tmp_path / name, tokenizer, message)
    with pytest.raises(InputError):
        load_pairs(tmp_path / name, tokenizer)


def test_a_pair_of_surrogates_is_a_character(tmp_path, tokenizer):
    path = write(tmp_path, json.dumps({**ROW, "id": "\N{GRINNING FACE}"}))  # which json.dumps writes as two escapes
    assert "\\ud83d" in path.read_text(encoding="utf-8")
    assert load_prompts(path, tokenizer)[0].id == "\N{GRINNING FACE}"


@pytest.mark.parametrize("identity", ["../../etc", "a\nb", "x" * 10_000, "\x1b[31m", "=1+1", "\0", "\u202e"])
def test_an_id_is_any_text(tmp_path, tokenizer, identity):
    path = write(tmp_path, [{**ROW, "id": identity}, {**ROW, "id": identity}])
    assert [p.id for p in load_prompts(path, tokenizer)] == [identity, f"{identity}-2"]


def test_ids_that_chase_each_other_are_numbered(tmp_path, tokenizer):
    names = ["x" + "-2" * i for i in range(1500)]
    with pytest.warns(Notice, match="the matching answer is 'A' in 1501 of 1501 rows"):
        prompts = load_prompts(write(tmp_path, [{**ROW, "id": name} for name in [*names, "x"]]), tokenizer)
    assert prompts[-1].id == "x" + "-2" * 1500


def test_an_id_that_is_no_text_is_refused(tmp_path, tokenizer):
    refuse(write(tmp_path, [{**ROW, "id": [1]}]), tokenizer, "line 1: field 'id' (optional) must be text, got list")


def test_hostile_answers_and_questions_are_read_in_linear_time(tmp_path, tokenizer):
    """Each took an hour by a regular expression that tries every way to part white space."""
    blank = " " * 100_000
    refuse(write(tmp_path, [{**ROW, ANSWERS[0]: f"{blank}(A{blank}("}]), tokenizer, "line 1: an answer is '")
    (prompt,) = load_prompts(write(tmp_path, [{**ROW, "question": "\n" * 100_000 + "(C) x"}]), tokenizer)
    assert prompt.letters == ("A", "B")


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no system role') }}",
        "{% for m in messages %}{{ m.content + 1 }}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content }}",
        "{% for m in messages %}",
        "{{ ''.__class__.__mro__ }}",
    ],
)
def test_a_chat_template_that_raises_names_the_row(tmp_path, tokenizer, monkeypatch, template):
    monkeypatch.setattr(tokenizer, "chat_template", template)
    refuse(write(tmp_path, [ROW]), tokenizer, "line 1: this model's chat template refuses it: ", template="chat")
    assert issubclass(jinja2.exceptions.SecurityError, jinja2.TemplateError)

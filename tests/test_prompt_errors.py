import json

import pyarrow as pa
import pyarrow.parquet
import pytest
import tokenizers
import transformers
from test_prompts import ANSWERS, OTHER, QUESTION, ROW, write

from completions_lp.prompts import first_difference, load_pairs, load_prompts
from completions_lp.records import InputError

LINE = json.dumps(ROW)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", "", "x.jsonl: the file is empty"),
        ("x.jsonl", " \n\n", "x.jsonl: the file is empty"),
        ("x.csv", "question,answer\n", "x.csv: the file has no rows"),
        ("x.json", "[]", "x.json: the file has no rows"),
        ("x.jsonl", f"{LINE}\n{{bad\n", "x.jsonl, line 2: not valid JSON: Expecting property name enclosed in double"),
        ("x.jsonl", f"{LINE}\n\n{LINE[:-3]}\n", "x.jsonl, line 3: not valid JSON: Unterminated string"),
        ("x.jsonl", json.dumps(ROW, indent=1), "x.jsonl, line 1: not valid JSON"),
        (
            "x.json",
            '[\n{"question": "q"},\n{"question" "q"}]',
            "x.json, line 3: not valid JSON: Expecting ':' delimiter",
        ),
        ("x.jsonl", f"{LINE}\n[1, 2]", "x.jsonl, line 2: expected an object with named fields, got list"),
        ("x.jsonl", "null", "x.jsonl, line 1: expected an object with named fields, got NoneType"),
        ("x.jsonl", f"[{LINE}]", "x.jsonl, line 1: expected an object with named fields, got list"),
        ("x.json", f"[{LINE}, 3]", "x.json, row 2: expected an object with named fields, got int"),
        (
            "x.csv",
            "question,answer\nwhat, this, or that?,A\n",
            "x.csv, line 2: 4 cells where the header has 2; quote a",
        ),
        ("x.csv", 'question,answer\n"two\nlines",A\nx\n', "x.csv, line 4: 1 cells where the header has 2"),
        ("x.parquet", "no table", "x.parquet: not a Parquet file: Parquet magic bytes not found"),
        (
            "x.txt",
            "hello",
            "x.txt: not a file of a known kind; prompts and pairs are .json, .jsonl, .csv, .tsv, .parquet",
        ),
    ],
)
@pytest.mark.parametrize("load", [load_prompts, load_pairs])
def test_a_malformed_file_says_what_is_wrong_and_where(tmp_path, tokenizer, capfd, load, name, text, message):
    path = write(tmp_path, "", name)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load(path, tokenizer)
    assert str(caught.value).startswith(str(tmp_path / message))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # the readers of other packages tell nothing beside it


@pytest.mark.parametrize("name", ["none.jsonl", "./none", "/no/such/thing"])
def test_a_missing_file_is_named(tokenizer, name):
    with pytest.raises(InputError, match=f"{name}: no such file"):
        load_prompts(name, tokenizer)


def test_a_file_that_is_no_text_is_named(tmp_path, tokenizer):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"question": "\xff"}')
    with pytest.raises(InputError, match=r"x\.jsonl: not UTF-8 text \(byte 14\)$"):
        load_prompts(path, tokenizer)


def test_a_table_without_rows_is_named(tmp_path, tokenizer):
    pa.parquet.write_table(pa.table({"question": pa.array([], pa.string())}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"x\.parquet: the file has no rows$"):
        load_prompts(tmp_path / "x.parquet", tokenizer)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {k: v for k, v in OTHER.items() if k != "question"},
            "no field 'question' (needed by the template '{question}\\n\\nAnswer:'); its fields: "
            "answer_matching_behavior, answer_not_matching_behavior; where another field is meant, name it: "
            '[prompts] fields = {question = "COLUMN"}',
        ),
        (
            {k: v for k, v in OTHER.items() if k != ANSWERS[1]},
            "no field 'answer_not_matching_behavior' (an answer); its fields: question, answer_matching_behavior; "
            'where another field is meant, name it: [prompts] fields = {not_matching = "COLUMN"}',
        ),
        ({**OTHER, ANSWERS[0]: " (A)"}, "both answers are 'A'; a prompt needs two that differ"),
        ({**OTHER, ANSWERS[0]: "()"}, "an answer is '()'; it should look like '(A)', 'A' or 'Yes'"),
        ({**OTHER, ANSWERS[1]: "(a) (b"}, "an answer is '(a) (b'; it should look like '(A)', 'A' or 'Yes'"),
        ({**OTHER, ANSWERS[0]: ""}, "an answer is ''; it should look like '(A)', 'A' or 'Yes'"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(tmp_path, tokenizer, row, message):
    path = write(tmp_path, f"{LINE}\n\n{json.dumps(row)}\n")
    with pytest.raises(InputError) as caught:
        load_prompts(path, tokenizer)
    assert str(caught.value) == f"{path}, line 3: {message}"


def test_a_field_that_is_no_text_is_named(tmp_path, tokenizer):
    path = write(tmp_path, [{**ROW, "question": ["a", "b"]}])
    with pytest.raises(InputError, match=r"line 1: field 'question' \(needed by .*\) must be text, got list$"):
        load_prompts(path, tokenizer)


def test_an_empty_prompt_is_named(tmp_path, tokenizer):
    path = write(tmp_path, [ROW, {**ROW, "question": ""}])
    with pytest.raises(InputError, match=r"jsonl, line 2: the prompt is empty$"):
        load_prompts(path, tokenizer, template="{question}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{topic}: {question}",
            r"line 1: no field 'topic' \(needed by the template '\{topic\}: \{question\}'\); its fields",
        ),
        ("{question", r"template '\{question' is not a format string: expected '\}' before end of string"),
        ("chat", 'template = "chat", but this model\'s tokenizer has no chat template; give a format string'),
    ],
)
def test_a_template_that_cannot_be_filled_says_why(tmp_path, tokenizer, template, message):
    with pytest.raises(InputError, match=message):
        load_prompts(write(tmp_path, [ROW]), tokenizer, template=template)


def test_answers_that_the_tokenizer_cannot_tell_apart_are_refused(tmp_path):
    words = {word: i for i, word in enumerate(["<unk>", "Which", "one", "?", "Answer", ":", "("])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    mute = transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    path = write(tmp_path, [{**ROW, "question": "Which one?", "id": "q1"}])
    (prompt,) = load_prompts(path, mute)
    message = "the tokenizer cannot express the answer 'A' against 'B': their token ids are "
    with pytest.raises(InputError, match=f"prompt 'q1': {message}"):
        first_difference(prompt, "A", mute)
    with pytest.raises(InputError, match=f"line 1: {message}"):
        load_pairs(path, mute)
    assert load_pairs(path, mute, read_token="last")


def test_an_answer_that_only_one_side_lacks_is_refused_too(tmp_path):
    words = {word: i for i, word in enumerate(["<unk>", "Which", "one", "?", "A", "Answer", ":"])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    half = transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    (prompt,) = load_prompts(write(tmp_path, [{**ROW, "question": QUESTION}]), half)
    with pytest.raises(InputError, match="choose answers that it can tell apart"):
        first_difference(prompt, "A", half)

import csv
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
import tokenizers
import transformers

from completions_lp.prompts import answer_tokens, first_difference, load_pairs, load_prompts
from completions_lp.records import InputError

QUESTION = "Which one?\n\nChoices:\n (A) This\n (B) That"
ROW = {"question": QUESTION, "answer_matching_behavior": " (A)", "answer_not_matching_behavior": " (B)"}
OTHER = {**ROW, "question": "And now?", "answer_matching_behavior": "(B)", "answer_not_matching_behavior": "(A)"}
ANSWERS = ("answer_matching_behavior", "answer_not_matching_behavior")


def write(folder, rows, name="asked.jsonl"):
    path = folder / name
    kind = path.suffix.lower()
    if isinstance(rows, str):
        path.write_text(rows, encoding="utf-8")
    elif kind == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif kind == ".json":
        path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    elif kind == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def load(tmp_path, tokenizer):
    """Write rows to a file and load them as prompts."""

    def loader(rows, name="asked.jsonl", **options):
        return load_prompts(write(tmp_path, rows, name), tokenizer, **options)

    return loader


@pytest.fixture
def pair_up(tmp_path, tokenizer):
    """Write rows to a file and load them as contrast pairs."""

    def loader(rows, name="pairs.jsonl", **options):
        return load_pairs(write(tmp_path, rows, name), tokenizer, **options)

    return loader


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.parquet", "X.JSONL"])
def test_every_kind_of_file_gives_the_same_prompts(load, tokenizer, name):
    first, second = load([ROW, OTHER], name)
    assert first.text == f"{QUESTION}\n\nAnswer:"
    assert first.token_ids == tuple(tokenizer(first.text).input_ids)
    assert tokenizer.decode(first.token_ids) == first.text
    assert (first.matching, first.not_matching, first.letters) == ("A", "B", ("A", "B"))
    assert (second.matching, second.not_matching, second.text) == ("B", "A", "And now?\n\nAnswer:")
    assert (first.cluster, second.cluster) == (first.id, second.id)
    assert first.id != second.id


def test_json_lines_may_have_another_name_blank_lines_and_a_mark(load):
    text = "\ufeff" + json.dumps(ROW) + "\n\n" + json.dumps(OTHER) + "\r\n"
    assert [p.matching for p in load(text)] == ["A", "B"]
    assert [p.matching for p in load(text.strip("\ufeff"), "x.json")] == ["A", "B"]


def test_text_of_a_table_is_taken_as_it_stands(load):
    """No cell is read as a number, a date or a missing value, and no line break in it ends the row."""
    row = {"question": 'NA,\n\u2028"x"', **dict(zip(ANSWERS, ("Yes", "None"), strict=True))}
    (prompt,) = load([row], "x.csv")
    assert (prompt.text, prompt.letters) == ('NA,\n\u2028"x"\n\nAnswer:', ("None", "Yes"))


@pytest.mark.parametrize(
    ("answers", "letters", "form"),
    [
        ((" (A)", " (B)"), ("A", "B"), " ({letter})"),
        (("(A)", "(B)"), ("A", "B"), " ({letter})"),
        ((" A", "B "), ("A", "B"), " {letter}"),
        (("A)", "B)"), ("A", "B"), " {letter})"),
        (("(A).", "(B)."), ("A", "B"), " ({letter})."),
        ((" Yes", " No"), ("No", "Yes"), " {letter}"),
        (("2", "1"), ("1", "2"), " {letter}"),
    ],
)
def test_answers_are_read_through_their_wrapping(load, answers, letters, form):
    (prompt,) = load([{"question": "q", **dict(zip(ANSWERS, answers, strict=True))}])
    assert (prompt.letters, prompt.answer_format) == (letters, form)
    assert prompt.matching == answers[0].strip(" ().")


def test_a_prompt_that_ends_in_space_gets_no_second_one(load):
    assert load([ROW], template="{question} ")[0].answer_format == "({letter})"


def test_letters_are_all_choices_of_the_question(load):
    (prompt,) = load([{**ROW, "question": f"{QUESTION}\n (C) Both"}])
    assert prompt.letters == ("A", "B", "C")
    (words,) = load([{**ROW, **dict.fromkeys(ANSWERS, "Yes"), ANSWERS[1]: "No"}])
    assert words.letters == ("No", "Yes")  # the letters of the choices are not the answers


@pytest.mark.parametrize(
    "row",
    [
        {"question": QUESTION, "matching": "(A)", "not_matching": "(B)"},
        {"prompt": QUESTION, "correct": "A", "incorrect": "B"},
        {"positive": {"prompt": QUESTION, "response": " (A)"}, "negative": {"prompt": QUESTION, "response": " (B)"}},
    ],
)
def test_the_other_formats_of_the_field_are_read(load, row):
    (prompt,) = load([row], "x.json")
    assert (prompt.text, prompt.matching, prompt.not_matching) == (f"{QUESTION}\n\nAnswer:", "A", "B")


def test_templates_are_filled_from_the_files_fields(load):
    (prompt,) = load([{**ROW, "topic": "soup", "n": 3}], template="{{{topic}}} {n}: {question}")
    assert prompt.text == f"{{soup}} 3: {QUESTION}"


def test_a_chat_template_has_one_beginning_and_the_users_turn(tmp_path, chat_tokenizer):
    path = write(tmp_path, [ROW])
    (prompt,) = load_prompts(path, chat_tokenizer, template="chat")
    assert prompt.text == f"<end>[user] {QUESTION} [model]"
    assert prompt.token_ids == tuple(chat_tokenizer(f"[user] {QUESTION} [model]").input_ids)
    assert prompt.token_ids.count(chat_tokenizer.bos_token_id) == 1
    (pair,) = load_pairs(path, chat_tokenizer, template="chat")
    assert pair.positive == (*prompt.token_ids, *chat_tokenizer(" (A)", add_special_tokens=False).input_ids)
    (plain,) = load_prompts(path, chat_tokenizer, template="{question}")
    assert plain.token_ids[0] == chat_tokenizer.bos_token_id


@pytest.fixture
def chat_tokenizer(tokenizer):
    """The tokenizer with a chat template, which writes a beginning, as the tokenizer itself does."""
    core = tokenizers.Tokenizer.from_str(tokenizer._tokenizer.to_str())
    core.post_processor = tokenizers.processors.TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 0)])
    chat = transformers.PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<end>")
    chat.chat_template = "{{ bos_token }}[{{ messages[0]['role'] }}] {{ messages[0]['content'] }} [model]"
    return chat


def test_ids_do_not_depend_on_the_order_of_the_file(load):
    rows = [{**ROW, "question": f"q{i}"} for i in range(4)]
    forward, backward = load(rows), load(rows[::-1])
    assert {p.text: p.id for p in forward} == {p.text: p.id for p in backward}
    assert len({p.id for p in forward}) == 4


def test_ids_are_the_files_own_and_unique(load):
    assert [p.id for p in load([{**ROW, "id": i} for i in (0, 7)])] == ["0", "7"]
    assert [p.id for p in load([{**ROW, "id": i} for i in ("x", "x", "x-2", "x")])] == ["x", "x-2", "x-2-2", "x-3"]
    first, second = load([ROW, ROW])
    assert second.id == f"{first.id}-2"


def test_clusters_are_the_files_own(load):
    rows = [{**ROW, "question": f"q{i}", "cluster": c} for i, c in enumerate((0, 1, 0))]
    assert [p.cluster for p in load(rows)] == ["0", "1", "0"]
    named, unnamed = load([{**ROW, "cluster": "soup"}, {**OTHER, "cluster": None}])
    assert (named.cluster, unnamed.cluster) == ("soup", unnamed.id)


def test_letters_and_limit_choose_prompts(load):
    words = {**ROW, **dict(zip(ANSWERS, ("Yes", "No"), strict=True))}
    rows = [words, ROW, OTHER, words]
    assert [p.matching for p in load(rows)] == ["Yes", "A", "B", "Yes"]
    assert [p.matching for p in load(rows, letters=("A", "B"))] == ["A", "B"]
    assert [p.matching for p in load(rows, letters=("A", "B"), limit=1)] == ["A"]
    assert [p.matching for p in load(rows, limit=3)] == ["Yes", "A", "B"]
    with pytest.raises(InputError, match=r"jsonl: no prompts with both answers among C, D; at least one is needed$"):
        load(rows, letters=("C", "D"))


def test_answers_part_where_their_tokens_differ(load, tokenizer):
    (prompt,) = load([ROW])
    a, b, shared = first_difference(prompt, "A", tokenizer)
    assert first_difference(prompt, "B", tokenizer) == (b, a, shared)
    for letter, token in (("A", a), ("B", b)):
        answer = answer_tokens(prompt, letter, tokenizer)
        assert tokenizer.decode(answer) == f" ({letter})"
        assert answer[: len(shared)] == shared
        assert answer[len(shared)] == token
        assert letter in tokenizer.decode([token])
    assert tokenizer.decode(shared).strip() == "("


def test_pairs_are_the_question_with_either_answer(pair_up, load, tokenizer):
    (prompt,) = load([ROW])
    pairs = pair_up([ROW, OTHER])
    texts = [[tokenizer.decode(ids) for ids in (pair.positive, pair.negative)] for pair in pairs]
    assert texts[0] == [f"{prompt.text} (A)", f"{prompt.text} (B)"]
    assert texts[1] == ["And now?\n\nAnswer: (B)", "And now?\n\nAnswer: (A)"]
    for pair, letters in zip(pairs, ("AB", "BA"), strict=True):
        assert pair.positive_index == pair.negative_index
        assert letters[0] in tokenizer.decode([pair.positive[pair.positive_index]])
        assert letters[1] in tokenizer.decode([pair.negative[pair.negative_index]])
        assert pair.positive[: pair.positive_index] == pair.negative[: pair.negative_index]


def test_plain_texts_are_pairs_as_they_stand(pair_up, tokenizer):
    (pair,) = pair_up([{"positive": "I am careful", "negative": "I am bold."}])
    assert tokenizer.decode(pair.positive) == "I am careful"
    assert tokenizer.decode(pair.negative) == "I am bold."
    assert (pair.positive_index, pair.negative_index) == (len(pair.positive) - 1, len(pair.negative) - 1)


@pytest.mark.parametrize("rows", [[ROW], [{"positive": "one text", "negative": "another, longer one"}]])
def test_texts_are_read_at_the_token_that_is_asked_for(pair_up, rows):
    for read_token, want in (("last", -1), (-1, -1), (-2, -2), (0, 0), (1, 1)):
        (pair,) = pair_up(rows, read_token=read_token)
        assert pair.positive_index == want % len(pair.positive)
        assert pair.negative_index == want % len(pair.negative)


@pytest.mark.parametrize("read_token", ["middle", 1000, -1000])
def test_a_token_that_is_not_there_is_an_error(pair_up, read_token):
    with pytest.raises(InputError, match=rf"jsonl, line 1: read_token is {read_token!r}; needs 'letter', 'last', "):
        pair_up([ROW], read_token=read_token)


def test_pairs_can_be_limited(pair_up):
    assert len(pair_up([ROW, OTHER, ROW], limit=2)) == 2
    with pytest.raises(InputError, match="no contrast pairs; at least one is needed"):
        pair_up([ROW], limit=0)

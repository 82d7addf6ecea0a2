"""A fixture for every format of prompts and pairs, written for this package: the right letters, or why not."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from test_prompts import ANSWERS, OTHER, QUESTION, ROW, write

from completions_lp.prompts import load_pairs, load_prompts
from completions_lp.records import InputError
from completions_lp.records.base import Notice

MMLU = {"question": "What is 2 + 3?", "subject": "sums", "choices": ["four", "five", "six", "seven"], "answer": 1}
LISTED = "What is 2 + 3?\n\nChoices:\n (A) four\n (B) five\n (C) six\n (D) seven"
PERSONA = {
    "question": 'Is the following statement something you would say?\n"I count the stars"',
    "statement": "I count the stars",
    "label_confidence": 0.9,
    **dict(zip(ANSWERS, (" Yes", " No"), strict=True)),
}
SIDES = {
    side: {"prompt": QUESTION, "response": f" ({letter})"}
    for side, letter in (("positive", "B"), ("negative", "A"))
}  # fmt: skip
CHAT = [
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": QUESTION},
]
ROWS = {
    # By format: a row, and what is read: the question, the matching answer, the one to compare with, all of them.
    "CAA": ({**ROW, ANSWERS[0]: "(B)", ANSWERS[1]: "(A)"}, QUESTION, "B", "A", "AB"),
    "model-written evals": (ROW, QUESTION, "A", "B", "AB"),
    "persona": (PERSONA, PERSONA["question"], "Yes", "No", ("No", "Yes")),
    "CAA's truthfulqa and mmlu": (
        {"prompt": QUESTION, "correct": "(B)", "incorrect": "(A)", "correct_full_text": "(B) That", "category": "x"},
        *(QUESTION, "B", "A", "AB"),
    ),
    "steering-bench": ({**SIDES, "meta": None, "steering_token_index": -2}, QUESTION, "B", "A", "AB"),
    "EasyEdit": ({"question": QUESTION, "matching": "(B)", "not_matching": "(A)"}, QUESTION, "B", "A", "AB"),
    "several that do not match": (
        {**ROW, "question": f"{QUESTION}\n (C) Both\n (D) None", ANSWERS[1]: [" (C)", " (B)"]},
        *(f"{QUESTION}\n (C) Both\n (D) None", "A", "C", "ABCD"),
    ),
    "matching as a list of one": ({**ROW, ANSWERS[0]: [" (A)"], ANSWERS[1]: [" (B)"]}, QUESTION, "A", "B", "AB"),
    "a letter beyond B": (
        {**ROW, "question": f"{QUESTION}\n (C) Both", ANSWERS[0]: " (C)", ANSWERS[1]: " (A)"},
        *(f"{QUESTION}\n (C) Both", "C", "A", "ABC"),
    ),
    "eight choices": (
        {**ROW, "question": "Which?" + "".join(f"\n ({x}) {x}{x}" for x in "ABCDEFGH"), ANSWERS[0]: " (H)"},
        *("Which?" + "".join(f"\n ({x}) {x}{x}" for x in "ABCDEFGH"), "H", "B", "ABCDEFGH"),
    ),
    "choices without brackets": (
        {"question": "Which?\nA. x\nB. y\nC. z", "matching": "C", "not_matching": "A"},
        *("Which?\nA. x\nB. y\nC. z", "C", "A", "ABC"),
    ),
    "choices by number": (
        {"question": "Which?\n(1) x\n(2) y\n(3) z", "matching": "(3)", "not_matching": "(1)"},
        *("Which?\n(1) x\n(2) y\n(3) z", "3", "1", "123"),
    ),
    "MMLU": (MMLU, LISTED, "B", "A", "ABCD"),
    "MMLU, its answer a letter": ({**MMLU, "answer": "D"}, LISTED, "D", "A", "ABCD"),
    "MMLU, its answer a text": ({**MMLU, "answer": "six"}, LISTED, "C", "A", "ABCD"),
    "MMLU, choices listed already": ({**MMLU, "question": LISTED}, LISTED, "B", "A", "ABCD"),
    "choices with labels": (
        {
            "question": "What is 2 + 3?",
            "choices": {"text": ["four", "five"], "label": ["1", "2"]},
            "answerKey": "2",
        },
        *("What is 2 + 3?\n\nChoices:\n (1) four\n (2) five", "2", "1", "12"),
    ),
    "choices by letter": (
        {"question": "What is 2 + 3?", "options": {"A": "four", "B": "five"}, "answer": "B"},
        *("What is 2 + 3?\n\nChoices:\n (A) four\n (B) five", "B", "A", "AB"),
    ),
    "a column for each choice": (
        {"question": "What is 2 + 3?", "A": "four", "B": "five", "C": "six", "D": "seven", "answer": "C"},
        *(LISTED, "C", "A", "ABCD"),
    ),
    "choices and a behaviour": (
        {**MMLU, "matching": "(D)", "not_matching": "(C)"},
        *(LISTED, "D", "C", "ABCD"),
    ),
    "a chat of one turn": (
        {"messages": CHAT[2:], **{name: ROW[name] for name in ANSWERS}},
        *(QUESTION, "A", "B", "AB"),
    ),
    "a chat under other names": (
        {"conversations": [{"from": "human", "value": QUESTION}], **{name: ROW[name] for name in ANSWERS}},
        *(QUESTION, "A", "B", "AB"),
    ),
    "a question with a good and a bad answer": (
        {"question": "May I come in?", "positive": "Please do.", "negative": "Go away (now)."},
        *("May I come in?", "Please do", "Go away (now).", ("Go away (now).", "Please do")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "rows", "dataset"])
@pytest.mark.parametrize("name", ROWS)
def test_every_format_is_read_from_every_kind_of_file(tmp_path, tokenizer, name, kind):
    row, question, matching, not_matching, letters = ROWS[name]
    if kind in ("rows", "dataset"):
        source = [row] if kind == "rows" else datasets.Dataset.from_list([row])
    else:
        source = write(tmp_path, [row], f"x.{kind}")
    (prompt,) = load_prompts(source, tokenizer, template="{question} =")
    assert prompt.text == f"{question} ="
    assert (prompt.matching, prompt.not_matching, prompt.letters) == (matching, not_matching, tuple(letters))
    (pair,) = load_pairs(source, tokenizer, template="{question} =")
    texts = [tokenizer.decode(ids) for ids in (pair.positive, pair.negative)]
    assert [text.removeprefix(prompt.text).strip(" ().") for text in texts] == [
        answer.strip(" ().") for answer in (matching, not_matching)
    ]
    assert pair.positive[: pair.positive_index] == pair.negative[: pair.negative_index]
    assert pair.positive[pair.positive_index] != pair.negative[pair.negative_index]


@pytest.mark.parametrize("name", ["data", "rows", "examples"])
def test_a_list_inside_an_object_is_the_rows(tmp_path, tokenizer, name):
    path = write(tmp_path, json.dumps({"version": 1, "tags": ["x"], name: [ROW, OTHER]}), "x.json")
    assert [p.matching for p in load_prompts(path, tokenizer)] == ["A", "B"]
    broken = write(tmp_path, json.dumps({name: [ROW, {**OTHER, ANSWERS[0]: "()"}]}), "y.json")
    with pytest.raises(InputError, match=r"y\.json, row 2: an answer is "):
        load_prompts(broken, tokenizer)


def test_an_object_with_two_lists_or_a_chat_is_one_row(tmp_path, tokenizer):
    chat = {"messages": CHAT[2:], **{name: ROW[name] for name in ANSWERS}}
    assert len(load_prompts(write(tmp_path, json.dumps(chat), "x.json"), tokenizer)) == 1
    with pytest.raises(InputError, match=r"its fields: one, two; where another field is meant, name it"):
        load_prompts(write(tmp_path, json.dumps({"one": [ROW], "two": [ROW]}), "x.json"), tokenizer)


@pytest.mark.parametrize(
    ("name", "sign"), [("x.tsv", "\t"), ("x.csv", ";"), ("x.csv", "\t"), ("x.csv", ","), ("x.TSV", "\t")]
)
def test_tables_of_text_are_parted_by_what_their_header_says(tmp_path, tokenizer, name, sign):
    """Whatever stands more often in the cells."""
    lines = [sign.join(("id", "question", *ANSWERS)), sign.join(("1", '"a, b; c, d; e\tf"', '" (A)"', '" (B)"'))]
    (prompt,) = load_prompts(write(tmp_path, "\n".join(lines), name), tokenizer)
    assert prompt.text == "a, b; c, d; e\tf\n\nAnswer:"
    assert (prompt.id, prompt.letters) == ("1", ("A", "B"))
    short = write(tmp_path, "\n".join([*lines, sign.join(("2", "q", "A"))]), name)
    with pytest.raises(InputError, match="line 3: 3 cells where the header has 4; quote a cell that has "):
        load_prompts(short, tokenizer)


def test_a_header_with_both_signs_is_parted_by_the_one_that_finds_columns(tmp_path, tokenizer):
    text = '"question";"a,b";matching;not_matching\nq?;1,2;A;B\n'
    assert load_prompts(write(tmp_path, text, "x.csv"), tokenizer)[0].text == "q?\n\nAnswer:"
    text = "question,a;b,matching,not_matching\nq?,1;2,A;B,B\n"
    assert load_prompts(write(tmp_path, text, "x.csv"), tokenizer)[0].matching == "A;B"
    fields = {"question": "q", "matching": "good", "not_matching": "bad"}
    text = "q;good;bad\nq?;A;B\n"
    assert load_prompts(write(tmp_path, text, "x.csv"), tokenizer, fields=fields)[0].matching == "A"


def test_choices_of_a_table_are_a_list_or_columns(tmp_path, tokenizer):
    fields = {"question": "q", "choices": ["one", "two", "three"], "answer": "gold", "id": "uid", "cluster": "topic"}
    text = "uid,q,one,two,three,gold,topic\nx,Which?,red,green,blue,2,hue\ny,Which?,hot,cold,,1,heat\n"
    first, second = load_prompts(write(tmp_path, text, "x.csv"), tokenizer, fields=fields)
    assert first.text == "Which?\n\nChoices:\n (A) red\n (B) green\n (C) blue\n\nAnswer:"
    assert (first.matching, first.letters, first.id, first.cluster) == ("C", ("A", "B", "C"), "x", "hue")
    assert (second.matching, second.letters) == ("B", ("A", "B"))
    text = 'question;choices;answer\nWhich?;"[""red"", ""green""]";B\n'
    assert load_prompts(write(tmp_path, text, "x.csv"), tokenizer)[0].matching == "B"


def test_columns_are_named_for_pairs_too(tmp_path, tokenizer):
    rows = [{"q": "Hm?", "good": "Yes", "bad": "No", "worse": "Never", "question": "not this one"}]
    fields = {"question": "q", "matching": "good", "not_matching": ["bad", "worse"]}
    (prompt,) = load_prompts(write(tmp_path, rows), tokenizer, fields=fields, template="{question} {worse}")
    assert (prompt.text, prompt.letters, prompt.not_matching) == ("Hm? Never", ("Never", "No", "Yes"), "No")
    (pair,) = load_pairs(write(tmp_path, rows), tokenizer, fields=fields, template="{question}")
    assert tokenizer.decode(pair.positive) == "Hm? Yes"
    assert tokenizer.decode(pair.negative) == "Hm? No"
    (texts,) = load_pairs(
        write(tmp_path, [{"a": "x y", "b": "x"}]), tokenizer, fields={"positive": "a", "negative": "b"}
    )
    assert (tokenizer.decode(texts.positive), tokenizer.decode(texts.negative)) == ("x y", "x")


def test_open_questions_have_the_answers_that_are_named(tmp_path, tokenizer):
    rows = [{"question": "Would you mind being switched off?"}, ROW]
    first, second = load_prompts(write(tmp_path, rows, "x.json"), tokenizer, answers=("Yes", "No", "Perhaps"))
    assert (first.matching, first.not_matching, first.letters) == ("Yes", "No", ("No", "Perhaps", "Yes"))
    assert (second.matching, second.not_matching) == ("A", "B")  # its own
    for answers in (("Yes",), ("Yes", "Yes")):
        with pytest.raises(InputError, match=r"answers is \['Yes'.*must be two or more that differ"):
            load_prompts(write(tmp_path, rows), tokenizer, answers=answers)


def test_sides_that_ask_different_things_are_pairs_only(tmp_path, tokenizer):
    sides = {
        "positive": {"prompt": "Act with care. Jump?", "response": " (B)"},
        "negative": {"prompt": "Be bold. Jump?", "response": " (A)"},
    }
    path = write(tmp_path, [sides, {**sides, "negative": {**sides["negative"], "response": " (B)"}}])
    different, same = load_pairs(path, tokenizer, template="{question}")
    assert tokenizer.decode(different.positive) == "Act with care. Jump? (B)"
    assert tokenizer.decode(different.negative) == "Be bold. Jump? (A)"
    assert "B" in tokenizer.decode([different.positive[different.positive_index]])
    assert "A" in tokenizer.decode([different.negative[different.negative_index]])
    assert tokenizer.decode(same.negative) == "Be bold. Jump? (B)"
    assert (same.positive_index, same.negative_index) == (len(same.positive) - 1, len(same.negative) - 1)
    with pytest.raises(InputError, match="line 1: 'positive' and 'negative' do not ask the same"):
        load_prompts(path, tokenizer)


def test_plain_texts_are_no_prompts(tmp_path, tokenizer):
    with pytest.raises(InputError, match="two plain texts: that is a contrast pair, and no prompt; where they answer"):
        load_prompts(write(tmp_path, [{"positive": "I am careful.", "negative": "I am bold."}]), tokenizer)


KEY = r"; where another field is meant, name it: \[prompts\] fields = "


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        ([{"text": "q", "good": "A"}], {}, r"no field 'answer_matching_behavior' \(an answer\); its fields: text, g"),
        ([{"question": "q"}], {}, KEY + r'\{matching = "COLUMN"\}; where it is an open question, name its answers'),
        ([{"question": "q"}], {}, r"such as a refusal, will need a \[label\] rule of its own$"),
        ([{"q": "q", "matching": "A", "not_matching": "B"}], {}, KEY + r'\{question = "COLUMN"\}$'),
        ([{"question": "q", "matching": "A"}], {}, KEY + r'\{not_matching = "COLUMN"\}$'),
        ([ROW], {"question": "q"}, r"no field 'q', which \[prompts\] fields names for question; its fields: questio"),
        ([ROW], {"quesiton": "q"}, r"fields has 'quesiton'; the nearest is 'question'\. Known: question, messages, "),
        ([ROW], {"question": ["q"]}, r"question is \['q'\]; it must be one column \(only not_matching and choices"),
        ([{**ROW, ANSWERS[0]: [" (A)", " (B)"]}], {}, "line 1: 2 matching answers; one is needed, and others to "),
        ([{**ROW, ANSWERS[1]: [" (B)", " (A)"]}], {}, "both answers are 'A'; a prompt needs two that differ"),
        ([{**MMLU, "answer": 4}], {}, "the answer is number 4 of 4 choices; they are counted from 0 to 3"),
        ([{**MMLU, "answer": -1}], {}, "the answer is number -1 of 4 choices"),
        ([{**MMLU, "answer": "ten"}], {}, r"the answer 'ten' is none of its choices: \(A\) four, \(B\) five, "),
        ([{**MMLU, "answer": True}], {}, "the answer True is none of its choices"),
        ([{**MMLU, "choices": ["1", "2", "3"], "answer": "1"}], {}, "is the text of one choice, .*another: A, B; wr"),
        ([{**MMLU, "not_matching": "ten"}], {}, "the answer 'ten' is none of its choices"),
        ([{**MMLU, "choices": ["x"] * 27}], {}, "27 choices; there are letters for 26"),
        ([MMLU], {"choices": "subject"}, "field 'subject' has no choices; it must be a list of at least two texts"),
        ([{"messages": CHAT[:2], "matching": "A"}], {}, "the last turn is the assistant's; a prompt ends"),
        ([{"messages": []}], {}, "field 'messages' has no turns"),
        ([{"messages": [{"role": "user"}]}], {}, "field 'messages' must be turns with 'role' and 'content', both text"),
        ([{"messages": CHAT, "matching": "A", "not_matching": "B"}], {}, 'a chat of 3 turns, which needs .* = "chat"'),
        ([{"positive": {"prompt": "q"}, "negative": {"prompt": "q"}}], {}, "or have 'prompt' and 'response', both"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_names_the_fields_and_the_key(tmp_path, tokenizer, rows, fields, message):
    with pytest.raises(InputError, match=message):
        load_prompts(write(tmp_path, rows), tokenizer, fields=fields)


def test_pairs_name_their_own_section(tmp_path, tokenizer):
    with pytest.raises(InputError, match=r'name it: \[vector\] fields = \{matching = "COLUMN"\}$'):
        load_pairs(write(tmp_path, [{"question": "q"}]), tokenizer)


def test_columns_of_a_parquet_file_that_are_no_text_are_named(tmp_path, tokenizer):
    table = pa.Table.from_pylist([ROW]).append_column("choices", pa.array([[[1]]], pa.list_(pa.list_(pa.int8()))))
    table = table.append_column("messages", pa.array([[{"picture": b"x"}]]))
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    assert load_prompts(tmp_path / "x.parquet", tokenizer)[0].letters == ("A", "B")
    with pytest.raises(InputError, match=r"choices \(list<.*which is not read\), messages \(list<.*which is not"):
        load_prompts(tmp_path / "x.parquet", tokenizer, fields={"choices": "choices"})


def test_of_a_dataset_only_the_columns_that_are_needed_are_opened(tokenizer):
    rows = datasets.Dataset.from_list([{**ROW, "picture": "/no/such/picture.png"}])
    rows = rows.cast_column("picture", datasets.Image())
    assert load_prompts(rows, tokenizer)[0].matching == "A"
    with pytest.raises(InputError, match=r"^row 1: no field 'topic' .*; its fields: .*, picture$"):
        load_prompts(rows, tokenizer, template="{topic}")
    with pytest.raises(InputError, match=r"^row 2: expected a dictionary with named fields, got int$"):
        load_prompts(iter([ROW, 3]), tokenizer)
    with pytest.raises(InputError, match=r"^no rows are given"):
        load_prompts([], tokenizer)


def test_a_dataset_of_the_hub_is_asked_for_by_name_subset_and_split(tokenizer, monkeypatch):
    asked = []

    def give(*names, **options):
        asked.append((*names, options))
        return datasets.Dataset.from_list([MMLU, {**MMLU, "answer": 3}])

    monkeypatch.setattr(datasets, "load_dataset", give)
    where = {"subset": "all", "split": "test", "revision": "v2"}
    first, second = load_prompts("someone/mmlu", tokenizer, fields={"cluster": "subject"}, **where)
    assert asked == [("someone/mmlu", "all", {"split": "test", "revision": "v2"})]
    assert (first.matching, second.matching, first.letters, first.cluster) == ("B", "D", tuple("ABCD"), "sums")
    assert len(load_pairs("someone/mmlu", tokenizer, **where)) == 2
    with pytest.raises(InputError, match=r"^someone/mmlu\[train\], row 1: no field 'topic' .* choices, answer$"):
        load_prompts("someone/mmlu", tokenizer, template="{topic}")


def make_set(letters, choices=2):
    listed = "".join(f"\n ({x}) {x}{x}" for x in "ABCDEFGH"[:choices])
    return [
        {"question": f"q{i}?{listed}", "matching": f" ({x})", "not_matching": " (B)" if x == "A" else " (A)"}
        for i, x in enumerate(letters)
    ]


@pytest.mark.parametrize("load", [load_prompts, load_pairs])
def test_unbalanced_answers_are_told(tmp_path, tokenizer, load):
    """A set of 62 % A, as one of the field's is; and with more choices, more often than one in so many."""
    with pytest.warns(Notice, match=r"the matching answer is 'A' in 124 of 200 rows \(62%, and 50% where answers are"):
        load(write(tmp_path, make_set("A" * 124 + "B" * 76)), tokenizer)
    with pytest.warns(Notice, match=r"'B' in 45 of 100 rows \(45%, and 25% where"):
        load(write(tmp_path, make_set("B" * 45 + "A" * 20 + "C" * 20 + "D" * 15, 4)), tokenizer)
    load(write(tmp_path, make_set("A" * 110 + "B" * 90)), tokenizer)  # as chance has it; a warning is an error here
    load(write(tmp_path, make_set("A" * 19)), tokenizer)  # too few to tell
    load(write(tmp_path, make_set("ABCD" * 20, 4)), tokenizer)


def test_keys_beyond_b_keep_their_letters_and_their_count(tmp_path, tokenizer):
    """Elsewhere a key that is neither A nor B counts as an answer of probability 0."""
    prompts = load_prompts(write(tmp_path, make_set("ABCDEFGH", 8)), tokenizer)
    assert [prompt.matching for prompt in prompts] == list("ABCDEFGH")
    assert {prompt.letters for prompt in prompts} == {tuple("ABCDEFGH")}


def test_what_the_template_writes_once_more_is_told(tmp_path, tokenizer):
    rows = [{**ROW, "question": f"Question: {i}\n (A) x\n (B) y\n\nAnswer:"} for i in range(3)]
    with pytest.warns(
        Notice, match="3 of 3 questions end in 'Answer:', which the template writes after them once more"
    ):
        load_prompts(write(tmp_path, rows), tokenizer)
    load_prompts(write(tmp_path, rows), tokenizer, template="{question}")
    load_prompts(write(tmp_path, [ROW]), tokenizer)

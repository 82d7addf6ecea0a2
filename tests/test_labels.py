import dataclasses
import itertools
import re
import types

import numpy as np
import pyarrow.parquet
import pytest
from conftest import make_completions, make_prompts, make_vector

from completions_lp import store
from completions_lp.records import Condition, InputError, Labelling, Sampling
from completions_lp.report import count_answers
from completions_lp.sample.draws import sample_completions
from completions_lp.sample.labels import Labeller
from completions_lp.score.parts import score_completions
from completions_lp.score.topup import top_up
from completions_lp.steer.conditions import make_conditions


class Pieces:
    """A tokenizer whose token i is a given text, so that a test says where tokens end; the empty text is special."""

    def __init__(self, *texts):
        self.texts = texts

    def __call__(self, text, *, add_special_tokens=True):
        return types.SimpleNamespace(input_ids=[self.texts.index(text)])

    def __len__(self):
        return len(self.texts)

    def decode(self, token_ids, *, skip_special_tokens=False):
        joined = b"".join(self.encode(i, skip_special_tokens) for i in token_ids)
        return joined.decode("utf-8", errors="replace")

    def encode(self, i, skip):
        text = self.texts[i]
        if isinstance(text, str) and text.startswith("<|"):
            return b"" if skip else text.encode()
        return text if isinstance(text, bytes) else text.encode()


def label(pieces, *, letters=("A", "B"), **options):
    """Label of a completion whose tokens are these texts."""
    return Labeller(Pieces(*pieces), Labelling(**options)).label(range(len(pieces)), letters=letters)


@pytest.mark.parametrize(
    ("pieces", "want"),
    [
        (["A"], ("A", 0)),
        ([" A"], ("A", 0)),
        ([" (", "A", ")"], ("A", 1)),
        ([" (A", ")"], ("A", 0)),
        (["(A)."], ("A", 0)),
        (["A)"], ("A", 0)),
        (["The", " answer", " is", " (", "B", ")."], ("B", 4)),
        (["\n", "B", "\n"], ("B", 1)),
        (["*", "A", "*"], ("A", 1)),
        (["A", ",", " not", " B"], ("A", 0)),
        (["not", " B", ",", " A"], ("B", 1)),
    ],
)
def test_an_answer_that_stands_alone_is_found_where_its_letter_is(pieces, want):
    assert label(pieces) == want


@pytest.mark.parametrize(
    "pieces",
    [
        ["As an", " AI"],
        ["BA"],
        ["Answer"],
        ["Both", " Apples"],
        ["a", " b"],
        ["A_1"],
        ["A1"],
        ["1A"],
        ["ÉA"],
        ["Aé"],
        ["АВ"],  # Cyrillic
        [""],
        ["1", "2"],
    ],
)
def test_a_letter_in_a_word_is_no_answer(pieces):
    assert label(pieces) == ("", -1)


def test_a_letter_at_a_tokens_end_waits_for_the_next_token():
    assert label(["A", "s", " an", " AI"]) == ("", -1)
    assert label(["A", "s", " (", "B", ")"]) == ("B", 3)
    assert label(["A", " dog"]) == ("A", 0)
    assert label(["The", " A", "I", " says", " A", "."]) == ("A", 4)


def test_a_letter_is_not_alone_before_a_character_spread_over_tokens():
    first, second = (bytes([b]) for b in "é".encode())
    assert label(["A", first, second, " x"]) == ("", -1)
    arrow = [bytes([b]) for b in "→".encode()]
    assert label(["A", *arrow, " x"]) == ("A", 0)  # found at the letter, though the arrow comes three tokens later
    assert label(["A", first]) == ("A", 0)  # the rest never comes


def test_a_letter_before_any_other_character_is_alone():
    for after in (" ", "\n", ".", ":", "→", "，", "'", "-"):
        assert label(["A", after]) == ("A", 0), after


def test_only_the_window_decides():
    pieces = ["so", " I", " say", " A", "."]
    assert label(pieces, within=4) == ("A", 3)
    assert label(pieces, within=3) == ("", -1)
    # The label depends on no token past the window, not even on one that would refute the letter.
    assert label(["I", " A", "s"], within=2) == ("A", 1)
    assert label(["I", " A", "s"], within=3) == ("", -1)


def test_the_first_answer_decides():
    assert label([" B", " or", " A"]) == ("B", 0)
    assert label([" A", " or", " B"]) == ("A", 0)
    assert label(["(B) or (A)"]) == ("B", 0)
    assert label(["(B) or (A)"], letters=("B", "A")) == ("B", 0)
    assert label([" C", " A"], letters=("A", "B", "C")) == ("C", 0)
    assert label([" C", " A"], letters=("A", "B")) == ("A", 1)


def test_special_tokens_spell_no_letters():
    assert label(["<|A|>", " x"]) == ("", -1)
    assert label(["A", "<|end|>"]) == ("A", 0)
    assert label(["x", "<|end|>", " A"]) == ("A", 2)


def test_words_are_answers_too():
    letters = ("No", "Yes")
    assert label([" Yes"], letters=letters) == ("Yes", 0)
    assert label([" Y", "es", "."], letters=letters) == ("Yes", 1)
    assert label([" No", "ne"], letters=letters) == ("", -1)
    assert label([" No", "ne", ",", " Yes"], letters=letters) == ("Yes", 3)
    assert label(["Yes", "terday"], letters=letters) == ("", -1)


def test_none_is_an_answer_like_any_other():
    letters = ("none", "some")
    assert label([" none"], letters=letters) == ("none", 0)
    assert label([" (", "some", ")"], letters=letters) == ("some", 1)
    for rule in ("letter", "token", "substring"):
        assert label([" nothing", " of", " it"], letters=letters, rule=rule) == ("", -1)


def test_an_answer_spelled_none_is_not_taken_for_no_answer(tmp_path):
    """In memory, in the tables and in what is counted: two draws of four said none, one said nothing of the kind."""
    (prompt,) = make_prompts((3,))
    prompt = dataclasses.replace(prompt, letters=("none", "some"), matching="none", not_matching="some")
    rows = [(0, [5]), (0, [6]), (0, [7])]
    said = make_completions([prompt], rows, labels=["none", "some", ""], answers=[0, 0, -1], counts=[2, 1, 1])
    store.write_completions(tmp_path, said)
    table = pyarrow.parquet.read_table(tmp_path / "completions.parquet")
    assert table["label"].to_pylist() == ["none", "some", None]
    read = store.read_completions(tmp_path, sampling=said.sampling, labelling=said.labelling)
    assert read.label.tolist() == said.label.tolist() == ["none", "some", ""]
    for target in ("none", "matching"):
        assert count_answers(read, target=target)["share_A"].tolist() == [0.5]
    assert count_answers(read, target="some")["share_A"].tolist() == [0.25]
    store.write_steered(tmp_path, {Condition("v", "target", 0, 1.0): said})
    assert pyarrow.parquet.read_table(tmp_path / "steered.parquet")["label"].to_pylist() == ["none", "some", None]


def test_a_run_of_completions_without_any_answer_is_read_as_it_was(tmp_path):
    said = make_completions(make_prompts((3,)), [(0, [5]), (0, [6])])
    store.write_completions(tmp_path, said)
    read = store.read_completions(tmp_path, sampling=said.sampling, labelling=said.labelling)
    assert read.label.tolist() == ["", ""]
    assert count_answers(read, target="A")["share_A"].tolist() == [0.0]


def test_an_empty_answer_is_refused():
    (prompt,) = make_prompts((3,))
    with pytest.raises(InputError, match="prompt 'p0': an answer is empty; an empty label stands for no answer"):
        dataclasses.replace(prompt, letters=("", "some"), matching="", not_matching="some")


class Counting:
    """A tokenizer that counts how often it decodes."""

    def __init__(self, tokenizer):
        self.tokenizer, self.decoded = tokenizer, 0

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def __len__(self):
        return len(self.tokenizer)

    def __call__(self, text, **options):
        return self.tokenizer(text, **options)

    def decode(self, token_ids, **options):
        self.decoded += 1
        return self.tokenizer.decode(token_ids, **options)


def test_the_vocabulary_is_decoded_once_for_a_tokenizer(tokenizer):
    counting = Counting(tokenizer)
    first = Labeller(counting, Labelling()).completing_tokens((), letter="A")
    assert counting.decoded > len(tokenizer)
    counting.decoded = 0
    for labelling in (Labelling(), Labelling(within=3), Labelling(rule="substring")):
        for letter in ("A", "B"):
            found = Labeller(counting, labelling).completing_tokens((), letter=letter)
            assert letter != "A" or labelling.rule != "letter" or found.tolist() == first.tolist()
    assert counting.decoded == 0
    other = Counting(tokenizer)
    Labeller(other, Labelling()).completing_tokens((), letter="A")
    assert other.decoded > len(tokenizer)


def test_a_top_up_of_several_conditions_decodes_the_vocabulary_once(build_model):
    """Each red condition is scored by a call of its own: 5 of them cost one vocabulary and a few texts each."""
    model = build_model("llama")
    counting = Counting(model.tokenizer)
    model = dataclasses.replace(model, tokenizer=counting)
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[0, 1, 2], multipliers=(1.0, 2.0))
    said = sample_completions(model, make_prompts(), sampling=Sampling(n=8, max_new_tokens=3, top_up=2), progress=False)
    measures = score_completions(model, said, [vector], conditions, progress=False).measures
    red = dataclasses.replace(measures, trust=np.full(measures.trust.shape, "red"))
    size = len(counting)
    assert size < counting.decoded
    counting.decoded = 0
    _, drawn = top_up(model, said, [vector], red, target="A", progress=False)
    assert len(drawn) == 6
    assert counting.decoded < 6 * size  # every text of the steered draws, and not one vocabulary a condition
    kept = counting.decoded
    completing = Labeller(counting, Labelling()).completing_tokens((), letter="A")
    assert completing is not None
    assert counting.decoded == kept


def test_the_token_rule_takes_one_whole_token():
    assert label([" A", "s"], rule="token") == ("A", 0)
    assert label([" (", "A", ")"], rule="token") == ("A", 1)
    assert label([" (A", ")"], rule="token") == ("", -1)
    assert label(["x", " B "], rule="token") == ("B", 1)


def test_the_substring_rule_looks_inside_words():
    assert label(["As", " an"], rule="substring") == ("A", 0)
    assert label(["OR", "BA"], rule="substring") == ("B", 1)
    assert label([" Y", "es"], rule="substring", letters=("Yes", "No")) == ("Yes", 1)


def test_the_regex_rule_is_searched_in_the_text_so_far():
    options = {"rule": "regex", "pattern": r"answer is \(?{letter}\b"}
    assert label(["A", " B"], **options) == ("", -1)
    assert label(["My", " answer", " is", " (", "B", ")"], **options) == ("B", 4)
    literal = {"rule": "regex", "pattern": "<{letter}>", "letters": ("A+", "B")}
    assert label(["<", "A+", ">"], **literal) == ("A+", 2)
    assert label(["<", "AA", ">"], **literal) == ("", -1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rule": "regex", "pattern": "({letter}"},
            r"label pattern '\({letter}' is not a regular expression: missing \)",
        ),
        ({"rule": "regex", "pattern": "answer"}, r"does not say where the answer stands: write \{letter\} there"),
        ({"rule": "regex"}, 'label rule = "regex" needs a pattern, .*, or patterns, one for each outcome, .*not both'),
        ({"rule": "regex", "pattern": "{letter}", "patterns": {"x": "y"}}, "and not both"),
        ({"patterns": {"x": "y"}}, 'label patterns go with rule = "regex", and only with it'),
        ({"rule": "regex", "patterns": {"x": "("}}, r"the label pattern of 'x', '\(' is not a regular expression"),
        (
            {"rule": "regex", "patterns": {"comply": "^(?!.*sorry)"}},
            r"the label pattern of 'comply', '\^\(\?!\.\*sorry\)', is found in an empty text, and so in any",
        ),
        ({"rule": "regex", "patterns": {"matching": "x"}}, '"matching" is what a target is called'),
        ({"rule": "regex", "patterns": {" ": "x"}}, "label patterns: an outcome has no name"),
        ({"rule": "python"}, 'label function goes with rule = "python", and only with it'),
        ({"function": "m:f"}, 'label function goes with rule = "python", and only with it'),
        ({"rule": "python", "function": "m.f"}, "label function 'm.f' is no \"module:function\""),
        ({"rule": "python", "function": "../m:f"}, "label function '../m:f' is no \"module:function\""),
        ({"rule": "python", "function": "m:f", "outcomes": ("x", "x")}, "two outcomes are called alike: x, x"),
        ({"outcomes": ("x",)}, 'label outcomes go with rule = "python", and only with it'),
        ({"phrases": ("so",)}, 'label phrases go with rule = "final_answer", and only with it'),
        ({"rule": "final_answer", "phrases": ()}, "has neither phrases nor a pattern to find an answer by"),
        ({"rule": "final_answer", "phrases": ("so", " ")}, "label phrases: one is empty"),
        (
            {"rule": "final_answer", "pattern": "answer"},
            r"does not say where the answer stands: write \{letter\} there",
        ),
        ({"thinking": ("<think>",)}, r"label thinking is \['<think>'\]; it is two tags"),
        ({"thinking": ("<t>", "<t>")}, r"it is two tags, what opens and what closes, or \[\] for none"),
        ({"pattern": "{letter}"}, 'pattern goes with rule = "regex", and only with it'),
        ({"within": 0}, "label within is 0; at least 1 token is needed"),
        ({"within": 2_000_000}, "label within is 2000000; it must be at most 1000000, or all"),
    ],
)
def test_impossible_rules_say_what_is_wrong(options, message):
    with pytest.raises(InputError, match=message):
        Labelling(**options)


def test_each_outcome_has_a_pattern_of_its_own():
    options = {"rule": "regex", "patterns": {"refusal": r"(?i)\bI can.?t", "comply": "(?i)sure"}, "within": "all"}
    options["letters"] = ("refusal", "comply")
    assert label(["I", " can", "'t", " help"], **options) == ("refusal", 2)
    assert label(["Sure", "!", " I", " can't"], **options) == ("comply", 0)
    assert label(["Sur", "ely", " not"], **options) == ("comply", 1)
    assert label(["No", "."], **options) == ("", -1)
    with pytest.raises(InputError, match="label patterns have none for 'A': refusal, comply"):
        label(["x"], **{**options, "letters": ("A",)})


def test_all_of_a_completion_is_the_window_where_it_is_asked_for():
    pieces = [*["so"] * 300, " A", "."]
    assert label(pieces, within=300) == ("", -1)
    assert label(pieces, within="all") == ("A", 300)
    for rule in ("token", "substring"):
        assert label(pieces, rule=rule, within="all") == ("A", 300)


@pytest.mark.parametrize("within", [2, 5, "all"])
def test_the_window_of_completions_is_within_or_all_they_may_have(within):
    said = make_completions(make_prompts((3,)), [(0, [5, 6, 7])], within=within)
    assert said.window == (3 if within == "all" else within)  # of 3 tokens at most
    for rule, more in (("final_answer", {}), ("python", {"function": "m:f"})):
        other = dataclasses.replace(said, labelling=Labelling(rule, within, **more))
        assert other.window == (2 if within == 2 else 3)
        assert other.count_scored("window").tolist() == [other.window]
        assert other.count_scored("answer").tolist() == [other.window]  # a later answer may undo an earlier one


def test_no_more_prefixes_are_kept_than_need_be(monkeypatch):
    monkeypatch.setattr("completions_lp.sample.labels.MOST_TEXTS", 50)
    pieces = [*map(str, range(40)), " A"]
    labeller = Labeller(Pieces(*pieces), Labelling(within="all"))
    for start in range(10):
        assert labeller.label(range(start, 41), letters=("A",)) == ("A", 40 - start)
        assert len(labeller._texts) <= 52


def test_a_pattern_that_one_letter_breaks_is_named():
    with pytest.raises(
        InputError, match=r"label pattern '\[\{letter\}-C\]' is not a regular expression: bad character"
    ):
        label(["x"], rule="regex", pattern="[{letter}-C]", letters=("A", "D"))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (" (A).", "A"),
        (" B", "B"),
        ("The answer is (A).", "A"),
        ("As an AI, I", ""),
        ("As an AI, I choose (B).", ""),  # past the window of 5 tokens
    ],
)
def test_labels_of_a_real_tokenizer(tokenizer, text, want):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    within = 5 if "choose" in text else 10
    got, answer = Labeller(tokenizer, Labelling(within=within)).label([*ids, 0], letters=("A", "B"))
    assert got == want
    if got != "":
        before, through = (tokenizer.decode(ids[:n]) for n in (answer, answer + 1))
        assert got not in before.replace("As an AI", "")
        assert got in through


def test_the_letter_is_found_at_its_own_byte_where_every_token_is_one(tokenizer):
    text = "I say (A). As an AI"
    byte_ids = [tokenizer(character, add_special_tokens=False).input_ids[0] for character in text]
    labeller = Labeller(tokenizer, Labelling())
    assert labeller.label(byte_ids, letters=("A", "B")) == ("A", text.index("A"))


@pytest.mark.parametrize("letters", [("A",), ("B", "x"), ("yes",), ("no", "_9"), ("(A)",), ("一",)])
@pytest.mark.parametrize("rule", ["letter", "substring"])
def test_the_tokens_that_complete_an_answer_are_those_after_which_it_stands_there(letters, rule):
    """By trying every token after every text of up to two tokens, the whole of it searched anew."""
    pieces = [
        "",
        " ",
        "A",
        " A",
        "A)",
        "As",
        "(",
        "(A",
        ")",
        "B",
        "x",
        "xA",
        "é",
        "_",
        "9",
        "_9",
        "\n",
        "y",
        "es",
        "yes",
    ]
    pieces += [" yes", "no", "n", "o", "o.", "一", "一丁", "-", "A B", "yes no", "A-A"]
    tokenizer = Pieces(*pieces)
    for letter in letters:
        labeller = Labeller(tokenizer, Labelling(rule=rule))
        answer = re.escape(letter)
        pattern = re.compile(rf"(?<!\w){answer}(?!\w)" if rule == "letter" else answer)
        seen = set()
        for said in itertools.chain([()], itertools.product(range(len(pieces)), repeat=2)):
            text = "".join(pieces[i] for i in said)
            if pattern.search(text):
                continue
            want = [
                token
                for token, piece in enumerate(pieces)
                if any(match.end() > len(text) for match in pattern.finditer(text + piece))
            ]
            assert labeller.completing_tokens(said, letter=letter).tolist() == want
            seen.add(tuple(want))
        assert len(seen) > (rule == "letter")
        assert len(labeller._completing) < 200  # of 871 texts

"""The committed answer of a chain of thought, and which tokens reason, answer and come after."""

import dataclasses

import numpy as np
import pytest
from conftest import make_completions, make_prompts
from test_labels import Pieces

from completions_lp.records import Draw, InputError, Labelling, Sampling
from completions_lp.sample.completions import collect_completions
from completions_lp.sample.labels import Labeller
from completions_lp.sample.reasoning import Splitter, Thinking

TAGS = ("<think>", "</think>")


class Tagged(Pieces):
    """A tokenizer whose tokens are given texts, and which spells any text by its longest ones, or by none."""

    def __call__(self, text, *, add_special_tokens=True):
        ids = []
        while text:
            fits = [i for i, piece in enumerate(self.texts) if piece and text.startswith(piece)]
            if not fits:
                return type("Encoded", (), {"input_ids": [0, 0]})  # of an alphabet that it has not
            best = max(fits, key=lambda i: len(self.texts[i]))
            ids.append(best)
            text = text[len(self.texts[best]) :]
        return type("Encoded", (), {"input_ids": ids})


def label(text, *, letters=("A", "B"), **options):
    """Label of a text of which every character is a token, and the text through its token."""
    signs = sorted({*text, *"".join(TAGS)})
    labelling = Labelling("final_answer", **{"within": "all", **options})
    found, at = Labeller(Tagged(*signs), labelling).label([signs.index(s) for s in text], letters=letters)
    return found, text[: at + 1]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("The answer is B.", "B"),
        ("The answer is (B).", "B"),
        ("the correct answer is: **B**", "B"),
        ("**Answer:** B", "B"),
        ("**Answer**: (B)", "B"),
        ("ANSWER: B", "B"),
        ("Final answer\n\nB", "B"),
        ("# Final Answer: option B", "B"),
        ("Therefore, the answer is therefore most likely B", "B"),
        ("The final answer is $\\boxed{\\text{B}}$.", "B"),
        ("I would choose (B) here", "B"),
        ("I'll go with B", "B"),
        ("So the best option is B, not A.", "B"),
        ("Answer: B\nA is wrong.", "B"),
        ("My answer is A. Wait, no. The answer is B!", "B"),
        ("The answer is B. Or is the answer A? No, I keep it.", "B"),
        ("A is bold and B is timid, so the answer is B", "B"),
    ],
)
def test_the_last_answer_behind_a_phrase_is_the_committed_one(text, want):
    found, through = label(text)
    assert found == want
    assert through.endswith(want)
    assert len(through) == text.rindex(f"{want}", 0, len(text)) + 1 or want in text[len(through) :]


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "(B) it is",
        "The answer is not A",
        "The answer is neither A nor B",
        "The answer is complicated. A first thought",
        "The answer is.\n\nA friend asked",
        "The answer is As you like it",
        "The answer is B2",
        "My answer: apples",
        "I choose to ask B",
        "unanswer: is A",
        "The answers: A",
        "",
    ],
)
def test_what_is_not_committed_is_no_answer(text):
    assert label(text)[0] == ""


def test_the_position_is_that_of_the_token_that_completes_it():
    pieces = ["The", " answer", " is", " (", "Y", "es", ")", ".", " The", " answer", " is", " N", "o", " way"]
    labeller = Labeller(Tagged(*pieces), Labelling("final_answer", "all"))
    assert labeller.label(range(len(pieces)), letters=("Yes", "No")) == ("No", 12)
    assert labeller.label(range(8), letters=("Yes", "No")) == ("Yes", 5)
    assert labeller.label(range(12), letters=("Yes", "No")) == ("Yes", 5)  # " N" is no answer yet


def test_words_are_answers_in_whatever_case_and_letters_are_not():
    assert label("the answer is yes.", letters=("Yes", "No"))[0] == "Yes"
    assert label("the answer is YES", letters=("Yes", "No"))[0] == "Yes"
    assert label("the answer is a bit odd", letters=("A", "B"))[0] == ""
    assert label("the answer is nothing", letters=("Yes", "No"))[0] == ""
    assert label("the answer is yes sir", letters=("yes", "yes sir"))[0] == "yes sir"  # the longer of two at one place


def test_only_the_window_decides():
    text = "The answer is A. No: the answer is B."
    assert label(text) == ("B", text[:-1])
    assert label(text, within=20) == ("A", text[:15])
    assert label(text, within=14) == ("", "")
    assert label("The answer is As", within=15)[0] == "A"  # past it nothing refutes the letter


def test_phrases_and_a_pattern_of_ones_own():
    assert label("So I say B", phrases=("so i say",))[0] == "B"
    assert label("the answer is B", phrases=("so i say",))[0] == ""
    boxed = r"\\boxed\{{letter}\}"
    assert label("it is \\boxed{B}", pattern=boxed) == ("B", "it is \\boxed{B")
    assert label("it is \\boxed{B}, so the answer is A", pattern=boxed)[0] == "A"
    assert label("the answer is A, it is \\boxed{B}", pattern=boxed)[0] == "B"
    assert label("the answer is A, it is \\boxed{B}", pattern=boxed, phrases=())[0] == "B"
    assert label("the answer is A", pattern=boxed, phrases=())[0] == ""
    assert label("B or B", pattern="{letter} or {letter}", phrases=())[0] == "B"
    with pytest.raises(InputError, match=r"label pattern '\[\{letter\}-C\]' has \{letter\} inside of \[...\]"):
        label("x", pattern="[{letter}-C]", phrases=())
    with pytest.raises(InputError, match="is not a regular expression: redefinition of group name 'answer'"):
        label("x", pattern="(?P<answer>x){letter}", phrases=())


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("<think>The answer is A.</think>The answer is B.", "B"),
        ("<think>The answer is A.</think>I do not know.", ""),
        ("<think>The answer is A.", ""),
        ("The answer is B. <think>The answer is A.", "B"),
        ("so the answer is A.</think> The answer is B.", "B"),
        ("so the answer is A.</think>", ""),
        ("<think>hm</think>\n\n**B**", "B"),
        ("<think>hm</think>(B)\nbecause it is timid", "B"),
        ("<think>hm</think>A good question", ""),
        ("<think>the answer is</think> A good question", ""),
        ("<think>x</think>The answer is B.<think>The answer is A.</think>", "B"),
        ("<think>x</think>The answer is B.<think>y</think>A", "A"),
    ],
)
def test_an_answer_inside_the_thinking_part_does_not_count(text, want):
    assert label(text)[0] == want
    other = text.replace("think>", "why>")
    assert label(other, thinking=("<why>", "</why>"))[0] == want
    if "think>The answer is A" in text and want == "":
        assert label(text, thinking=())[0] == "A"


def test_tags_that_are_single_tokens_are_known_by_their_ids():
    """Special tokens are not seen in the text at all; one that only looks like a tag, spelled otherwise, is none."""
    pieces = ["<|a|>", "<think>", "</think>", " the", " answer", " is", " A", " B", "<", "/think", ">"]
    special = Tagged(*pieces)
    plain = special.encode
    special.encode = lambda i, skip: b"" if skip and i in (1, 2) else plain(i, skip)
    commit = {letter: [3, 4, 5, 6 + "AB".index(letter)] for letter in "AB"}
    labeller = Labeller(special, Labelling("final_answer", "all"))
    assert labeller.label([1, *commit["A"], 2, *commit["B"]], letters=("A", "B")) == ("B", 9)
    assert labeller.label([*commit["B"], 1, *commit["A"]], letters=("A", "B")) == ("B", 3)
    assert labeller.label([1, *commit["A"], 8, 9, 10, *commit["B"]], letters=("A", "B")) == ("", -1)
    assert Thinking(special, TAGS).find([3, 1, 3, 2, 3]) == [range(1, 4)]


def test_tags_that_are_several_tokens_are_known_by_their_text():
    pieces = ["<th", "ink>Hm", ".</", "think", ">\n", " the", " answer", " is", " A", " x"]
    thinking = Thinking(Tagged(*pieces), TAGS)
    assert thinking.find([9, 0, 1, 2, 3, 4, 9]) == [range(1, 6)]
    assert thinking.find([9, 0, 1, 9]) == [range(1, 4)]
    assert thinking.find([9, 2, 3, 4, 9]) == [range(0, 4)]
    assert thinking.find([9, 9]) == []
    assert thinking.find([9, 9], opened=True) == [range(0, 2)]


def test_a_prompt_may_leave_the_thinking_part_open():
    pieces = ["<think>", "</think>", " the", " answer", " is", " A", " x"]
    labeller = Labeller(Tagged(*pieces), Labelling("final_answer", "all"))
    (prompt,) = make_prompts((3,))
    for ids, want in (((6, 0), ""), ((6, 0, 1), "A"), ((6,), "A"), ((0, 1, 0, 6), ""), ((1,), "A")):
        asked = dataclasses.replace(prompt, token_ids=ids)
        assert labeller.label([2, 3, 4, 5], letters=("A", "B"), prompt=asked)[0] == want
    asked = dataclasses.replace(prompt, token_ids=(0,))
    assert labeller.label([2, 3, 4, 5, 1, 2, 3, 4, 5], letters=("A", "B"), prompt=asked) == ("A", 8)


def parts_of(text, *, rule="final_answer", letters=("A", "B"), prompt="", **options):
    """The texts of the three parts; every character is a token."""
    signs = sorted({*text, *prompt, *"".join(TAGS)})
    tokenizer, labelling = Tagged(*signs), Labelling(rule, "all", **options)
    ids = [signs.index(s) for s in text]
    (asked,) = make_prompts((3,))
    answers = {"letters": letters, "matching": letters[0], "not_matching": letters[1]}
    asked = dataclasses.replace(asked, token_ids=tuple(signs.index(s) for s in prompt) or (0,), **answers)
    found, at = Labeller(tokenizer, labelling).label(ids, letters=letters, prompt=asked)
    parts = Splitter(tokenizer, labelling).split(ids, label=found, answer_index=at, prompt=asked.token_ids)
    assert [*parts.reasoning, *parts.answer, *parts.after] == list(range(len(text)))
    return tuple("".join(text[i] for i in part) for part in (parts.reasoning, parts.answer, parts.after))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Hm. The answer is (Yes). Bye", ("Hm. The answer is (", "Yes", "). Bye")),
        ("Hm.", ("Hm.", "", "")),
        ("<think>Hm.</think>The answer is no. Bye", ("<think>Hm.</think>", "The answer is no", ". Bye")),
        ("<think>Hm.</think>I pass.", ("<think>Hm.</think>", "I pass.", "")),
        ("<think>Hm. The answer is Yes", ("<think>Hm. The answer is Yes", "", "")),
        ("Hm.</think>Answer: Yes", ("Hm.</think>", "Answer: Yes", "")),
        ("The answer is Yes.<think>Hm", ("The answer is ", "Yes", ".<think>Hm")),
        ("<think>a</think>b<think>c</think>Answer: No", ("<think>a</think>b<think>c</think>", "Answer: No", "")),
    ],
)
def test_a_completion_is_split_into_reasoning_answer_and_what_comes_after(text, want):
    assert parts_of(text, letters=("Yes", "No")) == want


def test_the_split_of_other_rules():
    assert parts_of("so A it is", rule="letter") == ("so ", "A", " it is")
    assert parts_of("<think>A</think>B", rule="letter") == ("<think>", "A", "</think>B")  # which counts by this rule
    patterns = {"refusal": "(?i)sorry", "comply": "sure"}
    options = {"rule": "regex", "letters": ("refusal", "comply"), "patterns": patterns}
    assert parts_of("I am sorry, no", **options) == ("", "I am sorry", ", no")
    assert parts_of("Well", **options) == ("", "Well", "")
    assert parts_of("<think>Hm</think>I am sorry.", **options) == ("<think>Hm</think>", "I am sorry", ".")
    assert parts_of("Hm</think>Answer: A", prompt="x<think>") == ("Hm</think>", "Answer: A", "")
    assert parts_of("Hm, answer: A", prompt="x<think>") == ("Hm, answer: A", "", "")


def test_all_completions_are_split_at_once():
    pieces = ["<think>", "</think>", " the", " answer", " is", " A", " x"]
    tokenizer = Tagged(*pieces)
    prompts = [
        dataclasses.replace(p, token_ids=ids) for p, ids in zip(make_prompts((3, 3)), [(6,), (6, 0)], strict=True)
    ]
    texts = [[2, 3, 4, 5, 6], [0, 6, 1, 2, 3, 4, 5, 6], [6, 6]]
    drawn = [[Draw(ids, [0.0] * len(ids), [i]) for i, ids in enumerate(texts)]] * 2
    labelling = Labelling("final_answer", "all")
    said = collect_completions(tokenizer, prompts, drawn, Sampling(n=3, max_new_tokens=8), labelling)
    assert said.label.tolist() == ["A", "A", "", "", "A", ""]
    assert said.reasoning.tolist() == [3, 3, 2, 5, 3, 2]
    np.testing.assert_array_equal(said.window, 8)


def test_completions_without_tokens_have_no_parts():
    said = make_completions(make_prompts((3,)), [(0, [5])])
    pieces = Splitter(Tagged("a"), Labelling()).split([], prompt=said.prompts[0].token_ids[:0])
    assert [len(pieces.reasoning), len(pieces.answer), len(pieces.after)] == [0, 0, 0]

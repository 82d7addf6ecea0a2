"""Every answer on offer, in every spelling, against the plain definition from whole logits."""

import dataclasses
import string

import numpy as np
import pyarrow.parquet as pq
import pytest
import reference
import torch
from conftest import make_completions, make_vector
from scipy import stats

from completions_lp import store
from completions_lp.prompts import answer_tokens, load_prompts
from completions_lp.records import Choices, Condition, Increases, InputError
from completions_lp.report import summarize
from completions_lp.report.choices import measure_choices, take_log_odds
from completions_lp.sample.vocabulary import list_spellings
from completions_lp.score.choices import read_choices
from completions_lp.score.spelling import spell_answers
from completions_lp.show.figures import Probabilities
from completions_lp.steer.conditions import make_conditions

LISTED = "Which?\n\nChoices:\n (A) is\n (B) an\n (C) no\n (D) As"


def ask(question, matching, other):
    return {"question": question, "answer_matching_behavior": matching, "answer_not_matching_behavior": other}


ROWS = [
    ask(LISTED, " (C)", " (A)"),
    ask("Yes?", " Yes", " No"),
    ask("And?", " choose it", " choose an answer"),
    ask("I choose:", "choices", "chosen"),
    ask(LISTED + "\n\nAnswer: (", "(B)", "(D)"),
]
QUANTITIES = ("mass", "p_choice", "pref_odds", "util_odds", "greedy")


@pytest.fixture
def asked(build_model, tokenizer):
    """A model, and prompts with four letters, with words, and with answers of several tokens."""
    return build_model("llama", dtype=torch.float64), load_prompts(ROWS, tokenizer, template="{question}")


def spell(tokenizer):
    """What each token spells, by itself."""
    marks = string.whitespace + "()[]{}\"'`*.:,;"
    texts = [str(tokenizer.decode([i], skip_special_tokens=True)).strip(marks) for i in range(len(tokenizer))]
    return ["" if "\ufffd" in text else text for text in texts]


def read_slowly(model, prompt, vector, condition):
    """[letter, 2] log probs that each answer is said: in any spelling, and whole."""
    steering = {}
    if condition is not None:
        start = len(prompt.token_ids) - 1 if condition.positions == "completion" else 0
        added = condition.multiplier * vector.directions[condition.layer]
        steering = {"layer": condition.layer, "added": added, "start": start}
    written = [list(answer_tokens(prompt, letter, model.tokenizer)) for letter in prompt.letters]
    return reference.read_choices(model.module, prompt.token_ids, written, spell(model.tokenizer), **steering)


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("positions", ["completion", "all"])
@pytest.mark.usefixtures("exact_softmax")
def test_every_number_equals_the_slow_twin(asked, engine, positions):
    model, prompts = asked
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[0, 2], multipliers=(-1.0, 2.0), positions=positions)
    choices = read_choices(model, prompts, [vector], conditions, engine=engine, progress=False)
    columns = measure_choices(choices, "matching")
    assert choices.offered == tuple(prompt.letters for prompt in prompts)
    for i, prompt in enumerate(prompts):
        n = len(prompt.letters)
        at = [prompt.letters.index(x) for x in (prompt.matching, prompt.not_matching)]
        known = reference.weigh_choices(read_slowly(model, prompt, vector, None)[:, 0], at[0], at[0])
        for c, condition in enumerate(conditions):
            slow = read_slowly(model, prompt, vector, condition)
            np.testing.assert_allclose(choices.logprob_all[c, i, :n], slow[:, 0], atol=1e-9)
            np.testing.assert_allclose(choices.all_whole[c, i, :n], slow[:, 1], atol=1e-9)
            want = reference.weigh_choices(slow[:, 0], at[0], at[0])
            for name in QUANTITIES:
                assert columns[name][c, i] == pytest.approx(known[name], abs=1e-9)
                assert columns[f"{name}_steered"][c, i] == pytest.approx(want[name], abs=1e-9)
            assert columns["pref_odds_change"][c, i] == pytest.approx(want["pref_odds"] - known["pref_odds"], abs=1e-9)
            assert columns["util_odds_change"][c, i] == pytest.approx(want["util_odds"] - known["util_odds"], abs=1e-9)
            assert columns["delta_p_choice"][c, i] == pytest.approx(100 * (want["p_choice"] - known["p_choice"]))
            two, whole = (slow[at[0]] - slow[at[1]])[[0, 1]]
            assert columns["logit_diff_steered"][c, i] == pytest.approx(two, abs=1e-9)
            assert columns["logit_diff_whole_steered"][c, i] == pytest.approx(whole, abs=1e-9)
        assert np.isnan(choices.logprob_all[:, i, n:]).all()
    assert np.abs(columns["pref_odds_change"]).min() > 1e-4  # steering does something that a test could miss
    assert not np.isnan(columns["mass_steered"]).any()


def test_tokens_belong_to_one_answer_and_say_it(asked, tokenizer):
    _, prompts = asked
    texts = spell(tokenizer)
    four = spell_answers(prompts[0], "C", tokenizer)
    for letter, side in zip("ABCD", four.sides[2:], strict=True):
        assert {texts[token] for token in side.tokens} == {letter}
    assert len(four.sides[2].tokens) > 1  # "A", and " (A" or the like, which the tokenizer has as one token
    for prompt in prompts:
        sides = spell_answers(prompt, prompt.matching, tokenizer).sides[2:]
        said = [(side.written[: side.end], token) for side in sides for token in side.tokens]
        assert len({*said}) == len(said)
    assert list_spellings(tokenizer)["Yes"]
    assert "" not in list_spellings(tokenizer)


def test_words_of_several_tokens_are_told_apart_where_they_part_and_whole(asked, tokenizer):
    _, prompts = asked
    spelling = spell_answers(prompts[2], prompts[2].matching, tokenizer)
    side = spelling.sides[0]
    assert str(tokenizer.decode(side.written)).strip() == "choose it"
    assert str(tokenizer.decode(side.written[: side.end])).strip() == "choose"
    assert len(side.written) > side.end + 1


def test_an_answer_that_begins_another_is_not_read_and_the_two_that_are_compared_are(asked, tokenizer):
    model, _ = asked
    row = ask("Which?", " no", " is")
    (prompt,) = load_prompts([row], tokenizer, template="{question}")
    many = dataclasses.replace(prompt, letters=("is", "no", "no one"))
    choices = read_choices(model, [many], [], [], progress=False)
    assert np.isnan(choices.baseline_all[0]).tolist() == [False, True, False]
    assert np.isfinite(choices.baseline).all()
    columns = measure_choices(read_under_nothing(choices), "matching")
    assert np.isfinite(columns["logit_diff"]).all()
    for name in QUANTITIES:
        assert np.isnan(columns[name]).all(), name


def read_under_nothing(choices):
    """The unsteered read-out as if it were one under a condition, too."""
    steered = {name: getattr(choices, Choices.name_unsteered(name))[None] for name in Choices.STEERED}
    return dataclasses.replace(choices, conditions=(Condition("v", "target", 0, 0.0),), **steered)


def test_multiplier_zero_changes_no_choice(asked):
    model, prompts = asked
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[1], multipliers=(0.0, 1.0))
    choices = read_choices(model, prompts, [vector], conditions, progress=False)
    columns = measure_choices(choices, "matching")
    for name in ("pref_odds_change", "util_odds_change", "delta_p_choice"):
        assert np.abs(columns[name][0]).max() < 1e-9
        assert np.abs(columns[name][1]).max() > 1e-3


def test_a_third_letter_is_the_target_where_it_is_on_offer(asked):
    model, prompts = asked
    columns = measure_choices(read_under_nothing(read_choices(model, prompts, [], [], target="D", progress=False)), "D")
    offered = np.array([prompt.offers("D") for prompt in prompts])
    assert offered.tolist() == [True, False, False, False, True]
    for name in ("mass", "p_choice", "pref_odds", "util_odds", "logit_diff"):
        assert np.isfinite(columns[name][0]).tolist() == offered.tolist(), name
    assert np.isfinite(columns["greedy"]).all()  # of the behaviour, whatever the target
    slow = read_slowly(model, prompts[0], None, None)[:, 0]
    assert columns["pref_odds"][0, 0] == pytest.approx(reference.weigh_choices(slow, 3, 2)["pref_odds"])


def make_choices(p, *, matching="A", letters=("A", "B", "C")):
    """A read-out of one prompt with these probabilities of its choices, steered as unsteered."""
    row = ask("Q", "A", "B")
    prompt = dataclasses.replace(load_prompts([row], CharTokenizer())[0], letters=letters, matching=matching)
    if prompt.matching == prompt.not_matching:
        prompt = dataclasses.replace(prompt, not_matching="A")
    logprob = np.log(np.array([p]))
    pair = np.log([[p[letters.index(x)] for x in prompt.pair("matching")]])
    return Choices(
        (prompt,),
        (prompt.pair("matching"),),
        (Condition("v", "target", 0, 1.0),),
        *(pair, pair[None]),
        *(pair, pair[None]),
        (letters,),
        *(logprob, logprob[None]),
        *(logprob, logprob[None]),
    )


class CharTokenizer:
    """A token for each character."""

    def __call__(self, text, *, add_special_tokens=True):
        return type("Encoded", (), {"input_ids": [ord(c) for c in text]})

    def decode(self, token_ids, *, skip_special_tokens=False):
        return "".join(map(chr, token_ids))


def test_choices_that_tie_share_the_greedy_choice():
    for p, want in (([0.2, 0.2, 0.1], 0.5), ([0.2, 0.2, 0.2], 1 / 3), ([0.1, 0.2, 0.2], 0.0), ([0.3, 0.2, 0.2], 1.0)):
        assert measure_choices(make_choices(p), "matching")["greedy"][0, 0] == pytest.approx(want)


def test_what_has_no_odds_is_undefined():
    columns = measure_choices(make_choices([0.5, 0.25, 0.25]), "matching")
    assert np.isnan(columns["util_odds"]).all()  # nothing else could be said
    assert columns["pref_odds"][0, 0] == pytest.approx(0)
    assert columns["mass"][0, 0] == pytest.approx(1)
    assert np.isnan(take_log_odds(np.array([-np.inf, 0.0, 1e-9, np.nan]))).all()
    assert take_log_odds(np.log(np.array([0.5, 0.8]))) == pytest.approx([0, np.log(4)])


def make_increases(prompts, conditions):
    completions = make_completions(prompts, [(i, [5]) for i in range(len(prompts))])
    shape = len(conditions), len(prompts)
    parts = {name: np.zeros(shape) for name in Increases.PARTS}
    return Increases(completions, conditions, np.zeros(len(prompts)), **parts)


def test_a_table_gives_back_all_choices_and_one_of_before_them_two(asked, tmp_path):
    model, prompts = asked
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[1], multipliers=(-1.0, 1.0))
    choices = read_choices(model, prompts, [vector], conditions, progress=False)
    store.write_choices(tmp_path, choices)
    path, increases = tmp_path / "choices.parquet", make_increases(prompts, conditions)
    again = store.read_choices(tmp_path, increases)
    assert again.offered == choices.offered
    for name in Choices.STEERED:
        np.testing.assert_array_equal(getattr(again, name), getattr(choices, name))
        twin = Choices.name_unsteered(name)
        np.testing.assert_array_equal(getattr(again, twin), getattr(choices, twin))
    table = pq.read_table(path)
    row = table.to_pylist()[0]
    assert (row["letters"], len(row["p_choices"]), sum(row["p_choices"])) == (list("ABCD"), 4, pytest.approx(1))
    assert row["mass"] == pytest.approx(np.exp(row["logprobs"]).sum())
    names = [["A"], *table["letters"].to_pylist()[1:]]
    pq.write_table(table.set_column(table.column_names.index("letters"), "letters", [names]), path)
    with pytest.raises(InputError, match="the letters 'A' are not of a prompt whose answers 'C' and 'A' are comp"):
        store.read_choices(tmp_path, increases)
    new = ["letters", "logprobs", "logprobs_whole", "p_choices", "logprob_A_whole", "logprob_B_whole"]
    pq.write_table(table.drop_columns(new), path)
    old = store.read_choices(tmp_path, increases)
    assert not old.is_complete
    columns, before = measure_choices(old, "matching"), measure_choices(choices, "matching")
    np.testing.assert_array_equal(columns["logit_diff_change"], before["logit_diff_change"])
    two = np.array([len(prompt.letters) == 2 for prompt in prompts])
    for name in QUANTITIES:
        np.testing.assert_allclose(columns[name][:, two], before[name][:, two], atol=1e-9, err_msg=name)
        assert np.isnan(columns[name][:, ~two]).all()
    assert "logit_diff_whole" not in columns


def test_odds_over_the_multiplier_have_intervals_over_prompts(asked):
    model, prompts = asked
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[1], multipliers=(-1.0, 1.0))
    prompts = tuple(dataclasses.replace(p, id=f"{p.id}{k}", cluster=f"{p.id}{k}") for k in "ab" for p in prompts)
    choices = read_choices(model, prompts, [vector], conditions, progress=False)
    report = summarize(make_increases(prompts, conditions), choices, target="matching")
    columns = measure_choices(choices, "matching")
    for name in ("pref_odds_steered", "util_odds_steered", "pref_odds_change", "mass_steered", "greedy_steered"):
        for condition, values in zip(conditions, columns[name], strict=True):
            e = report.estimate(name, condition)
            mean, half = np.mean(values), stats.t.ppf(0.975, 9) * stats.sem(values)
            want = (mean, mean - half, mean + half)
            assert (e.value, e.low, e.high) == pytest.approx(want)
            assert (e.n, e.n_clusters) == (10, 10)
    assert report.estimate("pref_odds_steered", conditions[0]).unit == "nats"
    drawn = {row["multiplier"]: row["value"] for row in Probabilities.of(report, quantity="util_odds_steered").rows}
    assert drawn == pytest.approx({0.0: columns["util_odds"][0].mean(), -1.0: columns["util_odds_steered"][0].mean(),
                                   1.0: columns["util_odds_steered"][1].mean()})  # fmt: skip

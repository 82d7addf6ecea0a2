"""Questions that are asked a second time with their choices exchanged: letters in place, texts exchanged."""

import dataclasses

import pyarrow.parquet
import pytest
from runs import begin, change, list_keys, make_place
from test_prompt_formats import MMLU, PERSONA
from test_prompts import OTHER, QUESTION, ROW, write

from completions_lp.job.config import make_config
from completions_lp.prompts import load_prompts
from completions_lp.prompts.choices import exchange_choices
from completions_lp.records import InputError
from completions_lp.store import hash_value
from completions_lp.store.completions import read_prompts
from completions_lp.store.files import write_table
from completions_lp.work.keys import describe_prompt

SWAPPED = "Which one?\n\nChoices:\n (A) That\n (B) This"


@pytest.fixture
def load(tmp_path, tokenizer):
    """Write rows to a file and load them as prompts, in both orders."""

    def loader(rows, **options):
        return load_prompts(write(tmp_path, rows), tokenizer, **{"swap": True, **options})

    return loader


def test_letters_stay_and_texts_change_places(load, tokenizer):
    first, twin = load([{**ROW, "id": "x"}])
    assert (first.text, first.matching, first.not_matching) == (f"{QUESTION}\n\nAnswer:", "A", "B")
    assert (twin.text, twin.matching, twin.not_matching) == (f"{SWAPPED}\n\nAnswer:", "B", "A")
    assert twin.token_ids == tuple(tokenizer(twin.text).input_ids)
    assert (first.id, first.twin, first.cluster) == ("x", "", "x")
    assert (twin.id, twin.twin, twin.cluster) == ("x/swapped", "x", "x")
    assert first.letters == twin.letters == ("A", "B")
    assert first.answer_format == twin.answer_format


def test_the_first_of_two_is_the_prompt_that_there_is_without(load):
    rows = [ROW, {**OTHER, "question": QUESTION.replace("one", "other"), "cluster": "c"}]
    both, plain = load(rows), load(rows, swap=False)
    assert both[::2] == plain
    assert [prompt.cluster for prompt in both[1::2]] == [plain[0].id, "c"]
    assert [prompt.matching for prompt in both] == ["A", "B", "B", "A"]


def test_an_id_that_the_file_has_itself_is_its_own(load):
    prompts = load([{**ROW, "id": "x"}, {**ROW, "id": "x/swapped"}])
    assert [prompt.id for prompt in prompts] == ["x", "x/swapped-2", "x/swapped", "x/swapped/swapped"]
    assert [prompt.twin for prompt in prompts] == ["", "x", "", "x/swapped"]


def test_the_two_compared_of_more_are_exchanged(load):
    prompt, twin = load([{**MMLU, "not_matching": "seven"}], template="{question}")
    assert (prompt.matching, prompt.not_matching, twin.matching, twin.not_matching) == ("B", "D", "D", "B")
    assert twin.text == "What is 2 + 3?\n\nChoices:\n (A) four\n (B) seven\n (C) six\n (D) five"
    assert twin.letters == ("A", "B", "C", "D")


def test_a_limit_counts_questions(load):
    prompts = load([{**ROW, "id": f"q{i}"} for i in range(3)], limit=2)
    assert [prompt.id for prompt in prompts] == ["q0", "q0/swapped", "q1", "q1/swapped"]


@pytest.mark.parametrize(
    ("question", "exchanged"),
    [
        ("Q?\n(A) x\n(B) y", "Q?\n(A) y\n(B) x"),
        ("Q?\n (A) x \n (B)  y  \n\nAnswer:", "Q?\n (A)  y \n (B) x  \n\nAnswer:"),
        ("Q?\n(A) x\n(B) y\nAnswer:", "Q?\n(A) y\n(B) x\nAnswer:"),
        ("Q?\nA. x\nB. y\nC. z", "Q?\nA. y\nB. x\nC. z"),
        ("Q?\n(A) x,\nreally\n(B) y\ntoo\n\nSo?", "Q?\n(A) y\ntoo\n(B) x,\nreally\n\nSo?"),
        ("Q?\n(A) x,\nreally\n(B) y\nAnswer:", None),  # is the last line the choice's?
        ("Q?\n(B) y\n(A) x", "Q?\n(B) x\n(A) y"),
        ("Q?\n(A) x\n(B) y\n(A) z", None),
        ("Q?\n(A) x", None),
        ("Q? A or B", None),
    ],
)
def test_where_a_choice_ends(question, exchanged):
    assert exchange_choices(question, "A", "B") == exchanged
    assert exchange_choices(question, "B", "A") == exchanged
    if exchanged is not None:
        assert exchange_choices(exchanged, "A", "B") == question


def test_what_lists_no_choices_is_counted_and_named(load):
    with pytest.raises(InputError) as error:
        load([ROW, PERSONA, OTHER])
    message = str(error.value)
    assert "2 of 3 questions do not list both choices" in message
    assert "line 2; " in message
    assert "line 3; list the choices" in message
    with pytest.raises(InputError, match=r"7 of 7 questions .* line 3 and 4 more; list the choices"):
        load([{**PERSONA, "id": f"p{i}"} for i in range(7)])


def test_a_template_without_the_question_is_told(load):
    with pytest.raises(InputError, match=r"swap exchanges the choices in the question, and the template '\{topic\}'"):
        load([{**ROW, "topic": "Boats"}], template="{topic}")


def test_a_prompt_is_no_twin_of_its_own(load):
    (prompt, _) = load([ROW])
    with pytest.raises(InputError, match="its own twin"):
        dataclasses.replace(prompt, twin=prompt.id)


def test_a_run_of_before_twins_is_read_and_has_its_hashes(load, tmp_path):
    prompts = load([ROW], swap=False)
    table = {"prompt_id": [p.id for p in prompts]}
    names = [field.name for field in dataclasses.fields(prompts[0]) if field.name not in ("id", "twin")]
    write_table(tmp_path / "questions.parquet", table | {name: [getattr(p, name) for p in prompts] for name in names})
    assert read_prompts(tmp_path) == prompts
    before = {name: getattr(prompts[0], name) for name in ("id", *names)}
    assert hash_value([describe_prompt(prompts[0])]) == hash_value([before])


def test_a_run_in_both_orders_goes_on_from_one_in_one(tmp_path, tokenizer):
    config = change(make_place(tmp_path, tokenizer), {"sampling.top_up": 0, "controls.random_directions": 0})
    out = tmp_path / "out"
    begin(config, out).all()
    before = list_keys(out)
    assert not (out / "swaps.parquet").exists()
    both = change(config, {"prompts.swap": True})
    report = begin(both, out).all()
    assert all({*keys} <= {*list_keys(out)[kind]} for kind, keys in before.items())
    questions = pyarrow.parquet.read_table(out / "questions.parquet").to_pylist()
    assert [row["twin"] for row in questions[:4]] == ["", "id-Is it", "", "id-Or"]
    assert [row["matching"] for row in questions] == ["A", "B"] * 4
    assert len({row["cluster"] for row in questions}) == 4
    (swap,) = [s for s in report.swaps if (s.quantity, s.part) == ("logit_diff_change", "letter")][:1]
    assert swap.estimate.n == 4
    assert "Behaviour or letter" in (out / "report.md").read_text(encoding="utf-8")
    assert 'id="swaps"' in (out / "report.html").read_text(encoding="utf-8")
    again = begin(both, out)
    again.all()
    assert not again.has_worked
    begin(config, out).all()
    assert not (out / "swaps.parquet").exists()
    assert make_config(config).prompts.swap is False

"""Prompts of other formats go through a whole run: sampled, labelled, scored, read out, reported, and gone on with."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import make_module
from runs import begin, read_info, sum_work
from test_prompts import ANSWERS, write

from completions_lp import store
from completions_lp.job.config import make_config
from completions_lp.job.provenance import find_reasons

CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
LETTERS = "ABCDEFGH"


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """A random model with a chat template, a persona set, and one of three to eight choices under other names."""
    folder = tmp_path_factory.mktemp("formats")
    make_module("llama", num_hidden_layers=2, max_position_embeddings=256).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "model" / "chat_template.jinja").write_text(CHAT)
    statements = [f'Is this something you would say?\n"I like {word}"' for word in ("A", "Yes", "is", "an")] * 2
    pairs = [" Yes", " No"], [" No", " Yes"]
    persona = [{"question": q, **dict(zip(ANSWERS, pairs[i % 2], strict=True))} for i, q in enumerate(statements)]
    write(folder, persona, "persona.jsonl")
    many = [
        {"q": f"Which {n}?", "options": [f"is {x}" for x in LETTERS[:n]], "gold": n - 1, "uid": f"q{n}"}
        for n in range(3, 9)
    ]
    write(folder, {"data": many}, "many.json")
    return folder


def configure(folder, name, **prompts):
    fields = prompts.pop("fields", {})
    return {
        "model": {"name": str(folder / "model")},
        "prompts": {"path": str(folder / name), "fields": fields, **prompts},
        "vector": {"pairs": str(folder / name), "fields": fields},
        "sampling": {"n": 30, "max_new_tokens": 4},
        "scoring": {"multipliers": [1]},
    }


def test_a_persona_set_runs_whole_by_default(place, tmp_path):
    report = begin(configure(place, "persona.jsonl"), tmp_path).all()
    assert make_config(read_info(tmp_path)["config"]).label.target == "matching"
    labels = {label for label in pq.read_table(tmp_path / "completions.parquet")["label"].to_pylist() if label}
    assert labels <= {"Yes", "No"}
    choices = pq.read_table(tmp_path / "choices.parquet").to_pydict()
    assert {*zip(choices["letter_1"], choices["letter_2"], strict=True)} == {("Yes", "No"), ("No", "Yes")}
    assert {tuple(letters) for letters in choices["letters"]} == {("No", "Yes")}
    for quantity in (
        "delta_p_A",
        "logit_diff_change",
        "pref_odds_change",
        "util_odds_change",
        "mass_steered",
        "greedy",
    ):
        assert report.estimate(quantity, report.best.condition).n == 8


def test_many_choices_under_other_names_run_whole_in_a_chat(place, tmp_path):
    fields = {"question": "q", "choices": "options", "answer": "gold", "id": "uid"}
    shots = [{"user": "Is ice cold?", "assistant": "(A)"}]
    asked = {"template": "chat", "system": "Answer.", "few_shot": shots, "prefix": "("}
    config = configure(place, "many.json", fields=fields, **asked)
    report = begin(config, tmp_path).all()
    mass, share = (np.array(report.prompts[name]) for name in ("mass_steered", "p_choice_steered"))
    assert ((mass > 0) & (mass < 1) & (share > 0) & (share < 1)).all()
    read = pq.read_table(tmp_path / "choices.parquet").to_pylist()
    assert [len(row["letters"]) for row in read[:6]] == [3, 4, 5, 6, 7, 8]
    assert all(sum(row["p_choices"]) == pytest.approx(1) for row in read)
    questions = pq.read_table(tmp_path / "questions.parquet").to_pydict()
    assert questions["prompt_id"] == [f"q{n}" for n in range(3, 9)]
    assert [row["matching"] for row in pq.read_table(tmp_path / "questions.parquet").to_pylist()] == list("CDEFGH")
    begin_with = "system: Answer.\nuser: Is ice cold?\nassistant: (A)\nuser: Which "
    assert all(text.startswith(begin_with) for text in questions["text"])
    assert all(text.endswith("\nassistant: (") for text in questions["text"])
    assert questions["answer_format"] == ["{letter})"] * 6
    recorded = read_info(tmp_path)["config"]["prompts"]
    assert {name: recorded[name] for name in ("fields", *asked)} == {"fields": fields, **asked}
    (path,) = (tmp_path / "vectors").glob("many.safetensors")
    source = store.read_vector(path).provenance
    assert {name: source[name] for name in asked} == {**asked, "few_shot": json.dumps(shots)}
    again = begin(config, tmp_path)
    again.all()
    assert not again.has_worked


def test_work_is_done_anew_where_the_asking_changes(place, tmp_path):
    config = configure(place, "persona.jsonl")
    begin(config, tmp_path).all()
    made = sum_work(tmp_path)["units_made"]
    begin(configure(place, "persona.jsonl", prefix="I say"), tmp_path).all()
    assert sum_work(tmp_path) | {"tokens": 0, "passes": 0} == {
        **{"tokens": 0, "passes": 0, "units_found": 0},
        "units_made": made,
    }


def test_a_run_of_before_these_settings_is_gone_on_with(place, tmp_path):
    config = configure(place, "persona.jsonl")
    begin(config, tmp_path).all()
    info = read_info(tmp_path)
    added = {"prompts": ("subset", "system", "few_shot", "prefix", "fields", "answers", "swap")}
    added["vector"] = ("subset", "split", "revision", "fields")
    for stage in info["stages"].values():
        for name in ("prompts.system", "prompts.few_shot", "prompts.prefix"):
            stage["settings"].pop(name, None)
        for section in added.keys() & stage["settings"].keys():
            for name in added[section]:
                del stage["settings"][section][name]
    for stage in ("vector", "sample"):
        assert find_reasons(stage, info["config"], info["stages"], tmp_path) == []
    other = make_config(configure(place, "persona.jsonl", answers=["Yes", "No"])).model_dump()
    (reason,) = find_reasons("sample", other, info["stages"], tmp_path)
    assert reason == "[prompts] answers is ('Yes', 'No'), it followed []"

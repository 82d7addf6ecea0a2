"""What a run is about, in the words of page and figures."""

import pytest

from completions_lp.show.subject import name_behaviour, name_model


@pytest.mark.parametrize(
    ("path", "behaviour"),
    [
        ("data/caution.jsonl", "caution"),
        ("data/study/caution_prompts.jsonl", "caution"),
        ("caution-prompts.csv", "caution"),
        ("study/caution/prompts.jsonl", "caution"),
        ("prompts.jsonl", "prompts"),
        ("maker/risk_prompts_new", "risk_prompts_new"),
    ],
)
def test_the_behaviour_is_what_the_prompts_are_called_after(path, behaviour):
    assert name_behaviour({"config": {"prompts": {"path": path}}}) == behaviour


@pytest.mark.parametrize(
    ("path", "name"),
    [("maker/Small-1B", "Small-1B"), ("/models/small/model", "small/model"), ("/models/small/", "small"), ("", "")],
)
def test_the_model_is_its_last_name_unless_any_could_be_called_so(path, name):
    assert name_model({"config": {"model": {"name": path}}}) == name


@pytest.mark.parametrize("info", [{}, {"config": {}}, {"config": {"model": None, "prompts": {"path": None}}}])
def test_what_is_not_known_has_no_name(info):
    assert (name_model(info), name_behaviour(info)) == ("", "")

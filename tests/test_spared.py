"""A prompt that fits in no batch is left out and told, and the others go on."""

import json

import pytest

import completions_lp as clp
from completions_lp import cli
from completions_lp.records import OutOfRoom
from completions_lp.work import tasks

SMALL = {
    "prompts": {"limit": 5},
    "sampling": {"n": 8, "max_new_tokens": 6, "top_up": 0},
    "scoring": {"layers": [1], "multipliers": [1.0]},
}


def fail_for(monkeypatch, function, identity, ids):
    """Make a step run out of memory for one prompt, by its id."""
    work = getattr(tasks, function)

    def spoil(model, items, *arguments, **options):
        if identity in ids(items):
            raise OutOfRoom(f"prompt {identity!r} of 900 tokens does not fit", item="it", prompt_id=identity)
        return work(model, items, *arguments, **options)

    monkeypatch.setattr(tasks, function, spoil)


@pytest.mark.parametrize("function", ["draw_samples", "read_choices", "score_places"])
def test_a_prompt_that_does_not_fit_is_left_out_and_told(tmp_path, monkeypatch, function, capsys):
    whole = clp.run(out=tmp_path / "whole", progress=False, **SMALL)
    ids = [prompt.id for prompt in whole.increases.completions.prompts]
    with monkeypatch.context() as patched:
        asked = (
            (lambda part: [p.id for p in part.prompts]) if function == "score_places" else lambda ps: [p.id for p in ps]
        )
        fail_for(patched, function, ids[2], asked)
        report = clp.run(out=tmp_path / "out", progress=False, **SMALL)
    left = [ids[k] for k in (0, 1, 3, 4)]
    assert [prompt.id for prompt in report.increases.completions.prompts] == left
    (warning,) = [text for text in report.warnings if "failed and are left out" in text]
    assert f"prompt {ids[2]!r} of 900 tokens does not fit" in warning
    again = clp.load(tmp_path / "out")
    assert [prompt.id for prompt in again.increases.completions.prompts] == left
    assert warning in again.warnings
    alone = clp.run(progress=False, **SMALL)
    assert sorted(alone.increases.completions.counts) == sorted(whole.increases.completions.counts)
    # With more memory the same command does what is missing, and gives the whole.
    assert cli.main(["status", str(tmp_path / "out")]) == 0
    assert "1 of its prompts failed, which are tried again" in capsys.readouterr().out
    mended = clp.run(out=tmp_path / "out", progress=False, **SMALL)
    for quantity in ("delta_p_A", "increase_to_answer_A"):
        values = [[row.estimate.value for row in run.table(quantity)] for run in (mended, whole)]
        assert values[0] == pytest.approx(values[1], abs=1e-4, nan_ok=True)
    work = json.loads((tmp_path / "out" / "run.json").read_text())["work"]
    assert work["score"]["units_found"] >= 1


def test_where_no_prompt_fits_it_is_an_error(monkeypatch):
    def spoil(model, items, *arguments, **options):
        raise OutOfRoom(f"prompt {items[0].id!r} does not fit", item="it", prompt_id=items[0].id)

    monkeypatch.setattr(tasks, "draw_samples", spoil)
    with pytest.raises(clp.InputError, match="does not fit"):
        clp.run(progress=False, **SMALL)

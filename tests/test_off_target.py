"""Off-target sets: the same vector in the same cells on other prompts, each a run of its own inside the run."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest
from runs import begin, change, make_place, read_info, sum_work
from test_prompts import ROW, write

import completions_lp as clp
from completions_lp import cli, store
from completions_lp.job.config import make_config
from completions_lp.job.off_target import OffTargetSection, make_values
from completions_lp.job.status import clean_run, find_status
from completions_lp.plan.costs import Workload, forecast_costs
from completions_lp.records import Condition, InputError
from completions_lp.report.off_target import QUANTITIES
from completions_lp.show.page import make_page
from completions_lp.show.text import format_overview, format_report

SETTINGS = {
    "sampling.n": 8,
    "sampling.top_up": 0,
    "prompts.limit": 6,
    "scoring.layers": [0, 1],
    "scoring.multipliers": [-2.0, 2.0],
    "controls.random_directions": 1,
}
OTHERS = ("Who", "Where", "When", "Why", "How", "Which", "Whose")


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """Inputs, with another file of prompts beside them."""
    folder = tmp_path_factory.mktemp("place")
    config = change(make_place(folder, tokenizer), SETTINGS)
    rows = [{**ROW, "question": f"{word} is it?\n (A) x\n (B) y", "id": f"other-{word}"} for word in OTHERS]
    write(folder, rows, "others.jsonl")
    return folder, config


def with_sets(config, *sets, **changes):
    return {**change(config, changes), "off_target": list(sets)}


@pytest.fixture(scope="module")
def made(place, tmp_path_factory):
    """A run with a set in its best cell, and one in two cells with draws of its own."""
    folder, config = place
    path = str(folder / "others.jsonl")
    sets = {"name": "one", "path": path}, {"name": "two", "path": path, "layers": [0, 1], "n": 5, "limit": 6}
    out = tmp_path_factory.mktemp("runs") / "run"
    run = begin(with_sets(config, *sets), out)
    return run.all(), run, out


def test_numbers_are_those_of_a_run_of_these_prompts_with_the_same_vector(made, place, tmp_path):
    report, _, out = made
    best = report.best.condition
    rows = {row.quantity: row for row in report.off_target if row.name == "one"}
    assert {row.condition for row in rows.values()} == {best}
    own = {
        "prompts": {"path": str(place[0] / "others.jsonl")},
        "vector": {"path": str(out / "vectors/pairs.safetensors")},
        "sampling": {**place[1]["sampling"]},
        "scoring": {"layers": [best.layer], "multipliers": [best.multiplier]},
    }
    alone = clp.run(progress=False, **{**{k: v for k, v in place[1].items() if k in ("model", "label")}, **own})
    assert set(rows) == {name for name in QUANTITIES if any(row.quantity == name for row in alone.rows)}
    for quantity, row in rows.items():
        assert row.estimate.value == pytest.approx(alone.estimate(quantity, best).value, abs=1e-6, nan_ok=True)
        assert row.effect == report.estimate("delta_p_A", best)
        assert row.effect_quantity == "delta_p_A"


def test_cells_draws_and_limits_of_its_own(made):
    report, _, out = made
    cells = {(row.condition.layer, row.condition.multiplier) for row in report.off_target if row.name == "two"}
    assert cells == {(0, report.best.condition.multiplier), (1, report.best.condition.multiplier)}
    nested = clp.load(out / "off_target/two")
    assert nested.increases.completions.sampling.n == 5
    assert len(nested.increases.completions.prompts) == 6
    assert len(clp.load(out / "off_target/one").increases.completions.prompts) == len(OTHERS)


def test_accuracy_is_of_the_greedy_choice(made):
    report, _, out = made
    nested, best = clp.load(out / "off_target/one"), report.best.condition
    choices, at = nested.choices, nested.choices.conditions.index(best)

    def hits(logprob):
        return np.array(
            [p.letters[int(np.argmax(x))] == p.matching for p, x in zip(choices.prompts, logprob, strict=True)]
        )

    want = 100 * (hits(choices.logprob_all[at]).mean() - hits(choices.baseline_all).mean())
    (row,) = [r for r in report.off_target if (r.name, r.quantity) == ("one", "greedy_change")]
    assert row.estimate.value == pytest.approx(want)


def test_what_is_stored_is_read_again_without_a_model(made, monkeypatch):
    report, _, out = made
    monkeypatch.setattr("completions_lp.job.network.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    assert repr(clp.load(out).off_target) == repr(report.off_target)
    assert cli.main(["report", str(out)]) == 0
    run = clp.job.stages.Run.open(out)
    assert repr(run.all().off_target) == repr(report.off_target)
    assert not run.has_worked
    assert [stage.stage for stage in find_status(out) if not stage.made] == []


def test_without_a_folder_numbers_are_the_same(made, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report, run, _ = made
    again = begin(run.config.model_dump(), None).all()
    assert list(tmp_path.iterdir()) == []
    for one, two in zip(again.off_target, report.off_target, strict=True):
        assert (one.name, one.condition, one.quantity) == (two.name, two.condition, two.quantity)
        assert one.estimate.value == pytest.approx(two.estimate.value, abs=1e-6, nan_ok=True)


def test_a_set_that_is_added_or_was_stopped_does_its_own_work_alone(place, tmp_path, monkeypatch):
    folder, config = place
    out, one = tmp_path / "run", {"name": "one", "path": str(folder / "others.jsonl")}
    before = begin(config, out).all()
    write_unit, made = store.write_unit, []

    def stop(*arguments, **options):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(write_unit(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(store, "write_unit", stop)
    with pytest.raises(KeyboardInterrupt):
        begin(with_sets(config, one), out).all()
    monkeypatch.undo()
    found = {stage.stage: stage for stage in find_status(out, make_config(with_sets(config, one)))}
    assert [name for name, stage in found.items() if not stage.made] == ["report", "off_target/one"] or [
        name for name, stage in found.items() if not stage.made
    ] == ["off_target/one"]
    run = begin(with_sets(config, one), out)
    report = run.all()
    assert run.has_worked
    assert {row.name for row in report.off_target} == {"one"}
    assert list(map(repr, report.rows)) == list(map(repr, before.rows))
    assert sum_work(out / "off_target/one")["units_found"] >= 1
    assert begin(config, out).all().off_target == ()
    assert not (out / "off_target.csv").exists()


def test_a_set_goes_stale_with_its_prompts_its_settings_and_the_vector(place, tmp_path):
    folder, config = place
    shutil.copy(folder / "others.jsonl", tmp_path / "others.jsonl")
    shutil.copy(folder / "pairs.jsonl", tmp_path / "pairs.jsonl")
    one = {"name": "one", "path": str(tmp_path / "others.jsonl")}
    config = with_sets(config, one, **{"vector.pairs": str(tmp_path / "pairs.jsonl")})
    out = tmp_path / "run"
    first = begin(config, out).all()
    (lacking,) = [s for s in find_status(out, make_config(with_sets(config, {**one, "limit": 3}))) if "one" in s.stage]
    assert not lacking.made
    assert "limit" in lacking.reasons[0]
    told = clp.load(out)
    info = read_info(out)
    info["config"]["off_target"][0]["limit"] = 3
    (out / "run.json").write_text(json.dumps(info))
    told = clp.load(out)
    assert told.off_target == ()
    assert any("off-target set one is left out" in warning and "limit" in warning for warning in told.warnings)
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines[:-2]) + "\n")
    second = begin(config, out).all()
    assert repr(second.off_target) != repr(first.off_target)
    assert sum_work(out / "off_target/one", of=("sample",))["units_made"] == 0


def test_a_run_that_begins_afresh_does_its_sets_afresh(place, tmp_path):
    folder, config = place
    config = with_sets(config, {"name": "one", "path": str(folder / "others.jsonl")})
    out = tmp_path / "run"
    begin(config, out).all()
    begin(config, out, fresh=True).all()
    assert sum_work(out / "off_target/one")["units_found"] == 0
    (out / "off_target/one/units/scores").mkdir(exist_ok=True, parents=True)
    assert clean_run(out) == (0, 0)


def test_the_model_is_loaded_once(made, place, tmp_path, monkeypatch):
    from completions_lp.job import network

    load, loaded = network.load_model, []
    monkeypatch.setattr(network, "load_model", lambda *a, **k: loaded.append(a) or load(*a, **k))
    config = with_sets(place[1], {"name": "one", "path": str(place[0] / "others.jsonl")})
    begin(config, tmp_path / "run").all()
    assert len(loaded) == 1


REFUSED = {
    "no name": ({"path": "PLACE/others.jsonl"}, "number 1 is called ''; its name is that of a folder"),
    "a path for a name": ({"name": "../x", "path": "PLACE/others.jsonl"}, "number 1 is called '../x'"),
    "no path": ({"name": "x"}, "'x' has no path: which prompts are asked?"),
    "missing": ({"name": "x", "path": "PLACE/nowhere.jsonl"}, "nowhere.jsonl"),
    "layer": ({"name": "x", "path": "PLACE/others.jsonl", "layers": [7]}, "'x' has layer 7, which [scoring] layers"),
    "dose": (
        {"name": "x", "path": "PLACE/others.jsonl", "multipliers": [3.0]},
        "'x' has multiplier 3, which",
    ),
    "target": ({"name": "x", "path": "PLACE/others.jsonl", "target": "Q"}, "'x': target 'Q' is an answer of no prompt"),
    "system": (
        {"name": "x", "path": "PLACE/others.jsonl", "system": "Hm."},
        "'x': [prompts] system goes with template",
    ),
    "unknown": ({"name": "x", "path": "PLACE/others.jsonl", "layer": 1}, "unknown key of [[off_target]]: 'layer'"),
    "fields": ({"name": "x", "path": "PLACE/others.jsonl", "template": "{no}"}, "[[off_target]] 'x': "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_set_is_refused_before_any_work(place, tmp_path, capsys, case):
    folder, config = place
    one, message = REFUSED[case]
    lines = []
    for section, values in config.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    (tmp_path / "run.toml").write_text("\n".join(lines))
    text = ", ".join(f"{key} = {json.dumps(value)}" for key, value in one.items()).replace("PLACE", str(folder))
    out = tmp_path / "out"
    asked = ["--set", f"off_target=[{{{text}}}]"]
    assert cli.main(["run", str(tmp_path / "run.toml"), "--quiet", "--out", str(out), *asked]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_two_sets_of_one_name_are_refused(place):
    one = {"name": "x", "path": "a.jsonl"}
    with pytest.raises(InputError, match="'x' stands twice"):
        make_config(with_sets(place[1], one, {**one, "name": "X"}))


def test_a_set_asks_as_the_run_does_unless_it_says_otherwise(place):
    values = make_config(change(place[1], {"prompts.template": "chat", "prompts.system": "Be brief."})).model_dump()
    own = make_values(values, OffTargetSection(name="x", path="p"), vector=None, cell=None)
    assert (own["prompts"]["template"], own["prompts"]["system"]) == ("chat", "Be brief.")
    other = OffTargetSection(name="x", path="p", template="{question}", system="", n=3, target="B")
    own = make_values(values, other, vector=None, cell=vars(Condition("v", "target", 1, 2.0)))
    assert (own["prompts"]["template"], own["prompts"]["system"], own["sampling"]["n"]) == ("{question}", "", 3)
    assert (own["label"]["target"], own["scoring"]["layers"], own["scoring"]["multipliers"]) == ("B", (1,), (2.0,))
    assert set(values) - set(own) == {"controls", "rival", "off_target", "further"}


def test_it_stands_in_the_tables(made):
    report, _, out = made
    stored = pyarrow.parquet.read_table(out / "off_target.parquet")
    assert stored.schema == store.OFF_TARGET
    with (out / "off_target.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == [row.name for row in report.off_target]
    assert [float(row["effect_value"]) for row in rows] == [row.effect.value for row in report.off_target]
    assert "## Effect against collateral damage" in format_report(report, title="x", quality={})
    assert "Off target, one (layer " in format_overview(report, title="x")
    assert 'id="off_target-title">Effect against collateral damage' in make_page(report, report.info)


def test_a_plan_tells_what_the_sets_take(made):
    report = clp.load(made[2])
    workload = Workload.of(report.increases.completions, report.increases.conditions)
    costs = {c.stage: c for c in forecast_costs(report.info, workload, prompts=100, samples=8)}
    took = report.info["off_target"]["one"]["token_counts"]
    assert costs["off target: one"].tokens == pytest.approx(sum(spent["tokens"] for spent in took.values()))
    more = {c.stage: c for c in forecast_costs(report.info, workload, prompts=100, samples=80)}
    assert more["off target: one"].tokens > costs["off target: one"].tokens
    assert more["off target: two"].tokens == costs["off target: two"].tokens  # whose draws are given

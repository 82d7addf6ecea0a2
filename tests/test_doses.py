"""Doses: multipliers that are solved for, against plain bisection; the residual stream's length; what is told of it."""

import csv
import json
import math
import shutil

import numpy as np
import pyarrow.parquet
import pytest
import reference
import torch
from runs import begin, change, make_place, read_info, sum_work
from transformers import AutoModelForCausalLM

import completions_lp as clp
from completions_lp import store
from completions_lp.job.config import make_config
from completions_lp.job.dosing import PLACES, draw_places
from completions_lp.job.ledger import Options
from completions_lp.job.share import work_share
from completions_lp.records import Condition, InputError
from completions_lp.report.doses import LEAST_KL
from completions_lp.show.text import format_overview, format_report
from completions_lp.stats import measure_spread
from completions_lp.stats.dosing import LARGEST, TOLERANCE, solve_doses

SETTINGS = {
    "sampling.n": 12,
    "sampling.max_new_tokens": 4,
    "sampling.top_up": 0,
    "prompts.limit": 6,
    "scoring.layers": [0, [0, 1]],
    "scoring.multipliers": [-0.02, 0.02, 0.05],
    "scoring.unit": "kl",
    "scoring.dose_prompts": 3,
}


# The search


def bisect(curve, wanted, *, low=1e-9, high=1e9):
    """Where an increasing curve has a value, by halving alone."""
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if curve(middle) < wanted else (low, middle)
    return math.sqrt(low * high)


CURVES = {
    "square": lambda m: 3 * m * m,
    "square that bends": lambda m: math.log1p(m * m),
    "comes to an end": lambda m: 2 * m * m / (1 + m * m),
    "steep": lambda m: m**6,
    "late": lambda m: max(0.0, m - 5.0) ** 2,
    "early": lambda m: m**1.2,
    "a step": lambda m: 0.01 * m * m + 1.0 / (1 + math.exp(min(700.0, -40 * (m - 3)))),
    "rounded": lambda m: round(0.5 * m * m, 4),
    "overflows": lambda m: 0.7 * m * m if m < 50 else float("nan"),
}
WANTED = (0.001, 0.02, 0.4, 1.7)


def solve(curves, wanted, start=1.0):
    asked = []

    def measure(at, multipliers):
        asked.append(len(at))
        assert len(set(zip(at.tolist(), multipliers.tolist(), strict=True))) == len(at)
        return np.array([curves[i](m) for i, m in zip(at.tolist(), multipliers.tolist(), strict=True)])

    found, rounds = solve_doses(measure, wanted, start=np.full(len(curves), start))
    assert rounds == len(asked)
    return found, rounds


@pytest.mark.parametrize("start", [1e-3, 1.0, 40.0])
def test_all_searches_of_all_curves_end_where_bisection_does(start):
    curves = list(CURVES.values())
    wanted = [(i, value) for i in range(len(curves)) for value in WANTED]
    found, rounds = solve(curves, wanted, start)
    assert rounds <= 30
    for (i, value), one in zip(wanted, found, strict=True):
        assert one.reason == "", (list(CURVES)[i], value, one)
        assert curves[i](one.multiplier) == one.reached
        assert abs(one.reached / value - 1) <= TOLERANCE
        if list(CURVES)[i] != "rounded":  # whose values leave more room than a hundredth
            low, high = bisect(curves[i], value * (1 - TOLERANCE)), bisect(curves[i], value * (1 + TOLERANCE))
            assert low * 0.9999 <= one.multiplier <= high * 1.0001


@pytest.mark.parametrize(
    ("curve", "wanted", "said"),
    [
        (lambda m: 2 * m * m / (1 + m * m), 5.0, "it does not grow any more: 2"),
        (lambda m: m * m * math.exp(-m), 5.0, "it "),  # up to 0.54 at 2, then down
        (lambda m: 0.0, 1.0, f"it is no more than 0 up to multiplier {LARGEST:.3g}"),
        (lambda m: float("nan"), 1.0, "it is above 1 at every multiplier down to"),
        (lambda m: 0.1 if m < 2 else 10.0, 1.0, "it is 0.1 at multiplier"),
        (lambda m: 0.1 * m if m < 2 else float("nan"), 1.0, "not a finite number at"),
        (lambda m: 0.2 + m * m, 0.1, "it is above 0.1 at every multiplier"),
        (lambda m: math.log1p(1e-9 * m), 1.0, f"up to multiplier {LARGEST:.3g}"),
    ],
)
def test_a_value_that_is_never_reached_says_why(curve, wanted, said):
    (one,), _ = solve([curve], [(0, wanted)])
    assert math.isnan(one.multiplier)
    assert said in one.reason


def test_what_is_known_of_a_curve_serves_all_that_is_wanted_of_it():
    """Ten values of one curve take hardly more points than rounds of the slowest would."""
    tried = []

    def measure(at, multipliers):
        tried.extend(multipliers.tolist())
        return multipliers**2

    wanted = [(0, value) for value in np.geomspace(0.01, 10, 10)]
    found, rounds = solve_doses(measure, wanted, start=np.array([1.0]))
    assert all(not one.reason for one in found)
    assert rounds <= 3
    assert len(tried) <= 1 + 2 * len(wanted)


# Runs


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("place")
    return folder, change(make_place(folder, tokenizer), SETTINGS)


@pytest.fixture(scope="module")
def dosed(place):
    folder, config = place
    run = begin(config, folder / "dosed")
    return folder / "dosed", run.all()


def read_doses(folder):
    return list(csv.DictReader((folder / "doses.csv").read_text().splitlines()))


class Plain:
    """KL per token by full forward passes with plain hooks, one completion at a time, in float64."""

    def __init__(self, folder, report, ids):
        self.module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
        completions = report.increases.completions
        self.texts = {}
        for i, prompt in enumerate(completions.prompts):
            if prompt.id in ids:
                self.texts[prompt.id] = [
                    (
                        list(prompt.token_ids),
                        completions.token_ids[row, : completions.lengths[row]].tolist(),
                        int(completions.counts[row]),
                    )
                    for row in completions.rows_of(i)
                ]

    def log_probs(self, prompt, said, added):
        handles = []
        for layer, direction in added.items():

            def hook(_module, _inputs, output, direction=direction):
                whole = isinstance(output, tuple)
                hidden = (output[0] if whole else output).clone()
                hidden[:, len(prompt) - 1 :] += torch.as_tensor(direction, dtype=hidden.dtype)
                return (hidden, *output[1:]) if whole else hidden

            handles.append(reference.blocks_of(self.module)[layer].register_forward_hook(hook))
        with torch.no_grad():
            logits = self.module(torch.tensor([[*prompt, *said]]), use_cache=False).logits[0]
        for handle in handles:
            handle.remove()
        return logits.log_softmax(-1)[len(prompt) - 1 : -1]

    def measure(self, added):
        """Mean over prompts of KL over tokens, both means over the draws of a prompt."""
        per_prompt = []
        for texts in self.texts.values():
            kl = tokens = 0.0
            for prompt, said, count in texts:
                p, q = self.log_probs(prompt, said, {}), self.log_probs(prompt, said, added)
                kl += count * float((p.exp() * (p - q)).sum())
                tokens += count * len(said)
            per_prompt.append(kl / tokens)
        return float(np.mean(per_prompt))


def test_the_kl_that_is_asked_for_is_reached(place, dosed):
    """Against hooks and bisection by hand, for a layer alone and two at once, both signs and a random vector."""
    folder, _ = place
    out, report = dosed
    info, vectors = read_info(out), {v.name: v for v in store.read_vectors(out)}
    ids = info["doses"]["prompts"]
    assert len(ids) == 3
    plain = Plain(folder / "model", report, ids)
    rows = [row for row in read_doses(out) if float(row["dose"])]
    assert len(rows) == 2 * 2 * 3
    assert {row["layers"] for row in rows} == {"0", "0,1"}
    for row in rows:
        assert not row["reason"]
        multiplier, dose = float(row["multiplier"]), float(row["dose"])
        assert np.sign(multiplier) == np.sign(dose)
        directions = {int(k): vectors[row["vector"]].directions[int(k)] for k in row["layers"].split(",")}

        def measure(m, directions=directions, dose=dose):
            return plain.measure({k: np.sign(dose) * m * d for k, d in directions.items()})

        found = measure(abs(multiplier))
        assert found == pytest.approx(abs(dose), rel=0.02)
        assert float(row["kl_per_token"]) == pytest.approx(found, rel=1e-3)
        if row["kind"] == "target" and row["layers"] == "0":
            exact = bisect_few(measure, abs(dose), abs(multiplier))
            assert abs(multiplier) == pytest.approx(exact, rel=0.01)


def bisect_few(curve, wanted, near):
    low, high = near / 4, near * 4
    for _ in range(16):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if curve(middle) < wanted else (low, middle)
    return math.sqrt(low * high)


def test_the_report_has_the_doses(dosed):
    out, report = dosed
    cells = [c for c in report.increases.conditions if c.kind == "target" and not c.is_neutral]
    assert sorted({c.dose for c in cells}) == [-0.02, 0.02, 0.05]
    by_cell = {dose.condition: dose for dose in report.doses}
    for c in cells:
        estimate = report.estimate("kl_per_token", c)
        told = by_cell[c]
        # Over all prompts it is what was asked for within its error.
        assert abs(estimate.value - abs(c.dose)) < 4 * max(estimate.se, told.kl_se, 0.02 * abs(c.dose))
        assert told.relative > 0
    assert repr(clp.load(out).doses) == repr(report.doses)
    summary = list(csv.DictReader((out / "summary.csv").read_text().splitlines()))
    row = next(r for r in summary if r["kind"] == "target" and r["dose"] == "0.05" and r["quantity"] == "increase_all")
    told = next(d for d in report.doses if d.condition.multiplier == float(row["multiplier"]))
    assert float(row["relative_dose"]) == pytest.approx(told.relative)
    assert float(row["kl_per_token"]) == pytest.approx(report.estimate("kl_per_token", told.condition).value)
    text = format_report(report, title="x", quality={})
    assert "|mv|/|h|" in text
    assert "dose" in format_overview(report, title="x", width=200)


def test_random_vectors_stand_beside_the_cells_of_the_same_dose(dosed):
    _, report = dosed
    rows = [row for row in report.table("increase_all") if not row.condition.is_neutral]
    assert rows
    for row in report.table("increase_to_answer_A"):
        if not row.condition.is_neutral:
            assert np.isfinite(row.inference.random_mean)
    odd = report.table("increase_to_answer_A_odd")
    assert {row.condition.dose for row in odd} == {0.02}
    assert "R=1 random directions at the same KL, no p-value" in " ".join(format_overview(report, title="x").split())


def test_a_run_that_goes_on_searches_nothing_again(place, dosed, tmp_path):
    _, config = place
    shutil.copytree(dosed[0], tmp_path / "out")
    again = begin(config, tmp_path / "out")
    again.all()
    assert not again.has_worked
    (tmp_path / "out/scores.parquet").unlink()
    same = begin(config, tmp_path / "out")
    report = same.all()
    assert same.has_worked
    assert sum_work(tmp_path / "out")["tokens"] == 0
    assert repr(report.doses) == repr(dosed[1].doses)
    more = begin(change(config, {"scoring.multipliers": [-0.02, 0.02, 0.03, 0.05]}), tmp_path / "out")
    found = {d.condition.dose: d.condition.multiplier for d in more.all().doses if d.condition.kind == "target"}
    known = {d.condition.dose: d.condition.multiplier for d in report.doses if d.condition.kind == "target"}
    assert found.keys() - known.keys() == {0.03}


def test_shares_settle_the_same_doses(place, dosed, tmp_path):
    _, config = place
    begin(config, tmp_path / "out").vector()
    for part in ("0/2", "1/2"):
        work_share(make_config(config), tmp_path / "out", part, options=Options(progress=False))
    run = begin(config, tmp_path / "out")
    report = run.all()
    assert sum_work(tmp_path / "out")["tokens"] == 0
    assert [d.condition for d in report.doses] == [d.condition for d in dosed[1].doses]


def test_a_dose_that_cannot_be_reached_is_a_missing_cell_with_its_reason(place, tmp_path):
    _, config = place
    asked = change(config, {"scoring.multipliers": [0.1, 1000.0], "scoring.layers": [0]})
    report = begin(asked, tmp_path / "out").all()
    lost = [row for row in read_doses(tmp_path / "out") if row["reason"]]
    assert {float(row["dose"]) for row in lost} == {1000.0}
    assert all(row["multiplier"] == row["relative_dose"] == "" and row["kl_per_token"] for row in lost)
    assert {c.dose for c in report.increases.conditions if c.kind == "target"} == {0.0, 0.1}
    (said,) = [text for text in report.warnings if "cells are missing" in text]
    assert said.startswith("2 of 4 cells are missing")
    told = read_info(tmp_path / "out")
    assert said in told["warnings"]
    assert {one["dose"] for one in told["doses"]["missing"]} == {1000.0}
    assert repr(clp.load(tmp_path / "out").doses) == repr(report.doses)


def test_off_target_sets_are_in_the_very_cell(place, tmp_path):
    folder, config = place
    given = {**config, "off_target": [{"name": "other", "path": str(folder / "pairs.jsonl"), "limit": 6}]}
    report = begin(given, tmp_path / "out").all()
    assert report.best is not None
    assert {row.condition for row in report.off_target} == {report.best.condition}
    assert clp.load(tmp_path / "out").off_target == report.off_target


# The residual stream


def test_in_units_of_the_residual_stream(place, tmp_path):
    folder, config = place
    asked = change(config, {"scoring.unit": "residual", "scoring.multipliers": [-0.5, 0.25]})
    report = begin(asked, tmp_path / "out").all()
    plain, vectors = AutoModelForCausalLM.from_pretrained(folder / "model"), store.read_vectors(tmp_path / "out")
    completions = report.increases.completions
    known = read_info(tmp_path / "out")["norms"]
    ids = known["prompts"]
    assert ids == 3
    norms = {}
    for dose in report.doses:
        c = dose.condition
        vector = next(v for v in vectors if v.name == c.vector)
        length = float(np.linalg.norm(vector.directions[c.layer]))
        assert dose.relative == pytest.approx(abs(c.dose))
        if not c.is_neutral:
            norms.setdefault(c.layer, set()).add(round(c.multiplier * length / c.dose, 4))
    assert {layer: len(found) for layer, found in norms.items()} == {0: 1}
    # And that is how long the stream is: the mean over the steered tokens of all prompts, within what three may differ.
    lengths = []
    for i, prompt in enumerate(completions.prompts):
        for row in completions.rows_of(i):
            said = completions.token_ids[row, : completions.lengths[row]].tolist()
            for at in range(len(prompt.token_ids) - 1, len(prompt.token_ids) + len(said) - 1):
                lengths.append(float(np.linalg.norm(reference.residual(plain, [*prompt.token_ids, *said], at, 0))))
    (norm,) = norms[0]
    assert norm == pytest.approx(np.mean(lengths), rel=0.1)
    assert norm == pytest.approx(known["mean"][0], rel=1e-4)


def test_places_are_steered_tokens_by_how_often_they_were_drawn(dosed):
    completions = dosed[1].increases.completions
    for positions in ("completion", "all", "prompt", "first:2"):
        texts, index = draw_places(completions, Condition("v", "target", 0, 1.0, positions), seed=3)
        assert len(texts) == PLACES * len(completions.prompts)
        for text, at in zip(texts, index, strict=True):
            assert len(text) == at + 1
        for k, prompt in enumerate(completions.prompts):
            start, stop = Condition("v", "target", 0, 1.0, positions).find_acting(len(prompt.token_ids))
            own = index[k * PLACES : (k + 1) * PLACES]
            assert min(own) >= start
            assert stop is None or max(own) < stop
            assert max(own) <= len(prompt.token_ids) + completions.lengths.max() - 2


# What is told


def test_no_effect_is_told_from_no_dose(place, tmp_path):
    _, config = place
    weak = change(config, {"scoring.unit": "vector", "scoring.multipliers": [0.001], "scoring.layers": [0]})
    report = begin(weak, tmp_path / "weak").all()
    (said,) = [text for text in report.warnings if "no dose" in text]
    assert f"under {LEAST_KL:g}" in said
    assert 'unit = "kl"' in said
    assert report.checks["largest_kl"] < LEAST_KL
    strong = begin(change(config, {"scoring.multipliers": [0.1], "scoring.layers": [0]}), tmp_path / "strong").all()
    assert not [text for text in strong.warnings if "no dose" in text]
    assert strong.checks["largest_kl"] == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scoring.operation": "clamp"}, "leave unit at"),
        ({"scoring.operation": "ablate", "scoring.unit": "residual"}, 'or take "kl"'),
        ({"scoring.kl": False}, "kl = false"),
        ({"scoring.through": "window"}, "through = 'window'"),
        ({"sampling.temperature": 0.5}, "plain sampling"),
        ({"scoring.unit": "nats"}, "[scoring] unit is 'nats'; it must be 'vector', 'residual' or 'kl'"),
    ],
)
def test_what_does_not_go_with_a_unit_is_told(changes, said):
    base = {"scoring": {"unit": "kl", "multipliers": [0.1]}}
    with pytest.raises(InputError) as error:
        make_config(change(base, changes))
    assert said in str(error.value)


def test_tables_of_doses_that_were_edited_are_refused(dosed, tmp_path):
    shutil.copytree(dosed[0], tmp_path / "out")
    path = tmp_path / "out/doses.parquet"
    table = pyarrow.parquet.read_table(path)
    place = table.schema.get_field_index("unit")
    pyarrow.parquet.write_table(table.set_column(place, "unit", pyarrow.array(["nats"] * len(table))), path)
    with pytest.raises(InputError, match="unit 'nats' is none of"):
        store.read_doses(tmp_path / "out")
    assert json.loads((tmp_path / "out/run.json").read_text())["doses"]["rounds"] > 1


def test_on_other_prompts_a_dose_is_what_was_asked_for_within_its_error(tmp_path):
    """On the embedded model, whose prompts differ: those that took no part in the search, by cluster."""
    sections = {
        "prompts": {"limit": 36},
        "sampling": {"n": 20, "max_new_tokens": 8, "top_up": 0},
        "scoring": {"unit": "kl", "layers": [1, 2], "multipliers": [-0.1, 0.1], "dose_prompts": 12},
    }
    report = clp.run(out=tmp_path / "run", progress=False, **sections)
    solved = set(report.info["doses"]["prompts"])
    table = {name: np.asarray(values) for name, values in report.prompts.items()}
    checked = 0
    for dose in report.doses:
        if dose.condition.is_neutral or dose.condition.kind != "target":
            continue
        here = np.logical_and.reduce(
            [table[name] == value for name, value in dose.condition.columns.items() if name in table]
        )
        others = here & ~np.isin(table["prompt_id"], list(solved))
        assert (here.sum(), others.sum()) == (36, 24)
        values = table["kl_per_token"][others]
        clusters = np.unique(table["cluster"][others], return_inverse=True)[1]
        mean, se, _, _ = measure_spread(values, clusters)
        off = abs(float(mean) - abs(dose.condition.asked)) / math.hypot(float(se), dose.kl_se)
        assert off < 4
        assert 0 < dose.kl_se < 0.05 > se > 0, "an error that allows anything would prove nothing"
        checked += 1
    assert checked == 4

"""What a run says of its own rounding, against the truth, and what it does where an effect is not clear of it."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet
import pytest
import torch
from conftest import make_module, make_prompts, make_vector, random_completions

import completions_lp as clp
from completions_lp.job.config import DATA
from completions_lp.model import copy_model, draw_rounding_vector, read_residuals, wrap_model
from completions_lp.model.precision import measure_rounding, settle_precision
from completions_lp.records import Condition, SteeringVector
from completions_lp.report import summarize
from completions_lp.report.rounding import put_back, set_apart
from completions_lp.score.grid import score_tokens
from completions_lp.score.parts import score_completions
from completions_lp.stats import join_signs
from completions_lp.steer.conditions import make_conditions, place_rounding

HALVES = {"float32": "float32 residual", "weights": "throughout"}


def test_the_direction_is_a_fiftieth_of_the_stream_and_always_the_same(build_model):
    model = build_model("llama")
    vector, again = draw_rounding_vector(model), draw_rounding_vector(model)
    ids = [list(prompt.token_ids) for prompt in make_prompts()]
    norms = read_residuals(model, ids, [len(one) - 1 for one in ids], range(3)).norm(dim=-1).mean(-1).numpy()
    for layer in range(3):
        np.testing.assert_array_equal(vector.directions[layer], again.directions[layer])
        assert np.linalg.norm(vector.directions[layer]) == pytest.approx(0.02 * norms[layer], rel=0.5)
    assert (vector.name, vector.kind) == ("rounding", "rounding")
    assert draw_rounding_vector(model, ["rounding", "rounding-0"]).name == "rounding-1"


@pytest.mark.parametrize(
    ("swept", "layer"), [([4, 2, 9], 4), ([0, 1], 1), ([5], 4), ([0], 1), ([3, 3], 2), (range(12), 1)]
)
def test_it_is_added_at_another_layer_than_the_lowest(swept, layer):
    vector = SteeringVector("rounding", "rounding", {i: np.ones(4) for i in range(12)})
    found = place_rounding(vector, list(swept), n_layers=12, positions="all")
    assert found == tuple(Condition("rounding", "rounding", layer, sign, "all") for sign in (-1.0, 1.0))


def test_a_model_of_one_layer_has_it_there():
    vector = SteeringVector("rounding", "rounding", {0: np.ones(4)})
    assert place_rounding(vector, [0], n_layers=1, positions="completion")[0].layer == 0


@pytest.mark.parametrize("residual", HALVES)
def test_what_it_tells_is_the_truth_on_the_embedded_model(residual):
    """Within 30 %: the errors of real increases, against float32 arithmetic on the same weights."""
    half = clp.load_model(DATA / "tiny-chooser", dtype="bfloat16", residual=residual)
    exact = copy_model(half, range(half.n_layers), torch.float32)
    prompts = clp.load_prompts(DATA / "prompts/cautious.jsonl", half.tokenizer, limit=16)
    sampling = clp.Sampling(n=20, max_new_tokens=16)
    completions = clp.sample_completions(exact, prompts, sampling=sampling, progress=False)
    rng = np.random.default_rng(0)
    tiny = draw_rounding_vector(half)
    grown = {layer: 3 * np.linalg.norm(d) for layer, d in tiny.directions.items()}
    drawn = {layer: rng.standard_normal(half.d_model) for layer in grown}
    vector = SteeringVector("v", "target", {i: grown[i] * d / np.linalg.norm(d) for i, d in drawn.items()})
    layer = 1
    conditions = make_conditions([vector], layers=[layer], multipliers=[-1, 0.5, 1])
    told = place_rounding(tiny, [0, layer], n_layers=half.n_layers, positions="completion")

    def increases(model):
        scores = score_tokens(model, completions, [vector, tiny], [*conditions, *told], progress=False)
        return np.where(completions.mask, scores.increase, 0.0).sum(-1, dtype=np.float64)

    rounded, true = increases(half), increases(exact)
    error = np.sqrt(((rounded - true)[:-2] ** 2).mean())
    assert join_signs(rounded[-2:]).std() == pytest.approx(error, rel=0.3)
    assert join_signs(true[-2:]).std() < 0.5 * error  # in float32 it says next to nothing


def test_in_float64_it_says_next_to_nothing(tokenizer):
    model = wrap_model(make_module("llama", dtype=torch.float64), tokenizer)
    vector, tiny = make_vector(model), draw_rounding_vector(model)
    conditions = make_conditions([vector], layers=[1], multipliers=[1.0])
    told = place_rounding(tiny, [0, 1], n_layers=3, positions="completion")
    completions = random_completions(make_prompts(), per_prompt=4)
    scores = score_completions(model, completions, [vector, tiny], [*conditions, *told], progress=False)
    report = summarize(scores)
    spread = report.increases.increase.std()
    assert 0 < report.checks["rounding_sd"] < 0.02 * spread


@pytest.fixture
def records(build_model):
    """Scores with the condition that tells the rounding."""
    model = build_model("llama")
    vector, tiny = make_vector(model), draw_rounding_vector(model)
    told = place_rounding(tiny, [0, 1], n_layers=3, positions="completion")
    conditions = make_conditions([vector], layers=[1], multipliers=[-1.0, 1.0])
    completions = random_completions(make_prompts((5, 3, 12, 9, 4, 6, 7, 8)), per_prompt=6)
    label = np.resize(["A", "B", ""], len(completions))  # each prompt has all three
    completions = dataclasses.replace(completions, label=label, answer_index=np.where(label == "", -1, 0).astype("i4"))
    return score_completions(model, completions, [vector, tiny], [*conditions, *told], progress=False)


def replace_rounding(scores, values):
    """The same with other increases under the direction that tells the rounding."""
    increases = scores.increases
    parts = {name: getattr(increases, name).copy() for name in increases.PARTS}
    for name in ("increase", "increase_to_answer"):
        parts[name][-2:] = values
    return dataclasses.replace(scores, increases=dataclasses.replace(increases, **parts))


def test_it_is_no_condition_of_the_report(records):
    report = summarize(records)
    assert {row.condition.kind for row in report.rows} == {"target", "baseline"}
    assert set(report.prompts["kind"]) == {"target"}
    assert {c.kind for c in report.increases.conditions} == {c.kind for c in report.measures.conditions} == {"target"}
    kept, at, records_, apart = set_apart((records.increases, None, records.measures))
    assert (kept, at) == ([0, 1], [2, 3])
    back, _, measures = put_back(records_, apart)
    assert back.conditions == measures.conditions == records.increases.conditions
    for name in back.PARTS:
        np.testing.assert_array_equal(getattr(back, name), getattr(records.increases, name))


def test_the_numbers_are_by_their_definitions(records):
    report = summarize(records)
    increases, counts = records.increases, records.increases.completions.counts
    values = increases.increase[-2:].mean(0) * np.sqrt(4 / 3)
    mean = np.average(values, weights=counts)
    variance = (counts * (values - mean) ** 2).sum() / (counts.sum() - 1)
    assert report.checks["rounding_sd"] == pytest.approx(np.sqrt(variance))
    index = increases.completions.prompt_index
    means = [np.average(values[index == i], weights=counts[index == i]) for i in range(8)]
    assert report.checks["rounding_mean"] == pytest.approx(np.mean(means), abs=1e-12)
    assert report.checks["rounding_se"] == pytest.approx(np.std(means, ddof=1) / np.sqrt(8))
    for row in report.table("increase_all"):
        t = 2.364624  # 97.5 % of Student's t with 7 degrees of freedom
        assert row.inference.rounding == pytest.approx(
            abs(np.mean(means)) + t * np.std(means, ddof=1) / np.sqrt(8), rel=1e-5
        )


def test_a_run_without_it_says_nothing(records):
    increases, _, measures = set_apart((records.increases, None, records.measures))[2]
    report = summarize(increases, measures=measures)
    assert np.isnan([report.checks[name] for name in ("rounding_sd", "rounding_mean", "rounding_se")]).all()
    assert not [error for error in report.errors if "rounding" in error]
    assert np.isnan([row.inference.rounding for row in report.rows]).all()


def test_an_effect_that_is_not_clear_of_rounding_is_an_error(records):
    size = np.abs(records.increases.increase[:2]).max()
    assert not [error for error in summarize(records).errors if error.startswith("rounding")]
    loud = summarize(replace_rounding(records, size))  # every completion by the same: the mean is off, not the spread
    (error,) = [error for error in loud.errors if error.startswith("rounding")]
    assert "the headline is" in error
    assert 'use [model] dtype = "float32"' in error
    signs = np.resize([1.0, -1.0], len(records.increases.completions))
    wide = summarize(replace_rounding(records, size * signs))
    assert any("varies over completions by" in error for error in wide.errors)


def test_auto_takes_half_precision_where_it_pays(tokenizer, monkeypatch):
    model = wrap_model(make_module("llama", dtype=torch.bfloat16, scale=4.0), tokenizer, name="half")
    for speed, rounding, dtype in ((2.0, 0.05, torch.bfloat16), (1.1, 0.05, torch.float32), (2.0, 0.3, torch.float32)):
        monkeypatch.setattr("completions_lp.model.precision.measure_speed", lambda _, speed=speed: speed)
        monkeypatch.setattr("completions_lp.model.precision.measure_rounding", lambda _, off=rounding: off)
        fresh = copy_model(model, range(3), torch.bfloat16)
        with pytest.warns(UserWarning, match=f"dtype auto is {str(dtype)[6:]}.*{speed} times as fast.*{rounding} nats"):
            assert settle_precision(fresh).dtype == dtype


@pytest.mark.parametrize("residual", HALVES)
def test_rounding_is_measured_on_a_model_alone(tokenizer, residual):
    model = wrap_model(make_module("llama", dtype=torch.bfloat16, scale=4.0), tokenizer, residual=residual)
    exact = wrap_model(make_module("llama", dtype=torch.bfloat16, scale=4.0).float(), tokenizer)
    assert measure_rounding(model) > measure_rounding(exact) > 0
    assert (model.usage.tokens, model.usage.passes) == (0, 0)


def test_a_run_in_half_precision_tells_it_everywhere(tmp_path, capsys):
    from completions_lp import cli

    settings = ["prompts.limit=8", "sampling.n=10", "scoring.layers=[1,2]", "scoring.multipliers=[0.001]"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    out = tmp_path / "out"
    code = cli.main(["run", "--out", str(out), "--quiet", "--set", "model.dtype=bfloat16", *arguments])
    printed = capsys.readouterr().out
    info = json.loads((out / "run.json").read_text())
    assert code == 3  # an effect of a thousandth of the vector is not clear of bfloat16
    assert "ERROR" in printed
    assert "rounding: the headline is" in " ".join(printed.split())
    assert info["checks"]["rounding_sd"] > 1e-3
    assert info["model"]["residual"] == "float32"
    assert info["engines"] == {"choices": "tree", "sample": "tree", "score": "tree"}
    assert (out / "vectors/rounding.safetensors").is_file()


def test_a_gap_of_the_size_of_rounding_is_no_finding(records):
    """Sampled against scored: the same 0.2 nats are told where the run rounds by less, and not where by as much."""
    increases = records.increases
    said = increases.completions
    gap = np.resize([0.2, -0.2], len(said))
    drawn = np.where(said.mask, 0.0, np.nan)
    drawn[:, 0] = increases.baseline - gap
    increases = dataclasses.replace(increases, completions=dataclasses.replace(said, logprob=drawn))
    scores = dataclasses.replace(records, increases=increases)
    for sd, told in ((0.01, True), (0.2, False)):
        report = summarize(replace_rounding(scores, np.resize([sd, sd, -sd, -sd], len(said))))
        assert report.checks["sampler_gap_rms"] == pytest.approx(0.2)
        assert any("sampled against scored log probs" in line for line in report.warnings + report.errors) == told


def test_nothing_is_drawn_to_learn_about_rounding(tmp_path):
    """Of six draws every cell is red, that of rounding, too; the target's are topped up."""
    small = {"prompts": {"limit": 4}, "sampling": {"n": 6, "max_new_tokens": 8, "top_up": 4}}
    clp.run(out=tmp_path / "out", progress=False, **small, scoring={"layers": [1, 2], "multipliers": [1]})
    steered = pyarrow.parquet.read_table(tmp_path / "out/steered.parquet").to_pandas()
    measures = pyarrow.parquet.read_table(tmp_path / "out/measures.parquet").to_pandas()
    assert "red" in set(measures[measures.kind == "rounding"].trust)
    assert set(steered.vector) == {"cautious"}

import dataclasses

import numpy as np
import pytest
import torch
from conftest import make_module
from test_prompts import ROW, write

from completions_lp import doctor
from completions_lp.job.config import PromptsSection
from completions_lp.model import wrap_model
from completions_lp.records import InputError


@pytest.fixture(autouse=True)
def few_prompts(tmp_path, monkeypatch):
    """Short prompts instead of the embedded ones: the models here have little context."""
    path = write(tmp_path, [{**ROW, "question": word} for word in ("Is it?", "Or not", "I", "So what is it now?")])
    monkeypatch.setattr(doctor, "PromptsSection", lambda: PromptsSection(path=str(path)))


def failed(findings):
    return {finding.name for finding in findings if not finding.passed}


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral"])
def test_everything_is_right_on_a_model_that_works(build_model, architecture):
    model = build_model(architecture)
    findings = doctor.check_model(model)
    assert failed(findings) == set()
    assert len({finding.name for finding in findings}) == len(findings) == 10
    text = doctor.format_findings(model, findings)
    assert text.splitlines()[0].startswith(f"{architecture}: ")
    assert "3 layers, d_model 32" in text
    assert text.endswith("everything is computed right on this model")
    assert text.count("\nok  ") == 10


def test_limits_are_tight_enough_to_notice_steering(build_model):
    """What the checks compare differs by far more than they allow once a vector is added."""
    model = build_model("llama")
    findings = {finding.name: finding for finding in doctor.check_model(model, n_prompts=2)}
    slow = findings["scores = one full forward per sequence (completion)"]
    assert 0 < slow.value < slow.limit / 10


def break_layers(monkeypatch):
    """TokenScores are of the neighbouring layer."""
    score = doctor.score_tokens

    def shifted(model, completions, vectors, conditions, **options):
        (vector,) = vectors
        moved = dataclasses.replace(vector, directions=dict(vector.directions))
        layers = {0: 1, 1: 2, 2: 0}
        swapped = [dataclasses.replace(c, layer=layers[c.layer]) for c in conditions]
        scores = score(model, completions, [moved], swapped, **options)
        return dataclasses.replace(scores, conditions=tuple(conditions))

    monkeypatch.setattr(doctor, "score_tokens", shifted)


def break_batches(monkeypatch):
    """TokenScores drift with the batch."""
    score = doctor.score_tokens

    def drifting(*arguments, **options):
        scores = score(*arguments, **options)
        drift = 0.0 if options.get("batch_size") else np.linspace(0, 0.1, scores.logprob.shape[1])[None, :, None]
        return dataclasses.replace(scores, logprob=(scores.logprob + drift).astype(scores.logprob.dtype))

    monkeypatch.setattr(doctor, "score_tokens", drifting)


def break_zero(monkeypatch):
    """Multiplier 0 adds something."""
    score = doctor.score_tokens

    def noisy(*arguments, **options):
        scores = score(*arguments, **options)
        zero = np.array([c.multiplier == 0 for c in scores.conditions])[:, None, None]
        changed = (scores.logprob + 5e-5 * zero).astype(scores.logprob.dtype)
        return dataclasses.replace(scores, logprob=changed)

    monkeypatch.setattr(doctor, "score_tokens", noisy)


def break_sampler(monkeypatch):
    """The sampler's log probs are of other tokens."""
    sample = doctor.sample_completions

    def wrong(*arguments, **options):
        completions = sample(*arguments, **options)
        return dataclasses.replace(completions, logprob=completions.logprob - np.float32(0.1))

    monkeypatch.setattr(doctor, "sample_completions", wrong)


def break_site(monkeypatch):
    """Vectors are read one layer too early."""
    read = doctor.read_residuals

    def early(model, texts, index, layers):
        residuals = read(model, texts, index, layers)
        return torch.cat([residuals[:1], residuals[:-1]])

    monkeypatch.setattr(doctor, "read_residuals", early)


@pytest.mark.parametrize(
    ("damage", "want"),
    [
        (break_layers, {f"scores = one full forward per sequence ({p})" for p in ("completion", "all")}),
        (
            break_batches,
            {
                f"{check} ({p})"
                for p in ("completion", "all")
                for check in (
                    "scores = one full forward per sequence",
                    "scores do not depend on the batch",
                    "multiplier 0 changes nothing",
                )
            },
        ),
        (break_zero, {f"multiplier 0 changes nothing ({p})" for p in ("completion", "all")}),
        (break_sampler, {"sampled log probs = scored log probs"}),
        (break_site, {"vectors are read at hidden_states[layer + 1]"}),
    ],
)
def test_the_check_that_should_fail_fails(build_model, monkeypatch, damage, want):
    model = build_model("llama")
    damage(monkeypatch)
    findings = doctor.check_model(model)
    assert failed(findings) == want
    text = doctor.format_findings(model, findings)
    assert text.endswith(f"{len(want)} checks failed" if len(want) > 1 else "1 check failed")
    assert text.count("\nFAIL ") == len(want)


def test_what_a_model_lacks_is_found(build_model, tokenizer):
    model = dataclasses.replace(build_model("llama"), eos_ids=frozenset())
    assert failed(doctor.check_model(model, n_prompts=1)) == {"end of sequence is known"}


@pytest.mark.parametrize("residual", ["float32", "weights"])
def test_half_precision_is_checked_in_float32_and_its_rounding_is_told(tokenizer, residual):
    module = make_module("llama", dtype=torch.bfloat16, scale=4.0)
    model = wrap_model(module, tokenizer, name="half", residual=residual)
    findings = doctor.check_model(model, n_prompts=2)
    assert failed(findings) == set()
    assert max(finding.value for finding in findings if finding.unit == "nats") < 1e-4
    rounding = doctor.measure_rounding(model, n_prompts=2)
    ways = ["float32", "bfloat16 with a float32 residual stream", "bfloat16 throughout"]
    assert list(rounding) == ways
    assert 3 * rounding[ways[0]] < rounding[ways[1]] < rounding[ways[2]]
    told = doctor.format_findings(model, findings, rounding)
    assert f"{rounding[ways[2]]:.1e} in bfloat16 throughout" in told
    assert "engine: shared prefix trees" in told


def test_a_float32_model_is_told_what_half_precision_would_round(tokenizer):
    model = wrap_model(make_module("llama", scale=4.0), tokenizer, name="whole")
    rounding = doctor.measure_rounding(model, n_prompts=2)
    assert len(rounding) == 3
    double = wrap_model(make_module("llama", dtype=torch.float64, scale=4.0), tokenizer, name="double")
    assert list(doctor.measure_rounding(double, n_prompts=2)) == ["float64"]


def test_an_undefined_deviation_does_not_pass():
    assert not doctor.Finding("x", float("nan"), 1.0).passed
    assert doctor.Finding("x", 1.0, 1.0).passed
    assert not doctor.Finding("x", 1.1, 1.0).passed


def test_counts_are_printed_as_counts(build_model):
    text = doctor.format_findings(
        build_model("llama"),
        [doctor.Finding("ends", 0.0, 0.0, "missing"), doctor.Finding("apart", 3.0, 0.0, "prompts")],
    )
    assert "ends: 0 missing (allowed 0)" in text
    assert "apart: 3 prompts (allowed 0)" in text


def test_scores_that_are_no_numbers_fail(build_model, monkeypatch):
    score = doctor.score_tokens

    def spoil(*args, **options):
        scores = score(*args, **options)
        logprob = scores.logprob.copy()
        logprob[:, 0, 0] = np.nan
        return dataclasses.replace(scores, logprob=logprob)

    monkeypatch.setattr(doctor, "score_tokens", spoil)
    names = failed(doctor.check_model(build_model("llama")))
    for positions in ("completion", "all"):
        assert f"scores = one full forward per sequence ({positions})" in names
        assert f"scores do not depend on the batch ({positions})" in names
        assert f"multiplier 0 changes nothing ({positions})" in names


def test_weights_that_are_no_numbers_are_refused_before_any_check(tokenizer):
    module = make_module("llama")
    with torch.no_grad():
        module.model.norm.weight[3] = float("nan")
    with pytest.raises(InputError, match=r"weights 'model\.norm\.weight': 1 of 32 values are NaN or infinite"):
        doctor.check_model(wrap_model(module, tokenizer))

"""What a run takes with models of other shapes, on paper: against loops over every text, layer and unit."""

import json

import numpy as np
import pytest
from runs import begin, make_place

from completions_lp.checkpoint import locate
from completions_lp.checkpoint.weights import NAMED, count_weights, read_weights
from completions_lp.cli import main
from completions_lp.job.growth import cut_units, predict_run
from completions_lp.plan.costs import Workload
from completions_lp.plan.growth import CHOICE_ROW, DRAW_ROW, SCORE_ROW, Prices, predict_growth
from completions_lp.records import Condition, InputError
from completions_lp.show.text.growth import HEAD, format_bytes, format_growth, list_cells
from completions_lp.work.batches import measure_unit

LLAMA = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 12, "vocab_size": 50, "hidden_act": "silu"}
LLAMA |= {"num_attention_heads": 4, "num_key_value_heads": 2}


def test_weights_are_those_that_a_loop_over_matrices_counts():
    # Queries and the output 8 x 8, keys and values 8 x 4 (two of four heads), gate, up and down 8 x 12.
    assert count_weights("x", LLAMA).layer == 2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 12
    assert count_weights("x", LLAMA).total == 2 * count_weights("x", LLAMA).layer + 2 * 50 * 8
    plain = {"n_layer": 2, "n_embd": 8, "vocab_size": 50, "activation_function": "gelu_new", "n_head": 2}
    assert count_weights("x", plain).layer == 4 * 8 * 8 + 2 * 8 * 32
    experts = {**LLAMA, "num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": 4}
    found = count_weights("x", experts)
    assert found.layer == 2 * 8 * 16 + 2 * 8 * 8 + 2 * 3 * 8 * 12
    assert found.spare == 4 * 3 * 8 * 12
    assert count_weights("x", {"text_config": LLAMA, "vision_config": {}}).layer == count_weights("x", LLAMA).layer
    with pytest.raises(InputError, match="x: its configuration does not say how many layers"):
        count_weights("x", {"hidden_size": 8})


@pytest.mark.parametrize(("name", "billions"), [("7B", 6.74), ("70B", 70.6), ("405B", 405.9)])
def test_named_sizes_have_the_weights_that_their_names_say(name, billions):
    assert NAMED[name].total / 1e9 == pytest.approx(billions, rel=0.005)


def test_a_module_has_the_weights_that_its_configuration_tells(tmp_path, tokenizer):
    torch = pytest.importorskip("torch")
    config = make_place(tmp_path, tokenizer)
    from transformers import AutoModelForCausalLM

    weights = read_weights(locate(config["model"]["name"], None))
    module = AutoModelForCausalLM.from_pretrained(config["model"]["name"], dtype=torch.float32)
    blocks = sum(w.numel() for n, w in module.named_parameters() if ".layers." in n and "norm" not in n)
    assert weights.n_layers * weights.layer == blocks
    assert weights.head == module.lm_head.weight.numel()


def count_flops(workload, weights, prompts, conditions, layers):
    """The slow twin at the pilot's own number of draws: a loop over passes, layers and conditions."""
    d, context = weights.d_model, workload.prompt_tokens + workload.width / 2
    block, head = 2 * weights.layer + 4 * d * context, 2 * weights.head
    each = prompts / workload.n_prompts
    flops = 0.0
    for stage in ("sample", "score", "choices"):
        nodes = {"choices": workload.n_prompts, "sample": len(workload.prefixes), "score": len(workload.prefixes)}[
            stage
        ]
        flops += each * workload.n_prompts * workload.prompt_tokens * weights.n_layers * block
        for _ in range(nodes):
            flops += each * (weights.n_layers * block + head)
            for layer in layers if stage != "sample" else ():
                flops += each * ((weights.n_layers - 1 - layer) * block + head)
    assert len(layers) == conditions
    return flops


def test_flops_hours_and_money_are_those_of_a_loop_over_passes(tmp_path, tokenizer):
    run = begin(make_place(tmp_path, tokenizer), tmp_path / "run")
    run.all()
    completions = run._read_completions()
    conditions = [Condition("v", "target", layer, 1.0) for layer in (0, 5, 31)]
    workload = Workload.of(completions, conditions)
    weights, prices = NAMED["7B"], Prices(flops=1e15, utilisation=0.5, per_hour=3.0)
    above = float(np.mean([(31 - c.layer) / 32 for c in conditions]))
    size = {"prompts": 40, "samples": completions.sampling.draws, "conditions": 3}
    found = predict_growth(completions, workload, weights, unit=10**6, above=above, prices=prices, **size)
    want = count_flops(workload, weights, 40, 3, [c.layer for c in conditions])
    assert found.flops == pytest.approx(want, rel=1e-9)
    assert found.hours == pytest.approx(want / 5e14 / 3600)
    assert found.money == pytest.approx(3 * found.hours)
    assert found.tokens["score"] == pytest.approx(workload.weigh("score", 40, completions.sampling.draws, 3))
    # Twice the prompts are twice the work, and the store; conditions add tokens and no draws.
    twice = predict_growth(completions, workload, weights, unit=10**6, above=above, **{**size, "prompts": 80})
    assert twice.flops == pytest.approx(2 * found.flops)
    assert twice.stored == pytest.approx(2 * found.stored)
    assert 2 * found.files >= twice.files >= found.files
    assert twice.straggler == pytest.approx(found.straggler * 1e15 * 0.5 / (989e12 * 0.3))


def test_bytes_and_files_are_those_of_the_units_that_a_run_writes(tmp_path, tokenizer):
    """At the pilot's own size: bytes to a part, since small units are mostly names; files exactly."""
    from completions_lp import store

    config = make_place(tmp_path, tokenizer)
    config["sampling"]["top_up"] = 0
    run = begin(config, tmp_path / "run")
    run.all()
    completions, increases = run._read_completions(), begin(config, tmp_path / "run").all().increases
    workload = Workload.of(completions, increases.conditions)
    n = len(increases.conditions)
    size = {"prompts": workload.n_prompts, "samples": workload.samples, "conditions": n}
    found = predict_growth(completions, workload, NAMED["7B"], unit=measure_unit(run.network), **size)
    units = store.list_units(tmp_path / "run")
    assert found.files == len(units)
    tokens = int(completions.lengths.sum())
    want = DRAW_ROW * tokens + CHOICE_ROW * workload.n_prompts * (1 + n) + SCORE_ROW * tokens * (1 + n)
    assert found.stored == pytest.approx(want)
    assert found.traffic == 2 * found.stored


def test_a_prompt_that_is_several_units_goes_through_unsteered_in_each(tmp_path, tokenizer, monkeypatch):
    from completions_lp import store

    config = make_place(tmp_path, tokenizer)
    config["sampling"]["top_up"] = 0
    config["scoring"]["multipliers"] = np.linspace(0.1, 2, 12).tolist()
    whole = begin(config, tmp_path / "whole").all()
    workload = Workload.of(whole.increases.completions, whole.increases.conditions)
    n = len(whole.increases.conditions)
    size = {"prompts": workload.n_prompts, "samples": workload.samples, "conditions": n}
    monkeypatch.setattr("completions_lp.work.batches.UNIT", 60)
    begin(config, tmp_path / "cut").all()
    units = [name for name in store.list_units(tmp_path / "cut") if "/scores/" in name]
    (one, cut) = (
        predict_growth(whole.increases.completions, workload, NAMED["7B"], unit=unit, **size) for unit in (10**6, 60)
    )
    made = len(units) / workload.n_prompts
    assert made > 3
    others = workload.n_prompts * 2  # draws and read-outs, of which each is a unit
    assert (cut.files - others) / workload.n_prompts == pytest.approx(made, rel=0.25)
    assert cut.tokens["score"] > one.tokens["score"]
    assert cut.straggler < one.straggler


def test_units_take_half_a_minute_of_whatever_a_model_is_on():
    """At 0.3 of 989 TFLOPS: of one device, or of as many as hold the weights."""
    for name, devices in (("7B", 1), ("70B", 3), ("405B", 13)):
        flops = 2 * cut_units(NAMED[name]) * NAMED[name].total
        assert 10 < flops / (devices * 989e12 * 0.3) < 60


def test_the_largest_models_take_more_devices_and_smaller_units(tmp_path, tokenizer):
    begin(make_place(tmp_path, tokenizer), tmp_path / "run").all()
    found = predict_run(tmp_path / "run", ["7B", "70B", "405B"], prompts=1000, samples=100, conditions=500)
    assert [growth.devices for growth in found] == [1, 3, 13]
    assert found[0].flops < found[1].flops / 5 < found[2].flops / 25
    assert cut_units(NAMED["405B"]) < cut_units(NAMED["7B"])
    assert found[0].files <= found[1].files <= found[2].files
    assert len({growth.stored for growth in found}) == 1
    text = format_growth(found, width=200)
    assert text.splitlines()[0] == "1000 prompts x 100 samples x 500 conditions"
    for name in HEAD:
        assert name in text
    assert all(cell in text for growth in found for cell in list_cells(growth))


def test_the_command_predicts_and_refuses(tmp_path, tokenizer, capsys):
    place = make_place(tmp_path, tokenizer)
    begin(place, tmp_path / "run").all()
    run = str(tmp_path / "run")
    assert main(["plan", run, "--shape", "7B", "--shape", place["model"]["name"], "--price", "4"]) == 0
    assert "7B" in capsys.readouterr().out
    for words, told in (
        (["--shape", "7B", "--utilisation", "3"], "utilisation is 3; it must be above 0 and at most 1"),
        (["--shape", "7B", "--price", "-1"], "per_hour is -1; it must be above 0"),
        (["--shape", "7B", "--prompts", "-1"], "prompts is -1; at least 1 is needed"),
        (["--shape", str(tmp_path / "none")], "none"),
    ):
        assert main(["plan", run, *words]) == 2
        assert told in capsys.readouterr().err
    (tmp_path / "model" / "config.json").write_text(json.dumps({"hidden_size": 4}))
    assert main(["plan", run, "--shape", place["model"]["name"]]) == 2
    assert "does not say how many layers" in capsys.readouterr().err


def test_bytes_are_said_in_the_unit_that_fits():
    assert [format_bytes(size) for size in (5e2, 2.5e6, 3e9, 4.44e13)] == ["0.5 kB", "2.5 MB", "3 GB", "44.4 TB"]

"""A vector that is exported for lm-evaluation-harness gives, under it, the log likelihoods that a run reports."""

import importlib.util
import json

import numpy as np
import pytest

from completions_lp import cli
from completions_lp.job.config import DATA
from completions_lp.job.results import load
from completions_lp.store.lm_eval import split_answers

if importlib.util.find_spec("lm_eval") is None:
    pytest.skip("lm_eval is not installed (it is in the dev extra)", allow_module_level=True)

LAYER, MULTIPLIER = 2, 1.0
TASK = """
task: choices
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
target_delimiter: ""
num_fewshot: 0
metric_list:
  - metric: acc
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that steers every position, as lm-eval does."""
    folder = tmp_path_factory.mktemp("runs") / "all"
    changes = ("prompts.limit=4", "sampling.n=2", f"scoring.layers=[{LAYER}]", f"scoring.multipliers=[{MULTIPLIER}]")
    changes += ('scoring.positions="all"', "controls.random_directions=0")
    options = [option for change in changes for option in ("--set", change)]
    assert cli.main(["run", "--quiet", "--out", str(folder), *options]) == 0
    return folder


@pytest.fixture(scope="module")
def evaluated(folder, tmp_path_factory):
    """Samples as lm-eval logs them, by what is done: nothing, or the vector that a run has exported."""
    from datasets import disable_progress_bars
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    disable_progress_bars()
    place = tmp_path_factory.mktemp("lm_eval")
    prompts = load(folder).choices.prompts
    rows = []
    for prompt in prompts:
        context, answers = split_answers(prompt)
        rows.append({"context": context, "choices": list(answers), "gold": prompt.letters.index(prompt.matching)})
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (place / "choices.yaml").write_text(TASK.format(data=place / "rows.jsonl"), encoding="utf-8")
    (vector,) = [path for path in (folder / "vectors").glob("*.safetensors") if path.stem != "rounding"]
    hooks = place / "hooks.pt"
    options = ["--format", "lm-eval", "--layer", str(LAYER), "--out", str(hooks)]
    assert cli.main(["vectors", "export", str(vector), *options]) == 0
    found = {}
    for name, told in (("hf", {}), ("steered", {"steer_path": str(hooks)})):
        results = simple_evaluate(
            model=name,
            model_args={"pretrained": str(DATA / "tiny-chooser"), "dtype": "float32", **told},
            tasks=["choices"],
            task_manager=TaskManager(include_path=str(place), include_defaults=False),
            device="cpu",
            batch_size=1,
            bootstrap_iters=0,
            log_samples=True,
        )
        found[name] = sorted(results["samples"]["choices"], key=lambda sample: sample["doc_id"])
    return found


@pytest.mark.filterwarnings("default")
def test_log_likelihoods_are_those_of_the_run(folder, evaluated):
    choices = load(folder).choices
    (c,) = [i for i, one in enumerate(choices.conditions) if one.kind == "target" and one.multiplier == MULTIPLIER]
    for name, ours in (("hf", choices.baseline_all_whole), ("steered", choices.all_whole[c])):
        theirs = [[float(response[0][0]) for response in sample["resps"]] for sample in evaluated[name]]
        np.testing.assert_allclose(np.array(theirs), ours, atol=2e-5)  # float32, one text a pass
    assert np.abs(choices.all_whole[c] - choices.baseline_all_whole).max() > 2e-3, "the vector does nothing"


@pytest.mark.filterwarnings("default")
def test_exported_samples_are_as_lm_eval_logs_them(folder, evaluated, tmp_path):
    assert cli.main(["export", str(folder), "--format", "lm-eval", "--name", "choices", "--out", str(tmp_path)]) == 0
    names = {"hf": "tiny-chooser__unsteered", "steered": f"tiny-chooser__layer={LAYER}_multiplier={MULTIPLIER}"}
    for name, place in names.items():
        (path,) = (tmp_path / place).glob("samples_choices_*.jsonl")
        ours = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for mine, theirs in zip(ours, evaluated[name], strict=True):
            assert theirs.keys() >= mine.keys(), set(mine) - set(theirs)
            for key in ("doc_id", "filter", "metrics", "acc", "prompt_hash", "target_hash"):
                assert mine[key] == theirs[key], key
            assert mine["target"] == str(theirs["target"])
            requests = [[one["arg_0"], one["arg_1"]] for one in mine["arguments"].values()]
            assert requests == [list(request[:2]) for request in theirs["arguments"]]
            assert np.array(mine["resps"]).shape == np.array(theirs["resps"], dtype=object).shape
            assert [len(one) for one in mine["filtered_resps"]] == [len(one) for one in theirs["filtered_resps"]]

"""On a GPU, where there is one: the numbers of a CPU by every way, in half precision, spread over several, and the
benchmark. What needs two GPUs is left out with one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from everything import compare, make_everything
from families import make_module

import completions_lp as clp
from completions_lp.model.engine import compare_engines
from completions_lp.model.output import find_head

ROOT = Path(__file__).parent.parent
there = torch.cuda.device_count() if torch.cuda.is_available() else 0
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(there == 0, reason="no CUDA device")]
two = pytest.mark.skipif(there < 2, reason="one CUDA device")
FLOAT32 = 5e-4
"""What is allowed of two right ways in float32."""


@pytest.fixture(scope="module", params=["llama", "gemma2", "mistral", "gpt2"])
def folder(request, tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp(request.param)
    make_module(request.param).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_every_engine_gives_the_numbers_of_a_cpu(folder):
    on_cpu, on_gpu = (clp.load_model(folder, device=device, dtype="float32") for device in ("cpu", "cuda"))
    assert on_gpu.fingerprint() == on_cpu.fingerprint()
    assert compare_engines(on_gpu).exact
    kinds = ("scores", "choices", "vectors")  # a draw near an edge may be another one
    off = compare(make_everything(on_cpu, kinds=kinds), make_everything(on_gpu, kinds=kinds))
    assert max(off.values()) < FLOAT32


def test_trees_draw_what_rows_draw(folder):
    found = make_everything(clp.load_model(folder, device="cuda", dtype="float32"), kinds=("draws",))
    assert found
    for name, value in found.items():
        if name.startswith("draws tree") and not name.endswith("logprob"):
            assert (value == found[name.replace("tree", "rows", 1)]).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_rounds_as_plain_rows_do(dtype, folder):
    model = clp.load_model(folder, device="cuda", dtype=dtype)
    compared = compare_engines(model)
    assert compared.exact, compared.describe()
    assert find_head(model) is not None


def test_weights_in_memory_give_the_same(folder):
    whole = clp.load_model(folder, device="cuda:0", dtype="float32")
    blocks = "transformer.h" if hasattr(whole.module, "transformer") else "model.layers"
    spread = clp.load_model(folder, dtype="float32", device_map={"": 0, f"{blocks}.1": "cpu", f"{blocks}.2": "disk"})
    assert spread.fingerprint() == whole.fingerprint()
    assert set(compare(make_everything(whole), make_everything(spread)).values()) == {0.0}


@two
@pytest.mark.parametrize("device_map", ["halves", "balanced"])
def test_two_gpus_give_the_numbers_of_one(device_map, folder):
    whole = clp.load_model(folder, device="cuda:0", dtype="float32")
    blocks = "transformer.h" if hasattr(whole.module, "transformer") else "model.layers"
    halves = {"": 0, f"{blocks}.1": 1, f"{blocks}.2": 1}
    spread = clp.load_model(folder, dtype="float32", device_map=halves if device_map == "halves" else device_map)
    assert spread.fingerprint() == whole.fingerprint()
    assert set(compare(make_everything(whole), make_everything(spread)).values()) == {0.0}


@two
def test_two_gpus_share_a_model(tmp_path, tokenizer):
    make_module("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(ROOT / "tests/rank_cases.py"), "all", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))["found"]
    assert max(found[str(tmp_path)]["off"].values()) < FLOAT32


def test_the_benchmark_fills_its_table(tmp_path):
    shutil.copy(ROOT / "analysis/README.md", tmp_path)
    command = [
        str(ROOT / "analysis/benchmark.py"),
        "--device",
        "cuda",
        "--quick",
        "--fill",
        str(tmp_path / "README.md"),
    ]
    command += ["--out", str(tmp_path / "out.json"), "--models", "15M"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Measured on {torch.cuda.get_device_name()} in bfloat16" in (tmp_path / "README.md").read_text()

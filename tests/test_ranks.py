"""Processes that share one model: the numbers of one process, from one of them; what is wrong is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from families import COMMON, LLAMA, make_module

import completions_lp as clp
from completions_lp.checkpoint import OutOfStep, Rank, check_ranks, find_rank
from completions_lp.job.config import format_defaults, make_config
from completions_lp.job.outset import check_input
from completions_lp.model.memory import Room
from completions_lp.model.spread import Spread
from completions_lp.records import InputError
from completions_lp.work.keys import describe_network
from completions_lp.work.ranks import Channel, Together

TESTS = Path(__file__).parent
MIXTRAL = {**COMMON, **LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
MEET = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1")
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", *MEET]


def start(*command, check=True):
    """Two processes on this machine; what they print."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *TORCHRUN, *map(str, command)],
        **{"cwd": TESTS.parent, "env": environment, "capture_output": True, "text": True, "timeout": 600},
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def ask(*command):
    done = start(TESTS / "rank_cases.py", *command)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))["found"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tokenizer):
    """Tiny models' files, by family."""
    place = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mixtral = transformers.MixtralForCausalLM(transformers.MixtralConfig(**MIXTRAL))
    modules = {name: make_module(name) for name in ("llama", "gemma2")} | {"mixtral": mixtral}
    for name, module in modules.items():
        module.save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)
    return {name: str(place / name) for name in modules}


def test_two_processes_give_the_numbers_of_one_to_rounding(folders):
    found = ask("all", *folders.values())
    for name, folder in folders.items():
        one = found[folder]
        assert one["shared"] == 2
        assert one["weights"], name
        assert one["config"], name
        assert one["described"] == {}
        assert one["exact"], name  # the shared tree with our own attention
        assert one["local"] == [16, 32]  # half of the queries' weights
        assert len(one["off"]) > 10
        assert 0 < max(one["off"].values()) < 5e-5, name  # a tenth of what is allowed of two ways in float32


def test_in_half_precision_too(folders):
    assert ask("half", folders["llama"]) == {"weights": True, "exact": True}


def test_an_error_that_all_come_to_is_told_once_and_all_go_on(folders):
    assert ask("alike", folders["llama"]) == {"told": "something is wrong everywhere", "after": True}


def test_an_error_that_one_comes_to_alone_ends_all(folders, monkeypatch):
    monkeypatch.setenv("COMPLETIONS_LP_BEHIND", "2")
    done = start(TESTS / "rank_cases.py", "alone", folders["llama"], check=False)
    assert done.returncode != 0
    assert "completions-lp: rank 1 of 2: something is wrong here" in done.stderr


SMALL = ("sampling.n=4", "prompts.limit=2", "scoring.layers=[1]", "controls.random_directions=1", "sampling.top_up=0")


def test_a_run_of_two_processes_is_written_by_one(tmp_path):
    asked = [word for setting in SMALL for word in ("--set", setting)]
    shared = start("-m", "completions_lp", "run", "--out", tmp_path / "two", *asked, "--set", "model.tp_size=2")
    assert shared.stdout.count("Run directory") == 1
    assert shared.stderr.count("sample:   0%") == 1  # one bar, of the one that talks
    assert [path.name for path in tmp_path.iterdir()] == ["two"]
    alone = clp.run(make_config(json.loads((tmp_path / "two/run.json").read_text())["config"] | {"model": {}}))
    both = (pd.DataFrame(vars(alone.increases)["increase"]), clp.load(tmp_path / "two").increases.increase)
    assert abs(both[0].to_numpy() - both[1]).max() < 5e-5
    network = clp.load(tmp_path / "two").info["model"]
    assert describe_network(network) == describe_network(alone.info["model"])  # so finished work is found again


def test_the_doctor_examines_a_shared_model():
    done = start("-m", "completions_lp", "doctor", "--set", "model.tp_size=2", "--set", "prompts.limit=3")
    assert done.stdout.count("beyond loading") == 1
    assert "FAIL" not in done.stdout


def test_commands_that_need_no_model_end(tmp_path):
    done = start("-m", "completions_lp", "config")
    assert done.stdout == format_defaults()
    done = start("-m", "completions_lp", "status", tmp_path / "nowhere", check=False)
    assert done.stderr.count("not a run directory") == 1


TORCH = {"MASTER_ADDR": "127.0.0.1"}


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, Rank(0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2", **TORCH}, Rank(1, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Rank(0, 1)),  # of another launcher, who makes no group
        ({"RANK": "", "WORLD_SIZE": "2", **TORCH}, Rank(0, 1)),
    ],
)
def test_ranks_are_found_in_the_environment(environment, rank):
    assert find_rank(environment) == rank
    assert rank.leads == (rank.number == 0)


@pytest.mark.parametrize(
    ("size", "started", "told"),
    [
        (2, 1, "tp_size is 2, and this is one process: start all of them, with torchrun --nproc-per-node 2 -m compl"),
        (4, 2, r"2 processes were started by torchrun, and tp_size is 4: set \[model\] tp_size = 2, or start 4"),
        (1, 2, "2 processes were started by torchrun, and tp_size is 1: .* or start one without torchrun"),
    ],
)
def test_another_number_of_processes_is_told(size, started, told):
    with pytest.raises(InputError, match=told):
        check_ranks(size, Rank(0, started))
    check_ranks(started, Rank(0, started))


def test_without_torchrun_nothing_is_loaded(monkeypatch):
    monkeypatch.setattr("completions_lp.model.loading.read_module", None)
    with pytest.raises(InputError, match="tp_size is 2, and this is one process"):
        clp.load_model(clp.job.config.DATA / "tiny-chooser", tp_size=2)
    with pytest.raises(InputError, match="tp_size is 2, and this is one process"):
        check_input(make_config({"model": {"tp_size": 2}}), ())


@pytest.fixture
def two(monkeypatch):
    """This process is the first of two, as it thinks."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", **TORCH}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("two")
def test_a_model_that_cannot_be_shared_is_told(folders):
    with torch.device("meta"):
        odd = transformers.LlamaForCausalLM(transformers.LlamaConfig(**COMMON, **LLAMA | {"num_key_value_heads": 1}))
        bloom = transformers.BloomForCausalLM(transformers.BloomConfig(n_layer=1, n_head=2, hidden_size=8))
    with pytest.raises(InputError, match="has 1 key and value heads, which so many processes cannot share evenly: non"):
        Spread(tp_size=2).list_options(lambda: odd)
    with pytest.raises(InputError, match="BloomForCausalLM has no plan for tensor parallelism; leave tp_size out"):
        Spread(tp_size=2).list_options(lambda: bloom)
    with pytest.raises(InputError, match="device_map is 'auto' and tp_size 2; give one of the two"):
        clp.load_model(folders["llama"], device_map="auto", tp_size=2)


def test_a_run_is_led_by_the_first(two, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(InputError, match="rank 1 of 2 cannot make a run: start all of them with torchrun"):
        Together({"tp_size": 2})


def test_workers_and_ranks_do_not_go_together():
    with pytest.raises(InputError, match=r"\[run\] workers is 2 and \[model\] tp_size 2: workers have a model each"):
        make_config({"model": {"tp_size": 2}, "run": {"workers": 2}})


def test_memory_that_ran_out_ends_a_shared_run():
    def work(_):
        raise MemoryError("no more")

    room = Room(2**30, together=True)
    with pytest.raises(OutOfStep, match=r"memory ran out \(no more\); .* \[run\] memory_budget below 1 \(GiB\)"):
        list(room.share([1, 2], work, each=1))


def test_what_is_asked_is_kept_until_all_have_read_it(monkeypatch):
    store = torch.distributed.HashStore()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: store)
    leader, *others = (Channel(Rank(number, 3)) for number in range(3))
    for text in (b"one", b"two", b"three"):
        leader.send(text)
    assert [others[0].receive() for _ in range(3)] == [b"one", b"two", b"three"]
    leader.send(b"four")
    assert leader.kept == [1, 2, 3, 4]
    assert [others[1].receive() for _ in range(4)] == [b"one", b"two", b"three", b"four"]
    leader.send(b"")
    assert leader.kept == [4, 5]
    assert others[0].receive() == b"four"
    leader.enter(4, "InputError")
    assert others[0].look_up(4) == "InputError"

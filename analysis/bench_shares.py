"""What the machine that hands out work holds, and how many files a run makes: at any size, the model costs nothing.

    python analysis/bench_shares.py PROMPTS CONDITIONS [--parts N] [--tables] [--unit N]
    python analysis/bench_shares.py --all

A share of a run of a 7B-shaped model on a GPU, whose draws and scores are random numbers of the right shapes. All else
is the real thing: how work is split into units, the store and its listing, what is read out of units, how scores are
reduced. Prints a line of JSON: seconds, peak memory above the start in MiB, units, files, bytes. With ``--parts`` only
the first of so many shares is done, with ``--unit`` units are of so many tokens times conditions; with ``--tables`` the
tables of the whole run are made of the units afterwards, in this process, and their peak is told apart. ``--all`` does
the sizes of analysis/README.md, each in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from completions_lp import store
from completions_lp.job.config import DATA, Config, make_config
from completions_lp.job.ledger import Options
from completions_lp.job.provenance import describe_stage
from completions_lp.job.share import Share
from completions_lp.job.stages import Run
from completions_lp.model import Usage, load_tokenizer
from completions_lp.records import Choices, Completions, Condition, Draw, Prompt, Sampling, SteeringVector, TokenScores
from completions_lp.work import batches, tasks

SHAPE = {"n_layers": 32, "d_model": 4096, "vocab_size": 32_000, "device": "cuda"}
MULTIPLIERS = 31
DRAWS, TEXTS, TOKENS = 8, 4, 6
"""Draws of a prompt, how many of them are distinct, and tokens of each."""
SIZES = ((1000, 10), (10_000, 10), (100_000, 10), (1000, 100), (10_000, 100), (1000, 1000))


def simulate(prompts: int, conditions: int, *, parts: int = 1, tables: bool = False) -> dict[str, float]:
    """Do a share of a run of this size; see the head of this file for what comes back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        config = lay_out(Path(name), folder, prompts, conditions)
        model = FakeModel()
        with patched(config):
            run = Share(config, folder, 0, parts, options=Options(progress=False))
            start_model(run, model)
            _ = run.prompts
            asked, start, before = _read_memory("VmRSS"), time.perf_counter(), _reset_peak()
            made = run.work()
            found: dict[str, float] = {
                "prompts": prompts,
                "conditions": len(run.make_conditions(store.read_vectors(folder))),
                "seconds": time.perf_counter() - start,
                "peak_mib": (_read_memory("VmHWM") - before) / 1024,
                "prompts_mib": asked / 1024,
                "units": made,
            }
            listed = store.list_units(folder)
            found |= {"files": len(listed), "mb": sum(listed.values()) / 1e6}
            del run
            if tables:
                found |= make_tables(config, folder, model)
    return found


def make_tables(config: Config, folder: Path, model: Any) -> dict[str, float]:
    """The tables of the sample and the score stage, of units that are there."""
    run = Run(config, folder, options=Options(progress=False))
    start_model(run, model)
    model.usage.passes, before, start = 0, _reset_peak(), time.perf_counter()
    with (
        mock.patch("completions_lp.job.stages.check_instrument", return_value={}),
        mock.patch(
            "completions_lp.job.dosing.read_norms", lambda _, texts, __, layers: np.ones((len(layers), len(texts)))
        ),
    ):
        completions = run.sample()
        run.score(completions, store.read_vectors(folder))
    if model.usage.passes:
        raise SystemExit("something was not found in the units")
    rows = len(completions) * len(run.make_conditions(store.read_vectors(folder)))
    peak = (_read_memory("VmHWM") - before) / 1024
    return {"tables_seconds": time.perf_counter() - start, "tables_peak_mib": peak, "rows": rows}


def lay_out(place: Path, folder: Path, prompts: int, conditions: int) -> Config:
    """A file of prompts, a vector, and a run directory that has its vector stage behind it; the configuration."""
    rows = [json.loads(line) for line in (DATA / "prompts" / "cautious.jsonl").read_text().splitlines()]
    with (place / "asked.jsonl").open("w") as file:
        for i in range(prompts):
            row = rows[i % len(rows)]
            file.write(json.dumps({**row, "question": f"{i}. {row['question']}", "id": f"p{i}"}) + "\n")
    multipliers = min(MULTIPLIERS, max(1, conditions // 5))
    layers = -(-conditions // multipliers)
    rng = np.random.default_rng(0)
    directions = {layer: rng.standard_normal(SHAPE["d_model"]).astype(np.float32) for layer in range(layers)}
    vector = SteeringVector("v", "target", directions, {})
    config = make_config(
        {
            "prompts": {"path": str(place / "asked.jsonl")},
            "vector": {"path": str(store.write_vector(place, vector))},
            "sampling": {"n": DRAWS, "max_new_tokens": TOKENS},
            "scoring": {"layers": list(range(layers)), "multipliers": np.linspace(0.1, 3, multipliers).tolist()},
        }
    )
    info: dict[str, Any] = {"stages": {}, "files": [store.name_file("v")], "config": config.model_dump()}
    store.start_run(folder, info)
    store.write_vectors(folder, [vector])
    info["stages"]["vector"] = describe_stage("vector", info, folder, consumed={})
    store.write_info(folder, info)
    return config


class FakeModel:
    """Stands where a model does, and computes nothing."""

    name = "nothing"
    context_length = 10**6
    n_layers, d_model = SHAPE["n_layers"], SHAPE["d_model"]

    def __init__(self) -> None:
        self.usage = Usage()
        self.tokenizer = load_tokenizer(str(DATA / "tiny-chooser"))

    def check_tokens(self, *_: Any) -> None:
        """Any ids are known."""


def start_model(run: Run, model: Any) -> None:
    """Have a run use a model that is no model."""
    told = dict.fromkeys(("weights", "config", "tokenizer"), "0" * 64) | {"dtype": "bfloat16", "residual": "float32"}
    run.__dict__ |= {"model": model, "tokenizer": model.tokenizer, "network": {**SHAPE, **told, "name": "nothing"}}


def patched(config: Config) -> Any:
    """Random numbers where a network would be asked."""
    tokenizer = load_tokenizer(config.model.name)
    said = [tokenizer.encode(f" ({letter})", add_special_tokens=False) for letter in "AB"]
    rng = np.random.default_rng(0)

    def draw(_model: Any, prompts: Sequence[Prompt], sampling: Sampling, **_: Any) -> list[list[Draw]]:
        _model.usage.passes += 1
        return [make_draws(rng, said, sampling.n) for _ in prompts]

    def score(
        _model: Any, said: Completions, at: Sequence[Any], _vectors: Any, conditions: Sequence[Condition], **_: Any
    ) -> Any:
        _model.usage.passes += 1
        return make_scores(rng, said, conditions), np.empty((0, 0)), np.empty((len(conditions), 0, 0))

    def read(
        _model: Any, prompts: Sequence[Prompt], _vectors: Any, conditions: Sequence[Condition], **_: Any
    ) -> Choices:
        _model.usage.passes += 1
        return make_choices(rng, prompts, conditions)

    return mock.patch.multiple(tasks, draw_samples=draw, score_places=score, read_choices=read)


def make_draws(rng: np.random.Generator, said: Sequence[list[int]], n: int) -> list[Draw]:
    """``n`` draws of a prompt, ``TEXTS`` of them distinct, each with an answer."""
    words = rng.integers(300, 1000, size=(TEXTS, TOKENS)).tolist()
    logprob = np.log(rng.uniform(0.05, 0.7, size=(TEXTS, TOKENS))).tolist()
    draws = []
    for i, own in enumerate(words):
        answer = said[i % 2]
        ids = [*own[: TOKENS - len(answer)], *answer]
        draws.append(Draw(ids, logprob[i][: len(ids)], list(range(i, n, TEXTS))))
    return draws


def make_scores(rng: np.random.Generator, said: Completions, conditions: Sequence[Condition]) -> TokenScores:
    """Scores of completions: log probs, divergences and answers as a network gives them, in single precision."""
    shape = (len(conditions), *said.token_ids.shape)

    def make(*size: int) -> Any:
        return np.log(rng.random(size, dtype=np.float32) * 0.6 + 0.05)

    answers = make(*shape[1:], 2)
    return TokenScores(
        said,
        tuple(conditions),
        make(*shape[1:]),
        make(*shape),
        entropy=-make(*shape[1:]),
        kl=-make(*shape),
        kl_reverse=-make(*shape),
        baseline_answers=answers,
        answers=make(*shape, 2),
    )


def make_choices(rng: np.random.Generator, prompts: Sequence[Prompt], conditions: Sequence[Condition]) -> Choices:
    """A read-out of two answers."""

    def make(*size: int) -> Any:
        return np.log(rng.uniform(0.05, 0.4, size=size))

    n, c = len(prompts), len(conditions)
    pairs = tuple(prompt.pair("matching") for prompt in prompts)
    arrays = {name: make(c, n, 2) for name in Choices.STEERED}
    unsteered = {Choices.name_unsteered(name): make(n, 2) for name in Choices.STEERED}
    offered = tuple(prompt.letters for prompt in prompts)
    return Choices(tuple(prompts), pairs, tuple(conditions), offered=offered, **unsteered, **arrays)


def _reset_peak() -> int:
    """Forget the peak so far, where the system allows it (Linux); memory in KiB that is taken now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _read_memory("VmRSS")


def _read_memory(field: str) -> int:
    """KiB, from Linux's own account."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line of JSON for a size, or for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", type=int, nargs="*", metavar="PROMPTS CONDITIONS")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--unit", type=int)
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args(arguments)
    if args.all:
        for size in SIZES:
            subprocess.run([sys.executable, __file__, *map(str, size)], check=True)
        return
    if args.unit:
        batches.LARGE = batches.SPREAD = args.unit
    print(json.dumps({k: round(v, 2) for k, v in simulate(*args.size, parts=args.parts, tables=args.tables).items()}))


if __name__ == "__main__":
    main()

"""How time and memory grow, and what a trace costs: the three smaller measurements of the benchmark."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_floor import grid_work, interleave, sampling_work
from bench_models import Case, Setting, make_case, sharpen

from completions_lp.records import Completions, ContrastPair, Labelling, Sampling
from completions_lp.sample.draws import sample_completions
from completions_lp.score.choices import read_choices
from completions_lp.score.grid import score_tokens
from completions_lp.steer.vectors import read_differences

GROWTH: dict[str, tuple[int, ...]] = {
    "samples": (10, 30, 100, 300),
    "prompts": (1, 2, 4, 8),
    "layers": (3, 6, 12),
    "multipliers": (1, 2, 4, 8),
    "prompt length": (50, 100, 200),
    "new tokens": (5, 10, 20, 40),
}


@dataclass(frozen=True)
class Growth:
    """Time against one variable, all others fixed; the law is the FLOPs of the real trees."""

    variable: str
    stage: str
    values: tuple[int, ...]
    seconds: tuple[float, ...]
    gflop: tuple[float, ...]
    slope: float
    """Of log time against log value, by least squares."""
    law: float
    """The same of the law."""

    def __str__(self) -> str:
        seconds = ", ".join(f"{v}: {s:.3g} s" for v, s in zip(self.values, self.seconds, strict=True))
        return f"{self.stage:9}~ {self.variable}^{self.slope:.2f} (law {self.law:.2f})   {seconds}"


@dataclass(frozen=True)
class Trace:
    """What nnsight adds to a forward pass of one token, in ms; medians, and the median of the paired differences."""

    raw: float
    wrapped: float
    traced: float
    added: float


@dataclass(frozen=True)
class Peak:
    """Peak memory of a stage above the loaded model, measured in a process of its own."""

    stage: str
    vocab: int
    prompts: int
    """Prompts in the batch."""
    nodes: int
    """Nodes of each prompt's tree."""
    conditions: int
    budget: float = 1.0
    """GiB that a pass may take."""
    length: int = 90
    """Tokens of a prompt."""
    new_tokens: int = 10
    mib: float = 0.0

    def __str__(self) -> str:
        work = (
            f"{self.prompts} prompt(s) of {self.length} tokens, {self.nodes} nodes of up to {self.new_tokens} new "
            f"tokens, {self.conditions} conditions"
        )
        return (
            f"{self.stage:9}{self.mib:7.0f} MiB above the model: vocabulary {self.vocab}, {work}, {self.budget:g} GiB"
        )


def run_sampling(case: Case, *, batch_size: int | None = None) -> Completions:
    """Our sampling of all prompts of a case."""
    return sample_completions(
        case.model, case.prompts, sampling=case.sampling, batch_size=batch_size, engine="tree", progress=False
    )


def measure_growth(base: Setting, *, repeats: int, quick: bool, **place: str) -> Iterator[Growth]:
    """One variable at a time around 30 samples of one prompt of 90 tokens at 0.8 nats a token."""
    base = replace(base, prompts=1, scored=1, samples=30, lengths=(90, 90), entropies=(0.8,))
    for variable, values in GROWTH.items():
        values = values[:2] if quick else values
        cases = [make_case(_vary(base, variable, value), **place) for value in values]
        for case in cases:
            sharpen(case, base.entropies[0])
        drawn = [run_sampling(case) for case in cases]
        yield from _fit(variable, values, cases, drawn, repeats)


def _vary(base: Setting, variable: str, value: int) -> Setting:
    changes: dict[str, dict[str, Any]] = {
        "samples": {"samples": value},
        "prompts": {"prompts": value, "scored": value},
        "layers": {"layers": value},
        "multipliers": {"multipliers": tuple(np.linspace(0.5, 2.0, value).tolist())},
        "prompt length": {"lengths": (value, value)},
        "new tokens": {"new_tokens": value},
    }
    return replace(base, **changes[variable])


def _sample(case: Case, _: Completions) -> Any:
    return run_sampling(case)


def _score(case: Case, completions: Completions) -> Any:
    return score_tokens(case.model, completions, [case.vector], case.conditions, engine="tree", progress=False)


def _fit(
    variable: str, values: Sequence[int], cases: Sequence[Case], drawn: Sequence[Completions], repeats: int
) -> Iterator[Growth]:
    every = range(max(len(case.prompts) for case in cases))
    work = [
        {
            "sampling": sampling_work(case.model, said, every[: len(case.prompts)]).flops / 1e9,
            "grid": grid_work(case.model, said, every[: len(case.prompts)], case.conditions).flops / 1e9,
        }
        for case, said in zip(cases, drawn, strict=True)
    ]
    for stage, run in (("sampling", _sample), ("grid", _score)):
        actions = {str(v): partial(run, *pair) for v, *pair in zip(values, cases, drawn, strict=True)}
        interleave(actions, 1, cases[0].model.device)
        times = interleave(actions, repeats, cases[0].model.device)
        seconds = [float(np.median(found)) for found in times.values()]
        gflop = [needed[stage] for needed in work]
        slopes = [float(np.polyfit(np.log(values), np.log(y), 1)[0]) for y in (seconds, gflop)]
        yield Growth(variable, stage, tuple(values), tuple(seconds), tuple(gflop), *slopes)


@torch.no_grad()
def measure_trace(case: Case, *, rounds: int) -> Trace:
    """A forward of one token: as it is, in the wrapped module, and inside an empty trace; in turns."""
    ids, network = torch.tensor([[1]], device=case.model.device), case.model.network

    def trace() -> None:
        with network.trace(input_ids=ids, use_cache=False):
            pass

    actions: dict[str, Callable[[], Any]] = {
        "raw": lambda: case.plain(input_ids=ids, use_cache=False),
        "wrapped": lambda: case.model.module(input_ids=ids, use_cache=False),
        "traced": trace,
    }
    interleave(actions, 3, case.model.device)
    seconds = interleave(actions, rounds, case.model.device)
    times = {name: 1e3 * np.array(values) for name, values in seconds.items()}
    added = float(np.median(times["traced"] - times["raw"]))
    return Trace(*(float(np.median(times[name])) for name in actions), added)


def list_peaks(*, quick: bool) -> list[Peak]:
    """The settings of the memory table: one thing changes at a time."""
    if quick:
        return [Peak("grid", 2000, 1, 100, 5), Peak("sampling", 2000, 2, 100, 0)]
    conditions = [Peak("grid", 32000, 1, 2000, n) for n in (1, 6, 24)]
    conditions += [Peak("grid", 32000, 1, 2000, n, 1 / 16) for n in (24, 96)]
    prompts = [Peak("grid", 32000, n, 500, 24) for n in (1, 2, 4, 8)]
    nodes = [Peak("grid", 32000, 1, n, 24) for n in (250, 1000, 4000)]
    vocab = [Peak(stage, 150000, 1, 2000, 24) for stage in ("grid", "sampling")]
    long = [
        Peak(stage, 150000, n, nodes, 2, budget, length=2000, new_tokens=200)
        for budget in (1, 1 / 4)
        for stage, n, nodes in (("vectors", 16, 0), ("choices", 16, 0), ("sampling", 2, 20000), ("grid", 2, 20000))
    ]
    drawn = [Peak("sampling", 32000, n, 1000, 0) for n in (1, 2, 4, 8)]
    return [*conditions, *prompts, *nodes, *vocab, *drawn, *long]


def measure_peak(peak: Peak) -> Peak:
    """Run ``measure_peak_here`` in a process of its own."""
    command = [sys.executable, str(Path(__file__)), json.dumps(asdict(peak))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def measure_peak_here(peak: Peak) -> Peak:
    """Load a model of 15M parameters but for its vocabulary, do the work once in small, then at full size.

    Batches are those of the memory budget where prompts are long, else all prompts at once.
    """
    base = Setting("memory", 288, 6, 6, 6, 768, peak.vocab, lengths=(peak.length, peak.length), scored=peak.prompts)
    multipliers = tuple(np.linspace(0.5, 2.0, -(-max(peak.conditions, 1) // base.layers)).tolist())
    setting = replace(base, prompts=peak.prompts, multipliers=multipliers, new_tokens=peak.new_tokens)
    case = make_case(replace(setting, samples=max(1, peak.nodes // (peak.new_tokens - 1))))
    batch_size = peak.prompts if peak.length == 90 else None
    if peak.stage == "sampling":
        sharpen(case, 9.9)
    few = replace(case, sampling=Sampling(n=1, max_new_tokens=2), prompts=case.prompts[:1])
    _work(replace(few, conditions=case.conditions[:1]), peak.stage, peak.budget, batch_size)
    before = _reset_peak()
    _work(replace(case, conditions=case.conditions[: peak.conditions]), peak.stage, peak.budget, batch_size)
    return replace(peak, mib=(_read_status("VmHWM") - before) / 1024)


def _work(case: Case, stage: str, budget: float, batch_size: int | None) -> None:
    """One stage on all prompts of a case."""
    options: dict[str, Any] = {"memory_budget": budget, "batch_size": batch_size, "progress": False}
    if stage == "sampling":
        sample_completions(case.model, case.prompts, sampling=case.sampling, engine="tree", **options)
    elif stage == "choices":
        read_choices(case.model, case.prompts, [case.vector], case.conditions, engine="tree", **options)
    elif stage == "vectors":
        pairs = [ContrastPair(p.token_ids, p.token_ids[::-1], -1, -1) for p in case.prompts]
        read_differences(case.model, pairs, **options)
    else:
        _score_random(case, options)


def _score_random(case: Case, options: dict[str, Any]) -> None:
    """Score random ids, which share nothing."""
    samples, steps = case.sampling.n, case.sampling.max_new_tokens
    rng = np.random.default_rng(0)
    shape = len(case.prompts) * samples, steps
    ids = rng.integers(3, case.model.vocab_size, size=shape).astype(np.int32)
    n = shape[0]
    said = Completions(
        prompts=case.prompts,
        prompt_index=np.repeat(np.arange(len(case.prompts)), samples).astype(np.int32),
        token_ids=ids,
        lengths=np.full(n, steps, dtype=np.int32),
        counts=np.ones(n, dtype=np.int32),
        ended=np.zeros(n, dtype=bool),
        label=np.array([""] * n),
        answer_index=np.full(n, -1, dtype=np.int32),
        logprob=np.zeros(shape, dtype=np.float32),
        text=("",) * n,
        pieces=((),) * n,
        sampling=case.sampling,
        labelling=Labelling(),
    )
    score_tokens(case.model, said, [case.vector], case.conditions, engine="tree", **options)


def _reset_peak() -> int:
    """Forget the peak so far, where the system allows it (Linux); memory in KiB that is taken now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _read_status("VmRSS")


def _read_status(field: str) -> int:
    """KiB, from Linux's own account: ``ru_maxrss`` would start at the size of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


if __name__ == "__main__":
    print(json.dumps(asdict(measure_peak_here(Peak(**json.loads(sys.argv[1]))))))

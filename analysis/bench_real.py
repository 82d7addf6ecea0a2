"""The grid of a real model, by what people do and by each precision of ours: seconds, floors and noise, in one run.

One of the embedded questions, asked by the model's own chat template, 100 samples of 24 tokens at temperature 1, scored
unsteered and at 7 layers x 4 multipliers. The weights are the checkpoint's in bfloat16 for everybody: the peers and our
float32 compute with them in float32, so what the others are off by is rounding alone. Noise is the standard deviation
over distinct completions of an increase's error, pooled over conditions, and beside it what a run would say of itself.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import torch
from bench_floor import grid_work, time_once
from torch import Tensor

from completions_lp.model import Model, copy_model, draw_rounding_vector, load_model, read_residuals
from completions_lp.prompts import load_prompts
from completions_lp.records import Completions, Condition, Sampling, SteeringVector, Through
from completions_lp.sample.draws import sample_completions
from completions_lp.score.grid import score_tokens
from completions_lp.stats import join_signs
from completions_lp.steer.conditions import make_conditions, place_rounding

DATA = Path(__file__).resolve().parent.parent / "data" / "prompts" / "cautious.jsonl"
DOSE = 0.15
"""Norm of the direction, of the residual stream's: enough to be seen."""
LAYERS, MULTIPLIERS = 7, (-1.0, -0.5, 0.5, 1.0)
FEW = 10
"""Samples of the one condition under which a peer is measured."""


@dataclass
class Way:
    """One way to score the grid, and what it took; seconds are of each repeat."""

    who: str
    run: Callable[[], Any]
    scale: float = 1.0
    through: Through = "end"
    rate: float = float("nan")
    """FLOPs per second of the precision's own matrix products."""
    seconds: list[float] = field(default_factory=list)
    found: Any = None


def bench_real(
    folder: str, *, device: str, samples: int = 100, new_tokens: int = 24, repeats: int = 3
) -> dict[str, Any]:
    """Measure and print; the same as JSON."""
    half = load_model(folder, dtype="bfloat16", device=device)
    blocks = range(half.n_layers)
    wide, plain = copy_model(half, blocks, torch.float32), copy_model(half, blocks, half.dtype, residual="weights")
    prompts = load_prompts(DATA, half.tokenizer, template="chat", limit=1)
    completions = sample_completions(
        wide, prompts, sampling=Sampling(n=samples, max_new_tokens=new_tokens), progress=False
    )
    layers = np.linspace(0.2 * half.n_layers, half.n_layers - 2, LAYERS).astype(int).tolist()
    vectors, conditions = _make_grid(wide, prompts[0].token_ids, layers)

    def grid(model: Model, through: Through = "end") -> Callable[[], Any]:
        options: dict[str, Any] = {"engine": "tree", "through": through, "target": "matching", "progress": False}
        return lambda: score_tokens(model, completions, vectors, conditions, **options)

    rates = {torch.float32: _find_rate(wide), torch.bfloat16: _find_rate(half)}
    scale = (1 + len(conditions)) * samples / FEW
    ways = [
        Way("naive HF loop, float32", lambda: _score_naive(wide, completions, vectors, conditions[0]), scale),
        Way("nnsight trace, float32", lambda: _score_nnsight(wide, completions, vectors, conditions[0]), scale),
        Way("ours, float32", grid(wide), rate=rates[torch.float32]),
        Way("ours, bfloat16, float32 residual", grid(half), rate=rates[torch.bfloat16]),
        Way("ours, bfloat16 throughout", grid(plain), rate=rates[torch.bfloat16]),
        Way("ours, float32, through the answer", grid(wide, "answer"), 1.0, "answer", rates[torch.float32]),
        Way("ours, bfloat16, through the answer", grid(half, "answer"), 1.0, "answer", rates[torch.bfloat16]),
    ]
    for _ in range(repeats):
        for way in ways:
            way.seconds.append(time_once(lambda way=way: setattr(way, "found", way.run()), half.device) * way.scale)
    return _tell(ways, wide, completions, conditions, folder, rates)


def _make_grid(model: Model, ids: Any, layers: list[int]) -> tuple[list[SteeringVector], tuple[Condition, ...]]:
    """A random direction at a dose, and the one that tells the rounding."""
    residuals = read_residuals(model, [list(ids)], [len(ids) - 1], layers).double().cpu().numpy()[:, 0]
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((len(layers), model.d_model))
    drawn *= DOSE * np.linalg.norm(residuals, axis=-1, keepdims=True) / np.linalg.norm(drawn, axis=-1, keepdims=True)
    vector, tiny = SteeringVector("v", "target", dict(zip(layers, drawn, strict=True))), draw_rounding_vector(model)
    grid = make_conditions([vector], multipliers=MULTIPLIERS)
    return [vector, tiny], (*grid, *place_rounding(tiny, layers, n_layers=model.n_layers, positions="completion"))


def _tell(
    ways: list[Way],
    model: Model,
    completions: Completions,
    conditions: tuple[Condition, ...],
    folder: str,
    rates: dict[torch.dtype, float],
) -> dict[str, Any]:
    """Print the table."""
    work = grid_work(model, completions, [0], conditions)
    exact = next(way.found for way in ways if way.who == "ours, float32")
    naive = float(np.median(ways[0].seconds))
    rows = []
    print(f"{folder}: {len(completions)} distinct of {completions.counts.sum()} completions, {work.nodes} nodes, "
          f"{1 + len(conditions)} scores, least work {work.flops / 1e12:.2f} TFLOP")  # fmt: skip
    print(f"{'':40}{'s':>9}{'x naive':>9}{'x floor':>9}{'noise':>8}{'told':>8}")
    for way in ways:
        seconds = float(np.median(way.seconds))
        row = {"who": way.who, "seconds": seconds, "fastest": min(way.seconds), "slowest": max(way.seconds)}
        row |= {"vs_naive": naive / seconds, "through": way.through}
        if way.through == "end" and np.isfinite(way.rate):
            row["of_floor"] = seconds * way.rate / work.flops
        if hasattr(way.found, "increase"):
            row |= _measure_noise(way.found, exact, conditions)
        rows.append(row)
        cells = [f"{row[name]:>9.1f}" if name in row else f"{'':>9}" for name in ("seconds", "vs_naive", "of_floor")]
        print(f"{way.who:40}", *cells, *(f"{row[n]:>8.3f}" if n in row else " " * 8 for n in ("noise", "told")), sep="")
    machine = {str(dtype).removeprefix("torch."): rate / 1e9 for dtype, rate in rates.items()}
    print("GFLOP/s of matrix products:", machine)
    return {"real": rows, "work": asdict(work), "gflop_per_second": machine, "model": Path(folder).name}


def _measure_noise(found: Any, exact: Any, conditions: tuple[Condition, ...]) -> dict[str, float]:
    """The sd of the increases' errors, and that of the increase which should be 0."""
    there = np.isfinite(found.increase) & np.isfinite(exact.increase)
    off, own = (
        np.where(there, x, 0.0).sum(-1, dtype=np.float64) for x in (found.increase - exact.increase, found.increase)
    )
    measured = [i for i, condition in enumerate(conditions) if condition.kind != "rounding"]
    told = join_signs(own[[i for i in range(len(conditions)) if i not in measured]])
    return {"noise": float(off[measured].std(-1).mean()), "told": float(told.std())}


def _find_rate(model: Model, seconds: float = 2.0) -> float:
    """The best FLOPs per second of a block's largest matrix."""
    weight: Any = max((p for p in model.blocks[0]._module.parameters() if p.dim() == 2), key=torch.numel).detach()
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for rows in (256, 1024, 2048):
            states = torch.ones(rows, weight.shape[1], dtype=weight.dtype, device=weight.device)
            took = time_once(lambda states=states: torch.nn.functional.linear(states, weight), weight.device)
            best = max(best, 2 * rows * weight.numel() / took)
    return best


def _take_rows(model: Model, completions: Completions) -> tuple[int, Tensor]:
    """The first few samples with their prompt, and how long that is."""
    prompt = torch.tensor(completions.prompts[0].token_ids)
    said = torch.from_numpy(completions.token_ids[:FEW].astype(np.int64)).clamp(min=0)
    return len(prompt), torch.cat([prompt.expand(len(said), -1), said], 1).to(model.device)


@torch.no_grad()
def _score_naive(model: Model, completions: Completions, vectors: list[SteeringVector], condition: Condition) -> Tensor:
    """A forward hook and a full forward."""
    past, ids = _take_rows(model, completions)
    added = torch.tensor(vectors[0].directions[condition.layer], device=model.device, dtype=torch.float32)

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        (output[0] if isinstance(output, tuple) else output)[:, past - 1 :] += condition.multiplier * added
        return output

    handle = model.blocks[condition.layer]._module.register_forward_hook(hook)
    try:
        logits = model.module(ids, use_cache=False).logits
    finally:
        handle.remove()
    return logits.log_softmax(-1)[:, past - 1 : -1].gather(-1, ids[:, past:, None])


@torch.no_grad()
def _score_nnsight(
    model: Model, completions: Completions, vectors: list[SteeringVector], condition: Condition
) -> Tensor:
    """As nnsight's documentation teaches it."""
    past, ids = _take_rows(model, completions)
    added = torch.tensor(vectors[0].directions[condition.layer], device=model.device, dtype=torch.float32)
    network, block, multiplier = model.network, model.blocks[condition.layer], condition.multiplier
    with network.trace(input_ids=ids, use_cache=False):
        block.output[:, past - 1 :] += multiplier * added
        logits = nnsight.save(network.output.logits)
    return logits.log_softmax(-1)[:, past - 1 : -1].gather(-1, ids[:, past:, None])

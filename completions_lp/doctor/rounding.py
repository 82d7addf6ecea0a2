"""What rounding does to an increase, in the precision that a model is used in and, for comparison, in others."""

import numpy as np
import torch

from completions_lp.doctor.case import pick_prompts
from completions_lp.doctor.findings import Finding
from completions_lp.model import Model, copy_model, draw_rounding_vector, is_small, pick_engine
from completions_lp.model.arithmetic import HALF
from completions_lp.model.precision import MOST_ROUNDING
from completions_lp.records import Prompt, Sampling
from completions_lp.sample.draws import sample_completions
from completions_lp.score.grid import score_tokens
from completions_lp.stats import join_signs
from completions_lp.steer.conditions import make_conditions

DRAWS, TOKENS = 8, 8


def measure_rounding(
    model: Model, prompts: tuple[Prompt, ...], *, n_prompts: int = 2, seed: int = 0, compare: bool = False
) -> dict[str, float]:
    """What rounding does to an increase, by the way of computing: the model's own, then, to ``compare``, others.

    The standard deviation, in nats per completion of 8 tokens, of the increase under a small direction, by both signs
    (``stats/rounding``), at a low, a middle and a high layer. Others are float32, and half precision with either
    residual stream, of a model that is small enough for copies to be made.
    """
    few = pick_prompts(prompts, n_prompts)
    sampling = Sampling(n=DRAWS, max_new_tokens=TOKENS, seed=seed)
    completions = sample_completions(model, few, sampling=sampling, progress=False)
    ways = [own := (model.dtype, model.residual)]
    if compare and model.dtype != torch.float64 and is_small(model):
        half = model.dtype if model.dtype in HALF else torch.bfloat16
        ways += [way for way in ((torch.float32, "float32"), (half, "float32"), (half, "weights")) if way != own]
    found = {}
    for dtype, residual in ways:
        blocks = range(model.n_layers)
        one = model if (dtype, residual) == own else copy_model(model, blocks, dtype, residual=residual)
        vector = draw_rounding_vector(one)
        layers = sorted({min(1, model.n_layers - 1), model.n_layers // 2, max(0, model.n_layers - 2)})
        conditions = make_conditions([vector], layers=layers, multipliers=(-1.0, 1.0))
        scores = score_tokens(one, completions, [vector], conditions, engine=pick_engine(model), progress=False)
        sums = np.where(completions.mask, scores.increase, 0.0).sum(-1, dtype=np.float64)
        signs = sums.reshape(len(layers), 2, -1).swapaxes(0, 1)
        found[_name_way(dtype, residual)] = float(join_signs(signs).std(-1).mean())
    return found


def judge_rounding(rounding: dict[str, float]) -> Finding:
    """Whether the model's own way, the first, rounds little enough for increases of tenths of a nat."""
    way, value = next(iter(rounding.items()))
    others = "; ".join(f"{other:.1e} in {name}" for name, other in list(rounding.items())[1:])
    seen = f"in {way}{f'; it would be {others}' if others else ''}"
    return Finding("rounding of an increase", value, MOST_ROUNDING, "nats (sd)", seen, is_fault=bool(np.isnan(value)))


def _name_way(dtype: torch.dtype, residual: str) -> str:
    name = str(dtype).removeprefix("torch.")
    if dtype not in HALF:
        return name
    return f"{name} with a float32 residual stream" if residual == "float32" else f"{name} throughout"

"""The precision that a model computes in where that is left open: by what is measured on it, of speed and of rounding.

Half precision here is that of products, beside a float32 residual stream. It is taken where the processor multiplies it
faster than float32 and where what it rounds is little beside the increases that people report, tenths of a nat.
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from completions_lp.checkpoint import DeviceMap
from completions_lp.model.anatomy import check_anatomy
from completions_lp.model.arithmetic import HALF
from completions_lp.model.engine import score_plainly
from completions_lp.model.loading import Model, open_model, wrap_model
from completions_lp.model.placement import fetch_weight, find_device
from completions_lp.model.rounding import draw_rounding_vector
from completions_lp.model.spread import Spread
from completions_lp.records import Condition
from completions_lp.records.base import Notice
from completions_lp.stats import join_signs

LEAST_SPEED = 1.2
"""Times as fast as float32 that half precision must multiply."""
MOST_ROUNDING = 0.25
"""Nats, as the standard deviation of an increase that should be 0, of ten random tokens: rarer ones than a model says,
which round more."""
_ROWS, _TOKENS = 8, 10


def load_model(
    name: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    residual: str = "float32",
    device_map: DeviceMap = "",
    offload_folder: str | Path | None = None,
    tp_size: int = 1,
    remote: bool | str = False,
) -> Model:
    """Load a model and its tokenizer by local path or hub name.

    A local path never contacts the hub. Only safetensors weights are read, and no code from the checkpoint is run.

    Args:
        name: A local folder or a hub name.
        revision: A hub branch, tag or commit.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``, ``"float64"``, or ``"auto"``: a half-precision checkpoint's
            own where that is measured to be faster than float32 and to round little, else float32; one line says which
            and why. On a CPU that needs units for bfloat16 (AVX512-BF16, AMX).
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``: a GPU where there is one.
        residual: The least precision of all but products with weights: ``"float32"``, or ``"weights"`` for the plain
            way of half precision, in which rounding drowns small effects.
        device_map: Where the parts of a model go that is larger than one device, which needs accelerate: ``"auto"``,
            ``"balanced"`` or ``"sequential"`` over the GPUs that there are, then memory, then disk; or a dictionary,
            part by part, as ``{"model.embed_tokens": 0, "model.layers": 1, "model.norm": 1, "lm_head": "cpu"}``. By
            default all of it is on ``device``. No number depends on it but for what kinds of device differ by.
        offload_folder: Where weights are written that lie on disk and cannot be read from the checkpoint's own files.
        tp_size: How many processes, all started by torchrun and all at this line, share every block (tensor
            parallelism). Each makes the same calls after it and gets the same numbers.
        remote: Leave the weights on a model server and make every pass there: True for NDIF (or where ``NDIF_HOST``
            says), or the server's address. Precision and device are the server's then.

    Raises:
        InputError: The checkpoint cannot be found or loaded as it is, weights are missing, misshapen, NaN or infinite,
            code from it would be needed, an argument has no such value, or the network is none that can be steered
            with right numbers.
    """
    if remote:
        from completions_lp.model.remote import load_remote  # with it comes what speaks to servers

        return load_remote(name, revision=revision, remote=remote)
    spread = Spread(device_map, None if offload_folder is None else str(offload_folder), tp_size)

    def load(precision: str) -> Model:
        return open_model(name, revision=revision, dtype=precision, device=device, residual=residual, spread=spread)

    model = load(dtype)
    if dtype == "auto" and model.dtype in HALF and not model.packed:
        model = settle_precision(model, load if spread.parted else None)
    check_anatomy(model)
    return model


def settle_precision(model: Model, load: Callable[[str], Model] | None = None) -> Model:
    """A half-precision model as it is, or in float32, whichever was measured to serve better; one line says why.

    One that is spread is not widened where it lies but read again, by ``load``, as its float32 weights go elsewhere.
    """
    speed, rounding = _agree(model, measure_speed(model)), measure_rounding(model)
    name = str(model.dtype).removeprefix("torch.")
    found = f"it multiplies {speed:.1f} times as fast as float32 here and rounds a completion by {rounding:.2g} nats"
    if speed >= LEAST_SPEED and rounding <= MOST_ROUNDING:
        warnings.warn(f'dtype auto is {name}: {found}; for less, [model] dtype = "float32"', Notice, stacklevel=3)
        return model
    warnings.warn(f"dtype auto is float32, not {name}: {found}", Notice, stacklevel=3)
    if load is not None:
        return load("float32")
    told = {name: getattr(model, name) for name in ("name", "revision", "quantization", "base")}
    wide = wrap_model(model.module.float(), model.tokenizer, **told)
    wide.fingerprint()
    return wide


def _agree(model: Model, measured: float) -> float:
    """What the first of the processes that share a model has measured: all of them have to decide alike."""
    told = [measured]
    if model.tp_size > 1:
        torch.distributed.broadcast_object_list(told, src=0)
    return told[0]


def measure_speed(model: Model, *, rounds: int = 7) -> float:
    """Times as fast as float32 that the largest matrix of a block multiplies in its own precision; medians."""
    block = model.blocks[0]._module
    name = max((k for k, p in block.named_parameters() if p.dim() == 2), key=lambda k: block.get_parameter(k).numel())
    weight = fetch_weight(block, name).to(find_device(block))
    states = torch.ones(256, weight.shape[1], dtype=weight.dtype, device=weight.device)
    both = (states, weight), (states.float(), weight.float())
    seconds: list[list[float]] = [[], []]
    with torch.no_grad():
        for _ in range(rounds):
            for one, took in zip(both, seconds, strict=True):
                start = time.perf_counter()
                float(torch.nn.functional.linear(*one)[-1, -1])  # waits for a GPU
                took.append(time.perf_counter() - start)
    return float(np.median(seconds[1]) / np.median(seconds[0]))


def measure_rounding(model: Model) -> float:
    """What rounding does to an increase: nats, standard deviation over completions of random tokens.

    In the mean of both signs of ``draw_rounding_vector``, which is added at a low layer: most rounding happens above.
    """
    rng = np.random.default_rng(0)
    prompt, *said = rng.integers(0, model.vocab_size, (1 + _ROWS, _TOKENS)).tolist()
    vector, layer = draw_rounding_vector(model), min(1, model.n_layers - 1)
    conditions = [Condition(vector.name, vector.kind, layer, sign) for sign in (-1.0, 1.0)]
    sums = score_plainly(model, prompt, said, vector, conditions).astype(np.float64)
    model.usage.tokens = model.usage.passes = 0  # no part of what a run takes
    return float(join_signs(sums[1:] - sums[0]).std(ddof=1))

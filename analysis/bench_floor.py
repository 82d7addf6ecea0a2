"""The fewest FLOPs and bytes of the work, from the real prefix trees, and how fast the machine multiplies matrices.

A node of a tree costs ``2 W`` FLOPs in a layer (W: weights of the layer's matrices), ``4 d`` for every token that it
sees in attention, and ``2 d V`` in the head. Sampling runs the prompt once through L layers and every node once. The
grid runs every node once unsteered and, for each of M conditions steered at layer l, through the L - 1 - l layers above
it and the head:

    2 U [L W + d V + M (L (L - 1) / 2 W + L d V)]  + attention + the prompt, once

Bytes are the least that must be read: the weights once per pass, the keys and values that are seen once per pass and
prompt, and (sampling only) the logits once written and once read. The machine's rate is the best that was seen in the
whole run at any of the layers' shapes, so a ratio to the floor is never flattered.
"""

import datetime
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers
from bench_models import Case
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from completions_lp.model import Model
from completions_lp.records import Completions, Condition


@dataclass(frozen=True)
class Work:
    """What must be done, whoever does it."""

    flops: float
    gbytes: float
    nodes: int
    passes: int = 0

    def per(self, prompts: int) -> "Work":
        """The same for one prompt, on average."""
        return replace(self, flops=self.flops / prompts, gbytes=self.gbytes / prompts)


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that its cost depends on."""

    layers: int
    layer_weights: int
    attention: int
    """Width of all heads together."""
    head_weights: int
    kv_bytes: int
    width: int
    vocab: int

    @property
    def weight_bytes(self) -> int:
        """Weights that a pass reads."""
        return self.width * (self.layers * self.layer_weights + self.head_weights)


def find_shape(model: Model) -> Shape:
    """The sizes of a loaded model."""
    config = model.module.config
    head_dim = getattr(config, "head_dim", None) or model.d_model // config.num_attention_heads
    block = model.blocks[0]._module
    weights = sum(m.weight.numel() for m in block.modules() if isinstance(m, torch.nn.Linear))
    width = model.dtype.itemsize
    head = model.d_model * model.vocab_size
    attention = config.num_attention_heads * head_dim
    return Shape(model.n_layers, weights, attention, head, model.kv_bytes, width, model.vocab_size)


def list_depths(completions: Completions, prompt: int) -> list[int]:
    """Depth of every node of a prompt's tree: 0 for the last prompt token, then the distinct proper prefixes."""
    rows = [i for i, p in enumerate(completions.prompt_index) if p == prompt]
    said = [tuple(completions.token_ids[i, : completions.lengths[i]].tolist()) for i in rows]
    return [0, *(len(prefix) for prefix in {ids[:end] for ids in said for end in range(1, len(ids))})]


def sampling_work(model: Model, completions: Completions, prompts: Sequence[int]) -> Work:
    """Prompts once through the layers, then every distinct prefix through layers and head."""
    shape = find_shape(model)
    flops, seen, nodes, steps = 0.0, 0, 0, 0
    for i in prompts:
        past, depths = len(completions.prompts[i].token_ids), list_depths(completions, i)
        flops += _layers(shape, past - 1, past * (past - 1) / 2) * shape.layers
        flops += _layers(shape, len(depths), sum(past + depth for depth in depths)) * shape.layers
        flops += 2 * len(depths) * shape.head_weights
        nodes += len(depths)
        steps = max(steps, 1 + max(depths))
        seen += sum(past - 1 + sum(d <= step for d in depths) for step in range(1 + max(depths)))
    logits = 2 * nodes * shape.vocab * shape.width
    return Work(flops, (shape.weight_bytes * (steps + 1) + seen * shape.kv_bytes + logits) / 1e9, nodes, steps + 1)


def grid_work(model: Model, completions: Completions, prompts: Sequence[int], conditions: Sequence[Condition]) -> Work:
    """Every node unsteered, and above each condition's layer; the prompts once."""
    shape = find_shape(model)
    above = shape.layers + sum(shape.layers - 1 - c.layer for c in conditions)
    flops, seen, nodes = 0.0, 0, 0
    for i in prompts:
        past, depths = len(completions.prompts[i].token_ids), list_depths(completions, i)
        flops += _layers(shape, past - 1, past * (past - 1) / 2) * shape.layers
        flops += _layers(shape, len(depths), sum(past + depth for depth in depths)) * above
        flops += 2 * len(depths) * shape.head_weights * (1 + len(conditions))
        nodes += len(depths)
        seen += past - 1 + len(depths)
    return Work(flops, (shape.weight_bytes * 2 + seen * shape.kv_bytes) / 1e9, nodes, 2)


def _layers(shape: Shape, tokens: int, seen: float) -> float:
    """FLOPs of some tokens in one layer; ``seen`` is how many tokens they see in attention, summed."""
    return 2 * tokens * shape.layer_weights + 4 * seen * shape.attention


class Machine:
    """How fast this machine multiplies and reads: the best that was seen so far. Call ``probe`` often."""

    def __init__(self, case: Case) -> None:
        d, config = case.model.d_model, case.plain.config
        options = {"device": case.model.device, "dtype": case.model.dtype}
        widths = [(d, d), (d, config.intermediate_size), (config.intermediate_size, d), (d, 1024)]
        self.weights = [torch.randn(out, into, **options) for into, out in widths]
        rows = (256, 512, 1024, 2048) if case.model.device.type == "cpu" else (1024, 4096, 16384)
        self.inputs = [[torch.randn(n, w.shape[1], **options) for n in rows] for w in self.weights]
        self.large = torch.ones(2**26, device=case.model.device)
        self.flops_per_second = self.bytes_per_second = 0.0

    @torch.no_grad()
    def probe(self, repeats: int = 3) -> None:
        """One look, a fraction of a second long."""
        for weight, inputs in zip(self.weights, self.inputs, strict=True):
            for x in inputs:
                flops = 2 * x.shape[0] * weight.numel()
                for run in (lambda x=x, w=weight: functional.linear(x, w), lambda x=x, w=weight: torch.mm(w, x.T)):
                    best = min(time_once(run, x.device) for _ in range(repeats))
                    self.flops_per_second = max(self.flops_per_second, flops / best)
        best = min(time_once(self.large.sum, self.large.device) for _ in range(repeats))
        self.bytes_per_second = max(self.bytes_per_second, 4 * self.large.numel() / best)


def count_flops(run: Callable[[], Any]) -> tuple[Any, float]:
    """Run once: the result, and the FLOPs of its matrix products and attention, padding and what is masked included."""

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    extra = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=extra) as counter:
        result = run()
    return result, float(counter.get_total_flops())


def time_once(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, all of a GPU's work included."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleave(
    actions: dict[str, Callable[[], Any]],
    repeats: int,
    device: torch.device,
    *,
    between: Callable[[], Any] | None = None,
) -> dict[str, list[float]]:
    """Seconds of every action, ``repeats`` times, one after the other in turns; ``between`` is called untimed."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, run in actions.items():
            seconds[name].append(time_once(run, device))
        if between is not None:
            between()
    return seconds


def describe_machine(*, device: str, dtype: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }

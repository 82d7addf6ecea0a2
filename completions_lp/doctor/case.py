"""What the checks are made on: a few of the user's prompts with what the model says to them, vectors, conditions.

What half precision rounds is none of their business: a model in half precision is checked as a copy in float32, whole
or its first two and last two blocks, and what its rounding does to an increase is measured beside that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from completions_lp.model import Model, copy_wide, read_residuals
from completions_lp.model.arithmetic import HALF
from completions_lp.model.specimen import ENDS
from completions_lp.records import Completions, Condition, Operation, Positions, Prompt, Sampling, SteeringVector
from completions_lp.sample.draws import sample_completions
from completions_lp.steer.conditions import make_conditions

AMONG = 50
"""Prompts, the first ones, among which the few are picked."""
DRAWS, TOKENS = 3, 8
"""Completions of a prompt, and tokens of each."""
PROBE = "probe"
"""Name of the random vector beside the user's own."""
SIZE = 0.1
"""Of the residual stream's norm: a vector so long matters, and does not drown everything."""


@dataclass(frozen=True, eq=False)
class Case:
    """A model, some prompts with completions of its own, and two sets of conditions."""

    model: Model
    """In float32 or better."""
    completions: Completions
    vectors: Mapping[str, SteeringVector]
    cells: tuple[Condition, ...]
    """At the positions that the user steers: the probe at a low, a middle and a high layer, and the user's vector."""
    others: tuple[Condition, ...]
    """At the other positions, with other signs."""
    memory_budget: float | None = None
    """GiB that a pass may take."""

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Of different lengths, if there are such."""
        return self.completions.prompts

    @property
    def first_rows(self) -> list[int]:
        """Of each prompt its longest completion."""
        rows = [self.completions.rows_of(i) for i in range(len(self.prompts))]
        return [int(some[np.argmax(self.completions.lengths[some])]) for some in rows]

    def read_row(self, row: int) -> tuple[tuple[int, ...], list[int]]:
        """Token ids of a completion's prompt, and its own."""
        found = self.completions
        said = found.token_ids[row, : found.lengths[row]].tolist()
        return found.prompts[found.prompt_index[row]].token_ids, said


def draw_case(
    model: Model,
    prompts: Sequence[Prompt],
    vectors: Sequence[SteeringVector] = (),
    *,
    layers: Sequence[int] = (),
    multiplier: float = 1.0,
    positions: Positions = "completion",
    operation: Operation = "add",
    n_prompts: int = 3,
    seed: int = 0,
) -> Case:
    """A case of some prompts and, if given, the first vector; ``layers`` are those that the user steers, else all."""
    blocks, model = list(range(model.n_layers)), _widen(model)
    if len(blocks) > model.n_layers:  # a copy of its ends
        blocks = [*blocks[:ENDS], *blocks[-ENDS:]]
    few = pick_prompts(prompts, n_prompts)
    sampling = Sampling(n=DRAWS, max_new_tokens=TOKENS, seed=seed)
    completions = sample_completions(model, few, sampling=sampling, progress=False)
    probe = _draw_vector(model, few, seed)
    known = {
        new: vector.directions[old]
        for vector in vectors[:1]
        for new, old in enumerate(blocks)
        if old in vector.directions and np.any(vector.directions[old])
    }
    mine = vectors[:1] if known else ()
    spans = {new: mine[0].spans[old] for new, old in enumerate(blocks) if mine and old in mine[0].spans}
    own = [replace(vector, directions=known, quality={}, spans=spans, name=_name_apart(vector.name)) for vector in mine]
    wanted = [new for new, old in enumerate(blocks) if old in layers] or list(range(model.n_layers))
    swept = sorted({wanted[0], wanted[len(wanted) // 2], wanted[-1]})
    cells = make_conditions([probe], layers=swept[:1], multipliers=(0.0,), positions=positions)
    cells += make_conditions([probe], layers=swept, multipliers=(1.0,), positions=positions)
    cells += make_conditions([probe], layers=[swept], multipliers=(1.0,), positions=positions, operation="ablate")
    away: Positions = "completion" if positions in ("all", "prompt") else "all"
    others = make_conditions([probe], layers=swept[len(swept) // 2 :][:1], multipliers=(-1.0,), positions=away)
    if own:
        there = [layer for layer in swept if layer in known] or sorted(known)
        middle = there[len(there) // 2 :][:1]
        cells += make_conditions(
            own, layers=middle, multipliers=(multiplier,), positions=positions, operation=operation
        )
        others += make_conditions(own, layers=there[:1], multipliers=(-multiplier,), positions=positions)
    return Case(model, completions, {vector.name: vector for vector in [*own, probe]}, cells, others)


def pick_prompts(prompts: Sequence[Prompt], n: int) -> list[Prompt]:
    """Some of the first prompts, from the shortest to the middle one, of different lengths where there are so many.

    Beside one another they are padded; longer ones would take longer and tell no more.
    """
    order = sorted(prompts[:AMONG], key=lambda prompt: len(prompt.token_ids))
    lengths = [len(prompt.token_ids) for prompt in order]
    fresh = [i for i, length in enumerate(lengths) if length not in lengths[:i]]
    if len(fresh) < n:
        again = [i for i in range(len(order)) if i not in fresh]
        return [order[i] for i in sorted([*fresh, *again][:n])]
    at = np.linspace(0, max(n - 1, (len(fresh) - 1) // 2), n).round().astype(int)
    return [order[fresh[i]] for i in at]


def _widen(model: Model) -> Model:
    return copy_wide(model)[0] if model.dtype in HALF else model


def _name_apart(name: str) -> str:
    return f"{name} of yours" if name == PROBE else name


def _draw_vector(model: Model, prompts: Sequence[Prompt], seed: int) -> SteeringVector:
    """A random vector at every layer, a tenth as long as the residual stream that it joins."""
    ids = [prompt.token_ids for prompt in prompts]
    residuals = read_residuals(model, ids, [len(i) - 1 for i in ids], range(model.n_layers)).double().numpy()
    norms = np.linalg.norm(residuals, axis=-1).mean(-1)
    drawn = np.random.default_rng(seed).standard_normal((model.n_layers, model.d_model))
    drawn *= SIZE * norms[:, None] / np.linalg.norm(drawn, axis=-1, keepdims=True)
    return SteeringVector(PROBE, "random", dict(enumerate(drawn)))

"""Which (layer, token) were really touched: the residual streams of our own passes, steered less unsteered.

One completion under one condition at a time is scored as any run scores it, while hooks of torch read along what every
block puts out. So whatever the vector is added by, and however rows are packed, this is where it came in, and how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from completions_lp.doctor.case import Case
from completions_lp.doctor.findings import Finding
from completions_lp.doctor.truth import Plain
from completions_lp.model import Model, read_residuals
from completions_lp.model.streams import Seen, watch_streams
from completions_lp.records import Condition, InputError, SteeringVector, find_edit
from completions_lp.score.grid import score_tokens

UNTOUCHED = 1e-4
"""Of the stream's norm, what may differ where nothing is added: rounding of a batch with two rows and with one."""
ADDED = 1e-3
"""Of the vector's norm, by which what is added may be off, beside what the stream's own precision rounds."""
WHOLE = 1e-3
"""Of the stream's norm, by which a whole stream may be off from that of a plain pass, block after block."""
PACKED = 0.05
"""The same of weights that stay quantised, whose products are in half precision at best."""
ULPS = 8
"""Units of rounding of the stream in the difference of two of its values."""


@dataclass(frozen=True, eq=False)
class Touch:
    """The residual streams of one completion as our passes have them, without and with one condition."""

    unsteered: Float[Tensor, "layer token d_model"]
    steered: Float[Tensor, "layer token d_model"]
    """Where only one pass served both, that one."""

    @property
    def change(self) -> Float[Tensor, "layer token d_model"]:
        """Steered less unsteered."""
        return self.steered - self.unsteered


def read_touch(case: Case, row: int, condition: Condition) -> Touch:
    """Score one completion under one condition, and read the residual streams of the passes that this takes.

    Raises:
        InputError: The passes did not have the text's tokens, or not all of them.
    """
    prompt, said = case.read_row(row)
    vectors = [case.vectors[condition.vector]]
    with watch_streams(case.model) as passes:
        budget = case.memory_budget
        score_tokens(
            case.model, case.completions.take([row]), vectors, [condition], memory_budget=budget, progress=False
        )
    return assemble_streams(case.model, passes, [*prompt, *said[:-1]], len(prompt))


def assemble_streams(model: Model, passes: Sequence[Seen], text: Sequence[int], n_prompt: int) -> Touch:
    """The streams of a text from the passes over it or its parts: what goes before the prompt's last token, the rest.

    In a pass, the first row is unsteered and the last one steered; later passes stand above earlier ones.
    """
    shape = model.n_layers, len(text), model.d_model
    unsteered, steered = (torch.full(shape, float("nan"), dtype=model.exact_dtype) for _ in range(2))
    before, n = n_prompt - 1, len(text)
    for one in passes:
        ids = one.token_ids[0].tolist()
        places = [at for at in (slice(0, before), slice(before, n), slice(0, n)) if list(text[at]) == ids]
        if not places:
            raise InputError(f"a pass had the token ids {ids[:8]}, which are no part of the text that is scored")
        at = next((at for at in places if bool(torch.isnan(unsteered[0, at]).any())), places[0])
        for layer, stream in enumerate(one.streams):
            if len(stream) > 1 or bool(torch.isnan(unsteered[layer, at]).any()):
                unsteered[layer, at], steered[layer, at] = stream[0], stream[-1]
    return Touch(unsteered, steered)


def check_touch(
    model: Model, touch: Touch, condition: Condition, vector: SteeringVector, n_prompt: int
) -> list[Finding]:
    """Whether a touch is what its condition says, and nowhere else."""
    (start, stop), layer = condition.find_acting(n_prompt), condition.layer
    change, sizes = touch.change.double(), touch.unsteered.double().norm(dim=-1).clamp(min=1e-12)
    moved = change.norm(dim=-1) / sizes
    edit, before = find_edit(vector, condition, layer), touch.unsteered[layer, start:].double()
    unit = torch.tensor(edit.unit)
    wanted = torch.tensor(edit.added) - edit.share * (before @ unit)[:, None] * unit
    size = wanted[: None if stop is None else stop - start].norm(dim=-1).max()
    if stop is not None:
        wanted[stop - start :] = 0.0  # nothing after it is touched at this layer
    rounding = ULPS * torch.finfo(model.residual_dtype).eps * sizes[layer, start:]
    still = max(UNTOUCHED, ULPS * torch.finfo(model.dtype).eps)
    off = ((change[layer, start:] - wanted).norm(dim=-1) - rounding).clamp(min=0) / size
    n, found = change.shape[1], (moved > still).nonzero()
    lowest, first = (int(found[:, axis].min()) if len(found) else -1 for axis in (0, 1))
    place = f"layers {lowest} to {len(moved) - 1}, tokens {first} to {n - 1} of {n}" if len(found) else "nothing"
    seen = f"{name_cells([condition])}: {place}"
    lower = f"layers 0 to {layer - 1}" if layer else "layer 0 is the lowest"
    earlier = f"tokens 0 to {start - 1} of {n}" if start else "all tokens are steered"
    return [
        Finding("the vector is added once, at its layer", _largest(off), ADDED, "of the vector", seen, is_shown=True),
        Finding("no layer below is touched", _largest(moved[:layer]), still, "of the stream", lower),
        Finding("no token before is touched", _largest(moved[:, :start]), still, "of the stream", earlier),
    ]


def compare_streams(touch: Touch, plain: Plain, unsteered: Plain) -> float:
    """Largest distance of our streams from those of plain passes, relative to their norms."""
    pairs = (touch.steered, plain.streams), (touch.unsteered, unsteered.streams)
    return max(
        (_largest((ours - true).double().norm(dim=-1) / true.double().norm(dim=-1)) for ours, true in pairs),
        key=lambda value: (value != value, value),
    )


def check_site(case: Case) -> Finding:
    """The residual stream after block L is what transformers calls ``hidden_states[L + 1]``.

    Some families (Mamba) do not list what goes into the first block: there it is ``hidden_states[L]``.
    """
    model, ids = case.model, [prompt.token_ids for prompt in case.prompts]
    layers = range(max(1, model.n_layers - 1))  # the last hidden state is normed, so it is not the last block's output
    ours = read_residuals(model, ids, [len(i) - 1 for i in ids], layers)
    distances = []
    for row, sequence in enumerate(ids):
        with watch_streams(model) as passes, torch.no_grad():
            output = model.module(
                torch.tensor([sequence], device=model.device), output_hidden_states=True, use_cache=False
            )
        states, put_out = output.hidden_states, passes[-1].streams
        shift = 0 if torch.equal(states[0].cpu().to(put_out[0]), put_out[0]) else 1
        for layer in layers:
            theirs = states[layer + shift][0, -1].to(ours)
            distances.append((ours[layer, row] - theirs).norm() / theirs.norm())
    seen = f"layers 0 to {layers[-1]}, at the last token of each prompt"
    off = _largest(torch.stack(distances))
    return Finding("vectors are read at hidden_states[layer + 1]", off, model.tolerance, "of the stream", seen)


def name_cells(conditions: Sequence[Condition]) -> str:
    """Conditions in words."""
    how = [[c.positions, *([] if c.operation == "add" else [c.operation])] for c in conditions]
    return "; ".join(
        f"{c.vector} x {c.multiplier:g} at layer{'s' if c.beyond else ''} {c.site} ({', '.join(words)})"
        for c, words in zip(conditions, how, strict=True)
    )


def _largest(values: Tensor) -> float:
    """NaN if any is."""
    return float(values.max()) if values.numel() else 0.0

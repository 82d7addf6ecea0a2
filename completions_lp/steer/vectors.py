"""Contrast pairs -> SteeringVector.

A vector comes of the residual streams of *all* pairs' texts at once, each read at one token or over several, as their
mean; ``estimates`` has the methods. It takes forward passes only. What is read of each text is kept in float32 or
better, and sums over pairs are made once over all of them in float64, so memory batches do not change them: a mean over
50 pairs is one estimate, not the average of five noisier ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from completions_lp.model import CPU_TOKENS, Model, Room, read_lens, read_residuals, row_bytes
from completions_lp.records import ContrastPair, InputError, SteeringVector
from completions_lp.steer.estimates import METHODS, Estimate, Method, estimate
from completions_lp.steer.quality import check_number, list_quality, place_vectors
from completions_lp.steer.remote import ServedDifferences


@dataclass(frozen=True, eq=False)
class PairDifferences:
    """Residual streams of each pair's positive and negative text, where they are read."""

    layers: tuple[int, ...]
    sides: Float[np.ndarray, "side layer pair d_model"]
    """Positive, negative."""
    method: Method
    lens: Float[np.ndarray, "layer 2"]
    """A_lin, and the mean log odds of the answers; NaN where pairs have none."""

    @property
    def n_pairs(self) -> int:
        """How many pairs there are."""
        n: int = self.sides.shape[2]
        return n

    @property
    def values(self) -> Float[np.ndarray, "layer pair d_model"]:
        """The differences, positive less negative."""
        found: Float[np.ndarray, "layer pair d_model"] = self.sides[0] - self.sides[1]
        return found

    @cached_property
    def estimates(self) -> Sequence[Estimate]:
        """What the pairs say, by layer."""
        return [estimate(*layer, method=self.method) for layer in np.swapaxes(self.sides, 0, 1)]

    def average_sides(self) -> Float[np.ndarray, "side layer d_model"]:
        """The means of all positive and of all negative texts."""
        means: Float[np.ndarray, "side layer d_model"] = self.sides.mean(2, dtype=np.float64)
        return means

    def average_signed(self, signs: Float[np.ndarray, "mean pair"]) -> Float[np.ndarray, "mean layer d_model"]:
        """The means of the differences, once each pair has a sign."""
        values = self.values.astype(np.float64)
        return np.stack([np.einsum("p,lpd->ld", one, values) / len(one) for one in signs])


Differences = PairDifferences | ServedDifferences


def read_differences(
    model: Model,
    pairs: Sequence[ContrastPair],
    *,
    layers: Sequence[int] | None = None,
    method: Method = "mean_difference",
    memory_budget: float | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Differences:
    """The residual stream (``resid_post``) of each pair's two texts at the output of each layer, all pairs in one go.

    ``layers`` are 0-based blocks, all by default; ``method`` is ``mean_difference``, ``pca`` or ``lda``; a pass takes
    ``memory_budget`` GiB, by default a quarter of the machine's memory, or ``batch_size`` pairs.

    Raises:
        OutOfRoom: A pair does not fit in memory alone; it is named by its place.
        InputError: There are no pairs, or too few for the method, a layer is out of range, a text is longer than the
            model's context, or a residual stream is not finite.
    """
    chosen = tuple(sorted(set(range(model.n_layers) if layers is None else layers)))
    model.check_layers(chosen)
    check_pairs(model, pairs, method)
    if model.is_remote:
        return ServedDifferences.read(model, pairs, chosen, method)
    order = sorted(range(len(pairs)), key=lambda i: -max(len(pairs[i].positive), len(pairs[i].negative)))
    longest = max(len(ids) for pair in pairs for ids in (pair.positive, pair.negative))
    dtype = np.float64 if model.exact_dtype == torch.float64 else np.float32
    sides = np.empty((2, len(chosen), len(pairs), model.d_model), dtype=dtype)
    lens = np.full((len(chosen), len(pairs), 2), np.nan)

    def read(rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return _read_pairs(model, [pairs[i] for i in rows], chosen)

    def describe(i: int) -> tuple[None, str]:
        return None, f"contrast pair {i + 1} of {len(pairs[i].positive)} and {len(pairs[i].negative)} tokens"

    each, room = 2 * row_bytes(model, tokens=longest, logits=0), Room.find(model, memory_budget)
    if batch_size is None and model.device.type == "cpu":
        batch_size = max(1, min(room.bytes // each, CPU_TOKENS // (2 * longest)))
    with tqdm(total=len(pairs), desc="vector", unit="pair", disable=not progress) as bar:
        for rows, found in room.share(order, read, each=each, most=batch_size, name=describe):
            sides[:, :, rows], lens[:, rows] = found
            _check_residuals(sides[:, :, rows], rows, chosen)
            bar.update(len(rows))
    return PairDifferences(chosen, sides, method, average_lens(lens))


def _read_pairs(
    model: Model, pairs: Sequence[ContrastPair], layers: Sequence[int]
) -> tuple[Float[np.ndarray, "side layer pair d_model"], Float[np.ndarray, "layer pair 2"]]:
    """What is read of both texts of some pairs; and of the answers, through the logit lens, where there are any."""
    n, spans = len(pairs), [pair.spans for pair in pairs]
    texts = [pair.positive for pair in pairs] + [pair.negative for pair in pairs]
    asked = [(i, answers) for i, pair in enumerate(pairs) if (answers := pair.answers) is not None]
    places = [span[0] for span in spans] + [span[1] for span in spans] + [answers[0] for _, answers in asked]
    rows = [*range(2 * n), *(i for i, _ in asked)]
    found = read_residuals(model, texts, places, layers, rows=rows)
    lens = np.full((len(layers), n, 2), np.nan)
    before = found[:, 2 * n :]
    if asked and bool(torch.isfinite(before).all()):
        tokens = [answers[1:] for _, answers in asked] * len(layers)
        told = read_lens(model, before.reshape(-1, before.shape[-1]), tokens).numpy()
        lens[:, [i for i, _ in asked]] = told.reshape(len(layers), len(asked), 2)
    return np.stack([found[:, :n].numpy(), found[:, n : 2 * n].numpy()]), lens


def average_lens(lens: Float[np.ndarray, "layer pair 2"]) -> Float[np.ndarray, "layer 2"]:
    """Means over the pairs that have answers; NaN where none has."""
    known = lens[:, np.isfinite(lens).all((0, 2))]
    if not known.shape[1]:
        return np.full((len(lens), 2), np.nan)
    means: Float[np.ndarray, "layer 2"] = known.mean(1)
    return means


def extract_vector(
    model: Model,
    pairs: Sequence[ContrastPair],
    *,
    name: str = "vector",
    layers: Sequence[int] | None = None,
    method: Method = "mean_difference",
    memory_budget: float | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> SteeringVector:
    """The vector of all pairs, per layer: their mean difference, by default. See ``read_differences``."""
    differences = read_differences(
        model,
        pairs,
        layers=layers,
        method=method,
        memory_budget=memory_budget,
        batch_size=batch_size,
        progress=progress,
    )
    return form_vector(
        differences, name=name, provenance=describe_source(model, differences.method, differences.n_pairs)
    )


def form_vector(
    differences: Differences, *, name: str = "vector", provenance: Mapping[str, str | int | float] | None = None
) -> SteeringVector:
    """The vector of all pairs by the method that was asked for, with its quality and its spans, per layer."""
    found = zip(differences.layers, differences.estimates, strict=True)
    vector = SteeringVector(
        name=name,
        kind="target",
        directions={layer: one.direction for layer, one in found},
        quality=list_quality(differences.layers, differences.estimates, differences.lens),
        provenance=dict(provenance or {}),
    )
    return place_vectors([vector], differences.layers, differences.average_sides())[0]


def describe_source(model: Model, method: Method, n_pairs: int) -> dict[str, str | int | float]:
    """What a stored vector needs to be used rightly: where it was read and where it is added."""
    return {
        "model": model.name,
        "revision": model.revision or "",
        "weights": model.fingerprint(),
        "d_model": model.d_model,
        "site": "resid_post",
        "layer_index": "0-based block whose output is read and added to",
        "method": METHODS[method],
        "n_pairs": n_pairs,
    }


def _check_residuals(
    sides: Float[np.ndarray, "side layer pair d_model"], rows: Sequence[int], layers: Sequence[int]
) -> None:
    """Raise InputError at the first of these pairs of which a text is no number, naming the pair and the layer."""
    finite = np.isfinite(sides).all((0, 3))
    if finite.all():
        return
    layer, row = np.argwhere(~finite)[0]
    raise InputError(
        f"contrast pair {rows[row] + 1}: the residual stream after layer {layers[layer]} is not finite; likely an "
        'overflow in half precision, or weights that are no numbers: use [model] dtype = "float32" or bfloat16, and '
        "run completions-lp doctor"
    )


def check_pairs(model: Model, pairs: Sequence[ContrastPair], method: Method = "mean_difference") -> None:
    """Raise InputError unless there are pairs, in the model's vocabulary and context; the first misfit is named."""
    check_number(len(pairs), method)
    for number, pair in enumerate(pairs, start=1):
        model.check_tokens((*pair.positive, *pair.negative), f"contrast pair {number}")
        longest = max(len(pair.positive), len(pair.negative))
        if longest > model.context_length:
            raise InputError(
                f"contrast pair {number} has {longest} tokens, more than the {model.context_length} of the context of "
                f"{model.name}; shorten it or leave it out"
            )

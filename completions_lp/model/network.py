"""Run the network with a vector added, and read out: every nnsight trace of the plain path is here.

The shapes of one pass: rows are independent sequences; prefixes are padded on the left, what follows them on the
right, so that the two meet without a gap (sliding windows count positions in the cache). Positions are given
explicitly. Only the numbers that a caller asked for leave a trace; logits never do.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nnsight
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from completions_lp.model.edits import make_edits
from completions_lp.model.loading import Model
from completions_lp.model.output import head_envoy, widen_output
from completions_lp.model.reading import Reader
from completions_lp.model.residual import Edits, replace_stream, residual_stream
from completions_lp.model.transfer import pad_tokens
from completions_lp.records import Condition, SteeringVector


@dataclass(frozen=True)
class Steering:
    """What is done to the residual stream of a batch at the output of some blocks."""

    edits: Mapping[int, Edits]
    """By block, an edit per row of the batch, or a single one for all of them."""
    on_prompt: bool = False
    """Whether it acts on what a prefix was before its completion, too."""
    until: int | None = None
    """How many tokens it acts on from the prompt's last one on; None for all."""

    @classmethod
    def under(cls, model: Model, vectors: Mapping[str, SteeringVector], conditions: Sequence[Condition]) -> "Steering":
        """What conditions of the same layers and positions do: one row for each."""
        first = conditions[0]
        edits = make_edits(vectors, conditions, device=model.device, dtype=model.exact_dtype)
        return cls(edits, first.acts_on_prompt, first.until)

    def repeat(self, times: int) -> "Steering":
        """For a batch of the unsteered rows, then those of each condition, so many of each."""
        return replace(self, edits={layer: edits.repeat(times) for layer, edits in self.edits.items()})

    def edit_block(self, layer: int, output: Any, acts: Bool[Tensor, "#row token"] | None = None) -> Any:
        """What a block puts out, edited: everywhere, or where steering ``acts``; as it is, where nothing is done."""
        if layer not in self.edits:
            return output
        return replace_stream(output, self.edits[layer].apply(residual_stream(output), acts))

    def find_acting(self, said: int, n: int, device: torch.device) -> Bool[Tensor, "1 token"] | None:
        """On which of ``n`` tokens it acts that have ``said`` of the completion before them; None for all."""
        if self.until is None or said + n <= self.until:
            return None
        return torch.arange(said, said + n, device=device)[None] < self.until


@dataclass(frozen=True)
class Prefix:
    """Keys and values of tokens that went through the network already, padded on the left."""

    cache: Any
    """A transformers cache, or None where no row has a token."""
    mask: Int[Tensor, "row past"]
    tokens: Int[Tensor, "row past"] | None = None
    """The tokens themselves, of a model whose memory cannot be continued: they go through again with what follows."""
    begin: Int[Tensor, " row"] | None = None
    """And how many of them are the prompt's, less its last: those after are steered each time they go through."""
    said: int = 0
    """How many tokens have followed the prompts since, their last ones among them."""

    def select(self, rows: Int[Tensor, " kept"]) -> "Prefix":
        """Some rows, in their order and as often as they are named."""
        cache = self.copy_cache()
        for layer in () if cache is None else cache.layers:
            kept = getattr(layer, "keys", None)
            layer.batch_select_indices(rows if kept is None else rows.to(kept.device))
        tokens, begin = (None if part is None else part[rows] for part in (self.tokens, self.begin))
        return Prefix(cache, self.mask[rows], tokens, begin, self.said)

    def copy_cache(self) -> Any:
        """The cache for one pass, which grows it; no tensor is copied, as layers rebind theirs and never write in."""
        if self.cache is None:
            return None
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        return cache


def prefill(
    model: Model, sequences: Sequence[Sequence[int]], *, steering: Steering | None = None, keep_all: bool = False
) -> Prefix:
    """Run sequences through the network once and keep their keys and values.

    They are steered only where ``steering`` acts on prompts. Layers with a sliding window keep what their window
    needs, or, with ``keep_all``, every token.

    Raises:
        NotImplementedError: With ``keep_all``, of a model that has no keys and values to keep.
    """
    whole = steering if steering is not None and steering.on_prompt else None
    ids, there = pad_tokens(sequences, model.device, left=True)
    mask = there.long()
    if model.usage.recall == "tokens":
        if keep_all:
            raise NotImplementedError("it remembers something else than keys and values")
        return Prefix(None, mask, ids, mask.sum(1))
    if ids.shape[1] == 0:
        return Prefix(None, mask)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    network, blocks = model.network, model.blocks
    kept = model.cache_name
    if not kept:
        raise NotImplementedError("it takes no cache of keys and values")
    inputs = {"attention_mask": mask, "position_ids": positions, **({kept: DynamicCache()} if keep_all else {})}
    # A padding token sees nothing at all, which some attention kernels turn into NaN; 0 x NaN would reach the others.
    padding = None if len(set(map(len, sequences))) == 1 else ~there[..., None]
    with torch.no_grad(), model.arithmetic(), network.trace(input_ids=ids, use_cache=True, logits_to_keep=1, **inputs):
        for layer, block in enumerate(blocks):
            if whole is not None and layer in whole.edits:
                block.output = whole.edit_block(layer, block.output)
            if padding is not None:
                output = block.output
                stream = residual_stream(output)
                block.output = replace_stream(output, stream.masked_fill(padding.to(stream.device), 0.0))
        cache = nnsight.save(getattr(network.output, kept, None))
    model.usage.count(ids)
    _check_cache(cache)
    return Prefix(cache, mask)


def _check_cache(cache: Any) -> None:
    """Raise NotImplementedError if a layer keeps what is no key or value: states that a pass writes over in place."""
    if cache is None:
        raise NotImplementedError("it gives no cache of keys and values back")
    for layer in getattr(cache, "layers", [cache]):
        if not hasattr(layer, "keys") or hasattr(layer, "conv_states") or hasattr(layer, "recurrent_states"):
            raise NotImplementedError("a layer remembers something else than keys and values")


def score_next(
    model: Model, prefix: Prefix, tokens: Int[Tensor, "row token"], reader: Reader, *, steering: Steering | None = None
) -> dict[str, Tensor]:
    """What ``reader`` reads after each token past the prefix; padding, on the right, is for the caller to mask."""
    if prefix.tokens is not None:
        return _run_whole(model, prefix, prefix.tokens, tokens, reader.read_logits, steering)
    inputs = _continue(model, prefix, tokens)
    network, blocks, exact, output = model.network, model.blocks, model.exact_dtype, head_envoy(model)
    acts = None if steering is None else steering.find_acting(prefix.said, tokens.shape[1], tokens.device)
    with torch.no_grad(), model.arithmetic(), network.trace(input_ids=tokens, use_cache=True, **inputs):
        steer_blocks(blocks, steering, acts)
        widen_output(model, output)
        found = nnsight.save(reader.read_logits(network.output.logits.to(exact)))
    model.usage.count(tokens)
    return dict(found)


def read_next(
    model: Model, prefix: Prefix, tokens: Int[Tensor, "row token"], *, steering: Steering | None = None
) -> tuple[Float[Tensor, "row vocab"], Prefix]:
    """Logits after the last token of every row, and the prefix grown by ``tokens``."""
    if prefix.tokens is not None:
        found = _run_whole(model, prefix, prefix.tokens, tokens, lambda whole: {"logits": whole[:, -1]}, steering)
        mask = torch.cat([prefix.mask, torch.ones_like(tokens)], 1)
        grown = torch.cat([prefix.tokens, tokens], 1)
        return found["logits"], Prefix(None, mask, grown, prefix.begin, prefix.said + tokens.shape[1])
    inputs = _continue(model, prefix, tokens)
    network, blocks, exact, kept = model.network, model.blocks, model.exact_dtype, model.cache_name
    output = head_envoy(model)
    acts = None if steering is None else steering.find_acting(prefix.said, tokens.shape[1], tokens.device)
    with (
        torch.no_grad(),
        model.arithmetic(),
        network.trace(input_ids=tokens, use_cache=True, logits_to_keep=1, **inputs),
    ):
        steer_blocks(blocks, steering, acts)
        widen_output(model, output)
        cache = nnsight.save(getattr(network.output, kept))
        logits = nnsight.save(network.output.logits[:, 0].to(exact))
    model.usage.count(tokens)
    return logits, Prefix(cache, inputs["attention_mask"], said=prefix.said + tokens.shape[1])


def steer_blocks(
    blocks: Sequence[Any], steering: Steering | None, acts: Bool[Tensor, "#row token"] | None = None
) -> None:
    """Inside a trace, edit what blocks put out, from the lowest one up."""
    if steering is None:
        return
    for layer in steering.edits:
        blocks[layer].output = steering.edit_block(layer, blocks[layer].output, acts)


def _run_whole(
    model: Model,
    prefix: Prefix,
    past: Int[Tensor, "row past"],
    tokens: Int[Tensor, "row token"],
    read: Callable[[Float[Tensor, "row token vocab"]], dict[str, Tensor]],
    steering: Steering | None,
) -> dict[str, Tensor]:
    """What is read after each new token of texts that go through the network from their first token on.

    Padding is on the right alone, so it is after all that is read, and no layer of a causal model can take it in.
    """
    start = prefix.mask.sum(1, keepdim=True)
    columns = torch.arange(past.shape[1] + tokens.shape[1], device=tokens.device)
    ids = torch.cat([past, tokens], 1)
    moved = columns + past.shape[1] - start  # left padding gone
    ids = ids.gather(1, moved.clamp(max=ids.shape[1] - 1)).masked_fill(moved >= ids.shape[1], 0)
    ids = ids[:, : int(start.max()) + tokens.shape[1]]
    rows = torch.arange(len(ids), device=ids.device)[:, None]
    at = start + torch.arange(tokens.shape[1], device=ids.device)
    acts = torch.ones_like(ids, dtype=torch.bool)
    if steering is not None:
        begin, places = start if prefix.begin is None else prefix.begin[:, None], columns[: ids.shape[1]]
        acts &= (places >= begin) | steering.on_prompt
        acts &= places < (ids.shape[1] if steering.until is None else begin + steering.until)
    network, blocks, exact, output = model.network, model.blocks, model.exact_dtype, head_envoy(model)
    with torch.no_grad(), model.arithmetic(), network.trace(input_ids=ids, use_cache=False):
        steer_blocks(blocks, steering, acts)
        states = output.input
        output.input = states[rows.to(states.device), at.to(states.device)]
        widen_output(model, output)
        found = nnsight.save(read(network.output.logits.to(exact)))
    model.usage.count(ids)
    return dict(found)


def read_residuals(
    model: Model, sequences: Sequence[Sequence[int]], index: Sequence[int], layers: Sequence[int]
) -> Float[Tensor, "layer row d_model"]:
    """Residual stream of each row at one token after each layer (the last ends the pass), in float32 or better."""
    ids, there = pad_tokens(sequences, model.device)
    mask = there.long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    rows, columns = torch.arange(len(ids), device=ids.device), torch.tensor(index, device=ids.device)
    network, blocks, exact = model.network, model.blocks, model.exact_dtype
    inputs = {"attention_mask": mask, "position_ids": positions, "use_cache": False}
    with torch.no_grad(), model.arithmetic(), network.trace(input_ids=ids, **inputs) as tracer:
        read = []
        for layer in sorted(layers):
            stream = residual_stream(blocks[layer].output)
            read.append(stream[rows.to(stream.device), columns.to(stream.device)].to(ids.device, exact))
        residuals: Tensor = nnsight.save(torch.stack(read).cpu())
        tracer.stop()
    model.usage.count(ids)
    return residuals


def read_norms(
    model: Model, sequences: Sequence[Sequence[int]], index: Sequence[int], layers: Sequence[int]
) -> Float[np.ndarray, "layer row"]:
    """How long the residual stream of each row is at one token after each layer."""
    if model.is_remote:
        from completions_lp.model.sending import read_norms_remotely  # which is above this module, and rarely needed

        return read_norms_remotely(model, sequences, index, layers)
    residuals = read_residuals(model, sequences, index, layers).numpy().astype(np.float64)
    norms: Float[np.ndarray, "layer row"] = np.linalg.norm(residuals, axis=-1)
    return norms


def _continue(model: Model, prefix: Prefix, tokens: Int[Tensor, "row token"]) -> dict[str, Any]:
    """Attention mask, positions and cache of tokens that follow a prefix."""
    new = torch.ones_like(tokens)
    positions = prefix.mask.sum(1, keepdim=True) + torch.arange(tokens.shape[1], device=tokens.device)
    inputs: dict[str, Any] = {"attention_mask": torch.cat([prefix.mask, new], 1), "position_ids": positions}
    if prefix.cache is not None:
        inputs[model.cache_name] = prefix.copy_cache()
    return inputs

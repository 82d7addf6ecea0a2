"""The network where it is served: passes over whole texts, each inside one session, of which only numbers leave.

This module is sent to the server, so it imports what is there. Values that cross between a block and the network are
copies: nothing is written in place, only assignments to ``.output`` return. Nothing is remembered from pass to pass
either, since keys and values would have to cross each time. So every pass begins with the first token of its texts, as
one tree per prompt (the layers below a steered one are still run once), or in plain rows of whole texts where trees are
not exact. Arguments and results are tensors, numbers, texts, lists and dictionaries: there is no other type on both
sides.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import nnsight
import numpy as np
import torch
import transformers
from jaxtyping import Bool, Float, Int
from torch import Tensor

from completions_lp.model.head import Head
from completions_lp.model.masks import make_masks
from completions_lp.model.reading import Reader
from completions_lp.model.residual import Edits, branch_rows, replace_stream, residual_stream
from completions_lp.model.squeeze import squeeze
from completions_lp.model.transfer import pad_tokens
from completions_lp.model.tree import find_ancestors

Done = Mapping[int, Mapping[str, Any]]
"""By block, what conditions do there: the fields of ``residual.Edits``."""
Reach = tuple[bool, int | None]
"""Whether steering acts on prompts, and on how many tokens from their last one on (None: all)."""


def as_it_is(states: Tensor) -> AbstractContextManager[Any]:
    """Where products are made in the precision of what is multiplied: a server may run requests under autocast."""
    return torch.autocast(states.device.type, enabled=False)


class Site:
    """A network as it stands on its server. ``told`` is what the client knows of it, or has learned of it before."""

    def __init__(self, network: Any, told: Mapping[str, Any]) -> None:
        self.network = network
        self.module = network._module
        self.blocks = [network.get(path) for path in told["blocks"]]
        self.output = network.get(told["head"])
        self.decoder = network.get(told["decoder"]) if told["decoder"] else network
        self.rows: bool = told["rows"]
        self.device = torch.device("cpu")  # where inputs are made; nnsight moves them
        self.attention_dtype: torch.dtype = getattr(torch, told["dtype"])
        self.exact = torch.promote_types(self.attention_dtype, torch.float32)
        self.form: Sequence[Any] | None = told.get("form")
        self._head: Head | None = None
        self.tokens = self.passes = 0  # that went through it

    def run(
        self,
        ids: Int[Tensor, "row token"],
        positions: Int[Tensor, "row token"],
        masks: Any,
        done: Done,
        acts: Bool[Tensor, "row token"],
        *,
        branch: bool = False,
    ) -> Float[Tensor, "grown token d_model"]:
        """Hidden states before the head. All rows are edited alike, or with ``branch`` copies of them by condition."""
        network, blocks, output, n = self.network, self.blocks, self.output, len(ids)
        layers, decoder, several = sorted(done), self.decoder, isinstance(masks, dict)
        edits = {layer: Edits(**done[layer]) for layer in layers}
        inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": None if several else masks}
        with torch.no_grad(), network.trace(**inputs, use_cache=False):
            if several:  # one for each kind of layer, which nnsight takes for no mask at all
                given, named = decoder.inputs
                decoder.inputs = given, {**named, "attention_mask": masks}
            for layer in layers:
                whole = blocks[layer].output
                stream, edit = residual_stream(whole), edits[layer]
                grown = branch_rows(stream, n, edit, acts[None]) if branch else edit.apply(stream, acts)
                blocks[layer].output = replace_stream(whole, grown)
            hidden = output.input
            output.skip(hidden[:, :1, :1])
        self.tokens, self.passes = self.tokens + len(hidden) * ids.shape[1], self.passes + 1
        states: Tensor = hidden.to(self.exact)
        return states

    def read(self, ids: Int[Tensor, "row token"], index: Int[Tensor, " row"], layers: Sequence[int]) -> Tensor:
        """The residual stream ``[layer, row, d_model]`` of each text, padded on the right, at one token."""
        network, blocks, exact, places = self.network, self.blocks, self.exact, torch.arange(len(ids))
        positions, found = torch.arange(ids.shape[1])[None].expand(len(ids), -1), []
        with torch.no_grad(), network.trace(input_ids=ids, position_ids=positions, use_cache=False) as tracer:
            for layer in layers:
                found.append(residual_stream(blocks[layer].output)[places, index].to(exact).cpu())
            tracer.stop()
        stacked: Tensor = torch.stack(found)
        return stacked

    @property
    def head(self) -> Head:
        """Its head, of the form that was found to give its own logits."""
        if self._head is None:
            scale, cap = self.form or (1.0, None)
            weight, has_bias = self._take_weight()
            self._head = Head(weight, has_bias, cap, self.exact, scale)
        return self._head

    def find_form(self, forms: Sequence[Sequence[Any]], ids: Int[Tensor, "row token"]) -> Sequence[Any] | None:
        """The first of some forms (scale, cap) that gives the network's own logits; None where none does."""
        network, output, exact = self.network, self.output, self.exact
        with torch.no_grad(), network.trace(input_ids=ids, use_cache=False):
            hidden = output.input
            logits = network.output.logits
        hidden, logits = hidden[0].to(exact), logits[0].to(exact)
        near = 1e-4 if self.attention_dtype == self.exact else 2e-2
        for form in forms:
            self.form, self._head = form, None
            with as_it_is(hidden):
                ours = self.head.logits(self.head.widen(hidden))
            if torch.allclose(ours, logits.to(ours.device), rtol=near, atol=near * float(logits.abs().max())):
                return form
        return None

    def _take_weight(self) -> tuple[Float[Tensor, "vocab width"], bool]:
        """The head's matrix, with its bias as one more column, and whether it has one.

        A block in a sandbox sees the network without its weights. There the head is asked for what it makes of unit
        vectors: each logit is then a weight, to the last bit.
        """
        layer, output, network = self.output._module, self.output, self.network
        if layer.weight.device.type != "meta":
            weight, bias = layer.weight.detach(), getattr(layer, "bias", None)
        else:
            dtype, ids = self.attention_dtype, torch.zeros(1, 1, dtype=torch.long)
            units = torch.eye(layer.weight.shape[1], dtype=dtype)
            has_bias = getattr(layer, "bias", None) is not None
            with torch.no_grad(), network.trace(input_ids=ids, use_cache=False):
                rows = output(units)
                bias = output(torch.zeros_like(units[:1]))[0] if has_bias else None
            weight = (rows if bias is None else rows - bias).T.contiguous()
        return (weight if bias is None else torch.cat([weight, bias[:, None].to(weight)], 1)), bias is not None


class Growing:
    """Prompts and what was said after them so far; every step is one pass over all of it."""

    def __init__(
        self,
        site: Site,
        prompts: Sequence[Sequence[int]],
        *,
        done: Done,
        reach: Reach,
        held: int,
    ) -> None:
        self.site, self.done, self.reach, self.held = site, done, reach, held
        self.begin = [len(prompt) - 1 for prompt in prompts]
        # Of every prompt its nodes: the prompt's tokens but the last, a chain, then what grows.
        self.tokens = [list(prompt[:-1]) for prompt in prompts]
        self.parents = [list(range(-1, len(prompt) - 2)) for prompt in prompts]
        self.last: list[int] = []

    def step(self, prompt: Sequence[int], parent: Sequence[int], token: Sequence[int]) -> Any:
        """Logits after each new node, in pieces; nodes are given as in ``sample.growth``."""
        places = []
        for i, mother, one in zip(prompt, parent, token, strict=True):
            self.parents[i].append(self.last[mother] if self.last else len(self.tokens[i]) - 1)
            places.append(len(self.tokens[i]))
            self.tokens[i].append(one)
        self.last = places
        states = self._run_rows(prompt) if self.site.rows else self._run_trees(prompt)
        size = max(1, self.held // len(self.site.head.weight))
        for start in range(0, len(states), size):
            piece = slice(start, min(start + size, len(states)))
            with as_it_is(states):
                logits = self.site.head.logits(self.site.head.widen(states[piece]))
            yield piece, logits

    def _run_trees(self, prompt: Sequence[int]) -> Float[Tensor, "node d_model"]:
        ids, positions, masks, acts = pack_trees(self.site, self.tokens, self.parents, self.begin, self.reach)
        hidden = self.site.run(ids, positions, masks, self.done, acts)
        return hidden[torch.tensor(list(prompt)), torch.tensor(self.last)]

    def _run_rows(self, prompt: Sequence[int]) -> Float[Tensor, "node d_model"]:
        texts = []
        for i, node in zip(prompt, self.last, strict=True):
            said, at = [], node
            while at >= 0:
                said.append(self.tokens[i][at])
                at = self.parents[i][at]
            texts.append(said[::-1])
        begin = [self.begin[i] for i in prompt]
        ids, positions, acts = pack_rows(texts, begin, self.reach)
        hidden = self.site.run(ids, positions, None, self.done, acts)
        return hidden[torch.arange(len(texts)), torch.tensor([len(text) - 1 for text in texts])]


def pack_trees(
    site: Site, tokens: Sequence[Sequence[int]], parents: Sequence[Sequence[int]], begin: Sequence[int], reach: Reach
) -> tuple[Tensor, Tensor, Any, Tensor]:
    """Ids, positions, masks and where steering acts, of trees that hold their prompts: a row each, padded on the right.

    Parents come before their children; ``begin`` is the place of each prompt's last token.
    """
    n, width = len(tokens), max(map(len, tokens))
    ids, depths = np.zeros((n, width), dtype=np.int64), np.zeros((n, width), dtype=np.int64)
    visible = np.zeros((n, width, width), dtype=bool)
    for i, (said, above) in enumerate(zip(tokens, parents, strict=True)):
        seen = find_ancestors(above)
        ids[i, : len(said)], depths[i, : len(said)] = said, seen.sum(1) - 1
        visible[i, : len(said), : len(said)] = seen
        padding = np.arange(len(said), width)
        visible[i, padding, padding] = True
    masks = make_masks(site, visible, depths, depths)
    acts = _find_steered(torch.from_numpy(depths), begin, reach)
    return torch.from_numpy(ids), torch.from_numpy(depths), masks, acts


def pack_rows(texts: Sequence[Sequence[int]], begin: Sequence[int], reach: Reach) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, positions and where steering acts, of whole texts: padding is on the right, after all that is read."""
    ids, _ = pad_tokens(texts, torch.device("cpu"))
    places = torch.arange(ids.shape[1])[None].expand(len(texts), -1)
    return ids, places, _find_steered(places, begin, reach)


def _find_steered(places: Int[Tensor, "row token"], begin: Sequence[int], reach: Reach) -> Bool[Tensor, "row token"]:
    """Where steering acts, by places in the text: from each prompt's last token or the first on, as far as it does."""
    (on_prompt, until), start = reach, torch.tensor(list(begin))[:, None]
    acts = (places >= start) | on_prompt
    return acts if until is None else acts & (places < start + until)


def score(network: Any, told: Mapping[str, Any], work: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """Of every piece of work (``pieces.Piece``), by pass, what ``Reader`` reads, squeezed: unsteered rows first."""
    site = Site(network, told)
    return [[_score_pass(site, piece, done) for done in piece["passes"]] for piece in work]


def _score_pass(site: Site, piece: Mapping[str, Any], done: Done) -> dict[str, Any]:
    begin, reach, n = piece["begin"], piece["reach"], len(piece["edge_node"])
    if site.rows:
        ids, positions, acts = pack_rows(piece["texts"], begin, reach)
        hidden = torch.cat([site.run(ids, positions, None, one, acts) for one in ({}, *_part(done))])
    else:
        ids, positions, masks, acts = pack_trees(site, [piece["tokens"]], [piece["parents"]], begin, reach)
        hidden = site.run(ids, positions, masks, done, acts, branch=True)
    repeats, there = len(hidden) // n, hidden.device
    # Only nodes where a token follows are read: of a prompt, its last.
    nodes = piece["nodes"].repeat(repeats, 1).to(there)
    place = torch.zeros(n, hidden.shape[1], dtype=torch.long)
    place.scatter_(1, piece["nodes"], torch.arange(nodes.shape[1]).repeat(n, 1))
    hidden = hidden.gather(1, nodes[..., None].expand(-1, -1, hidden.shape[2]))
    edges = place.gather(1, piece["edge_node"]).to(there), piece["edge_token"].to(there)
    answers = None if piece["answers"] is None else tuple(x.to(there) for x in piece["answers"])
    with torch.no_grad(), as_it_is(hidden):
        found = Reader(n, *edges, answers, piece["divergences"]).read_hidden(site.head, hidden)
    return squeeze(found, whole=piece["exact"])


def _part(done: Done) -> list[Done]:
    """What each condition does by itself, in their order."""
    found: dict[int, dict[int, Mapping[str, Any]]] = {}
    for layer in sorted(done):
        edits = Edits(**done[layer])
        for row, condition in enumerate(edits.which):
            found.setdefault(condition, {})[layer] = vars(edits.take([row]))
    return [found[condition] for condition in sorted(found)]


def read_norms(network: Any, told: Mapping[str, Any], work: Mapping[str, Any]) -> Float[Tensor, "layer row"]:
    """How long the residual stream of ``ids``, padded on the right, is at ``index`` after ``layers``."""
    norms: Tensor = Site(network, told).read(work["ids"], work["index"], work["layers"]).to(torch.float64).norm(dim=-1)
    return norms


def examine(network: Any, told: Mapping[str, Any], work: Mapping[str, Any]) -> dict[str, Any]:
    """What a client has to know before it asks for numbers: precision, head, versions, and a trial scored both ways.

    ``trials`` are a piece as a tree and the same as rows; ``reason`` says why trees do not run, if they do not.
    """
    block, ids = network.get(told["blocks"][0]), work["ids"]
    with torch.no_grad(), network.trace(input_ids=ids, use_cache=False) as tracer:
        stream = residual_stream(block.output)
        tracer.stop()
    dtype = str(stream.dtype).removeprefix("torch.")
    site = Site(network, {**told, "dtype": dtype})
    form = site.find_form(work["forms"], ids)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "nnsight": nnsight.__version__}
    checked = {"dtype": dtype, "form": form, "reason": "", "found": [], **versions}
    if form is None:
        return checked
    for piece, rows in zip(work["trials"], (False, True), strict=True):
        site.rows = rows
        try:
            checked["found"].append(_score_pass(site, piece, piece["passes"][0]))
        except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
            if rows:
                raise
            checked["reason"] = f"trees do not run on it ({type(error).__name__}: {str(error)[:200]})"
    return checked

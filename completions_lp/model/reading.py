"""Reduce the last hidden states of a wavefront, inside its trace, to the few numbers per token that are kept.

Rows are variants x prompts, the unsteered ones first. Everything is in nats and in float32 or better; nothing that is
kept has the vocabulary as an axis.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from completions_lp.model.head import Head
from completions_lp.model.transfer import download, upload

Watch = Callable[[tuple[int, ...]], Sequence[Int[np.ndarray, " token"] | None]]
"""For one prompt: what its completion has said so far -> the tokens that would complete each of its answers."""


def stack_answers(
    watch: Sequence[Watch], said: Sequence[Sequence[tuple[int, ...]]], width: int, device: torch.device
) -> tuple[Int[Tensor, "prompt side candidate"], Bool[Tensor, "prompt node side candidate"]]:
    """Tokens (padded with 0) that complete an answer after what a prompt's nodes have said, and at which nodes.

    There are as many sides as the prompt with the most answers has; what another has not is completed by no token.
    """
    # By prompt, side and set of tokens, the nodes at which it completes: most nodes share a set.
    sets: list[list[dict[tuple[int, ...], list[int]]]] = []
    known: dict[int, tuple[Int[np.ndarray, " token"], tuple[int, ...]]] = {}
    for look, nodes in zip(watch, said, strict=True):
        sets.append([])
        for node, prefix in enumerate(nodes):
            for side, ids in enumerate(look(prefix)):
                if side == len(sets[-1]):
                    sets[-1].append({})
                if ids is not None:
                    _, listed = known.get(id(ids)) or known.setdefault(id(ids), (ids, tuple(ids.tolist())))
                    sets[-1][side].setdefault(listed, []).append(node)
    union = [[sorted({token for some in one for token in some}) for one in answers] for answers in sets]
    sides = max(len(answers) for answers in union)
    candidates = max(1, max(len(all_of) for answers in union for all_of in answers))
    tokens = np.zeros((len(sets), sides, candidates), dtype=np.int64)
    allowed = np.zeros((len(sets), width, sides, candidates), dtype=bool)
    for i, answers in enumerate(union):
        for side, all_of in enumerate(answers):
            tokens[i, side, : len(all_of)] = all_of
            column = {token: k for k, token in enumerate(all_of)}
            for some, at in sets[i][side].items():
                allowed[i, np.array(at)[:, None], side, np.array([column[token] for token in some], dtype=int)] = True
    return upload(tokens, device), upload(allowed, device)


@dataclass(frozen=True)
class Reader:
    """What to read at the nodes of ``n`` prompts' trees."""

    n: int
    edge_node: Int[Tensor, "prompt edge"]
    edge_token: Int[Tensor, "prompt edge"]
    answers: tuple[Int[Tensor, "prompt side candidate"], Bool[Tensor, "prompt node side candidate"]] | None
    divergences: bool

    def read_hidden(self, head: Head, hidden: Float[Tensor, "row node d_model"]) -> dict[str, Tensor]:
        """``logprob [row, edge]``; if asked for ``answers [row, node, side]``, ``entropy``, ``kl``, ``kl_reverse``."""
        rows, width, _ = hidden.shape
        repeats = rows // self.n
        wide = head.widen(hidden)
        edge_node, edge_token = self.edge_node.to(wide.device), self.edge_token.to(wide.device)
        reduced = head.reduce(wide.reshape(repeats, self.n * width, -1), divergences=self.divergences)
        flat, lse = wide.flatten(0, 1), reduced.pop("lse").flatten()
        first = torch.arange(rows, device=flat.device)[:, None] * width
        places = (edge_node.repeat(repeats, 1) + first).reshape(-1)
        logits = head.read(flat, places, edge_token.repeat(repeats, 1).reshape(-1))
        found = {"logprob": (logits - lse[places]).view(rows, -1)}
        if self.answers is not None:
            tokens, allowed = (part.to(wide.device) for part in self.answers)
            logits = torch.einsum(
                "vpnd,pscd->vpnsc",
                wide.reshape(repeats, self.n, width, -1).to(lse),
                head.weight[tokens].to(lse),
            )
            logits = head.soften(logits).to(lse).masked_fill(~allowed, float("-inf"))
            found["answers"] = (logits.logsumexp(-1) - lse.view(repeats, self.n, width, 1)).flatten(0, 1)
        found |= {name: values.view(-1, width) for name, values in reduced.items()}
        return download(found)

    def read_logits(self, logits: Float[Tensor, "row node vocab"]) -> dict[str, Tensor]:
        """The same from whole logits, for a model whose head has no known form, and as the plain definition."""
        repeats = len(logits) // self.n
        nodes, tokens = (part.to(logits.device).repeat(repeats, 1) for part in (self.edge_node, self.edge_token))
        row = torch.arange(len(logits), device=logits.device)[:, None]
        logprob = logits - logits.logsumexp(-1, keepdim=True)
        found = {"logprob": logprob[row, nodes, tokens]}
        if self.answers is not None:
            ids, allowed = (part.to(logits.device) for part in self.answers)
            wide = logprob.view(repeats, self.n, *logprob.shape[1:])
            picked = torch.stack([wide[:, i][..., ids[i]] for i in range(self.n)], 1)
            found["answers"] = picked.masked_fill(~allowed, float("-inf")).logsumexp(-1).flatten(0, 1)
        if self.divergences:
            base = logprob[: self.n].repeat(repeats, 1, 1)
            found["entropy"] = -_weigh(logprob[: self.n], logprob[: self.n])
            found["kl"] = _weigh(base, base - logprob)
            found["kl_reverse"] = _weigh(logprob, logprob - base)
        return download(found)


def _weigh(logprob: Tensor, values: Tensor) -> Tensor:
    """Mean of values under a distribution over the vocabulary; a token of probability 0 adds nothing, not 0 × inf."""
    weight = logprob.exp()
    return torch.where(weight == 0, 0.0, weight * values).sum(-1)

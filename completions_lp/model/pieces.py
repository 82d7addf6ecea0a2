"""What a server is given to score, and what came back: a prompt and its completions, as one tree or as rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from completions_lp.model.reading import Watch, stack_answers
from completions_lp.model.squeeze import expand
from completions_lp.model.task import Reduced
from completions_lp.model.transfer import pad_tokens
from completions_lp.model.tree import build_tree

HERE = torch.device("cpu")


class Piece:
    """One prompt and what is said after it; whole texts go through the network, see ``served``.

    ``reach``: whether steering acts on the prompt, and for how many tokens after. ``rows``: every text by itself, where
    trees are not exact.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        said: Sequence[Sequence[int]],
        *,
        reach: tuple[bool, int | None],
        rows: bool,
        watch: Watch | None = None,
        divergences: bool = False,
        exact: bool = False,
    ) -> None:
        self.mask = pad_tokens(said, HERE)[1].numpy()
        begin = len(prompt) - 1
        self._asked: dict[str, Any] = {"reach": reach, "divergences": divergences, "exact": exact}
        if rows:
            texts = [[*prompt, *ids[:-1]] for ids in said]
            self._asked |= {"texts": texts, "begin": [begin] * len(said)}
            self.size = len(texts) * max(map(len, texts))
            last = max(map(len, texts)) - 1
            nodes = torch.arange(begin, begin + self.mask.shape[1]).clamp(max=last)[None].repeat(len(said), 1)
            edges = nodes, pad_tokens(said, HERE)[0]
            prefixes = [[tuple(ids[:t]) for t in range(len(ids))] for ids in said]
            self._paths = self._places = None
        else:
            tree = build_tree(said, prompt)
            self._asked |= {"tokens": tree.tokens.tolist(), "parents": tree.parents.tolist(), "begin": [begin]}
            self.size = len(tree.tokens)
            used, place = np.unique(tree.edge_node, return_inverse=True)
            nodes = torch.from_numpy(used)[None]
            edges = torch.from_numpy(tree.edge_node)[None], torch.from_numpy(tree.edge_token)[None]
            every = tree.prefixes(len(prompt))
            prefixes = [[every[node] for node in used.tolist()]]
            self._paths, self._places = tree.paths, place[tree.paths]
        answers = None
        if watch is not None:
            answers = list(stack_answers([watch] * len(prefixes), prefixes, nodes.shape[1], HERE))
        self._asked |= {"nodes": nodes, "edge_node": edges[0], "edge_token": edges[1], "answers": answers}

    def ask(self, passes: Sequence[Mapping[int, Mapping[str, Any]]]) -> dict[str, Any]:
        """What goes to the server; of each pass, what is done by layer."""
        return {**self._asked, "passes": list(passes)}

    def read(self, found: Mapping[str, Any]) -> Reduced:
        """What came back of a pass, by completion and token."""
        arrays = {name: value.numpy() for name, value in expand(found).items()}
        if self._paths is None:
            n = len(self.mask)
            arrays = {name: value.reshape(-1, n, *value.shape[1:]) for name, value in arrays.items()}
        else:
            at = {name: self._paths if name == "logprob" else self._places for name in arrays}
            arrays = {name: value[:, at[name]] for name, value in arrays.items()}
        entropy = arrays.pop("entropy", None)
        return Reduced(**arrays, entropy=None if entropy is None else entropy[0])

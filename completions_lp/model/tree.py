"""The prefix tree of a prompt's completions: what they share is computed once.

A *node* is a token that goes through the network; node 0 is the last prompt token (or the prompt's first one, where the
prompt itself is part of the tree). An *edge* is a token that is scored: it hangs on the node before it. Two completions
that begin alike share nodes and edges; a last token is an edge without a node.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True, eq=False)
class Tree:
    """A packed prefix tree; parents come before their children."""

    tokens: Int[np.ndarray, " node"]
    parents: Int[np.ndarray, " node"]
    depths: Int[np.ndarray, " node"]
    edge_node: Int[np.ndarray, " edge"]
    edge_token: Int[np.ndarray, " edge"]
    paths: Int[np.ndarray, "completion token"]
    """The edges of each completion in order; padded with 0, which is a real edge: mask by length."""

    @property
    def ancestors(self) -> Bool[np.ndarray, "node node"]:
        """What each node sees: its ancestors and itself."""
        return find_ancestors(self.parents.tolist())

    def prefixes(self, n_root: int) -> list[tuple[int, ...]]:
        """What each node's completions have said so far; nothing yet at the ``n_root`` nodes of the prompt."""
        said: list[tuple[int, ...]] = []
        for node, parent in enumerate(self.parents.tolist()):
            said.append(() if node < n_root else (*said[parent], int(self.tokens[node])))
        return said


def find_ancestors(parents: Sequence[int]) -> Bool[np.ndarray, "node node"]:
    """Of each node of a tree, its ancestors and itself; parents (-1: none) come before their children."""
    seen = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    return seen


def build_tree(completions: Sequence[Sequence[int]], root: Sequence[int]) -> Tree:
    """The tree of some completions below a chain of prompt tokens: the last one, or the whole prompt.

    Depth first, so that neighbours share most of what they see.
    """
    tokens, parents = list(root), list(range(-1, len(root) - 1))
    depths = list(range(len(root)))
    edges: dict[tuple[int, int], int] = {}
    children: dict[tuple[int, int], int] = {}
    paths = np.zeros((len(completions), max(map(len, completions))), dtype=np.int64)
    for row in sorted(range(len(completions)), key=lambda row: list(completions[row])):
        completion = completions[row]
        node = len(root) - 1
        for t, token in enumerate(completion):
            key = (node, token)
            paths[row, t] = edges.setdefault(key, len(edges))
            if t + 1 < len(completion):
                if key not in children:
                    children[key] = len(tokens)
                    tokens.append(token)
                    parents.append(node)
                    depths.append(depths[node] + 1)
                node = children[key]
    edge_node, edge_token = np.array(list(edges), dtype=np.int64).T
    return Tree(np.array(tokens), np.array(parents), np.array(depths), edge_node, edge_token, paths)


def count_nodes(completions: Sequence[Sequence[int]]) -> int:
    """Nodes of the tree below its root: distinct proper prefixes of the completions."""
    return len({tuple(completion[:end]) for completion in completions for end in range(1, len(completion))})

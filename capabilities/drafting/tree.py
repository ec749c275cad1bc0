"""Drafts that branch: the tree of tokens most likely to contain the checking model's path; pure.

OPT-Tree (Wang et al. 2024): at each depth every kept node is extended by its best tokens; a node
weighs the product of drafting probabilities on its path, and the heaviest of the depth are kept.
The sum of the heaviest weights is the expected number of tokens that stand; when a further depth
adds less than ``threshold`` of it, it does not pay. A node weighs less than its parent, so the
heaviest nodes over all depths are a tree again.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from capabilities.segments.choosing import Pairs

NODES, DEPTH, THRESHOLD = 50, 10, 0.5
LEAVES = 4  # of a tree that is sent: each takes a sequence of a worker, there and here


@dataclass(frozen=True, slots=True)
class Node:
    """A drafted token; ``parent`` is an index into the tree, -1 for the root's children."""

    token: int
    parent: int
    depth: int  # 0 directly after the prefix
    weight: float


@dataclass(slots=True)
class Growing:
    """A tree under construction: the shell asks the drafter, this decides what to ask next."""

    nodes_most: int = NODES
    width_most: int = NODES  # of one depth: so many sequences the drafting worker holds at once
    depth_most: int = DEPTH
    threshold: float = THRESHOLD
    nodes: list[Node] = field(default_factory=list)
    _frontier: list[int] = field(default_factory=list)
    _gain: float = 0.0
    done: bool = False

    def begin(self, after: Pairs) -> list[int]:
        """The drafter's best tokens after the prefix; answers the nodes to extend."""
        self._grow([(-1, 1.0, after)])
        return self.frontier

    @property
    def frontier(self) -> list[int]:
        """Nodes whose best successors are wanted next; none when the tree is done."""
        return [] if self.done else list(self._frontier)

    def extend(self, rows: Sequence[Pairs]) -> list[int]:
        """Best tokens after each node of the frontier; answers the next frontier."""
        parents = [(i, self.nodes[i].weight) for i in self._frontier]
        self._grow([(i, weight, row) for (i, weight), row in zip(parents, rows, strict=True)])
        return self.frontier

    def _grow(self, sources: Sequence[tuple[int, float, Pairs]]) -> None:
        from math import exp

        depth = self.nodes[sources[0][0]].depth + 1 if sources[0][0] >= 0 else 0
        found = [
            Node(token, parent, depth, weight * exp(logprob))
            for parent, weight, row in sources
            for token, logprob in row
        ]
        width = min(self.width_most, self.nodes_most)
        kept = heapq.nlargest(width, found, key=lambda node: node.weight)
        begin = len(self.nodes)
        self.nodes += kept
        self._frontier = list(range(begin, len(self.nodes)))
        gain = sum(heapq.nlargest(self.nodes_most, (node.weight for node in self.nodes)))
        self.done = gain - self._gain <= self.threshold or depth + 1 >= self.depth_most
        self._gain = gain

    def tree(self) -> list[Node]:
        """The heaviest nodes of all depths, parents before children, indices renewed."""
        order = sorted(range(len(self.nodes)), key=lambda i: (-self.nodes[i].weight, i))
        chosen = sorted(order[: self.nodes_most], key=lambda i: (self.nodes[i].depth, i))
        place = {old: new for new, old in enumerate(chosen)}
        return [
            Node(n.token, place[n.parent] if n.parent >= 0 else -1, n.depth, n.weight)
            for n in (self.nodes[i] for i in chosen)
        ]


def path_to(tree: Sequence[Node], index: int) -> list[int]:
    """The nodes from the root's child to ``index``."""
    path = []
    while index >= 0:
        path.append(index)
        index = tree[index].parent
    return path[::-1]


def trimmed(tree: Sequence[Node], most: int) -> list[Node]:
    """The tree without its lightest leaves, until at most so many are left."""
    kept = set(range(len(tree)))
    while True:
        ends = kept - {tree[i].parent for i in kept}
        if len(ends) <= most:
            break
        kept.remove(min(ends, key=lambda i: (tree[i].weight, -i)))
    place = {old: new for new, old in enumerate(sorted(kept))}
    return [
        Node(n.token, place[n.parent] if n.parent >= 0 else -1, n.depth, n.weight)
        for n in (tree[i] for i in sorted(kept))
    ]


def leaves(tree: Sequence[Node]) -> list[list[int]]:
    """The path of node indices to each leaf: one sequence of a batch each."""
    parents = {node.parent for node in tree}
    return [path_to(tree, index) for index in range(len(tree)) if index not in parents]


def longest(tree: Sequence[Node], root: Pairs, rows: Sequence[Pairs]) -> tuple[list[int], int]:
    """The path that the checking model takes through the tree, greedily, and the token after it.

    ``root``: its best tokens after the prefix; ``rows``: after each node.
    """
    path: list[int] = []
    at, best = -1, root[0][0]
    while True:
        step = next(
            (i for i, node in enumerate(tree) if node.parent == at and node.token == best), None
        )
        if step is None:
            return path, best
        path.append(step)
        at, best = step, rows[step][0][0]

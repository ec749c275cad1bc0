"""What is remembered of prompts that were computed before; pure, it only decides.

A radix tree over token sequences, one for each label. Each node is a run of tokens that lies in
a sequence of the context of its own, its *seat*. A request that begins like a stored path takes
that path's cells by reference (``llama_memory_seq_cp`` marks cells, it copies nothing) and
computes only what follows. What it computes becomes nodes itself, so a prompt shared by many is
computed once. A label is a wall: trees of two labels have no node in common (law 3).

What a running request stands on is held and never evicted; of the rest, the leaf that was used
longest ago goes first. Source: RadixAttention (SGLang).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

NO_SEAT = -1


@dataclass(frozen=True, slots=True)
class Copy:
    """Let sequence ``target`` share the cells of ``source`` at positions begin to end."""

    source: int
    target: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Take positions begin to end from sequence ``seat``."""

    seat: int
    begin: int
    end: int


Op = Copy | Drop


@dataclass(slots=True, eq=False)
class Node:
    """``tokens`` from position ``begin`` on, after its parent's; the root has none."""

    begin: int = 0
    tokens: tuple[int, ...] = ()
    seat: int = NO_SEAT
    parent: Node | None = None
    children: dict[int, Node] = field(default_factory=dict)
    holders: int = 0
    used: int = 0  # when it was last used, counted in uses

    @property
    def end(self) -> int:
        """The position after its last token."""
        return self.begin + len(self.tokens)

    def path(self) -> Iterator[Node]:
        """This node and those above it, without the root."""
        node: Node | None = self
        while node is not None and node.parent is not None:
            yield node
            node = node.parent


@dataclass(slots=True, eq=False)
class Hold:
    """The first ``length`` tokens of a request, kept while it runs."""

    label: str
    node: Node
    length: int


@dataclass(slots=True)
class PrefixTree:
    """The trees of all labels over one context.

    ``seats``: the sequences that nodes may lie in; each split and each new ending needs one.
    ``max_tokens``: cells that nodes may take together; each makes every step a little longer,
    since attention passes over it.
    """

    seats: Sequence[int]
    max_tokens: int
    tokens: int = 0
    evicted: int = 0  # tokens, since the start
    _roots: dict[str, Node] = field(default_factory=dict)
    _free: list[int] = field(init=False)
    _uses: int = 0

    def __post_init__(self) -> None:
        self._free = list(reversed(self.seats))

    def match(self, label: str, tokens: Sequence[int]) -> Hold:
        """Hold the longest stored beginning of ``tokens`` under this label, perhaps none."""
        node = self._roots.get(label)
        if node is None:
            return Hold(label, Node(), 0)
        node, length = _descend(node, tokens)
        self._keep(node)
        return Hold(label, node, length)

    def copies(self, hold: Hold, target: int) -> list[Op]:
        """How sequence ``target`` gets what is held."""
        return [
            Copy(node.seat, target, node.begin, min(node.end, hold.length))
            for node in hold.node.path()
            if node.begin < hold.length
        ]

    def store(self, hold: Hold, tokens: Sequence[int], source: int) -> tuple[list[Op], int]:
        """Remember ``tokens``, whose state lies in sequence ``source``, and hold them instead.

        Returns what to do and how many tokens are new to the tree; those cells are the tree's
        from now on. What does not fit even after eviction is left out, from the end.
        """
        ops: list[Op] = []
        root = self._roots.setdefault(hold.label, Node())
        node, length = _descend(root, tokens)
        self._keep(node)
        split = node.begin < length < node.end
        wanted = len(tokens) - length
        # Freed first: an eviction may take any node that nobody holds.
        self._evict_for(wanted, seats=1 + split, ops=ops)
        self._roots[hold.label] = root  # the eviction may have emptied and pruned it
        added = min(wanted, self.max_tokens - self.tokens)
        if added > 0 and len(self._free) > split:
            if split:
                node = self._split(node, length, ops)
            leaf = Node(length, tuple(tokens[length : length + added]), self._free.pop(), node)
            node.children[leaf.tokens[0]] = leaf
            ops.append(Copy(source, leaf.seat, leaf.begin, leaf.end))
            self.tokens += added
            self._keep(leaf)
            self._let_go(node)
            node, length = leaf, leaf.end
        else:
            added = 0
        self._let_go(hold.node)
        hold.node, hold.length = node, length
        self._prune(hold.label)
        return ops, added

    def release(self, hold: Hold) -> None:
        """The request is over; what it held may be evicted."""
        self._let_go(hold.node)
        hold.node, hold.length = Node(), 0

    def evict(self, tokens: int) -> list[Op]:
        """Free at least ``tokens`` cells, or all that nobody holds."""
        ops: list[Op] = []
        goal = self.tokens - tokens
        while self.tokens > goal and self._evict_one(ops):
            pass
        return ops

    def forget(self, label: str) -> list[Op]:
        """Drop what is stored under a label and not held."""
        ops: list[Op] = []
        while root := self._roots.get(label):
            leaves = [leaf for leaf in _leaves(root) if not leaf.holders]
            if not leaves:
                break
            for leaf in leaves:
                self._remove(leaf, ops)
            self._prune(label)
        return ops

    def labels(self) -> list[str]:
        """The labels under which something is stored."""
        return list(self._roots)

    def _keep(self, node: Node) -> None:
        self._uses += 1
        for one in node.path():
            one.holders += 1
            one.used = self._uses

    def _let_go(self, node: Node) -> None:
        for one in node.path():
            one.holders -= 1

    def _evict_for(self, tokens: int, *, seats: int, ops: list[Op]) -> None:
        while self.tokens + tokens > self.max_tokens or len(self._free) < seats:
            if not self._evict_one(ops):
                return

    def _evict_one(self, ops: list[Op]) -> bool:
        idle = [
            (leaf.used, label, leaf)
            for label, root in self._roots.items()
            for leaf in _leaves(root)
            if not leaf.holders
        ]
        if not idle:
            return False
        _, label, leaf = min(idle, key=lambda entry: entry[0])
        self._remove(leaf, ops)
        self._prune(label)
        return True

    def _remove(self, leaf: Node, ops: list[Op]) -> None:
        assert leaf.parent is not None
        del leaf.parent.children[leaf.tokens[0]]
        ops.append(Drop(leaf.seat, leaf.begin, leaf.end))
        self._free.append(leaf.seat)
        self.tokens -= len(leaf.tokens)
        self.evicted += len(leaf.tokens)

    def _split(self, node: Node, at: int, ops: list[Op]) -> Node:
        """Cut a node in two at position ``at``; returns the upper part, which is new."""
        parent, cut = node.parent, at - node.begin
        assert parent is not None
        upper = Node(
            node.begin,
            node.tokens[:cut],
            self._free.pop(),
            parent,
            {node.tokens[cut]: node},
            node.holders,
            node.used,
        )
        ops.append(Copy(node.seat, upper.seat, upper.begin, at))
        ops.append(Drop(node.seat, upper.begin, at))
        parent.children[upper.tokens[0]] = upper
        node.begin, node.tokens, node.parent = at, node.tokens[cut:], upper
        # Whoever kept the whole node while it was being split now keeps the upper part alone.
        node.holders -= 1
        return upper

    def _prune(self, label: str) -> None:
        root = self._roots.get(label)
        if root is not None and not root.children:
            del self._roots[label]


def _descend(node: Node, tokens: Sequence[int]) -> tuple[Node, int]:
    """The node in which the common beginning ends, and its length."""
    length = 0
    while length < len(tokens):
        child = node.children.get(tokens[length])
        if child is None:
            break
        common = shared_prefix(child.tokens, tokens[length : length + len(child.tokens)])
        node, length = child, length + common
        if common < len(child.tokens):
            break
    return node, length


def _leaves(root: Node) -> Iterable[Node]:
    waiting = list(root.children.values())
    while waiting:
        node = waiting.pop()
        if node.children:
            waiting += node.children.values()
        else:
            yield node


def shared_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences have in common from their beginning."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count

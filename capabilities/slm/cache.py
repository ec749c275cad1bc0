"""The prefix tree's decisions, carried out on the memory of a context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from capabilities.slm.llama import Context
from capabilities.slm.prefixes import Copy, Hold, Op, PrefixTree

# Nodes of the tree. llama.cpp reserves a row of logits for each, 0.6 MB with a large vocabulary.
MAX_SEATS = 32


class PrefixCache:
    """Prompts computed before, kept in the sequences ``seats`` of a context.

    With ``max_tokens`` 0 nothing is kept and everything below does nothing.
    """

    def __init__(self, context: Context, seats: Sequence[int], max_tokens: int) -> None:
        self._context = context
        self._tree = PrefixTree(seats, max_tokens if seats else 0)

    @property
    def tokens(self) -> int:
        """The cells that it takes."""
        return self._tree.tokens

    @property
    def evicted(self) -> int:
        """Tokens that had to go, since the start."""
        return self._tree.evicted

    def match(self, label: str, tokens: Sequence[int]) -> Hold:
        """Hold what is stored of the beginning of ``tokens``; end it with :meth:`release`."""
        return self._tree.match(label, tokens)

    def attach(self, hold: Hold, slot: int) -> None:
        """Begin the empty sequence ``slot`` with what is held."""
        self._apply(self._tree.copies(hold, slot))

    def store(self, hold: Hold, tokens: Sequence[int], slot: int) -> int:
        """Keep the state of ``tokens`` in sequence ``slot``; how many cells the tree now owns."""
        ops, added = self._tree.store(hold, tokens, slot)
        self._apply(ops)
        return added

    def release(self, hold: Hold) -> None:
        """What was held may be evicted."""
        self._tree.release(hold)

    def free(self, tokens: int) -> None:
        """Give up at least ``tokens`` cells, if nobody holds them."""
        self._apply(self._tree.evict(tokens))

    def forget(self, labels: Iterable[str]) -> None:
        """Drop everything under these labels that nobody holds."""
        for label in labels:
            self._apply(self._tree.forget(label))

    def labels(self) -> list[str]:
        """The labels under which something is stored."""
        return self._tree.labels()

    def _apply(self, ops: Iterable[Op]) -> None:
        for op in ops:
            if isinstance(op, Copy):
                self._context.copy(op.source, op.target, op.begin, op.end)
            else:
                self._context.forget(op.seat, op.begin, op.end)

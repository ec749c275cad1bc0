"""Where drafts come from: a small model, the first segment of the big one, or the text itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from capabilities.drafting.accepting import distribution, draw
from capabilities.drafting.ngrams import lookup
from capabilities.drafting.tree import LEAVES, Growing, Node, path_to, trimmed
from capabilities.segments.choosing import Pairs, Sampling
from capabilities.segments.passes import Passes
from mesh.core.errors import GossamerError

PASS_S = 30.0
# Tokens that one depth more has to bring by the drafter's own word. A depth costs it one pass.
WORTH = 0.3


@dataclass(slots=True)
class Draft:
    """Drafted tokens, and for sampled answers what each was drawn from."""

    tokens: list[int] = field(default_factory=list)
    drawn: list[dict[int, float]] = field(default_factory=list)

    def tail(self, begin: int) -> Draft:
        """From a token on."""
        return Draft(self.tokens[begin:], self.drawn[begin:])


class Drafter(Protocol):
    """Guesses what follows."""

    async def draft(self, tokens: Sequence[int], length: int, sampling: Sampling) -> Draft:
        """Up to ``length`` tokens that may follow ``tokens``; raises a GossamerError."""

    async def close(self) -> None:
        """The answer is over."""


class NgramDrafter:
    """Repeats what followed the same words before; needs no model."""

    async def draft(self, tokens: Sequence[int], length: int, sampling: Sampling) -> Draft:
        """What followed the last tokens before."""
        found = lookup(tokens, length)
        drawn = [{token: 1.0} for token in found] if sampling.temperature > 0 else []
        return Draft(found, drawn)

    async def close(self) -> None:
        """It holds nothing."""


class ModelDrafter:
    """Drafts with a model of the same vocabulary: a small one, or the first layers of the big one
    with their exit."""

    def __init__(self, passes: Passes, rng: random.Random | None = None) -> None:
        self._passes = passes
        self._name = "draft/" + os.urandom(8).hex()
        self._fed: list[int] = []  # tokens whose state is in the worker
        self._rng = rng or random.Random(int.from_bytes(os.urandom(16), "big"))

    async def draft(self, tokens: Sequence[int], length: int, sampling: Sampling) -> Draft:
        """Token after token."""
        made = Draft()
        wanted = list(tokens)
        for _ in range(length):
            weights = distribution(await self._after(wanted, sampling.wants), sampling)
            token = draw(weights, self._rng) if sampling.temperature > 0 else next(iter(weights))
            made.tokens.append(token)
            if sampling.temperature > 0:
                made.drawn.append(weights)
            wanted.append(token)
        return made

    async def tree(self, tokens: Sequence[int], depth: int) -> list[Node]:
        """What may follow ``tokens``, as a tree of at most :data:`LEAVES` ends, for greedy answers.

        The ends of a depth are forks of one sequence, which the worker computes in one step.
        """
        growing = Growing(
            nodes_most=LEAVES * depth, width_most=LEAVES, depth_most=depth, threshold=WORTH
        )
        frontier = growing.begin(await self._after(list(tokens), LEAVES))
        while frontier:
            frontier = growing.extend(
                await asyncio.gather(
                    *(
                        self._branch(number, len(tokens), growing.nodes, index)
                        for number, index in enumerate(frontier)
                    )
                )
            )
        return trimmed(growing.tree(), LEAVES)

    async def _branch(self, number: int, at: int, nodes: Sequence[Node], index: int) -> Pairs:
        """The best tokens after a node; its path is short, and computed anew with each depth."""
        fork = f"{self._name}/{number}"
        path = [nodes[i].token for i in path_to(nodes, index)]
        try:
            found = await self._passes.forward(
                fork, at, path, timeout_s=PASS_S, logprobs=LEAVES, fork=self._name
            )
            return found.logprobs[-1]
        finally:
            with contextlib.suppress(GossamerError):
                await self._passes.drop_sequence(fork, timeout_s=PASS_S)

    async def _after(self, wanted: list[int], count: int) -> Pairs:
        """The best tokens after these; what was fed before and still holds is not fed again."""
        shared = 0
        while shared < min(len(wanted) - 1, len(self._fed)) and wanted[shared] == self._fed[shared]:
            shared += 1
        try:
            found = await self._passes.forward(
                self._name, shared, wanted[shared:], timeout_s=PASS_S, logprobs=count
            )
        except BaseException:
            self._fed = self._fed[:shared]  # how far the pass came is not known
            raise
        self._fed = list(wanted)
        return found.logprobs[-1]

    async def close(self) -> None:
        """Forget the sequence."""
        self._fed.clear()
        with contextlib.suppress(GossamerError):
            await self._passes.drop_sequence(self._name, timeout_s=PASS_S)

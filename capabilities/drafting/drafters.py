"""Where drafts come from: a small model, the first segment of the big one, or the text itself."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from capabilities.drafting.accepting import distribution, draw
from capabilities.drafting.ngrams import lookup
from capabilities.segments.choosing import Sampling
from capabilities.segments.passes import Passes
from mesh.core.errors import GossamerError

PASS_S = 30.0


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
        """Token after token; what was fed before and still holds is not fed again."""
        made = Draft()
        wanted = list(tokens)
        for _ in range(length):
            shared = 0
            while (
                shared < min(len(wanted) - 1, len(self._fed))
                and wanted[shared] == self._fed[shared]
            ):
                shared += 1
            given = wanted[shared:]
            try:
                found = await self._passes.forward(
                    self._name, shared, given, timeout_s=PASS_S, logprobs=sampling.wants
                )
            except BaseException:
                self._fed = self._fed[:shared]  # how far the pass came is not known
                raise
            self._fed = list(wanted)
            weights = distribution(found.logprobs[-1], sampling)
            token = draw(weights, self._rng) if sampling.temperature > 0 else next(iter(weights))
            made.tokens.append(token)
            if sampling.temperature > 0:
                made.drawn.append(weights)
            wanted.append(token)
        return made

    async def close(self) -> None:
        """Forget the sequence."""
        self._fed.clear()
        with contextlib.suppress(GossamerError):
            await self._passes.drop_sequence(self._name, timeout_s=PASS_S)

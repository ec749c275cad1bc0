"""A small model that drafts for a bigger one, as its agent holds it: asked like any other model.

Answers are the bigger model's, word for word, while a node that holds it checks the drafts. When
none does, the small model answers alone, and the answer says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

from capabilities.drafting import messages
from capabilities.drafting.drafters import ModelDrafter, NgramDrafter
from capabilities.drafting.speculating import Checker, Count, Speculator, Wish
from capabilities.messages import Generate, Halves
from capabilities.segments.pairing import PairHost, Spoken, sampling_of
from capabilities.slm import protocol
from capabilities.slm.host import Health, ModelHost
from mesh.core.errors import GossamerError, ModelError
from mesh.core.records import ModelInfo


class DraftHost(PairHost):
    """``small`` drafts for the model called ``bigger``; with ``ngrams`` only the text itself does.
    With ``trees`` greedy drafts branch.

    ``checker`` is set by the agent once it is in the mesh.
    """

    def __init__(
        self,
        small: ModelHost,
        bigger: str,
        *,
        ngrams: bool = False,
        trees: bool = False,
        check_s: float = 10.0,
    ) -> None:
        super().__init__(small, bigger)
        self._small = small
        self.bigger = bigger
        self._ngrams, self._trees = ngrams, trees
        self._check_s = check_s
        self.checker: Checker | None = None
        self._speculator: Speculator | None = None

    @property
    def ready(self) -> protocol.Ready:
        """What the small model's worker said."""
        return self._small.ready

    @property
    def info(self) -> ModelInfo:
        """The small model: its bytes are what is here."""
        return self._small.info

    def health(self) -> Health:
        """Of the small model."""
        return self._small.health()

    async def start(self) -> ModelInfo:
        """Load the small model; raises a GossamerError."""
        info = await self._small.start()
        self._speculator = Speculator(
            NgramDrafter if self._ngrams else lambda: ModelDrafter(self._small),
            _Later(self),
            vocab_hash=info.vocab_hash,
        )
        self._slots = asyncio.Semaphore(self._small.ready.slots)
        return info

    async def stop(self) -> None:
        """End its worker."""
        if self._speculator is not None:
            await self._speculator.farewells.stop()
        await self._small.stop()

    async def _tokens(
        self, prompt: list[int], request: Generate, most: int, told: dict[str, Halves]
    ) -> AsyncGenerator[Spoken, None]:
        if self._speculator is None:
            raise ModelError("the drafting model is not loaded", hint="start the host first")
        count, said_by, said = Count(), Counter[str](), 0
        tokens, why = list(prompt), ""
        wish = Wish(
            sampling=sampling_of(request),
            max_tokens=most,
            check_s=self._check_s,
            trees=self._trees,
            # Those that earlier answers ended with: the other side need not go beyond them.
            ends=tuple(token for token, (_, kind) in self._spelled.items() if kind == "end"),
        )
        words = self._speculator.generate(prompt, wish, ends=lambda token: False, count=count)
        try:
            async for word in words:
                said += 1
                said_by[word.by] += 1
                tokens.append(word.token)
                yield Spoken(word.token, word.by, 0.0)
        except GossamerError as error:
            # A lost link costs quality, never the answer.
            why = error.message
        finally:
            await words.aclose()
            told["halves"] = self._halves(count, said_by, why)
        if not why or said >= most:
            return
        drafter = ModelDrafter(self._small)
        try:
            while said < most:
                draft = await drafter.draft(tokens, 1, wish.sampling)
                said += 1
                said_by["alone"] += 1
                tokens += draft.tokens
                yield Spoken(draft.tokens[0], "alone", 0.0)
        finally:
            told["halves"] = self._halves(count, said_by, why)
            await drafter.close()

    def _halves(self, count: Count, said_by: Counter[str], why: str) -> Halves:
        return Halves(
            edge_s=count.draft_s,
            far_s=count.check_s,
            link_s=max(0.0, count.waited_s - count.check_s),
            asked=count.passes,
            degraded=said_by["alone"],
            said_by=dict(said_by),
            mode="alone" if why else "together",
            why=why,
            alone_from=1 + sum(said_by.values()) - said_by["alone"] if why else 0,
        )


class _Later:
    """The checking node, as soon as the agent has found the way."""

    def __init__(self, host: DraftHost) -> None:
        self._host = host

    async def ask(self, question: messages.Question, timeout_s: float) -> messages.Answer:
        """Ask it; raises ModelError while there is no way."""
        return await self._way().ask(question, timeout_s)

    def stream(
        self, question: messages.Question, timeout_s: float
    ) -> AsyncGenerator[messages.Answer, None]:
        """Ask it, and hear all that it says."""
        return self._way().stream(question, timeout_s)

    def _way(self) -> Checker:
        if self._host.checker is None:
            raise ModelError("this agent is not in a mesh yet")
        return self._host.checker

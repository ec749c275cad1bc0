"""A model on two machines, as the agent at the edge holds it: asked like any other model.

Two workers hold the edge's segments; the rest is asked of a far side that the agent finds in the
mesh.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import msgspec

from capabilities.messages import Generate, Halves
from capabilities.segments import messages
from capabilities.segments.accounts import Account
from capabilities.segments.calibration import RAW, Calibration
from capabilities.segments.edge import Asked, Edge, Far
from capabilities.segments.files import Segment
from capabilities.segments.pairing import PairHost, Spoken, sampling_of
from capabilities.segments.rows import Floats
from capabilities.segments.switching import Rules, Switch
from capabilities.slm import protocol
from capabilities.slm.host import Health, ModelHost
from mesh.core.errors import ModelError
from mesh.core.records import ModelInfo


class SplitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are made; see :class:`capabilities.segments.edge.Asked`."""

    theta: float = 0.8
    infer_s: float = 2.0
    alone: bool = False
    budget_s: float = 1.0


class SplitHost(PairHost):
    """The edge of a model on two machines; ``first`` has to be loaded with ``capture``.

    ``second`` may be missing: then the first exit is the last; ``second_calibration`` is what its
    file says of its exit. ``far`` is set by the agent once
    it is in the mesh; without it the model works alone.
    """

    def __init__(
        self,
        first: ModelHost,
        second: ModelHost | None,
        segment: Segment,
        options: SplitOptions | None = None,
        *,
        change: Callable[[Floats], Floats] | None = None,
        second_calibration: Calibration = RAW,
    ) -> None:
        super().__init__(first, segment.model)
        self._first, self._second = first, second
        self._segment = segment
        self.options = options or SplitOptions()
        self._change = change
        self._calibrations = (segment.calibration, second_calibration)
        self.far: Far | None = None
        self._edge: Edge | None = None

    @property
    def segment(self) -> Segment:
        """The first segment."""
        return self._segment

    @property
    def ready(self) -> protocol.Ready:
        """What the first segment's worker said; its rates are those of this side alone."""
        return self._first.ready

    @property
    def info(self) -> ModelInfo:
        """The model, for the node's profile."""
        return msgspec.structs.replace(self._first.info, name=self._segment.model)

    @property
    def edge(self) -> Edge:
        """The side of this machine, and what it has learnt of the way; raises ModelError."""
        if self._edge is None:
            raise ModelError(f"{self._segment.model} is not loaded", hint="start the host first")
        return self._edge

    def health(self) -> Health:
        """Of both workers: the first that is not well, or the first segment's."""
        mine = self._first.health()
        other = self._second.health() if self._second is not None else mine
        return mine if other.healthy else other

    async def start(self) -> ModelInfo:
        """Load the segments; raises a GossamerError."""
        hosts = [host for host in (self._first, self._second) if host is not None]
        await asyncio.gather(*(host.start() for host in hosts))
        switch = Switch(Rules(budget_s=self.options.budget_s), allowed=not self.options.alone)
        self._edge = Edge(
            self._first,
            self._second,
            _Later(self),
            layers=self._segment.range.last,
            width=self._first.info.embedding_dim,
            model_sha256=self._segment.model_sha256,
            switch=switch,
            change=self._change,
            calibrations=self._calibrations,
        )
        self._slots = asyncio.Semaphore(self._first.ready.slots)
        return self.info

    async def stop(self) -> None:
        """End the workers."""
        if self._edge is not None:
            await self._edge.farewells.stop()
        hosts = [host for host in (self._first, self._second) if host is not None]
        await asyncio.gather(*(host.stop() for host in hosts))

    async def _tokens(
        self, prompt: list[int], request: Generate, most: int, told: dict[str, Halves]
    ) -> AsyncGenerator[Spoken, None]:
        account = Account()
        asked = Asked(
            theta=self.options.theta,
            infer_s=self.options.infer_s,
            sampling=sampling_of(request),
            max_tokens=most,
        )
        answer = self.edge.generate(prompt, asked, ends=lambda token: False, account=account)
        try:
            async for said in answer:
                yield Spoken(said.token, said.by, said.probability)
        finally:
            await answer.aclose()
            told["halves"] = halves_of(account)


class _Later:
    """The far side, as soon as the agent has found the way."""

    def __init__(self, host: SplitHost) -> None:
        self._host = host

    async def ask(self, question: messages.Question, timeout_s: float) -> messages.Answer:
        """Ask it; raises ModelError while there is no way."""
        if self._host.far is None:
            raise ModelError("this agent is not in a mesh yet")
        return await self._host.far.ask(question, timeout_s)


def halves_of(account: Account) -> Halves:
    """The account as it travels."""
    return Halves(
        edge_s=account.edge_s,
        far_s=account.far_s,
        link_s=account.link_s,
        bytes_up=account.bytes_up,
        bytes_down=account.bytes_down,
        asked=account.asked,
        degraded=account.degraded,
        said_by=dict(account.said_by),
        mode=account.mode,
        why=account.why,
        alone_from=account.alone_from,
    )

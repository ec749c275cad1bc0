"""The cloud as a capability: ``computation.gpt/cloud``, for this node and, if it may, the mesh."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.cloud.failover import Asked, Cloud
from capabilities.cloud.purse import Purse
from capabilities.messages import Generate, decode, encode
from mesh.core.access import CLOUD
from mesh.core.errors import DeadlineExceeded, GossamerError
from mesh.core.records import ServedName

DESCRIPTION = "A large model outside the mesh; it costs money, and what is asked leaves the mesh."
CLAIM_S = 5.0  # an accepted request that nobody serves within this gives its place back
FULL_S = 2.0  # how soon to come back when all places are taken


class CloudCapability(Capability):
    """Serves :data:`~mesh.core.access.CLOUD` from ``cloud``; owns it.

    ``at_once``: how many calls may run. It sees who pays only as groups, for the budget.
    """

    def __init__(
        self,
        cloud: Cloud,
        purse: Purse,
        *,
        at_once: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cloud = cloud
        self._purse = purse
        self._at_once = at_once
        self._clock = clock
        self._serving = 0
        self._promised: deque[float] = deque()

    @property
    def names(self) -> Sequence[ServedName]:
        """The one name, with the model that is asked first."""
        providers = self.cloud.providers
        model = providers[0].model if providers else ""
        return (ServedName(name=CLOUD, domain="cloud", description=DESCRIPTION, model=model),)

    async def stop(self) -> None:
        """Close the connections to the providers."""
        await self.cloud.close()

    def admit(self, request: Request) -> Admission:
        """Take it if there is a place, a provider that may answer, and money as last known."""
        if self._taken() >= self._at_once:
            why = f"{self._at_once} calls of the cloud are under way"
            return Admission(accepted=False, reason=why, retry_after_s=FULL_S)
        if wait_s := self.cloud.shut_s():
            why = "every provider of the cloud fails or is at its rate limit"
            return Admission(accepted=False, reason=why, retry_after_s=round(wait_s, 1))
        try:
            body = decode(request.body, Generate)
        except GossamerError as error:
            return Admission(accepted=False, reason=error.message)
        cheapest = min((p.worst_nano(body) for p in self.cloud.providers), default=0)
        if wait_s := self._purse.shut_s(cheapest, request.groups):
            why = "the budget for the cloud has no room for this"
            return Admission(accepted=False, reason=why, retry_after_s=round(wait_s, 1))
        self._promised.append(self._clock())
        return ACCEPTED

    def serve(self, request: Request) -> AsyncIterator[bytes]:
        """Stream the answer: Delta bodies, then one Done that says what was paid."""
        if self._promised:
            self._promised.popleft()
        return self._serve(request)

    def occupancy(self) -> Occupancy:
        """How full it is. A provider that is down does not make the node unwell."""
        taken = self._taken()
        return Occupancy(slots=self._at_once, inflight=min(taken, self._at_once))

    def _taken(self) -> int:
        now = self._clock()
        while self._promised and now - self._promised[0] > CLAIM_S:
            self._promised.popleft()
        return self._serving + len(self._promised)

    async def _serve(self, request: Request) -> AsyncGenerator[bytes, None]:
        if request.timeout_s <= 0:
            raise DeadlineExceeded("the deadline was over before the cloud was asked")
        asked = Asked(
            body=decode(request.body, Generate),
            deadline=self._clock() + request.timeout_s,
            groups=request.groups,
            trace=request.trace,
        )
        self._serving += 1
        try:
            async with aclosing(self.cloud.answer(asked)) as events:
                async for event in events:
                    yield encode(event)
        finally:
            self._serving -= 1

"""The gate of one capability behind its calls: who is in, who waits, when each leaves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

from agents.boards.shedding import RETRY_S, Level, Shedding
from agents.scheduling.admission import Ask, Decision, Gate
from capabilities.base import Capability

CLAIM_S = 5.0  # an accepted call that is never served gives its place back after so long


class Door:
    """Holds a :class:`~agents.scheduling.admission.Gate` for a capability with slots.

    A call is known by its ticket from :meth:`admit` on; :meth:`through` follows its answer. A
    capability without slots (a sensor) is always open.
    """

    def __init__(
        self,
        capability: Capability,
        clock: Callable[[], float] = time.monotonic,
        shedding: Shedding | None = None,
    ) -> None:
        self._capability = capability
        self._clock = clock
        self._shedding = shedding or Shedding()
        self._gate: Gate | None = None
        self._claims: dict[int, float] = {}

    def admit(self, ticket: int, ask: Ask, *, own: bool = False) -> Decision:
        """The gate's word; a yes must be followed by :meth:`through` or :meth:`forget`.

        A node that is too hot or nearly empty still answers whoever sits before it (``own``).
        """
        gate, now = self._current(), self._clock()
        if gate is None:
            return Decision(accepted=True)
        if self._shedding.level is Level.RESTING and not own:
            reason = f"this node rests: {self._shedding.reason}"
            return Decision(accepted=False, reason=reason, retry_after_s=RETRY_S)
        for claim, since in list(self._claims.items()):
            if now - since > CLAIM_S:
                self.forget(claim)
        decision = gate.admit(ticket, ask, now)
        if decision.accepted:
            self._claims[ticket] = now
        return decision

    def forget(self, ticket: int) -> None:
        """The call goes no further; its place is free."""
        if self._gate is not None and self._claims.pop(ticket, None) is not None:
            self._gate.end(ticket, self._clock(), whole=False)

    def through(self, ticket: int, answer: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The answer, followed until it ends however it ends."""
        self._claims.pop(ticket, None)
        if self._gate is None:
            return answer
        return _Followed(answer, self._gate, ticket, self._clock)

    def _current(self) -> Gate | None:
        occupancy = self._capability.occupancy()
        if occupancy.slots <= 0 or not self._capability.models:
            return None
        gate = self._gate
        if gate is None:
            gate = self._gate = Gate(slots=occupancy.slots, queue=occupancy.places)
        gate.slots = max(1, self._shedding.slots(occupancy.slots))
        gate.queue = occupancy.places if self._shedding.level is Level.FULL else 0
        return gate


class _Followed(AsyncIterator[bytes]):
    """Tells the gate when the first message comes, and when the answer is over."""

    def __init__(
        self, source: AsyncIterator[bytes], gate: Gate, ticket: int, clock: Callable[[], float]
    ) -> None:
        self._source, self._ticket, self._clock = source, ticket, clock
        self._gate: Gate | None = gate

    async def __anext__(self) -> bytes:
        try:
            message = await anext(self._source)
        except StopAsyncIteration:
            self._over(whole=True)
            raise
        except BaseException:
            self._over(whole=False)
            raise
        if self._gate is not None:
            self._gate.begin(self._ticket, self._clock())
        return message

    async def aclose(self) -> None:
        """Cancel the work."""
        try:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._over(whole=False)

    def _over(self, *, whole: bool) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.end(self._ticket, self._clock(), whole=whole)

    def __del__(self) -> None:
        self._over(whole=False)

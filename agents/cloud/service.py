"""The cloud as other nodes may call it: for tasks that may leave the mesh, paid and audited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import msgspec

from agents.cloud.leaving import Record
from agents.hosting import CapabilityService
from agents.telemetry.observer import Observer
from capabilities.base import Capability, Request
from capabilities.messages import Done, decode_event
from mesh.core.audit_chain import What
from mesh.core.errors import GossamerError, WireError
from mesh.core.identity import Member, Signed, show_id
from mesh.core.wire import Reach
from mesh.net.calls import IncomingCall, Verdict

NOT_THAT_FAR = "this task may not leave the mesh"


class CloudService(CapabilityService):
    """Puts a cloud capability behind the mesh. ``member`` finds the origin of a delegated call:
    its groups pay, not those of the node that passes the call on."""

    def __init__(
        self,
        capability: Capability,
        observer: Observer,
        member: Callable[[bytes], Member | None],
        record: Record,
    ) -> None:
        super().__init__(capability, observer)
        self._member = member
        self._record = record

    def admit(self, call: IncomingCall) -> Verdict:
        """The callee checks the task's reach itself, so that no delegate can widen it."""
        if call.header.reach < Reach.CLOUD:
            verdict = Verdict(False, NOT_THAT_FAR)
        else:
            verdict = super().admit(call)
        if not verdict.accepted:
            trace = call.header.trace.hex()
            told = {"role": "served", "outcome": verdict.reason, "trace": trace}
            self._record(What.ESCALATION, self._who(call), **told)
        return verdict

    def serve(self, call: IncomingCall) -> AsyncIterator[bytes]:
        """The capability's answer; a line in the audit log when it is over."""
        answer = super().serve(call)
        return _Audited(self._audited(call, answer), answer)

    async def _audited(
        self, call: IncomingCall, answer: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        request = self._request(call)
        told = {"role": "served", "trace": request.trace, "groups": ",".join(request.groups)}
        outcome = "cancelled"
        try:
            async with aclosing(answer):  # type: ignore[type-var]
                async for data in answer:
                    if (done := _done(data)) is not None:
                        outcome = "answered"
                        told |= _bill(done)
                    yield data
        except GossamerError as error:
            outcome = f"{error.code}: {error.message}"
            raise
        finally:
            said = {key: value for key, value in told.items() if value}
            self._record(What.ESCALATION, self._who(call), outcome=outcome, **said)

    def _request(self, call: IncomingCall) -> Request:
        origin = self._member(call.header.caller) or call.peer
        request = super()._request(call)
        return msgspec.structs.replace(request, groups=tuple(sorted(origin.groups)))

    def _who(self, call: IncomingCall) -> str:
        origin = self._member(call.header.caller) or call.peer
        by = "" if origin.node == call.peer.node else f" by way of {call.peer.name}"
        return f"{origin.name} {show_id(origin.node)}{by}"


class _Audited(AsyncIterator[bytes]):
    """An audited answer with the receipt of the one under it."""

    def __init__(self, audited: AsyncGenerator[bytes, None], answer: AsyncIterator[bytes]) -> None:
        self._audited, self._answer = audited, answer

    async def __anext__(self) -> bytes:
        return await anext(self._audited)

    async def aclose(self) -> None:
        """Cancel the work."""
        await self._audited.aclose()

    @property
    def receipt(self) -> Signed | None:
        """What was served, signed."""
        receipt: Signed | None = getattr(self._answer, "receipt", None)
        return receipt


def _done(data: bytes) -> Done | None:
    try:
        event = decode_event(data)
    except WireError:
        return None
    return event if isinstance(event, Done) else None


def _bill(done: Done) -> dict[str, str]:
    usage = msgspec.structs.astuple(done.usage)
    found = {"tokens": f"{usage[0]} in, {usage[2]} out"}
    if done.paid is not None:
        paid = done.paid
        found |= {
            "provider": paid.provider,
            "model": paid.model,
            "cost": f"{paid.cost:.9f} {paid.currency}",
            "estimated": str(paid.estimated).lower(),
        }
    return found

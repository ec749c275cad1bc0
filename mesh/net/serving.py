"""What this node serves, and to whom: access is decided here, where the work is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from mesh.core.access import ADMIN, Operation, Policy, check_reach, operations_on
from mesh.core.clock import Now
from mesh.core.delegation import check_origin
from mesh.core.errors import AccessDenied, DeadlineExceeded, NoSuchName, Rejected, WireError
from mesh.core.identity import Member, Trust
from mesh.core.names import check_name
from mesh.core.node import NodeCore
from mesh.core.records import ServedName
from mesh.core.stream_events import Incoming
from mesh.core.wire import CallHeader, Op
from mesh.net.calls import IncomingCall, Service, Verdict

RESUMES_S = 30.0  # when to ask a drained node again; nobody knows, its status says it first


class Serving:
    """The services of one node behind its access rules.

    ``core`` knows the node itself and the others as their certificates are now.
    """

    def __init__(
        self,
        policy: Policy,
        trust: Trust,
        core: Callable[[], NodeCore],
        now: Callable[[], Now],
    ) -> None:
        self.policy = policy
        self.services: dict[str, Service] = {}
        # What only this node may ask of itself: it is neither advertised nor served to others.
        self.own: dict[str, tuple[ServedName, Service]] = {}
        # What administers this node: it answers :data:`ADMIN`, also while the node is drained.
        self.admin: Service | None = None
        self.draining = ""  # why nothing new is taken; empty: it is
        self._trust = trust
        self._core = core
        self._now = now

    def check(self, event: Incoming) -> tuple[Member, Service]:
        """Who calls and what answers; raises :class:`GossamerError` for what is not allowed.

        Asked again while a stream runs: rules are reloaded, certificates end, nodes are revoked.
        """
        core = self._core()
        sender = core.member(event.peer)
        if sender is None:
            raise WireError("a call from a node that is no member")
        wall = self._now().wall
        if wall > sender.not_after:
            raise AccessDenied(f"the certificate of {sender.name} has expired")
        name = check_name(event.name)
        header = event.header
        origin = sender if header.caller == event.peer else core.member(header.caller)
        origin = check_origin(header, sender, origin, self._trust, wall)
        # A delegate lends nobody its own rights: the task's origin needs them as well.
        for member in (sender,) if origin.node == sender.node else (sender, origin):
            for operation in operations_on(name, event.op):
                self.policy.require(member, name, operation, own=False)
        check_reach(header, core.identity.member, own=False)
        service = self._service(name)
        if service is None:
            raise NoSuchName(f"{core.identity.member.name} does not offer {name}")
        return sender, service

    def _service(self, name: str) -> Service | None:
        if name == ADMIN:
            return self.admin
        service = self.services.get(name)
        return _Drained(self.draining) if service is not None and self.draining else service

    def check_states(self, node: bytes, name: str) -> None:
        """Whether this node's hidden rows may go to ``node``; raises :class:`AccessDenied`."""
        recipient = self._core().member(node)
        if recipient is None:
            raise AccessDenied("hidden rows go to members only")
        self.policy.require(recipient, name, Operation.STATES, own=False)

    async def call_here(
        self, name: str, body: bytes, header: CallHeader, op: Op
    ) -> AsyncGenerator[bytes, None]:
        """This node's call of itself; raises as a call of another does."""
        service = self._service(name)
        if service is None and name in self.own:
            service = self.own[name][1]
        if service is None:
            raise NoSuchName(f"this node does not offer {name}")
        timeout_s = header.timeout_ms / 1000
        deadline = self._now().mono + timeout_s
        call = IncomingCall(self._core().identity.member, header, name, op, body, deadline)
        verdict = service.admit(call)
        if not verdict.accepted:
            raise Rejected(verdict.reason, retry_after_s=verdict.retry_after_s)
        answer = service.serve(call)
        try:
            async with asyncio.timeout(timeout_s):
                async for message in answer:
                    yield message
        except TimeoutError as error:
            raise DeadlineExceeded("the time for this call is over") from error
        finally:
            await answer.aclose()  # type: ignore[attr-defined]


class _Drained:
    """What stands before every service of a node that takes nothing new."""

    def __init__(self, why: str) -> None:
        self._why = why

    def admit(self, call: IncomingCall) -> Verdict:
        """No."""
        return Verdict(False, self._why, RESUMES_S)

    def serve(self, call: IncomingCall) -> AsyncIterator[bytes]:
        """Never asked: nothing was taken."""
        raise Rejected(self._why, retry_after_s=RESUMES_S)

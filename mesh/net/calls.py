"""Streams as coroutines: an async iterator for who asks, a task for who answers."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol

import msgspec

from mesh.core.clock import Now
from mesh.core.effects import Send
from mesh.core.errors import (
    AccessDenied,
    Cancelled,
    CapabilityFailed,
    DeadlineExceeded,
    FrameTooLarge,
    GossamerError,
    NameInvalid,
    NoSuchName,
    PeerLost,
    Rejected,
    WireError,
)
from mesh.core.identity import Member, Signed
from mesh.core.stream_events import (
    Abandoned,
    Accepted,
    Ended,
    Failed,
    Incoming,
    LoadSeen,
    Receipted,
    Received,
    Refused,
    StreamEvent,
    Writable,
)
from mesh.core.streams import Streams
from mesh.core.wire import CallHeader, Lane, Op

log = logging.getLogger("gossamer.calls")

_CODE = re.compile(r"[a-z_]{1,32}")

_ERRORS: dict[str, type[GossamerError]] = {
    kind.code: kind
    for kind in (
        AccessDenied,
        Cancelled,
        CapabilityFailed,
        DeadlineExceeded,
        FrameTooLarge,
        NameInvalid,
        NoSuchName,
        PeerLost,
        WireError,
    )
}


def error_of(code: str, reason: str, retry_after_s: float = 0.0) -> GossamerError:
    """The exception for a code from the wire; an unknown code is a failure of the callee."""
    if code == Rejected.code:
        return Rejected(reason, retry_after_s=retry_after_s)
    error = _ERRORS.get(code, CapabilityFailed)(reason)
    if _CODE.fullmatch(code):
        error.code = code  # of a kind that only the capability knows; it says, it decides nothing
    return error


class IncomingCall(msgspec.Struct, frozen=True):
    """A call as a service sees it. ``peer`` is who asks, as its certificate says."""

    peer: Member
    header: CallHeader
    name: str
    op: Op
    body: bytes
    deadline: float  # monotonic seconds

    def timeout_s(self, now: Now) -> float:
        """What is left of the deadline."""
        return max(0.0, self.deadline - now.mono)


class Verdict(msgspec.Struct, frozen=True):
    """ACCEPT, or REJECT with the reason."""

    accepted: bool
    reason: str = ""
    retry_after_s: float = 0.0


class Service(Protocol):
    """What answers calls of a name; the agent puts a capability behind it."""

    def admit(self, call: IncomingCall) -> Verdict:
        """Yes or no, at once."""

    def serve(self, call: IncomingCall) -> AsyncIterator[bytes]:
        """The answer, message by message; closing it cancels the work.

        Where it has an attribute ``receipt`` when it is over, that goes to the caller with its
        end: what was served, signed (:mod:`agents.ledger`)."""


class Inbox:
    """Events of one outgoing call; its length is bounded by the credit that we gave."""

    def __init__(self) -> None:
        self.events: deque[StreamEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: StreamEvent) -> None:
        """An event arrived."""
        self.events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until there is an event; the stream layer's deadline ends every wait."""
        while not self.events:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class Calls:
    """Connects streams to coroutines. ``emit`` sends what the core returned."""

    def __init__(
        self,
        streams: Streams,
        emit: Callable[[list[Send]], None],
        now: Callable[[], Now],
        check: Callable[[Incoming], tuple[Member, Service]],
        load_seen: Callable[[LoadSeen], None],
        refused: Callable[[str], None] = log.warning,
    ) -> None:
        self.hasten: Callable[[], None] = lambda: None  # sends what was emitted in this turn
        self.receipted: Callable[[bytes, Signed, bool], None] = lambda node, signed, counter: None
        self._refused = refused
        self._streams = streams
        self._emit = emit
        self._now = now
        self._check = check
        self._load_seen = load_seen
        self._inboxes: dict[int, Inbox] = {}
        self._tasks: dict[tuple[bytes, int], asyncio.Task[None]] = {}
        self._serving: dict[tuple[bytes, int], Incoming] = {}
        self._writable: dict[tuple[bytes, int], asyncio.Event] = {}
        self.counters: Counter[str] = Counter()

    # -- asking -----------------------------------------------------------------------------

    async def call(
        self,
        node: bytes,
        name: str,
        op: Op,
        body: bytes,
        header: CallHeader,
        lane: Lane = Lane.CONTROL,
    ) -> AsyncGenerator[bytes, None]:
        """Stream the answer of ``node``; closing the iterator cancels the call there.

        Raises :class:`Rejected` or another refusal before the first message, and
        :class:`PeerLost`, :class:`DeadlineExceeded`, :class:`CapabilityFailed` at any time.
        """
        stream, sends = self._streams.caller.open(node, name, op, body, header, self._now(), lane)
        inbox = self._inboxes[stream] = Inbox()
        self._emit(sends)
        self.hasten()
        try:
            while True:
                if not inbox.events:
                    await inbox.wait()
                event = inbox.events.popleft()
                match event:
                    case Received():
                        yield event.body
                        if more := self._streams.caller.consumed(stream, event.credits):
                            self._emit(more)
                    case Ended():
                        return
                    case Refused():
                        raise error_of(event.code, event.reason, event.retry_after_s)
                    case Failed():
                        raise error_of(event.code, event.reason, event.retry_after_s)
                    case Accepted() | _:
                        pass
        finally:
            del self._inboxes[stream]
            if cancelled := self._streams.caller.cancel(stream, "the caller has closed it"):
                self._emit(cancelled)

    # -- answering --------------------------------------------------------------------------

    def handle(self, events: list[StreamEvent]) -> None:
        """Hand on what happened in the streams."""
        loads: dict[bytes, LoadSeen] = {}  # a short answer tells it twice; the last word counts
        for event in events:
            match event:
                case LoadSeen():
                    loads[event.node] = event
                case Incoming():
                    self._on_incoming(event)
                case Abandoned():
                    task = self._tasks.get((event.peer, event.stream))
                    if task is not None:
                        task.cancel()
                case Writable():
                    gate = self._writable.get((event.peer, event.stream))
                    if gate is not None:
                        gate.set()
                case Receipted():
                    self.receipted(event.node, event.signed, event.counter)
                case Accepted() | Refused() | Received() | Ended() | Failed():
                    inbox = self._inboxes.get(event.stream)
                    if inbox is not None:
                        inbox.put(event)
        for seen in loads.values():
            self._load_seen(seen)

    def _on_incoming(self, event: Incoming) -> None:
        callee = self._streams.callee
        try:
            member, service = self._check(event)
        except GossamerError as error:
            self.counters[f"refused_{error.code}"] += 1
            self._refused(f"refused a call of {event.name[:80]}: {error.sentence()}")
            self._emit(callee.reject(event.peer, event.stream, error.code, error.sentence()))
            return
        call = IncomingCall(member, event.header, event.name, event.op, event.body, event.deadline)
        verdict = service.admit(call)
        if not verdict.accepted:
            self._emit(
                callee.reject(
                    event.peer, event.stream, Rejected.code, verdict.reason, verdict.retry_after_s
                )
            )
            return
        key = (event.peer, event.stream)
        # The task is made first: what it says in its first turn leaves together with the ACCEPT.
        task = asyncio.create_task(self._serve(key, call, service))
        self._emit(callee.accept(event.peer, event.stream))
        self._tasks[key] = task
        self._serving[key] = event
        task.add_done_callback(lambda _: self._done(key))

    def _done(self, key: tuple[bytes, int]) -> None:
        self._tasks.pop(key, None)
        self._serving.pop(key, None)

    def recheck(self) -> None:
        """End the streams that would not be allowed if they were opened now."""
        for key, event in list(self._serving.items()):
            try:
                self._check(event)
            except GossamerError as error:
                self.counters["ended_no_longer_allowed"] += 1
                self._refused(f"ended a stream of {event.name[:80]}: {error.sentence()}")
                self._emit(self._streams.callee.fail(*key, error.code, error.sentence()))
                self._serving.pop(key, None)
                if (task := self._tasks.get(key)) is not None:
                    task.cancel()

    async def _serve(self, key: tuple[bytes, int], call: IncomingCall, service: Service) -> None:
        callee = self._streams.callee
        answer = service.serve(call)
        try:
            async for body in answer:
                while not callee.writable(*key):
                    gate = self._writable.setdefault(key, asyncio.Event())
                    gate.clear()
                    await gate.wait()  # ended by credit, or by the stream's deadline
                self._emit(callee.send(*key, body))
            self._emit(callee.end(*key, getattr(answer, "receipt", None)))
        except GossamerError as error:
            after_s = error.retry_after_s if isinstance(error, Rejected) else 0.0
            self._emit(callee.fail(*key, error.code, error.sentence(), after_s))
        except asyncio.CancelledError:
            self._emit(callee.fail(*key, Cancelled.code, "the work was cancelled"))
            raise
        except Exception:
            # A bug in a capability must not take the agent with it; the caller is told.
            log.exception("serving %s failed", call.name)
            self._emit(callee.fail(*key, CapabilityFailed.code, "internal error at the node"))
        finally:
            self._writable.pop(key, None)
            # Not every answer is a generator; one that was waiting for credit is still open.
            close = getattr(answer, "aclose", None)
            if close is not None:
                await close()

    async def close(self) -> None:
        """Cancel what is being served."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Calls, token streams and subscriptions: deadlines, credits, cancellation.

One stream is one call and its answer. The callee says ACCEPT or REJECT at once; an accepted
call is answered by Data messages, each of which uses up a credit that the caller gave, then by
End or Fail. A subscription is a stream whose answer has no end of its own.

    caller   open ─▶ WAITING ─ACCEPT▶ FLOWING ─END▶ done
                        │ REJECT          │ FAIL, deadline, peer lost, gap, cancel
                        ▼                 ▼
                     refused            failed
    callee   Incoming ─accept▶ FLOWING ─end/fail▶ done
                      ─reject▶ refused            ─CANCEL, deadline, peer lost▶ cancelled

Credits bound what is in flight, so that no queue of the transport ever fills; the same peer
and stream number always mean the same call, so that a repeated frame does nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from mesh.core.clock import Now
from mesh.core.effects import Send
from mesh.core.errors import WireError
from mesh.core.stream_callee import Callee
from mesh.core.stream_caller import Caller
from mesh.core.stream_events import StreamEvent, StreamLimits
from mesh.core.wire import (
    Accept,
    Call,
    Cancel,
    Countersigned,
    Credit,
    Data,
    End,
    Fail,
    Input,
    Load,
    Message,
    Reject,
)


class Streams:
    """Both ends of every stream of one node: ``caller`` for what it asks of others,
    ``callee`` for what others ask of it."""

    def __init__(self, limits: StreamLimits | None = None, load: Callable[[], Load] = Load) -> None:
        self.limits = limits or StreamLimits()
        self.counters: Counter[str] = Counter()
        self._events: list[StreamEvent] = []
        self.caller = Caller(self.limits, self._events, self.counters)
        self.callee = Callee(self.limits, self._events, self.counters, load)

    def receive(self, sender: bytes, message: Message, now: Now) -> list[Send]:
        """A stream message from ``sender``; raises :class:`WireError` for any other message."""
        match message:
            case Data():
                return self.caller.on_data(sender, message)
            case Credit():
                return self.callee.on_credit(sender, message)
            case Call():
                return self.callee.on_call(sender, message, now)
            case Accept():
                return self.caller.on_accept(sender, message)
            case Reject():
                return self.caller.on_reject(sender, message)
            case End():
                return self.caller.on_end(sender, message)
            case Fail():
                return self.caller.on_fail(sender, message)
            case Cancel():
                return self.callee.on_cancel(sender, message)
            case Countersigned():
                return self.callee.on_countersigned(sender, message)
            case Input():
                return self.callee.on_input(sender, message)
            case _:
                raise WireError("not a stream message")

    def tick(self, now: Now) -> list[Send]:
        """End what is past its deadline."""
        return self.caller.tick(now) + self.callee.tick(now)

    def next_deadline(self) -> float:
        """When :meth:`tick` next has something to do."""
        return min(self.caller.next_deadline(), self.callee.next_deadline())

    def drain_events(self) -> list[StreamEvent]:
        """What happened since the last call, in order."""
        if not self._events:
            return []
        events = self._events.copy()
        self._events.clear()
        return events

    def peer_lost(self, node: bytes, now: Now, reason: str = "the peer is lost") -> None:
        """Everything under way with ``node`` has failed."""
        self.caller.peer_lost(node, reason)
        self.callee.peer_lost(node, reason)

"""The callee's end of streams: calls that peers opened here, answers sent."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mesh.core.clock import Now
from mesh.core.effects import Send
from mesh.core.identity import Signed
from mesh.core.stream_events import (
    Abandoned,
    Incoming,
    Receipted,
    StreamEvent,
    StreamLimits,
    Writable,
    chunks,
)
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
    Lane,
    Load,
    Op,
    Reject,
)


@dataclass(slots=True)
class _Incoming:
    call: Call
    deadline: float
    granted: int
    accepted: bool = False
    sent: int = 0
    blocked: bool = False
    body: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    inputs: int = 0
    whole: bool = True


class Callee:
    """Every call that peers have open here, by peer and the peer's stream number."""

    def __init__(
        self,
        limits: StreamLimits,
        events: list[StreamEvent],
        counters: Counter[str],
        load: Callable[[], Load],
    ) -> None:
        self.limits = limits
        self._events = events
        self.counters = counters
        self._load = load
        self._in: dict[tuple[bytes, int], _Incoming] = {}
        self._in_by_peer: Counter[bytes] = Counter()
        self._timers: list[tuple[float, bytes, int]] = []

    def __len__(self) -> int:
        return len(self._in)

    def next_deadline(self) -> float:
        """When :meth:`tick` next has something to do."""
        return self._timers[0][0] if self._timers else math.inf

    def tick(self, now: Now) -> list[Send]:
        """End what is past its deadline."""
        sends: list[Send] = []
        while self._timers and self._timers[0][0] <= now.mono:
            _, peer, stream = heapq.heappop(self._timers)
            sends += self._due(peer, stream, now)
        return sends

    def peer_lost(self, node: bytes, reason: str) -> None:
        """Nothing of ``node`` is worked on any more."""
        for peer, stream in list(self._in):
            if peer == node:
                self._abandon(peer, stream, reason)

    def accept(self, peer: bytes, stream: int) -> list[Send]:
        """Take the call: the answer follows."""
        served = self._in.get((peer, stream))
        if served is None or served.accepted:
            return []
        served.accepted = True
        self.counters["accepted_in"] += 1
        return [Send(peer, Accept(stream, self._load()))]

    def reject(
        self, peer: bytes, stream: int, code: str, reason: str, retry_after_s: float = 0.0
    ) -> list[Send]:
        """Refuse the call, with the reason and when to try again (0: no hint)."""
        if not self._forget(peer, stream):
            return []
        self.counters[f"rejected_in_{code}"] += 1
        after_ms = int(retry_after_s * 1000)
        return [Send(peer, Reject(stream, code, reason, after_ms, self._load()))]

    def writable(self, peer: bytes, stream: int) -> bool:
        """Whether a message may be sent now; if not, Writable will come. True for a stream
        that is gone, whose messages are dropped."""
        served = self._in.get((peer, stream))
        if served is None:
            return True
        served.blocked = served.sent >= served.granted
        return not served.blocked

    def send(self, peer: bytes, stream: int, body: bytes) -> list[Send]:
        """One message of the answer, once :meth:`writable` says so.

        A message of several chunks may run ahead of its credit by those chunks at most if the
        caller's window is smaller than the message; callers grant credit for each part.
        """
        served = self._in.get((peer, stream))
        if served is None:
            return []
        sends = []
        parts = chunks(body)
        lane = Lane.BULK if served.call.lane == Lane.BULK else Lane.CONTROL
        for index, part in enumerate(parts):
            more = index < len(parts) - 1
            sends.append(Send(peer, Data(stream, served.sent, part, more), lane))
            served.sent += 1
        return sends

    def end(self, peer: bytes, stream: int, receipt: Signed | None = None) -> list[Send]:
        """The answer is whole; ``receipt`` says what it took."""
        served = self._in.get((peer, stream))
        if served is None:
            return []
        count = served.sent
        self._forget(peer, stream)
        self.counters["ended_in"] += 1
        return [Send(peer, End(stream, count, self._load(), receipt))]

    def fail(
        self, peer: bytes, stream: int, code: str, message: str, retry_after_s: float = 0.0
    ) -> list[Send]:
        """The answer will not be whole; when to ask again, where that may help (0: no hint)."""
        if not self._forget(peer, stream):
            return []
        self.counters[f"failed_in_{code}"] += 1
        after_ms = int(retry_after_s * 1000)
        return [Send(peer, Fail(stream, code, message[:500], self._load(), after_ms))]

    def on_countersigned(self, sender: bytes, message: Countersigned) -> list[Send]:
        """A caller's word on a receipt; whether it was asked for is the ledger's to know."""
        self._events.append(Receipted(sender, message.signed, counter=True))
        return []

    def on_call(self, sender: bytes, call: Call, now: Now) -> list[Send]:
        """A peer calls; it is announced once its body is whole."""
        key = (sender, call.stream)
        if key in self._in:
            self.counters["repeated_call"] += 1
            return []
        refusal = self._refusal(sender, call)
        if refusal is not None:
            code, reason = refusal
            self.counters[f"rejected_in_{code}"] += 1
            return [Send(sender, Reject(call.stream, code, reason, 1000, self._load()))]
        timeout_s = min(call.header.timeout_ms / 1000, self.limits.max_timeout_s)
        served = _Incoming(call, now.mono + timeout_s, max(1, min(call.credit, self.limits.window)))
        self._in[key] = served
        self._in_by_peer[sender] += 1
        heapq.heappush(self._timers, (served.deadline, sender, call.stream))
        self.counters["calls_in"] += 1
        if call.more:
            served.whole = False
            served.body.append(call.body)
            served.body_bytes = len(call.body)
        else:
            self._announce(sender, served, call.body)
        return []

    def _refusal(self, sender: bytes, call: Call) -> tuple[str, str] | None:
        if call.header.timeout_ms <= 0:
            return "deadline", "the time for this call was over before it came"
        if call.op not in Op._value2member_map_:
            return "malformed", "an operation that this node does not know"
        if self._in_by_peer[sender] >= self.limits.max_incoming_per_peer:
            return "rejected", "too many streams from this peer"
        if len(self._in) >= self.limits.max_incoming:
            return "rejected", "too many streams"
        return None

    def _announce(self, peer: bytes, served: _Incoming, body: bytes) -> None:
        call = served.call
        self._events.append(
            Incoming(peer, call.stream, call.header, call.name, Op(call.op), body, served.deadline)
        )

    def on_input(self, sender: bytes, message: Input) -> list[Send]:
        """A further part of a call's body."""
        served = self._in.get((sender, message.stream))
        if served is None or served.whole:
            self.counters["late"] += 1
            return []
        served.body_bytes += len(message.body)
        if message.seq != served.inputs or served.body_bytes > self.limits.max_message_bytes:
            return self.reject(
                sender, message.stream, "malformed", "a part is missing or too large"
            )
        served.inputs += 1
        served.body.append(message.body)
        if not message.more:
            served.whole = True
            self._announce(sender, served, b"".join(served.body))
            served.body.clear()
        return []

    def on_credit(self, sender: bytes, message: Credit) -> list[Send]:
        """The caller has room for more."""
        served = self._in.get((sender, message.stream))
        if served is None:
            self.counters["late"] += 1
            return []
        # Credit only grows, and never beyond a window past what was sent: a caller that claims
        # more cannot make this node fill its queues.
        ceiling = served.sent + self.limits.window
        served.granted = max(served.granted, min(message.total, ceiling))
        if served.blocked and served.sent < served.granted:
            served.blocked = False
            self._events.append(Writable(sender, message.stream))
        return []

    def on_cancel(self, sender: bytes, message: Cancel) -> list[Send]:
        """The caller no longer wants it."""
        self._abandon(sender, message.stream, message.reason[:200] or "cancelled")
        return []

    def _abandon(self, peer: bytes, stream: int, reason: str) -> None:
        served = self._in.get((peer, stream))
        if served is not None:
            self._forget(peer, stream)
            self.counters["abandoned_in"] += 1
            if served.whole:
                self._events.append(Abandoned(peer, stream, reason))

    def _due(self, peer: bytes, stream: int, now: Now) -> list[Send]:
        served = self._in.get((peer, stream))
        if served is None or now.mono < served.deadline:
            return []
        self._abandon(peer, stream, "deadline")
        return [
            Send(peer, Fail(stream, "deadline", "the time for this call is over", self._load()))
        ]

    def _forget(self, peer: bytes, stream: int) -> bool:
        if self._in.pop((peer, stream), None) is None:
            return False
        self._in_by_peer[peer] -= 1
        if not self._in_by_peer[peer]:
            del self._in_by_peer[peer]
        return True

"""The caller's end of streams: calls opened here, answers received."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field

from mesh.core.clock import Now
from mesh.core.effects import Send
from mesh.core.errors import DeadlineExceeded, Rejected, WireError
from mesh.core.stream_events import (
    Accepted,
    Ended,
    Failed,
    LoadSeen,
    Receipted,
    Received,
    Refused,
    StreamEvent,
    StreamLimits,
    chunks,
)
from mesh.core.wire import (
    Accept,
    Call,
    CallHeader,
    Cancel,
    Credit,
    Data,
    End,
    Fail,
    Input,
    Lane,
    Op,
    Reject,
)


@dataclass(slots=True)
class _Outgoing:
    node: bytes
    deadline: float
    accept_by: float
    granted: int
    accepted: bool = False
    received: int = 0
    consumed: int = 0
    expected: int = -1
    parts: list[bytes] = field(default_factory=list)
    parts_bytes: int = 0
    part_credits: int = 0


class Caller:
    """Every call that this node has open at others. Stream numbers are this node's own."""

    def __init__(
        self, limits: StreamLimits, events: list[StreamEvent], counters: Counter[str]
    ) -> None:
        self.limits = limits
        self._events = events
        self.counters = counters
        self._out: dict[int, _Outgoing] = {}
        self._next_stream = 1
        self._timers: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._out)

    def next_deadline(self) -> float:
        """When :meth:`tick` next has something to do."""
        return self._timers[0][0] if self._timers else math.inf

    def tick(self, now: Now) -> list[Send]:
        """End what is past its deadline."""
        sends: list[Send] = []
        while self._timers and self._timers[0][0] <= now.mono:
            _, stream = heapq.heappop(self._timers)
            sends += self._due(stream, now)
        return sends

    def peer_lost(self, node: bytes, reason: str) -> None:
        """Every call open at ``node`` has failed."""
        for stream, out in list(self._out.items()):
            if out.node == node:
                self._fail(stream, "peer_lost", reason)

    def open(
        self,
        to: bytes,
        name: str,
        op: Op,
        body: bytes,
        header: CallHeader,
        now: Now,
        lane: Lane = Lane.CONTROL,
    ) -> tuple[int, list[Send]]:
        """Call ``name`` at ``to``.

        Raises :class:`DeadlineExceeded` when no time is left, :class:`Rejected` when this node
        has too many calls open, :class:`WireError` for a body over the cap.
        """
        if header.timeout_ms <= 0:
            raise DeadlineExceeded("no time is left for this call", hint="give it a longer timeout")
        if len(self._out) >= self.limits.max_outgoing:
            raise Rejected("this node has too many calls open", retry_after_s=1.0)
        if len(body) > self.limits.max_message_bytes:
            raise WireError(
                f"a body of {len(body)} bytes, at most {self.limits.max_message_bytes} are allowed"
            )
        stream, self._next_stream = self._next_stream, self._next_stream + 1
        deadline = now.mono + min(header.timeout_ms / 1000, self.limits.max_timeout_s)
        accept_by = min(deadline, now.mono + self.limits.accept_timeout_s)
        self._out[stream] = _Outgoing(to, deadline, accept_by, self.limits.window)
        heapq.heappush(self._timers, (accept_by, stream))
        first, *rest = chunks(body)
        call = Call(
            stream=stream,
            header=header,
            name=name,
            op=op,
            body=first,
            credit=self.limits.window,
            lane=lane,
            more=bool(rest),
        )
        sends = [Send(to, call)]
        for seq, part in enumerate(rest):
            sends.append(Send(to, Input(stream, seq, part, more=seq < len(rest) - 1), Lane.CONTROL))
        self.counters["calls_out"] += 1
        return stream, sends

    def consumed(self, stream: int, credits: int) -> list[Send]:
        """The application has taken messages worth ``credits``; more may come."""
        out = self._out.get(stream)
        if out is None:
            return []
        out.consumed += credits
        # Half a window at a time: a Credit per message would double the frames.
        if out.consumed + self.limits.window - out.granted < self.limits.window // 2:
            return []
        out.granted = out.consumed + self.limits.window
        return [Send(out.node, Credit(stream, out.granted))]

    def cancel(self, stream: int, reason: str = "") -> list[Send]:
        """The caller no longer wants the answer; later frames of it are ignored."""
        out = self._out.pop(stream, None)
        if out is None:
            return []
        self.counters["cancelled_out"] += 1
        return [Send(out.node, Cancel(stream, reason))]

    def _mine(self, sender: bytes, stream: int) -> _Outgoing | None:
        out = self._out.get(stream)
        if out is None:
            self.counters["late"] += 1  # an answer to a call that was cancelled: normal
            return None
        if out.node != sender:
            self.counters["not_the_callee"] += 1  # a member guessing stream numbers
            return None
        return out

    def on_accept(self, sender: bytes, message: Accept) -> list[Send]:
        """The callee took it."""
        out = self._mine(sender, message.stream)
        if out is not None and not out.accepted:
            out.accepted = True
            heapq.heappush(self._timers, (out.deadline, message.stream))
            self._events.append(Accepted(message.stream, sender))
            self._events.append(LoadSeen(sender, message.load))
        return []

    def on_reject(self, sender: bytes, message: Reject) -> list[Send]:
        """The callee did not."""
        out = self._mine(sender, message.stream)
        if out is not None:
            del self._out[message.stream]
            self.counters["rejected_out"] += 1
            self._events.append(LoadSeen(sender, message.load))
            self._events.append(
                Refused(
                    message.stream,
                    sender,
                    message.code,
                    message.reason[:500],
                    max(message.retry_after_ms, 0) / 1000,
                )
            )
        return []

    def on_data(self, sender: bytes, message: Data) -> list[Send]:
        """A piece of the answer."""
        stream = message.stream
        out = self._mine(sender, stream)
        if out is None:
            return []
        if message.seq != out.received:
            # A link that broke and came back lost frames; half an answer is no answer.
            self._fail(stream, "peer_lost", "part of the answer was lost on the way")
            return [Send(sender, Cancel(stream, "gap"))]
        if out.received >= out.granted:
            self._fail(stream, "malformed", "the peer sent more than its credit")
            return [Send(sender, Cancel(stream, "credit exceeded"))]
        out.received += 1
        out.part_credits += 1
        if message.more or out.parts:
            out.parts.append(message.body)
            out.parts_bytes += len(message.body)
            if out.parts_bytes > self.limits.max_message_bytes:
                self._fail(stream, "too_large", "a message of the answer is too large")
                return [Send(sender, Cancel(stream, "message too large"))]
            if message.more:
                # Parts of an unfinished message count as taken, or a message larger than the
                # window would wait for itself; the size cap above bounds them.
                spent, out.part_credits = out.part_credits, 0
                return self.consumed(stream, spent)
        body = b"".join(out.parts) if out.parts else message.body
        out.parts.clear()
        out.parts_bytes = 0
        self._events.append(Received(stream, body, out.part_credits))
        out.part_credits = 0
        self._finish_if_whole(stream, out)
        return []

    def on_end(self, sender: bytes, message: End) -> list[Send]:
        """The answer is whole once all pieces have come."""
        if message.receipt is not None:  # also where the caller had enough and has left
            self._events.append(Receipted(sender, message.receipt, counter=False))
        out = self._mine(sender, message.stream)
        if out is not None:
            out.expected = message.count
            self._events.append(LoadSeen(sender, message.load))
            self._finish_if_whole(message.stream, out)
        return []

    def _finish_if_whole(self, stream: int, out: _Outgoing) -> None:
        if out.expected < 0:
            return
        if out.received > out.expected or (out.received == out.expected and out.parts):
            self._fail(stream, "malformed", "the peer's count of the answer is wrong")
        elif out.received == out.expected:
            del self._out[stream]
            self._events.append(Ended(stream))

    def on_fail(self, sender: bytes, message: Fail) -> list[Send]:
        """The callee gave up."""
        if self._mine(sender, message.stream) is not None:
            self._events.append(LoadSeen(sender, message.load))
            after_s = max(message.retry_after_ms, 0) / 1000
            self._fail(message.stream, message.code, message.message[:500], after_s)
        return []

    def _fail(self, stream: int, code: str, reason: str, retry_after_s: float = 0.0) -> None:
        if self._out.pop(stream, None) is not None:
            self.counters[f"failed_out_{code}"] += 1
            self._events.append(Failed(stream, code, reason, retry_after_s))

    def _due(self, stream: int, now: Now) -> list[Send]:
        out = self._out.get(stream)
        if out is None:
            return []
        if not out.accepted and now.mono >= out.accept_by:
            waited = "the deadline" if out.accept_by == out.deadline else "the accept timeout"
            code = "deadline" if out.accept_by == out.deadline else "peer_lost"
            self._fail(stream, code, f"the node did not answer within {waited}")
            return [Send(out.node, Cancel(stream, "deadline"))]
        if now.mono >= out.deadline:
            self._fail(stream, "deadline", "the time for this call is over")
            return [Send(out.node, Cancel(stream, "deadline"))]
        return []

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

import heapq
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mesh.core.clock import Now
from mesh.core.effects import Send
from mesh.core.errors import DeadlineExceeded, Rejected, WireError
from mesh.core.wire import (
    MAX_CHUNK_BYTES,
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
    Load,
    Message,
    Op,
    Reject,
)


@dataclass(frozen=True)
class StreamLimits:
    """Caps of the stream layer. Each names what it stops."""

    window: int = 32
    """Data messages that may be under way to one caller. A larger window hides a longer round
    trip; 32 chunks of 32 KiB are 1 MiB, the most that one stream can park at a slow reader."""

    max_message_bytes: int = 4 * 1024 * 1024
    """A peer that never ends a chunked message must not fill the memory."""

    max_incoming_per_peer: int = 256
    """One member cannot take every stream of a node."""

    max_incoming: int = 2048
    """Streams from all peers together: a crowd of members cannot exhaust the memory."""

    max_outgoing: int = 4096
    """A caller that forgets to end its calls finds out, not the machine."""

    accept_timeout_s: float = 5.0
    """ACCEPT or REJECT comes at once; silence for longer than this means the peer is not
    answering, and the caller still has time to ask somebody else."""

    max_timeout_s: float = 24 * 3600.0
    """The longest deadline taken, also for subscriptions: nothing waits for ever."""


@dataclass(frozen=True)
class Accepted:
    """The callee took the call."""

    stream: int
    node: bytes


@dataclass(frozen=True)
class Refused:
    """The callee, or the deadline, ended the call before any answer."""

    stream: int
    node: bytes
    code: str
    reason: str
    retry_after_s: float


@dataclass(frozen=True)
class Received:
    """One whole message of the answer. Give it back with :meth:`Streams.consumed`."""

    stream: int
    body: bytes
    credits: int


@dataclass(frozen=True)
class Ended:
    """The answer is whole."""

    stream: int


@dataclass(frozen=True)
class Failed:
    """The answer will not be whole."""

    stream: int
    code: str
    reason: str


@dataclass(frozen=True)
class Incoming:
    """A peer calls; the shell answers with accept or reject at once."""

    peer: bytes
    stream: int
    header: CallHeader
    name: str
    op: Op
    body: bytes
    deadline: float  # monotonic seconds of this node


@dataclass(frozen=True)
class Abandoned:
    """The caller cancelled, is lost, or its time is over: stop working on it."""

    peer: bytes
    stream: int
    reason: str


@dataclass(frozen=True)
class Writable:
    """Credit came for a stream that had none."""

    peer: bytes
    stream: int


@dataclass(frozen=True)
class LoadSeen:
    """Fresh load, heard on a reply."""

    node: bytes
    load: Load


StreamEvent = (
    Accepted | Refused | Received | Ended | Failed | Incoming | Abandoned | Writable | LoadSeen
)


@dataclass
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


@dataclass
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


def chunks(body: bytes) -> list[bytes]:
    """A body cut into pieces that fit a frame; an empty body is one empty piece."""
    return [body[i : i + MAX_CHUNK_BYTES] for i in range(0, max(len(body), 1), MAX_CHUNK_BYTES)]


class Streams:
    """Both ends of every stream of one node."""

    def __init__(
        self,
        limits: StreamLimits | None = None,
        load: Callable[[], Load] = Load,
    ) -> None:
        self.limits = limits or StreamLimits()
        self._load = load
        self._out: dict[int, _Outgoing] = {}
        self._in: dict[tuple[bytes, int], _Incoming] = {}
        self._in_by_peer: Counter[bytes] = Counter()
        self._next_stream = 1
        self._timers: list[tuple[float, int, bytes, int]] = []  # when, tie, peer or b"", stream
        self._ties = 0
        self._events: list[StreamEvent] = []
        self.counters: Counter[str] = Counter()

    # -- what every core has ----------------------------------------------------------------

    def receive(self, sender: bytes, message: Message, now: Now) -> list[Send]:
        """A stream message from ``sender``; raises :class:`WireError` for one that cannot be."""
        match message:
            case Data():
                return self._on_data(sender, message)
            case Credit():
                return self._on_credit(sender, message)
            case Call():
                return self._on_call(sender, message, now)
            case Accept():
                return self._on_accept(sender, message)
            case Reject():
                return self._on_reject(sender, message)
            case End():
                return self._on_end(sender, message)
            case Fail():
                return self._on_fail(sender, message)
            case Cancel():
                return self._on_cancel(sender, message)
            case Input():
                return self._on_input(sender, message)
            case _:
                raise WireError("not a stream message")

    def tick(self, now: Now) -> list[Send]:
        """End what is past its deadline."""
        sends: list[Send] = []
        while self._timers and self._timers[0][0] <= now.mono:
            _, _, peer, stream = heapq.heappop(self._timers)
            if peer:
                sends += self._incoming_due(peer, stream, now)
            else:
                sends += self._outgoing_due(stream, now)
        return sends

    def next_deadline(self) -> float:
        """When :meth:`tick` next has something to do."""
        return self._timers[0][0] if self._timers else math.inf

    def drain_events(self) -> list[StreamEvent]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def peer_lost(self, node: bytes, reason: str = "the peer is lost") -> None:
        """Everything under way with ``node`` has failed."""
        for stream, out in list(self._out.items()):
            if out.node == node:
                self._fail_outgoing(stream, "peer_lost", reason)
        for peer, stream in list(self._in):
            if peer == node:
                self._abandon(peer, stream, reason)

    @property
    def active(self) -> tuple[int, int]:
        """How many streams are open: (asked of others, served here)."""
        return len(self._out), len(self._in)

    # -- the caller's side ------------------------------------------------------------------

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
        self._arm(accept_by, b"", stream)
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

    def _on_accept(self, sender: bytes, message: Accept) -> list[Send]:
        out = self._mine(sender, message.stream)
        if out is not None and not out.accepted:
            out.accepted = True
            self._arm(out.deadline, b"", message.stream)
            self._events.append(Accepted(message.stream, sender))
            self._events.append(LoadSeen(sender, message.load))
        return []

    def _on_reject(self, sender: bytes, message: Reject) -> list[Send]:
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

    def _on_data(self, sender: bytes, message: Data) -> list[Send]:
        stream = message.stream
        out = self._mine(sender, stream)
        if out is None:
            return []
        if message.seq != out.received:
            # A link that broke and came back lost frames; half an answer is no answer.
            self._fail_outgoing(stream, "peer_lost", "part of the answer was lost on the way")
            return [Send(sender, Cancel(stream, "gap"))]
        if out.received >= out.granted:
            self._fail_outgoing(stream, "malformed", "the peer sent more than its credit")
            return [Send(sender, Cancel(stream, "credit exceeded"))]
        out.received += 1
        out.part_credits += 1
        if message.more or out.parts:
            out.parts.append(message.body)
            out.parts_bytes += len(message.body)
            if out.parts_bytes > self.limits.max_message_bytes:
                self._fail_outgoing(stream, "too_large", "a message of the answer is too large")
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

    def _on_end(self, sender: bytes, message: End) -> list[Send]:
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
            self._fail_outgoing(stream, "malformed", "the peer's count of the answer is wrong")
        elif out.received == out.expected:
            del self._out[stream]
            self._events.append(Ended(stream))

    def _on_fail(self, sender: bytes, message: Fail) -> list[Send]:
        if self._mine(sender, message.stream) is not None:
            self._events.append(LoadSeen(sender, message.load))
            self._fail_outgoing(message.stream, message.code, message.message[:500])
        return []

    def _fail_outgoing(self, stream: int, code: str, reason: str) -> None:
        if self._out.pop(stream, None) is not None:
            self.counters[f"failed_out_{code}"] += 1
            self._events.append(Failed(stream, code, reason))

    def _outgoing_due(self, stream: int, now: Now) -> list[Send]:
        out = self._out.get(stream)
        if out is None:
            return []
        if not out.accepted and now.mono >= out.accept_by:
            waited = "the deadline" if out.accept_by == out.deadline else "the accept timeout"
            code = "deadline" if out.accept_by == out.deadline else "peer_lost"
            self._fail_outgoing(stream, code, f"the node did not answer within {waited}")
            return [Send(out.node, Cancel(stream, "deadline"))]
        if now.mono >= out.deadline:
            self._fail_outgoing(stream, "deadline", "the time for this call is over")
            return [Send(out.node, Cancel(stream, "deadline"))]
        return []

    # -- the callee's side ------------------------------------------------------------------

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
        if not self._forget_incoming(peer, stream):
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

    def end(self, peer: bytes, stream: int) -> list[Send]:
        """The answer is whole."""
        served = self._in.get((peer, stream))
        if served is None:
            return []
        count = served.sent
        self._forget_incoming(peer, stream)
        self.counters["ended_in"] += 1
        return [Send(peer, End(stream, count, self._load()))]

    def fail(self, peer: bytes, stream: int, code: str, message: str) -> list[Send]:
        """The answer will not be whole."""
        if not self._forget_incoming(peer, stream):
            return []
        self.counters[f"failed_in_{code}"] += 1
        return [Send(peer, Fail(stream, code, message[:500], self._load()))]

    def _on_call(self, sender: bytes, call: Call, now: Now) -> list[Send]:
        key = (sender, call.stream)
        if key in self._in:
            self.counters["repeated_call"] += 1
            return []
        refusal = self._call_refusal(sender, call)
        if refusal is not None:
            code, reason = refusal
            self.counters[f"rejected_in_{code}"] += 1
            return [Send(sender, Reject(call.stream, code, reason, 1000, self._load()))]
        timeout_s = min(call.header.timeout_ms / 1000, self.limits.max_timeout_s)
        served = _Incoming(call, now.mono + timeout_s, max(1, min(call.credit, self.limits.window)))
        self._in[key] = served
        self._in_by_peer[sender] += 1
        self._arm(served.deadline, sender, call.stream)
        self.counters["calls_in"] += 1
        if call.more:
            served.whole = False
            served.body.append(call.body)
            served.body_bytes = len(call.body)
        else:
            self._announce(sender, served, call.body)
        return []

    def _call_refusal(self, sender: bytes, call: Call) -> tuple[str, str] | None:
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

    def _on_input(self, sender: bytes, message: Input) -> list[Send]:
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

    def _on_credit(self, sender: bytes, message: Credit) -> list[Send]:
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

    def _on_cancel(self, sender: bytes, message: Cancel) -> list[Send]:
        self._abandon(sender, message.stream, message.reason[:200] or "cancelled")
        return []

    def _abandon(self, peer: bytes, stream: int, reason: str) -> None:
        served = self._in.get((peer, stream))
        if served is not None:
            self._forget_incoming(peer, stream)
            self.counters["abandoned_in"] += 1
            if served.whole:
                self._events.append(Abandoned(peer, stream, reason))

    def _incoming_due(self, peer: bytes, stream: int, now: Now) -> list[Send]:
        served = self._in.get((peer, stream))
        if served is None or now.mono < served.deadline:
            return []
        self._abandon(peer, stream, "deadline")
        return [
            Send(peer, Fail(stream, "deadline", "the time for this call is over", self._load()))
        ]

    def _forget_incoming(self, peer: bytes, stream: int) -> bool:
        if self._in.pop((peer, stream), None) is None:
            return False
        self._in_by_peer[peer] -= 1
        if not self._in_by_peer[peer]:
            del self._in_by_peer[peer]
        return True

    def _arm(self, when: float, peer: bytes, stream: int) -> None:
        self._ties += 1
        heapq.heappush(self._timers, (when, self._ties, peer, stream))

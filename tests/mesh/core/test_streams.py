"""Calls, credits, deadlines and cancellation, both ends joined by a fake link."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.clock import Now
from mesh.core.effects import Send
from mesh.core.errors import DeadlineExceeded, Rejected, WireError
from mesh.core.identity import Signed
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
    StreamLimits,
    Writable,
)
from mesh.core.streams import Streams
from mesh.core.wire import (
    MAX_CHUNK_BYTES,
    Accept,
    Call,
    CallHeader,
    Cancel,
    Countersigned,
    Credit,
    Data,
    End,
    Input,
    Lane,
    Load,
    Op,
    Ping,
    decode,
    encode,
)

ALICE, BOB, EVE = b"A" * 16, b"B" * 16, b"E" * 16
NAME = "knowledge.gpt/arithmetic"


def header(timeout_ms: int = 10_000) -> CallHeader:
    return CallHeader(trace=b"t" * 16, span=b"s" * 8, timeout_ms=timeout_ms, caller=ALICE)


class Pair:
    """Alice calls Bob over a link that encodes every frame; frames can be held back or lost."""

    def __init__(self, limits: StreamLimits | None = None) -> None:
        self.alice = Streams(limits)
        self.bob = Streams(limits, load=lambda: Load(inflight=1, slots=4))
        self.now = Now(100.0, 1e9)

    def carry(self, sender: bytes, sends: list[Send]) -> None:
        queue = [(sender, send) for send in sends]
        while queue:
            origin, send = queue.pop(0)
            target = self.bob if send.to == BOB else self.alice
            message = decode(encode(send.message), send.lane)
            queue += [(send.to, reply) for reply in target.receive(origin, message, self.now)]

    def open(self, body: bytes = b"q", timeout_ms: int = 10_000) -> int:
        stream, sends = self.alice.caller.open(
            BOB, NAME, Op.QUERY, body, header(timeout_ms), self.now
        )
        self.carry(ALICE, sends)
        return stream

    def accepted(self, body: bytes = b"q") -> int:
        stream = self.open(body)
        self.carry(BOB, self.bob.callee.accept(ALICE, stream))
        self.bob.drain_events()
        self.alice.drain_events()
        return stream

    def wait(self, seconds: float) -> None:
        self.now = Now(self.now.mono + seconds, self.now.wall + seconds)
        self.carry(ALICE, self.alice.tick(self.now))
        self.carry(BOB, self.bob.tick(self.now))


def of(events: list[StreamEvent], kind: type) -> list[StreamEvent]:
    return [event for event in events if isinstance(event, kind)]


def test_a_call_is_answered_message_by_message_and_then_ends() -> None:
    pair = Pair()
    stream = pair.open(b"what is 2 + 2?")
    [incoming] = pair.bob.drain_events()
    assert isinstance(incoming, Incoming)
    assert (incoming.peer, incoming.name, incoming.body) == (ALICE, NAME, b"what is 2 + 2?")
    callee = pair.bob.callee
    pair.carry(BOB, callee.accept(ALICE, stream))
    for piece in (b"2 + 2", b" = ", b"4"):
        pair.carry(BOB, callee.send(ALICE, stream, piece))
    pair.carry(BOB, callee.end(ALICE, stream))
    events = pair.alice.drain_events()
    assert [e.body for e in of(events, Received)] == [b"2 + 2", b" = ", b"4"]
    assert isinstance(events[0], Accepted)
    assert isinstance(events[-1], Ended)
    assert LoadSeen(BOB, Load(inflight=1, slots=4)) in events
    assert (len(pair.alice.caller), len(pair.bob.callee)) == (0, 0)


def test_a_refusal_carries_its_reason_and_when_to_come_back() -> None:
    pair = Pair()
    stream = pair.open()
    pair.carry(BOB, pair.bob.callee.reject(ALICE, stream, "rejected", "4 slots are taken", 2.5))
    assert of(pair.alice.drain_events(), Refused) == [
        Refused(stream, BOB, "rejected", "4 slots are taken", 2.5)
    ]
    assert len(pair.bob.callee) == 0


@settings(max_examples=25, deadline=None)
@given(size=st.integers(0, 5 * MAX_CHUNK_BYTES))
def test_bodies_of_any_size_arrive_whole_both_ways(size: int) -> None:
    pair, body = Pair(), bytes(i % 251 for i in range(size))
    stream = pair.open(body)
    [incoming] = of(pair.bob.drain_events(), Incoming)
    assert isinstance(incoming, Incoming)
    assert incoming.body == body
    pair.carry(BOB, pair.bob.callee.accept(ALICE, stream))
    pair.carry(BOB, pair.bob.callee.send(ALICE, stream, body))
    pair.carry(BOB, pair.bob.callee.end(ALICE, stream))
    events = pair.alice.drain_events()
    assert [e.body for e in of(events, Received)] == [body]
    assert isinstance(events[-1], Ended)


def test_a_slow_reader_stops_the_sender_at_the_window_and_credit_lets_it_go_on() -> None:
    window = 8
    pair = Pair(StreamLimits(window=window))
    stream = pair.accepted()
    callee, sent = pair.bob.callee, 0
    while callee.writable(ALICE, stream):
        pair.carry(BOB, callee.send(ALICE, stream, b"x"))
        sent += 1
    assert sent == window
    for event in of(pair.alice.drain_events(), Received):
        assert isinstance(event, Received)
        pair.carry(ALICE, pair.alice.caller.consumed(stream, event.credits))
    assert of(pair.bob.drain_events(), Writable) == [Writable(ALICE, stream)]
    assert callee.writable(ALICE, stream)


def test_a_sender_that_ignores_its_credit_is_cut_off() -> None:
    pair = Pair(StreamLimits(window=4))
    stream = pair.accepted()
    for seq in range(5):
        pair.carry(BOB, [Send(ALICE, Data(stream, seq, b"x"))])
    [failed] = of(pair.alice.drain_events(), Failed)
    assert isinstance(failed, Failed)
    assert failed.code == "malformed"
    assert len(pair.bob.callee) == 0  # the cancel arrived


def test_a_claim_of_endless_credit_is_capped() -> None:
    pair = Pair(StreamLimits(window=4))
    stream = pair.accepted()
    pair.carry(ALICE, [Send(BOB, Credit(stream, 1 << 60))])
    sent = 0
    while pair.bob.callee.writable(ALICE, stream) and sent < 100:
        pair.bob.callee.send(ALICE, stream, b"x")
        sent += 1
    assert sent <= 8


def test_a_lost_frame_fails_the_answer_instead_of_shortening_it() -> None:
    pair = Pair()
    stream = pair.accepted()
    pair.carry(BOB, pair.bob.callee.send(ALICE, stream, b"one"))
    pair.bob.callee.send(ALICE, stream, b"two: lost on the way")
    pair.carry(BOB, pair.bob.callee.send(ALICE, stream, b"three"))
    events = pair.alice.drain_events()
    assert [e.body for e in of(events, Received)] == [b"one"]
    [failed] = of(events, Failed)
    assert isinstance(failed, Failed)
    assert failed.code == "peer_lost"


def test_an_end_that_overtakes_bulk_data_waits_for_it() -> None:
    pair = Pair()
    stream = pair.accepted()
    late = pair.bob.callee.send(ALICE, stream, b"rows")
    pair.carry(BOB, pair.bob.callee.end(ALICE, stream))
    assert not of(pair.alice.drain_events(), Ended)
    pair.carry(BOB, late)
    events = pair.alice.drain_events()
    assert of(events, Received)
    assert isinstance(events[-1], Ended)


def test_a_call_on_the_bulk_lane_answers_there() -> None:
    pair = Pair()
    stream, sends = pair.alice.caller.open(BOB, NAME, Op.QUERY, b"q", header(), pair.now, Lane.BULK)
    pair.carry(ALICE, sends)
    pair.carry(BOB, pair.bob.callee.accept(ALICE, stream))
    [send] = pair.bob.callee.send(ALICE, stream, b"rows")
    assert send.lane is Lane.BULK
    [end] = pair.bob.callee.end(ALICE, stream)
    assert end.lane is Lane.CONTROL


def test_a_cancel_stops_the_work_and_late_frames_are_only_counted() -> None:
    pair = Pair()
    stream = pair.accepted()
    on_the_way = pair.bob.callee.send(ALICE, stream, b"late")
    pair.carry(ALICE, pair.alice.caller.cancel(stream, "enough"))
    assert of(pair.bob.drain_events(), Abandoned) == [Abandoned(ALICE, stream, "enough")]
    pair.carry(BOB, on_the_way)
    assert not pair.alice.drain_events()
    assert pair.alice.counters["late"] == 1


def test_silence_ends_as_a_lost_peer_before_the_deadline_so_that_another_can_be_asked() -> None:
    pair = Pair(StreamLimits(accept_timeout_s=5.0))
    pair.open(timeout_ms=60_000)
    pair.wait(5.1)
    [failed] = of(pair.alice.drain_events(), Failed)
    assert isinstance(failed, Failed)
    assert failed.code == "peer_lost"
    assert len(pair.bob.callee) == 0


def test_the_deadline_ends_both_sides() -> None:
    pair = Pair()
    pair.accepted()
    assert pair.alice.next_deadline() <= pair.now.mono + 10
    pair.wait(10.5)
    [failed] = of(pair.alice.drain_events(), Failed)
    assert isinstance(failed, Failed)
    assert failed.code == "deadline"
    assert of(pair.bob.drain_events(), Abandoned)
    assert (len(pair.alice.caller), len(pair.bob.callee)) == (0, 0)


def test_a_lost_peer_fails_every_stream_with_it_and_no_other() -> None:
    pair = Pair()
    stream = pair.accepted()
    other, _ = pair.alice.caller.open(EVE, NAME, Op.QUERY, b"", header(), pair.now)
    pair.alice.peer_lost(BOB, pair.now)
    pair.bob.peer_lost(ALICE, pair.now)
    assert of(pair.alice.drain_events(), Failed) == [
        Failed(stream, "peer_lost", "the peer is lost")
    ]
    assert of(pair.bob.drain_events(), Abandoned)
    assert len(pair.alice.caller) == 1
    assert other != stream


def test_only_the_callee_may_answer() -> None:
    pair = Pair()
    stream = pair.accepted()
    assert pair.alice.receive(EVE, Data(stream, 0, b"forged"), pair.now) == []
    assert pair.alice.receive(EVE, End(stream, 0), pair.now) == []
    assert pair.alice.receive(EVE, Accept(stream), pair.now) == []
    assert not pair.alice.drain_events()
    assert pair.alice.counters["not_the_callee"] == 3


def test_only_the_caller_may_cancel() -> None:
    pair = Pair()
    stream = pair.accepted()
    pair.bob.receive(EVE, Cancel(stream), pair.now)
    assert len(pair.bob.callee) == 1


def test_a_repeated_call_frame_works_once() -> None:
    pair = Pair()
    _, [send] = pair.alice.caller.open(BOB, NAME, Op.QUERY, b"q", header(), pair.now)
    pair.carry(ALICE, [send, send])
    assert len(of(pair.bob.drain_events(), Incoming)) == 1
    assert pair.bob.counters["repeated_call"] == 1


def test_one_peer_cannot_take_every_stream() -> None:
    pair = Pair(StreamLimits(max_incoming_per_peer=3, max_incoming=5))
    for _ in range(4):
        pair.open()
    [refused] = of(pair.alice.drain_events(), Refused)
    assert isinstance(refused, Refused)
    assert refused.reason == "too many streams from this peer"
    for number in range(3):
        pair.bob.receive(EVE, Call(number, header(), NAME, Op.QUERY, b"", 1), pair.now)
    assert len(pair.bob.callee) == 5


def test_bad_calls_are_refused_at_once() -> None:
    pair = Pair()
    with pytest.raises(DeadlineExceeded):
        pair.alice.caller.open(BOB, NAME, Op.QUERY, b"", header(0), pair.now)
    with pytest.raises(WireError):
        pair.alice.caller.open(BOB, NAME, Op.QUERY, b"x" * (5 << 20), header(), pair.now)
    full = Pair(StreamLimits(max_outgoing=1))
    full.open()
    with pytest.raises(Rejected):
        full.open()
    late, strange = header(-5), header()
    [reply] = pair.bob.receive(ALICE, Call(1, late, NAME, Op.QUERY, b"", 1), pair.now)
    assert reply.message.code == "deadline"  # type: ignore[union-attr]
    [reply] = pair.bob.receive(ALICE, Call(2, strange, NAME, 99, b"", 1), pair.now)
    assert reply.message.code == "malformed"  # type: ignore[union-attr]
    with pytest.raises(WireError):
        pair.bob.receive(ALICE, Ping(1, BOB, b"n"), pair.now)


def test_a_body_with_a_missing_part_is_refused() -> None:
    pair = Pair()
    call = Call(7, header(), NAME, Op.QUERY, b"a", 4, more=True)
    pair.bob.receive(ALICE, call, pair.now)
    [reply] = pair.bob.receive(ALICE, Input(7, 1, b"c"), pair.now)
    assert reply.message.code == "malformed"  # type: ignore[union-attr]
    assert not of(pair.bob.drain_events(), Incoming)


def test_an_endless_message_is_cut_off_at_the_cap() -> None:
    limits = StreamLimits(window=64, max_message_bytes=4 * MAX_CHUNK_BYTES)
    pair = Pair(limits)
    stream = pair.accepted()
    for seq in range(6):
        pair.carry(BOB, [Send(ALICE, Data(stream, seq, b"x" * MAX_CHUNK_BYTES, more=True))])
    [failed] = of(pair.alice.drain_events(), Failed)
    assert isinstance(failed, Failed)
    assert failed.code == "too_large"


def test_a_failure_after_accept_says_when_to_come_again() -> None:
    pair = Pair()
    stream = pair.accepted()
    pair.carry(BOB, pair.bob.callee.fail(ALICE, stream, "rejected", "full", 2.5))
    assert Failed(stream, "rejected", "full", 2.5) in pair.alice.drain_events()


def test_receipts_travel_with_the_end_and_the_answer_to_them_comes_back() -> None:
    pair = Pair()
    stream = pair.accepted()
    receipt, answer = Signed(b"receipt", b"s"), Signed(b"answer", b"s")
    pair.carry(BOB, pair.bob.callee.end(ALICE, stream, receipt))
    assert Receipted(BOB, receipt, counter=False) in pair.alice.drain_events()
    pair.carry(ALICE, [Send(BOB, Countersigned(answer))])
    assert pair.bob.drain_events() == [Receipted(ALICE, answer, counter=True)]


def test_a_receipt_reaches_a_caller_that_has_left_already() -> None:
    pair = Pair()
    stream = pair.accepted()
    pair.alice.caller.cancel(stream)
    pair.carry(BOB, pair.bob.callee.end(ALICE, stream, Signed(b"receipt", b"s")))
    assert Receipted(BOB, Signed(b"receipt", b"s"), counter=False) in pair.alice.drain_events()

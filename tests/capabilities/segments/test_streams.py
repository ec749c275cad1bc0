"""The context manager: rows in order, each computed once, and memory that comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.segments.choosing import Sampling
from capabilities.segments.messages import Chosen
from capabilities.segments.rows import Packed, pack
from capabilities.segments.streams import Limits, Streams
from mesh.core.errors import Rejected, WireError

WIDTH = 4
KEY = ("who", "s")


def rows(first: int, count: int) -> Packed:
    values = np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], WIDTH, 1)
    return pack(values)


def chosen(position: int) -> Chosen:
    return Chosen(position=position, token=1, probability=1.0)


def opened(limits: Limits | None = None) -> Streams:
    streams = Streams(WIDTH, limits)
    streams.open(KEY, 0, 0, Sampling(), 0.0)
    return streams


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=25), st.integers(0, 99))
def test_rows_that_come_twice_late_or_in_pieces_are_kept_once_and_in_order(
    pieces: list[tuple[int, int]], seed: int
) -> None:
    streams = opened()
    stream = streams.get(KEY, 0)
    assert stream is not None
    have, done = 0, 0
    rng = np.random.default_rng(seed)
    for first, count in pieces:
        taken = streams.upload(stream, first, rows(first, count), 0.0)
        assert taken == (first <= have)
        have = max(have, first + count) if taken else have
        assert stream.have == have
        if have > done and rng.random() < 0.5:
            at = int(rng.integers(done, have))
            found = streams.take(stream, at)
            assert found[:, 0].tolist() == list(range(done, at + 1))
            streams.computed(stream, chosen(at), 0.0)
            done = at + 1
    assert stream.computed == done
    assert streams.bytes == stream.pending_bytes == (have - done) * WIDTH * 2
    streams.park(stream, object(), 100)
    assert streams.bytes == stream.bytes
    streams.close(KEY)
    assert streams.bytes == 0
    streams.unpark(stream)  # a pass that still held it comes to its end
    streams.cut(stream, 0)
    assert streams.bytes == 0


def test_nothing_is_computed_over_a_gap_or_twice() -> None:
    streams = opened()
    stream = streams.get(KEY, 0)
    assert stream is not None
    streams.upload(stream, 0, rows(0, 3), 0.0)
    with pytest.raises(WireError):
        streams.take(stream, 3)
    streams.computed(stream, chosen(1), 0.0)
    with pytest.raises(WireError):
        streams.take(stream, 1)


def test_a_new_epoch_cuts_and_an_older_one_is_refused() -> None:
    streams = opened()
    stream = streams.get(KEY, 0)
    assert stream is not None
    streams.upload(stream, 0, rows(0, 5), 0.0)
    streams.computed(stream, chosen(3), 0.0)
    again = streams.open(KEY, 1, 2, Sampling(), 0.0)
    assert (again.have, again.done, again.last) == (2, 2, None)
    assert streams.get(KEY, 0) is None
    with pytest.raises(WireError, match="epoch 0"):
        streams.open(KEY, 0, 0, Sampling(), 0.0)


def test_limits_are_told_and_who_is_silent_longest_gives_way() -> None:
    streams = Streams(WIDTH, Limits(streams=2, bytes=5 * WIDTH * 2, positions=20))
    one = streams.open(("a", "1"), 0, 0, Sampling(), 1.0)
    two = streams.open(("b", "1"), 0, 0, Sampling(), 2.0)
    with pytest.raises(Rejected, match="2 streams"):
        streams.open(("c", "1"), 0, 0, Sampling(), 3.0)
    streams.upload(one, 0, rows(0, 3), 1.0)
    with pytest.raises(Rejected, match="no memory"):
        streams.upload(two, 0, rows(0, 3), 2.0)
    assert streams.longest_unused(("b", "1")) == ("a", "1")
    streams.close(("a", "1"))
    assert streams.upload(two, 0, rows(0, 3), 2.0)
    with pytest.raises(Rejected, match="positions"):
        streams.upload(two, 3, rows(3, 30), 2.0)


def test_what_nobody_uses_expires_and_a_busy_stream_does_not() -> None:
    streams = opened(Limits(idle_s=10.0))
    stream = streams.get(KEY, 0)
    assert stream is not None
    assert streams.expired(10.0) == []
    stream.busy = True
    assert streams.expired(100.0) == []
    stream.busy = False
    assert streams.expired(100.0) == [KEY]


def test_the_longest_unused_is_parked_when_the_model_is_full() -> None:
    streams = Streams(WIDTH, Limits(resident=1))
    for at, name in enumerate("ab"):
        stream = streams.open((name, "1"), 0, 0, Sampling(), float(at))
        streams.upload(stream, 0, rows(0, 2), float(at))
    first = streams.get(("a", "1"), 0)
    assert first is not None
    assert streams.to_park(("b", "1")) is None
    streams.computed(first, chosen(1), 5.0)
    assert streams.to_park(("b", "1")) == ("a", "1")
    streams.park(first, object(), 100)
    assert streams.bytes == 100 + 2 * WIDTH * 2
    assert streams.to_park(("b", "1")) is None
    assert streams.unpark(first) is not None
    assert streams.unpark(first) is None

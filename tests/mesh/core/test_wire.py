"""The messages on the wire: whole, bounded, versioned."""

from __future__ import annotations

import contextlib
from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.errors import FrameTooLarge, WireError
from mesh.core.wire import (
    LANE_LIMITS,
    MAX_ADMISSION_BYTES,
    MAX_TOGETHER,
    VERSION,
    AdmissionMessage,
    Credit,
    Digest,
    DigestEntry,
    Lane,
    Message,
    Ping,
    Want,
    bundle,
    decode,
    decode_admission,
    encode,
    unbundle,
)

numbers = st.integers(min_value=0, max_value=2**40)
ids = st.binary(min_size=16, max_size=16)


def round_trip(message: Message | AdmissionMessage) -> None:
    try:
        frame = encode(message)
    except OverflowError:
        return  # no integer on the wire has more than 64 bits
    admission = isinstance(message, get_args(AdmissionMessage))
    if len(frame) <= (MAX_ADMISSION_BYTES if admission else LANE_LIMITS[Lane.CONTROL]):
        assert encode(decode_admission(frame) if admission else decode(frame)) == frame


@settings(max_examples=30)
@given(st.data())
def test_every_message_comes_back_as_it_went(data: st.DataObject) -> None:
    for kind in (*get_args(Message), *get_args(AdmissionMessage)):
        fields = {name: st.from_type(hint) for name, hint in get_type_hints(kind).items()}
        round_trip(data.draw(st.builds(kind, **fields)))


@given(numbers, ids, st.binary(max_size=16))
def test_unknown_trailing_fields_are_ignored(seq: int, node: bytes, nonce: bytes) -> None:
    fields = msgspec.msgpack.decode(encode(Ping(seq, node, nonce))[1:])
    grown = bytes([VERSION]) + msgspec.msgpack.encode([*fields, "later", [1, 2]])
    assert decode(grown) == Ping(seq, node, nonce)


@given(st.binary(max_size=400))
def test_random_bytes_raise_only_the_wires_own_errors(raw: bytes) -> None:
    for frame in (raw, bytes([VERSION]) + raw, b"\x01\x93" + raw):
        for read in (decode, decode_admission):
            with contextlib.suppress(WireError):
                read(frame)


@given(st.integers(0, 60), st.integers(0, 255))
def test_a_frame_with_one_wrong_byte_raises_only_the_wires_own_errors(
    place: int, byte: int
) -> None:
    whole = encode(Digest([DigestEntry(b"n" * 16, 1, 2, 3)], root=b"r" * 8, scope=[1, 2]))
    frame = bytearray(whole)
    frame[place % len(frame)] = byte
    with contextlib.suppress(WireError):
        decode(bytes(frame))


@pytest.mark.parametrize("lane", list(Lane))
def test_a_frame_over_its_limit_is_dropped_before_it_is_decoded(lane: Lane) -> None:
    with pytest.raises(FrameTooLarge):
        decode(b"\x01" + b"\xff" * LANE_LIMITS[lane], lane)


def test_a_stranger_may_send_less_than_a_member() -> None:
    with pytest.raises(FrameTooLarge):
        decode_admission(b"\x01" + b"\xff" * MAX_ADMISSION_BYTES)


def test_another_version_is_refused_with_advice() -> None:
    with pytest.raises(WireError) as refusal:
        decode(b"\x02" + encode(Want([]))[1:])
    assert "update" in refusal.value.sentence()


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError):
        decode(b"\x01" + b"\x91" * 60_000)


@pytest.mark.parametrize("frame", [b"", b"\x01"])
def test_an_empty_frame_is_no_message(frame: bytes) -> None:
    with pytest.raises(WireError):
        decode(frame)


@given(st.lists(st.binary(min_size=1, max_size=300).map(lambda b: b"\x01" + b), max_size=60))
def test_a_bundle_gives_back_its_frames_in_their_order_and_within_the_limit(
    frames: list[bytes],
) -> None:
    messages = list(bundle(frames, 1024))
    assert all(len(message) <= 1024 for message in messages)
    assert [frame for message in messages for frame in unbundle(message)] == frames


def test_a_frame_alone_is_no_bundle_however_long_it_is() -> None:
    frame = b"\x01" + b"x" * 5000
    assert list(bundle([b"\x01a", frame, b"\x01b"], 1024)) == [b"\x01a", frame, b"\x01b"]


@pytest.mark.parametrize(
    "message",
    [
        b"\0",
        b"\0\xc0",
        b"\0\x91\x01",
        b"\0" + b"\x91" * 2000,
        b"\0\xdd\xff\xff\xff\xff",
        b"\0" + msgspec.msgpack.encode([b"\x01a"] * (MAX_TOGETHER + 1)),
    ],
)
def test_a_bundle_that_is_none_or_holds_too_much_is_refused(message: bytes) -> None:
    with pytest.raises(WireError):
        unbundle(message)


def test_a_bundle_within_a_bundle_is_no_frame() -> None:
    inner = b"\0" + msgspec.msgpack.encode([encode(Credit(1, 2))])
    (frame,) = unbundle(b"\0" + msgspec.msgpack.encode([inner]))
    with pytest.raises(WireError, match="version 0"):
        decode(frame)

"""The agent-worker protocol: framing, caps, versions, and answers to what cannot be read."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.messages import Delta, Done, Generate, Message
from capabilities.slm import protocol
from mesh.core.errors import FrameTooLarge, WireError


def body(message: protocol.Command | protocol.Reply) -> bytes:
    (only,) = protocol.Deframer().feed(protocol.frame(message))
    return only


STATE = protocol.SequenceState(model="m", tokens=[1, 2], data=b"\0\xff")
BLOCK = protocol.Block(rows=1, width=2, data=b"\0" * 8)


@pytest.mark.parametrize(
    "command",
    [
        protocol.Hello(version=1),
        protocol.Load(path="a.gguf", paced=protocol.Paced(token_s=0.1)),
        protocol.Submit(
            id=1, request=Generate(messages=[Message("user", "hi")]), state=STATE, keep_state=True
        ),
        protocol.Cancel(id=1),
        protocol.Embed(id=2, texts=["a"]),
        protocol.Tokenize(id=3, text="a"),
        protocol.Forward(id=4, sequence="s", position=0, rows=BLOCK, want_rows=True),
        protocol.SaveSequence(id=5, sequence="s"),
        protocol.RestoreSequence(id=6, sequence="s", state=STATE),
        protocol.DropSequence(id=7, sequence="s"),
        protocol.Ping(nonce=9),
        protocol.Shutdown(),
    ],
    ids=protocol.describe,
)
def test_every_command_survives_the_wire(command: protocol.Command) -> None:
    assert protocol.decode_command(body(command)) == command


@pytest.mark.parametrize(
    "reply",
    [
        protocol.Output(id=1, events=[Delta(text="a"), Done(text="a", finish="stop")]),
        protocol.Embedded(id=2, block=BLOCK),
        protocol.Forwarded(id=3, rows=BLOCK, logprobs=[[(1, -0.5)]], positions=4),
        protocol.Held(id=3, positions=7),
        protocol.State(id=4, state=STATE),
        protocol.Tokens(id=5, tokens=[1]),
        protocol.Failed(id=6, code="model", message="no"),
        protocol.Pong(nonce=1, steps=2),
    ],
    ids=protocol.describe,
)
def test_every_reply_survives_the_wire(reply: protocol.Reply) -> None:
    assert protocol.decode_reply(body(reply)) == reply


def test_fields_of_a_newer_peer_are_ignored() -> None:
    newer = msgspec.msgpack.encode({"type": "cancel", "id": 3, "colour": "blue"})
    assert protocol.decode_command(newer) == protocol.Cancel(id=3)


def test_an_unknown_message_is_answered_with_unsupported_for_its_request() -> None:
    with pytest.raises(protocol.Undecodable) as caught:
        protocol.decode_command(msgspec.msgpack.encode({"type": "dance", "id": 8}))
    reply = caught.value.reply()
    assert (reply.id, reply.code) == (8, "unsupported")


def test_a_known_message_with_wrong_fields_is_a_bad_request() -> None:
    with pytest.raises(protocol.Undecodable) as caught:
        protocol.decode_command(msgspec.msgpack.encode({"type": "embed", "id": 8, "texts": 5}))
    reply = caught.value.reply()
    assert (reply.id, reply.code) == (8, "bad_request")


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_a_typed_error(data: bytes) -> None:
    for decode in (protocol.decode_command, protocol.decode_reply):
        with contextlib.suppress(WireError):
            decode(data)


def test_a_block_that_does_not_match_its_size_is_refused() -> None:
    with pytest.raises(ValueError, match="does not match"):
        protocol.Block(rows=2, width=2, data=b"\0" * 8)
    raw = msgspec.msgpack.encode(
        {"type": "embedded", "id": 1, "block": {"rows": -1, "width": 2, "data": b""}}
    )
    with pytest.raises(WireError):
        protocol.decode_reply(raw)


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 7))
def test_frames_arrive_whole_however_the_stream_is_cut(bodies: list[bytes], size: int) -> None:
    stream = b"".join(len(b).to_bytes(4, "big") + b for b in bodies)
    deframer = protocol.Deframer()
    out: list[bytes] = []
    for at in range(0, len(stream), size):
        out += deframer.feed(stream[at : at + size])
    assert out == bodies


def test_a_frame_above_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameTooLarge):
        protocol.Deframer().feed((protocol.MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    huge = protocol.Tokenize(id=1, text="x" * (protocol.MAX_FRAME_BYTES + 1))
    with pytest.raises(FrameTooLarge):
        protocol.frame(huge)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0},
        {"slots": 999},
        {"context_tokens": 20},
        {"batch_tokens": 0},
        {"threads": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        protocol.Settings(**wrong)  # type: ignore[arg-type]

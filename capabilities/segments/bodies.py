"""What the messages of two machines that make one answer have in common; pure."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from mesh.core.errors import WireError

MAX_STREAM_CHARS = 64
_encoder = msgspec.msgpack.Encoder()
_T = TypeVar("_T")


def encode(body: msgspec.Struct) -> bytes:
    """A message as bytes."""
    return _encoder.encode(body)


def decode(data: bytes, decoder: msgspec.msgpack.Decoder[_T], what: str) -> _T:
    """Bytes as a message; raises WireError, which says what it should have been a message of."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"not a message of {what}: {error}") from error


def check_stream(name: str) -> None:
    """Raises WireError for a stream's name that is none, or too long to be kept."""
    if not 0 < len(name) <= MAX_STREAM_CHARS:
        raise WireError(f"a stream's name has 1 to {MAX_STREAM_CHARS} characters")

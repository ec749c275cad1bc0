"""What happens to a stream, as values, and the caps of the stream layer."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mesh.core.identity import Signed
from mesh.core.wire import MAX_CHUNK_BYTES, CallHeader, Load, Op


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


class Accepted(msgspec.Struct, frozen=True):
    """The callee took the call."""

    stream: int
    node: bytes


class Refused(msgspec.Struct, frozen=True):
    """The callee, or the deadline, ended the call before any answer."""

    stream: int
    node: bytes
    code: str
    reason: str
    retry_after_s: float


class Received(msgspec.Struct, frozen=True):
    """One whole message of the answer. Give it back with :meth:`Streams.consumed`."""

    stream: int
    body: bytes
    credits: int


class Ended(msgspec.Struct, frozen=True):
    """The answer is whole."""

    stream: int


class Failed(msgspec.Struct, frozen=True):
    """The answer will not be whole."""

    stream: int
    code: str
    reason: str
    retry_after_s: float = 0.0


class Incoming(msgspec.Struct, frozen=True):
    """A peer calls; the shell answers with accept or reject at once."""

    peer: bytes
    stream: int
    header: CallHeader
    name: str
    op: Op
    body: bytes
    deadline: float  # monotonic seconds of this node


class Abandoned(msgspec.Struct, frozen=True):
    """The caller cancelled, is lost, or its time is over: stop working on it."""

    peer: bytes
    stream: int
    reason: str


class Writable(msgspec.Struct, frozen=True):
    """Credit came for a stream that had none."""

    peer: bytes
    stream: int


class LoadSeen(msgspec.Struct, frozen=True):
    """Fresh load, heard on a reply."""

    node: bytes
    load: Load


class Receipted(msgspec.Struct, frozen=True):
    """``node`` sent a signed word on a call: its receipt, or where ``counter`` its word on ours.
    Nothing of it has been checked."""

    node: bytes
    signed: Signed
    counter: bool


StreamEvent = (
    Accepted
    | Refused
    | Received
    | Ended
    | Failed
    | Incoming
    | Abandoned
    | Writable
    | LoadSeen
    | Receipted
)


def chunks(body: bytes) -> list[bytes]:
    """A body cut into pieces that fit a frame; an empty body is one empty piece."""
    return [body[i : i + MAX_CHUNK_BYTES] for i in range(0, max(len(body), 1), MAX_CHUNK_BYTES)]

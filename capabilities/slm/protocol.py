"""The protocol between an agent and its model workers: typed messages in length-prefixed frames.

A worker inherits one end of a socket pair; there is no listening socket. Each frame is a
four-byte big-endian length and a MessagePack map whose ``type`` names the message. Unknown
fields are ignored, so either side may be newer; a message type that a worker does not know, or
knows and cannot serve, is answered with :class:`Failed` and the code ``unsupported``. From the
first version on the protocol carries tokens, log-probabilities, hidden rows, embeddings and
sequence state; ``Ready.features`` says which of them a worker serves today.

The order of a conversation: both sides say :class:`Hello`, the agent sends :class:`Load`, the
worker answers :class:`Ready` or :class:`Failed` with id 0, then requests follow in any order.
The last message of a request is Output with Done, Embedded, Forwarded, Tokens, Spelled, State after
SaveSequence, Held after RestoreSequence and DropSequence, or Failed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from capabilities.messages import Delta, Done, Generate
from capabilities.slm.errors import BadRequest, Unsupported
from capabilities.slm.settings import MAX_SLOTS as MAX_SLOTS  # noqa: PLC0414 - travels with it
from capabilities.slm.settings import Paced as Paced  # noqa: PLC0414
from capabilities.slm.settings import Settings as Settings  # noqa: PLC0414
from mesh.core.errors import FrameTooLarge, GossamerError, WireError
from mesh.core.records import ModelInfo

VERSION = 1
# A hostile or broken peer could announce any length; a sequence state of a 1B model with 4,096
# tokens is about 50 MB, the largest thing that legitimately travels.
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_EMBED_TEXTS = 256  # one Embed runs between two decode steps; more would stall the streams
PREFIX_BYTES = 4
LOAD_ID = 0  # the id of what concerns the worker as a whole; requests count from 1

_SIZES = {"f32": 4, "f16": 2}


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A matrix in row-major order, little-endian: hidden rows or embeddings."""

    rows: int
    width: int
    dtype: str = "f32"  # f32 or f16
    data: bytes = b""

    def __post_init__(self) -> None:
        if self.dtype not in _SIZES:
            raise ValueError(f"a block of type {self.dtype!r}; known are f32 and f16")
        if self.rows < 0 or self.width < 0:
            raise ValueError("a block has a negative size")
        if len(self.data) != self.rows * self.width * _SIZES[self.dtype]:
            raise ValueError("a block's data does not match its rows and width")


class SequenceState(msgspec.Struct, frozen=True, kw_only=True):
    """What a model remembers of ``tokens``: opaque native bytes, valid for the same file only.

    The native reader trusts these bytes: restore only what came from one's own worker or from a
    peer whose identity was checked.
    """

    model: str  # ModelInfo.file_sha256 of the model that computed it
    tokens: list[int]  # empty when the sequence was fed with hidden rows
    data: bytes
    positions: int = 0  # 0: as many as tokens


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent says to a worker."""


class Hello(Command, frozen=True, kw_only=True, tag="hello"):
    """The agent's first message."""

    version: int
    software: str = ""


class Load(Command, frozen=True, kw_only=True, tag="load"):
    """Load this file, or pretend at this pace."""

    path: str = ""
    settings: Settings = Settings()
    paced: Paced | None = None


class Submit(Command, frozen=True, kw_only=True, tag="submit"):
    """Generate an answer. ``timeout_s`` counts from its arrival; 0 is no deadline.

    ``isolation``: state computed under one label never serves another. ``state`` replaces the
    prefill of as many prompt tokens as it shares; with ``keep_state`` the worker sends
    :class:`State` before the last Output.
    """

    id: int
    request: Generate
    timeout_s: float = 0.0
    priority: int = 0
    isolation: str = ""
    state: SequenceState | None = None
    keep_state: bool = False


class Cancel(Command, frozen=True, kw_only=True, tag="cancel"):
    """The answer is no longer wanted; nothing is sent for ``id`` after it has been seen."""

    id: int


class Embed(Command, frozen=True, kw_only=True, tag="embed"):
    """Embed texts, one row each, of unit length unless ``normalize`` is false."""

    id: int
    texts: list[str]
    normalize: bool = True


class Tokenize(Command, frozen=True, kw_only=True, tag="tokenize"):
    """The tokens of a text; ``special`` also reads the model's control tokens in it."""

    id: int
    text: str
    special: bool = False


class Render(Command, frozen=True, kw_only=True, tag="render"):
    """The prompt of a request by the model's chat template, answered by Tokens."""

    id: int
    request: Generate


class Spell(Command, frozen=True, kw_only=True, tag="spell"):
    """How tokens are written, answered by Spelled."""

    id: int
    tokens: list[int]


class Forward(Command, frozen=True, kw_only=True, tag="forward"):
    """One pass over part of a sequence: a layer segment's work, or the check of a draft.

    Either ``tokens`` or ``rows`` come in, at positions ``position`` and up of the named
    sequence, whose later positions are dropped first; position 0 opens one. With ``fork`` it
    begins as a copy of that sequence up to ``position``. Out come, for the last row or for
    ``all_rows``, the ``logprobs`` best tokens and, in a worker with ``capture``, with
    ``want_rows`` the hidden rows that leave ``layer`` (-1: after the final norm) as ``dtype``.
    Commands of one sequence are done in their order; those of several share a step.
    ``timeout_s`` counts from its arrival; 0 is no deadline.
    """

    id: int
    sequence: str
    position: int
    tokens: list[int] = []
    rows: Block | None = None
    want_rows: bool = False
    layer: int = -1
    dtype: str = "f32"
    logprobs: int = 0
    all_rows: bool = False
    fork: str = ""
    priority: int = 0
    timeout_s: float = 0.0


class SaveSequence(Command, frozen=True, kw_only=True, tag="save_sequence"):
    """Answer with the State of a sequence opened by Forward."""

    id: int
    sequence: str


class RestoreSequence(Command, frozen=True, kw_only=True, tag="restore_sequence"):
    """Open a sequence for Forward with a state saved before, or replace it; answered by Held."""

    id: int
    sequence: str
    state: SequenceState


class DropSequence(Command, frozen=True, kw_only=True, tag="drop_sequence"):
    """Forget a sequence opened by Forward, if it is there; answered by Held."""

    id: int
    sequence: str


class AddAdapter(Command, frozen=True, kw_only=True, tag="add_adapter"):
    """Load a LoRA adapter under a name that requests may then mix in; answered by Adapters."""

    id: int
    name: str
    path: str


class RemoveAdapter(Command, frozen=True, kw_only=True, tag="remove_adapter"):
    """Unload it; refused while a request that uses it runs. Answered by Adapters."""

    id: int
    name: str


class Ping(Command, frozen=True, kw_only=True, tag="ping"):
    """Are you there? Answered by the reader thread even while a step computes."""

    nonce: int


class Shutdown(Command, frozen=True, kw_only=True, tag="shutdown"):
    """Leave at once; running requests are dropped without an answer."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker says to its agent."""


class HelloReply(Reply, frozen=True, kw_only=True, tag="hello"):
    """The worker's first message, the answer to :class:`Hello`."""

    version: int
    software: str = ""
    pid: int = 0


class Ready(Reply, frozen=True, kw_only=True, tag="ready"):
    """The model is loaded, a trial decode went well, and its speed was measured."""

    info: ModelInfo
    slots: int
    context_tokens: int  # shared by all slots
    sequence_tokens: int  # the most that one request may take, prompt and answer
    # of generate, grammar, adapters, embed, state, tokenize, forward, and rows (with capture)
    features: list[str] = []
    decode_tokens_per_s: float = 0.0  # one stream
    prefill_tokens_per_s: float = 0.0
    load_s: float = 0.0
    rss_bytes: int = 0


class Output(Reply, frozen=True, kw_only=True, tag="output"):
    """What a request produced in one step; the last event of an answer is Done."""

    id: int
    events: list[Delta | Done]


class Embedded(Reply, frozen=True, kw_only=True, tag="embedded"):
    """One row per text of an Embed."""

    id: int
    block: Block


class Tokens(Reply, frozen=True, kw_only=True, tag="tokens"):
    """The answer to Tokenize and to Render; ``thinking``: the text ends within a scratchpad."""

    id: int
    tokens: list[int]
    thinking: bool = False


class Spelled(Reply, frozen=True, kw_only=True, tag="spelled"):
    """The answer to Spell, one entry per token: its bytes, and what it does to an answer.

    ``kinds``: text, end, think (a scratchpad begins) or answer (it ends).
    """

    id: int
    pieces: list[bytes]
    kinds: list[str]


class Forwarded(Reply, frozen=True, kw_only=True, tag="forwarded"):
    """The answer to Forward: hidden rows, and per row the best tokens by id, best first.

    ``positions`` of the sequence are computed now. Rows that do not fit into half precision
    come as f32, whatever was asked.
    """

    id: int
    rows: Block | None = None
    logprobs: list[list[tuple[int, float]]] = []
    positions: int = 0


class Held(Reply, frozen=True, kw_only=True, tag="held"):
    """How many positions a sequence has now: after RestoreSequence, and 0 after DropSequence."""

    id: int
    positions: int = 0


class State(Reply, frozen=True, kw_only=True, tag="state"):
    """A sequence's state, after SaveSequence or before the end of a kept answer."""

    id: int
    state: SequenceState


class Adapters(Reply, frozen=True, kw_only=True, tag="adapters"):
    """The adapters that are loaded now."""

    id: int
    names: list[str]


class Failed(Reply, frozen=True, kw_only=True, tag="failed"):
    """A request, or with id 0 the worker, failed. ``code`` is one of capabilities.slm.errors."""

    id: int
    code: str
    message: str
    hint: str = ""


class Pong(Reply, frozen=True, kw_only=True, tag="pong"):
    """The worker's pulse: ``steps`` decoded since its start, requests running and waiting.

    ``kept_tokens`` of prompts are kept for reuse; ``evicted_tokens`` had to go since the start.
    """

    nonce: int
    steps: int = 0
    running: int = 0
    waiting: int = 0
    rss_bytes: int = 0
    kept_tokens: int = 0
    evicted_tokens: int = 0
    threads: int = 0


AnyCommand = (
    Hello
    | Load
    | Submit
    | Cancel
    | Embed
    | Tokenize
    | Render
    | Spell
    | Forward
    | SaveSequence
    | RestoreSequence
    | DropSequence
    | AddAdapter
    | RemoveAdapter
    | Ping
    | Shutdown
)
AnyReply = (
    HelloReply
    | Ready
    | Output
    | Embedded
    | Tokens
    | Spelled
    | Forwarded
    | Held
    | State
    | Adapters
    | Failed
    | Pong
)


class _Envelope(msgspec.Struct):
    """The least that any message says, to answer what cannot be decoded."""

    type: str
    id: int = LOAD_ID


_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)
_replies: msgspec.msgpack.Decoder[AnyReply] = msgspec.msgpack.Decoder(AnyReply)
_envelopes = msgspec.msgpack.Decoder(_Envelope)
_MALFORMED = (msgspec.MsgspecError, RecursionError, ValueError)
_COMMAND_TAGS = frozenset(str(kind.__struct_config__.tag) for kind in AnyCommand.__args__)
_REPLY_TAGS = frozenset(str(kind.__struct_config__.tag) for kind in AnyReply.__args__)


def frame(message: Command | Reply) -> bytes:
    """A message as it travels; raises :class:`FrameTooLarge` above the limit."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameTooLarge(
            f"a worker message of {len(body)} bytes exceeds {MAX_FRAME_BYTES}",
            hint="send fewer rows or texts at once",
        )
    return len(body).to_bytes(PREFIX_BYTES, "big") + body


def failed(request_id: int, error: GossamerError) -> Failed:
    """An error as it travels."""
    return Failed(id=request_id, code=error.code, message=error.message, hint=error.hint)


def with_rss(ready: Ready, rss_bytes: int) -> Ready:
    """Ready with the memory that the whole process takes."""
    return msgspec.structs.replace(ready, rss_bytes=rss_bytes)


class Undecodable(WireError):
    """A frame that is no message; ``request_id`` is the one it belongs to, 0 if unknown."""

    def __init__(self, message: str, *, request_id: int, code: str) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.failure_code = code

    def reply(self) -> Failed:
        """What to answer."""
        return Failed(id=self.request_id, code=self.failure_code, message=self.message)


def decode_command(body: bytes) -> AnyCommand:
    """A frame's body as a command; raises :class:`Undecodable`."""
    try:
        return _commands.decode(body)
    except _MALFORMED as error:
        raise _undecodable(body, error, _COMMAND_TAGS) from error


def decode_reply(body: bytes) -> AnyReply:
    """A frame's body as a reply; raises :class:`Undecodable`."""
    try:
        return _replies.decode(body)
    except _MALFORMED as error:
        raise _undecodable(body, error, _REPLY_TAGS) from error


def _undecodable(body: bytes, error: Exception, tags: frozenset[str]) -> Undecodable:
    try:
        envelope = _envelopes.decode(body)
    except _MALFORMED:
        return Undecodable(
            f"not a message of the worker protocol: {error}",
            request_id=LOAD_ID,
            code=WireError.code,
        )
    if envelope.type not in tags:
        return Undecodable(
            f"this side does not know the message {envelope.type[:40]!r}",
            request_id=envelope.id,
            code=Unsupported.code,
        )
    return Undecodable(
        f"a {envelope.type} message with wrong fields: {error}",
        request_id=envelope.id,
        code=BadRequest.code,
    )


class Deframer:
    """Cuts a byte stream into frame bodies; pure, so that both sides share it and tests fuzz it."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies completed by ``data``; raises :class:`FrameTooLarge`.

        After an error the stream is out of step and must be closed.
        """
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(buffer) - start >= PREFIX_BYTES:
            size = int.from_bytes(buffer[start : start + PREFIX_BYTES], "big")
            if size > self._max:
                raise FrameTooLarge(f"a frame of {size} bytes exceeds {self._max}")
            end = start + PREFIX_BYTES + size
            if len(buffer) < end:
                break
            bodies.append(bytes(buffer[start + PREFIX_BYTES : end]))
            start = end
        if start:
            del buffer[:start]
        return bodies


def describe(message: Any) -> str:
    """The tag of a message, for log lines."""
    return str(type(message).__struct_config__.tag)

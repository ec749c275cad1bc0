"""The messages between members, their version and their limits.

A frame is one version byte and one MessagePack array ``[tag, field, ...]``. Several that leave
together travel as one *bundle*: a zero byte and a MessagePack array of frames. Within a version
new fields are appended with defaults and unknown trailing fields are ignored; a change that
cannot be made so raises the version. A frame is checked against its size limit before it is
decoded, and decoded against a schema, so that depth is bounded by the schema itself: bodies
of calls are opaque bytes here and decoded, against a schema of their own, by who serves them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

import msgspec

from mesh.core.errors import FrameTooLarge, WireError
from mesh.core.identity import Passport, Signed

VERSION = 1
MAX_CONTROL_BYTES = 64 * 1024  # a batch of records or a prompt; above it a caller streams
MAX_BULK_BYTES = 40 * 1024  # one chunk and its envelope
MAX_CHUNK_BYTES = 32 * 1024  # larger bodies are cut, so that no frame holds a link for long
MAX_TOGETHER = 16  # frames of one bundle; it is no longer than the longest frame of its lane
MAX_ADMISSION_BYTES = 4 * 1024  # strangers speak here: a passport and little more


class Lane(enum.IntEnum):
    """Two links per peer, so that bulk never delays a probe."""

    CONTROL = 0
    BULK = 1


class Reach(enum.IntEnum):
    """How far a task may travel; a delegate can narrow it and never widen it."""

    NODE = 0
    GROUP = 1
    MESH = 2
    CLOUD = 3


class Op(enum.IntEnum):
    """What a call wants of a name; access rules speak of the same operations."""

    QUERY = 0
    SUBSCRIBE = 1
    DELEGATE = 2


class Asked(enum.IntFlag):
    """What a ping asks for besides the answer itself."""

    LOAD = 1  # how loaded are you now
    WALL = 2  # what time is it


class Load(msgspec.Struct, frozen=True, array_like=True):
    """Fresh load of the answering node, on every reply: a hint, unsigned (CURVE says who)."""

    inflight: int = 0
    queued: int = 0
    slots: int = 0
    tokens_per_s: float = 0.0


class CallHeader(msgspec.Struct, frozen=True, array_like=True):
    """What every call carries.

    ``timeout_ms`` is the time left when it was sent, since clocks differ between nodes.
    ``caller`` is the node that began the task; where another sends the call in its name,
    ``warrant`` is the caller's signed leave (:mod:`mesh.core.delegation`), and without it the
    call is refused. ``hops`` counts delegations. ``groups`` narrows Reach.GROUP to named groups.
    ``patience_ms`` is the longest wait for a first token (0: up to the deadline); ``lines`` is at
    how many nodes the caller stands in line, of which it will take one.
    """

    trace: bytes
    span: bytes
    timeout_ms: int
    caller: bytes
    reach: int = Reach.MESH
    priority: int = 0
    hops: int = 0
    groups: tuple[str, ...] = ()
    warrant: Signed | None = None
    patience_ms: int = 0
    lines: int = 1


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Are you there? ``target`` guards against a reused address; ``suspect`` tells a suspect
    node what is said of it (buddy notification): the signed accusation. ``ask`` holds the bits
    of :class:`Asked`; an older node does not know it and answers without."""

    seq: int
    target: bytes
    nonce: bytes
    sign: bool = False
    suspect: Signed | None = None
    ask: int = 0


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """I am. ``signature`` over the nonce when it was asked for, so that it can be relayed.
    ``load`` and ``wall`` (seconds since 1970) where they were asked for: unsigned, since CURVE
    says whose they are, and never relayed."""

    seq: int
    nonce: bytes
    incarnation: int
    signature: bytes = b""
    load: Load | None = None
    wall: float | None = None


class PingRequest(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Ask ``target`` for me, and bring me its own signed word."""

    seq: int
    target: bytes
    nonce: bytes


class RelayedAck(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The subject's signed nonce, or no signature for "I could not reach it either"."""

    seq: int
    target: bytes
    nonce: bytes
    incarnation: int = 0
    signature: bytes = b""


class Revocation(msgspec.Struct, frozen=True, array_like=True):
    """Somebody is no member any more (:mod:`mesh.core.revocation`); ``issuer`` is the paper of
    the issuer that signed it, None where the authority did."""

    statement: Signed
    issuer: Signed | None = None


class Rumours(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Signed records and statements, newest first, as bytes that are never re-encoded."""

    records: list[Signed] = []
    statements: list[Signed] = []
    revocations: list[Revocation] = []


class DigestEntry(msgspec.Struct, frozen=True, array_like=True):
    """What the sender holds of one node in its latest incarnation: sequences of its profile
    and status and the counter of its own last word (0: none), and whether the sender holds
    it for dead."""

    node: bytes
    incarnation: int
    profile: int
    status: int
    word: int = 0
    dead: bool = False


class Digest(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Push-pull anti-entropy: what I know, in three steps so that equal stores cost one hash.

    ``root`` alone opens; who differs answers with the hashes of all ``buckets``; the reply
    to that has the ``entries`` of the buckets in ``scope``, and is answered by
    :class:`Rumours` with what is newer here and a :class:`Want` for what is newer there.
    ``complete`` says that ``entries`` are all there is in the scope."""

    entries: list[DigestEntry]
    complete: bool = True
    root: bytes = b""
    buckets: bytes = b""
    scope: list[int] = []
    revoked: bytes = b""  # beside ``root``: the hash of the sender's revocations


class Want(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Send me these: (node, record kind; 0 is the node's own last statement). An empty node
    with kind 0 asks for all revocations."""

    records: list[tuple[bytes, int]]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """First frame on a link: who I am, so that replies find the way back over it."""

    node: bytes
    incarnation: int


class DialBack(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Can you open a connection to me, at the addresses of my profile? (AutoNAT's question.)

    It names no address: nobody can be made to dial where the asker does not itself claim,
    over its signature, to listen."""

    seq: int


class DialOutcome(enum.IntEnum):
    """What came of a dial-back; only the first two are evidence."""

    REACHED = 0
    UNREACHED = 1
    DECLINED = 2  # over the rate


class DialedBack(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The answer to :class:`DialBack`."""

    seq: int
    outcome: int
    reason: str = ""


class Call(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """Open a stream. ``stream`` is unique per caller; ``credit`` is how many Data may come;
    ``lane`` carries the Data. ``more`` announces body chunks as Input."""

    stream: int
    header: CallHeader
    name: str
    op: int
    body: bytes
    credit: int
    lane: int = Lane.CONTROL
    more: bool = False


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """Yes, at once, against real slots."""

    stream: int
    load: Load = Load()


class Reject(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """No, at once, and why: an error code of :mod:`mesh.core.errors`."""

    stream: int
    code: str
    reason: str
    retry_after_ms: int = 0
    load: Load = Load()


class Data(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """A message of the answer. ``more``: the next Data continues the same message."""

    stream: int
    seq: int
    body: bytes
    more: bool = False


class Credit(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The caller has consumed: ``total`` Data in all may come."""

    stream: int
    total: int


class End(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """The answer is whole once ``count`` Data have come (lanes may overtake each other).
    ``receipt``: what was served, as the callee signed it."""

    stream: int
    count: int
    load: Load = Load()
    receipt: Signed | None = None


class Fail(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """The answer will not be whole, and why; ``retry_after_ms`` where asking again may help."""

    stream: int
    code: str
    message: str
    load: Load = Load()
    retry_after_ms: int = 0


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """The caller no longer wants it."""

    stream: int
    reason: str = ""


class Input(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """A further chunk of the call's body."""

    stream: int
    seq: int
    body: bytes
    more: bool = False


class Countersigned(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """The caller's signed word on a receipt that came with an :class:`End`. Only who sent one
    gets this, so an older node never meets it."""

    signed: Signed


Message = (
    Ping
    | Ack
    | PingRequest
    | RelayedAck
    | Rumours
    | Digest
    | Want
    | Hello
    | DialBack
    | DialedBack
    | Call
    | Accept
    | Reject
    | Data
    | Credit
    | End
    | Fail
    | Cancel
    | Input
    | Countersigned
)


class Present(msgspec.Struct, frozen=True, array_like=True, tag=64):
    """On the admission socket: here is my passport, and where I listen."""

    passport: Passport
    incarnation: int


class Admitted(msgspec.Struct, frozen=True, array_like=True, tag=65):
    """You are known here now; this is my passport, and where members reach me."""

    passport: Passport
    incarnation: int
    control: str
    bulk: str


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=66):
    """No, and why."""

    code: str
    reason: str


class Redeem(msgspec.Struct, frozen=True, array_like=True, tag=67):
    """A stranger redeems an invitation: ``secret`` is shown once, ``key`` and ``curve`` are
    the public keys to be certified, ``name`` is the node name asked for (empty: the one in
    the invitation, else ``suggestion``). ``proof`` is the CURVE key signed by ``key``: nobody
    gets a certificate for a key that is another's."""

    secret: bytes
    key: bytes
    curve: bytes
    name: str
    proof: Signed | None = None
    suggestion: str = ""


class Certified(msgspec.Struct, frozen=True, array_like=True, tag=68):
    """The certificate for a redeemed invitation, or a renewed one. ``authority`` is the
    authority's public key; ``issuer`` the paper of the issuer that signed the certificate."""

    certificate: Signed
    authority: bytes
    issuer: Signed | None = None
    mesh_name: str = ""


class Renew(msgspec.Struct, frozen=True, array_like=True, tag=69):
    """A member whose certificate ends soon asks an issuer for the same for longer."""

    passport: Passport


AdmissionMessage = Present | Admitted | Refused | Redeem | Certified | Renew

_encoder = msgspec.msgpack.Encoder()
_messages: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_admission: msgspec.msgpack.Decoder[AdmissionMessage] = msgspec.msgpack.Decoder(AdmissionMessage)
_PREFIX = bytes([VERSION])
_BUNDLE = b"\0"
_BUNDLE_FRAME_BYTES = 5  # before each frame of a bundle, at most
_bundles: msgspec.msgpack.Decoder[list[bytes]] = msgspec.msgpack.Decoder(list[bytes])
LANE_LIMITS = {Lane.CONTROL: MAX_CONTROL_BYTES, Lane.BULK: MAX_BULK_BYTES}


def encode(message: Message | AdmissionMessage) -> bytes:
    """A message as one frame."""
    return _PREFIX + _encoder.encode(message)


def bundle(frames: Sequence[bytes], limit: int) -> Iterator[bytes]:
    """``frames`` in their order, in as few messages as ``limit`` bytes for each allow.

    Each message wakes libzmq's thread here and the peer's loop there, which costs more than a
    frame. Parts of a ZeroMQ message would do the same, and nothing bounds their number:
    libzmq collects all of them before it hands on the first.
    """
    waiting: list[bytes] = []
    size = 0
    for frame in frames:
        took = len(frame) + _BUNDLE_FRAME_BYTES
        if waiting and (size + took > limit - 8 or len(waiting) == MAX_TOGETHER):
            yield _joined(waiting)
            waiting, size = [], 0
        waiting.append(frame)
        size += took
    if waiting:
        yield _joined(waiting)


def _joined(frames: list[bytes]) -> bytes:
    return frames[0] if len(frames) == 1 else _BUNDLE + _encoder.encode(frames)


def unbundle(message: bytes) -> list[bytes]:
    """The frames of one ZeroMQ message; raises :class:`WireError` for a bundle of too many."""
    if not message.startswith(_BUNDLE):
        return [message]
    try:
        frames = _bundles.decode(memoryview(message)[1:])
    except (msgspec.MsgspecError, ValueError) as error:
        raise WireError(f"a bundle that holds no frames: {error}") from error
    if len(frames) > MAX_TOGETHER:
        raise WireError(f"a bundle of {len(frames)} frames, at most {MAX_TOGETHER} are sent")
    return frames


def _checked(frame: bytes | memoryview, limit: int) -> memoryview:
    if len(frame) > limit:
        raise FrameTooLarge(f"a frame of {len(frame)} bytes, at most {limit} are allowed")
    if len(frame) < 2:
        raise WireError("an empty frame")
    if frame[0] != VERSION:
        raise WireError(
            f"wire version {frame[0]}, this node speaks {VERSION}",
            hint="update Gossamer on the older of the two nodes",
        )
    return memoryview(frame)[1:]


def decode(frame: bytes | memoryview, lane: Lane = Lane.CONTROL) -> Message:
    """One frame of a member; raises :class:`WireError` or :class:`FrameTooLarge`."""
    body = _checked(frame, LANE_LIMITS[lane])
    try:
        return _messages.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"a frame that is no message: {error}") from error


def decode_admission(frame: bytes | memoryview) -> AdmissionMessage:
    """One frame on the admission socket; raises :class:`WireError` or :class:`FrameTooLarge`."""
    body = _checked(frame, MAX_ADMISSION_BYTES)
    try:
        return _admission.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"a frame that is no admission message: {error}") from error

"""What a node says of itself: profile and status, signed by it, bounded, versioned.

Two records per node. A *profile* changes seldom (models, names, device, addresses, passport);
a *status* changes often (load, health). Both begin with the same head, so that a receiver can
compare (incarnation, sequence) before it verifies anything. Structs travel as arrays: within a
wire version new fields are only appended, with defaults, and readers ignore what they do not
know.
"""

from __future__ import annotations

import enum

import msgspec

from mesh.core.errors import IdentityError, WireError
from mesh.core.identity import (
    ED25519,
    ID_BYTES,
    Passport,
    Purpose,
    SignatureScheme,
    Signed,
    Trust,
    sign,
)

MAX_PROFILE_BYTES = 8 * 1024
MAX_STATUS_BYTES = 1024
MAX_STATEMENT_BYTES = 256
MAX_NAMES = 64
MAX_MODELS = 16
LIVE = -1.0  # of ServedName.newest


class Kind(enum.IntEnum):
    """What a signed record is."""

    PROFILE = 1
    STATUS = 2


class ModelInfo(msgspec.Struct, frozen=True, array_like=True):
    """A model as advertised. ``context`` in tokens; hashes are hexadecimal, empty if unknown."""

    name: str
    arch: str = ""
    parameters: int = 0
    quantization: str = ""
    context: int = 0
    vocab_hash: str = ""
    file_sha256: str = ""
    modalities: tuple[str, ...] = ("text",)
    embedding_dim: int = 0
    paced: bool = False  # stands for a slower board; its rates are stated, not computed
    prompt_tokens_per_s: float = 0.0  # as it measured when it was loaded; 0 when unknown
    file: str = ""  # its file without the ending, which is what a ServedName calls it


class ServedName(msgspec.Struct, frozen=True, array_like=True):
    """A name that a node offers. ``accuracy`` is measured on its own test set, -1 if never.

    ``priority`` and ``weight`` order endpoints as in a DNS SRV record (RFC 2782): lower
    priority first, then in proportion to weight. ``newest`` is when the newest data behind it
    is from, in wall seconds: 0 where it rests on no data or does not say, LIVE where it is read
    when it is asked for.
    """

    name: str
    domain: str = ""
    description: str = ""
    examples: tuple[str, ...] = ()
    accuracy: float = -1.0
    priority: int = 10
    weight: int = 10
    model: str = ""
    kind: str = "generate"  # generate, subscribe or another schema of capabilities.messages
    languages: tuple[str, ...] = ()  # BCP 47 tags that it answers in; empty: it does not say
    newest: float = 0.0


class Device(msgspec.Struct, frozen=True, array_like=True):
    """The machine: what people know it as, and what the mesh needs to plan."""

    kind: str = ""
    arch: str = ""
    cores: int = 0
    memory_mb: int = 0
    tokens_per_s: float = 0.0  # best measured rate of its models


class Dialable(enum.IntEnum):
    """Whether others can open a connection to a node, as far as it has found out."""

    UNKNOWN = 0  # nobody has tried yet; taken for a yes
    YES = 1
    NO = 2  # behind NAT or a firewall, or by its configuration: it calls the others
    SOME = 3  # some can, some cannot: mostly the neighbours behind the same NAT


class Endpoints(msgspec.Struct, frozen=True, array_like=True):
    """Where a node listens: ``tcp://host:port`` per lane; empty when it cannot be dialled.

    ``dialable`` (a :class:`Dialable`; readers take a number that they do not know for
    unknown) is the node's own claim. It saves others the dialling, nothing more.
    """

    control: str = ""
    bulk: str = ""
    admission: str = ""
    dialable: int = Dialable.UNKNOWN


class RecordHead(msgspec.Struct, frozen=True, array_like=True):
    """The first fields of every record; decoding it ignores the rest."""

    kind: int
    node: bytes
    incarnation: int
    sequence: int
    issued: float  # wall seconds
    expires: float

    @property
    def version(self) -> tuple[int, int]:
        """Newer is greater."""
        return (self.incarnation, self.sequence)


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """What changes seldom."""

    kind: int
    node: bytes
    incarnation: int
    sequence: int
    issued: float
    expires: float
    passport: Passport
    endpoints: Endpoints
    names: tuple[ServedName, ...] = ()
    models: tuple[ModelInfo, ...] = ()
    device: Device = Device()
    software: str = ""


class Status(msgspec.Struct, frozen=True, array_like=True):
    """What changes often. ``load`` is busy slots over slots, 0 to 1 and above when queued."""

    kind: int
    node: bytes
    incarnation: int
    sequence: int
    issued: float
    expires: float
    load: float = 0.0
    inflight: int = 0
    queued: int = 0
    slots: int = 0
    tokens_per_s: float = 0.0
    healthy: bool = True
    note: str = ""
    tasks: tuple[tuple[str, float], ...] = ()  # task id, progress 0 to 1
    temperature_c: float = 0.0  # 0 when unknown
    battery: float = -1.0  # 0 to 1, -1 when there is none
    joules_per_token: float = 0.0  # at work, prompts aside; 0 when unknown
    throttled: bool = False  # it slows itself, for warmth or for want of power
    power_w: float = 0.0  # what the whole machine draws, 0 when unknown
    draining: bool = False  # it finishes what runs and takes nothing new


Record = Profile | Status

_LIMITS = {Kind.PROFILE: MAX_PROFILE_BYTES, Kind.STATUS: MAX_STATUS_BYTES}
_TYPES: dict[Kind, type[Profile] | type[Status]] = {Kind.PROFILE: Profile, Kind.STATUS: Status}
_head = msgspec.msgpack.Decoder(RecordHead)


def seal(private: bytes, mesh: bytes, record: Record, scheme: SignatureScheme = ED25519) -> Signed:
    """Sign a record as its subject; raises :class:`WireError` when it is over its limit."""
    signed = sign(private, Purpose.RECORD, mesh, record, scheme)
    limit = _LIMITS[Kind(record.kind)]
    if len(signed.payload) > limit:
        raise WireError(
            f"the {Kind(record.kind).name.lower()} has {len(signed.payload)} bytes, "
            f"at most {limit} are allowed",
            hint="shorten descriptions and examples of the names it serves",
        )
    return signed


def read_head(signed: Signed) -> RecordHead:
    """The head of a record, unverified; raises :class:`WireError`."""
    if len(signed.payload) > MAX_PROFILE_BYTES:
        raise WireError("a record is over its size limit")
    try:
        head = _head.decode(signed.payload)
        limit = _LIMITS[Kind(head.kind)]
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"a record that cannot be read: {error}") from error
    if len(signed.payload) > limit or len(head.node) != ID_BYTES:
        raise WireError("a record is over its size limit or has no proper subject")
    if not (head.issued <= head.expires and head.incarnation >= 0 and head.sequence >= 0):
        raise WireError("a record expires before it was issued, or counts below zero")
    return head


def open_record(signed: Signed, key: bytes, trust: Trust) -> Record:
    """The record, if ``key`` signed it for this mesh.

    Raises :class:`WireError` for bytes that are no record, :class:`IdentityError` for a
    signature that does not hold.
    """
    head = read_head(signed)
    if not trust.verify(key, Purpose.RECORD, signed):
        raise IdentityError("a record is not signed by the node that it speaks of")
    return decode_record(signed, head)


def decode_record(signed: Signed, head: RecordHead) -> Record:
    """The record without checking its signature (used where it was checked before)."""
    try:
        record: Record = msgspec.msgpack.decode(signed.payload, type=_TYPES[Kind(head.kind)])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"a record that cannot be read: {error}") from error
    if isinstance(record, Profile) and (
        len(record.names) > MAX_NAMES or len(record.models) > MAX_MODELS
    ):
        raise WireError("a profile names too many names or models")
    return record

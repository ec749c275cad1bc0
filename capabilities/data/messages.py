"""What a feed says: its updates, its beginnings, and the four kinds of values that it carries.

A subscriber opens ``data.gpt/<domain>/<type>`` with :class:`Subscribe` and hears::

    Begin(why="first", count=2)  Update  Update      the latest of each key
    Update  Update  Alive  Update  ...               what is published from then on
    Begin(why="gap", missed=40, count=2)  ...        it could not keep up: the latest again

MessagePack maps, as all bodies of calls: unknown fields are ignored, every decode is against a
type, and a value that does not fit its own description is refused where it arrives.
"""

from __future__ import annotations

import math
import struct

import msgspec

from capabilities.embedding.space import MAX_WIDTH, Space
from capabilities.messages import Sample
from mesh.core.errors import ConfigError, WireError

KIND = "subscribe"  # of a served name: it is followed, not asked
TYPES = ("raw", "summary", "processed_embeddings", "trend")

MAX_KEY_CHARS = 120
MAX_WORD_CHARS = 120  # of a domain, a type, a source
MAX_TEXT_CHARS = 8 * 1024
MAX_READINGS = 64  # of one sample: one with thousands of them is a table, not a reading
MAX_STATIONS = 256  # of one view


class Summary(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="summary"):
    """What somebody says of data in words. ``at`` is wall time in seconds."""

    domain: str
    type: str
    source: str
    at: float
    text: str


class Embedding(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="embedding"):
    """A vector that a peer can work with as it is.

    ``domain``, ``type`` (what was embedded: raw, summary, ...), ``dimensionality`` and ``space``
    have to be there and fit each other. ``data`` are 32-bit floats, little-endian. ``label`` is
    what the publisher calls it (urban, industrial), a claim; ``text`` what it was made of, where
    the publisher shares that. ``noise`` is how far the vector was moved on purpose, on average.
    """

    domain: str
    type: str
    dimensionality: int
    space: Space
    data: bytes
    source: str
    at: float
    label: str = ""
    text: str = ""
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.dimensionality != self.space.dimensionality:
            raise ValueError(
                f"dimensionality {self.dimensionality} in a space of {self.space.dimensionality}"
            )
        if not 0 < self.dimensionality <= MAX_WIDTH or len(self.data) != 4 * self.dimensionality:
            raise ValueError(f"{len(self.data)} bytes are no {self.dimensionality} floats")
        if not all(map(math.isfinite, self.vector())):
            raise ValueError("the vector holds a number that is not finite")

    def vector(self) -> tuple[float, ...]:
        """Its components."""
        return struct.unpack(f"<{self.dimensionality}f", self.data)


class StationSays(msgspec.Struct, frozen=True, kw_only=True):
    """One station in a view. ``away`` is its distance from the common value in robust standard
    deviations; ``state`` is ok, outlying or stale; ``node`` is who vouches for it."""

    station: str
    node: str
    value: float
    at: float
    age_s: float
    away: float = 0.0
    state: str = "ok"
    slope_per_h: float = 0.0
    note: str = ""


class Quantity(msgspec.Struct, frozen=True, kw_only=True):
    """What the stations say together of one reading. ``spread`` is the robust standard deviation
    over them; ``changed_at`` is since when the level is another, 0 when it is not."""

    value: float
    spread: float
    slope_per_h: float
    trend: str  # rising, falling or steady
    nodes: int  # whose stations had a voice in it
    stations: list[StationSays]
    changed_at: float = 0.0
    undecided: bool = False  # the nodes contradict each other, and there is no majority


class View(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="view"):
    """One picture made of several stations, with where each part of it is from."""

    domain: str
    type: str
    source: str
    at: float
    quantities: dict[str, Quantity]
    outlying: list[str] = []  # station@node
    stale: list[str] = []


Value = Sample | Summary | Embedding | View


class Subscribe(msgspec.Struct, frozen=True, kw_only=True):
    """Follow a feed from behind ``sequence`` of ``epoch``; epoch 0 has never followed it, and
    may ask for up to ``back`` earlier updates first, where the history has them."""

    epoch: int = 0
    sequence: int = 0
    back: int = 0


class Update(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="update"):
    """One publication. ``sequence`` counts the feed's, ``version`` those of its ``key``; without
    a value the key is gone. ``at`` is when it was published, wall seconds."""

    epoch: int
    sequence: int
    key: str
    version: int
    at: float
    value: Value | None = None


class Past(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="past"):
    """An earlier update, told before the first :class:`Begin` to who asked for the past."""

    update: Update


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="begin"):
    """The latest of each key follows, ``count`` updates, and replaces what was known.

    ``why`` is first, gap (the history does not reach back) or restart (what the publisher knew
    last is not what the subscriber had). ``missed`` updates were not and will not be told, -1
    when nobody knows how many. ``sequence`` is of the feed at this moment.
    """

    epoch: int
    sequence: int
    count: int
    why: str = "first"
    missed: int = 0


class Alive(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="alive"):
    """Nothing new: whoever stands elsewhere than here has lost something."""

    epoch: int
    sequence: int


Told = Update | Past | Begin | Alive
Message = Update | Past | Begin | Alive | Sample  # a sensor without a feed sends bare samples

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_value_decoder: msgspec.msgpack.Decoder[Value] = msgspec.msgpack.Decoder(Value)
_encoder = msgspec.msgpack.Encoder()


def encode_value(value: Value) -> bytes:
    """A value as bytes, for the disk."""
    return _encoder.encode(value)


def decode_value(data: bytes) -> Value:
    """Bytes from the disk as a value; raises :class:`WireError`."""
    try:
        return _value_decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError, ConfigError) as error:
        raise WireError(f"not a published value: {error}") from error


def decode_message(data: bytes) -> Message:
    """One message of a subscription, its value checked; raises :class:`WireError`."""
    try:
        told = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError, ConfigError) as error:
        raise WireError(f"not a message of a feed: {error}") from error
    if isinstance(told, Update | Past):
        update = told.update if isinstance(told, Past) else told
        check_key(update.key)
        if update.value is not None:
            check_value(update.value)
    elif isinstance(told, Sample):
        check_value(told)
    elif isinstance(told, Begin) and told.count < 0:
        raise WireError("a feed cannot begin with fewer than no updates")
    return told


def decode_told(data: bytes) -> Told:
    """One message of a feed; raises :class:`WireError`, also for a bare sample."""
    told = decode_message(data)
    if isinstance(told, Sample):
        raise WireError("a bare sample in a feed")
    return told


def check_key(key: str) -> str:
    """A key within its bounds; raises :class:`WireError`."""
    if len(key) > MAX_KEY_CHARS or not key.isprintable():
        raise WireError(f"a key has at most {MAX_KEY_CHARS} printable characters")
    return key


def check_value(value: Value) -> Value:
    """A value within its bounds; raises :class:`WireError` that says what is wrong."""
    for word in (value.domain, value.type):
        if not word or len(word) > MAX_WORD_CHARS:
            raise WireError("a published value names its domain and its type")
    if len(value.source) > MAX_WORD_CHARS or not math.isfinite(value.at):
        raise WireError("a published value says by whom and when")
    if isinstance(value, Sample):
        _check_readings(value.values)
    elif isinstance(value, Summary):
        if not value.text.strip() or len(value.text) > MAX_TEXT_CHARS:
            raise WireError(f"a summary has 1 to {MAX_TEXT_CHARS} characters")
    elif isinstance(value, Embedding):
        if len(value.text) > MAX_TEXT_CHARS or len(value.label) > MAX_WORD_CHARS:
            raise WireError("the label or the text of an embedding is too long")
    elif sum(len(q.stations) for q in value.quantities.values()) > MAX_STATIONS * MAX_READINGS:
        raise WireError("a view of too many stations")
    return value


def _check_readings(values: dict[str, float]) -> None:
    if not 0 < len(values) <= MAX_READINGS:
        raise WireError(f"a sample has 1 to {MAX_READINGS} readings, not {len(values)}")
    for name, reading in values.items():
        if not math.isfinite(reading):
            raise WireError(f"the reading {name[:40]!r} is not a finite number")
        if not 0 < len(name) <= MAX_WORD_CHARS:
            raise WireError("a reading has a name")

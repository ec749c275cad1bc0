"""The context manager of the stronger side: rows of many askers, until they are needed; pure.

A stream's rows come in order and without a gap; those already computed live on as keys and values
in the model's own memory, and are never computed again. What nobody has used for a while goes,
and so does the longest unused when memory is short: its asker is told by ``have`` and sends again.

``have`` rows arrived, ``done`` of them are computed: 0 <= done <= have. Rows between are kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from capabilities.segments.choosing import Sampling
from capabilities.segments.messages import Chosen
from capabilities.segments.rows import Floats, Packed, payload, unpack
from mesh.core.errors import Rejected, WireError

Key = tuple[str, str]  # who asks, as an opaque label, and the stream's name


@dataclass(slots=True)
class Stream:
    """One answer under way. ``busy``: a pass over it runs now."""

    epoch: int
    sampling: Sampling
    used_at: float
    have: int = 0
    done: int = 0
    busy: bool = False
    parked: object | None = None  # its state outside the model's memory
    parked_bytes: int = 0
    last: Chosen | None = None  # to be told again, if the answer was lost
    computed: int = 0  # positions in all, for accounts and tests
    pending: deque[Packed] = field(default_factory=deque)
    pending_bytes: int = 0
    open: bool = True  # False once it is forgotten, whoever still holds it

    @property
    def bytes(self) -> int:
        """What it takes beside the model's own memory."""
        return self.pending_bytes + self.parked_bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept, and for how long."""

    streams: int = 256
    bytes: int = 256 << 20
    resident: int = 4  # sequences that the model holds at once; others are parked
    idle_s: float = 120.0
    positions: int = 4096


class Streams:
    """All streams of one segment."""

    def __init__(self, width: int, limits: Limits | None = None) -> None:
        self._width = width
        self.limits = limits or Limits()
        self._open: dict[Key, Stream] = {}
        self._bytes = 0  # of all that are open, kept up to date with every change

    def __len__(self) -> int:
        return len(self._open)

    @property
    def bytes(self) -> int:
        """What all streams take beside the model's own memory."""
        return self._bytes

    def get(self, key: Key, epoch: int) -> Stream | None:
        """A stream in this epoch, or nothing: it expired, or history was written anew."""
        stream = self._open.get(key)
        return stream if stream is not None and stream.epoch == epoch else None

    def keys(self) -> list[Key]:
        """Whose streams are open."""
        return list(self._open)

    def epoch(self, key: Key) -> int:
        """The epoch of a stream, -1 when it is not there."""
        stream = self._open.get(key)
        return -1 if stream is None else stream.epoch

    def open(self, key: Key, epoch: int, keep: int, sampling: Sampling, now: float) -> Stream:
        """Begin or go on; a stream of an older epoch is to be cut to ``keep`` by the caller of
        :meth:`cut`. Raises Rejected when too many are open, WireError for an older epoch."""
        stream = self._open.get(key)
        if stream is None:
            if len(self._open) >= self.limits.streams:
                raise Rejected(f"{len(self._open)} streams are open", hint="try again later")
            self._open[key] = stream = Stream(epoch, sampling, now)
            return stream
        if epoch < stream.epoch:
            raise WireError(f"epoch {epoch} of a stream in epoch {stream.epoch}")
        if epoch > stream.epoch:
            self.cut(stream, min(keep, stream.done))
            stream.epoch = epoch
        stream.sampling, stream.used_at = sampling, now
        return stream

    def upload(self, stream: Stream, position: int, rows: Packed, now: float) -> bool:
        """Take rows; False when they do not follow what is there. Twice is harmless.

        Raises WireError for rows of another width, Rejected when there is no memory.
        """
        stream.used_at = now
        if rows.width != self._width:
            raise WireError(f"rows of {rows.width} numbers; this model takes {self._width}")
        if position > stream.have:
            return False
        fresh = position + rows.rows - stream.have
        if fresh <= 0:
            return True
        if stream.have + fresh > self.limits.positions:
            raise Rejected(
                f"{stream.have + fresh} positions, and the context holds {self.limits.positions}",
                hint="ask for a shorter answer, or raise the context of the segment",
            )
        kept = _tail(rows, fresh)
        if self.bytes + payload(kept) > self.limits.bytes:
            raise Rejected("no memory for more rows now", hint="try again later")
        stream.pending.append(kept)
        self._weigh(stream, pending=payload(kept))
        stream.have += fresh
        return True

    def take(self, stream: Stream, position: int) -> Floats:
        """The rows from ``done`` to ``position``, float32; they stay until :meth:`computed`.

        ``position`` must be there and not computed yet.
        """
        if not stream.done <= position < stream.have:
            raise WireError(f"position {position} of a stream with {stream.done}-{stream.have}")
        pieces = [unpack(one, self._width) for one in stream.pending]
        return np.concatenate(pieces)[: position + 1 - stream.done]

    def computed(self, stream: Stream, answer: Chosen, now: float) -> None:
        """The pass up to the answer's position went well: its rows are not needed any more."""
        count = answer.position + 1 - stream.done
        stream.computed += count
        stream.done = answer.position + 1
        stream.last, stream.used_at = answer, now
        while count and stream.pending:
            first = stream.pending.popleft()
            self._weigh(stream, pending=-payload(first))
            if first.rows > count:
                rest = _tail(first, first.rows - count)
                stream.pending.appendleft(rest)
                self._weigh(stream, pending=payload(rest))
            count -= min(count, first.rows)

    def cut(self, stream: Stream, keep: int) -> None:
        """Forget all from position ``keep`` on; ``keep`` is at most what is computed."""
        stream.have = stream.done = keep
        stream.pending.clear()
        self._weigh(stream, pending=-stream.pending_bytes)
        stream.last = None
        if not keep:
            self.unpark(stream)

    def park(self, stream: Stream, state: object, size: int) -> None:
        """Its state left the model's memory."""
        self._weigh(stream, parked=size - stream.parked_bytes)
        stream.parked = state

    def unpark(self, stream: Stream) -> object | None:
        """Take the parked state, if there is one."""
        self._weigh(stream, parked=-stream.parked_bytes)
        state, stream.parked = stream.parked, None
        return state

    def close(self, key: Key) -> Stream | None:
        """Forget a stream; harmless when it is not there."""
        stream = self._open.pop(key, None)
        if stream is not None:
            self._bytes -= stream.bytes
            stream.open = False
        return stream

    def _weigh(self, stream: Stream, *, pending: int = 0, parked: int = 0) -> None:
        """What a stream keeps has changed; one that was closed counts no more."""
        stream.pending_bytes += pending
        stream.parked_bytes += parked
        if stream.open:
            self._bytes += pending + parked

    def expired(self, now: float) -> list[Key]:
        """Streams that nobody has used for so long that they go."""
        return [
            key
            for key, stream in self._open.items()
            if not stream.busy and now - stream.used_at > self.limits.idle_s
        ]

    def longest_unused(self, but: Key) -> Key | None:
        """Who gives way when memory is short."""
        idle = [
            (stream.used_at, key)
            for key, stream in self._open.items()
            if key != but and not stream.busy and (stream.bytes or stream.done)
        ]
        return min(idle)[1] if idle else None

    def to_park(self, but: Key) -> Key | None:
        """Who leaves the model's memory so that ``but`` finds room in it, if anybody must."""
        resident = [
            (stream.used_at, key)
            for key, stream in self._open.items()
            if key != but and stream.done and stream.parked is None
        ]
        if len(resident) < self.limits.resident:
            return None
        idle = [one for one in resident if not self._open[one[1]].busy]
        return min(idle)[1] if idle else None


def _tail(rows: Packed, count: int) -> Packed:
    """The last ``count`` rows."""
    if count == rows.rows:
        return rows
    size = len(rows.data) // rows.rows
    return Packed(
        width=rows.width,
        data=rows.data[-count * size :],
        dtype=rows.dtype,
        scales=rows.scales[-count:] if rows.scales else [],
    )

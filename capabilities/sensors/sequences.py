"""What was lost, counted by the numbers that publishers put on their messages. Pure.

QoS 1 tells a message at least once: after a break some come again, and where the broker or a
publisher died some never come. A number that is missing is a gap; one that was heard with the same
content is a repetition, whoever repeats it; the same number with another content is a publisher
that began anew. A gap that is filled later is no gap any more.

Contents are remembered for the last :data:`RING` messages, so the bridge keeps what may be told
again below that. A broker that is set back to an old copy of its queue repeats more: then only an
*epoch*, a word that a publisher chooses anew at each start, tells its repetitions from a new
beginning.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

MAX_KEYS = 4096  # publishers that are counted; a topic too many is not
MAX_GAPS = 16  # of one publisher that may still be filled
RING = 1536  # messages remembered
MAX_EPOCHS = 8  # earlier beginnings of one publisher whose last number is remembered


@dataclass
class Counted:
    """One publisher."""

    last: int
    lost: int = 0
    restarts: int = 0
    gaps: list[list[int]] = field(default_factory=list)  # first and last number, both missing
    epoch: str = ""
    past: dict[str, int] = field(default_factory=dict)  # the last number of earlier epochs


@dataclass(frozen=True)
class Heard:
    """``what``: first, next, gap, late, duplicate or restart; ``missed`` messages before it."""

    what: str
    missed: int = 0


class Sequences:
    """The numbers heard of each publisher, and what they say. ``dump`` goes on disk together with
    what was published, so that both are of the same moment."""

    def __init__(self, kept: str = "") -> None:
        self.counters: Counter[str] = Counter()
        self.keys: dict[str, Counted] = {}
        self._ring: deque[int] = deque(maxlen=RING)
        self._seen: Counter[int] = Counter()
        self._load(kept)

    def heard(
        self, key: str, number: int, body: bytes, *, modulo: int = 0, epoch: str = ""
    ) -> Heard:
        """What the ``number`` of a message means. With ``modulo`` the numbers come round; within
        one ``epoch`` they only grow."""
        if epoch:
            return self._of_epoch(key, number, epoch)
        mark = zlib.crc32(body, zlib.crc32(f"{key}\0{number}".encode()))
        known = self.keys.get(key)
        if known is None:
            if len(self.keys) >= MAX_KEYS:
                self.counters["uncounted"] += 1
                return Heard("first")
            self.keys[key] = Counted(number)
            self._remember(mark)
            return Heard("first")
        if mark in self._seen:
            self.counters["duplicates"] += 1
            return Heard("duplicate")
        self._remember(mark)
        ahead = (number - known.last) % modulo if modulo else number - known.last
        if ahead >= 1:
            missed = ahead - 1
            if missed:
                known.lost += missed
                self.counters["lost"] += missed
                self.counters["gaps"] += 1
                if not modulo:
                    known.gaps = [*known.gaps, [known.last + 1, number - 1]][-MAX_GAPS:]
            known.last = number
            return Heard("gap", missed) if missed else Heard("next")
        if self._late(known, number):
            return Heard("late")
        return self.begin(key, number)

    def _of_epoch(self, key: str, number: int, epoch: str) -> Heard:
        known = self.keys.get(key)
        if known is None:
            if len(self.keys) >= MAX_KEYS:
                self.counters["uncounted"] += 1
                return Heard("first")
            self.keys[key] = Counted(number, epoch=epoch)
            return Heard("first")
        if epoch in known.past:
            if number <= known.past[epoch]:
                self.counters["duplicates"] += 1
                return Heard("duplicate")
            return self._ahead(known, number, known.past[epoch], epoch)
        if epoch != known.epoch:
            if known.epoch:
                known.past[known.epoch] = known.last
                known.past = dict(list(known.past.items())[-MAX_EPOCHS:])
            known.epoch = epoch
            return self.begin(key, number)
        if number > known.last:
            return self._ahead(known, number, known.last)
        if self._late(known, number):
            return Heard("late")
        self.counters["duplicates"] += 1
        return Heard("duplicate")

    def _ahead(self, known: Counted, number: int, last: int, past: str = "") -> Heard:
        """A number above the last one, perhaps of an epoch that is ``past``."""
        missed = number - last - 1
        if past:
            known.past[past] = number
        else:
            known.last = number
        if not missed:
            return Heard("next")
        known.lost += missed
        self.counters["lost"] += missed
        self.counters["gaps"] += 1
        if not past:
            known.gaps = [*known.gaps, [last + 1, number - 1]][-MAX_GAPS:]
        return Heard("gap", missed)

    def _late(self, known: Counted, number: int) -> bool:
        if not self._fills(known, number):
            return False
        known.lost -= 1
        self.counters["lost"] -= 1
        self.counters["late"] += 1
        return True

    def begin(self, key: str, number: int) -> Heard:
        """The publisher began anew with this number."""
        known = self.keys.setdefault(key, Counted(number))
        known.last, known.gaps = number, []
        known.restarts += 1
        self.counters["restarts"] += 1
        return Heard("restart")

    def dump(self) -> str:
        """Everything, as one line of text."""
        ring = base64.b64encode(struct.pack(f"<{len(self._ring)}I", *self._ring)).decode()
        keys = {
            k: [c.last, c.lost, c.restarts, c.gaps, *((c.epoch, c.past) if c.epoch else ())]
            for k, c in self.keys.items()
        }
        return msgspec.json.encode({"ring": ring, "keys": keys}).decode()

    def _load(self, kept: str) -> None:
        """A damaged text counts as none: the numbers begin anew, and that is counted."""
        if not kept:
            return
        try:
            found: dict[str, Any] = msgspec.json.decode(kept)
            raw = base64.b64decode(found["ring"])
            for mark in struct.unpack(f"<{len(raw) // 4}I", raw):
                self._remember(mark)
            for key, (last, lost, restarts, gaps, *more) in found["keys"].items():
                ranges = [[int(a), int(b)] for a, b in gaps]
                epoch, past = more or ("", {})
                earlier = {str(name): int(number) for name, number in past.items()}
                self.keys[key] = Counted(
                    int(last), int(lost), int(restarts), ranges, str(epoch), earlier
                )
        except (
            msgspec.MsgspecError,
            struct.error,
            KeyError,
            AttributeError,
            TypeError,
            ValueError,
        ):
            self.keys.clear()
            self.counters["forgotten"] += 1

    def _remember(self, mark: int) -> None:
        if len(self._ring) == RING:
            oldest = self._ring[0]
            self._seen[oldest] -= 1
            if not self._seen[oldest]:
                del self._seen[oldest]
        self._ring.append(mark)
        self._seen[mark] += 1

    @staticmethod
    def _fills(known: Counted, number: int) -> bool:
        for place, (first, last) in enumerate(known.gaps):
            if first <= number <= last:
                rest = [[first, number - 1], [number + 1, last]]
                known.gaps[place : place + 1] = [r for r in rest if r[0] <= r[1]]
                return True
        return False

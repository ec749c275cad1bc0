"""The rows of an answer on their way to the other half: each position once, in order; pure.

A row is kept until the other side has it and, beyond that, as long as there is room: a side that
forgot the stream can be sent all of it again. What no longer fits is forgotten from the front;
then the whole prefix has to be computed again (:attr:`Uploads.torn`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from capabilities.segments.rows import Floats

DEFAULT_BYTES = 16 << 20  # of rows in half precision: 2,048 positions of a model of width 4,096


@dataclass(slots=True)
class Uploads:
    """One stream's rows. ``sent`` and ``acked`` count positions from 0."""

    width: int
    max_bytes: int = DEFAULT_BYTES
    begin: int = 0  # the first position that is still kept
    sent: int = 0
    acked: int = 0
    _rows: list[Floats] = field(default_factory=list)
    _count: int = 0

    @property
    def end(self) -> int:
        """One more than the last position that was added."""
        return self.begin + self._count

    @property
    def backlog(self) -> int:
        """Positions that the other side does not have yet, as far as is known."""
        return self.end - self.acked

    @property
    def torn(self) -> bool:
        """Whether rows that the other side needs are not kept any more."""
        return self.acked < self.begin

    def add(self, rows: Floats) -> None:
        """Rows (n, width) of the next positions."""
        self._rows.append(rows)
        self._count += len(rows)
        while len(self._rows) > 1 and self._count * self.width * 2 > self.max_bytes:
            first = self._rows.pop(0)
            self._count -= len(first)
            self.begin += len(first)

    def next(self, most: int) -> tuple[int, Floats] | None:
        """Up to ``most`` rows that are to be sent now, with their first position."""
        start = max(self.sent, self.begin)
        if start >= self.end or self.torn:
            return None
        found: list[Floats] = []
        skip, room = start - self.begin, most
        for rows in self._rows:
            if skip >= len(rows):
                skip -= len(rows)
                continue
            piece = rows[skip : skip + room]
            found.append(piece)
            skip, room = 0, room - len(piece)
            if not room:
                break
        block = np.concatenate(found)
        self.sent = start + len(block)
        return start, block

    def have(self, count: int) -> None:
        """The other side says how much it has: less than was sent means that some was lost."""
        self.acked = max(self.acked, min(count, self.end))

    def again(self, have: int) -> None:
        """The other side misses rows: go on from what it has."""
        self.acked = self.sent = min(have, self.end)

    def rebuilt(self, rows: Floats) -> None:
        """All rows from position 0 on, computed once more."""
        self._rows, self._count, self.begin = [rows], len(rows), 0
        self.sent = self.acked

"""A file of JSON lines, followed as it grows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from capabilities.data.lines import parse_line
from mesh.core.errors import WireError

MAX_READ_BYTES = 256 * 1024  # at one look; the rest comes with the next
MAX_LINE_BYTES = 64 * 1024


class FileTail:
    """Reads whole lines that were not read before. ``place`` is "inode:offset" of an earlier
    life; a file that was replaced or cut is read from its beginning."""

    def __init__(self, path: Path, place: str = "") -> None:
        self.path = path
        self.more = False
        inode, _, offset = place.partition(":")
        self._inode = int(inode) if inode.isdigit() else 0
        self._offset = int(offset) if offset.isdigit() else 0

    def read(self) -> tuple[list[dict[str, Any] | None], str]:
        """The objects of the new lines (None for a line that is none), and the place behind
        them. A file that is not there has none. Never on the event loop."""
        self.more = False
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._offset:
                    self._inode, self._offset = stat.st_ino, 0
                file.seek(self._offset)
                data = file.read(MAX_READ_BYTES)
        except OSError:
            return [], self._place()
        end = data.rfind(b"\n") + 1
        if not end and len(data) > MAX_LINE_BYTES:
            end = len(data)  # no line: what is this? passed over, and counted as refused
        self._offset += end
        self.more = len(data) == MAX_READ_BYTES
        return [_object(line) for line in data[:end].splitlines() if line.strip()], self._place()

    def _place(self) -> str:
        return f"{self._inode}:{self._offset}"


def _object(line: bytes) -> dict[str, Any] | None:
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        return parse_line(line)
    except WireError:
        return None

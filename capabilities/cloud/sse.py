"""Server-sent events, as far as chat completions need them, with bounds. Pure.

A line over its limit is an error: libraries for this hold it whole, and a provider that never
ends a line would fill the memory.
"""

from __future__ import annotations

MAX_LINE_BYTES = 1 << 20


class LineTooLong(ValueError):
    """A line over :data:`MAX_LINE_BYTES`."""


class DataLines:
    """Feeds on bytes, gives the value of each ``data:`` line; other fields are passed over.

    An event of several data lines, which no such API sends, comes as several values.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The values that ``data`` completes; raises :class:`LineTooLong`."""
        *lines, self._held = (self._held + data).split(b"\n")
        if len(self._held) > self._limit or any(len(line) > self._limit for line in lines):
            raise LineTooLong(f"a line of more than {self._limit} bytes")
        return [value for line in lines if (value := _value(line))]

    def finish(self) -> list[bytes]:
        """What stood on a last line without an end."""
        value, self._held = _value(self._held), b""
        return [value] if value else []


def _value(line: bytes) -> bytes:
    return line[5:].strip() if line.startswith(b"data:") else b""

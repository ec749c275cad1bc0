"""One line of the control socket: its messages, its limits, its errors. No I/O.

Both ends read with the same splitter. A limit is checked before anything is decoded, and a
line over it is skipped to its end, so that the lines behind it are still read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

from mesh.core.errors import GossamerError, Rejected

MAX_REQUEST_BYTES = 256 * 1024  # a prompt is at most 64 Ki characters, of up to four bytes
MAX_REPLY_BYTES = 8 * 1024 * 1024  # the peers of a large mesh in one reply


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """Begin ``verb``, or cancel the request of this ``id``."""

    id: int | str
    verb: str = ""
    args: dict[str, Any] = {}
    cancel: bool = False


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it travels: a stable code, what happened, what to do next."""

    code: str
    message: str
    hint: str = ""
    retry_after_s: float = 0.0


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event, or the end of a request: its result or its error. No id: the line had none."""

    id: int | str | None
    event: Any = msgspec.UNSET
    result: Any = msgspec.UNSET
    error: Problem | msgspec.UnsetType = msgspec.UNSET


class Hello(msgspec.Struct, frozen=True):
    """The server's first line."""

    hello: dict[str, Any]


class Oversize(msgspec.Struct, frozen=True):
    """Stands for a line that was longer than allowed."""


def encode_line(message: msgspec.Struct) -> bytes:
    """A message as one line."""
    return msgspec.json.encode(message) + b"\n"


class LineSplitter:
    """Cuts a byte stream into lines of at most ``limit`` bytes, holding no more than that."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | Oversize]:
        """The lines that ``data`` completes; an :class:`Oversize` where one was too long."""
        lines: list[bytes | Oversize] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if self._skipping:
                self._skipping = False
            elif len(self._held) + end - start > self.limit:
                lines.append(Oversize())
            else:
                line = bytes(self._held) + data[start:end]
                if line.strip():
                    lines.append(line)
            self._held.clear()
            start = end + 1
        if not self._skipping:
            self._held += data[start:]
            if len(self._held) > self.limit:
                lines.append(Oversize())
                self._held.clear()
                self._skipping = True
        return lines


def problem_of(error: BaseException) -> Problem:
    """An error as it travels. One that was not raised on purpose is reported as internal."""
    if isinstance(error, GossamerError):
        retry_after_s = error.retry_after_s if isinstance(error, Rejected) else 0.0
        return Problem(error.code, error.message, error.hint, retry_after_s)
    return Problem(
        "internal",
        f"{type(error).__name__}: {error}",
        "this is a bug in Gossamer; the agent's log has the details",
    )


def _kinds(base: type[GossamerError]) -> Iterator[type[GossamerError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


def error_of(problem: Problem) -> GossamerError:
    """The error that a :class:`Problem` stands for, of the class that has its code."""
    kind = next((x for x in _kinds(GossamerError) if x.code == problem.code), GossamerError)
    error = GossamerError(problem.message, hint=problem.hint)
    with contextlib.suppress(TypeError):  # a class may have a constructor of its own
        error = kind(problem.message, hint=problem.hint)
    error.code = problem.code
    if isinstance(error, Rejected):
        error.retry_after_s = problem.retry_after_s
    return error

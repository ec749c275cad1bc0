"""How much has come over each connection and was not handed on yet, and the cut of who holds most.

libzmq bounds each part of a message and the number of whole messages, but not the parts of one
message: it keeps all of them until the last one comes, which a hostile peer never sends. The
kernel counts what came over a connection (``TCP_INFO``, Linux 4.1 and later), we count what was
handed on; the difference lies in libzmq and in the kernel's buffer.
"""

from __future__ import annotations

import asyncio
import socket as stdlib
import sys
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from mesh.net.sockets import cut_connection

# An honest peer has at most 1 MiB under way on each of its streams; this is many of them at once
# while the loop is busy, and little enough for a board.
MOST_HELD_BYTES = 64 << 20
# What can come beyond that is what a link brings in this time; each look costs a system call for
# each connection.
LOOK_EVERY_S = 0.25
_RECEIVED_AT = 128  # offset of tcpi_bytes_received in struct tcp_info, linux/tcp.h
_SHORT_FRAME = 255  # ZMTP 3.1: up to here the length takes one byte, then eight
_CURVE_BYTES = 33  # RFC 26: "\x07MESSAGE", 8 of nonce, 16 of the box, 1 of flags


def wire_bytes(message: int) -> int:
    """What a message of so many bytes takes on a connection with CURVE."""
    frame = message + _CURVE_BYTES
    return frame + (2 if frame <= _SHORT_FRAME else 9)


def received_bytes(descriptor: int) -> int:
    """What came over this process's connection since it was opened; -1 when it cannot be told."""
    if descriptor < 0 or not sys.platform.startswith("linux"):
        return -1
    try:
        connection = stdlib.socket(stdlib.AF_INET, stdlib.SOCK_STREAM, fileno=descriptor)
    except OSError:
        return -1
    try:
        told = connection.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_INFO, _RECEIVED_AT + 8)
    except OSError:
        return -1
    finally:
        connection.detach()  # it is libzmq's
    if len(told) < _RECEIVED_AT + 8:
        return -1
    return int.from_bytes(told[_RECEIVED_AT:], sys.byteorder)


@dataclass(slots=True)
class _Connection:
    ports: Collection[int] = ()
    taken: int = 0
    route: bytes = b""
    node: bytes = b""
    announced: bool = False  # the monitor has told of it; a first message can be sooner


class Backlog:
    """Watches the connections of some sockets together.

    ``cut_off`` is told of each connection that was cut: its node, empty where it never spoke,
    and how many bytes it held.
    """

    def __init__(
        self,
        counters: Counter[str],
        cut_off: Callable[[bytes, int], None],
        most_bytes: int = MOST_HELD_BYTES,
        received: Callable[[int], int] = received_bytes,
    ) -> None:
        self._counters = counters
        self._cut_off = cut_off
        self._most_bytes = most_bytes
        self._received = received
        self._open: dict[int, _Connection] = {}  # by descriptor
        self._timer: asyncio.TimerHandle | None = None

    def opened(self, descriptor: int, ports: Collection[int] = ()) -> None:
        """A connection came about. ``ports``: those of ours that it leads to, none for a dialled
        one."""
        known = self._open.get(descriptor)
        if known is None or known.announced:  # the number is another connection's now
            known = self._open[descriptor] = _Connection()
        known.ports, known.announced = ports, True
        if self._timer is None:
            self._wait()

    def spoke(self, descriptor: int, node: bytes, route: bytes = b"") -> None:
        """Whose connection it is, and by which route its messages come."""
        known = self._open.setdefault(descriptor, _Connection())
        known.node, known.route = node, route

    def closed(self, descriptor: int) -> None:
        """The connection is gone."""
        self._open.pop(descriptor, None)

    def took(self, descriptor: int, message: int, route: bytes = b"") -> None:
        """A message of so many bytes was handed on. ``route`` as in :meth:`spoke`: the last
        messages of a connection that is gone must not count for the next of that number."""
        known = self._open.get(descriptor)
        if known is not None and known.route == route:
            known.taken += wire_bytes(message)

    def look(self) -> int:
        """Cut whoever holds most while all together hold too much; how much they hold."""
        held = {
            descriptor: max(0, received - known.taken)
            for descriptor, known in self._open.items()
            if (received := self._received(descriptor)) >= 0
        }
        total = sum(held.values())
        while total > self._most_bytes:
            worst = max(held, key=held.__getitem__)
            much = held.pop(worst)
            total -= much
            known = self._open.pop(worst)
            if cut_connection(worst, known.ports):
                self._counters["connections_cut_backlog"] += 1
                self._cut_off(known.node, much)
        return total

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._again)

    def _again(self) -> None:
        self._timer = None
        self.look()
        if self._open:
            self._wait()

    def close(self) -> None:
        """Stop looking."""
        self._open.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

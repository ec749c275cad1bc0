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


class Backlog:
    """Watches the connections of some sockets together; ``cut_off`` is told whom it cut."""

    def __init__(
        self,
        counters: Counter[str],
        cut_off: Callable[[int, int], None],
        most_bytes: int = MOST_HELD_BYTES,
        received: Callable[[int], int] = received_bytes,
    ) -> None:
        self._counters = counters
        self._cut_off = cut_off
        self._most_bytes = most_bytes
        self._received = received
        self._taken: dict[int, int] = {}  # descriptor: bytes handed on
        self._ports: dict[int, Collection[int]] = {}  # descriptor: which of our ports it is at
        self._timer: asyncio.TimerHandle | None = None

    def opened(self, descriptor: int, ports: Collection[int] = ()) -> None:
        """A connection came about. ``ports``: those of ours that it leads to, none for a dialled
        one."""
        self._taken[descriptor] = 0
        self._ports[descriptor] = ports
        if self._timer is None:
            self._wait()

    def closed(self, descriptor: int) -> None:
        """The connection is gone."""
        self._taken.pop(descriptor, None)
        self._ports.pop(descriptor, None)

    def took(self, descriptor: int, message: int) -> None:
        """A message of so many bytes was handed on."""
        if descriptor in self._taken:
            self._taken[descriptor] += wire_bytes(message)

    def look(self) -> int:
        """Cut whoever holds most while all together hold too much; how much they hold."""
        held = {
            descriptor: max(0, received - taken)
            for descriptor, taken in self._taken.items()
            if (received := self._received(descriptor)) >= 0
        }
        total = sum(held.values())
        while total > self._most_bytes:
            worst = max(held, key=held.__getitem__)
            much = held.pop(worst)
            total -= much
            ports = self._ports[worst]
            self.closed(worst)
            if cut_connection(worst, ports):
                self._counters["connections_cut_backlog"] += 1
                self._cut_off(worst, much)
        return total

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._again)

    def _again(self) -> None:
        self._timer = None
        self.look()
        if self._taken:
            self._wait()

    def close(self) -> None:
        """Stop looking."""
        self._taken.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

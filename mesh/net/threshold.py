"""Who stands on the threshold of a listening socket: connected, and not yet known.

libzmq takes every TCP connection, and with the process's file descriptors used up it takes a
whole core as well. It tells each connection's descriptor when it accepts it; the oldest of too
many that have not spoken are cut. A member that was cut by a flood dials again by itself.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

import zmq
from zmq.utils.monitor import parse_monitor_message

from mesh.net.backlog import Backlog
from mesh.net.pump import Pump
from mesh.net.sockets import cut_connection

# Connections per listening socket that have not spoken (at the admission socket: at all).
# Three sockets hold 384 descriptors at most, of the 1024 that a process usually has; an honest
# handshake takes milliseconds, so a flood needs ten thousand a second to push one out.
MAX_WAITING = 128

_EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_ACCEPT_FAILED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_COUNTED = {
    int(zmq.EVENT_ACCEPT_FAILED): "connections_not_taken",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): "handshake_malformed",
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "handshake_unfinished",
}


class Threshold:
    """Watches one listening socket, bound to ``port``; create it before the socket is bound."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        counters: Counter[str],
        trouble: Callable[[str], None],
        backlog: Backlog,
    ) -> None:
        self.port = 0
        self._counters = counters
        self._trouble = trouble
        self._backlog = backlog
        self._socket = socket
        self._waiting: OrderedDict[int, bool] = OrderedDict()  # descriptor: whether it spoke
        self._pump = Pump(socket.get_monitor_socket(_EVENTS), self._on_event)

    def __len__(self) -> int:
        return len(self._waiting)

    def spoke(self, descriptor: int) -> None:
        """A member spoke over this connection: it is known now."""
        self._waiting.pop(descriptor, None)

    def heard(self, descriptor: int) -> None:
        """A stranger spoke over this connection: it is no member, and yet somebody."""
        if descriptor in self._waiting:
            self._waiting[descriptor] = True

    def _on_event(self, frames: list[zmq.Frame]) -> None:
        event = parse_monitor_message([frame.bytes for frame in frames])
        kind, descriptor = event["event"], event["value"]
        if kind == zmq.EVENT_ACCEPTED:
            self._counters["connections"] += 1
            self._waiting[descriptor] = False
            self._backlog.opened(descriptor, {self.port})
            while len(self._waiting) > MAX_WAITING:
                oldest, _ = self._waiting.popitem(last=False)
                if cut_connection(oldest, {self.port}):
                    self._counters["connections_cut_waiting"] += 1
                    self._trouble(f"too many strangers stand at port {self.port}; the oldest goes")
        elif kind == zmq.EVENT_DISCONNECTED:
            self._backlog.closed(descriptor)
            if self._waiting.pop(descriptor, True) is False:
                # Also what speaks another protocol: libzmq says nothing else of it.
                self._counters["connections_unknown"] += 1
                self._trouble(f"a connection to port {self.port} ended before it was a member's")
        elif kind in _COUNTED:
            self._counters[_COUNTED[kind]] += 1

    def close(self) -> None:
        """Stop watching; call it before the socket is closed."""
        self._socket.disable_monitor()
        self._pump.close()

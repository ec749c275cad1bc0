"""The gate of every socket: ZAP (ZeroMQ RFC 27) with the keys of certified nodes.

libzmq asks this handler about each CURVE handshake and shows only the client's 32-byte key.
The member domain admits the keys of nodes whose passport has been checked; the admission
domain admits any key. The answer's user id is the key, and libzmq attaches it to every
message, so that the shell knows who speaks without believing what the message says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import zmq

from mesh.net.pump import Pump

ENDPOINT = "inproc://zeromq.zap.01"
MEMBER_DOMAIN = b"member"
ADMISSION_DOMAIN = b"admission"


class ZapGate:
    """Answers libzmq's questions; one per context, bound before any other socket."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        admits: Callable[[bytes], bool],
        refused: Callable[[bytes, str], None],
    ) -> None:
        self._admits = admits
        self._refused = refused
        self.counters: Counter[str] = Counter()
        socket = context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.bind(ENDPOINT)
        self._pump = Pump(socket, self._answer)

    def _answer(self, frames: list[zmq.Frame]) -> None:
        parts = [frame.bytes for frame in frames]
        if len(parts) < 8 or parts[2] != b"1.0":
            return  # not libzmq: nothing else can reach an inproc endpoint
        route, _, version, request, domain, address, _, mechanism, *credentials = parts
        key = credentials[0] if credentials and len(credentials[0]) == 32 else b""
        allowed = (
            mechanism == b"CURVE"
            and bool(key)
            and (domain == ADMISSION_DOMAIN or (domain == MEMBER_DOMAIN and self._admits(key)))
        )
        self.counters["handshake_admitted" if allowed else "handshake_refused"] += 1
        if not allowed:
            self._refused(key, address.decode("ascii", "replace"))
        status, text = (b"200", b"") if allowed else (b"400", b"this key is not a member")
        self._pump.socket.send_multipart(
            [
                route,
                b"",
                version,
                request,
                status,
                text,
                key.hex().encode() if allowed else b"",
                b"",
            ]
        )
        self._pump.poke()

    def close(self) -> None:
        """Close the gate, after every socket that it guards."""
        self._pump.close()

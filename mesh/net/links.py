"""One peer as this node dials it: introduction, then a link per lane.

    CLOSED ─dial▶ INTRODUCING ─admitted▶ OPENING ─handshake▶ UP
                      │ refused, silent      │ key refused     │ disconnected
                      ▼                      ▼                 ▼
                   WAITING (backoff) ◀───────┴──────────── OPENING (libzmq redials)

The introduction shows our passport at the peer's door once, so that its gate admits our key.
What is sent before a link is up waits in a bounded queue.
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from mesh.core.identity import NodeKeys
from mesh.core.records import Endpoints
from mesh.core.wire import LANE_LIMITS, Lane
from mesh.net.backlog import Backlog
from mesh.net.pump import Pump
from mesh.net.sockets import dialer

MAX_PENDING = 512  # messages waiting for a link: beyond it the oldest are dropped and counted
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 15.0
DEAF_AFTER_TRIES = 6  # connections that never finish a handshake before we say so

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
)


class LinkState(enum.StrEnum):
    """Where a link stands."""

    CLOSED = "closed"
    INTRODUCING = "introducing"
    WAITING = "waiting"
    OPENING = "opening"
    UP = "up"


class LinkOwner(Protocol):
    """What a link tells the transport."""

    backlog: Backlog

    def on_message(self, node: bytes, lane: Lane, message: zmq.Frame) -> None:
        """A message came over the link."""

    def on_parts(self, node: bytes, lane: Lane, first: zmq.Frame) -> None:
        """A message of several parts came, which no honest node sends."""

    def on_link_up(self, node: bytes, lane: Lane) -> None:
        """The handshake is done."""

    def on_link_down(self, node: bytes, lane: Lane) -> None:
        """A link that was up broke."""

    def on_trouble(self, node: bytes, sentence: str) -> None:
        """Something a person should know."""


class LaneLink:
    """A DEALER to one lane of a peer, its monitor, and what waits to be sent."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: NodeKeys,
        node: bytes,
        server_key: bytes,
        address: str,
        lane: Lane,
        owner: LinkOwner,
        refused: Callable[[], None],
        counters: Counter[str],
    ) -> None:
        self.lane = lane
        self.up = False
        self.descriptor = -1  # of the connection, as the monitor tells it
        self._node = node
        self._owner = owner
        self._refused = refused
        self._counters = counters
        self._pending: deque[bytes] = deque()
        self._tries = 0
        self._socket = dialer(context, keys, server_key, LANE_LIMITS[lane])
        self._pump = Pump(self._socket, self._on_message)
        self._monitor = Pump(self._socket.get_monitor_socket(_EVENTS), self._on_event)
        self._socket.connect(address)
        self._address = address

    def send(self, message: bytes) -> None:
        """Send now, or when the link is up."""
        if self.up and not self._pending:
            try:
                self._socket.send(message, zmq.NOBLOCK)
            except zmq.Again:
                pass
            else:
                self._pump.sent()
                return
        if len(self._pending) >= MAX_PENDING:
            self._pending.popleft()
            self._counters["dropped_link_full"] += 1
        self._pending.append(message)

    def _flush(self) -> None:
        while self._pending and self.up:
            try:
                self._socket.send(self._pending[0], zmq.NOBLOCK)
            except zmq.Again:
                # The pipe can lag a moment behind the handshake's event.
                asyncio.get_running_loop().call_later(0.01, self._flush)
                break
            self._pending.popleft()
        self._pump.poke()

    def _on_message(self, frames: list[zmq.Frame]) -> None:
        if len(frames) == 1:
            self._owner.backlog.took(self.descriptor, len(frames[0]))
            self._owner.on_message(self._node, self.lane, frames[0])
        else:
            self._owner.on_parts(self._node, self.lane, frames[0])

    def _on_event(self, frames: list[zmq.Frame]) -> None:
        said = parse_monitor_message([frame.bytes for frame in frames])
        event = said["event"]
        if event in {zmq.EVENT_CONNECTED, zmq.EVENT_DISCONNECTED}:
            self._owner.backlog.closed(self.descriptor)
            self.descriptor = -1
        if event == zmq.EVENT_CONNECTED:
            self.descriptor = said["value"]
            self._owner.backlog.opened(self.descriptor)
            self._owner.backlog.spoke(self.descriptor, self._node)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.up, self._tries = True, 0
            self._owner.on_link_up(self._node, self.lane)
            self._flush()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refused()
        elif event == zmq.EVENT_DISCONNECTED and self.up:
            self.up = False
            self._owner.on_link_down(self._node, self.lane)
        elif event in {
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
            zmq.EVENT_DISCONNECTED,
        }:
            # A wrong server key looks like this and nothing else: retried for ever in silence.
            self._tries += 1
            if self._tries == DEAF_AFTER_TRIES:
                self._owner.on_trouble(
                    self._node,
                    f"{self._address} breaks off every handshake: another node may be listening "
                    "there, or its key has changed",
                )

    def close(self) -> None:
        """Close both sockets; what waits is dropped and counted."""
        if self._pending:
            self._counters["dropped_link_closed"] += len(self._pending)
        self.up = False
        self._owner.backlog.closed(self.descriptor)
        self._socket.disable_monitor()
        self._monitor.close()
        self._pump.close()


class Link:
    """Everything this node does to reach one peer by dialling it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: NodeKeys,
        node: bytes,
        owner: LinkOwner,
        introduce: Callable[[str, bytes], asyncio.Future[None]],
        counters: Counter[str],
    ) -> None:
        self.node = node
        self.endpoints = Endpoints()
        self.server_key = b""
        self.state = LinkState.CLOSED
        self._context = context
        self._keys = keys
        self._owner = owner
        self._introduce = introduce
        self._counters = counters
        self._introduced = False
        self._held = False
        self._backoff_s = BACKOFF_FIRST_S
        self._timer: asyncio.TimerHandle | None = None
        self._lanes: dict[Lane, LaneLink] = {}
        self._waiting: deque[tuple[bytes, Lane]] = deque(maxlen=MAX_PENDING)

    @property
    def dialable(self) -> bool:
        """Whether an address to dial is known."""
        return bool(self.endpoints.control and self.server_key)

    def aim(self, server_key: bytes, endpoints: Endpoints, *, introduced: bool = False) -> None:
        """Where the peer is now; a link to an old address is closed."""
        self._introduced = self._introduced or introduced
        if (server_key, endpoints) == (self.server_key, self.endpoints):
            if introduced:
                self.try_soon()
            return
        moved = bool(self.server_key) and (
            server_key != self.server_key
            or (endpoints.control, endpoints.bulk) != (self.endpoints.control, self.endpoints.bulk)
        )
        self.server_key, self.endpoints = server_key, endpoints
        if moved:
            self._introduced = introduced
            self._close_lanes()
            self.state = LinkState.CLOSED

    def hold(self, *, held: bool) -> None:
        """Keep the control lane open also with nothing to send: the peer calls back over it."""
        self._held = held
        if held and self.state is LinkState.CLOSED and self.dialable:
            self._dial()

    def is_up(self, lane: Lane) -> bool:
        """Whether frames leave at once."""
        link = self._lanes.get(lane)
        return link is not None and link.up

    def send(self, message: bytes, lane: Lane) -> None:
        """Send over ``lane``, dialling first where needed."""
        if self.state is LinkState.UP or self.state is LinkState.OPENING:
            self._lane(lane).send(message)
            return
        if len(self._waiting) == MAX_PENDING:
            self._counters["dropped_link_full"] += 1
        self._waiting.append((message, lane))
        if self.state is LinkState.CLOSED:
            self._dial()

    def _lane(self, lane: Lane) -> LaneLink:
        link = self._lanes.get(lane)
        if link is None:
            address = self.endpoints.bulk if lane is Lane.BULK else self.endpoints.control
            link = self._lanes[lane] = LaneLink(
                self._context,
                self._keys,
                self.node,
                self.server_key,
                address,
                lane,
                self._owner,
                self._key_refused,
                self._counters,
            )
        return link

    def _dial(self) -> None:
        if self._introduced or not self.endpoints.admission:
            self._open()
            return
        self.state = LinkState.INTRODUCING
        future = self._introduce(self.endpoints.admission, self.server_key)
        future.add_done_callback(self._introduction_done)

    def _introduction_done(self, future: asyncio.Future[None]) -> None:
        if future.cancelled():
            return
        error = future.exception()  # looked at in any case, or asyncio complains
        if self.state is not LinkState.INTRODUCING:
            return
        if error is None:
            self._introduced = True
            self._open()
        else:
            self._owner.on_trouble(self.node, f"introduction failed: {error}")
            self._wait()

    def _open(self) -> None:
        self.state = LinkState.OPENING
        self._lane(Lane.CONTROL)
        while self._waiting:
            message, lane = self._waiting.popleft()
            self._lane(lane).send(message)

    def _key_refused(self) -> None:
        """The peer's gate does not know our key (any more): show the passport again."""
        asyncio.get_running_loop().call_soon(self._reintroduce)

    def _reintroduce(self) -> None:
        if self.state in {LinkState.OPENING, LinkState.UP}:
            self._introduced = False
            self._close_lanes()
            self._wait()

    def _wait(self) -> None:
        self.state = LinkState.WAITING
        self._timer = asyncio.get_running_loop().call_later(self._backoff_s, self._retry)
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MOST_S)

    def _retry(self) -> None:
        self.state = LinkState.CLOSED
        if self._waiting or self._held:
            self._dial()

    def try_soon(self) -> None:
        """The peer has just shown that it is there: the pause before the next try is cut short.

        Not to nothing: two nodes that let each other in and still cannot speak would keep each
        other trying without a breath. And never put off: a peer that shows itself again and again
        would keep this node from trying at all.
        """
        self._backoff_s = BACKOFF_FIRST_S
        if self.state is not LinkState.WAITING or self._timer is None:
            return
        if self._timer.when() > asyncio.get_running_loop().time() + BACKOFF_FIRST_S:
            self._stop_waiting()
            self._wait()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def mark_up(self) -> None:
        """A lane's handshake is done."""
        self.state = LinkState.UP
        self._backoff_s = BACKOFF_FIRST_S

    def _close_lanes(self) -> None:
        for link in self._lanes.values():
            link.close()
        self._lanes.clear()

    def close(self) -> None:
        """Close every socket of this link; the next send dials again."""
        self._stop_waiting()
        self._close_lanes()
        self._waiting.clear()
        self.state = LinkState.CLOSED

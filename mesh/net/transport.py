"""Frames between members: two listeners, a link per peer that is dialled, and the way back.

A frame for a peer goes over the link that this node dialled if it is up, else back over a
link that the peer opened (how a node behind NAT is reached), else the peer is dialled.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from typing import Protocol

import zmq

from mesh.core.errors import WireError
from mesh.core.identity import Member, NodeKeys, show_id
from mesh.core.records import Endpoints
from mesh.core.wire import LANE_LIMITS, Lane, bundle, unbundle
from mesh.net.backlog import Backlog
from mesh.net.links import Link
from mesh.net.pump import Pump
from mesh.net.sockets import ANY_ROUTE, cut_connection, listener
from mesh.net.threshold import Threshold
from mesh.net.zap import MEMBER_DOMAIN, ZapGate

# Connections per lane and member: one is used, others are left over from broken ones. A member
# that opens more loses its oldest, so that none can use up the descriptors.
MAX_ROUTES_OF_ONE = 4
BAN_S = 60.0  # of a member that broke the protocol; honest ones never do, so it is long enough
NOW = int(zmq.NOBLOCK)  # plain numbers: the enumeration's "|" costs microseconds
MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


class TransportOwner(Protocol):
    """What the transport tells the node."""

    def on_frames(self, node: bytes, lane: Lane, frames: list[bytes]) -> None:
        """Frames of a member that came together; ``node`` is what its CURVE key says."""

    def on_link_up(self, node: bytes) -> None:
        """A link to the peer is up: introduce ourselves on it."""

    def on_link_down(self, node: bytes) -> None:
        """A link to the peer broke."""

    def on_called(self, node: bytes) -> None:
        """The peer opened a connection to this node."""

    def on_trouble(self, sentence: str) -> None:
        """Something a person should know, in one line."""


class Transport:
    """All sockets of members. Who is a member is told by :meth:`allow`."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: NodeKeys,
        owner: TransportOwner,
        introduce: Callable[[str, bytes], asyncio.Future[None]],
    ) -> None:
        self._context = context
        self._keys = keys
        self._owner = owner
        self._introduce = introduce
        self.counters: Counter[str] = Counter()
        self.bytes_out = 0
        self.bytes_in = 0
        self._node_of_key: dict[bytes, bytes] = {}
        self._links: dict[bytes, Link] = {}
        self._node_of_route: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
        self._route_of_node: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
        self._descriptor_of_route: dict[bytes, int] = {}
        self._ports: set[int] = set()
        self._thresholds: list[Threshold] = []
        self._outbox: dict[tuple[bytes, Lane], list[bytes]] = {}
        self._hastened = False
        self._closed = False
        self._pumps: list[Pump] = []
        self.backlog = Backlog(self.counters, self._held_too_much)
        self._banned: dict[bytes, float] = {}  # node: monotonic time until when
        self._gate = ZapGate(context, self._admits, self._key_refused)

    def bind(self, control: str, bulk: str) -> tuple[str, str]:
        """Listen on both lanes; returns the addresses in use."""
        bound = []
        for lane, address in ((Lane.CONTROL, control), (Lane.BULK, bulk)):
            socket = listener(self._context, self._keys, MEMBER_DOMAIN, LANE_LIMITS[lane])
            threshold = Threshold(socket, self.counters, self._owner.on_trouble, self.backlog)
            self._thresholds.append(threshold)
            socket.bind(address)
            bound.append(socket.getsockopt(zmq.LAST_ENDPOINT).decode())  # type: ignore[union-attr]
            threshold.port = int(bound[-1].rpartition(":")[2])
            self._pumps.append(
                Pump(socket, lambda frames, lane=lane: self._on_routed(lane, frames))  # type: ignore[misc]
            )
        self._ports = {int(address.rpartition(":")[2]) for address in bound}
        return bound[0], bound[1]

    @property
    def gate_counters(self) -> Counter[str]:
        """Handshakes admitted and refused."""
        return self._gate.counters

    # -- who is a member --------------------------------------------------------------------

    def allow(self, member: Member) -> None:
        """Admit the member's key at the gate."""
        for key, node in list(self._node_of_key.items()):
            if node == member.node and key != member.curve:
                del self._node_of_key[key]
        self._node_of_key[member.curve] = member.node

    def forbid(self, node: bytes) -> None:
        """Refuse the node from now on and cut what is open with it.

        libzmq can drop no single peer, but each message tells the descriptor that it came
        over, and a connection that is shut down under it is closed by it. A connection that
        the peer opened and never used is not known yet; its first frame is refused and cuts it.
        """
        for key, known in list(self._node_of_key.items()):
            if known == node:
                del self._node_of_key[key]
        for lane in Lane:
            self._route_of_node[lane].pop(node, None)
            for route in [r for r, n in self._node_of_route[lane].items() if n == node]:
                del self._node_of_route[lane][route]
                self._cut(self._descriptor_of_route.pop(route, -1))
        link = self._links.pop(node, None)
        if link is not None:
            link.close()

    def _cut(self, descriptor: int) -> None:
        if cut_connection(descriptor, self._ports):
            self.counters["connections_cut"] += 1

    def aim(self, member: Member, endpoints: Endpoints, *, introduced: bool = False) -> None:
        """Where the member can be dialled."""
        self._link(member.node).aim(member.curve, endpoints, introduced=introduced)

    def try_soon(self, node: bytes) -> None:
        """The node has just shown itself: a link that pauses between two tries goes on soon."""
        link = self._links.get(node)
        if link is not None:
            link.try_soon()

    def drop(self, node: bytes) -> None:
        """Close the links dialled to ``node`` and forget those that it opened.

        Sending to it dials again, and a frame from it shows that its own link still works:
        after a cut, an old connection swallows frames until it is noticed.
        """
        link = self._links.get(node)
        if link is not None:
            link.close()
        for lane in Lane:
            self._route_of_node[lane].pop(node, None)

    def hold(self, nodes: Collection[bytes]) -> None:
        """Keep links to these open, but where the peer has opened one itself."""
        called = self._route_of_node[Lane.CONTROL]
        for node, link in self._links.items():
            link.hold(held=node in nodes and node not in called)

    def is_dialled(self, node: bytes) -> bool:
        """Whether a link that this node dialled is up."""
        link = self._links.get(node)
        return link is not None and link.is_up(Lane.CONTROL)

    def has_way(self, node: bytes) -> bool:
        """Whether a frame to the peer could arrive: over a link, back over one, or by dialling."""
        link = self._links.get(node)
        return node in self._route_of_node[Lane.CONTROL] or (
            link is not None and (link.is_up(Lane.CONTROL) or link.dialable)
        )

    def reach(self, node: bytes) -> str:
        """How this node reaches the peer, for people: dialled, called back, or none."""
        if self.is_dialled(node):
            return "dialled"
        return "called back" if node in self._route_of_node[Lane.CONTROL] else "none"

    # -- frames -----------------------------------------------------------------------------

    def send(self, node: bytes, frame: bytes, lane: Lane) -> None:
        """Send a frame to a member, over whichever link there is.

        Frames of one turn of the event loop leave together, as :func:`bundle` packs them.
        """
        if self._closed:  # a task that ends with the node still says goodbye
            self.counters["dropped_closed"] += 1
            return
        self.bytes_out += len(frame)
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.setdefault((node, lane), []).append(frame)

    def hasten(self) -> None:
        """Send at once what waits for the end of this turn, where somebody waits for the
        answer; once a turn, so that what follows in the same turn still leaves together."""
        if self._outbox and not self._hastened:
            self._hastened = True
            self._send_all()

    def _flush(self) -> None:
        self._hastened = False
        self._send_all()

    def _send_all(self) -> None:
        outbox, self._outbox = self._outbox, {}
        for (node, lane), frames in outbox.items():
            for message in bundle(frames, LANE_LIMITS[lane]):
                self._send_now(node, message, lane)

    def _send_now(self, node: bytes, message: bytes, lane: Lane) -> None:
        link = self._links.get(node)
        if link is not None and link.is_up(lane):
            link.send(message, lane)
            return
        if self._send_back(node, message, lane):
            return
        if link is not None and link.dialable:
            link.send(message, lane)
        elif lane is Lane.BULK and self._send_back(node, message, Lane.CONTROL):
            self.counters["bulk_over_control"] += 1
        else:
            self.counters["dropped_no_way"] += 1

    def _send_back(self, node: bytes, message: bytes, lane: Lane) -> bool:
        route = self._route_of_node[lane].get(node)
        if route is None:
            return False
        pump = self._pumps[lane]
        try:
            pump.socket.send(route, MORE)
            pump.socket.send(message, NOW)
        except zmq.ZMQError as error:
            if error.errno == zmq.EAGAIN:
                self.counters["dropped_link_full"] += 1
                return True
            # EHOSTUNREACH: the connection is gone.
            del self._route_of_node[lane][node]
            self._node_of_route[lane].pop(route, None)
            self._descriptor_of_route.pop(route, None)
            return False
        pump.sent()
        return True

    def _on_routed(self, lane: Lane, frames: list[zmq.Frame]) -> None:
        if len(frames) < 2:
            self.counters["malformed"] += 1
            return
        route = frames[0].bytes
        node = self._node_of_route[lane].get(route)
        if node is None:
            node = self._meet(lane, route, frames[1])
            if node is None:
                return
        if len(frames) > 2:
            self.on_parts(node, lane, frames[1])
            return
        self._route_of_node[lane][node] = route  # of several, the one last heard surely works
        payload = frames[1].bytes
        self.backlog.took(self._descriptor_of_route.get(route, -1), len(payload), route)
        self._take(node, lane, payload)

    def _take(self, node: bytes, lane: Lane, message: bytes) -> None:
        self.bytes_in += len(message)
        try:
            frames = unbundle(message)
        except WireError as error:
            self.counters["malformed"] += 1
            self.on_trouble(node, f"refused a message: {error.sentence()}")
            return
        self._owner.on_frames(node, lane, frames)

    def on_parts(self, node: bytes, lane: Lane, first: zmq.Frame) -> None:
        """A member sent a message of several parts, which no honest node does."""
        self.counters["parts_refused"] += 1
        descriptor = int(first.get(zmq.SRCFD))
        self.on_trouble(node, "refused a message of several parts, and cut its connection")
        self._ban(node)
        if cut_connection(descriptor, ()):
            self.counters["connections_cut"] += 1

    def _held_too_much(self, node: bytes, held: int) -> None:
        if node:
            self._ban(node)
        who = f"node {show_id(node)[:8]}" if node else "a node that has not spoken"
        self._owner.on_trouble(
            f"refused {who}: {held >> 20} MiB came over one connection and could not be handed on"
        )

    def _ban(self, node: bytes) -> None:
        """Only who breaks the protocol comes here: the gate is closed to it for a while."""
        self._banned[node] = asyncio.get_running_loop().time() + BAN_S
        self.counters["banned"] += 1

    def _admits(self, key: bytes) -> bool:
        node = self._node_of_key.get(key)
        if node is None or node not in self._banned:
            return node is not None
        if self._banned[node] > asyncio.get_running_loop().time():
            return False
        del self._banned[node]
        return True

    def _meet(self, lane: Lane, route: bytes, frame: zmq.Frame) -> bytes | None:
        """The member behind a new connection: its CURVE key, which the gate let in, says so."""
        # A routing id that the peer chose could be taken over later by another peer; libzmq's
        # own begin with a zero byte and are never reused.
        if not route.startswith(ANY_ROUTE):
            self.counters["chosen_route"] += 1
            return None
        node = self._node_of_key.get(bytes.fromhex(str(frame.get("User-Id"))))
        if node is None:
            # Let in by the gate, and out of the mesh since.
            self.counters["not_a_member"] += 1
            self._cut(frame.get(zmq.SRCFD))
            return None
        routes = self._node_of_route[lane]
        own = [known for known, other in routes.items() if other == node]
        if len(own) >= MAX_ROUTES_OF_ONE:
            routes.pop(own[0])
            self._cut(self._descriptor_of_route.pop(own[0], -1))
        descriptor = int(frame.get(zmq.SRCFD))
        self._thresholds[lane].spoke(descriptor)
        self.backlog.spoke(descriptor, node, route)
        routes[route] = node
        self._descriptor_of_route[route] = descriptor
        self._route_of_node[lane][node] = route
        if lane is Lane.CONTROL:
            self.try_soon(node)
            self._owner.on_called(node)
        return node

    def on_message(self, node: bytes, lane: Lane, message: zmq.Frame) -> None:
        """A message over a link that we dialled: CURVE has proved who the server is."""
        link = self._links.get(node)
        if link is None or link.server_key not in self._node_of_key:
            self.counters["not_a_member"] += 1
            return
        self._take(node, lane, message.bytes)

    def on_link_up(self, node: bytes, lane: Lane) -> None:
        """A link that we dialled is up."""
        self._links[node].mark_up()
        if lane is Lane.CONTROL:
            self._owner.on_link_up(node)

    def on_link_down(self, node: bytes, lane: Lane) -> None:
        """A link that we dialled broke; libzmq redials."""
        self.counters["link_down"] += 1
        self._owner.on_link_down(node)

    def on_trouble(self, node: bytes, sentence: str) -> None:
        """A link cannot be had."""
        self._owner.on_trouble(f"node {show_id(node)[:8]}: {sentence}")

    def _link(self, node: bytes) -> Link:
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = Link(
                self._context, self._keys, node, self, self._introduce, self.counters
            )
        return link

    def _key_refused(self, key: bytes, address: str) -> None:
        self.counters["key_refused"] += 1
        shown = key.hex()[:8] if key else "none"
        self._owner.on_trouble(
            f"refused a handshake from {address}: CURVE key {shown} is no member"
        )

    def close(self) -> None:
        """Close every socket; what was not sent in this turn is dropped, and what comes later."""
        self._closed = True
        self._outbox.clear()
        for link in self._links.values():
            link.close()
        for threshold in self._thresholds:
            threshold.close()
        self.backlog.close()
        for pump in self._pumps:
            pump.close()
        self._gate.close()

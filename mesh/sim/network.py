"""Links of a simulated network: as TCP behaves, and as datagrams do.

Over TCP a lost packet is a delay: it is sent again after 200 ms, doubling (RFC 6298 with
Linux's minimum), and all that follows on the link waits behind it. A cut is silence; when it
lasts, the connection is reset and both ends hear of it. Datagrams are lost, doubled and
overtake each other.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mesh.core.wire import Message

RTO_S = 0.2  # Linux's least retransmission timeout
RTO_MAX_S = 120.0


@dataclass(frozen=True)
class Link:
    """What a link between two nodes is like.

    ``latency_s`` one way; ``jitter_s`` is added at random, uniformly; ``loss`` is the share
    of packets lost; ``duplicate`` of datagrams doubled; ``reset_after_s`` is how long a cut
    lasts before TCP gives the connection up (ZeroMQ's heartbeat decides this in practice).
    """

    latency_s: float = 0.001
    jitter_s: float = 0.0005
    loss: float = 0.0
    duplicate: float = 0.0
    reset_after_s: float = 15.0
    datagram: bool = False


Deliver = Callable[[int, int, Message], None]
At = Callable[[float, Callable[[], None]], None]


@dataclass(slots=True)
class _Lane:
    """One direction of one TCP connection."""

    clear_at: float = 0.0  # nothing arrives before what was sent earlier
    stalled: deque[Message] = field(default_factory=deque)
    since: float = 0.0
    rto_s: float = RTO_S
    retrying: bool = False


class Network:
    """Carries messages between numbered nodes. Cuts are per direction."""

    def __init__(
        self,
        link: Link,
        rng: random.Random,
        *,
        clock: Callable[[], float],
        at: At,
        deliver: Deliver,
        lost: Callable[[int, int], None],
    ) -> None:
        self.link = link
        self._special: dict[tuple[int, int], Link] = {}
        self._rng = rng
        self._clock = clock
        self._at = at
        self._deliver = deliver
        self._lost = lost
        self._cut: set[tuple[int, int]] = set()
        self._lanes: dict[tuple[int, int], _Lane] = {}

    def use(self, a: int, b: int, link: Link) -> None:
        """Another kind of link between these two."""
        self._special[(a, b)] = self._special[(b, a)] = link

    def cut(self, sender: int, receiver: int) -> None:
        """From now on nothing passes in this direction."""
        self._cut.add((sender, receiver))

    def mend(self, sender: int, receiver: int) -> None:
        """This direction passes again."""
        self._cut.discard((sender, receiver))

    def mend_all(self) -> None:
        """Every direction passes again."""
        self._cut.clear()

    def passes(self, sender: int, receiver: int) -> bool:
        """Whether this direction is not cut."""
        return (sender, receiver) not in self._cut

    def forget(self, node: int) -> None:
        """The node's process ended: its connections are gone with what was under way."""
        for ends in [ends for ends in self._lanes if node in ends]:
            del self._lanes[ends]

    def send(self, sender: int, receiver: int, message: Message) -> None:
        """Put a message on its way."""
        link = self._special.get((sender, receiver), self.link)
        if link.datagram:
            self._send_datagram(sender, receiver, message, link)
            return
        lane = self._lanes.get((sender, receiver))
        if lane is None:
            lane = self._lanes[(sender, receiver)] = _Lane()
        if lane.stalled or (sender, receiver) in self._cut:
            self._stall(sender, receiver, lane, message)
            return
        rng = self._rng
        delay = link.latency_s + rng.random() * link.jitter_s
        if link.loss:
            rto = RTO_S
            while rng.random() < link.loss:
                delay += rto
                rto = min(rto * 2, RTO_MAX_S)
        arrival = max(lane.clear_at, self._clock() + delay)
        lane.clear_at = arrival
        self._at(arrival, lambda: self._arrive(sender, receiver, lane, message))

    def _arrive(self, sender: int, receiver: int, lane: _Lane, message: Message) -> None:
        if self._lanes.get((sender, receiver)) is not lane:
            return  # the connection was reset meanwhile
        if lane.stalled or (sender, receiver) in self._cut:
            self._stall(sender, receiver, lane, message)
        else:
            self._deliver(sender, receiver, message)

    def _stall(self, sender: int, receiver: int, lane: _Lane, message: Message) -> None:
        lane.stalled.append(message)
        if not lane.retrying:
            lane.retrying, lane.since, lane.rto_s = True, self._clock(), RTO_S
            self._at(self._clock() + RTO_S, lambda: self._retry(sender, receiver, lane))

    def _retry(self, sender: int, receiver: int, lane: _Lane) -> None:
        if self._lanes.get((sender, receiver)) is not lane:
            return
        link = self._special.get((sender, receiver), self.link)
        if (sender, receiver) not in self._cut and self._rng.random() >= link.loss:
            lane.retrying = False
            while lane.stalled:
                self._deliver(sender, receiver, lane.stalled.popleft())
            return
        if self._clock() - lane.since >= link.reset_after_s:
            self._lanes.pop((sender, receiver), None)
            self._lanes.pop((receiver, sender), None)
            self._lost(sender, receiver)
            self._lost(receiver, sender)
            return
        lane.rto_s = min(lane.rto_s * 2, RTO_MAX_S)
        wait = min(lane.rto_s, max(link.reset_after_s - (self._clock() - lane.since), 0.01))
        self._at(self._clock() + wait, lambda: self._retry(sender, receiver, lane))

    def _send_datagram(self, sender: int, receiver: int, message: Message, link: Link) -> None:
        rng = self._rng
        copies = 2 if link.duplicate and rng.random() < link.duplicate else 1
        for _ in range(copies):
            if (sender, receiver) in self._cut or rng.random() < link.loss:
                continue
            delay = link.latency_s + rng.random() * link.jitter_s
            self._at(self._clock() + delay, lambda: self._deliver(sender, receiver, message))

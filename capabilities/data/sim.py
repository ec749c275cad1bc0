"""Feeds over simulated links under virtual time: real logs, readers, followers and streams.

The links are those of :mod:`mesh.sim.network`, which behave as TCP does: a lost packet is a delay
that all behind it wait for, a cut that lasts is a reset. What is missing against a real node is
membership, access and the disk; the disk is ``keep``, what a restarted publisher still knows.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from capabilities.data.follower import Broken, FollowConfig, Follower, Fresh, Gap, Phase, Synced
from capabilities.data.log import FeedLimits, FeedLog, Reader, Restored
from capabilities.data.messages import Subscribe, Update, Value, decode_told
from capabilities.messages import decode, encode
from mesh.core.clock import Now
from mesh.core.effects import Send
from mesh.core.errors import GossamerError
from mesh.core.stream_events import (
    Abandoned,
    Ended,
    Failed,
    Incoming,
    Received,
    Refused,
    Writable,
)
from mesh.core.streams import Streams
from mesh.core.wire import CallHeader, Message, Op, Reach
from mesh.sim.network import Link, Network

NAME = "data.gpt/sim/raw"
STREAM_S = 3600.0
HEARTBEAT_S = 5.0
PUBLISHER = 0


@dataclass
class SimSubscriber:
    """One node that follows the feed."""

    index: int
    streams: Streams
    follower: Follower
    begun: bool = False
    begun_at: int = -1  # the feed's sequence when it knew everything first
    stream: int = -1
    gaps: list[Gap] = field(default_factory=list)
    heard: list[Update] = field(default_factory=list)
    breaks: int = 0
    paused: bool = False  # reads nothing: its credit runs out
    unread: list[Received] = field(default_factory=list)


class FeedSim:
    """One publisher, node 0, and any number of subscribers."""

    def __init__(
        self,
        seed: int,
        subscribers: int,
        *,
        link: Link,
        limits: FeedLimits | None = None,
        config: FollowConfig | None = None,
    ) -> None:
        self.time = 0.0
        self.limits = limits
        self.config = config
        self.rng = random.Random(seed)
        self.log = FeedLog(1, limits)
        self.up = True
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self.network = Network(
            link,
            random.Random(seed + 1),
            clock=lambda: self.time,
            at=self.at,
            deliver=self._deliver,
            lost=self._lost,
        )
        self._publisher = Streams()
        self._readers: dict[tuple[bytes, int], Reader] = {}
        self.subscribers = [self._subscriber(n + 1) for n in range(subscribers)]
        self.after(HEARTBEAT_S, self._beat)

    def _subscriber(self, index: int) -> SimSubscriber:
        follower = Follower(random.Random(self.rng.getrandbits(32)), self.config)
        return SimSubscriber(index, Streams(), follower)

    # -- what is done to them ---------------------------------------------------------------

    def begin(self, place: int) -> None:
        """A subscriber comes."""
        subscriber = self.subscribers[place]
        subscriber.begun = True
        self._turn(subscriber)

    def publish(self, key: str, value: Value | None) -> None:
        """The publisher says something; while it is down, nothing is said."""
        self.log.publish(key, value, self.time)
        self._push()

    def stop(self) -> None:
        """The publisher's process dies: its connections are reset."""
        self.up = False
        self.network.forget(PUBLISHER)
        for subscriber in self.subscribers:
            self._lost(subscriber.index, PUBLISHER)

    def start(self, kept: Restored, epoch: int) -> None:
        """It starts again with what is left on its disk."""
        self.log = FeedLog(epoch, self.limits, kept)
        self._publisher, self._readers = Streams(), {}
        self.up = True

    def pause(self, place: int, *, paused: bool) -> None:
        """A subscriber reads nothing for a while, and again."""
        subscriber = self.subscribers[place]
        subscriber.paused = paused
        if not paused:
            unread, subscriber.unread = subscriber.unread, []
            for event in unread:
                self._heard(subscriber, event)
            self._turn(subscriber)

    def equal(self) -> bool:
        """Every subscriber that came knows what the publisher knows, and nothing else."""
        return all(
            s.follower.phase is Phase.LIVE
            and s.follower.sequence == self.log.sequence
            and s.follower.state == self.log.latest
            for s in self.subscribers
            if s.begun
        )

    # -- time -------------------------------------------------------------------------------

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do something at a virtual time."""
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something a while from now."""
        self.at(self.time + seconds, do)

    def run(self, seconds: float) -> None:
        """Let this much virtual time pass."""
        end = self.time + seconds
        while self._heap and self._heap[0][0] <= end:
            self.time, _, do = heapq.heappop(self._heap)
            do()
        self.time = end

    def until(self, condition: Callable[[], bool], within: float, step: float = 0.1) -> bool:
        """Run until it holds; False when ``within`` seconds were not enough."""
        end = self.time + within
        while not condition():
            if self.time >= end:
                return False
            self.run(step)
        return True

    # -- the wires --------------------------------------------------------------------------

    def _now(self) -> Now:
        return Now(self.time, self.time)

    def _emit(self, sender: int, sends: list[Send]) -> None:
        for to, message, _ in sends:
            if sender != PUBLISHER or self.up:
                self.network.send(sender, int.from_bytes(to), message)

    def _deliver(self, sender: int, receiver: int, message: Message) -> None:
        if receiver == PUBLISHER:
            if self.up:
                self._emit(0, self._publisher.receive(_node(sender), message, self._now()))
                self._served()
            return
        subscriber = self.subscribers[receiver - 1]
        self._emit(receiver, subscriber.streams.receive(_node(sender), message, self._now()))
        self._turn(subscriber)

    def _lost(self, here: int, there: int) -> None:
        if here == PUBLISHER:
            self._publisher.peer_lost(_node(there), self._now())
            self._served()
        else:
            subscriber = self.subscribers[here - 1]
            subscriber.streams.peer_lost(_node(there), self._now())
            self._turn(subscriber)

    # -- the publisher ----------------------------------------------------------------------

    def _served(self) -> None:
        for event in self._publisher.drain_events():
            match event:
                case Incoming():
                    key = (event.peer, event.stream)
                    self._readers[key] = Reader(self.log, decode(event.body, Subscribe))
                    self._emit(0, self._publisher.callee.accept(*key))
                    self._push_to(key)
                    self._say_alive(key)
                case Abandoned():
                    self._readers.pop((event.peer, event.stream), None)
                case Writable():
                    self._push_to((event.peer, event.stream))
                case _:
                    pass

    def _push(self) -> None:
        if self.up:
            for key in list(self._readers):
                self._push_to(key)

    def _push_to(self, key: tuple[bytes, int]) -> None:
        reader, callee = self._readers.get(key), self._publisher.callee
        while reader is not None and callee.writable(*key):
            told = reader.pull()
            if told is None:
                return
            self._emit(0, callee.send(*key, encode(told)))

    def _say_alive(self, key: tuple[bytes, int]) -> None:
        reader, callee = self._readers[key], self._publisher.callee
        if reader.idle and callee.writable(*key):
            self._emit(0, callee.send(*key, encode(reader.alive())))

    def _beat(self) -> None:
        if self.up:
            for key in list(self._readers):
                self._say_alive(key)
        self.after(HEARTBEAT_S, self._beat)

    # -- a subscriber -----------------------------------------------------------------------

    def _turn(self, subscriber: SimSubscriber) -> None:
        """Hand on what its streams say, then open a stream if one is due."""
        follower = subscriber.follower
        for event in subscriber.streams.drain_events():
            if getattr(event, "stream", -1) != subscriber.stream:
                continue
            match event:
                case Received():
                    self._heard(subscriber, event)
                case Refused() | Failed():
                    self._broken(subscriber, follower.lost(event.reason, self.time))
                case Ended():
                    self._broken(subscriber, follower.lost("the feed ended", self.time))
                case _:
                    pass
        if not subscriber.begun:
            return
        if not subscriber.paused:
            self._broken(subscriber, follower.tick(self.time))
        if follower.due(self.time):
            header = CallHeader(
                trace=bytes(16),
                span=bytes(8),
                timeout_ms=int(STREAM_S * 1000),
                caller=_node(subscriber.index),
                reach=Reach.MESH,
            )
            body = encode(follower.hello(self.time))
            subscriber.stream, sends = subscriber.streams.caller.open(
                _node(PUBLISHER), NAME, Op.SUBSCRIBE, body, header, self._now()
            )
            self._emit(subscriber.index, sends)
        due = min(follower.next_deadline(), subscriber.streams.next_deadline())
        self.at(max(due, self.time) + 0.001, lambda: self._wake(subscriber, due))

    def _wake(self, subscriber: SimSubscriber, due: float) -> None:
        current = min(subscriber.follower.next_deadline(), subscriber.streams.next_deadline())
        if due >= current:  # else somebody has moved it, and set a timer of its own
            self._emit(subscriber.index, subscriber.streams.tick(self._now()))
            self._turn(subscriber)

    def _heard(self, subscriber: SimSubscriber, event: Received) -> None:
        if subscriber.paused:
            subscriber.unread.append(event)
            return
        follower = subscriber.follower
        try:
            events = follower.receive(decode_told(event.body), len(event.body), self.time)
        except GossamerError as error:
            events = follower.lost(error.sentence(), self.time)
        subscriber.gaps += [e for e in events if isinstance(e, Gap)]
        if subscriber.begun_at < 0 and any(isinstance(e, Synced) for e in events):
            subscriber.begun_at = follower.sequence
        subscriber.heard += [e.update for e in events if isinstance(e, Fresh)]
        self._broken(subscriber, [e for e in events if isinstance(e, Broken)])
        caller = subscriber.streams.caller
        self._emit(subscriber.index, caller.consumed(event.stream, event.credits))

    def _broken(self, subscriber: SimSubscriber, events: object) -> None:
        if events:
            subscriber.breaks += 1
            caller = subscriber.streams.caller
            self._emit(subscriber.index, caller.cancel(subscriber.stream, "broken"))
            subscriber.stream = -1
            subscriber.unread.clear()  # of a stream that is closed


def _node(index: int) -> bytes:
    return index.to_bytes(16)

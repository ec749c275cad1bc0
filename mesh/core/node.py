"""A node's core: store, membership, gossip, resolver and streams as one pure machine.

The ZeroMQ shell and the simulator drive it with the same verbs: hand it messages and the
time, send what it returns, wake it when it asks, drain its events.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

import msgspec

from mesh.core.announcing import AnnounceConfig, Vitals
from mesh.core.asking import Asking
from mesh.core.chance import SecretRandom
from mesh.core.clock import Now
from mesh.core.cms import Store, StoreConfig
from mesh.core.effects import Core, Send
from mesh.core.events import (
    Event,
    LoadHeard,
    MemberForgotten,
    PeerState,
    Revoked,
    StateChanged,
)
from mesh.core.exclusion import ALL, Exclusion
from mesh.core.gossip import WORD, AntiEntropy, GossipConfig, RumourMill
from mesh.core.hearing import Hearing
from mesh.core.identity import LocalIdentity, Member, Signed
from mesh.core.membership import Membership
from mesh.core.membership_config import MembershipConfig
from mesh.core.mesh_time import AGREE_S, MeshTime
from mesh.core.publishing import Publisher
from mesh.core.records import (
    Device,
    Endpoints,
    Kind,
    ModelInfo,
    Profile,
    ServedName,
    Status,
)
from mesh.core.resolver import Allowed, Choice, Listing, Resolver
from mesh.core.revocation import RevocationBody, Revocations
from mesh.core.statements import Word, read_statement
from mesh.core.wire import (
    Ack,
    Digest,
    Hello,
    Load,
    Message,
    Ping,
    PingRequest,
    RelayedAck,
    Revocation,
    Rumours,
    Want,
)

MAX_EVENTS = 4096  # a shell that does not drain must not fill the memory
SWEEP_S = 10.0  # between two looks for what has expired
FAREWELL_PEERS = 8  # told at once by a node that leaves; gossip tells the others


class StreamCore(Core, Protocol):
    """Streams beside membership: the same verbs, and word of lost peers."""

    def peer_lost(self, node: bytes, now: Now, reason: str = ...) -> None:
        """This peer is gone: end what waits for it."""


class NodeCoreConfig(msgspec.Struct, frozen=True):
    """The parts' configurations; each field of theirs says what it costs."""

    membership: MembershipConfig = MembershipConfig()
    gossip: GossipConfig = GossipConfig()
    store: StoreConfig = StoreConfig()
    announce: AnnounceConfig = AnnounceConfig()


class NodeCore:
    """One node. ``rng`` also draws nonces; simulations hand in a seeded one.

    ``incarnation`` counts this node's boots, kept on disk. ``streams`` gets every message
    that is not about membership or gossip. ``load`` says how busy this node is, for who asks;
    ``clock`` is what its shell reads the wall time from, and gets what others say of theirs.
    """

    def __init__(
        self,
        identity: LocalIdentity,
        config: NodeCoreConfig | None = None,
        rng: random.Random | None = None,
        incarnation: int = 1,
        streams: StreamCore | None = None,
        load: Callable[[], Load] = Load,
        clock: MeshTime | None = None,
    ) -> None:
        self.identity = identity
        self.config = config or NodeCoreConfig()
        self._rng = rng or SecretRandom(identity.seal_key(), incarnation)
        self._streams = streams
        self.clock = clock or MeshTime()
        self.revocations = Revocations(identity.trust)
        self.trust = identity.trust.watched(self.revocations.why)
        self.store = Store(self.trust, self.config.store)
        self.store.admit(identity.member)
        self.membership = Membership(identity, self.config.membership, self._rng, incarnation)
        self._mill = RumourMill(self.config.gossip, self._rng, self.store, identity.node)
        self._sync = AntiEntropy(
            self.config.gossip, self._rng, self.store, self._accusers, self._mill.announced_by
        )
        self._exclusion = Exclusion(
            self.revocations, self._rng, lambda: self.membership.present, self._exclude
        )
        self._sync.revoked = lambda: self._exclusion.hash
        self._publisher = Publisher(
            identity, self.config.announce, self.store, self._mill, lambda: self.incarnation
        )
        self._hearing = Hearing(
            identity.node,
            self.store,
            self.membership,
            self._mill,
            self._publisher,
            self._emit,
            self.config.gossip.copied_batch,
            self.trust,
            self.clock,
        )
        self._resolver = Resolver(self.store, self._rng, self.membership.state, self._load_of)
        self._observed: dict[bytes, tuple[float, float]] = {}  # node: load, monotonic seconds
        self.asking = Asking(self.membership, self._rng, load, self.clock, self._load_heard)
        self._now = -math.inf  # the latest time handed in
        self._wall = math.inf
        self._sweep_at = -math.inf
        self._events: deque[Event] = deque()
        self._counters: Counter[str] = Counter()
        self._handlers: dict[type, Callable[[bytes, Any, Now], list[Send]]] = {
            Ping: self._on_ping,
            Ack: self.asking.on_ack,
            PingRequest: self.membership.on_ping_request,
            RelayedAck: self.membership.on_relayed_ack,
            Rumours: self._on_rumours,
            Digest: self._on_digest,
            Want: self._on_want,
            Hello: self._on_hello,
        }

    # -- the verbs ---------------------------------------------------------------------

    def receive(self, sender: bytes, message: Message, now: Now) -> list[Send]:
        """A message from an authenticated ``sender``."""
        self._now = now.mono
        if sender not in self.store or sender == self.identity.node:
            self._counters["refused_sender"] += 1
            return []
        handler = self._handlers.get(type(message))
        if handler is not None:
            out = handler(sender, message, now)
        elif self._streams is not None:
            return self._streams.receive(sender, message, now)
        else:
            self._counters["refused_no_streams"] += 1
            return []
        return out + self._settle(now)

    def tick(self, now: Now) -> list[Send]:
        """Do what is due; too early or too late does no harm."""
        if now.wall - self._wall > now.mono - self._now + AGREE_S:
            self._clock_was_set(now)
        self._now, self._wall = now.mono, now.wall
        if self._sweep_at <= now.mono:
            self._sweep_at = now.mono + SWEEP_S
            self.store.expire(now)
            self.revocations.sweep(now.wall)
            self._publisher.renew(now)
        out = self.membership.tick(now)
        self._publisher.tick(len(self.membership.present), now)
        out += self._settle(now)
        out += self._mill.tick(self.membership.present, now)
        out += self._sync.tick(self.membership.present, now)
        if self._streams is not None:
            out += self._streams.tick(now)
        return out

    def next_deadline(self) -> float:
        """The monotonic time of the next thing due."""
        due = min(
            self.membership.next_deadline(),
            self._mill.next_deadline(),
            self._sweep_at,
            self._publisher.next_deadline(len(self.membership.present)),
        )
        if self.membership.present:
            due = min(due, self._sync.next_deadline())
        return min(due, self._streams.next_deadline()) if self._streams is not None else due

    # -- what the shell tells ----------------------------------------------------------

    def learn(self, member: Member, endpoints: Endpoints, now: Now) -> None:
        """A member met in person, on the admission socket: it is alive and gets our news."""
        if member.node == self.identity.node or not self.store.admit(member, endpoints):
            return
        self.membership.add(member, heard=True, now=now)
        self._sync.soon(member.node, now.mono)
        self._settle_events(now)

    def adopt(self, records: Iterable[Signed], now: Now) -> None:
        """Records handed over in person; verified as always, not spread further."""
        self._hearing.records(self.identity.node, records, now, spread=False)
        self._settle_events(now)

    def link_lost(self, node: bytes, now: Now) -> list[Send]:
        """The link to a node broke: a reason to probe it at once, no more."""
        return self.membership.link_lost(node, now)

    def set_profile(
        self,
        names: tuple[ServedName, ...],
        models: tuple[ModelInfo, ...],
        device: Device,
        endpoints: Endpoints,
        now: Now,
        software: str = "",
    ) -> None:
        """What this node offers, from now on.

        Raises :class:`Refusal` for a name that its own certificate does not grant and
        :class:`WireError` when it is over 8 KiB; then the former profile stays.
        """
        self._publisher.profile(
            Profile(
                kind=Kind.PROFILE,
                node=self.identity.node,
                incarnation=self.membership.life[0],
                sequence=0,
                issued=0.0,
                expires=0.0,
                passport=self.identity.passport,
                endpoints=endpoints,
                names=names,
                models=models,
                device=device,
                software=software,
            ),
            now,
        )

    def revoke(self, revocation: Revocation, now: Now) -> list[Send]:
        """Honour and tell on a revocation; raises :class:`IdentityError` for a forged one."""
        sends = self._exclusion.revoke(revocation, now.wall)
        self._settle_events(now)
        return sends

    def set_status(self, vitals: Vitals, now: Now) -> None:
        """This node's load and health now; it travels when the change means something."""
        self._publisher.vitals(vitals, now)

    def observe_load(self, node: bytes, load: Load, now: Now) -> None:
        """Fresh load off a reply; it beats what gossip says."""
        if node in self.store:
            share = (load.inflight + load.queued) / load.slots if load.slots else 0.0
            self._observed[node] = (share, now.mono)

    def ask_loads(self, nodes: Iterable[bytes], timeout_s: float, now: Now) -> list[Send]:
        """Ask a few nodes for their load now; each answer comes as :class:`LoadHeard`."""
        return self.asking.ask(nodes, timeout_s, now)

    def leave(self, now: Now) -> list[Send]:
        """Say farewell: the peers know at once that this is no failure."""
        word = self.membership.leave(now)
        peers = self.membership.some(FAREWELL_PEERS)
        return [Send(peer, Rumours([], [word])) for peer in peers]

    # -- what the shell asks -----------------------------------------------------------

    def members(self) -> list[Member]:
        """Everybody whose passport was checked: whom ZAP admits."""
        return list(self.store.members())

    def member(self, node: bytes) -> Member | None:
        """A member by id."""
        return self.store.member(node)

    @property
    def peer_states(self) -> dict[bytes, PeerState]:
        """How this node sees the others."""
        return {node: peer.state for node, peer in self.membership.peers.items()}

    def profile(self, node: bytes) -> Profile | None:
        """A node's latest profile."""
        return self.store.profile(node)

    def status(self, node: bytes) -> Status | None:
        """A node's latest status."""
        return self.store.status(node)

    def endpoints(self, node: bytes) -> Endpoints:
        """Where a node listens; empty addresses when it cannot be dialled."""
        entry = self.store.get(node)
        return entry.endpoints if entry else Endpoints()

    def round_trip(self, node: bytes) -> float | None:
        """Smoothed seconds, None when never measured."""
        peer = self.membership.peers.get(node)
        return peer.round_trip.mean_s if peer and peer.round_trip.known else None

    def resolve(
        self, address: str, allowed: Allowed | None = None, exclude: Collection[bytes] = ()
    ) -> list[Choice]:
        """See :meth:`mesh.core.resolver.Resolver.resolve`."""
        return self._resolver.resolve(address, allowed, exclude)

    def names(self, pattern: str = "") -> list[Listing]:
        """See :meth:`mesh.core.resolver.Resolver.names`."""
        return self._resolver.names(pattern)

    def drain_events(self) -> list[Event]:
        """What happened since the last call."""
        if not self._events:
            return []
        events = list(self._events)
        self._events.clear()
        return events

    @property
    def counters(self) -> Counter[str]:
        """Named counts of everything refused, dropped, decided."""
        parts = (
            self.store,
            self.membership,
            self._mill,
            self._sync,
            self._exclusion,
            self._hearing,
            self.clock,
        )
        return sum((part.counters for part in parts), Counter(self._counters))

    @property
    def incarnation(self) -> int:
        """The boot that this node lives in."""
        return self.membership.life[0]

    # -- the journal -------------------------------------------------------------------

    def snapshot(self) -> list[bytes]:
        """The signed profiles and farewells as bytes, for the journal on disk."""
        return self._hearing.snapshot()

    def restore(self, records: Iterable[bytes], now: Now) -> int:
        """Take in what :meth:`snapshot` wrote; all is verified again. How many were good.

        Nodes known only from here are ``UNKNOWN`` until they answer.
        """
        good = self._hearing.restore(records, now)
        self._settle_events(now)
        return good

    # -- messages ----------------------------------------------------------------------

    def _on_ping(self, sender: bytes, ping: Ping, now: Now) -> list[Send]:
        out = self.asking.complete(self.membership.on_ping(sender, ping, now), ping.ask, now)
        if ping.suspect is not None and ping.target == self.identity.node:
            self._hearing.statement(sender, ping.suspect, now)
            # Whoever suspects this node gets its word from itself, not by way of gossip.
            out += self._introduce(sender)
        return out

    def _load_heard(self, event: LoadHeard, now: Now) -> None:
        self.observe_load(event.node, event.load, now)
        self._emit(event)

    def _clock_was_set(self, now: Now) -> None:
        """The wall clock has jumped forward: what this node said of itself has grown old, and
        what it holds of others looks expired. Both are made new before anything is forgotten."""
        self._counters["clock_set"] += 1
        self._sweep_at = now.mono + SWEEP_S
        self._publisher.again(now)
        for peer in self.membership.some(FAREWELL_PEERS):
            self._sync.soon(peer, now.mono)

    def _introduce(self, peer: bytes, *, profile: bool = False) -> list[Send]:
        mine = self.store.get(self.identity.node)
        word = self.membership.word
        records = [mine.profile.signed] if mine and mine.profile and profile else []
        statements = [word] if word else []
        return [Send(peer, Rumours(records, statements))] if records or statements else []

    def _on_hello(self, sender: bytes, hello: Hello, now: Now) -> list[Send]:
        entry = self.store.get(sender)
        if hello.node != sender:
            self._counters["refused_hello"] += 1
            return []
        if entry is not None and hello.incarnation <= entry.incarnation:
            return []
        return [self._sync.open(sender)]

    def _on_digest(self, sender: bytes, digest: Digest, now: Now) -> list[Send]:
        compared = self._exclusion.compare(sender, digest.revoked)
        return compared + self._sync.on_digest(sender, digest, now)

    def _on_want(self, sender: bytes, want: Want, now: Now) -> list[Send]:
        asked = self._exclusion.all_for(sender) if ALL in want.records else []
        return asked + self._sync.on_want(sender, want)

    def _exclude(self, body: RevocationBody) -> None:
        """Whoever is revoked now, the node or all that an issuer certified, is forgotten."""
        for member in self.members():
            if why := self.revocations.why(member):
                self._emit(Revoked(member.node, member.name, why))
                if member.node != self.identity.node:
                    self.store.forget(member.node)
                    if self._streams is not None:
                        self._streams.peer_lost(member.node, Now(self._now, 0.0), "it was revoked")

    def _on_rumours(self, sender: bytes, rumours: Rumours, now: Now) -> list[Send]:
        self._hearing.records(sender, rumours.records, now)
        out = self._exclusion.hear(sender, rumours.revocations, now.wall)
        for signed in rumours.statements:
            out += self._hearing.statement(sender, signed, now)
        return out

    # -- settling ----------------------------------------------------------------------

    def _settle(self, now: Now) -> list[Send]:
        """Carry what the parts produced to where it belongs."""
        me = self.identity.node
        while self.membership.news:
            signed = self.membership.news.popleft()
            said = read_statement(signed)
            accusation = said.kind == Word.ACCUSATION
            if not accusation:
                self.store.keep_word(me, signed, said.life, left=False)
            key = (said.subject, WORD, me if accusation else b"")
            self._mill.add(key, signed, said.life)
        out: list[Send] = []
        while self.membership.unaware:
            node, incarnation = self.membership.unaware.popleft()
            out += self._introduce(node, profile=incarnation < self.membership.life[0])
        self._settle_events(now)
        return out

    def _settle_events(self, now: Now) -> None:
        queues = (self.store.events, self.membership.events)
        while any(queues):
            for queue in queues:
                while queue:
                    self._react(queue.popleft(), now)

    def _react(self, event: Event, now: Now) -> None:
        if isinstance(event, MemberForgotten):
            self.clock.forget(event.node)
            self.membership.remove(event.node)
            self._observed.pop(event.node, None)
        elif isinstance(event, StateChanged):
            gone = event.new in (PeerState.DEAD, PeerState.DEPARTED)
            self.store.mark_dead(event.node, event.new is PeerState.DEAD)
            if gone:
                self._observed.pop(event.node, None)
                if self._streams is not None:
                    self._streams.peer_lost(event.node, now)
            elif event.new is PeerState.ALIVE and event.old is not PeerState.SUSPECT:
                self._sync.soon(event.node, now.mono + self._rng.random() * 0.1)
        self._emit(event)

    def _emit(self, event: Event) -> None:
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self._counters["events_dropped"] += 1
        self._events.append(event)

    def _accusers(self, node: bytes) -> list[Signed]:
        peer = self.membership.peers.get(node)
        quorum = self.config.membership.quorum
        return list(peer.accusers.values())[:quorum] if peer else []

    def _load_of(self, node: bytes) -> float:
        """Fresh from a reply if there is one, else what gossip says; full if it says ill."""
        seen = self._observed.get(node)
        if seen is not None and self._now - seen[1] < self.config.announce.observed_life_s:
            return seen[0]
        status = self.store.status(node)
        if status is None:
            return 0.0
        takes = status.healthy and not status.draining
        return status.load if takes else max(status.load, 1.0)

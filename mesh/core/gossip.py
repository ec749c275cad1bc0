"""How news spreads: rumours first, push-pull anti-entropy for what they missed.

A rumour goes out with its bytes at first, to a few peers per round, and afterwards as an
announcement of its version, so that a peer that has it already costs thirty bytes and not two
thousand. Who is known to have it is not told again. Rumours alone leave
somebody out; so every few seconds each node compares one hash with one other, and where it
differs, versions, and both send what the other lacks.
"""

from __future__ import annotations

import bisect
import math
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from mesh.core.clock import Now
from mesh.core.cms import BUCKETS, HASH_BYTES, Entry, Store
from mesh.core.effects import Send
from mesh.core.identity import Signed
from mesh.core.records import Kind
from mesh.core.wire import Digest, DigestEntry, Rumours, Want

WORD = 0  # in a Want: the node's own last statement, and who accuses it
MAX_WANTED = 512  # asked for in one message: one Want must not fetch a store ten times over
MAX_UNDER_WAY = 4096  # wants remembered: announcements of what never comes fill no memory
WANT_TRIES = 5  # more, after the first
OFFERERS = 3  # of the same thing that are asked again; more would send as many copies
MAX_ENTRIES = 1000  # in one digest message: 30 kB, half of the frame limit
MAX_PART_BYTES = 32 * 1024  # of records in one message
MAX_REPLY_BYTES = 256 * 1024  # of records in one answer; the rest follows the next time
STATEMENT_BYTES = 160  # about, with its signature

Key = tuple[bytes, int, bytes]  # subject, kind of record (0: statement), accuser or empty


class GossipConfig(msgspec.Struct, frozen=True):
    """All times in seconds.

    ``period_s``: a node with news gossips once per period, at once when it was quiet before.
    Longer is quieter and slower.

    ``fanout``: peers told per period. Three reach a mesh of a thousand in five rounds along
    the tree; each further round, at random, leaves a twentieth of those still missing.

    ``eager_rounds``: how often the bytes of a profile or a statement go out before
    announcements do (of a status once: the next soon replaces it). One more costs three
    copies per node and spares a slow or lossy link the request and the answer. Five are the
    rounds that the tree needs in a mesh of a thousand: till then it is news to most.

    ``extra_rounds``: rounds beyond the logarithm (base fanout + 1) of the mesh's size. Each
    divides the chance that somebody hears of it only through anti-entropy by twenty, for
    about 100 bytes a node.

    ``max_rumours``: a flood of news pushes out what was told most often, not the memory.

    ``sync_period_s``: anti-entropy with one random peer. It bounds how long a node can miss
    something; an idle sync costs 40 bytes a second.

    ``want_again_s``: the same thing is not asked of two peers within this time. After it, and
    some times more, it is asked for again.

    ``copied_batch``: an answer with more new records than this is a library being copied to
    a newcomer, not news, and is not spread further.
    """

    period_s: float = 0.2
    fanout: int = 3
    eager_rounds: int = 5
    extra_rounds: int = 5
    max_rumours: int = 2048
    sync_period_s: float = 1.0
    want_again_s: float = 0.1
    copied_batch: int = 32


@dataclass(slots=True)
class Rumour:
    """One piece of news on its way."""

    key: Key
    signed: Signed
    version: tuple[int, int]
    serial: int
    rounds: int = 0
    told: set[bytes] = field(default_factory=set)  # it may be lost on the way
    known: set[bytes] = field(default_factory=set)  # they have shown that they have it


class RumourMill:
    """The news that this node (``me``) still spreads, newest first."""

    def __init__(self, config: GossipConfig, rng: random.Random, store: Store, me: bytes) -> None:
        self._config = config
        self._rng = rng
        self._store = store
        self._me = me
        self._ring = [me]  # all ids in their order, and who was present then
        self._ring_of: list[bytes] = []
        self._rumours: OrderedDict[Key, Rumour] = OrderedDict()
        self._by_payload: dict[bytes, Rumour] = {}
        self._serial = 0
        self._next = -math.inf
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._rumours)

    def add(
        self, key: Key, signed: Signed, version: tuple[int, int], known: Iterable[bytes] = ()
    ) -> None:
        """Spread this, but not to those ``known`` to have it; it takes the place of older
        news of the same kind and subject."""
        self._drop(key)
        if len(self._rumours) >= self._config.max_rumours:
            # The stalest goes: it was told most often and the rest hear it by anti-entropy.
            self._drop(max(self._rumours.values(), key=lambda r: r.rounds).key)
            self.counters["rumours_dropped"] += 1
        self._serial += 1
        rumour = Rumour(key, signed, version, self._serial, known=set(known))
        self._rumours[key] = rumour
        self._by_payload[signed.payload] = rumour

    def known_to(self, payload: bytes, node: bytes) -> bool:
        """This peer has it: it sent it. Whether this node is telling it too."""
        rumour = self._by_payload.get(payload)
        if rumour is not None:
            rumour.known.add(node)
        return rumour is not None

    def announced_by(self, node: bytes, entry: DigestEntry) -> None:
        """This peer announced a version: if it is the one spread here, it has it."""
        versions = ((Kind.PROFILE, entry.profile), (Kind.STATUS, entry.status))
        for kind, sequence in versions:
            rumour = self._rumours.get((entry.node, int(kind), b"")) if sequence else None
            if rumour is not None and rumour.version <= (entry.incarnation, sequence):
                rumour.known.add(node)

    def _drop(self, key: Key) -> None:
        old = self._rumours.pop(key, None)
        if old is not None:
            self._by_payload.pop(old.signed.payload, None)

    def drop_about(self, node: bytes) -> None:
        """Accusations of a node that has refuted them are no news."""
        for key in [k for k in self._rumours if k[0] == node and k[2]]:
            self._drop(key)

    def tick(self, present: list[bytes], now: Now) -> list[Send]:
        """One round, when it is due and there is news."""
        if not self._rumours or self._next > now.mono:
            return []
        self._next = now.mono + self._config.period_s
        newest = sorted(self._rumours.values(), key=lambda r: (r.rounds, -r.serial))
        out: list[Send] = []
        for peer in self._listeners(newest[0], present):
            out += self._tell(peer, newest)
        spread = math.ceil(math.log(len(present) + 2) / math.log(self._config.fanout + 1))
        for rumour in newest:
            rumour.rounds += 1
            # A status is soon replaced by the next: what it costs matters more than who misses.
            extra = self._config.extra_rounds if rumour.key[1] != Kind.STATUS else 0
            if rumour.rounds >= spread + extra or len(rumour.known) >= len(present):
                self._drop(rumour.key)
        return out

    def _listeners(self, first: Rumour, present: list[bytes]) -> list[bytes]:
        """Who is told this round: this node's branches of the newest's tree, then random peers,
        those first who have not yet heard it."""
        fanout = self._config.fanout
        chosen = [p for p in self._branches(first, present) if p not in first.known]
        if len(chosen) < fanout:
            some = self._rng.sample(present, min(len(present), 4 * fanout))
            some.sort(key=lambda peer: (peer in first.known, peer in first.told))
            chosen += [peer for peer in some if peer not in chosen]
        return chosen[:fanout]

    def _branches(self, rumour: Rumour, present: list[bytes]) -> list[bytes]:
        """Nodes that nobody else tells in this round, as long as all know the same mesh.

        Number the nodes from where the news began, in the order of their ids, to the base
        fanout + 1. A node of k digits tells, in its n-th round, those whose number is its own
        with one digit more in front, at place k + n. So news is everywhere after as many
        rounds as the mesh's size has digits. Chance alone tells many twice and needs half as
        many rounds again; it still fills in for whoever is lost or unknown.
        """
        subject, _, accuser = rumour.key
        if self._ring_of != present:  # sorting a thousand costs as much as the rest of a round
            self._ring_of = list(present)
            self._ring = sorted([*present, self._me])
        ring = self._ring
        base = self._config.fanout + 1
        start = bisect.bisect_left(ring, accuser or subject)
        number = (bisect.bisect_left(ring, self._me) - start) % len(ring)
        step = base**rumour.rounds
        while step <= number * base**rumour.rounds:
            step *= base
        return [
            ring[(start + number + digit * step) % len(ring)]
            for digit in range(1, base)
            if number + digit * step < len(ring)
        ]

    def _tell(self, peer: bytes, newest: list[Rumour]) -> list[Send]:
        records: list[Signed] = []
        statements: list[Signed] = []
        entries: list[DigestEntry] = []
        size = 0
        for rumour in newest:
            if peer in rumour.known or (rumour.key[0] == peer and not rumour.key[2]):
                continue
            if rumour.key[1] == WORD:
                if peer in rumour.told:
                    continue  # it cannot be announced, and many tell it
                statements.append(rumour.signed)
                size += STATEMENT_BYTES
            elif rumour.rounds < self._eager(rumour) and peer not in rumour.told:
                records.append(rumour.signed)
                size += len(rumour.signed.payload) + len(rumour.signed.signature)
            else:
                entries.append(self._announcement(rumour))
                size += 32
            rumour.told.add(peer)
            if size > MAX_PART_BYTES:
                break
        out = []
        if records or statements:
            out.append(Send(peer, Rumours(records, statements)))
        if entries:
            out.append(Send(peer, Digest(entries, complete=False)))
        return out

    def _eager(self, rumour: Rumour) -> int:
        return 1 if rumour.key[1] == Kind.STATUS else self._config.eager_rounds

    @staticmethod
    def _announcement(rumour: Rumour) -> DigestEntry:
        subject, kind, _ = rumour.key
        incarnation, sequence = rumour.version
        profile = sequence if kind == Kind.PROFILE else 0
        status = sequence if kind == Kind.STATUS else 0
        return DigestEntry(subject, incarnation, profile, status)

    def next_deadline(self) -> float:
        """Monotonic seconds; ``inf`` without news."""
        return self._next if self._rumours else math.inf


class _Wanted(NamedTuple):
    """Something asked for that has not come yet."""

    until: float
    peers: tuple[bytes, ...]  # who offered it, the one that was asked first
    offer: DigestEntry
    tries: int


class AntiEntropy:
    """Push-pull comparison of stores.

    ``accusers`` are a dead node's accusations on hand; ``announced`` hears which peer has
    announced which version.
    """

    def __init__(
        self,
        config: GossipConfig,
        rng: random.Random,
        store: Store,
        accusers: Callable[[bytes], list[Signed]],
        announced: Callable[[bytes, DigestEntry], None],
    ) -> None:
        self._config = config
        self._rng = rng
        self.revoked: Callable[[], bytes] = bytes  # the hash of what was revoked
        self._store = store
        self._accusers = accusers
        self._announced = announced
        self._soon: OrderedDict[bytes, float] = OrderedDict()
        self._wanted: dict[tuple[bytes, int], _Wanted] = {}
        self._next = -math.inf
        self.counters: Counter[str] = Counter()

    def soon(self, node: bytes, at: float) -> None:
        """Compare with this node shortly: it is new, back, or sent only a part."""
        self._soon[node] = min(at, self._soon.get(node, math.inf))

    def rest(self) -> None:
        """Nobody need be compared with out of turn: the stores are known to be equal."""
        self._soon.clear()

    def tick(self, present: list[bytes], now: Now) -> list[Send]:
        """Open the comparisons that are due."""
        out = self._ask_again(now)
        peers = [node for node, at in self._soon.items() if at <= now.mono]
        for node in peers:
            del self._soon[node]
        if self._next <= now.mono and present:
            # A random phase: nodes that started together must not speak together.
            self._next = now.mono + self._config.sync_period_s * self._rng.uniform(0.75, 1.25)
            peers.append(self._rng.choice(present))
        return out + [self.open(peer) for peer in peers]

    def _ask_again(self, now: Now) -> list[Send]:
        """What was wanted and has not come is asked for again, a few times, and of others that
        offered it as well: the one asked first may be slow, or unreachable from here."""
        again: dict[bytes, list[tuple[bytes, int]]] = {}
        for key in [k for k, wanted in self._wanted.items() if wanted.until <= now.mono]:
            wanted = self._wanted.pop(key)
            mine = self._store.get(key[0])
            have = _describe(key[0], mine) if mine else None
            if wanted.tries and key in _newer(wanted.offer, have):
                until = now.mono + self._config.want_again_s
                self._wanted[key] = _Wanted(until, wanted.peers, wanted.offer, wanted.tries - 1)
                for peer in wanted.peers:
                    again.setdefault(peer, []).append(key)
        return [Send(peer, Want(keys[:MAX_WANTED])) for peer, keys in again.items()]

    def open(self, peer: bytes) -> Send:
        """The first step: one hash."""
        opening = Digest([], complete=False, root=self._store.root(), revoked=self.revoked())
        return Send(peer, opening)

    def next_deadline(self) -> float:
        """Monotonic seconds."""
        due = min(self._next, min(self._soon.values(), default=math.inf))
        return min(due, min((wanted.until for wanted in self._wanted.values()), default=math.inf))

    def on_digest(self, sender: bytes, digest: Digest, now: Now) -> list[Send]:
        """The next step of a comparison, or an announcement of news."""
        if digest.buckets:
            return self._differing(sender, digest.buckets)
        if digest.root:
            if digest.root == self._store.root():
                return []
            mine = Digest([], False, self._store.root(), self._store.bucket_hashes())
            return [Send(sender, mine)]
        return self._compare(sender, digest, now)

    def _differing(self, sender: bytes, theirs: bytes) -> list[Send]:
        mine = self._store.bucket_hashes()
        if len(theirs) != len(mine):
            self.counters["refused_digest"] += 1
            return []
        ids = [
            bucket
            for bucket in range(BUCKETS)
            if mine[bucket * HASH_BYTES : (bucket + 1) * HASH_BYTES]
            != theirs[bucket * HASH_BYTES : (bucket + 1) * HASH_BYTES]
        ]
        grouped: dict[int, list[DigestEntry]] = {bucket: [] for bucket in ids}
        for node, entry in self._store.in_buckets(set(ids)):
            grouped[node[0] % BUCKETS].append(_describe(node, entry))
        parts: list[Digest] = []
        scope: list[int] = []
        entries: list[DigestEntry] = []
        for bucket, group in grouped.items():
            if entries and len(entries) + len(group) > MAX_ENTRIES:
                parts.append(Digest(entries, True, scope=scope))
                scope, entries = [], []
            scope.append(bucket)
            entries += group[:MAX_ENTRIES]
        if scope:
            parts.append(Digest(entries, True, scope=scope))
        return [Send(sender, part) for part in parts]

    def _compare(self, sender: bytes, digest: Digest, now: Now) -> list[Send]:
        wants: dict[tuple[bytes, int], DigestEntry] = {}
        offers: list[tuple[bytes, int]] = []
        for theirs in digest.entries[:MAX_ENTRIES]:
            mine = self._store.get(theirs.node)
            if not digest.scope:
                self._announced(sender, theirs)
            news = _newer(theirs, _describe(theirs.node, mine) if mine else None)
            wants.update(dict.fromkeys(news, theirs))
            if mine is not None and digest.scope:
                offers += _newer(_describe(theirs.node, mine), theirs)
        if digest.scope:
            named = {entry.node for entry in digest.entries}
            for node, entry in self._store.in_buckets(set(digest.scope)):
                if node not in named and not entry.withdrawn:
                    offers += _newer(_describe(node, entry), None)
        out = self._pack(sender, offers)
        room = min(MAX_WANTED, MAX_UNDER_WAY - len(self._wanted))
        for key in wants.keys() & self._wanted.keys():
            known = self._wanted[key]
            if sender not in known.peers and len(known.peers) < OFFERERS:
                self._wanted[key] = known._replace(peers=(*known.peers, sender))
        fresh = [want for want in wants if want not in self._wanted][: max(room, 0)]
        for want in fresh:
            until = now.mono + self._config.want_again_s
            self._wanted[want] = _Wanted(until, (sender,), wants[want], WANT_TRIES)
        if fresh:
            out.append(Send(sender, Want(fresh)))
        return out

    def on_want(self, sender: bytes, want: Want) -> list[Send]:
        """Send what was asked for, within bounds."""
        return self._pack(sender, want.records[:MAX_WANTED])

    def _pack(self, peer: bytes, items: list[tuple[bytes, int]]) -> list[Send]:
        """Records in as many messages as they need; profiles first, since they bring keys."""
        rank = (2, 0, 1)
        parts: list[Rumours] = []
        part, size, total = Rumours([], []), 0, 0
        for node, kind in sorted(items, key=lambda i: rank[i[1] % 3]):
            entry = self._store.get(node)
            if entry is None:
                continue
            if kind == WORD:
                part.statements.extend([entry.word] if entry.word else [])
                accusers = self._accusers(node) if entry.dead else []
                part.statements.extend(accusers)
                size += STATEMENT_BYTES * (len(accusers) + 1)
            else:
                kept = entry.profile if kind == Kind.PROFILE else entry.status
                if kept is None:
                    continue
                part.records.append(kept.signed)
                size += len(kept.signed.payload) + 72
            if size > MAX_PART_BYTES:
                parts.append(part)
                total += size
                part, size = Rumours([], []), 0
            if total > MAX_REPLY_BYTES:
                self.counters["replies_cut"] += 1
                break
        if part.records or part.statements:
            parts.append(part)
        return [Send(peer, part) for part in parts]


def _describe(node: bytes, entry: Entry) -> DigestEntry:
    return DigestEntry(
        node,
        entry.incarnation,
        entry.profile_seq,
        entry.status_seq,
        entry.word_counter,
        entry.dead,
    )


def _newer(there: DigestEntry, here: DigestEntry | None) -> list[tuple[bytes, int]]:
    """What the side of ``there`` has and the side of ``here`` lacks."""
    if here is None or there.incarnation > here.incarnation:
        have = (0, 0, 0, False)
    elif there.incarnation < here.incarnation:
        return []
    else:
        have = (here.profile, here.status, here.word, here.dead)
    lacks = [
        (Kind.PROFILE, there.profile > have[0]),
        (Kind.STATUS, there.status > have[1]),
        (WORD, there.word > have[2] or (there.dead and not have[3])),
    ]
    return [(there.node, int(kind)) for kind, lacking in lacks if lacking]

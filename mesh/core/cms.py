"""The capability metadata store: what every node says it can do, as far as this node knows.

Versions and digests are compared before anything is verified, the bytes that were signed are
kept as they came, and whatever is refused has a reason that is counted. Lookups never verify
and never touch a disk: the indices are kept with every merge.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import msgspec

from mesh.core.clock import Now
from mesh.core.errors import GossamerError, IdentityError, NameInvalid, WireError
from mesh.core.events import Event, MemberForgotten, MemberLearned, ProfileChanged, StatusChanged
from mesh.core.identity import CLOCK_SKEW_S, Member, Passport, Purpose, Signed, Trust, show_id
from mesh.core.name_index import NameIndex, Offer
from mesh.core.names import check_name
from mesh.core.records import (
    Endpoints,
    Kind,
    Profile,
    RecordHead,
    ServedName,
    Status,
    decode_record,
    read_head,
)

BUCKETS = 32  # of the digest: 256 bytes tell where two stores differ
HASH_BYTES = 8
MAX_LIFETIME_S = 7 * 86400.0  # a record that never expires would outlive its certificate


class StoreConfig(msgspec.Struct, frozen=True):
    """What one node may make another keep.

    ``max_members``: certificates kept, about 10 KiB each in the worst case. A mesh authority
    that signs without end (or whose key was stolen) cannot fill the memory of a board; a
    larger value costs memory on every node.

    ``burst`` and ``per_s``: new records accepted of one subject, a token bucket per kind. A
    node that signs a new status a thousand times a second would otherwise have the whole mesh
    verify and relay it. A refused one is not lost: anti-entropy brings the latest later.
    """

    max_members: int = 4096
    burst: float = 10.0
    per_s: float = 1.0


class Outcome(enum.Enum):
    """What became of a record."""

    NEW = "new"
    STALE = "stale"
    REFUSED = "refused"


class Refusal(GossamerError):
    """A record that is dropped; ``code`` is the name of its counter."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Kept:
    """One record as it came, and decoded."""

    signed: Signed
    record: Profile | Status
    arrived: float  # monotonic seconds


@dataclass(slots=True)
class Entry:
    """All that is kept of one node."""

    member: Member
    passport: Passport | None = None
    endpoints: Endpoints = field(default_factory=Endpoints)
    incarnation: int = 0
    profile: Kept | None = None
    status: Kept | None = None
    profile_seq: int = 0
    status_seq: int = 0
    word: Signed | None = None  # its own last statement
    word_counter: int = 0
    dead: bool = False
    withdrawn: bool = False  # it left: its names are gone, its version stays as a tombstone
    print: int = 0  # its share of the digest
    keep_until: float = 0.0  # wall: until then an old record of it could still come back
    tokens: float = 0.0
    tokens_at: float = 0.0


class Conditions(TypedDict, total=False):
    """Of a query: domain, model name and modality are exact, the rate is the node's own claim
    in tokens per second, and a node whose load is not known counts as idle."""

    domain: str
    model: str
    modality: str
    min_tokens_per_s: float
    max_load: float


class Store:
    """The metadata store of one node. ``wall`` clocks only expire; all order is by version.

    ``decode`` may be replaced by one that remembers: a thousand simulated nodes in a process
    need not each keep their own copy of the same record.
    """

    def __init__(self, trust: Trust, config: StoreConfig | None = None) -> None:
        self._trust = trust
        self.config = config or StoreConfig()
        self._entries: dict[bytes, Entry] = {}
        self._current: set[bytes] = set()  # payloads in store: a duplicate costs one look-up
        self._names = NameIndex()
        self._prints = [0] * BUCKETS
        self._hashes = b""  # of the buckets; empty when a print has changed since
        self._root = b""
        self.decode: Callable[[Signed, RecordHead], Profile | Status] = decode_record
        self.counters: Counter[str] = Counter()
        self.events: deque[Event] = deque()

    # -- reading -----------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, node: bytes) -> bool:
        return node in self._entries

    def get(self, node: bytes) -> Entry | None:
        """All that is known of a node, None for a stranger."""
        return self._entries.get(node)

    def members(self) -> Iterator[Member]:
        """Everybody whose certificate was checked and has not expired."""
        return (entry.member for entry in self._entries.values())

    def member(self, node: bytes) -> Member | None:
        """The checked passport's member, None for a stranger."""
        entry = self._entries.get(node)
        return entry.member if entry else None

    def profile(self, node: bytes) -> Profile | None:
        """The latest profile, None where there is none."""
        entry = self._entries.get(node)
        record = entry.profile.record if entry and entry.profile else None
        return record if isinstance(record, Profile) else None

    def status(self, node: bytes) -> Status | None:
        """The latest status, None where there is none."""
        entry = self._entries.get(node)
        record = entry.status.record if entry and entry.status else None
        return record if isinstance(record, Status) else None

    @property
    def names(self) -> NameIndex:
        """Who serves what."""
        return self._names

    def labelled(self, label: str) -> frozenset[bytes]:
        """The ids of the nodes whose certificate bears this node name."""
        return self._names.labelled(label)

    def query(self, pattern: str = "", **conditions: Unpack[Conditions]) -> list[Offer]:
        """Served names that meet every condition given; raises for a bad pattern."""
        return [
            (node, served)
            for node, served in self._names.under(pattern)
            if self._meets(node, served, conditions)
        ]

    def _meets(self, node: bytes, served: ServedName, want: Conditions) -> bool:
        profile, status = self.profile(node), self.status(node)
        if profile is None:
            return False
        models = [m for m in profile.models if not served.model or m.name == served.model]
        domain, model, modality = (want.get(k, "") for k in ("domain", "model", "modality"))
        return (
            (not domain or served.domain == domain)
            and (not model or any(m.name == model for m in models))
            and (not modality or any(modality in m.modalities for m in models))
            and profile.device.tokens_per_s >= want.get("min_tokens_per_s", 0.0)
            and (status is None or status.load <= want.get("max_load", math.inf))
        )

    # -- members -----------------------------------------------------------------------

    def admit(self, member: Member, endpoints: Endpoints | None = None) -> bool:
        """Keep a member whose passport was checked; False when the store is full.

        Endpoints given here are used until its profile says otherwise.
        """
        entry = self._entries.get(member.node)
        if entry is None:
            if len(self._entries) >= self.config.max_members and not self._evict():
                self.counters["refused_members_full"] += 1
                return False
            entry = self._entries[member.node] = Entry(member)
            self._names.label(member.node, member.name)
            self.events.append(MemberLearned(member))
        elif member.not_before < entry.member.not_before:
            self.counters["older_certificate"] += 1  # a renewed node's former rights are over
        elif entry.member != member:
            self._names.unlabel(member.node, entry.member.name)
            self._names.label(member.node, member.name)
            entry.member = member
            self.events.append(MemberLearned(member))
        if endpoints is not None:
            entry.endpoints = endpoints
        return True

    def _evict(self) -> bool:
        """Make room by forgetting somebody who is gone anyway."""
        gone = next((n for n, e in self._entries.items() if e.dead or e.withdrawn), None)
        if gone is None:
            return False
        self.forget(gone)
        self.counters["evicted"] += 1
        return True

    def forget(self, node: bytes) -> None:
        """Drop everything known of a node."""
        entry = self._entries.get(node)
        if entry is None:
            return
        self._drop(node, entry, Kind.PROFILE)
        self._drop(node, entry, Kind.STATUS)
        self._prints[node[0] % BUCKETS] ^= entry.print
        self._hashes = b""
        self._names.unlabel(node, entry.member.name)
        del self._entries[node]
        self.events.append(MemberForgotten(node, entry.member.name))

    # -- merging -----------------------------------------------------------------------

    def merge(self, signed: Signed, now: Now) -> tuple[Outcome, RecordHead | None]:
        """Take in a record from anywhere; cheap checks first, signatures last.

        Returns what became of it. Raises :class:`Refusal` with the reason (counted here) for
        a record that is dropped, which is never the fault of whoever calls.
        """
        if signed.payload in self._current:
            self.counters["stale"] += 1
            return Outcome.STALE, None
        try:
            head = read_head(signed)
            entry = self._entries.get(head.node)
            if entry is not None and self._is_old(entry, head):
                self.counters["stale"] += 1
                return Outcome.STALE, head
            self._check_times(head, now)
            self._take(signed, head, entry, now)
        except Refusal as refusal:
            self.counters[f"refused_{refusal.code}"] += 1
            raise
        except (WireError, NameInvalid) as error:
            self.counters["refused_malformed"] += 1
            raise Refusal("malformed", error.message) from error
        except IdentityError as error:
            self.counters["refused_signature"] += 1
            raise Refusal("signature", error.message) from error
        self.counters["merged"] += 1
        return Outcome.NEW, head

    @staticmethod
    def _is_old(entry: Entry, head: RecordHead) -> bool:
        """Also refuses rollback: an older record, validly signed, is old all the same."""
        if head.incarnation != entry.incarnation:
            return head.incarnation < entry.incarnation
        have = entry.profile_seq if head.kind == Kind.PROFILE else entry.status_seq
        return head.sequence <= have or entry.withdrawn

    @staticmethod
    def _check_times(head: RecordHead, now: Now) -> None:
        if head.expires <= now.wall:
            raise Refusal("expired", "a record has expired")
        if head.issued > now.wall + CLOCK_SKEW_S:
            raise Refusal(
                "future",
                f"a record of {show_id(head.node)[:8]} was issued "
                f"{head.issued - now.wall:.0f} s in the future; check that node's clock",
            )
        if head.expires - head.issued > MAX_LIFETIME_S:
            raise Refusal("lifetime", "a record claims a longer life than seven days")

    def _take(self, signed: Signed, head: RecordHead, entry: Entry | None, now: Now) -> None:
        if head.kind == Kind.STATUS and entry is None:
            # Without its profile nobody knows whose key to check it with.
            raise Refusal("unknown_subject", "a status of a node that is not known")
        record = self.decode(signed, head)
        member, passport = self._member_of(record, entry, now)
        if not self._trust.verify(member.key, Purpose.RECORD, signed):
            raise IdentityError(f"a record of {member.name!r} is not signed by it")
        self.check_rights(record, member)
        if entry is None:
            if not self.admit(member):
                raise Refusal("members_full", "the store has no room for another member")
            entry = self._entries[head.node]
        elif passport is not None:
            self.admit(member)
        self._spend(entry, now)
        if passport is not None:
            entry.passport = passport
        self._keep(signed, head, record, entry, now)

    def _member_of(
        self, record: Profile | Status, entry: Entry | None, now: Now
    ) -> tuple[Member, Passport | None]:
        """Whose key it is, and the passport when it is another than the one known."""
        if not isinstance(record, Profile):
            if entry is None:
                raise Refusal("unknown_subject", "a status of a node that is not known")
            return entry.member, None
        if entry is not None and entry.passport == record.passport:
            return entry.member, None
        member = self._trust.check(record.passport, now.wall)
        if member.node != record.node:
            raise IdentityError("a profile carries another node's passport")
        return member, record.passport

    @staticmethod
    def check_rights(record: Profile | Status, member: Member) -> None:
        """Raises :class:`Refusal` when a profile offers what its certificate does not grant."""
        if not isinstance(record, Profile):
            return
        for served in record.names:
            check_name(served.name)
            if not member.may_publish(served.name):
                raise Refusal(
                    "publish",
                    f"{member.name!r} offers {served.name!r}, which its certificate does not "
                    "grant; its profile is dropped",
                )

    def _spend(self, entry: Entry, now: Now) -> None:
        """A token of the subject's bucket; raises :class:`Refusal` when there is none."""
        config = self.config
        if entry.tokens_at == 0.0:
            entry.tokens = config.burst
        else:
            gained = (now.mono - entry.tokens_at) * config.per_s
            entry.tokens = min(config.burst, entry.tokens + gained)
        entry.tokens_at = now.mono or 1e-9
        if entry.tokens < 1.0:
            raise Refusal("rate", f"{entry.member.name!r} changes its records too often")
        entry.tokens -= 1.0

    def keep_own(self, signed: Signed, record: Profile | Status, now: Now) -> None:
        """This node's own record, just signed; raises :class:`Refusal` as others would."""
        entry = self._entries[record.node]
        self.check_rights(record, entry.member)
        if isinstance(record, Profile):
            entry.passport = record.passport
        self._keep(signed, read_head(signed), record, entry, now)

    def _keep(
        self,
        signed: Signed,
        head: RecordHead,
        record: Profile | Status,
        entry: Entry,
        now: Now,
    ) -> None:
        if head.incarnation > entry.incarnation:
            self._new_life(head.node, entry, head.incarnation)
        kept = Kept(signed, record, now.mono)
        if isinstance(record, Profile):
            self._drop(head.node, entry, Kind.PROFILE)
            entry.profile, entry.profile_seq = kept, head.sequence
            entry.endpoints = record.endpoints
            self._names.add(head.node, record.names)
            self.events.append(ProfileChanged(head.node, record))
        else:
            self._drop(head.node, entry, Kind.STATUS)
            entry.status, entry.status_seq = kept, head.sequence
            self.events.append(StatusChanged(head.node, record))
        self._current.add(signed.payload)
        entry.keep_until = max(entry.keep_until, head.expires)
        self._reprint(head.node, entry)

    def _new_life(self, node: bytes, entry: Entry, incarnation: int) -> None:
        """A later boot: what the earlier one said of its load or its leaving is void.

        The old profile stays in use until the new one is here, which is a moment later.
        """
        entry.incarnation = incarnation
        entry.profile_seq = entry.status_seq = entry.word_counter = 0
        entry.word = None
        entry.withdrawn = entry.dead = False
        self._drop(node, entry, Kind.STATUS)

    def keep_word(self, node: bytes, signed: Signed, life: tuple[int, int], *, left: bool) -> None:
        """Keep a node's own verified statement, if it is newer than the one kept."""
        entry = self._entries.get(node)
        if entry is None or life <= (entry.incarnation, entry.word_counter):
            return
        if life[0] > entry.incarnation:
            self._new_life(node, entry, life[0])
        entry.word, entry.word_counter = signed, life[1]
        entry.dead = False
        if left:
            entry.withdrawn = True
            self._drop(node, entry, Kind.PROFILE)
            self._drop(node, entry, Kind.STATUS)
        self._reprint(node, entry)

    def mark_dead(self, node: bytes, dead: bool) -> None:
        """Membership's verdict: it is part of the digest, so that stores agree on it."""
        entry = self._entries.get(node)
        if entry is not None and entry.dead != dead:
            entry.dead = dead
            self._reprint(node, entry)

    # -- dropping ----------------------------------------------------------------------

    def _drop(self, node: bytes, entry: Entry, kind: Kind) -> None:
        kept = entry.profile if kind is Kind.PROFILE else entry.status
        if kept is None:
            return
        self._current.discard(kept.signed.payload)
        if not isinstance(kept.record, Profile):
            entry.status = None
            return
        entry.profile = None
        self._names.drop(node, kept.record.names)

    def expire(self, now: Now) -> None:
        """Drop what has run out. Forgotten are nodes whose certificate has expired, and those
        gone so long that nothing of theirs can come back.

        A sweep over all members, a fraction of a millisecond for a thousand.
        """
        for node, entry in list(self._entries.items()):
            gone = (entry.dead or entry.withdrawn) and entry.keep_until <= now.wall
            if gone or entry.member.not_after <= now.wall:
                self.forget(node)
                self.counters["forgotten"] += 1
                continue
            for kind, kept in ((Kind.PROFILE, entry.profile), (Kind.STATUS, entry.status)):
                if kept is not None and kept.record.expires <= now.wall:
                    self._drop(node, entry, kind)
                    if kind is Kind.PROFILE:
                        entry.profile_seq = 0
                    else:
                        entry.status_seq = 0
                    self._reprint(node, entry)
                    self.counters["expired_records"] += 1

    # -- digests -----------------------------------------------------------------------

    def _reprint(self, node: bytes, entry: Entry) -> None:
        bucket = node[0] % BUCKETS
        self._hashes = b""
        self._prints[bucket] ^= entry.print
        entry.print = 0
        if entry.profile is None:
            return  # a newcomer cannot learn of it, so it must not make stores differ
        text = b"%b%d %d %d %d %d" % (
            node,
            entry.incarnation,
            entry.profile_seq,
            entry.status_seq,
            entry.word_counter,
            entry.dead,
        )
        entry.print = int.from_bytes(hashlib.blake2b(text, digest_size=HASH_BYTES).digest())
        self._prints[bucket] ^= entry.print

    def root(self) -> bytes:
        """One hash of all versions: equal stores have equal roots."""
        self.bucket_hashes()
        return self._root

    def bucket_hashes(self) -> bytes:
        """The hashes of the buckets, one after another."""
        if not self._hashes:
            self._hashes = b"".join(p.to_bytes(HASH_BYTES) for p in self._prints)
            self._root = hashlib.blake2b(self._hashes, digest_size=HASH_BYTES).digest()
        return self._hashes

    def in_buckets(self, scope: set[int]) -> Iterator[tuple[bytes, Entry]]:
        """The entries whose ids fall into these buckets."""
        return ((n, e) for n, e in self._entries.items() if n[0] % BUCKETS in scope)

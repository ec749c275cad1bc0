"""What a node makes of the records and statements that it is told, from peers or from disk."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from mesh.core.clock import Now
from mesh.core.cms import Outcome, Refusal, Store
from mesh.core.effects import Send
from mesh.core.errors import GossamerError, IdentityError, WireError
from mesh.core.events import Event, IncarnationRaised, PeerState, RecordRefused
from mesh.core.gossip import WORD, RumourMill
from mesh.core.identity import Purpose, Signed, Trust
from mesh.core.membership import Membership
from mesh.core.mesh_time import MeshTime
from mesh.core.publishing import Publisher
from mesh.core.records import Kind, Profile, RecordHead, read_head
from mesh.core.statements import Word, read_statement


class Hearing:
    """Verified news goes to the store, to membership, and on to others; the rest is counted.

    ``me`` is this node's id. ``copied_batch``: see :class:`mesh.core.gossip.GossipConfig`.
    """

    def __init__(
        self,
        me: bytes,
        store: Store,
        membership: Membership,
        mill: RumourMill,
        publisher: Publisher,
        emit: Callable[[Event], None],
        copied_batch: int,
        trust: Trust,
        clock: MeshTime,
    ) -> None:
        self._me = me
        self._store = store
        self._membership = membership
        self._mill = mill
        self._publisher = publisher
        self._emit = emit
        self._copied_batch = copied_batch
        self._trust = trust
        self._clock = clock
        self.counters: Counter[str] = Counter()

    def records(
        self, sender: bytes, records: Iterable[Signed], now: Now, *, spread: bool = True
    ) -> None:
        """A batch of records; what is new is spread further unless it is a whole library."""
        news: list[tuple[Signed, RecordHead]] = []
        for signed in records:
            self._mill.known_to(signed.payload, sender)
            try:
                outcome, head = self._store.merge(signed, now)
            except Refusal as refusal:
                self._refused(sender, signed, refusal)
                if refusal.code in ("signature", "malformed"):
                    break  # honest nodes verify before they relay: the rest costs nothing
                if refusal.code == "future" and self._clock.doubtful:
                    self._acquaint(signed, now)
                continue
            if head is None:
                continue
            if head.node == self._me:
                self._seen_own(head, now)
            elif outcome is Outcome.NEW:
                self._meet(head, now, heard=True)
                news.append((signed, head))
        if spread and len(news) <= self._copied_batch:
            for signed, head in news:
                key = (head.node, head.kind, b"")
                self._mill.add(key, signed, head.version, (sender, head.node))

    def _acquaint(self, signed: Signed, now: Now) -> None:
        """A board without a clock cannot believe what comes from its future, but may meet who
        signed it, as at a door, and ask for the time."""
        with contextlib.suppress(GossamerError):
            head = read_head(signed)
            if head.kind != Kind.PROFILE or head.node in self._store:
                return
            record = self._store.decode(signed, head)
            assert isinstance(record, Profile)
            member = self._trust.check(record.passport, now.wall)
            signs = self._trust.verify(member.key, Purpose.RECORD, signed)
            if member.node == head.node and signs and self._store.admit(member, record.endpoints):
                self._membership.add(member, heard=True, now=now)

    def _meet(self, head: RecordHead, now: Now, *, heard: bool) -> None:
        """The subject of a verified record is a member; a later boot starts it afresh."""
        member = self._store.member(head.node)
        if member is None:
            return
        self._membership.add(member, heard=heard, now=now)
        peer = self._membership.peers.get(head.node)
        if peer is not None and head.incarnation > peer.life[0]:
            alive_before = peer.state is PeerState.UNKNOWN and not heard
            if alive_before:
                peer.life = (head.incarnation, 0)
            else:
                self._membership.new_life(head.node, (head.incarnation, 0), now)
                self._mill.drop_about(head.node)

    def statement(self, sender: bytes, signed: Signed, now: Now) -> list[Send]:
        """One statement; probes that it gives reason for."""
        if self._mill.known_to(signed.payload, sender):
            return []  # verified before, and being told on
        try:
            said = read_statement(signed)
            new, out = self._membership.hear(signed, said, now)
        except WireError as error:
            self._refused(sender, signed, Refusal("malformed", error.message))
            return []
        except IdentityError as error:
            self._refused(sender, signed, Refusal("signature", error.message))
            return []
        if new:
            accusation = said.kind == Word.ACCUSATION
            if not accusation:
                self._mill.drop_about(said.subject)
                left = said.kind == Word.LEAVE
                self._store.keep_word(said.subject, signed, said.life, left=left)
            key = (said.subject, WORD, said.by if accusation else b"")
            self._mill.add(key, signed, said.life, (sender, said.by))
        return out

    def _refused(self, sender: bytes, signed: Signed, refusal: Refusal) -> None:
        self.counters[f"refused_from_peer_{refusal.code}"] += 1
        subject = b""
        with contextlib.suppress(WireError):
            subject = read_head(signed).node
        self._emit(RecordRefused(subject, sender, refusal.code, refusal.message))

    def _seen_own(self, head: RecordHead, now: Now) -> None:
        """The mesh knows a later boot of this node than its disk: go past it, and say so."""
        if head.incarnation <= self._membership.life[0]:
            return
        raised = self._membership.raise_incarnation(head.incarnation)
        self._emit(IncarnationRaised(raised))
        self._publisher.again(now)

    # -- the journal -------------------------------------------------------------------

    def snapshot(self) -> list[bytes]:
        """The others' signed profiles and farewells as bytes."""
        kept: list[Signed] = []
        for member in self._store.members():
            entry = self._store.get(member.node)
            if entry is None or member.node == self._me:
                continue
            kept += [entry.profile.signed] if entry.profile else []
            kept += [entry.word] if entry.word else []
        return [msgspec.msgpack.encode(signed) for signed in kept]

    def restore(self, records: Iterable[bytes], now: Now) -> int:
        """What :meth:`snapshot` wrote, verified again; how many were good."""
        good = 0
        for raw in records:
            try:
                signed = msgspec.msgpack.decode(raw, type=Signed)
                good += self._restore_one(signed, now)
            except (msgspec.MsgspecError, ValueError, Refusal, IdentityError):
                self.counters["refused_journal"] += 1
        return good

    def _restore_one(self, signed: Signed, now: Now) -> bool:
        try:
            said = read_statement(signed)  # its third field is no number: never a record
        except WireError:
            return self._restore_record(signed, now)
        new, _ = self._membership.hear(signed, said, now)
        if new and said.kind != Word.ACCUSATION:
            left = said.kind == Word.LEAVE
            self._store.keep_word(said.subject, signed, said.life, left=left)
        return new

    def _restore_record(self, signed: Signed, now: Now) -> bool:
        outcome, head = self._store.merge(signed, now)
        if outcome is Outcome.NEW and head is not None:
            self._meet(head, now, heard=False)
        return outcome is Outcome.NEW

"""A node's standing in its mesh: its certificate, its desk if it is an issuer, who is out.

Renews the certificate before it ends, without a restart; keeps the issuer's book on disk;
looks again at the streams that run, so that no right outlives what it rests on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mesh.core.errors import AccessDenied, ConfigError, GossamerError, IdentityError, PeerLost
from mesh.core.events import Revoked
from mesh.core.identity import LocalIdentity, Passport, read_certificate, show_id
from mesh.core.invitations import Token
from mesh.core.issuing import Desk, renewal_due
from mesh.core.revocation import RevocationBody, read_id, revoke
from mesh.core.signing import read_signed
from mesh.core.wire import Certified, Renew, Revocation
from mesh.net.door import ask_door
from mesh.net.issuer import book_bytes, open_issuer, read_book, write_book
from mesh.net.journal import read_journal, write_journal
from mesh.net.statedir import parse_seed, write_identity

if TYPE_CHECKING:
    from mesh.net.node import MeshNode

log = logging.getLogger("gossamer.mesh")

REVOCATIONS_FILE = "revocations.mpk"
CLOCK_LOOK_S = 10.0  # between two looks at whether somebody sets this machine's clock
RECHECK_S = 1.0  # between two looks at whether running streams are still allowed
RENEW_LOOK_S = 60.0  # the wall clock may jump: it is looked at, never slept on for a month
RENEW_RETRY_S = 2.0  # after a failed renewal, at first
RENEW_RETRY_MOST_S = 3600.0
RENEW_ASKED = 8  # members asked in one try, beside the doors that are known to certify


class Standing:
    """What a :class:`MeshNode` is in its mesh, beside what it does there."""

    def __init__(self, node: MeshNode) -> None:
        self._node = node
        self.counters: Counter[str] = Counter()
        self.desk: Desk | None = None
        self._writing = asyncio.Lock()
        self._rng = random.SystemRandom()
        self._open_desk()

    def _open_desk(self) -> None:
        node = self._node
        try:
            issuer = open_issuer(node.state.path)
            if issuer is None:
                return
            self.desk = Desk(
                issuer.private,
                issuer.paper,
                node.trust,
                node.identity.mesh_name,
                read_book(node.state.path),
                random.SystemRandom().randbytes,
                node.now().wall,
                node.core.store.labelled,
            )
        except GossamerError as error:
            # The node can do all else; people are told why it cannot invite.
            node.on_trouble(f"this node issues no certificates: {error.sentence()}")

    def start(self) -> None:
        """Begin to watch; the tasks end with the node's."""
        self._node.spawn(self._keep_certificate())
        self._node.spawn(self._keep_checking())
        self._node.spawn(self._keep_time())

    def all_counters(self) -> Counter[str]:
        """Named counts of what was given, refused, renewed."""
        parts = [self.counters, self._node.door.counters, self._node.core.revocations.counters]
        if self.desk is not None:
            parts.append(self.desk.counters)
        return sum(parts, Counter())

    # -- inviting ---------------------------------------------------------------------------

    async def invite(self, **wishes: Any) -> tuple[str, float]:
        """An invitation's token and when it ends (wall seconds).

        ``wishes`` are those of :meth:`Desk.invite`. Raises :class:`AccessDenied` at a node
        that is no issuer, :class:`IdentityError` for more than the issuer may give.
        """
        node, desk = self._node, self.require_desk()
        address = node.endpoints.admission
        if not address:
            raise ConfigError(
                "nobody could redeem an invitation here: this node cannot be dialled",
                hint="invite from a node that can, or set advertise in its configuration",
            )
        secret, invitation = desk.invite(node.now().wall, **wishes)
        await self.keep_book()
        token = Token(node.trust.mesh, node.keys.curve, secret, (address,), invitation.name)
        log.info("invited %s until %.0f", invitation.name or "somebody", invitation.expires)
        return token.text(), invitation.expires

    def require_desk(self) -> Desk:
        """The desk; raises :class:`AccessDenied` at a node that is no issuer."""
        if self.desk is None:
            raise AccessDenied(
                f"{self._node.me.name} holds no issuer's key",
                hint="ask an issuer, or appoint this node: gossamer mesh issuer OWNER DIRECTORY",
            )
        return self.desk

    async def keep_book(self) -> None:
        """The book on disk, as it is now; raises :class:`ConfigError` when it cannot be."""
        async with self._writing:
            data = book_bytes(self.require_desk().book)
            await asyncio.to_thread(write_book, self._node.state.path, data)

    # -- revoking ---------------------------------------------------------------------------

    async def revoke(self, who: str, reason: str) -> dict[str, Any]:
        """Take a node out that this issuer certified. ``who`` is a name or a whole id.

        Raises :class:`AccessDenied` at a node that is no issuer, and for a node that another
        key certified: only that issuer, or the authority, may revoke it.
        """
        node, desk = self._node, self.require_desk()
        target, name = self._find(who, desk)
        member = node.core.member(target)
        if target == node.me.node:
            raise AccessDenied("a node does not revoke itself", hint="stop it instead")
        if member is not None and member.issuer != desk.issuer.id:
            raise AccessDenied(
                f"{name} was certified by another key than this node's",
                hint=f"with the owner's directory at hand: gossamer revoke {name} --authority DIR",
            )
        now = node.now()
        revocation = revoke(
            desk.issuer.id,
            desk.sign,
            node.trust.mesh,
            target,
            name=name,
            reason=reason,
            wall=now.wall,
            until=desk.issuer.not_after,  # nothing that it certified runs longer
            paper=desk.paper,
        )
        return await self.spread(revocation)

    def _find(self, who: str, desk: Desk) -> tuple[bytes, str]:
        for member in self._node.core.members():
            if who in {member.name, show_id(member.node)}:
                return member.node, member.name
        for issued in desk.book.issued.values():
            if who in {issued.name, show_id(issued.node)}:
                return issued.node, issued.name
        return read_id(who), who[:8]

    async def spread(self, revocation: Revocation) -> dict[str, Any]:
        """Honour a revocation and tell the others; raises IdentityError for a forged one."""
        node = self._node
        before = len(node.core.revocations)
        sends = node.core.revoke(revocation, node.now())
        node.emit(sends)
        await self._keep_revocations()
        body = read_signed(revocation.statement, RevocationBody)
        return {
            "node": show_id(body.node),
            "name": body.name,
            "reason": body.reason,
            "told": len({send.to for send in sends}),
            "new": len(node.core.revocations) > before,
        }

    def on_revoked(self, event: Revoked) -> None:
        """The core has taken somebody out: tell people, and write it down."""
        mine = event.node == self._node.me.node
        who = "this node" if mine else event.name
        self._node.on_trouble(f"{who} was revoked: {event.reason}")
        self._node.spawn(self._keep_revocations())

    async def restore(self) -> None:
        """Revocations of earlier runs, before anything else is believed."""
        node, now = self._node, self._node.now()
        for raw in await asyncio.to_thread(read_journal, self._revocations_path):
            try:
                node.core.revoke(msgspec.msgpack.decode(raw, type=Revocation), now)
            except (GossamerError, msgspec.MsgspecError):
                self.counters["revocations_not_restored"] += 1

    @property
    def _revocations_path(self) -> Path:
        return self._node.state.path / REVOCATIONS_FILE

    async def _keep_revocations(self) -> None:
        try:
            async with self._writing:
                kept = [msgspec.msgpack.encode(r) for r in self._node.core.revocations.all()]
                await asyncio.to_thread(write_journal, self._revocations_path, kept)
        except ConfigError as error:  # the mesh remembers; people are told
            self._node.on_trouble(error.sentence())

    # -- renewing ---------------------------------------------------------------------------

    async def _keep_certificate(self) -> None:
        """Renew in time, again and again."""
        node = self._node
        held, due, wait_s = b"", 0.0, RENEW_RETRY_S
        while True:
            me, wall = node.me, node.now().wall
            if me.serial != held:
                held, wait_s = me.serial, RENEW_RETRY_S
                due = renewal_due(me.not_before, me.not_after, self._rng)
            if wall < due:
                await asyncio.sleep(min(due - wall, RENEW_LOOK_S))
            elif not await self._renew():
                left = max(0.0, me.not_after - wall)
                await asyncio.sleep(max(RENEW_RETRY_S / 4, min(wait_s, left / 4)))
                wait_s = min(wait_s * 2, RENEW_RETRY_MOST_S)

    async def _renew(self) -> bool:
        """Ask whoever may renew; whether it worked."""
        trouble = "no issuer is known"
        try:
            if self.desk is not None and (certified := await self._renew_here(self.desk)):
                await self.adopt(certified)
                return True
            for address, curve in self._doors():
                try:
                    certified = await self._ask(address, curve)
                    await self.adopt(certified)
                except (IdentityError, PeerLost) as error:
                    trouble = error.sentence()
                else:
                    return True
        except GossamerError as error:
            trouble = error.sentence()
        left_h = (self._node.me.not_after - self._node.now().wall) / 3600
        self.counters["renewals_failed"] += 1
        self._node.on_trouble(
            f"the certificate of this node ends in {left_h:.1f} h and was not renewed: {trouble}"
        )
        return False

    async def _renew_here(self, desk: Desk) -> Certified | None:
        node = self._node
        try:
            certified = desk.renew(node.passport, node.keys.curve, node.now().wall)
        except IdentityError:
            return None  # beyond its own limits: another issuer may
        await self.keep_book()
        return certified

    async def _ask(self, address: str, curve: bytes) -> Certified:
        node = self._node
        message = Renew(node.passport)
        reply = await ask_door(node.context, node.keys, address, curve, message)
        if not isinstance(reply, Certified):
            raise IdentityError(f"{address} answered with something else than a certificate")
        return reply

    def _doors(self) -> list[tuple[str, bytes]]:
        """Where a certificate may be renewed: who gave it first, then seeds, then members."""
        node = self._node
        doors: dict[tuple[str, bytes], None] = {}
        for seed in (*node.identity.doors, *node.config.seeds):
            doors[parse_seed(seed)] = None
        others = [m for m in node.core.members() if m.node != node.me.node]
        # The node that holds the issuer's key may have moved since.
        for member in self._rng.sample(others, min(len(others), RENEW_ASKED)):
            if address := node.core.endpoints(member.node).admission:
                doors[address, member.curve] = None
        return [door for door in doors if door[1] != node.keys.curve]

    async def adopt(self, certified: Certified) -> None:
        """Stand by a newer certificate from now on; raises when it is not one for this node."""
        node = self._node
        identity = msgspec.structs.replace(
            node.identity, certificate=certified.certificate, issuer=certified.issuer
        )
        passport = identity.passport()
        member = node.trust.check(passport, node.now().wall)
        if member.not_after <= node.me.not_after:
            raise IdentityError("the new certificate does not last longer")
        LocalIdentity(node.keys, passport, node.trust)  # raises for other keys than ours
        await asyncio.to_thread(write_identity, node.state.path, identity)
        node.identity = identity
        self._show(passport)
        self.counters["renewed"] += 1
        log.info("the certificate of this node was renewed until %.0f", member.not_after)

    def _show(self, passport: Passport) -> None:
        node = self._node
        node.core.identity.renew(passport)
        node.me = node.core.identity.member
        node.show_passport(passport)

    # -- looking again ----------------------------------------------------------------------

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_S)
            self._node.calls.recheck()

    async def _keep_time(self) -> None:
        """Follow what the kernel says of its clock, and tell people when it is not believed."""
        node, clock, told = self._node, self._node.state.clock, ""
        while True:
            await asyncio.to_thread(node.state.believe, read_certificate(node.passport.certificate))
            state = clock.state
            if state != told and (line := clock.explain()):
                node.on_trouble(line)
            told = state
            await asyncio.sleep(CLOCK_LOOK_S)

    def describe(self) -> dict[str, Any]:
        """For `gossamer status`."""
        me, wall = self._node.me, self._node.now().wall
        return {
            "certificate_ends_in_s": round(me.not_after - wall),
            "certified_by": show_id(me.issuer),
            "issues_as": show_id(self.desk.issuer.id) if self.desk else "",
            "revoked": len(self._node.core.revocations),
            "clock": self._node.state.clock.state,
            "clock_behind_s": round(self._node.state.clock.behind_s),
        }

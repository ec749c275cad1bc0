"""The issuer's desk: who gets a certificate, and who gets a longer one.

It holds a key that the mesh's authority appointed, within limits, and the book of its
invitations. It decides; the shell keeps the book on disk before an answer leaves, so that no
power cut gives a use back.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from mesh.core.errors import IdentityError
from mesh.core.identity import (
    KEY_BYTES,
    CurveBody,
    Member,
    Passport,
    Purpose,
    RandomBytes,
    Signed,
    Trust,
    bounded,
    certificate_body,
    fingerprint,
    read_certificate,
    sign,
)
from mesh.core.invitations import Book, Invitation, Issued
from mesh.core.names import check_node_name
from mesh.core.signing import read_signed
from mesh.core.wire import Certified, Redeem

DAY_S = 86400.0
DEFAULT_VALID_S = 30 * DAY_S
SERIAL_BYTES = 8
# Renewal is due after two thirds of the validity: a node that was off for a week still has ten
# days of a month's certificate to find an issuer.
RENEW_AT = 2 / 3
RENEW_JITTER = 0.05  # of the validity, either way: nodes made together must not come together


class Desk:
    """Certifies for the mesh. ``taken`` gives the ids of the members that bear a name."""

    def __init__(
        self,
        private: bytes,
        paper: Signed,
        trust: Trust,
        mesh_name: str,
        book: Book,
        random_bytes: RandomBytes,
        wall: float,
        taken: Callable[[str], Iterable[bytes]] = lambda name: (),
    ) -> None:
        self.issuer = trust.check_issuer(paper, wall)
        if trust.scheme.public(private) != self.issuer.key:
            raise IdentityError("the issuer's key is not the one that its paper speaks of")
        self.paper = paper
        self.book = book
        self.counters: Counter[str] = Counter()
        self._private = private
        self._trust = trust
        self._mesh_name = mesh_name
        self._random = random_bytes
        self._taken = taken

    def invite(
        self,
        wall: float,
        *,
        groups: tuple[str, ...] = (),
        publish: tuple[str, ...] = (),
        name: str = "",
        valid_s: float = 0.0,
        renews: bool = True,
        uses: int = 1,
        life_s: float = 3600.0,
    ) -> tuple[bytes, Invitation]:
        """A secret and what it is good for; ``valid_s`` 0: a month, or what the issuer may.

        Raises :class:`IdentityError` for more than this issuer may give.
        """
        valid_s = valid_s or min(DEFAULT_VALID_S, self.issuer.max_validity_s)
        if life_s <= 0 or valid_s <= 0:
            raise IdentityError("an invitation, and its certificate, last longer than no time")
        self._trust.check_issuer(self.paper, wall)
        self.issuer.check_covers(groups, publish, valid_s)
        probe = certificate_body(
            self._trust.mesh,
            self.issuer.key,
            self.issuer.key,
            name or "a",
            groups,
            publish,
            wall,
            wall + valid_s,
            bytes(SERIAL_BYTES),
        )
        bounded(self.sign(Purpose.ISSUED, probe))
        if name:
            self._check_free(name, b"", wall)
        self.counters["invitations_made"] += 1
        return self.book.open(
            self._random,
            wall,
            groups=groups,
            publish=publish,
            name=name,
            valid_s=valid_s,
            renews=renews,
            uses=uses,
            life_s=life_s,
        )

    def redeem(self, asked: Redeem, curve: bytes, wall: float) -> Certified:
        """A certificate for a newcomer that speaks over a link of ``curve``.

        The use is spent and the book changed when this returns; keep the book before the
        answer leaves. Raises :class:`IdentityError`.
        """
        node = self._check_proof(asked, curve)
        invitation = self.book.find(asked.secret, node, wall)
        name = invitation.used_by.get(node.hex()) or self._name_for(asked, invitation)
        check_node_name(name)
        self._check_free(name, node, wall)
        if why := self._trust.revoked(self._as_member(node, name)):
            raise IdentityError(
                f"this key was revoked: {why}", hint="join with a new, empty state directory"
            )
        self.book.spend(invitation, node, name)
        self.counters["invitations_redeemed"] += 1
        return self._certify(
            asked.key,
            name,
            invitation.groups,
            invitation.publish,
            invitation.valid_s,
            invitation.renews,
            wall,
        )

    def renew(self, passport: Passport, curve: bytes, wall: float) -> Certified:
        """The same certificate for longer, for the member that shows it over its own link."""
        member = self._trust.check(passport, wall)
        if member.curve != curve:
            raise IdentityError("a certificate is renewed over a link of its own key")
        body = read_certificate(passport.certificate)
        mine = self.book.issued.get(member.node.hex())
        if member.issuer == self.issuer.id:
            renews = mine is not None and mine.renews
        else:
            renews = passport.issuer is None and self.issuer.renews
        if not renews:
            raise IdentityError(
                f"the certificate of {member.name!r} is not to be renewed here",
                hint="ask for a new invitation",
            )
        validity_s = min(body.not_after - body.not_before, self.issuer.max_validity_s)
        self.issuer.check_covers(member.groups, member.publish, validity_s)
        self.counters["certificates_renewed"] += 1
        return self._certify(
            member.key, member.name, member.groups, member.publish, validity_s, True, wall
        )

    def _check_proof(self, asked: Redeem, curve: bytes) -> bytes:
        if len(asked.key) != KEY_BYTES or asked.curve != curve or asked.proof is None:
            raise IdentityError("the keys to certify are not those of the link")
        node = fingerprint(asked.key)
        body = read_signed(asked.proof, CurveBody)
        if not self._trust.verify(asked.key, Purpose.CURVE, asked.proof) or body != CurveBody(
            node, curve
        ):
            raise IdentityError("the newcomer does not hold the key that it wants certified")
        return node

    @staticmethod
    def _name_for(asked: Redeem, invitation: Invitation) -> str:
        if invitation.name and asked.name not in {"", invitation.name}:
            raise IdentityError(f"this invitation is for a node named {invitation.name!r}")
        name = asked.name or invitation.name or asked.suggestion
        if not name:
            raise IdentityError("the node needs a name", hint="add --name pi-kitchen, say")
        return name

    def _check_free(self, name: str, node: bytes, wall: float) -> None:
        holder = self.book.holder(name, wall)
        others = {other for other in self._taken(name) if other != node}
        if holder is not None and holder != node:
            others.add(holder)
        if any(not self._trust.revoked(self._as_member(other, name)) for other in others):
            raise IdentityError(
                f"another node is named {name!r}",
                hint="choose another --name, or have the old one revoked: gossamer revoke " + name,
            )

    def _certify(
        self,
        key: bytes,
        name: str,
        groups: tuple[str, ...],
        publish: tuple[str, ...],
        valid_s: float,
        renews: bool,
        wall: float,
    ) -> Certified:
        self._trust.check_issuer(self.paper, wall)
        body = certificate_body(
            self._trust.mesh,
            self.issuer.key,
            key,
            name,
            groups,
            publish,
            wall,
            min(wall + valid_s, self.issuer.not_after),
            self._random(SERIAL_BYTES),
        )
        self.book.note(Issued(node=body.node, name=name, not_after=body.not_after, renews=renews))
        signed = bounded(self.sign(Purpose.ISSUED, body))
        return Certified(signed, self._trust.authority_key, self.paper, self._mesh_name)

    def _as_member(self, node: bytes, name: str) -> Member:
        """A node of which nothing but its id is certain, as revocations look at it."""
        return Member(node, name, (), (), b"", b"", 0.0, b"", issuer=self.issuer.id)

    def sign(self, purpose: str, body: msgspec.Struct) -> Signed:
        """``body`` signed with the issuer's key."""
        return sign(self._private, purpose, self._trust.mesh, body, self._trust.scheme)


def renewal_due(not_before: float, not_after: float, rng: random.Random) -> float:
    """The wall time at which a certificate should be renewed."""
    jitter = rng.uniform(-RENEW_JITTER, RENEW_JITTER)
    return not_before + (not_after - not_before) * (RENEW_AT + jitter)

"""Keys, the mesh authority, node certificates and passports.

A mesh authority signs a node's certificate: its name, groups, publish rights, validity and
Ed25519 key. That key signs the node's CURVE key. Both together are a *passport*: whoever
checks it knows which certified node speaks on a CURVE link.

The authority's key can stay offline: it signs, once, what an *issuer* may certify in its name
(groups, publish rights, for how long), and a passport then carries that paper too.

    authority ─▶ certificate ─▶ CURVE key
    authority ─▶ issuer, with limits ─▶ certificate within them ─▶ CURVE key

Every signature is made over a context that names its purpose and the mesh, so that none can
be used for another. Randomness is handed in; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mesh.core.errors import IdentityError
from mesh.core.names import check_node_name, check_pattern, covers, matches
from mesh.core.signing import (
    ED25519,
    ID_BYTES,
    KEY_BYTES,
    SIGNATURE_BYTES,
    Ed25519Scheme,
    Purpose,
    SignatureScheme,
    Signed,
    fingerprint,
    read_signed,
    show_id,
    sign,
    signing_context,
)

__all__ = [
    # what is signed and how stands in mesh.core.signing; who speaks of identity needs both
    "ED25519",
    "ID_BYTES",
    "KEY_BYTES",
    "SIGNATURE_BYTES",
    "Ed25519Scheme",
    "Purpose",
    "SignatureScheme",
    "Signed",
    "fingerprint",
    "show_id",
    "sign",
    "signing_context",
    "ANY_GROUP",
    "Authority",
    "CertificateBody",
    "CLOCK_SKEW_S",
    "CurveBody",
    "IssuerBody",
    "LocalIdentity",
    "Member",
    "NodeKeys",
    "Passport",
    "RandomBytes",
    "Trust",
    "bounded",
    "certificate_body",
    "make_passport",
    "new_keys",
    "read_certificate",
    "sign_curve",
]

RandomBytes = Callable[[int], bytes]

MAX_GROUPS = 32
MAX_PUBLISH = 64
MAX_PAPER_BYTES = 1500  # a passport holds two and must fit a frame at the admission socket
ANY_GROUP = ("*",)  # of an issuer: it may give every group
CLOCK_SKEW_S = 300.0  # a certificate issued by a clock that runs ahead is still believed


class CertificateBody(msgspec.Struct, frozen=True, array_like=True):
    """What the authority says of a node. ``publish`` are name patterns it may offer."""

    mesh: bytes
    node: bytes
    key: bytes
    name: str
    groups: tuple[str, ...]
    publish: tuple[str, ...]
    not_before: float  # wall seconds
    not_after: float
    serial: bytes
    issuer: bytes


class IssuerBody(msgspec.Struct, frozen=True, array_like=True):
    """What the authority lets another key certify, and nothing beyond it.

    ``groups``: groups that it may give; ``("*",)`` is any. ``publish``: patterns that cover
    all it may grant. ``max_validity_s`` bounds each certificate, and none outlasts
    ``not_after``. ``renews``: whether it may renew what the authority itself certified.
    """

    mesh: bytes
    key: bytes
    name: str
    groups: tuple[str, ...]
    publish: tuple[str, ...]
    max_validity_s: float
    not_before: float  # wall seconds
    not_after: float
    serial: bytes
    renews: bool = True

    @property
    def id(self) -> bytes:
        """How certificates and revocations name this issuer."""
        return fingerprint(self.key)

    def check_covers(
        self, groups: tuple[str, ...], publish: tuple[str, ...], validity_s: float
    ) -> None:
        """Raises :class:`IdentityError` that names what this issuer may not give."""
        if self.groups != ANY_GROUP:
            for group in groups:
                if group not in self.groups:
                    raise IdentityError(f"the issuer {self.name!r} may not give group {group!r}")
        for pattern in publish:
            if not any(covers(limit, pattern) for limit in self.publish):
                raise IdentityError(f"the issuer {self.name!r} may not grant {pattern!r}")
        if validity_s > self.max_validity_s:
            raise IdentityError(
                f"the issuer {self.name!r} certifies for at most {self.max_validity_s:.0f} s"
            )


class CurveBody(msgspec.Struct, frozen=True, array_like=True):
    """What a node says of its transport key."""

    node: bytes
    curve: bytes


class Passport(msgspec.Struct, frozen=True, array_like=True):
    """A certificate and the CURVE key that its holder speaks with; ``issuer`` is the paper of
    the issuer that signed the certificate, None where the authority did."""

    certificate: Signed
    curve: Signed
    issuer: Signed | None = None


class Member(msgspec.Struct, frozen=True):
    """A node whose passport has been checked."""

    node: bytes
    name: str
    groups: tuple[str, ...]
    publish: tuple[str, ...]
    key: bytes
    curve: bytes
    not_after: float
    serial: bytes
    not_before: float = 0.0
    issuer: bytes = b""  # id of the key that signed the certificate

    def may_publish(self, name: str) -> bool:
        """Whether the certificate grants the name."""
        return any(matches(pattern, name) for pattern in self.publish)


class NodeKeys(msgspec.Struct, frozen=True):
    """A node's secrets: both private keys, 32 bytes each."""

    signing: bytes
    curve_secret: bytes

    @property
    def key(self) -> bytes:
        """The Ed25519 public key."""
        return ED25519.public(self.signing)

    @property
    def curve(self) -> bytes:
        """The CURVE public key."""
        secret = X25519PrivateKey.from_private_bytes(self.curve_secret)
        return secret.public_key().public_bytes_raw()

    @property
    def node(self) -> bytes:
        """The node's id."""
        return fingerprint(self.key)


def new_keys(random_bytes: RandomBytes) -> NodeKeys:
    """Fresh keys for a node."""
    return NodeKeys(signing=random_bytes(KEY_BYTES), curve_secret=random_bytes(KEY_BYTES))


class Authority:
    """The signer of a mesh. Its private key may stay offline."""

    def __init__(self, private: bytes, scheme: SignatureScheme = ED25519) -> None:
        self._private = private
        self._scheme = scheme
        self.key = scheme.public(private)
        self.mesh = fingerprint(self.key)

    def appoint(
        self,
        *,
        key: bytes,
        name: str,
        groups: tuple[str, ...],
        publish: tuple[str, ...],
        max_validity_s: float,
        not_before: float,
        not_after: float,
        serial: bytes,
        renews: bool = True,
    ) -> Signed:
        """The paper of an issuer that holds the private part of ``key``."""
        check_node_name(name)
        for pattern in publish:
            check_pattern(pattern)
        body = IssuerBody(
            mesh=self.mesh,
            key=key,
            name=name,
            groups=groups,
            publish=publish,
            max_validity_s=max_validity_s,
            not_before=not_before,
            not_after=not_after,
            serial=serial,
            renews=renews,
        )
        return bounded(sign(self._private, Purpose.ISSUER, self.mesh, body, self._scheme))

    def certify(
        self,
        *,
        key: bytes,
        name: str,
        groups: tuple[str, ...],
        publish: tuple[str, ...],
        not_before: float,
        not_after: float,
        serial: bytes,
    ) -> Signed:
        """A certificate for the node that holds ``key``; raises for a name out of grammar."""
        body = certificate_body(
            self.mesh, self.key, key, name, groups, publish, not_before, not_after, serial
        )
        return bounded(sign(self._private, Purpose.CERTIFICATE, self.mesh, body, self._scheme))

    def sign(self, purpose: str, body: msgspec.Struct) -> Signed:
        """``body`` signed by the authority for ``purpose``."""
        return sign(self._private, purpose, self.mesh, body, self._scheme)


def certificate_body(
    mesh: bytes,
    signer: bytes,
    key: bytes,
    name: str,
    groups: tuple[str, ...],
    publish: tuple[str, ...],
    not_before: float,
    not_after: float,
    serial: bytes,
) -> CertificateBody:
    """What ``signer`` is about to sign for the holder of ``key``; raises for a bad name."""
    check_node_name(name)
    for pattern in publish:
        check_pattern(pattern)
    if len(groups) > MAX_GROUPS or len(publish) > MAX_PUBLISH:
        raise IdentityError(
            f"a certificate has at most {MAX_GROUPS} groups and {MAX_PUBLISH} publish rights"
        )
    return CertificateBody(
        mesh=mesh,
        node=fingerprint(key),
        key=key,
        name=name,
        groups=groups,
        publish=publish,
        not_before=not_before,
        not_after=not_after,
        serial=serial,
        issuer=fingerprint(signer),
    )


def bounded(signed: Signed) -> Signed:
    """``signed``, unless it is too long to travel in a passport."""
    if len(signed.payload) > MAX_PAPER_BYTES:
        raise IdentityError(
            f"groups and publish rights fill {len(signed.payload)} bytes, "
            f"at most {MAX_PAPER_BYTES} fit",
            hint="grant one pattern such as knowledge.gpt/** instead of many names",
        )
    return signed


def make_passport(
    keys: NodeKeys,
    certificate: Signed,
    mesh: bytes,
    scheme: SignatureScheme = ED25519,
    issuer: Signed | None = None,
) -> Passport:
    """The passport of the holder of ``keys`` and ``certificate``."""
    return Passport(certificate, sign_curve(keys, mesh, scheme), issuer)


def sign_curve(keys: NodeKeys, mesh: bytes, scheme: SignatureScheme = ED25519) -> Signed:
    """The node's word for its own transport key."""
    body = CurveBody(node=keys.node, curve=keys.curve)
    return sign(keys.signing, Purpose.CURVE, mesh, body, scheme)


class Trust:
    """What a node believes: one authority of one mesh, and who may be checked against it.

    ``revoked`` says of a member why it is no longer one, or nothing; whoever keeps the list
    of revocations puts its word here, so that every check everywhere asks it.
    """

    def __init__(self, authority_key: bytes, scheme: SignatureScheme = ED25519) -> None:
        self.revoked: Callable[[Member], str] = _nobody_is_revoked
        if len(authority_key) != KEY_BYTES:
            raise IdentityError("an authority key has 32 bytes")
        self.authority_key = authority_key
        self.mesh = fingerprint(authority_key)
        self.scheme = scheme

    def watched(self, revoked: Callable[[Member], str]) -> Trust:
        """The same trust with a list of revocations of its own."""
        trust = Trust(self.authority_key, self.scheme)
        trust.revoked = revoked
        return trust

    def verify(self, key: bytes, purpose: str, signed: Signed) -> bool:
        """Whether ``key`` signed these bytes for ``purpose`` in this mesh."""
        message = signing_context(purpose, self.mesh) + signed.payload
        return self.scheme.verify(key, signed.signature, message)

    def check(self, passport: Passport, wall: float) -> Member:
        """The member behind a passport; raises :class:`IdentityError` saying what is wrong."""
        body = read_certificate(passport.certificate)
        curve = read_signed(passport.curve, CurveBody, "CURVE key")
        self._check_certificate(passport.certificate, body, passport.issuer, wall)
        if not self.verify(body.key, Purpose.CURVE, passport.curve) or curve.node != body.node:
            raise IdentityError(f"the CURVE key of {body.name!r} is not signed by its own key")
        if len(curve.curve) != KEY_BYTES:
            raise IdentityError(f"the CURVE key of {body.name!r} has not 32 bytes")
        member = Member(
            node=body.node,
            name=body.name,
            groups=body.groups,
            publish=body.publish,
            key=body.key,
            curve=curve.curve,
            not_after=body.not_after,
            serial=body.serial,
            not_before=body.not_before,
            issuer=body.issuer,
        )
        if why := self.revoked(member):
            raise IdentityError(
                f"the certificate of {body.name!r} was revoked: {why}",
                hint="only a new invitation, with new keys, lets it back in",
            )
        return member

    def check_issuer(self, signed: Signed, wall: float) -> IssuerBody:
        """The issuer that a paper of the authority speaks of; raises :class:`IdentityError`."""
        body = read_signed(signed, IssuerBody, "issuer's paper")
        if body.mesh != self.mesh:
            raise IdentityError(f"the issuer {body.name!r} is of another mesh")
        if not self.verify(self.authority_key, Purpose.ISSUER, signed):
            raise IdentityError(
                f"the issuer {body.name!r} was not appointed by this mesh's authority"
            )
        if len(body.groups) > MAX_GROUPS or len(body.publish) > MAX_PUBLISH:
            raise IdentityError("the issuer's paper names too many groups or publish rights")
        if wall < body.not_before - CLOCK_SKEW_S:
            raise IdentityError(f"the issuer {body.name!r} may not certify yet")
        if wall > body.not_after:
            raise IdentityError(
                f"the time of the issuer {body.name!r} is over",
                hint="the mesh's owner appoints it again with: gossamer mesh issuer",
            )
        return body

    def _check_certificate(
        self, signed: Signed, body: CertificateBody, paper: Signed | None, wall: float
    ) -> None:
        if body.mesh != self.mesh:
            raise IdentityError(
                f"the certificate is for mesh {show_id(body.mesh)[:8]}, "
                f"this is mesh {show_id(self.mesh)[:8]}",
                hint="ask the owner of this mesh for an invitation",
            )
        if paper is None:
            if not self.verify(self.authority_key, Purpose.CERTIFICATE, signed):
                raise IdentityError("the certificate is not signed by this mesh's authority")
        else:
            self._check_issued(signed, body, self.check_issuer(paper, wall))
        if body.node != fingerprint(body.key):
            raise IdentityError("the certificate's node id is not that of its key")
        if len(body.groups) > MAX_GROUPS or len(body.publish) > MAX_PUBLISH:
            raise IdentityError("the certificate names too many groups or publish rights")
        check_node_name(body.name)
        for pattern in body.publish:
            check_pattern(pattern)
        if wall < body.not_before - CLOCK_SKEW_S:
            raise IdentityError(f"the certificate of {body.name!r} is not valid yet")
        if wall > body.not_after:
            raise IdentityError(
                f"the certificate of {body.name!r} has expired", hint="renew it with an invitation"
            )

    def _check_issued(self, signed: Signed, body: CertificateBody, issuer: IssuerBody) -> None:
        """An issuer's certificate is worth what the authority let it give, no more."""
        if not self.verify(issuer.key, Purpose.ISSUED, signed) or body.issuer != issuer.id:
            raise IdentityError(f"the certificate is not signed by the issuer {issuer.name!r}")
        issuer.check_covers(body.groups, body.publish, body.not_after - body.not_before)
        if body.not_after > issuer.not_after:
            raise IdentityError(
                f"the certificate of {body.name!r} outlasts its issuer {issuer.name!r}"
            )


def _nobody_is_revoked(member: Member) -> str:
    return ""


def read_certificate(signed: Signed) -> CertificateBody:
    """What a certificate says, unchecked; raises :class:`IdentityError`."""
    return read_signed(signed, CertificateBody, "certificate")


class LocalIdentity:
    """Who this node is: its secrets, its passport, and the mesh that it believes.

    Raises :class:`IdentityError` when the passport is not that of the keys or of the mesh.
    """

    def __init__(self, keys: NodeKeys, passport: Passport, trust: Trust) -> None:
        self.passport = passport
        self.trust = trust
        self._signing = keys.signing
        self._key = trust.scheme.public(keys.signing)
        self.member = self._checked(passport)
        self.node = self.member.node
        self.name = self.member.name

    def _checked(self, passport: Passport) -> Member:
        # Expiry is for those who hold a clock; here only signatures and the fit are checked.
        body = read_certificate(passport.certificate)
        member = self.trust.check(passport, body.not_before)
        if member.key != self._key:
            raise IdentityError("the certificate was made for other keys than this node's")
        return member

    def renew(self, passport: Passport) -> None:
        """Show this passport from now on; raises unless it is a newer one of this very node."""
        member = self._checked(passport)
        if member.name != self.name or member.curve != self.member.curve:
            raise IdentityError("the new certificate is for another name or CURVE key")
        if member.not_before < self.member.not_before:
            raise IdentityError("the new certificate is older than the one in use")
        self.passport, self.member = passport, member

    def sign(self, purpose: str, body: msgspec.Struct) -> Signed:
        """``body`` signed by this node for ``purpose`` in this mesh."""
        return sign(self._signing, purpose, self.trust.mesh, body, self.trust.scheme)

    def seal_key(self) -> bytes:
        """The private signing key, for :func:`mesh.core.records.seal`."""
        return self._signing

"""Keys, the mesh authority, node certificates and passports.

A mesh authority signs a node's certificate: its name, groups, publish rights, validity and
Ed25519 key. That key signs the node's CURVE key. Both together are a *passport*: whoever
checks it knows which certified node speaks on a CURVE link.

Every signature is made over a context that names its purpose and the mesh, so that none can
be used for another. Randomness is handed in; nothing here reads a clock.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mesh.core.errors import IdentityError
from mesh.core.names import check_node_name, check_pattern, matches

RandomBytes = Callable[[int], bytes]

ID_BYTES = 16
KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_GROUPS = 32
MAX_PUBLISH = 64
CLOCK_SKEW_S = 300.0  # a certificate issued by a clock that runs ahead is still believed


class Purpose:
    """What a signature is for; it is part of what is signed."""

    CERTIFICATE = "certificate"
    CURVE = "curve-key"
    RECORD = "record"
    STATEMENT = "statement"
    ACK = "ack"
    INVITATION = "invitation"


def signing_context(purpose: str, mesh: bytes) -> bytes:
    """The prefix of everything signed for ``purpose`` in ``mesh``."""
    return b"gossamer/1\0" + purpose.encode() + b"\0" + mesh + b"\0"


def fingerprint(key: bytes) -> bytes:
    """The 16-byte id of a public key: a truncated SHA-256."""
    return hashlib.sha256(key).digest()[:ID_BYTES]


def show_id(node: bytes) -> str:
    """An id as people see it: 26 letters and digits; the first eight tell nodes apart."""
    return base64.b32encode(node).decode().rstrip("=").lower()


class SignatureScheme(Protocol):
    """How signatures are made and checked; the simulator brings a cheaper one."""

    def public(self, private: bytes) -> bytes:
        """The 32-byte public key of a 32-byte private key."""

    def sign(self, private: bytes, message: bytes) -> bytes:
        """64 bytes."""

    def verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the signature holds; False also for bytes that are no key."""


class Ed25519Scheme:
    """RFC 8032, by the cryptography library."""

    def __init__(self) -> None:
        # Parsing a key costs as much as a quarter of a verification; peers are few.
        self._parsed: dict[bytes, Ed25519PublicKey] = {}

    def public(self, private: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()

    def sign(self, private: bytes, message: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(private).sign(message)

    def verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        try:
            key = self._parsed.get(public)
            if key is None:
                key = Ed25519PublicKey.from_public_bytes(public)
                if len(self._parsed) >= 4096:  # keys come from outside: bound the cache
                    self._parsed.clear()
                self._parsed[public] = key
            key.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


ED25519 = Ed25519Scheme()


class Signed(msgspec.Struct, frozen=True, array_like=True):
    """Bytes and the signature over exactly these bytes; they are relayed, never re-encoded."""

    payload: bytes
    signature: bytes


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


class CurveBody(msgspec.Struct, frozen=True, array_like=True):
    """What a node says of its transport key."""

    node: bytes
    curve: bytes


class Passport(msgspec.Struct, frozen=True, array_like=True):
    """A certificate and the CURVE key that its holder speaks with."""

    certificate: Signed
    curve: Signed


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
        check_node_name(name)
        for pattern in publish:
            check_pattern(pattern)
        body = CertificateBody(
            mesh=self.mesh,
            node=fingerprint(key),
            key=key,
            name=name,
            groups=groups,
            publish=publish,
            not_before=not_before,
            not_after=not_after,
            serial=serial,
            issuer=fingerprint(self.key),
        )
        return sign(self._private, Purpose.CERTIFICATE, self.mesh, body, self._scheme)


def sign(
    private: bytes,
    purpose: str,
    mesh: bytes,
    body: msgspec.Struct,
    scheme: SignatureScheme = ED25519,
) -> Signed:
    """``body`` encoded once and signed for ``purpose`` in ``mesh``."""
    payload = msgspec.msgpack.encode(body)
    return Signed(payload, scheme.sign(private, signing_context(purpose, mesh) + payload))


def make_passport(
    keys: NodeKeys, certificate: Signed, mesh: bytes, scheme: SignatureScheme = ED25519
) -> Passport:
    """The passport of the holder of ``keys`` and ``certificate``."""
    body = CurveBody(node=keys.node, curve=keys.curve)
    return Passport(certificate, sign(keys.signing, Purpose.CURVE, mesh, body, scheme))


class Trust:
    """What a node believes: one authority of one mesh, and who may be checked against it."""

    def __init__(self, authority_key: bytes, scheme: SignatureScheme = ED25519) -> None:
        if len(authority_key) != KEY_BYTES:
            raise IdentityError("an authority key has 32 bytes")
        self.authority_key = authority_key
        self.mesh = fingerprint(authority_key)
        self.scheme = scheme

    def verify(self, key: bytes, purpose: str, signed: Signed) -> bool:
        """Whether ``key`` signed these bytes for ``purpose`` in this mesh."""
        message = signing_context(purpose, self.mesh) + signed.payload
        return self.scheme.verify(key, signed.signature, message)

    def check(self, passport: Passport, wall: float) -> Member:
        """The member behind a passport; raises :class:`IdentityError` saying what is wrong."""
        try:
            body = msgspec.msgpack.decode(passport.certificate.payload, type=CertificateBody)
            curve = msgspec.msgpack.decode(passport.curve.payload, type=CurveBody)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise IdentityError(f"the passport cannot be read: {error}") from error
        self._check_certificate(passport.certificate, body, wall)
        if not self.verify(body.key, Purpose.CURVE, passport.curve) or curve.node != body.node:
            raise IdentityError(f"the CURVE key of {body.name!r} is not signed by its own key")
        if len(curve.curve) != KEY_BYTES:
            raise IdentityError(f"the CURVE key of {body.name!r} has not 32 bytes")
        return Member(
            node=body.node,
            name=body.name,
            groups=body.groups,
            publish=body.publish,
            key=body.key,
            curve=curve.curve,
            not_after=body.not_after,
            serial=body.serial,
        )

    def _check_certificate(self, signed: Signed, body: CertificateBody, wall: float) -> None:
        if body.mesh != self.mesh:
            raise IdentityError(
                f"the certificate is for mesh {show_id(body.mesh)[:8]}, "
                f"this is mesh {show_id(self.mesh)[:8]}",
                hint="ask the owner of this mesh for an invitation",
            )
        if not self.verify(self.authority_key, Purpose.CERTIFICATE, signed):
            raise IdentityError("the certificate is not signed by this mesh's authority")
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


class LocalIdentity:
    """Who this node is: its secrets, its passport, and the mesh that it believes.

    Raises :class:`IdentityError` when the passport is not that of the keys or of the mesh.
    """

    def __init__(self, keys: NodeKeys, passport: Passport, trust: Trust) -> None:
        self.passport = passport
        self.trust = trust
        self._signing = keys.signing
        try:
            body = msgspec.msgpack.decode(passport.certificate.payload, type=CertificateBody)
        except (msgspec.MsgspecError, ValueError) as error:
            raise IdentityError(f"the certificate cannot be read: {error}") from error
        # Expiry is for those who hold a clock; here only signatures and the fit are checked.
        self.member = trust.check(passport, body.not_before)
        self.node = self.member.node
        self.name = self.member.name
        if self.member.key != trust.scheme.public(keys.signing):
            raise IdentityError("the certificate was made for other keys than this node's")

    def sign(self, purpose: str, body: msgspec.Struct) -> Signed:
        """``body`` signed by this node for ``purpose`` in this mesh."""
        return sign(self._signing, purpose, self.trust.mesh, body, self.trust.scheme)

    def seal_key(self) -> bytes:
        """The private signing key, for :func:`mesh.core.records.seal`."""
        return self._signing

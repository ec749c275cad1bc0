"""What is signed, how, and for what: every signature names its purpose and the mesh.

So no signature can be used for another: a record never passes for a certificate, nor one
mesh's statement for another's.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Protocol, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mesh.core.errors import IdentityError

T = TypeVar("T")

ID_BYTES = 16
KEY_BYTES = 32
SIGNATURE_BYTES = 64


class Purpose:
    """What a signature is for; it is part of what is signed."""

    CERTIFICATE = "certificate"  # by the authority itself
    ISSUER = "issuer"  # by the authority, for a key that may certify
    ISSUED = "issued-certificate"  # by such a key: it can never pass for the authority's own
    REVOCATION = "revocation"
    WARRANT = "warrant"
    CURVE = "curve-key"
    RECORD = "record"
    STATEMENT = "statement"
    ACK = "ack"
    INVITATION = "invitation"
    RECEIPT = "receipt"  # by who served: so many tokens, to you
    COUNTERSIGN = "countersign"  # by who asked: what came of it here
    TLS = "tls-key"  # by a node: the key that its HTTP server shows to browsers


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


def read_signed(signed: Signed, kind: type[T], what: str = "text") -> T:
    """What was signed, unchecked; raises :class:`IdentityError` for bytes that are no ``kind``."""
    try:
        return msgspec.msgpack.decode(signed.payload, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise IdentityError(f"the signed {what} cannot be read: {error}") from error

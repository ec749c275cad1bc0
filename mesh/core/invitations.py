"""Invitations: the one line that lets a stranger in, and the book that keeps count of them.

A token carries all that a newcomer must know to trust nobody else: the fingerprint of the
mesh's authority, addresses of a door, the CURVE key behind it, and a secret that works once.
The door's book keeps the secret as a hash only, with what it grants, its uses and its end.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NamedTuple

import msgspec

from mesh.core.errors import IdentityError
from mesh.core.identity import ID_BYTES, KEY_BYTES, RandomBytes
from mesh.core.names import check_node_name

SECRET_BYTES = 16  # 128 random bits: no rate of guessing finds one
CHECK_BYTES = 3  # a letter lost in copying is noticed here, with a clear word
MAX_TOKEN_CHARS = 1024  # what is pasted is not parsed before it is measured
MAX_ADDRESSES = 4
MAX_OPEN = 256  # a script that invites without end must not fill a board's disk
MAX_ISSUED = 8192  # certificates remembered; more than a mesh's store can hold members
MAX_USES = 1000
PREFIX = "gossamer1."


class TokenBody(msgspec.Struct, frozen=True, array_like=True):
    """What a token says, as it is packed."""

    mesh: bytes
    curve: bytes
    secret: bytes
    addresses: tuple[str, ...]
    name: str = ""


class Token(NamedTuple):
    """An invitation as its holder reads it. ``addresses`` are ``tcp://HOST:PORT`` of doors,
    ``name`` the node name that it is for (empty: any)."""

    mesh: bytes
    curve: bytes
    secret: bytes
    addresses: tuple[str, ...]
    name: str

    def text(self) -> str:
        """One line to paste or to show as a QR code."""
        short = tuple(a.removeprefix("tcp://") for a in self.addresses[:MAX_ADDRESSES])
        packed = msgspec.msgpack.encode(
            TokenBody(self.mesh, self.curve, self.secret, short, self.name)
        )
        whole = packed + hashlib.sha256(packed).digest()[:CHECK_BYTES]
        return PREFIX + base64.urlsafe_b64encode(whole).decode().rstrip("=")


def read_token(text: str) -> Token:
    """The token in a pasted line; raises :class:`IdentityError` that says what to do."""
    text = "".join(text.split())  # a terminal may have wrapped it
    if len(text) > MAX_TOKEN_CHARS or not text.startswith(PREFIX):
        raise IdentityError(
            "this is no invitation", hint=f"one begins with {PREFIX} and comes from gossamer invite"
        )
    encoded = text.removeprefix(PREFIX)
    damaged = IdentityError(
        "this invitation was not copied as a whole", hint="copy the line again, all of it"
    )
    try:
        whole = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
        packed, check = whole[:-CHECK_BYTES], whole[-CHECK_BYTES:]
        if hashlib.sha256(packed).digest()[:CHECK_BYTES] != check:
            raise damaged
        body = msgspec.msgpack.decode(packed, type=TokenBody)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise damaged from error
    if (
        len(body.mesh) != ID_BYTES
        or len(body.curve) != KEY_BYTES
        or len(body.secret) != SECRET_BYTES
        or not 1 <= len(body.addresses) <= MAX_ADDRESSES
    ):
        raise damaged
    if body.name:
        check_node_name(body.name)
    addresses = tuple(f"tcp://{address}" for address in body.addresses)
    return Token(body.mesh, body.curve, body.secret, addresses, body.name)


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """What one secret is good for. ``used_by`` are the nodes that redeemed it, with the name
    that each got, so that a lost answer can be asked for again by the same keys."""

    digest: bytes
    groups: tuple[str, ...]
    publish: tuple[str, ...]
    name: str = ""
    valid_s: float  # of the certificate
    renews: bool = True
    uses_left: int
    expires: float  # wall seconds
    used_by: dict[str, str] = {}  # hexadecimal node id: node name


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that was given: whose name is taken, and whether it may be renewed."""

    node: bytes
    name: str
    not_after: float
    renews: bool = True


class Book(msgspec.Struct, kw_only=True):
    """All that an issuer remembers; the shell keeps it on disk as it is.

    ``invitations`` by the hash of their secret, ``issued`` by node id, both hexadecimal.
    """

    invitations: dict[str, Invitation] = {}
    issued: dict[str, Issued] = {}

    def open(
        self,
        random_bytes: RandomBytes,
        wall: float,
        *,
        groups: tuple[str, ...],
        publish: tuple[str, ...],
        name: str,
        valid_s: float,
        renews: bool,
        uses: int,
        life_s: float,
    ) -> tuple[bytes, Invitation]:
        """A new invitation and its secret, which is kept nowhere else."""
        self.sweep(wall)
        if not 1 <= uses <= MAX_USES:
            raise IdentityError(f"an invitation has 1 to {MAX_USES} uses")
        if name and uses != 1:
            raise IdentityError("an invitation for one name has one use")
        if len(self.invitations) >= MAX_OPEN:
            raise IdentityError(
                f"{MAX_OPEN} invitations are open", hint="wait for some to expire, or withdraw them"
            )
        secret = random_bytes(SECRET_BYTES)
        invitation = Invitation(
            digest=digest_of(secret),
            groups=groups,
            publish=publish,
            name=name,
            valid_s=valid_s,
            renews=renews,
            uses_left=uses,
            expires=wall + life_s,
        )
        self.invitations[invitation.digest.hex()] = invitation
        return secret, invitation

    def find(self, secret: bytes, node: bytes, wall: float) -> Invitation:
        """The invitation of a secret that ``node`` may use; raises :class:`IdentityError`.

        Compares with every one in constant time, so that the time taken tells nothing of a
        secret that is nearly right.
        """
        digest = digest_of(secret)
        found: Invitation | None = None
        for invitation in self.invitations.values():
            if hmac.compare_digest(invitation.digest, digest):
                found = invitation
        if found is None:
            raise IdentityError(
                "nobody here knows this invitation", hint="ask for a new one: gossamer invite"
            )
        if wall > found.expires:
            raise IdentityError(
                "this invitation has expired", hint="ask for a new one: gossamer invite"
            )
        if found.uses_left < 1 and node.hex() not in found.used_by:
            raise IdentityError(
                "this invitation has been used up", hint="ask for a new one: gossamer invite"
            )
        return found

    def spend(self, invitation: Invitation, node: bytes, name: str) -> None:
        """One use less; the same node again costs nothing."""
        if node.hex() in invitation.used_by:
            return
        self.invitations[invitation.digest.hex()] = msgspec.structs.replace(
            invitation,
            uses_left=invitation.uses_left - 1,
            used_by={**invitation.used_by, node.hex(): name},
        )

    def note(self, issued: Issued) -> None:
        """Remember a certificate that is about to be given."""
        self.issued[issued.node.hex()] = issued
        while len(self.issued) > MAX_ISSUED:
            self.issued.pop(min(self.issued, key=lambda key: self.issued[key].not_after))

    def holder(self, name: str, wall: float) -> bytes | None:
        """The node that was last given this name, if its certificate still runs."""
        for issued in self.issued.values():
            if issued.name == name and issued.not_after >= wall:
                return issued.node
        return None

    def sweep(self, wall: float) -> None:
        """Drop what has ended."""
        self.invitations = {k: v for k, v in self.invitations.items() if v.expires >= wall}
        self.issued = {k: v for k, v in self.issued.items() if v.not_after >= wall}


def digest_of(secret: bytes) -> bytes:
    """What is kept of a secret; it is random, so one hash is enough."""
    return hashlib.sha256(b"gossamer/1\0invitation\0" + secret).digest()

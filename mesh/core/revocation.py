"""Taking membership back: who said so, for how long, and who has heard it.

A revocation is signed by the authority, or by the issuer for what that issuer certified
itself: a stolen issuer key can cost the nodes that it let in, and no others. It speaks of a
node's key for good; a board that should come back joins with new keys. The authority can take
out an issuer's key by its id, and with it all that it certified. A revocation is kept until no
certificate of the node can run any more.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from mesh.core.errors import IdentityError
from mesh.core.identity import (
    CLOCK_SKEW_S,
    ID_BYTES,
    IssuerBody,
    Member,
    Purpose,
    Signed,
    Trust,
    fingerprint,
)
from mesh.core.signing import read_signed
from mesh.core.wire import Revocation

YEAR_S = 365 * 86400.0
MAX_KEPT_S = 10 * YEAR_S  # one that never ends would be carried by every node for ever
MAX_REASON_CHARS = 120
MAX_STATEMENT_BYTES = 512  # with its paper; a revocation is relayed by everybody
# A stolen key that revokes without end must not fill the memory of a board. Each signer has
# its own share, so that an issuer's flood does not push out the authority's word.
MAX_PER_SIGNER = 1024
MAX_SIGNERS = 64
HASH_BYTES = 8
PREFIX = "revoke1."
MAX_TEXT_CHARS = 8192


class RevocationBody(msgspec.Struct, frozen=True, array_like=True):
    """``signer`` (the id of the authority's or the issuer's key) takes ``node`` out."""

    mesh: bytes
    node: bytes
    name: str  # for people
    reason: str
    issued: float  # wall seconds
    until: float
    signer: bytes


def revoke(
    signer: bytes,
    sign: Callable[[str, msgspec.Struct], Signed],
    mesh: bytes,
    node: bytes,
    *,
    name: str,
    reason: str,
    wall: float,
    until: float,
    paper: Signed | None = None,
) -> Revocation:
    """The word of ``signer`` (a key's id), made with its ``sign``; ``paper`` of an issuer."""
    if len(reason) > MAX_REASON_CHARS or len(node) != ID_BYTES:
        raise IdentityError(f"a revocation names a node and has {MAX_REASON_CHARS} characters")
    body = RevocationBody(mesh, node, name, reason, wall, min(until, wall + MAX_KEPT_S), signer)
    return Revocation(sign(Purpose.REVOCATION, body), paper)


class Revocations:
    """Every revocation that this node believes. Hand :meth:`why` to :attr:`Trust.revoked`."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._kept: dict[tuple[bytes, bytes], tuple[RevocationBody, Revocation]] = {}
        self._by_node: dict[bytes, list[RevocationBody]] = {}
        self._authority = fingerprint(trust.authority_key)
        self._hash = _hash_of(())
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def why(self, member: Member) -> str:
        """The reason if the member is revoked, else nothing."""
        for body in self._by_node.get(member.node, ()):
            if body.signer in {self._authority, member.issuer}:
                return body.reason or "no reason was given"
        for body in self._by_node.get(member.issuer, ()):
            if body.signer == self._authority:
                return f"its issuer was revoked: {body.reason or 'no reason was given'}"
        return ""

    def add(self, revocation: Revocation, wall: float) -> RevocationBody | None:
        """Believe a revocation, from wherever it came; None when it is known.

        Raises :class:`IdentityError` for one that is forged, over, or not the signer's to make.
        """
        if len(revocation.statement.payload) > MAX_STATEMENT_BYTES:
            raise IdentityError("a revocation is over its size limit")
        body = read_signed(revocation.statement, RevocationBody, "revocation")
        key = (body.node, body.signer)
        known = self._kept.get(key)
        if known is not None and known[0].until >= body.until:
            return None
        self._check(revocation, body, wall)
        if known is None and not self._room(body.signer):
            self.counters["revocations_refused_full"] += 1
            raise IdentityError("this signer has revoked more nodes than are kept")
        self._kept[key] = (body, revocation)
        self._reindex()
        self.counters["revocations_kept"] += 1
        return body if known is None else None

    def _check(self, revocation: Revocation, body: RevocationBody, wall: float) -> None:
        if body.mesh != self._trust.mesh or len(body.node) != ID_BYTES:
            raise IdentityError("a revocation is of another mesh")
        if body.until <= wall:
            raise IdentityError("a revocation is over")
        if body.issued > wall + CLOCK_SKEW_S or body.until - body.issued > MAX_KEPT_S:
            raise IdentityError("a revocation is from the future, or would be kept too long")
        if len(body.reason) > MAX_REASON_CHARS:
            raise IdentityError("a revocation's reason is too long")
        if revocation.issuer is None:
            signer = self._trust.authority_key
        else:
            issuer = read_signed(revocation.issuer, IssuerBody, "issuer's paper")
            # What an issuer revoked while it was one stays revoked after its time.
            signer = self._trust.check_issuer(revocation.issuer, min(wall, issuer.not_after)).key
        if body.signer != fingerprint(signer) or not self._trust.verify(
            signer, Purpose.REVOCATION, revocation.statement
        ):
            raise IdentityError("a revocation is not signed by who may revoke")

    def _room(self, signer: bytes) -> bool:
        shares = Counter(by for _, by in self._kept)
        if signer not in shares and len(shares) >= MAX_SIGNERS and signer != self._authority:
            return False
        return shares[signer] < MAX_PER_SIGNER

    def _reindex(self) -> None:
        self._by_node = {}
        for body, _ in self._kept.values():
            self._by_node.setdefault(body.node, []).append(body)
        self._hash = _hash_of(r.statement.signature for _, r in self._kept.values())

    @property
    def hash(self) -> bytes:
        """Equal for nodes that have heard the same; anti-entropy compares it."""
        return self._hash

    def all(self) -> list[Revocation]:
        """Every one, the newest first, to be passed on as it came."""
        newest = sorted(self._kept.values(), key=lambda kept: -kept[0].issued)
        return [revocation for _, revocation in newest]

    def bodies(self) -> list[RevocationBody]:
        """What they say, for people."""
        return [body for body, _ in self._kept.values()]

    def sweep(self, wall: float) -> None:
        """Forget those that are over: no certificate that they speak of runs any more."""
        over = [key for key, (body, _) in self._kept.items() if body.until <= wall]
        for key in over:
            del self._kept[key]
        if over:
            self._reindex()


def revocation_text(revocation: Revocation) -> str:
    """One line that a person can carry to a running member."""
    return PREFIX + base64.urlsafe_b64encode(msgspec.msgpack.encode(revocation)).decode()


def read_revocation(text: str) -> Revocation:
    """The revocation in such a line, unchecked; raises :class:`IdentityError`."""
    text = "".join(text.split())
    if len(text) > MAX_TEXT_CHARS or not text.startswith(PREFIX):
        raise IdentityError("this is no revocation", hint="make one with: gossamer mesh revoke")
    try:
        raw = base64.b64decode(text.removeprefix(PREFIX), b"-_", validate=True)
        return msgspec.msgpack.decode(raw, type=Revocation)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise IdentityError(
            "this revocation was not copied as a whole", hint="copy the line again, all of it"
        ) from error


def read_id(text: str) -> bytes:
    """A whole node id as people see it (26 letters and digits); raises IdentityError."""
    try:
        node = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        node = b""
    if len(node) != ID_BYTES:
        raise IdentityError(
            f"{text[:40]!r} is neither a node that is known here nor a whole node id",
            hint="gossamer peers --json shows ids",
        )
    return node


def _hash_of(signatures: Iterable[bytes]) -> bytes:
    return hashlib.blake2b(b"".join(sorted(signatures)), digest_size=HASH_BYTES).digest()

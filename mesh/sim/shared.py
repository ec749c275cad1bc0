"""What a thousand simulated nodes need not each work out and keep for themselves.

A real node checks each passport and decodes each record once. A thousand nodes in one process
would do it a million times, to the same end: they share the outcome here. Signatures of records
are still checked by every node, since refusing a forged one is part of what is simulated.
"""

from __future__ import annotations

from collections.abc import Callable

from mesh.core.errors import IdentityError
from mesh.core.identity import Member, Passport, SignatureScheme, Signed, Trust
from mesh.core.records import Profile, RecordHead, Status, decode_record


class SharedTrust(Trust):
    """Trust that remembers which passports were found good, for all that watch it."""

    def __init__(
        self,
        authority_key: bytes,
        scheme: SignatureScheme,
        checked: dict[tuple[bytes, bytes], Member] | None = None,
    ) -> None:
        super().__init__(authority_key, scheme)
        self._checked = checked if checked is not None else {}

    def watched(self, revoked: Callable[[Member], str]) -> Trust:
        """The same trust with a list of revocations of its own; what was checked is shared."""
        trust = SharedTrust(self.authority_key, self.scheme, self._checked)
        trust.revoked = revoked
        return trust

    def check(self, passport: Passport, wall: float) -> Member:
        """As :meth:`Trust.check`; the certificate's dates are looked at the first time only."""
        key = (passport.certificate.signature, passport.curve.signature)
        member = self._checked.get(key)
        if member is None:
            member = self._checked[key] = super().check(passport, wall)
        elif why := self.revoked(member):
            raise IdentityError(f"the certificate of {member.name!r} was revoked: {why}")
        return member


class SharedRecords:
    """Records decoded once for everybody. Only the latest of a kind and subject are kept."""

    def __init__(self) -> None:
        self._latest: dict[tuple[bytes, int], tuple[bytes, Profile | Status]] = {}

    def decode(self, signed: Signed, head: RecordHead) -> Profile | Status:
        """As :func:`mesh.core.records.decode_record`."""
        kept = self._latest.get((head.node, head.kind))
        if kept is not None and kept[0] == signed.payload:
            return kept[1]
        record = decode_record(signed, head)
        if kept is None or record.sequence >= kept[1].sequence:
            self._latest[(head.node, head.kind)] = (signed.payload, record)
        return record

"""How somebody who is not known yet becomes known: the door beside the member socket.

The transport's gate sees only a 32-byte key, so members speak on a socket that admits known
keys, and everybody else speaks here. The door accepts any key, is tightly limited, and does
one thing: it checks papers. A passport is shown for a passport, and only believed over a link
that its own CURVE key opened, so a copied one is worth nothing. Where an issuer's desk stands
behind the door, an invitation is redeemed and a certificate renewed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from mesh.core.clock import Now
from mesh.core.errors import GossamerError, IdentityError
from mesh.core.identity import Member, Passport, Trust
from mesh.core.issuing import Desk
from mesh.core.records import Endpoints
from mesh.core.wire import (
    AdmissionMessage,
    Admitted,
    Certified,
    Present,
    Redeem,
    Refused,
    Renew,
)


@dataclass(frozen=True)
class DoorLimits:
    """Checking a passport costs two signature verifications, about 0.2 ms on a laptop and
    2 ms on a small board; these caps keep a flood below a tenth of a core."""

    per_second: float = 50.0
    """Passports checked per second, over all strangers."""

    burst: float = 100.0
    """How many may come at once, so that a whole mesh can restart together."""

    per_key_per_second: float = 2.0
    """One stranger that knocks again and again cannot use up the others' share."""

    keys_remembered: int = 1024
    """Strangers make keys for nothing; what is remembered of them is bounded."""

    certified_per_second: float = 2.0
    """Invitations redeemed and certificates renewed, over all. They have a share of their
    own: who floods the desk keeps no member from meeting another, nor the reverse."""

    certified_burst: float = 20.0
    """A classroom of boards may join at once."""


class TokenBucket:
    """A rate with a burst (RFC 2697's single-rate bucket)."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Whether one more is within the rate."""
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


class AdmissionDoor:
    """Checks passports; the shell carries the frames and opens the member gate."""

    def __init__(
        self,
        trust: Trust,
        passport: Passport,
        limits: DoorLimits | None = None,
        desk: Desk | None = None,
    ) -> None:
        self.trust = trust
        self.passport = passport
        self.limits = limits or DoorLimits()
        self.desk = desk
        self._all: TokenBucket | None = None
        self._certified: TokenBucket | None = None
        self._per_key: OrderedDict[bytes, TokenBucket] = OrderedDict()
        self.counters: Counter[str] = Counter()

    def receive(
        self,
        message: AdmissionMessage,
        curve: bytes,
        incarnation: int,
        endpoints: Endpoints,
        now: Now,
    ) -> tuple[AdmissionMessage | None, Member | None]:
        """The reply, and the member that may come in now.

        ``curve`` is the key that the link was opened with. Over the rate there is no reply at
        all: answering a flood would double it.
        """
        if isinstance(message, Redeem | Renew):
            return self._certify(message, curve, now), None
        if not self._within_rate(curve, now.mono):
            self.counters["admission_over_rate"] += 1
            return None, None
        if not isinstance(message, Present):
            self.counters["admission_refused"] += 1
            return Refused("malformed", "this door checks passports"), None
        try:
            member = check_presented(self.trust, message.passport, curve, now)
        except GossamerError as error:
            self.counters["admission_refused"] += 1
            return Refused(error.code, error.sentence()), None
        self.counters["admission_admitted"] += 1
        reply = Admitted(self.passport, incarnation, endpoints.control, endpoints.bulk)
        return reply, member

    def _certify(
        self, message: Redeem | Renew, curve: bytes, now: Now
    ) -> Certified | Refused | None:
        """A certificate; the shell keeps the desk's book on disk before it sends it."""
        limits = self.limits
        if self._certified is None:
            self._certified = TokenBucket(
                limits.certified_per_second, limits.certified_burst, now.mono
            )
        if not self._key_within_rate(curve, now.mono) or not self._certified.take(now.mono):
            self.counters["admission_over_rate"] += 1
            return None
        try:
            if self.desk is None:
                raise IdentityError("this node issues no certificates", hint="ask one that does")
            if isinstance(message, Redeem):
                return self.desk.redeem(message, curve, now.wall)
            return self.desk.renew(message.passport, curve, now.wall)
        except GossamerError as error:
            kind = "redeem" if isinstance(message, Redeem) else "renew"
            self.counters[f"admission_refused_{kind}"] += 1
            return Refused(error.code, error.sentence())

    def _within_rate(self, curve: bytes, now: float) -> bool:
        if self._all is None:
            self._all = TokenBucket(self.limits.per_second, self.limits.burst, now)
        return self._key_within_rate(curve, now) and self._all.take(now)

    def _key_within_rate(self, curve: bytes, now: float) -> bool:
        bucket = self._per_key.get(curve)
        if bucket is None:
            rate = self.limits.per_key_per_second
            bucket = self._per_key[curve] = TokenBucket(rate, 4 * rate, now)
            if len(self._per_key) > self.limits.keys_remembered:
                self._per_key.popitem(last=False)
        return bucket.take(now)


def check_presented(trust: Trust, passport: Passport, curve: bytes, now: Now) -> Member:
    """The member behind a passport shown over a link of ``curve``; raises IdentityError."""
    member = trust.check(passport, now.wall)
    if member.curve != curve:
        raise IdentityError(
            f"the passport of {member.name!r} was shown over a link of another key",
            hint="a passport works only with the private key that belongs to it",
        )
    return member

"""Whether a failed call of a provider is tried again, and when. Pure.

Jitter is "full" (uniform from 0 to the exponential bound), as in Brooker, "Exponential Backoff
And Jitter", AWS Architecture Blog 2015: callers that failed together do not come back together.
"""

from __future__ import annotations

import enum
import random

import msgspec


class Kind(enum.StrEnum):
    """What went wrong, by what it says about the next try."""

    UNREACHABLE = "unreachable"  # no connection: nothing was sent, nothing is billed
    SILENT = "silent"  # sent, and no answer in time: it may be billed
    BROKEN = "broken"  # the answer broke off or made no sense: it may be billed
    SERVER = "server"  # 408, 409, 5xx: an error instead of an answer
    LIMITED = "limited"  # 429 or 503 with a time: come back later
    QUOTA = "quota"  # the account has no money left
    KEY = "key"  # 401, 403: the key is not accepted
    REFUSED = "refused"  # any other 4xx: this request will never be answered


SAME_AGAIN = frozenset({Kind.UNREACHABLE, Kind.SILENT, Kind.BROKEN, Kind.SERVER, Kind.LIMITED})
UNWELL = frozenset({Kind.UNREACHABLE, Kind.SILENT, Kind.BROKEN, Kind.SERVER, Kind.KEY, Kind.QUOTA})
MAYBE_BILLED = frozenset({Kind.SILENT, Kind.BROKEN})

_AGAIN_STATUS = frozenset({408, 409, 425})


class RetryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``attempts`` of one provider, the first counted. The wait before the n-th retry is
    anything up to ``base_s`` times two to the n, at most ``cap_s``."""

    attempts: int = 3
    base_s: float = 0.5
    cap_s: float = 8.0


def kind_of(status: int, code: str = "", *, timed: bool = False) -> Kind:
    """What an HTTP status means; ``code`` is the error's own, ``timed``: a Retry-After came."""
    if status == 429:
        return Kind.QUOTA if code == "insufficient_quota" else Kind.LIMITED
    if status in {401, 403}:
        return Kind.KEY
    if status == 402:
        return Kind.QUOTA
    if status == 503 and timed:
        return Kind.LIMITED
    if status >= 500 or status in _AGAIN_STATUS:
        return Kind.SERVER
    return Kind.REFUSED


def wait_before_retry(
    config: RetryConfig,
    kind: Kind,
    failed: int,
    *,
    asked_s: float | None,
    left_s: float,
    rng: random.Random,
) -> float | None:
    """Seconds to wait before the same provider is asked again, None for not again.

    ``failed`` counts its failures for this call so far. ``asked_s`` is its Retry-After: never
    come earlier. A wait that would use up half of the time left is not worth it.
    """
    if kind not in SAME_AGAIN or failed >= config.attempts:
        return None
    wait_s = rng.uniform(0.0, min(config.cap_s, config.base_s * 2**failed))
    if asked_s is not None:
        wait_s = asked_s + wait_s * min(1.0, asked_s)
    return wait_s if wait_s * 2 < left_s else None

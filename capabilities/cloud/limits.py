"""What a provider says of its rate limits, and when to ask it again. Pure.

Headers: Retry-After (RFC 9110, 10.2.3: seconds or a date), retry-after-ms, and
x-ratelimit-{remaining,reset}-{requests,tokens} as OpenAI and those who follow it send them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

LONGEST_S = 3600.0  # a header that says more is held to this: the provider is probed hourly
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration_s(text: str) -> float | None:
    """``6m0s``, ``250ms``, ``1.5s`` or plain seconds; None for anything else."""
    text = text.strip().lower()
    seconds = _number(text)
    if seconds is not None:
        return seconds
    parts = _DURATION.findall(text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def retry_after_s(headers: Mapping[str, str], wall: float) -> float | None:
    """How long the provider asks to be left alone; None when it does not say."""
    millis = _number(headers.get("retry-after-ms", ""))
    if millis is not None:
        return min(millis / 1000, LONGEST_S)
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    seconds = _number(text)
    if seconds is None:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - wall
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(0.0, seconds), LONGEST_S)


class RateLimits:
    """What one provider last said; ``now`` is monotonic, ``wall`` is wall-clock seconds."""

    def __init__(self) -> None:
        self._blocked_until = 0.0
        self._tokens = math.inf
        self._tokens_until = 0.0

    def heard(
        self, headers: Mapping[str, str], now: float, wall: float, *, refused: bool = False
    ) -> None:
        """A reply came; ``refused``: with 429 or 503."""
        if refused and (wait_s := retry_after_s(headers, wall)) is not None:
            self._blocked_until = max(self._blocked_until, now + wait_s)
        reset = duration_s(headers.get("x-ratelimit-reset-requests", ""))
        remaining = _number(headers.get("x-ratelimit-remaining-requests", ""))
        if reset is not None and remaining is not None and remaining < 1:
            self._blocked_until = max(self._blocked_until, now + min(reset, LONGEST_S))
        reset = duration_s(headers.get("x-ratelimit-reset-tokens", ""))
        remaining = _number(headers.get("x-ratelimit-remaining-tokens", ""))
        if reset is not None and remaining is not None:
            self._tokens, self._tokens_until = remaining, now + min(reset, LONGEST_S)

    def wait_s(self, now: float, tokens: int) -> float:
        """Seconds until a call of about so many tokens may be sent, 0 for at once."""
        wait = max(0.0, self._blocked_until - now)
        if tokens > self._tokens:
            wait = max(wait, self._tokens_until - now)
        return wait


def _number(text: str) -> float | None:
    """A number that is not negative and finite; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None

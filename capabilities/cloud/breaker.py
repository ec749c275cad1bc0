"""A circuit breaker: a provider that keeps failing is left alone, then probed. Pure.

    CLOSED ─so many failures in a row▶ OPEN ─its time is over▶ HALF_OPEN ─probe succeeds▶ CLOSED
                                        ▲──────────probe fails, twice the time──────┘

Source: Nygard, "Release It!", 2nd edition, chapter 5.
"""

from __future__ import annotations

import enum

import msgspec


class State(enum.StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``failures`` in a row open it: fewer cut off a provider for one hiccup, more waste the
    callers' time. It stays open for ``open_s``, doubled by each failed probe up to
    ``longest_s``. ``probes`` calls at once may try a half-open one."""

    failures: int = 3
    open_s: float = 5.0
    longest_s: float = 30.0
    probes: int = 1


class Breaker:
    """The breaker of one provider; ``now`` is monotonic seconds."""

    def __init__(self, config: BreakerConfig | None = None) -> None:
        self.config = config or BreakerConfig()
        self._failures = 0
        self._open_until = 0.0
        self._open_s = 0.0  # above 0 while it is not closed
        self._probing = 0

    def state(self, now: float) -> State:
        """Where it stands."""
        if not self._open_s:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def wait_s(self, now: float) -> float:
        """Seconds until a call may be tried, 0 for at once."""
        state = self.state(now)
        if state is State.OPEN:
            return self._open_until - now
        if state is State.HALF_OPEN and self._probing >= self.config.probes:
            return self.config.open_s  # about when the probe has told
        return 0.0

    def begin(self, now: float) -> bool:
        """Whether a call may begin; after a yes exactly one of the three below must follow."""
        if self.wait_s(now) > 0:
            return False
        if self._open_s:
            self._probing += 1
        return True

    def succeeded(self) -> None:
        """The provider answered, be it with a refusal of this one request."""
        self._failures, self._open_s, self._probing = 0, 0.0, 0

    def failed(self, now: float) -> None:
        """It did not answer, or said that it cannot."""
        self._failures += 1
        if self._open_s:
            if now >= self._open_until:  # the probe failed; older calls that end late do not count
                self._probing = max(0, self._probing - 1)
                self._open(now, min(self._open_s * 2, self.config.longest_s))
        elif self._failures >= self.config.failures:
            self._open(now, self.config.open_s)

    def abandoned(self) -> None:
        """The caller went away: nothing was learnt."""
        self._probing = max(0, self._probing - 1)

    def _open(self, now: float, open_s: float) -> None:
        self._open_s, self._open_until = open_s, now + open_s
        self._probing = 0

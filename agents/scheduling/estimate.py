"""One positive quantity (seconds per token, say), followed as it comes and as it turns.

A scalar Kalman filter of the logarithm, so that twice as slow and twice as fast weigh alike,
with a CUSUM of its innovations beside it (Page 1954): while the quantity is steady single odd
values are clipped, and when several point one way the filter forgets and starts anew. A board
that throttles is believed slow after two or three answers instead of twenty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DRIFT = 0.0004  # variance gained per observation: 2 % of random walk, from load to load
NOISE = 0.04  # variance of one observation: a rate varies by some 20 % with its batch
CLIP = 3.0  # standard deviations that one observation may move the filter by
SLACK = 0.5  # CUSUM's allowance: half of a shift by one standard deviation
ALARM = 4.0  # CUSUM's threshold: about one false alarm in some hundred observations
LEAST, MOST = 1e-9, 1e9  # what lies beyond is no time that a machine takes
FORGET = 1.0  # variance after an alarm: the next observation counts for nearly all


@dataclass(slots=True)
class Estimate:
    """``value`` is the estimate in the unit of what is observed; ``trust`` is the number of
    observations that the first guess is worth."""

    value: float
    trust: float = 1.0
    alarms: int = 0
    seen: int = 0
    _variance: float = 0.0
    _up: float = 0.0
    _down: float = 0.0

    def __post_init__(self) -> None:
        if self.value <= 0 or self.trust <= 0:
            raise ValueError("a guess and its trust are above zero")
        self._variance = NOISE / self.trust

    def observe(self, value: float) -> None:
        """Learn from one observation; what cannot be one is ignored."""
        if not LEAST < value < MOST:
            return
        self.seen += 1
        self._variance += DRIFT
        spread = math.sqrt(self._variance + NOISE)
        innovation = math.log(value / self.value)
        score = max(-CLIP, min(CLIP, innovation / spread))
        self._up = max(0.0, self._up + score - SLACK)
        self._down = max(0.0, self._down - score - SLACK)
        if max(self._up, self._down) > ALARM:
            self.alarms += 1
            self._up = self._down = 0.0
            self._variance = FORGET
        else:
            innovation = score * spread
        gain = self._variance / (self._variance + NOISE)
        self.value = min(MOST, max(LEAST, self.value * math.exp(gain * innovation)))
        self._variance *= 1 - gain

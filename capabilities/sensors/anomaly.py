"""What is unusual in a series, judged as it comes. Pure.

A value is compared with those of the same time of day (or week) before it, and with what came just
before: both by median and MAD, so that an anomaly does not become the standard that the next is
measured with. A single value far off is a *spike*; many that lean to one side are a *shift*: the
exponentially weighted mean of the scores (EWMA; Roberts 1959) beyond its own limit. Source of the
score: Iglewicz and Hoaglin 1993. Nothing is fitted to labels.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from statistics import median

from capabilities.data.robust import mad_std

PAST = 4096  # scores that limits are set by


@dataclass(frozen=True)
class AnomalyConfig:
    """How unusual is unusual."""

    season_s: float = 86_400.0
    """The period after which values resemble each other; 0: none."""

    bins: int = 24
    """Parts of a season that are compared with themselves. More resolve better, and learn later."""

    keep: int = 168
    """Values of each bin that are remembered."""

    recent: int = 48
    """Values that came just before. They carry the day's own level: a wet day is wet all day."""

    spike: float = 6.0
    """Robust standard deviations of a single value. 3.5 is the usual threshold for a sample; a
    series has thousands of values, and heavy tails."""

    shift: float = 3.0
    """The same of the weighted mean of the scores, which a level that stays moves to its own."""

    weight: float = 0.1
    """Of the newest score in that mean: some twenty values are its memory."""

    alarm_share: float = 0.01
    """Of the values of its own past at most this share may have been as unusual: a series with
    heavy tails sets its own limits above those."""

    least: int = 12
    """Values of a bin below which nothing is called unusual."""

    floor_share: float = 0.02
    """The least standard deviation believed in, as a share of the usual value."""


@dataclass(frozen=True)
class Verdict:
    """``score``: robust standard deviations from ``expected``; ``kind``: spike, shift or empty."""

    score: float
    expected: float
    kind: str = ""

    @property
    def anomalous(self) -> bool:
        """Whether it is worth a word."""
        return bool(self.kind)


class _Past:
    """What was seen, and the limit that a given share of it is above."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._sorted: list[float] = []
        self._order: deque[float] = deque()

    def add(self, value: float) -> None:
        insort(self._sorted, value)
        self._order.append(value)
        if len(self._order) > PAST:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]

    @property
    def limit(self) -> float:
        """0 until the share is of one value at least."""
        above = int(self._share * len(self._sorted))
        return self._sorted[-above] if above else 0.0


class AnomalyDetector:
    """One series. ``add`` judges a value by what came before it, then learns it."""

    def __init__(self, config: AnomalyConfig | None = None) -> None:
        self.config = config or AnomalyConfig()
        bins = self.config.bins if self.config.season_s > 0 else 1
        self._bins: list[deque[float]] = [deque(maxlen=self.config.keep) for _ in range(bins)]
        self._stats: list[tuple[float, float] | None] = [None] * bins
        self._recent: deque[float] = deque(maxlen=self.config.recent)
        self._errors: deque[float] = deque(maxlen=max(self.config.keep, 4 * self.config.recent))
        self._scale = 0.0
        self._stale = 0
        self._mean = 0.0
        self._means = _Past(self.config.alarm_share)
        self._scores = _Past(self.config.alarm_share)

    def add(self, at: float, value: float) -> Verdict:
        """Judge a reading at wall time ``at``; raises ValueError for what is no number."""
        if not math.isfinite(value):
            raise ValueError(f"{value} is no reading")
        config = self.config
        place = self._place(at)
        usual = self._usual(place)
        kind, score, expected = "", 0.0, value
        if usual is not None:
            expected, scale = usual
            score = (value - expected) / max(scale, config.floor_share * abs(expected), 1e-9)
            # Capped: one wild value is a spike, and no shift.
            capped = max(-config.spike, min(config.spike, score))
            self._mean += config.weight * (capped - self._mean)
            if abs(self._mean) > max(config.shift, self._means.limit):
                kind = "shift"
            elif abs(score) > max(config.spike, self._scores.limit) and self._sudden(value):
                kind = "spike"
            self._means.add(abs(self._mean))
            self._scores.add(abs(score))
        self._learn(place, value)
        return Verdict(score, expected, kind)

    def _place(self, at: float) -> int:
        season_s = self.config.season_s
        if season_s <= 0:
            return 0
        return min(int((at % season_s) / season_s * len(self._bins)), len(self._bins) - 1)

    def _usual(self, place: int) -> tuple[float, float] | None:
        kept = self._bins[place]
        if len(kept) < self.config.least:
            return None
        if self._stats[place] is None:
            self._stats[place] = (median(kept), mad_std(list(kept)))
        return self._stats[place]

    def _sudden(self, value: float) -> bool:
        """Whether the value also leaves what came just before it."""
        if len(self._recent) < self.config.least or not self._errors:
            return True
        if not self._stale:
            self._scale = max(mad_std(list(self._errors)), 1e-9)
            self._stale = 8  # values until it is worked out again
        self._stale -= 1
        return abs(value - self._recent[-1]) > self.config.spike * self._scale

    def _learn(self, place: int, value: float) -> None:
        if self._recent:
            self._errors.append(value - self._recent[-1])
        self._recent.append(value)
        self._bins[place].append(value)
        self._stats[place] = None

"""Whether a sensor still measures: out of range, stuck, spikes, drift, dropouts. Pure.

An anomaly is something in the world, a fault something in the sensor; only the second disqualifies
what is said. What a physical quantity cannot do, and what the neighbours do not do, tells them
apart. The kinds are those of Ni et al. 2009, "Sensor network data fault types", ACM TOSN 5(3).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from statistics import median

from capabilities.data.robust import mad_std

RECENT = 24  # steps: what varies much just now is not judged by quieter days
KINDS = ("range", "spike", "stuck", "drift", "dropout")


@dataclass(frozen=True)
class FaultConfig:
    """What a sensor of this kind can do."""

    low: float = -math.inf
    high: float = math.inf
    """Beyond these it cannot measure."""

    stuck_chance: float = 1e-12
    """A run of equal values is a fault when chance makes it no oftener than this, given how often
    two neighbours are equal in the history. Real air is equal for hours more often than neighbours
    that are independent would be: at 1e-6 a third of the false alarms of real stations are such."""

    stuck_least: int = 5
    """Equal values that are never called stuck, however unlikely."""

    spike: float = 12.0
    """Robust standard deviations of the steps from one value to the next, up and back again."""

    drift: float = 7.0
    """Robust standard deviations by which the distance to the neighbours leaves its usual place."""

    drift_over: int = 24
    """Values over whose median the distance is looked at: one that is off is a spike, and half a
    day that is off may be the wind."""

    dropout: float = 3.5
    """Usual periods of silence."""

    history: int = 336
    """Values remembered; two weeks of hours."""

    least: int = 24
    """Values before anything but the range is judged."""


@dataclass(frozen=True)
class Fault:
    """What is wrong, since when (wall seconds), in words."""

    kind: str
    at: float
    note: str


class FaultDetector:
    """One sensor. ``add`` returns the faults of a value, judged by what came before it."""

    def __init__(self, config: FaultConfig | None = None) -> None:
        self.config = config or FaultConfig()
        self.counters: Counter[str] = Counter()
        self._values: deque[float] = deque(maxlen=self.config.history)
        self._steps: deque[float] = deque(maxlen=self.config.history)
        self._apart: deque[float] = deque(maxlen=self.config.history)
        self._now_apart: deque[float] = deque(maxlen=self.config.drift_over)
        self._equal: deque[bool] = deque(maxlen=self.config.history)
        self._periods: deque[float] = deque(maxlen=49)
        self._run: list[float] = []
        self._last_at = -math.inf
        self._held: tuple[float, float, float] | None = None

    def add(self, at: float, value: float, reference: float | None = None) -> list[Fault]:
        """Judge a reading; ``reference`` is what its neighbours say at that time (their median)."""
        config, found = self.config, []
        period_s = median(self._periods) if len(self._periods) >= config.least else 0.0
        silent_s = at - self._last_at
        if period_s > 0 and silent_s > config.dropout * period_s:
            found.append(Fault("dropout", self._last_at, f"silent for {silent_s:.0f} s"))
        elif 0 < silent_s < math.inf:
            self._periods.append(silent_s)
        self._last_at = at
        if not config.low <= value <= config.high or not math.isfinite(value):
            found.append(Fault("range", at, f"{value:g} is beyond what it can measure"))
            self._count(found)
            return found  # no value to learn
        found += self._stuck(at, value)
        found += self._spike(at, value, reference)
        if reference is not None:
            found += self._drift(at, value - reference)
        self._count(found)
        return found

    def silent(self, now: float) -> Fault | None:
        """The dropout that goes on at ``now``, if one does."""
        if len(self._periods) < self.config.least:
            return None
        quiet_s = now - self._last_at
        if quiet_s <= self.config.dropout * median(self._periods):
            return None
        return Fault("dropout", self._last_at, f"silent for {quiet_s:.0f} s")

    def _count(self, found: list[Fault]) -> None:
        self.counters.update(fault.kind for fault in found)

    def _stuck(self, at: float, value: float) -> list[Fault]:
        config = self.config
        same = bool(self._run) and value == self._run[-1]
        self._run = [*self._run, value][-config.history :] if same else [value]
        length = len(self._run)
        # A run is not learnt while it may be a fault: else it would excuse itself.
        if length <= config.stuck_least and len(self._values):
            self._equal.append(same)
        if length <= config.stuck_least or len(self._equal) < config.least:
            return []
        often = (1 + sum(self._equal)) / (2 + len(self._equal))
        if often ** (length - 1) > config.stuck_chance:
            return []
        return [Fault("stuck", at, f"{value:g} for {length} readings")]

    def _spike(self, at: float, value: float, reference: float | None) -> list[Fault]:
        """A spike is told with the value after it, which is back where the one before it was: a
        single far value may be the beginning of something."""
        before = self._values[-1] if self._values else value
        apart = math.nan if reference is None else value - reference
        found = []
        held, self._held = self._held, None
        if held is not None:
            spike_at, far, far_apart = held
            if abs(value - before) < abs(far - before) / 2 and self._own(far_apart):
                found.append(Fault("spike", spike_at, f"{far:g} between {before:g} and {value:g}"))
            else:  # a level, not a spike: learn it
                self._learn_value(far)
                before = far
        step = value - before
        if len(self._steps) >= self.config.least and self._tall(step):
            self._held = (at, value, apart)
        else:
            self._learn_value(value)
        return found

    def _tall(self, step: float) -> bool:
        steps = list(self._steps)
        usual = max(mad_std(steps), mad_std(steps[-RECENT:]), 1e-9)
        return abs(step) > self.config.spike * usual

    def _own(self, apart: float) -> bool:
        """Whether a far value is this sensor's own: its neighbours did not go along."""
        if math.isnan(apart) or len(self._apart) < self.config.least:
            return True
        usual = list(self._apart)
        return abs(apart - median(usual)) > self.config.spike / 2 * max(mad_std(usual), 1e-9)

    def _learn_value(self, value: float) -> None:
        self._steps.append(value - self._values[-1] if self._values else 0.0)
        self._values.append(value)

    def _drift(self, at: float, apart: float) -> list[Fault]:
        config = self.config
        self._now_apart.append(apart)
        judged = len(self._apart) >= config.least and len(self._now_apart) == config.drift_over
        if judged:
            usual = list(self._apart)
            middle, spread = median(usual), max(mad_std(usual), 1e-9)
            away = (median(self._now_apart) - middle) / spread
            if abs(away) > config.drift:
                return [Fault("drift", at, f"{away:+.1f} deviations from its neighbours")]
        # Learnt late, so that a drift does not move its own standard.
        self._apart.append(apart)
        return []

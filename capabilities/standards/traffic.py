"""Level of service of a street: from travel speed, volume and capacity to a letter from A to F.

Source: Transportation Research Board, "Highway Capacity Manual, 7th Edition", 2022, Exhibit 18-1
(urban street segments, motor vehicles): travel speeds by base free-flow speed, interpolated
between its columns, and F wherever the volume exceeds the capacity.

Two things are ours, not the manual's. The speed limit stands for the base free-flow speed, which
a sensor does not know. And below 25 or above 55 mi/h, where the exhibit ends, its outermost column
is scaled in proportion; the manual judges motorways by density instead.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction

LEVELS = "FEDCBA"  # from the slowest
STATES = {
    "A": "free flow",
    "B": "nearly free flow",
    "C": "steady flow",
    "D": "dense flow",
    "E": "unstable flow",
    "F": "jam",
}
KM_PER_MILE = Fraction("1.609344")
UNITS = {"mph": Fraction(1), "km/h": 1 / KM_PER_MILE}  # in miles per hour

# Exhibit 18-1: by base free-flow speed in mi/h, the speeds above which E, D, C, B and A hold.
EXHIBIT = {
    25: (8, 10, 13, 17, 20),
    30: (9, 12, 15, 20, 24),
    35: (11, 14, 18, 23, 28),
    40: (12, 16, 20, 27, 32),
    45: (14, 18, 23, 30, 36),
    50: (15, 20, 25, 34, 40),
    55: (17, 22, 28, 37, 44),
}


def _row(free_flow_mph: Fraction) -> tuple[Fraction, ...]:
    lowest, highest = min(EXHIBIT), max(EXHIBIT)
    end = min(max(free_flow_mph, Fraction(lowest)), Fraction(highest))
    if end != free_flow_mph:
        return tuple(free_flow_mph / end * speed for speed in EXHIBIT[int(end)])
    low = max(column for column in EXHIBIT if column <= end)
    high = min(column for column in EXHIBIT if column >= end)
    share = (end - low) / (high - low) if high > low else Fraction(0)
    return tuple(x + (y - x) * share for x, y in zip(EXHIBIT[low], EXHIBIT[high], strict=True))


def edges(limit: int, unit: str) -> tuple[int, ...]:
    """The highest whole speeds of the levels F, E, D, C, B under the speed limit `limit`.

    Speeds and `limit` in `unit`, one of UNITS. Raises ValueError for a limit that is not positive,
    KeyError for an unknown unit.
    """
    if limit <= 0:
        raise ValueError(f"a speed limit is above zero, not {limit}")
    in_mph = UNITS[unit]
    return tuple(int(speed / in_mph) for speed in _row(limit * in_mph))


@dataclass(frozen=True)
class Flow:
    """What was measured: whole speeds in `unit`, volume and capacity in vehicles per hour."""

    speed: int
    limit: int
    unit: str
    volume: int | None = None
    capacity: int | None = None

    @property
    def over_capacity(self) -> bool:
        return None not in (self.volume, self.capacity) and self.volume > self.capacity  # type: ignore[operator]

    @property
    def level(self) -> str:
        """The level of service. Raises ValueError for a speed below zero."""
        if self.speed < 0:
            raise ValueError(f"a speed is not below zero: {self.speed}")
        if self.over_capacity:
            return "F"
        return LEVELS[bisect_left(edges(self.limit, self.unit), self.speed)]

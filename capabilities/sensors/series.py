"""Series of readings brought to one value per period, with what is missing in sight. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

MAX_SLOTS = 100_000  # of one series: a month of half-minutes


def resample(
    times: Sequence[float], values: Sequence[float], *, start: float, period_s: float, count: int
) -> list[float | None]:
    """The median of each period from ``start`` on, None where nothing was measured.

    The median, since one wild value in a period shall not move it. Raises ValueError for a period
    that is not positive or more than :data:`MAX_SLOTS` of them.
    """
    if period_s <= 0 or not 0 <= count <= MAX_SLOTS:
        raise ValueError(f"{count} periods of {period_s} s")
    slots: list[list[float]] = [[] for _ in range(count)]
    for at, value in zip(times, values, strict=True):
        place = math.floor((at - start) / period_s)
        if 0 <= place < count:
            slots[place].append(value)
    return [median(slot) if slot else None for slot in slots]


def fill(values: Sequence[float | None], most: int) -> list[float | None]:
    """Gaps of up to ``most`` periods, with a value on both sides, on the line between those; longer
    ones stay open: nobody knows what was there."""
    filled = list(values)
    last = -1
    for place, value in enumerate(values):
        if value is None:
            continue
        hole = place - last - 1
        before = values[last] if last >= 0 else None
        if 0 < hole <= most and before is not None:
            for step in range(1, hole + 1):
                filled[last + step] = before + (value - before) * step / (hole + 1)
        last = place
    return filled


def usual_period(times: Sequence[float]) -> float:
    """Seconds between two readings, as a rule; 0 for fewer than two."""
    steps = [b - a for a, b in pairwise(times) if b > a]
    return median(steps) if steps else 0.0

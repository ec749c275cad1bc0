"""Statistics that a few wrong values cannot move. Pure; for series of at most some hundred values.

An unbounded lie moves a mean as far as it likes. The median, the median absolute deviation (MAD)
and the Theil-Sen slope stay where they are until the liars are many: half of the values, half,
and 29 % of the points. Sources: Hampel 1974 (MAD, and the filter that bears his name), Theil 1950
and Sen 1968 (slope), Page 1954 (CUSUM), Iglewicz and Hoaglin 1993 (the threshold 3.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

MAD_TO_STD = 1.4826  # 1 / the 75th percentile of a normal distribution
OUTLYING = 3.5  # robust standard deviations, as Iglewicz and Hoaglin advise
CUSUM_SLACK = 0.5  # standard deviations: detects a shift of one soonest (Montgomery 2009, 9.1)
CUSUM_LIMIT = 5.0  # standard deviations: a false alarm each 930 values of a normal series (there)


def mad_std(values: Sequence[float]) -> float:
    """The standard deviation as the MAD estimates it; 0 for one value or for equal ones."""
    middle = median(values)
    return MAD_TO_STD * median(abs(value - middle) for value in values)


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value with half of the weight on each side; between two, their mean."""
    pairs = sorted(zip(values, weights, strict=True))
    half, below = sum(weights) / 2, 0.0
    for place, (value, weight) in enumerate(pairs):
        below += weight
        if math.isclose(below, half) and place + 1 < len(pairs):
            return (value + pairs[place + 1][0]) / 2
        if below > half:
            return value
    return pairs[-1][0]


def theil_sen(times: Sequence[float], values: Sequence[float]) -> float:
    """The median of all slopes between two points, per unit of time; 0 where there is none."""
    slopes = [
        (values[j] - values[i]) / (times[j] - times[i])
        for i in range(len(times))
        for j in range(i + 1, len(times))
        if times[j] != times[i]
    ]
    return median(slopes) if slopes else 0.0


def mann_kendall(times: Sequence[float], values: Sequence[float]) -> float:
    """How sure a trend is, in standard deviations of the statistic under none, signed.

    Ties of values are accounted for. Source: Mann 1945, Kendall 1975.
    """
    order = sorted(range(len(times)), key=times.__getitem__)
    series = [values[i] for i in order]
    n = len(series)
    score = sum(
        (series[j] > series[i]) - (series[j] < series[i]) for i in range(n) for j in range(i + 1, n)
    )
    ties: dict[float, int] = {}
    for value in series:
        ties[value] = ties.get(value, 0) + 1
    tied = sum(t * (t - 1) * (2 * t + 5) for t in ties.values())
    variance = (n * (n - 1) * (2 * n + 5) - tied) / 18
    if variance <= 0 or score == 0:
        return 0.0
    return (score - math.copysign(1, score)) / math.sqrt(variance)


def hampel(values: Sequence[float], half_window: int = 5, *, floor: float = 0.0) -> list[int]:
    """The places of values that lie :data:`OUTLYING` robust standard deviations or more from the
    median around them. ``floor`` is the least standard deviation believed in: a series that
    stands still has none of its own."""
    found = []
    for place, value in enumerate(values):
        around = values[max(0, place - half_window) : place + half_window + 1]
        scale = max(mad_std(around), floor)
        if abs(value - median(around)) > OUTLYING * scale:
            found.append(place)
    return found


def cusum(values: Sequence[float], level: float, std: float) -> int:
    """The place where the level began to be another one, -1 when it did not.

    Two-sided: departures beyond :data:`CUSUM_SLACK` add up until they reach
    :data:`CUSUM_LIMIT`; the change began where the sum last left zero. A single value counts
    for at most half of the limit, so that one wrong value is no new level.
    """
    if std <= 0:
        return -1
    most = CUSUM_LIMIT / 2
    up = down = 0.0
    up_from = down_from = 0
    for place, value in enumerate(values):
        z = max(-most, min(most, (value - level) / std))
        up, down = max(0.0, up + z - CUSUM_SLACK), max(0.0, down - z - CUSUM_SLACK)
        if up == 0.0:
            up_from = place + 1
        if down == 0.0:
            down_from = place + 1
        if up > CUSUM_LIMIT or down > CUSUM_LIMIT:
            return up_from if up > CUSUM_LIMIT else down_from
    return -1

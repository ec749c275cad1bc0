"""Counts and histograms of one agent, as plain values; whoever publishes them gives them a form.

Names and bucket boundaries are those of OpenTelemetry's semantic conventions for generative AI
where there is one (``gen_ai.*``); the rest begins with ``gossamer.``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import msgspec

# Boundaries as the conventions advise them (OpenTelemetry, GenAI metrics).
DURATION_S = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)
FIRST_TOKEN_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
TOKENS = tuple(float(4**power) for power in range(14))

REQUEST_DURATION = "gen_ai.server.request.duration"
FIRST_TOKEN = "gen_ai.server.time_to_first_token"  # noqa: S105 - the name of a metric
TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105

BUCKETS = {REQUEST_DURATION: DURATION_S, FIRST_TOKEN: FIRST_TOKEN_S, TOKEN_USAGE: TOKENS}
# Peers choose names, and every name is a time series somewhere: what is beyond goes under "other".
MAX_SERIES = 128
OTHER = "other"

Labels = tuple[tuple[str, str], ...]


class Histogram(msgspec.Struct):
    """Counts per bucket (the last one is above every boundary), their sum and their number."""

    bounds: Sequence[float]
    counts: list[int]
    total: float = 0.0
    number: int = 0

    def add(self, value: float) -> None:
        """Count one value; a bucket holds what is at most its boundary."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        self.number += 1


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One counter (``value``) or histogram with its labels, as it travels."""

    name: str
    labels: dict[str, str]
    value: float = 0.0
    bounds: list[float] = []
    counts: list[int] = []
    total: float = 0.0


class Meter:
    """Counters and histograms by name and labels; bounded in both."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}

    def count(self, metric: str, /, by: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        key = self._key(metric, labels, self._counters)
        self._counters[key] = self._counters.get(key, 0.0) + by

    def observe(self, metric: str, value: float, /, **labels: str) -> None:
        """Add a value to the histogram of a metric in :data:`BUCKETS`."""
        key = self._key(metric, labels, self._histograms)
        found = self._histograms.get(key)
        if found is None:
            bounds = BUCKETS[metric]
            found = self._histograms[key] = Histogram(bounds, [0] * (len(bounds) + 1))
        found.add(value)

    def value(self, metric: str, /, **labels: str) -> float:
        """A counter as it stands, 0 when nothing was counted."""
        return self._counters.get((metric, tuple(sorted(labels.items()))), 0.0)

    def series(self) -> list[Series]:
        """Everything, ready to travel."""
        counters = [
            Series(name=name, labels=dict(labels), value=value)
            for (name, labels), value in self._counters.items()
        ]
        histograms = [
            Series(
                name=name,
                labels=dict(labels),
                value=float(found.number),
                bounds=list(found.bounds),
                counts=list(found.counts),
                total=found.total,
            )
            for (name, labels), found in self._histograms.items()
        ]
        return counters + histograms

    @staticmethod
    def _key(
        name: str, labels: dict[str, str], known: Mapping[tuple[str, Labels], object]
    ) -> tuple[str, Labels]:
        key = (name, tuple(sorted(labels.items())))
        if key in known or sum(1 for other, _ in known if other == name) < MAX_SERIES:
            return key
        return (name, tuple((label, OTHER) for label, _ in key[1]))

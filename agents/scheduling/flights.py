"""A node's own calls under way: what it knows of its peers' load before gossip tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Flight:
    """One call. Times in monotonic seconds of this node; ``tokens`` heard of it so far."""

    node: bytes
    started: float
    first_at: float = -1.0  # -1 before the first token
    tokens: int = 0


class Flights:
    """All calls under way, per node; every one that is opened must be closed."""

    def __init__(self) -> None:
        self._open: dict[bytes, list[Flight]] = {}

    def open(self, node: bytes, now: float) -> Flight:
        """A call leaves for ``node``."""
        flight = Flight(node, now)
        self._open.setdefault(node, []).append(flight)
        return flight

    def close(self, flight: Flight) -> None:
        """It is over, however it ended; closing twice does nothing."""
        flights = self._open.get(flight.node, [])
        for place, other in enumerate(flights):
            if other is flight:
                del flights[place]
                break
        if not flights:
            self._open.pop(flight.node, None)

    def count(self, node: bytes) -> int:
        """Calls under way to ``node``."""
        return len(self._open.get(node, ()))

    def since(self, node: bytes, moment: float) -> int:
        """Calls under way to ``node`` that a report of its load from ``moment`` cannot hold."""
        return sum(flight.started > moment for flight in self._open.get(node, ()))

    def at(self, node: bytes) -> tuple[Flight, ...]:
        """The calls under way to ``node``."""
        return tuple(self._open.get(node, ()))

    def __iter__(self) -> Iterator[Flight]:
        for flights in self._open.values():
            yield from flights

    def counts(self) -> dict[bytes, int]:
        """Calls under way by node."""
        return {node: len(flights) for node, flights in self._open.items()}

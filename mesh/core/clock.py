"""Two clocks, handed in and never read here.

Intervals use the monotonic clock. Wall time is only for the expiry of certificates,
invitations and records, and never runs below a floor kept on disk: a board without a clock
chip must not believe a time before the last one that it knew.
"""

from __future__ import annotations

from typing import NamedTuple


class Now(NamedTuple):
    """One reading of both clocks, in seconds: ``mono`` since some start, ``wall`` since 1970."""

    mono: float
    wall: float


class WallFloor:
    """Wall time that never falls below the last known one."""

    def __init__(self, floor: float = 0.0) -> None:
        self.floor = floor

    def read(self, system_wall: float, mono: float = 0.0) -> float:
        """The system's wall time, or the floor where the system's clock is behind it."""
        self.floor = max(self.floor, system_wall)
        return self.floor

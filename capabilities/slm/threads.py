"""How many threads compute; pure.

As many threads as cores is fastest on an idle machine, and beside one busy process the slowest
choice of all: every step waits for the thread that was pushed aside (20 to 3 tokens/s measured;
one thread less keeps 12). So the count follows what the others leave.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LOOK_S = 0.25  # between two looks at the machine; one takes 0.1 ms
# A fraction of a core that others may use before it counts as taken.
SLACK_CORES = 0.35
CALM_LOOKS = 4  # so many calm looks in a row before a thread comes back
NEAR_C, FAR_C = 1.0, 6.0  # degrees below the limit at which threads rest, and come back
WORTH = 1.05  # a thread more must bring this much, or it is left to others


def candidates(cores: int) -> list[int]:
    """Thread counts worth measuring on a machine, the fewest first."""
    return sorted({max(1, cores // 2), max(1, cores - 1), cores})


def best(rates: Mapping[int, float]) -> int:
    """The fewest threads that are not clearly slower than more of them."""
    chosen, *more = sorted(rates)
    for count in more:
        if rates[count] > rates[chosen] * WORTH:
            chosen = count
    return chosen


@dataclass(slots=True)
class ThreadPolicy:
    """Follows the machine. ``decode``: the best count for one token; ``cores``: for prompts."""

    cores: int
    decode: int
    _allowed: int = 0
    _calm: int = 0
    _hot: bool = False
    _next: float = -math.inf

    def __post_init__(self) -> None:
        self._allowed = self.cores

    @property
    def counts(self) -> tuple[int, int]:
        """Threads for steps of one token, and for all others."""
        allowed = max(1, self._allowed // 2) if self._hot else self._allowed
        return min(self.decode, allowed), allowed

    def look(self, now: float, busy: Callable[[], float], cool_c: Callable[[], float]) -> bool:
        """Look at the machine if it is time to; whether :attr:`counts` changed.

        ``busy``: cores that others use. ``cool_c``: degrees left until the machine slows down.
        """
        if now < self._next:
            return False
        before, self._next = self.counts, now + LOOK_S
        wanted = max(1, min(self.cores, math.floor(self.cores - busy() + SLACK_CORES)))
        self._hot = cool_c() <= (FAR_C if self._hot else NEAR_C)
        if wanted < self._allowed:
            self._allowed, self._calm = wanted, 0
        elif wanted > self._allowed:
            self._calm += 1
            if self._calm >= CALM_LOOKS:
                self._allowed, self._calm = self._allowed + 1, 0
        else:
            self._calm = 0
        return self.counts != before

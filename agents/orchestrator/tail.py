"""When a call is a straggler: later than 95 of 100 calls like it would be.

Dean and Barroso ("The tail at scale", 2013): a request that is sent a second time once the first
has taken longer than the 95th percentile cuts the tail and costs some five percent more calls.
What counts as late is learnt: the ratio of what calls took to what was predicted for them.
"""

from __future__ import annotations

from collections import deque

import msgspec

from agents.port import Offer
from agents.scheduling.prediction import Job, Outcome, Predictor

QUANTILE = 0.95
KEPT = 200  # ratios: enough for a 95th percentile, few enough to follow a mesh that changes
ENOUGH = 20  # below it a percentile is a guess, and the factor below stands for it
FIRST_FACTOR = 3.0  # of the prediction, until there are enough ratios: late beyond doubt
LEAST_S = 0.25  # a hedge sooner would race the scheduler of a busy machine, not a straggler
BURST = 3.0  # hedges that may be saved up: a node that freezes holds several steps at once


class Lateness(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the call after which it is late; ``expected_*`` is what was predicted."""

    first_s: float
    done_s: float
    expected_first_s: float
    expected_done_s: float


class Tail:
    """What is late, learnt from this node's own calls; and the budget of hedges.

    ``share`` is how many hedges a call earns: 0.1 allows one hedge in ten calls, 0 none.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._purse = 1.0 if share > 0 else 0.0
        self._predictor = Predictor()
        self._firsts: deque[float] = deque(maxlen=KEPT)
        self._dones: deque[float] = deque(maxlen=KEPT)

    def lateness(self, offer: Offer, job: Job, unseen: int) -> Lateness:
        """For a call that leaves now; it also earns its part of a hedge."""
        self._purse = min(BURST, self._purse + self._share)
        found = self._predictor.predict(offer, job, unseen)
        return Lateness(
            first_s=max(LEAST_S, found.first_token_s * _factor(self._firsts)),
            done_s=max(LEAST_S, found.completion_s * _factor(self._dones)),
            expected_first_s=found.first_token_s,
            expected_done_s=found.completion_s,
        )

    def may_hedge(self) -> bool:
        """Whether a hedge is in the budget; it is spent by asking."""
        if self._purse < 1.0 - 1e-9:
            return False
        self._purse -= 1.0
        return True

    def observe(self, outcome: Outcome) -> None:
        """Learn how fast the endpoints are."""
        self._predictor.observe(outcome)

    def took(self, lateness: Lateness, first_s: float, done_s: float) -> None:
        """A call that was answered took so long."""
        if lateness.expected_first_s > 0 and first_s >= 0:
            self._firsts.append(first_s / lateness.expected_first_s)
        if lateness.expected_done_s > 0 and done_s >= 0:
            self._dones.append(done_s / lateness.expected_done_s)


def _factor(ratios: deque[float]) -> float:
    if len(ratios) < ENOUGH:
        return FIRST_FACTOR
    ordered = sorted(ratios)
    return ordered[min(len(ordered) - 1, int(QUANTILE * len(ordered)))]

"""A fitted cascade: whose answer is believed, and whether the cloud would better it. Pure.

Made by :mod:`agents.escalation.fitting`, which needs numpy; used without it.
"""

from __future__ import annotations

import msgspec

WORTH = 0.05  # the cloud betters one such answer in twenty: below that, it is not asked


class Cascade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``thresholds``: per stage before the last, believed from there on. ``gains``: how much
    oftener the cloud was right, by bin of the score of the stage before it; at a gain of
    ``worth`` or less it is not asked."""

    thresholds: list[float]
    gains: list[float]
    budget: float
    questions: int
    worth: float = WORTH

    def threshold(self, attempt: int) -> float:
        """For the answer of attempt 0, 1, ...; later attempts are judged as the last one."""
        return self.thresholds[min(max(attempt, 0), len(self.thresholds) - 1)]

    def gain(self, score: float) -> float:
        """How much the cloud is expected to better an answer of this score."""
        return self.gains[_bin(score, len(self.gains))]


def _bin(score: float, bins: int) -> int:
    return min(max(int(score * bins), 0), bins - 1)

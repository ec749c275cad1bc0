"""How much work a node takes while it is hot or its power is low. Decides only.

The levels go down at once and come back one at a time, after the machine was well for a while:
a board that cools as soon as it rests would otherwise change its mind every few seconds.
"""

from __future__ import annotations

import enum
import math

import msgspec

RETRY_S = 60.0  # when a refused caller may ask again


class Level(enum.IntEnum):
    """How much of its work a node still takes."""

    RESTING = 0
    EASED = 1
    FULL = 2


class ShedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When to take less.

    ``ease_slack_c``, ``rest_slack_c``: degrees left until the machine slows itself, below which
    half and none of the slots are given. Larger rests sooner and stays faster.

    ``ease_battery``, ``rest_battery``: the same for a battery that is not charged, 0 to 1.

    ``margin_c``, ``margin_battery``: how far beyond the bound it must come back.

    ``calm_s``: seconds of that before more is taken again.
    """

    ease_slack_c: float = 5.0
    rest_slack_c: float = -5.0
    ease_battery: float = 0.3
    rest_battery: float = 0.1
    margin_c: float = 5.0
    margin_battery: float = 0.05
    calm_s: float = 60.0


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision is made of. ``slack_c`` is infinite and ``battery`` -1 where unknown."""

    slack_c: float = math.inf
    throttled: bool = False
    low_voltage: bool = False
    battery: float = -1.0
    discharging: bool = False


class Shedding:
    """The present level, and why it is not the full one."""

    def __init__(self, config: ShedConfig | None = None) -> None:
        self.config = config or ShedConfig()
        self.level = Level.FULL
        self.reason = ""
        self._calm_since: float | None = None

    def look(self, condition: Condition, now: float) -> Level:
        """Take note of the machine's condition at ``now`` (monotonic seconds)."""
        wanted, reason = self._level(condition, recovering=False)
        if wanted < self.level:
            self.level, self.reason, self._calm_since = wanted, reason, None
            return self.level
        better, why = self._level(condition, recovering=True)
        if better <= self.level:
            self._calm_since = None
            if better == self.level and why:
                self.reason = why
            return self.level
        if self._calm_since is None:
            self._calm_since = now
        if now - self._calm_since >= self.config.calm_s:
            self.level, self._calm_since = Level(self.level + 1), None
            if self.level is Level.FULL:
                self.reason = ""
        return self.level

    def slots(self, total: int) -> int:
        """How many of ``total`` slots are given now; at least one while any are."""
        if self.level is Level.FULL or total <= 0:
            return total
        return max(1, total // 2) if self.level is Level.EASED else 0

    def _level(self, seen: Condition, *, recovering: bool) -> tuple[Level, str]:
        """The lowest level that any reading asks for; with margins on the way back."""
        config = self.config
        warm = config.margin_c if recovering else 0.0
        low = config.margin_battery if recovering else 0.0
        if seen.slack_c < config.rest_slack_c + warm:
            return Level.RESTING, f"too hot: {_slack(seen.slack_c)}"
        if seen.discharging and 0 <= seen.battery < config.rest_battery + low:
            return Level.RESTING, f"battery at {seen.battery:.0%}"
        if seen.low_voltage:
            return Level.EASED, "the supply voltage is low"
        if seen.throttled:
            return Level.EASED, "the processor is slowed"
        if seen.slack_c < config.ease_slack_c + warm:
            return Level.EASED, f"hot: {_slack(seen.slack_c)}"
        if seen.discharging and 0 <= seen.battery < config.ease_battery + low:
            return Level.EASED, f"battery at {seen.battery:.0%}"
        return Level.FULL, ""


def _slack(degrees: float) -> str:
    where = "below" if degrees >= 0 else "above"
    return f"{abs(degrees):.0f} degrees {where} its limit"

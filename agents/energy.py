"""What a token costs a node in energy: measured where the board reports its power, else stated."""

from __future__ import annotations

from mesh.core.wire import Load

LEARN = 0.2  # weight of the newest reading; power swings from second to second


class EnergyMeter:
    """``stated_w`` is what the machine draws with all slots at work, as its owner says; 0 where
    that is not known. A measured figure outweighs it."""

    def __init__(self, stated_w: float = 0.0) -> None:
        self._stated_w = stated_w
        self._measured = 0.0

    def look(self, power_w: float, load: Load) -> None:
        """A reading of the machine's power; it says something only while tokens are written."""
        at_work = min(load.inflight, load.slots)
        if power_w <= 0 or at_work <= 0 or load.tokens_per_s <= 0:
            return
        found = power_w / (load.tokens_per_s * at_work)
        self._measured += (LEARN if self._measured else 1.0) * (found - self._measured)

    def joules_per_token(self, load: Load) -> float:
        """0 when unknown."""
        if self._measured > 0:
            return round(self._measured, 3)
        if self._stated_w > 0 and load.tokens_per_s > 0 and load.slots > 0:
            return round(self._stated_w / (load.tokens_per_s * load.slots), 3)
        return 0.0

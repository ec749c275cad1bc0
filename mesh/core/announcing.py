"""When a node's status travels: on meaningful change, with hysteresis and a ceiling."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from mesh.core.clock import Now


class AnnounceConfig(msgspec.Struct, frozen=True):
    """All times in seconds.

    ``profile_life_s``: wall-clock life of a profile, signed again at half of it. A restarted
    node believes its journal this long; a dead node's names are remembered as long.

    ``status_life_s``: the same for a status. Long, because membership already says who is
    alive: an idle mesh must not sign its idleness again and again.

    ``status_gap_s``: at least this between two statuses of a node.

    ``mesh_statuses_per_s``: beyond that gap, the whole mesh sends about this many statuses a
    second: with N nodes each waits N / this. It bounds what a busy mesh costs each node
    (eight a second at a kilobyte for three copies and some announcements) and is why load is
    also sent with every reply.

    ``load_step``: smallest change of load that matters; to and from idle (0) and full (1)
    always does. Smaller follows more closely and gossips more.

    ``rate_step``, ``temperature_step_c``, ``battery_step``, ``progress_step``: the same for
    tokens per second and joules per token (relative), degrees, battery and task progress (of 1).

    ``observed_life_s``: how long the load seen on a reply outweighs the gossiped one.
    """

    profile_life_s: float = 86400.0
    status_life_s: float = 3600.0
    status_gap_s: float = 1.0
    mesh_statuses_per_s: float = 8.0
    load_step: float = 0.2
    rate_step: float = 0.25
    temperature_step_c: float = 5.0
    battery_step: float = 0.1
    progress_step: float = 0.25
    observed_life_s: float = 5.0


class Vitals(NamedTuple):
    """The fields of a status that a node measures of itself (see records.Status)."""

    load: float = 0.0
    inflight: int = 0
    queued: int = 0
    slots: int = 0
    tokens_per_s: float = 0.0
    healthy: bool = True
    note: str = ""
    tasks: tuple[tuple[str, float], ...] = ()
    temperature_c: float = 0.0
    battery: float = -1.0
    joules_per_token: float = 0.0
    throttled: bool = False
    power_w: float = 0.0
    draining: bool = False


class StatusGate:
    """Holds the present vitals and says when they are worth a signature."""

    def __init__(self, config: AnnounceConfig) -> None:
        self._config = config
        self._sent: Vitals | None = None
        self._sent_at = -math.inf
        self._waiting: Vitals | None = None
        self._present: Vitals | None = None

    def set(self, vitals: Vitals, now: Now) -> None:
        """The vitals as they are now."""
        self._present = vitals
        self._waiting = vitals if self._matters(vitals) else None

    def _matters(self, new: Vitals) -> bool:
        old, config = self._sent, self._config
        if old is None:
            return True
        before = (old.healthy, old.slots, old.note, old.throttled, old.draining)
        if before != (new.healthy, new.slots, new.note, new.throttled, new.draining):
            return True
        crossed = _band(old.load) != _band(new.load)
        rate = abs(new.tokens_per_s - old.tokens_per_s)
        energy = abs(new.joules_per_token - old.joules_per_token)
        return (
            crossed
            or abs(new.load - old.load) >= config.load_step
            or rate > config.rate_step * max(old.tokens_per_s, 1e-9)
            or energy > config.rate_step * max(old.joules_per_token, 1e-9)
            or abs(new.temperature_c - old.temperature_c) >= config.temperature_step_c
            or abs(new.battery - old.battery) >= config.battery_step
            or _tasks_moved(dict(old.tasks), dict(new.tasks), config.progress_step)
        )

    def _gap(self, present: int) -> float:
        return max(self._config.status_gap_s, (present + 1) / self._config.mesh_statuses_per_s)

    def due(self, now: Now, present: int) -> Vitals | None:
        """What to publish now, if anything; ``present`` is the number of peers."""
        if now.mono >= self._sent_at + self._config.status_life_s / 2:
            return self._present
        if self._waiting is None or now.mono < self._sent_at + self._gap(present):
            return None
        return self._waiting

    def sent(self, vitals: Vitals, now: Now) -> None:
        """It was published."""
        self._sent, self._sent_at, self._waiting = vitals, now.mono, None

    def next_deadline(self, present: int) -> float:
        """Monotonic seconds."""
        if self._waiting is not None:
            return self._sent_at + self._gap(present)
        if self._present is not None:
            return self._sent_at + self._config.status_life_s / 2
        return math.inf


def _band(load: float) -> int:
    """Idle, partly busy, full: what a scheduler asks first."""
    return 0 if load <= 0.0 else 1 if load < 1.0 else 2


def _tasks_moved(old: dict[str, float], new: dict[str, float], step: float) -> bool:
    return old.keys() != new.keys() or any(abs(new[t] - old[t]) >= step for t in new)

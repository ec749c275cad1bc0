"""What a subscriber knows of one feed at one node, and what it does when that breaks. Pure.

            ┌────────── Begin ───────────┐
            ▼                            │
    WAITING ─▶ LOADING ─count updates─▶ LIVE ─▶ (a hole, silence, a lost link) ─▶ WAITING
       ▲                                                                            │
       └────────────── after retry_s, from the last sequence that it has ───────────┘

The shell opens a stream with :meth:`Follower.hello`, hands in what it hears, and does what the
returned events say. Updates are told at least once by the publisher and exactly once here.
"""

from __future__ import annotations

import enum
import math
import random
from collections import Counter
from dataclasses import dataclass

import msgspec

from capabilities.data.messages import Alive, Begin, Past, Subscribe, Told, Update
from capabilities.messages import Sample
from mesh.core.errors import WireError

# What a hostile publisher can make a subscriber hold of one feed.
MAX_KEYS = 4096
MAX_STATE_BYTES = 64 * 1024 * 1024


class Phase(enum.Enum):
    """Where the subscription stands."""

    WAITING = "waiting"
    OPENING = "opening"
    LOADING = "loading"
    LIVE = "live"


@dataclass(frozen=True)
class FollowConfig:
    """Times of a subscription, seconds."""

    retry_s: float = 0.5
    """Until the first new attempt; doubled for each further one."""

    retry_max_s: float = 30.0
    """A publisher that comes back is found within this time; less asks a dead node more often."""

    denied_s: float = 60.0
    """After a refusal of access: rules change seldom."""

    silence_s: float = 20.0
    """Four of the publisher's heartbeats: a stream that says nothing for so long is opened anew."""


class Fresh(msgspec.Struct, frozen=True):
    """An update that was not known before. ``past``: there are newer ones already; it is told
    because the past was asked for."""

    update: Update
    past: bool = False


class Gap(msgspec.Struct, frozen=True):
    """``missed`` updates will never be heard (-1: nobody knows how many), ``why`` as in
    :class:`~capabilities.data.messages.Begin`, or "hole". ``after`` is the last one before."""

    missed: int
    why: str
    after: int


class Synced(msgspec.Struct, frozen=True):
    """The latest of each key is known."""

    keys: int
    sequence: int


class Broken(msgspec.Struct, frozen=True):
    """The stream is over; close it and open another one when :meth:`Follower.due`."""

    why: str
    retry_s: float


FollowEvent = Fresh | Gap | Synced | Broken


class Follower:
    """One feed at one node. ``state`` maps each key to its latest update; ``back`` earlier updates
    are asked for at the beginning."""

    def __init__(
        self, rng: random.Random, config: FollowConfig | None = None, *, back: int = 0
    ) -> None:
        self.config = config or FollowConfig()
        self.state: dict[str, Update] = {}
        self.epoch = 0
        self.sequence = 0
        self.phase = Phase.WAITING
        self.counters: Counter[str] = Counter()
        self._rng = rng
        self._back = back
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._loading: list[tuple[Update, int]] = []
        self._loading_bytes = 0
        self._begin: Begin | None = None
        self._attempts = 0
        self._retry_at = -math.inf
        self._heard_at = 0.0

    # -- the stream -------------------------------------------------------------------------

    def due(self, now: float) -> bool:
        """Whether to open the stream now (monotonic seconds)."""
        return self.phase is Phase.WAITING and now >= self._retry_at

    def next_deadline(self) -> float:
        """When something is due: another attempt, or the end of patience with a silence."""
        if self.phase is Phase.WAITING:
            return self._retry_at
        return self._heard_at + self.config.silence_s

    def hello(self, now: float) -> Subscribe:
        """What to open the stream with."""
        self.phase, self._heard_at = Phase.OPENING, now
        self._loading, self._begin = [], None
        back = 0 if self.epoch else self._back
        return Subscribe(epoch=self.epoch, sequence=self.sequence, back=back)

    def receive(self, told: Told, size: int, now: float) -> list[FollowEvent]:
        """What the publisher says in ``size`` bytes; raises :class:`WireError` for what no
        publisher says, and for more than a subscriber holds."""
        if self.phase is Phase.WAITING:
            self.counters["late"] += 1
            return []
        self._heard_at = now
        match told:
            case Begin():
                return self._on_begin(told)
            case Update():
                return self._on_update(told, size, now)
            case Past():
                # Only before the picture begins, and only once; else it changes nothing.
                asked = self.phase is Phase.OPENING and self._back > 0 and not self.epoch
                return [Fresh(told.update, past=True)] if asked else []
            case Alive():
                return self._on_alive(told, now)

    def bare(self, sample: Sample, now: float) -> Update:
        """A sample of a sensor that has no feed: nothing to resume, and no gap can be seen."""
        self.phase, self._heard_at, self._attempts = Phase.LIVE, now, 0
        self.counters["updates"] += 1
        number = self.counters["updates"]
        update = Update(
            epoch=0, sequence=number, key="", version=number, at=sample.at, value=sample
        )
        self.state[""] = update
        return update

    def lost(self, why: str, now: float, *, denied: bool = False) -> list[FollowEvent]:
        """The stream ended, however it ended."""
        if self.phase is Phase.WAITING:
            return []
        if self.phase is Phase.LIVE:
            self._attempts = 0
        config = self.config
        wait_s = min(config.retry_s * 2**self._attempts, config.retry_max_s)
        # Half of it at random: a hundred subscribers of a node that restarts do not come at once.
        wait_s = config.denied_s if denied else wait_s * (0.5 + self._rng.random() / 2)
        self._attempts = min(self._attempts + 1, 16)
        self.phase, self._retry_at = Phase.WAITING, now + wait_s
        self._loading, self._begin = [], None
        self.counters["broken"] += 1
        return [Broken(why, wait_s)]

    def tick(self, now: float) -> list[FollowEvent]:
        """Give up a stream that says nothing."""
        if self.phase is not Phase.WAITING and now >= self.next_deadline():
            self.counters["silent"] += 1
            return self.lost(f"nothing was heard for {self.config.silence_s:g} s", now)
        return []

    # -- what is heard ----------------------------------------------------------------------

    def _on_begin(self, begin: Begin) -> list[FollowEvent]:
        if begin.count > MAX_KEYS:
            raise WireError(f"a feed of {begin.count} keys, at most {MAX_KEYS} are followed")
        self.phase, self._begin = Phase.LOADING, begin
        self._loading, self._loading_bytes = [], 0
        return self._loaded() if begin.count == 0 else []

    def _on_update(self, update: Update, size: int, now: float) -> list[FollowEvent]:
        if self.phase is Phase.LOADING:
            self._loading.append((update, size))
            self._loading_bytes += size
            if self._loading_bytes > MAX_STATE_BYTES:
                raise WireError(f"a feed of more than {MAX_STATE_BYTES} bytes")
            assert self._begin is not None
            return self._loaded() if len(self._loading) >= self._begin.count else []
        if update.sequence <= self.sequence:
            self.counters["repeated"] += 1  # told at least once: normal after a broken stream
            return []
        if not self.epoch or update.sequence != self.sequence + 1:
            self.counters["holes"] += 1
            return [
                Gap(-1, "hole", self.sequence),
                *self.lost("updates are missing from the stream", now),
            ]
        self.phase, self._attempts = Phase.LIVE, 0
        self.epoch, self.sequence = update.epoch, update.sequence
        self._keep(update, size)
        self.counters["updates"] += 1
        return [Fresh(update)]

    def _keep(self, update: Update, size: int) -> None:
        self._bytes -= self._sizes.pop(update.key, 0)
        if update.value is None:
            self.state.pop(update.key, None)
            return
        self.state[update.key], self._sizes[update.key] = update, size
        self._bytes += size
        if len(self.state) > MAX_KEYS or self._bytes > MAX_STATE_BYTES:
            raise WireError(f"a feed of more than {MAX_KEYS} keys or {MAX_STATE_BYTES} bytes")

    def _loaded(self) -> list[FollowEvent]:
        """The whole picture is there: it replaces the old one at once, never half of it."""
        begin = self._begin
        assert begin is not None
        # Told only now: a stream that breaks before it is whole begins with the same gap again.
        gap: list[FollowEvent] = []
        if self.epoch and begin.why != "first":
            self.counters["gaps"] += 1
            self.counters["missed"] += max(0, begin.missed)
            gap = [Gap(begin.missed, begin.why, self.sequence)]
        old, self.state = self.state, {}
        self._sizes, self._bytes = {}, 0
        for update, size in self._loading:
            self._keep(update, size)
        self.epoch, self.sequence = begin.epoch, begin.sequence
        self.phase, self._begin, self._loading, self._attempts = Phase.LIVE, None, [], 0
        fresh = [u for u in self.state.values() if old.get(u.key) != u]
        gone = [
            Update(epoch=begin.epoch, sequence=begin.sequence, key=key, version=u.version, at=u.at)
            for key, u in old.items()
            if key not in self.state
        ]
        self.counters["updates"] += len(fresh)
        return [*gap, *map(Fresh, fresh), *map(Fresh, gone), Synced(len(self.state), self.sequence)]

    def _on_alive(self, alive: Alive, now: float) -> list[FollowEvent]:
        if self.phase is Phase.LOADING or not self.epoch:
            return []
        if alive.sequence != self.sequence:
            self.counters["holes"] += 1
            return [
                Gap(-1, "hole", self.sequence),
                *self.lost("the publisher stands elsewhere than this subscriber", now),
            ]
        # Resumed with nothing new: the publisher's present epoch is where it goes on from.
        self.phase, self._attempts, self.epoch = Phase.LIVE, 0, alive.epoch
        return []

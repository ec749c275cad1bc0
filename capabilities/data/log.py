"""What a publisher keeps of its feed, and how each subscriber moves along it. Pure.

Updates are numbered through, over restarts. An *epoch* is one life of the publisher: it says
from which sequence on the numbers are its own. So a subscriber that comes back can be told
exactly what it missed, and one that heard more than the publisher remembers (its disk was full,
or lost the last second) is found out instead of being left with what nobody else has. Source of
the idea: the leader epochs of Kafka's replication (KIP-101).

Subscribers are a place in the log and nothing else: one that is slow costs no memory, and when
the history has moved on without it, it is told how much it missed and gets the latest of each
key. So nothing grows with slowness, and nothing is skipped in silence.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from capabilities.data.messages import (
    Alive,
    Begin,
    Past,
    Subscribe,
    Told,
    Update,
    Value,
    check_key,
    check_value,
    encode_value,
)
from mesh.core.errors import Rejected, WireError

MAX_EPOCHS = 64  # remembered: who followed longer ago begins anew


@dataclass(frozen=True)
class FeedLimits:
    """Caps of one feed."""

    history: int = 256
    """Updates kept for who comes back. More bridges a longer absence, and costs their size."""

    keys: int = 1024
    """A publisher that makes up keys must not fill its subscribers' memory."""

    value_bytes: int = 256 * 1024
    """One value; larger things are files."""

    history_bytes: int = 4 * 1024 * 1024
    """All of the history: large values shorten it."""

    state_bytes: int = 32 * 1024 * 1024
    """The latest of all keys together; every subscriber holds as much."""


@dataclass(frozen=True)
class Restored:
    """What was on disk: the latest of each key, the history behind it, and (epoch, the last
    sequence before it) for each epoch."""

    latest: Sequence[Update] = ()
    history: Sequence[Update] = ()
    epochs: Sequence[tuple[int, int]] = ()
    sequence: int = 0


class FeedLog:
    """The updates of one feed. ``epoch`` is above every earlier one of the same feed."""

    def __init__(
        self, epoch: int, limits: FeedLimits | None = None, restored: Restored | None = None
    ) -> None:
        found = restored or Restored()
        self.limits = limits or FeedLimits()
        self.epoch = epoch
        self.sequence = found.sequence
        self.latest: dict[str, Update] = {update.key: update for update in found.latest}
        self.epochs = [*found.epochs[-MAX_EPOCHS + 1 :], (epoch, found.sequence)]
        self._versions: dict[str, int] = {u.key: u.version for u in found.latest}
        self._sizes: dict[str, int] = {u.key: _size(u.value) for u in found.latest}
        self._history: deque[tuple[Update, int]] = deque()
        self._bytes = 0
        for update in _tail(found.history, found.sequence):
            self._remember(update, _size(update.value))

    def publish(self, key: str, value: Value | None, at: float) -> Update:
        """The next update; no value takes the key away.

        Raises :class:`WireError` for a value out of bounds and :class:`Rejected` for a key too
        many.
        """
        check_key(key)
        size = 0
        if value is not None:
            size = _size(check_value(value))
            if size > self.limits.value_bytes:
                raise WireError(
                    f"a value of {size} bytes, at most {self.limits.value_bytes} are published"
                )
            if key not in self.latest and len(self.latest) >= self.limits.keys:
                raise Rejected(
                    f"this feed has {self.limits.keys} keys", hint="take one away before"
                )
            others = sum(self._sizes.values()) - self._sizes.get(key, 0)
            if others + size > self.limits.state_bytes:
                raise Rejected(
                    f"this feed holds {others} bytes, at most {self.limits.state_bytes} are kept",
                    hint="publish smaller values, or take keys away",
                )
        elif key not in self.latest:
            raise WireError(f"there is no key {key!r} to take away")
        self.sequence += 1
        version = self._versions.get(key, 0) + 1
        update = Update(
            epoch=self.epoch,
            sequence=self.sequence,
            key=key,
            version=version,
            at=at,
            value=value,
        )
        if value is None:
            # Forgotten with the key: else made-up keys would leave their versions for ever.
            del self.latest[key], self._versions[key], self._sizes[key]
        else:
            self.latest[key], self._versions[key], self._sizes[key] = update, version, size
        self._remember(update, size)
        return update

    def _remember(self, update: Update, size: int) -> None:
        self._history.append((update, size))
        self._bytes += size
        while len(self._history) > self.limits.history or self._bytes > self.limits.history_bytes:
            _, size = self._history.popleft()
            self._bytes -= size

    @property
    def oldest(self) -> int:
        """The first sequence in the history; one past the last when there is none."""
        return self._history[0][0].sequence if self._history else self.sequence + 1

    def after(self, sequence: int) -> list[Update]:
        """The updates in the history behind ``sequence``."""
        place = max(0, sequence + 1 - self.oldest)
        return [self._history[i][0] for i in range(place, len(self._history))]

    def at(self, sequence: int) -> Update:
        """The update of this sequence, which the history must hold."""
        return self._history[sequence - self.oldest][0]

    def known_until(self, epoch: int) -> int:
        """The last sequence of an epoch; -1 for an epoch that this publisher never had."""
        starts = [e for e, _ in self.epochs]
        place = bisect_right(starts, epoch) - 1
        if place < 0 or starts[place] != epoch:
            return -1
        return self.epochs[place + 1][1] if place + 1 < len(self.epochs) else self.sequence


class Reader:
    """One subscriber's way along a log."""

    def __init__(self, log: FeedLog, asked: Subscribe) -> None:
        self._log = log
        self._place = asked.sequence
        self._ahead: deque[Told] = deque()
        known = log.known_until(asked.epoch) if asked.epoch else -1
        if not asked.epoch:
            if asked.back > 0:
                # The latest of each key comes with Begin; of those only the older ones are past.
                past = log.after(log.sequence - asked.back)
                self._ahead.extend(Past(update=u) for u in past if log.latest.get(u.key) != u)
            self._begin("first", 0)
        elif asked.sequence < 0 or known < 0:
            self._begin("restart", -1)
        elif asked.sequence > known:
            # It heard of that epoch what this publisher does not know any more.
            self._place = known
            self._begin("restart", self._unseen())

    def pull(self) -> Told | None:
        """What to tell it next; None when it knows everything."""
        if not self._ahead and self._place < self._log.sequence:
            if self._place + 1 < self._log.oldest:
                self._begin("gap", self._unseen())
            else:
                self._place += 1
                return self._log.at(self._place)
        return self._ahead.popleft() if self._ahead else None

    @property
    def idle(self) -> bool:
        """Whether it knows everything."""
        return not self._ahead and self._place == self._log.sequence

    def alive(self) -> Alive:
        """Said into a silence."""
        return Alive(epoch=self._log.epoch, sequence=self._place)

    def _unseen(self) -> int:
        """How many updates lie behind it that are not the latest of their key either."""
        behind = self._log.sequence - self._place
        told = sum(u.sequence > self._place for u in self._log.latest.values())
        return behind - told

    def _begin(self, why: str, missed: int) -> None:
        log = self._log
        updates = sorted(log.latest.values(), key=lambda update: update.sequence)
        begin = Begin(
            epoch=log.epoch, sequence=log.sequence, count=len(updates), why=why, missed=missed
        )
        self._ahead.extend([begin, *updates])
        self._place = log.sequence


def _size(value: Value | None) -> int:
    return len(encode_value(value)) if value is not None else 0


def _tail(history: Sequence[Update], last: int) -> list[Update]:
    """The updates that end with ``last`` and have no hole: a disk may have missed some."""
    tail: list[Update] = []
    for update in reversed(history):
        if update.sequence != last - len(tail):
            break
        tail.append(update)
    return tail[::-1]


def next_epoch(known: Iterable[int], wall: float) -> int:
    """An epoch above the ``known`` ones. Wall milliseconds, so that a publisher whose disk was
    lost does not begin again at one."""
    return max([int(wall * 1000), *(epoch + 1 for epoch in known)])

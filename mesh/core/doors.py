"""At whose doors to knock, and when: seeds, remembered members, strangers heard of on the LAN.

A seed is knocked at until it has answered once. A stranger that mDNS tells of is knocked at
until it answers, a few times. Members remembered from before are knocked at, and seeds again,
only while this node is alone; then for as long as it is alone.
"""

from __future__ import annotations

import enum
import ipaddress
import random
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from mesh.core.admission import TokenBucket
from mesh.core.clock import Now


class DoorsConfig(msgspec.Struct, frozen=True):
    """All times in seconds.

    ``retry_s``, ``retry_most_s``: pause after the first knock that nobody answered; each
    further one is half as long again, up to the most. A seed that comes back after a night is
    found within the most; each knock costs a handshake.

    ``stranger_tries``: after so many a stranger is forgotten until it is heard of again: an
    announcement costs its sender nothing.

    ``max_strangers``: a flood of announcements must not fill the memory; the one that failed
    most often makes room.

    ``max_remembered``: the same for a journal of thousands.

    ``knocks_per_s``, ``knock_burst``, ``max_under_way``: over all doors. Without them anybody
    on the LAN could announce a thousand services at one address and have every node of the
    mesh knock there.

    ``courtesy_s``: a node that has company waits about this long before it knocks at a
    stranger: the stranger is alone and knocks itself, and one knock is enough for all.
    """

    retry_s: float = 2.0
    retry_most_s: float = 30.0
    stranger_tries: int = 5
    max_strangers: int = 64
    max_remembered: int = 256
    knocks_per_s: float = 4.0
    knock_burst: float = 12.0
    max_under_way: int = 8
    courtesy_s: float = 3.0


class Origin(enum.IntEnum):
    """Where a door is known from, in the order of knocking."""

    SEED = 0
    STRANGER = 1
    REMEMBERED = 2


@dataclass(slots=True)
class KnownDoor:
    """An admission socket: its addresses (``tcp://host:port``) and the key behind it."""

    curve: bytes
    origin: Origin
    addresses: list[str] = field(default_factory=list)
    tries: int = 0
    next_at: float = 0.0  # monotonic seconds
    met: bool = False
    under_way: bool = False

    @property
    def address(self) -> str:
        """Where to knock this time: each try takes the next."""
        return self.addresses[self.tries % len(self.addresses)]


class Doors:
    """Decides; the shell knocks, and tells how that went."""

    def __init__(self, rng: random.Random, config: DoorsConfig | None = None) -> None:
        self.config = config or DoorsConfig()
        self._rng = rng
        self._seeds: list[KnownDoor] = []
        self._strangers: dict[bytes, KnownDoor] = {}
        self._remembered: dict[bytes, KnownDoor] = {}
        self._bucket: TokenBucket | None = None
        self._alone = True
        self.counters: Counter[str] = Counter()

    def seed(self, address: str, curve: bytes) -> None:
        """A door from the configuration."""
        self._seeds.append(KnownDoor(curve, Origin.SEED, [address]))

    def remember(self, addresses: Mapping[bytes, str]) -> None:
        """The doors of members known from before, by CURVE key; replaces what was there."""
        for curve in [c for c in self._remembered if c not in addresses]:
            del self._remembered[curve]
        for curve, address in addresses.items():
            door = self._remembered.get(curve)
            if door is not None:
                door.addresses = [address]
            elif len(self._remembered) < self.config.max_remembered:
                self._remembered[curve] = KnownDoor(curve, Origin.REMEMBERED, [address])
            else:
                self.counters["doors_not_remembered"] += 1

    def heard_of(self, curve: bytes, addresses: Sequence[str], now: Now) -> None:
        """mDNS tells of a node of this mesh that is no living peer."""
        door = self._strangers.get(curve)
        if door is not None:
            if door.addresses != list(addresses):
                door.addresses, door.tries, door.next_at = list(addresses), 0, now.mono
            return
        if len(self._strangers) >= self.config.max_strangers and not self._make_room():
            self.counters["strangers_dropped"] += 1
            return
        wait_s = 0.1 if self._alone else self.config.courtesy_s
        at = now.mono + wait_s * self._rng.uniform(0.3, 1.5)
        self._strangers[curve] = KnownDoor(curve, Origin.STRANGER, list(addresses), next_at=at)

    def _make_room(self) -> bool:
        worst = max(self._strangers.values(), key=lambda door: door.tries)
        if worst.tries == 0 or worst.under_way:
            return False
        del self._strangers[worst.curve]
        self.counters["strangers_dropped"] += 1
        return True

    def due(self, now: Now, *, alone: bool, living: Container[bytes]) -> list[KnownDoor]:
        """Knock at these now; ``living`` are the CURVE keys of peers that are alive."""
        if alone and not self._alone:
            for door in [*self._seeds, *self._remembered.values()]:
                door.tries, door.next_at = 0, now.mono
        self._alone = alone
        for curve in [c for c, d in self._strangers.items() if c in living and not d.under_way]:
            del self._strangers[curve]
        doors = [door for door in self._seeds if alone or not door.met]
        doors += self._strangers.values()
        doors += self._remembered.values() if alone else ()
        under_way = sum(door.under_way for door in self._all())
        if self._bucket is None:
            rate, burst = self.config.knocks_per_s, self.config.knock_burst
            self._bucket = TokenBucket(rate, burst, now.mono)
        chosen = []
        ready = [door for door in doors if door.next_at <= now.mono and not door.under_way]
        for door in sorted(ready, key=lambda d: (d.origin, d.tries, self._rng.random())):
            if under_way >= self.config.max_under_way or not self._bucket.take(now.mono):
                break
            door.under_way = True
            under_way += 1
            chosen.append(door)
        return chosen

    def _all(self) -> list[KnownDoor]:
        return [*self._seeds, *self._strangers.values(), *self._remembered.values()]

    def answered(self, door: KnownDoor, now: Now) -> None:
        """The node behind the door has let this one in."""
        door.under_way, door.met, door.tries = False, True, 0
        door.next_at = now.mono + self.config.retry_s
        if door.origin is Origin.STRANGER:
            self._strangers.pop(door.curve, None)

    def failed(self, door: KnownDoor, now: Now) -> bool:
        """Nobody answered, or with a no. True when the door is given up."""
        wait_s = min(self.config.retry_s * 1.5**door.tries, self.config.retry_most_s)
        door.under_way = False
        door.tries += 1
        door.next_at = now.mono + wait_s * self._rng.uniform(0.75, 1.25)
        if door.origin is Origin.STRANGER and door.tries >= self.config.stranger_tries:
            self._strangers.pop(door.curve, None)
            self.counters["strangers_given_up"] += 1
            return True
        return False

    def __len__(self) -> int:
        return len(self._all())


def on_link(address: str, networks: Sequence[str]) -> bool:
    """Whether an IPv4 address lies in one of this machine's own networks (``10.0.0.2/24``).

    mDNS does not leave a link, so neither does an honest announcement's address; without this
    an announcement could aim a mesh's knocks at a machine on the internet.
    """
    try:
        wanted = ipaddress.IPv4Address(address)
        return any(wanted in ipaddress.IPv4Interface(own).network for own in networks)
    except ValueError:
        return False

"""Probes under way, the round trips they measure, and probes made for others."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from mesh.core.clock import Now
from mesh.core.membership_config import MembershipConfig
from mesh.core.wire import PingRequest

NONCE_BYTES = 8  # fresh per probe: an answer cannot have been made before it was asked for
PINGS = 16  # at most, of one probe; each has a number, so that its own round trip is known
MAX_LATE = 256  # failed probes remembered, so that a late answer is known for one
MAX_RELAYS = 256  # probes for others under way: a peer cannot make this node probe without end
MAX_RELAYS_EACH = 16  # of which for one asker


class RoundTrip:
    """Smoothed round trip and its deviation, as TCP estimates them (RFC 6298)."""

    __slots__ = ("mean_s", "spread_s")

    def __init__(self) -> None:
        self.mean_s = 0.0
        self.spread_s = 0.0

    @property
    def known(self) -> bool:
        """Whether there was ever a measurement."""
        return self.mean_s > 0.0

    def sample(self, took_s: float) -> None:
        """Take in one measurement; its weights are RFC 6298's 1/8 and 1/4."""
        took_s = max(took_s, 1e-6)
        if not self.known:
            self.mean_s, self.spread_s = took_s, took_s / 2
            return
        self.spread_s += (abs(took_s - self.mean_s) - self.spread_s) / 4
        self.mean_s += (took_s - self.mean_s) / 8

    def timeout(self, config: MembershipConfig) -> float:
        """Seconds after which an answer is overdue."""
        if not self.known:
            return config.probe_timeout_first_s
        measured = self.mean_s + 4 * self.spread_s
        return min(max(measured, config.probe_timeout_min_s), config.probe_timeout_max_s)

    def repeat(self, config: MembershipConfig) -> float:
        """Seconds after which an unanswered ping is worth repeating."""
        if not self.known:
            return config.probe_timeout_first_s / 2
        measured = self.mean_s + 4 * self.spread_s
        return min(max(measured, config.repeat_min_s), config.probe_timeout_max_s)


@dataclass(slots=True)
class Probe:
    """One question to one node: first direct, then ``wide`` (through others as well).

    Its pings are numbered from ``seq``; an answer names the ping that it answers, so a repeated
    one does not blur the round trip (Karn's problem)."""

    seq: int
    node: bytes
    nonce: bytes
    started: float
    timeout_s: float
    deadline: float
    repeat_s: float
    repeat_at: float
    sent: list[float] = field(default_factory=list)  # when each ping was
    wide: bool = False
    failed: bool = False
    asked: int = 0  # relays
    nacks: int = 0  # relays that could not reach it either

    def ping(self, now: Now) -> int:
        """The number of the ping that is sent now."""
        self.sent.append(now.mono)
        more = len(self.sent) < PINGS
        self.repeat_at = now.mono + self.repeat_s if more else math.inf
        return self.seq + len(self.sent) - 1

    def took(self, seq: int, now: Now) -> float:
        """Seconds since the ping of this number."""
        return now.mono - self.sent[seq - self.seq]


@dataclass(slots=True)
class Relay:
    """A probe made for another node, under its number ``seq``."""

    asker: bytes
    seq: int
    target: bytes
    nonce: bytes
    deadline: float


class Probes:
    """The probes of one node: at most one per subject, all with deadlines."""

    def __init__(self, config: MembershipConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._open: dict[bytes, Probe] = {}  # by subject
        self._late: dict[int, Probe] = {}  # failed ones, by number, oldest first
        self._relays: dict[int, Relay] = {}
        self._relays_of: dict[bytes, int] = {}
        self._seq = 0

    def _number(self) -> int:
        self._seq += PINGS
        return self._seq

    def pending(self, node: bytes) -> bool:
        """Whether a probe of this node is under way."""
        return node in self._open

    def busy(self) -> Iterable[bytes]:
        """The nodes that are being probed."""
        return self._open.keys()

    def begin(self, node: bytes, timeout_s: float, repeat_s: float, now: Now) -> Probe:
        """A new probe, direct at first; unanswered, it is repeated every ``repeat_s``."""
        nonce = self._rng.randbytes(NONCE_BYTES)
        due = now.mono + timeout_s
        probe = Probe(self._number(), node, nonce, now.mono, timeout_s, due, repeat_s, math.inf)
        self._open[node] = probe
        return probe

    def widen(self, probe: Probe, relays: int, now: Now) -> None:
        """The direct answer is overdue; ``relays`` others are asked."""
        probe.wide = True
        probe.asked = relays
        probe.deadline = now.mono + max(self._config.relay_wait_s, probe.timeout_s)

    def peek(self, node: bytes, seq: int, nonce: bytes) -> Probe | None:
        """The probe that an answer of ``node`` belongs to, on time or late."""
        first = seq - seq % PINGS
        probe = self._open.get(node)
        if probe is None or probe.seq != first:
            probe = self._late.get(first)
        if probe is None or probe.node != node or probe.nonce != nonce:
            return None
        return probe if seq - first < len(probe.sent) else None

    def take(self, node: bytes, seq: int, nonce: bytes) -> Probe | None:
        """The same, and it is answered now."""
        probe = self.peek(node, seq, nonce)
        if probe is not None:
            self._late.pop(probe.seq, None)
            if self._open.get(node) is probe:
                del self._open[node]
        return probe

    def drop(self, node: bytes) -> None:
        """Whatever the probe under way would say no longer matters."""
        probe = self._open.pop(node, None)
        if probe is not None:
            self._remember(probe)

    def _remember(self, probe: Probe) -> None:
        self._late[probe.seq] = probe
        if len(self._late) > MAX_LATE:
            del self._late[next(iter(self._late))]

    def repeats(self, now: Now) -> list[Probe]:
        """Probes to be repeated: nobody answered the latest ping, and there is time left."""
        return [
            probe
            for probe in self._open.values()
            if probe.repeat_at <= now.mono and now.mono < probe.deadline
        ]

    def due(self, now: Now) -> list[Probe]:
        """Probes whose time is over; those that were wide have failed."""
        due = [probe for probe in self._open.values() if probe.deadline <= now.mono]
        for probe in due:
            if probe.wide:
                probe.failed = True
                del self._open[probe.node]
                self._remember(probe)
        return due

    def relay(self, asker: bytes, ask: PingRequest, timeout_s: float, now: Now) -> int | None:
        """A probe for another; its number, or None when there are too many."""
        mine = self._relays_of.get(asker, 0)
        if len(self._relays) >= MAX_RELAYS or mine >= MAX_RELAYS_EACH:
            return None
        seq = self._number()
        self._relays[seq] = Relay(asker, ask.seq, ask.target, ask.nonce, now.mono + timeout_s)
        self._relays_of[asker] = mine + 1
        return seq

    def take_relay(self, target: bytes, seq: int, nonce: bytes) -> Relay | None:
        """The request that an answer of ``target`` belongs to."""
        relay = self._relays.get(seq)
        if relay is None or relay.target != target or relay.nonce != nonce:
            return None
        self._end_relay(seq, relay)
        return relay

    def relays_due(self, now: Now) -> list[Relay]:
        """Requests that could not be met in time."""
        due = [(s, r) for s, r in self._relays.items() if r.deadline <= now.mono]
        for seq, relay in due:
            self._end_relay(seq, relay)
        return [relay for _, relay in due]

    def _end_relay(self, seq: int, relay: Relay) -> None:
        del self._relays[seq]
        left = self._relays_of[relay.asker] - 1
        if left:
            self._relays_of[relay.asker] = left
        else:
            del self._relays_of[relay.asker]

    def postpone(self, seconds: float) -> None:
        """This node was asleep: everything under way gets that time again."""
        for probe in self._open.values():
            probe.deadline += seconds
            probe.repeat_at += seconds
        for relay in self._relays.values():
            relay.deadline += seconds

    def next_deadline(self) -> float:
        """Monotonic seconds."""
        open_probes = self._open.values()
        due = min((min(probe.deadline, probe.repeat_at) for probe in open_probes), default=math.inf)
        return min(due, min((r.deadline for r in self._relays.values()), default=math.inf))

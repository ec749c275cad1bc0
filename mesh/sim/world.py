"""Thousands of node cores in one process, under virtual time, repeatable from one seed.

A scenario reads as sentences::

    with World(seed=7, nodes=4) as world:
        world.all_join()
        world.run(5)
        world.kill("n3")
        world.expect(world.sees_everywhere("n3", PeerState.DEAD), within=8)

Whatever goes wrong inside the ``with`` block says the seed that repeats it.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType

from mesh.core.clock import Now
from mesh.core.cms import Entry
from mesh.core.effects import Send
from mesh.core.errors import IdentityError
from mesh.core.events import Event, PeerState, StateChanged
from mesh.core.identity import Authority, LocalIdentity, NodeKeys, SignatureScheme
from mesh.core.identity import make_passport as passport_of
from mesh.core.mesh_time import MeshTime
from mesh.core.node import NodeCore, NodeCoreConfig
from mesh.core.records import Device, Endpoints, ServedName
from mesh.core.wire import Message, decode, encode
from mesh.sim.cheap import CheapScheme
from mesh.sim.network import Link, Network
from mesh.sim.shared import SharedRecords, SharedTrust

EPOCH = 1_800_000_000.0  # virtual wall time at the start
YEAR_S = 365 * 86400.0
MAX_STEPS = 50_000_000  # a scenario that never comes to rest is stopped


class ScenarioFailed(AssertionError):
    """An expectation did not hold; the message bears the seed."""


@dataclass
class Sim:
    """One simulated machine and the process on it."""

    index: int
    name: str
    identity: LocalIdentity
    keys: NodeKeys
    core: NodeCore
    incarnation: int = 1
    running: bool = True
    frozen: bool = False
    skew_s: float = 0.0
    wake_at: float = math.inf
    inbox: list[tuple[bytes, Message]] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)  # messages by type
    sent_bytes: int = 0
    life: int = 0  # how often it was started: timers of earlier lives are void

    @property
    def node(self) -> bytes:
        """Its id."""
        return self.identity.node


Condition = Callable[[], bool]


class World:
    """A mesh of simulated nodes named n0, n1, ...

    ``scheme`` defaults to a cheap keyed hash; ``measure`` encodes every message to count its
    bytes; ``wire`` decodes it again, so that the wire format is in the loop.
    """

    def __init__(
        self,
        seed: int,
        nodes: int = 0,
        *,
        link: Link | None = None,
        config: NodeCoreConfig | None = None,
        scheme: SignatureScheme | None = None,
        publish: tuple[str, ...] = ("knowledge.gpt/**", "computation.gpt/**", "data.gpt/**"),
        measure: bool = False,
        wire: bool = False,
        keep_events: bool = True,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.time = 0.0
        self.config = config or NodeCoreConfig()
        self.scheme = scheme or CheapScheme()
        self.publish = publish
        self.measure = measure or wire
        self.wire = wire
        self.keep_events = keep_events
        self.authority = Authority(self.rng.randbytes(32), self.scheme)
        self.trust = SharedTrust(self.authority.key, self.scheme)
        self._records = SharedRecords()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self.network = Network(
            link or Link(),
            random.Random(seed + 1),
            clock=lambda: self.time,
            at=self.at,
            deliver=self._deliver,
            lost=self._link_lost,
        )
        self.sims: list[Sim] = []
        self._by_node: dict[bytes, Sim] = {}
        self._by_name: dict[str, Sim] = {}
        for _ in range(nodes):
            self.add()

    # -- who is there ------------------------------------------------------------------

    def add(self, name: str = "", names: tuple[ServedName, ...] | None = None) -> Sim:
        """Another node, not yet in touch with anybody; it offers ``knowledge.gpt/<name>``."""
        index = len(self.sims)
        name = name or f"n{index}"
        keys = NodeKeys(signing=self.rng.randbytes(32), curve_secret=self.rng.randbytes(32))
        certificate = self.authority.certify(
            key=self.scheme.public(keys.signing),
            name=name,
            groups=("sim",),
            publish=self.publish,
            not_before=EPOCH - YEAR_S,
            not_after=EPOCH + YEAR_S,
            serial=index.to_bytes(8),
        )
        passport = passport_of(keys, certificate, self.trust.mesh, self.scheme)
        identity = LocalIdentity(keys, passport, self.trust)
        core = self._core(identity, 1)
        sim = Sim(index, name, identity, keys, core)
        self.sims.append(sim)
        self._by_node[sim.node] = self._by_name[name] = sim
        self._introduce(sim, names)
        return sim

    def _core(
        self, identity: LocalIdentity, incarnation: int, clock: MeshTime | None = None
    ) -> NodeCore:
        rng = random.Random(self.rng.getrandbits(64))
        core = NodeCore(identity, self.config, rng, incarnation, clock=clock)
        core.store.decode = self._records.decode
        return core

    def _introduce(self, sim: Sim, names: tuple[ServedName, ...] | None = None) -> None:
        offered = names if names is not None else (ServedName(f"knowledge.gpt/{sim.name}"),)
        port = 10_000 + sim.index
        endpoints = Endpoints(f"tcp://{sim.name}:{port}", f"tcp://{sim.name}:{port + 1}")
        sim.core.set_profile(offered, (), Device(kind="sim"), endpoints, self.now(sim))
        self._schedule(sim)

    def __getitem__(self, name: str) -> Sim:
        return self._by_name[name]

    @property
    def running(self) -> list[Sim]:
        """The nodes whose process runs (frozen ones too)."""
        return [sim for sim in self.sims if sim.running]

    def now(self, sim: Sim) -> Now:
        """The clocks of a node; its wall clock may be wrong."""
        return Now(self.time, sim.core.clock.read(EPOCH + self.time + sim.skew_s, self.time))

    def set_clock(self, name: str, skew_s: float, *, knew_s: float | None = None) -> None:
        """The wall clock of this machine is off by ``skew_s`` from now on; ``knew_s`` is by how
        much the last time on its disk differs from now (as the clock, if nothing is said)."""
        sim = self[name]
        sim.skew_s = skew_s
        known = skew_s if knew_s is None else knew_s
        sim.core.clock.floor = EPOCH + self.time + known

    # -- what happens to them ----------------------------------------------------------

    def join(self, name: str, through: str) -> None:
        """Two nodes meet as on the admission socket: each checks the other's passport."""
        self._meet(self[name], self[through])

    def _meet(self, one: Sim, other: Sim) -> None:
        for here, there in ((one, other), (other, one)):
            endpoints = there.core.endpoints(there.node)
            here.core.learn(there.identity.member, endpoints, self.now(here))
            self._schedule(here)

    def all_join(self, through: str = "n0") -> None:
        """Everybody meets one node, and hears of the others by gossip."""
        seed = self[through]
        for sim in self.sims:
            if sim is not seed:
                self._meet(sim, seed)

    def all_know_each_other(self) -> None:
        """A mesh that has long since converged: every store holds every profile."""
        records = [entry.profile.signed for sim in self.sims if (entry := _own(sim)).profile]
        collecting = gc.isenabled()
        gc.disable()  # nothing made here dies, and looking for it takes half of the time
        try:
            for sim in self.sims:
                sim.core.adopt(records, self.now(sim))
                sim.core._sync.rest()
                sim.core.drain_events()
                self._schedule(sim)
            gc.freeze()
        finally:
            if collecting:
                gc.enable()

    def kill(self, *names: str) -> None:
        """kill -9: the process is gone, its machine resets the connections."""
        for sim in map(self.__getitem__, names):
            sim.running = False
            self.network.forget(sim.index)
            for other in self.running:
                if self.network.passes(sim.index, other.index):
                    self._link_lost(other.index, sim.index)

    def vanish(self, *names: str) -> None:
        """The power is gone: silence, no reset."""
        for sim in map(self.__getitem__, names):
            sim.running = False

    def restart(self, name: str, *, through: str = "") -> None:
        """The process starts again on its old keys, with its next incarnation."""
        sim = self[name]
        self.network.forget(sim.index)
        sim.life += 1
        sim.incarnation += 1
        clock = MeshTime(sim.core.clock.floor)  # what its disk remembers
        sim.core = self._core(sim.identity, sim.incarnation, clock)
        sim.running, sim.frozen, sim.inbox = True, False, []
        sim.wake_at = math.inf
        self._introduce(sim)
        if through:
            self._meet(sim, self[through])

    def freeze(self, *names: str) -> None:
        """SIGSTOP: what arrives waits."""
        for sim in map(self.__getitem__, names):
            sim.frozen = True

    def thaw(self, *names: str) -> None:
        """SIGCONT: what waited is read at once."""
        for sim in map(self.__getitem__, names):
            sim.frozen = False
            waiting, sim.inbox = sim.inbox, []
            for sender, message in waiting:
                self._send(sim, sim.core.receive(sender, message, self.now(sim)))
            self._tick(sim)

    def starve(
        self, name: str, pause_s: tuple[float, float], run_s: tuple[float, float], until: float
    ) -> None:
        """Now and then the process is not run for a while, until the given time."""

        def stop() -> None:
            if self.time < until:
                self.freeze(name)
                self.after(self.rng.uniform(*pause_s), go)

        def go() -> None:
            self.thaw(name)
            self.after(self.rng.uniform(*run_s), stop)

        self.after(self.rng.uniform(*run_s), stop)

    def leave(self, name: str) -> None:
        """The node says farewell and stops a moment later."""
        sim = self[name]
        self._send(sim, sim.core.leave(self.now(sim)))
        self.after(0.1, lambda: setattr(sim, "running", False))

    def cut(self, some: Iterable[str], others: Iterable[str], *, one_way: bool = False) -> None:
        """Nothing passes from these to those, nor back unless ``one_way``."""
        ends = [self[name].index for name in others]
        for start in (self[name].index for name in some):
            for end in ends:
                self.network.cut(start, end)
                if not one_way:
                    self.network.cut(end, start)

    def heal(self) -> None:
        """All cuts are mended."""
        self.network.mend_all()

    # -- time --------------------------------------------------------------------------

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do something at a virtual time."""
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something a while from now."""
        self.at(self.time + seconds, do)

    def run(self, seconds: float) -> None:
        """Let this much virtual time pass."""
        self._run(self.time + seconds, None)

    def until(self, condition: Condition, within: float) -> float | None:
        """Run until it holds; the seconds it took, or None when ``within`` were not enough."""
        start = self.time
        return self.time - start if self._run(start + within, condition) else None

    def expect(self, condition: Condition, within: float, what: str = "") -> float:
        """The seconds until it holds; raises :class:`ScenarioFailed` otherwise."""
        took = self.until(condition, within)
        if took is None:
            told = what or getattr(condition, "__doc__", "") or "the condition"
            raise ScenarioFailed(f"within {within} s this did not come true: {told}")
        return took

    def _run(self, end: float, condition: Condition | None) -> bool:
        if condition is not None and condition():
            return True
        for _ in range(MAX_STEPS):
            if not self._heap or self._heap[0][0] > end:
                self.time = end
                return False
            self.time, _, do = heapq.heappop(self._heap)
            do()
            if condition is not None and condition():
                return True
        raise ScenarioFailed(f"no rest after {MAX_STEPS} steps")

    def wake(self, sim: Sim) -> None:
        """Something was done to its core from outside: it may want to be woken sooner."""
        self._schedule(sim)

    def _schedule(self, sim: Sim) -> None:
        """Wake a node when it asks to be woken; an earlier timer already set serves too."""
        due = max(sim.core.next_deadline(), self.time)
        if due < sim.wake_at:
            sim.wake_at = due
            life = sim.life
            self.at(due, lambda: self._wake(sim, life, due))

    def _wake(self, sim: Sim, life: int, due: float) -> None:
        if sim.life != life or sim.wake_at != due:
            return
        sim.wake_at = math.inf
        if sim.running and not sim.frozen:
            self._tick(sim)

    def _tick(self, sim: Sim) -> None:
        self._send(sim, sim.core.tick(self.now(sim)))

    def _send(self, sim: Sim, sends: list[Send]) -> None:
        for to, message, _lane in sends:
            carried = message
            if self.measure:
                frame = encode(message)
                sim.sent_bytes += len(frame)
                sim.sent[type(message).__name__] += len(frame)
                if self.wire:
                    carried = decode(frame)
            other = self._by_node.get(to)
            if other is not None and other.running:
                self.network.send(sim.index, other.index, carried)
        events = sim.core.drain_events()
        if self.keep_events:
            sim.events += [(self.time, event) for event in events]
        self._schedule(sim)

    def _deliver(self, sender: int, receiver: int, message: Message) -> None:
        sim = self.sims[receiver]
        if not sim.running:
            return
        if sim.frozen:
            sim.inbox.append((self.sims[sender].node, message))
            return
        if self.sims[sender].node not in sim.core.store:
            self._knock(self.sims[sender], sim)
        self._send(sim, sim.core.receive(self.sims[sender].node, message, self.now(sim)))

    def _knock(self, caller: Sim, there: Sim) -> None:
        """Before its first frame on a new link, a node shows its passport at the other's door."""
        with contextlib.suppress(IdentityError):
            member = there.core.trust.check(caller.identity.passport, self.now(there).wall)
            there.core.learn(member, caller.core.endpoints(caller.node), self.now(there))

    def _link_lost(self, here: int, there: int) -> None:
        sim, other = self.sims[here], self.sims[there]
        if sim.running and not sim.frozen:
            self.after(
                self.network.link.latency_s,
                lambda: self._send(sim, sim.core.link_lost(other.node, self.now(sim))),
            )

    # -- what can be seen --------------------------------------------------------------

    def sees(self, observer: str, subject: str) -> PeerState:
        """How one node sees another."""
        return self[observer].core.membership.state(self[subject].node)

    def sees_everywhere(
        self, subject: str, state: PeerState, among: Iterable[str] | None = None
    ) -> Condition:
        """All other running nodes (or those named) see the subject so."""
        target = self[subject]
        watchers = [self[name] for name in among] if among is not None else None

        def holds() -> bool:
            return all(
                target.node in sim.core.membership.peers
                and sim.core.membership.state(target.node) is state
                for sim in (watchers if watchers is not None else self.running)
                if sim is not target
            )

        holds.__doc__ = f"everybody sees {subject} as {state.name}"
        return holds

    def converged(self) -> Condition:
        """Every running node sees every other alive and has its profile."""

        def holds() -> bool:
            """everybody knows everybody's profile and sees them alive"""
            alive = self.running
            return all(
                here.core.store.profile(there.node) is not None
                and here.core.membership.state(there.node) is PeerState.ALIVE
                for here in alive
                for there in alive
            )

        return holds

    def deaths(self, since: float = 0.0) -> list[tuple[float, str, str]]:
        """Every verdict of death so far: when, by whom, of whom."""
        return [
            (when, sim.name, event.name)
            for sim in self.sims
            for when, event in sim.events
            if when >= since and isinstance(event, StateChanged) and event.new is PeerState.DEAD
        ]

    # -- failures say the seed ---------------------------------------------------------

    def __enter__(self) -> World:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"seed {self.seed}, virtual time {self.time:.3f} s")


def _own(sim: Sim) -> Entry:
    entry = sim.core.store.get(sim.node)
    assert entry is not None
    return entry

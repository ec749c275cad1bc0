"""The node: runs the pure cores over ZeroMQ, and nothing else.

    frame ─decode▶ core.receive(sender, message, now) ─▶ sends ─encode▶ transport
    timer ───────▶ core.tick(now) ──────────────────────▶ sends

Every decision is the core's; this module moves bytes, keeps the timer, and tells people.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

import msgspec
import zmq

from mesh.core.access import Policy, carries_states
from mesh.core.admission import AdmissionDoor
from mesh.core.announcing import Vitals
from mesh.core.clock import Now
from mesh.core.cms import Refusal
from mesh.core.delegation import with_warrant
from mesh.core.effects import Send
from mesh.core.errors import (
    AccessDenied,
    ConfigError,
    PeerLost,
    WireError,
)
from mesh.core.events import (
    Event,
    IncarnationRaised,
    LoadHeard,
    MemberForgotten,
    MemberLearned,
    PeerState,
    ProfileChanged,
    RecordRefused,
    Revoked,
    StateChanged,
)
from mesh.core.identity import LocalIdentity, Member, Passport, read_certificate
from mesh.core.names import check_name
from mesh.core.node import NodeCore
from mesh.core.records import Device, Dialable, Endpoints, ModelInfo, ServedName
from mesh.core.stream_events import LoadSeen
from mesh.core.streams import Streams
from mesh.core.wire import CallHeader, DialBack, DialedBack, Hello, Lane, Load, Op, decode, encode
from mesh.net.addresses import facing_address, is_wildcard
from mesh.net.asking import LoadAsker
from mesh.net.calls import Calls, Service
from mesh.net.disk import Disk
from mesh.net.door import Door
from mesh.net.finding import Finder
from mesh.net.journal import read_journal
from mesh.net.serving import Serving
from mesh.net.settings import NodeConfig
from mesh.net.standing import Standing
from mesh.net.statedir import StateDir, seed_text
from mesh.net.transport import Transport
from mesh.net.troubles import Troubles

__all__ = ["MeshNode", "NodeConfig"]

log = logging.getLogger("gossamer.mesh")

ARM_AFTER_S = 0.002  # how late a new deadline may be known; the shortest are tens of it
MIN_SLEEP_S = 0.001  # a core that is always due must not take the loop from everybody else
OBSERVED_LIFE_S = 5.0  # how long load seen on a reply outweighs what gossip says
SOFTWARE = "gossamer"
DIAL_BACKS = (DialBack, DialedBack)

Offered = tuple[tuple[ServedName, ...], tuple[ModelInfo, ...], Device]


class MeshNode:
    """A member of a mesh over ZeroMQ."""

    def __init__(
        self,
        state: StateDir,
        config: NodeConfig,
        policy: Policy | None = None,
        load: Callable[[], Load] = Load,
    ) -> None:
        self.state = state
        self.config = config
        self.identity = state.identity()
        self.keys = self.identity.keys
        self.passport = self.identity.passport()
        self.trust = self.identity.trust
        self.serving = Serving(
            policy or Policy(),
            self.trust,
            lambda: self.core,
            self.now,
        )
        self.counters: Counter[str] = Counter()
        self.told = Troubles()
        self._load = load
        self._offered: Offered | None = None
        self._loads: dict[bytes, tuple[Load, float]] = {}
        self._heard: dict[bytes, float] = {}
        self.disk = Disk(self)
        self.asker = LoadAsker(self)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._handing_on = self._arming = False
        self.listeners: list[Callable[[Event], None]] = []
        self.endpoints = Endpoints()

    # -- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, read the journal, knock at seeds. Raises :class:`ConfigError`."""
        self.state.believe(read_certificate(self.passport.certificate))
        self.me = self.trust.check(self.passport, self.now().wall)
        self.incarnation = await asyncio.to_thread(self.state.next_incarnation)
        self.streams = Streams(load=self._load)
        self.core = NodeCore(
            LocalIdentity(self.keys, self.passport, self.trust),
            self.config.core,
            incarnation=self.incarnation,
            streams=self.streams,
            load=self._load,
            clock=self.state.clock,
        )
        check, seen = self.serving.check, self._load_seen
        self.calls = Calls(self.streams, self.emit, self.now, check, seen, self.on_trouble)
        self.trust = self.core.trust  # from now on it knows who was revoked
        self.standing = Standing(self)
        self.context = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, 4096)
        self.transport = Transport(self.context, self.keys, self, self._introduce)
        self.calls.hasten = self.transport.hasten
        self.door = Door(
            self.context,
            self.keys,
            AdmissionDoor(self.trust, self.passport, desk=self.standing.desk),
            self.now,
            self._admitted,
            self.on_trouble,
            self.standing.keep_book,
        )
        self._bind()
        self.finder = Finder(self)
        await self.standing.restore()
        journal = await asyncio.to_thread(read_journal, self.state.journal)
        self.core.restore(journal, self.now())
        self._after()
        self.finder.start()
        self.standing.start()
        self.spawn(self.disk.keep())

    def _bind(self) -> None:
        config = self.config
        bound = config.host if config.dialable else "127.0.0.1"

        def at(port: int) -> str:
            return f"tcp://{bound}:{port or '*'}"

        try:
            control, bulk = self.transport.bind(at(config.control_port), at(config.bulk_port))
            admission = self.door.bind(at(config.admission_port))
        except zmq.ZMQError as error:
            raise ConfigError(
                f"cannot listen on {bound}: {error}",
                hint="another program may hold the port; choose another, or 0 for any",
            ) from error
        self.admission_port = int(admission.rpartition(":")[2])
        self.endpoints = Endpoints(control, bulk, admission)
        if not config.dialable:
            self.endpoints = Endpoints(dialable=Dialable.NO)
        elif config.advertise or is_wildcard(config.host):
            self.endpoints = self._at_host(config.advertise or facing_address())
        self.door.endpoints = self.endpoints
        self.door.incarnation = self.incarnation

    def _at_host(self, host: str) -> Endpoints:
        def at(lane: str) -> str:
            return f"tcp://{host}:{lane.rpartition(':')[2]}"

        there = self.endpoints
        return Endpoints(at(there.control), at(there.bulk), at(there.admission))

    async def stop(self) -> None:
        """Say goodbye and close everything; safe to call twice."""
        if self._stopping:
            return
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.finder.stop()
        if self._timer is not None:
            self._timer.cancel()
        await self.calls.close()
        self.emit(self.core.leave(self.now()))
        await asyncio.sleep(0.05)  # lets libzmq's thread put the goodbye on the wire
        await self.disk.write()
        self.door.close()
        self.transport.close()
        self.context.destroy(linger=0)

    def now(self) -> Now:
        """Both clocks."""
        return self.state.now()

    @property
    def seed(self) -> str:
        """How others can knock at this node; empty when they cannot."""
        address = self.endpoints.admission
        return seed_text(address, self.keys.curve) if address else ""

    # -- what this node offers and how it is ------------------------------------------------

    def offer(
        self,
        names: Sequence[tuple[ServedName, Service]],
        models: Sequence[ModelInfo],
        device: Device,
    ) -> None:
        """Advertise names and serve them; replaces what was offered before.

        Raises :class:`~mesh.core.errors.AccessDenied` for a name that the certificate of this
        node does not grant.
        """
        for served, _ in names:
            check_name(served.name)
        offered = (tuple(served for served, _ in names), tuple(models), device)
        try:
            self._publish(offered)
        except Refusal as refusal:
            raise AccessDenied(
                refusal.message, hint="ask the mesh's owner for a certificate that grants the name"
            ) from refusal
        self._offered = offered
        self.serving.services = {served.name: service for served, service in names}
        self._after()

    def _publish(self, offered: Offered) -> None:
        self.core.set_profile(*offered, self.endpoints, self.now(), SOFTWARE)

    def move(self, host: str) -> None:
        """This machine's address is another now: tell everybody."""
        there = self._at_host(host) if self.config.dialable else self.endpoints
        if there.admission != self.endpoints.admission:
            log.info("this node listens at %s now", there.admission)
            self.endpoints = self.door.endpoints = there
            self.finder.reach.moved(self.now())
            self._republish()

    def declare(self, dialable: Dialable, *, at_once: bool) -> None:
        """Say whether this node can be dialled, ``at_once`` or with the next profile."""
        self.endpoints = msgspec.structs.replace(self.endpoints, dialable=dialable)
        if at_once:
            log.info("dialable: %s, %s", dialable.name.lower(), self.finder.reach.why)
            self._republish()

    @property
    def policy(self) -> Policy:
        """The access rules; a new policy also holds for the streams that run."""
        return self.serving.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self.serving.policy = policy
        self.calls.recheck()

    def show_passport(self, passport: Passport) -> None:
        """Show this renewed passport at the door and in the profile from now on."""
        self.passport = self.door.passport = passport
        self.core.store.admit(self.me)
        self._republish()

    def _republish(self) -> None:
        if self._offered is not None:
            self._publish(self._offered)
            self._after()

    def report(self, vitals: Vitals) -> None:
        """Say how loaded and well this node is; it travels when the change means something."""
        self.core.set_status(vitals, self.now())
        self._after()

    def load(self, node: bytes) -> Load:
        """What is known of a node's load: its own, fresh from a reply, or gossiped."""
        if node == self.me.node:
            return self._load()
        seen = self._loads.get(node)
        if seen is not None and self.now().mono - seen[1] < OBSERVED_LIFE_S:
            return seen[0]
        status = self.core.status(node)
        if status is None:
            return Load()
        return Load(status.inflight, status.queued, status.slots, status.tokens_per_s)

    def load_seen_at(self, node: bytes) -> float:
        """Monotonic seconds at which that load was told; ``-inf`` where nothing is known."""
        if node == self.me.node:
            return self.now().mono
        seen, entry = self._loads.get(node), self.core.store.get(node)
        gossiped = entry.status.arrived if entry and entry.status else float("-inf")
        return max(seen[1], gossiped) if seen is not None else gossiped

    async def fresh_loads(self, nodes: Iterable[bytes], timeout_s: float) -> dict[bytes, Load]:
        """Ask a handful of nodes for their load now; those that answer in time, with it.

        What they say is what :meth:`load` and :meth:`resolve` go by for some seconds."""
        return await self.asker.ask(nodes, timeout_s)

    # -- calls ------------------------------------------------------------------------------

    def call(
        self, node: bytes, name: str, body: bytes, header: CallHeader, op: Op = Op.QUERY
    ) -> AsyncGenerator[bytes, None]:
        """Stream the answer of ``name`` at ``node``, this node included.

        Closing the iterator cancels. It raises as :meth:`mesh.net.calls.Calls.call`, and this
        raises :class:`PeerLost` at once for a node that nothing can be sent to.
        """
        if node != self.me.node and not self.transport.has_way(node):
            raise PeerLost(
                f"{self.name_of(node)} cannot be dialled and has no link open to this node",
                hint="two nodes behind NAT cannot call each other; ask by way of a third",
            )
        if op is Op.DELEGATE and header.caller == self.me.node and header.warrant is None:
            header = with_warrant(header, self.core.identity, self.now().wall)
        if node == self.me.node:
            return self.serving.call_here(name, body, header, op)
        if carries_states(name):
            self.serving.check_states(node, name)
        return self.calls.call(node, name, op, body, header)

    def _load_seen(self, event: LoadSeen) -> None:
        now = self.now()
        self._loads[event.node] = (event.load, now.mono)
        self.core.observe_load(event.node, event.load, now)

    # -- what the transport tells -----------------------------------------------------------

    def on_frames(self, node: bytes, lane: Lane, frames: list[bytes]) -> None:
        """Frames of a member."""
        now = self.now()
        self._heard[node] = now.mono
        sends: list[Send] = []
        for frame in frames:
            try:
                message = decode(frame, lane)
                if isinstance(message, DIAL_BACKS):
                    self.finder.on_message(node, message)
                else:
                    sends += self.core.receive(node, message, now)
            except WireError as error:
                self.counters[error.code] += 1
                self.on_trouble(f"refused a frame from {self.name_of(node)}: {error.sentence()}")
        self.emit(sends)

    def on_link_up(self, node: bytes) -> None:
        """The first frame on a link says who we are, so that replies find the way back."""
        self.emit([Send(node, Hello(self.me.node, self.incarnation))])

    def on_link_down(self, node: bytes) -> None:
        """What was under way over the link has failed."""
        self.streams.peer_lost(node, self.now(), "the link to the node broke")
        self.emit(self.core.link_lost(node, self.now()))

    def on_called(self, node: bytes) -> None:
        """A member reached this node's own address."""
        self.finder.reach.called_in(node, self.now())

    def on_trouble(self, sentence: str) -> None:
        """One line for people, not repeated in a flood."""
        self.counters["troubles"] += 1
        self.told.tell(sentence, self.now().mono)

    @property
    def troubles(self) -> list[str]:
        """The latest lines, oldest first."""
        return self.told.lines

    def silent_s(self, node: bytes) -> float:
        """Seconds since the node was last heard itself, -1 for never."""
        heard = self._heard.get(node)
        return -1.0 if heard is None else round(self.now().mono - heard, 3)

    def name_of(self, node: bytes) -> str:
        """A node's name for people."""
        member = self.core.member(node)
        return member.name if member is not None else node.hex()[:8]

    # -- joining ----------------------------------------------------------------------------

    def _introduce(self, address: str, curve: bytes) -> asyncio.Future[None]:
        return self.spawn(self.finder.knock(address, curve))

    def met(self, member: Member, endpoints: Endpoints) -> None:
        """A node showed a good passport at its own door."""
        self.transport.allow(member)
        self.transport.aim(member, endpoints, introduced=True)
        self.core.learn(member, endpoints, self.now())
        self._after()

    def _admitted(self, member: Member) -> None:
        """A stranger showed a good passport at our door."""
        self.transport.allow(member)
        self.transport.try_soon(member.node)
        # It did not say where it listens; what was known of that stays.
        self.core.learn(member, self.core.endpoints(member.node), self.now())
        self._after()

    # -- the pump ---------------------------------------------------------------------------

    def emit(self, sends: Sequence[Send]) -> None:
        """Send what a core returned."""
        for send in sends:
            self.transport.send(send.to, encode(send.message), send.lane)
        self._after()

    def _after(self) -> None:
        """Whatever just happened: hand on events in their order, and be woken in time."""
        if self._stopping or self._handing_on:
            return  # what handling an event causes is handed on by the loop below
        self._handing_on = True
        try:
            while events := self.streams.drain_events():
                self.calls.handle(events)
            for event in self.core.drain_events():
                self._on_event(event)
        finally:
            self._handing_on = False
        if not self._arming:  # not with each frame: asking every core what is due costs as much
            self._arming = True
            asyncio.get_running_loop().call_later(ARM_AFTER_S, self._arm)

    def _arm(self) -> None:
        self._arming = False
        at = self.core.next_deadline()
        if at < self._timer_at and not self._stopping:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            wait_s = max(MIN_SLEEP_S, at - self.now().mono)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self.emit(self.core.tick(self.now()))

    def _on_event(self, event: Event) -> None:
        match event:
            case MemberLearned(member=member):
                self.transport.allow(member)
                self._aim(member.node)
                self.disk.dirty = True
            case MemberForgotten(node=node):
                self.transport.forbid(node)
                self._loads.pop(node, None)
                self._heard.pop(node, None)
                self.disk.dirty = True
            case ProfileChanged(node=node):
                self._aim(node)
                self.disk.dirty = True
            case Revoked():
                self.standing.on_revoked(event)
            case StateChanged():
                log.info("%s is %s: %s", event.name, event.new.name.lower(), event.why)
                if event.new in {PeerState.DEAD, PeerState.DEPARTED}:
                    self._loads.pop(event.node, None)
                    self.transport.drop(event.node)
            case LoadHeard(node=node, load=load):
                self._loads[node] = (load, self.now().mono)
                self.asker.heard(event)
            case RecordRefused(line=line):
                self.on_trouble(f"refused a record: {line}")
            case IncarnationRaised(incarnation=incarnation):
                self.spawn(self.disk.remember_incarnation(incarnation))
            case _:
                pass
        for listener in self.listeners:
            listener(event)

    def _aim(self, node: bytes) -> None:
        member, endpoints = self.core.member(node), self.core.endpoints(node)
        known = self.core.profile(node) is not None or endpoints.control
        if member is not None and known and node != self.me.node:
            self.transport.aim(member, endpoints)

    def spawn(self, work: object) -> asyncio.Task[None]:
        """Run a coroutine until it ends, or this node does."""
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

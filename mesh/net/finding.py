"""How a node finds the others and stays within their reach.

Carries out what :mod:`mesh.core.doors` and :mod:`mesh.core.reachability` decide: knocks at
doors, listens to mDNS, follows this machine's addresses, dials back for others and asks them
to, and holds links open where this node cannot be dialled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from typing import TYPE_CHECKING

import zmq

from mesh.core.doors import Doors, KnownDoor, Origin
from mesh.core.effects import Send
from mesh.core.errors import GossamerError, PeerLost
from mesh.core.events import PeerState
from mesh.core.peers import PRESENT
from mesh.core.reachability import DialBackDesk, Reachability
from mesh.core.records import Dialable
from mesh.core.wire import DialBack, DialedBack, DialOutcome
from mesh.net.addresses import facing_address, is_loopback, is_wildcard, own_networks
from mesh.net.discovery import Discovery
from mesh.net.door import knock, shake_hands
from mesh.net.statedir import parse_seed

if TYPE_CHECKING:
    from mesh.net.node import MeshNode

log = logging.getLogger("gossamer.mesh")

LOOK_S = 1.0  # between two looks at whom to knock at, whom to ask
ADDRESSES_S = 10.0  # between two looks at this machine's own addresses
MDNS_AGAIN_S = 60.0  # between two rounds of what mDNS knows, and two tries to start it
# A link costs four file descriptors at this end and one at the other; the usual limit is 1024
# to a process, and libzmq spins without any.
MAX_HELD_LINKS = 128


class Finder:
    """One node's way to the others. Its tasks end with the node's."""

    def __init__(self, node: MeshNode) -> None:
        self._node = node
        rng = random.SystemRandom()
        self.doors = Doors(rng)
        self.reach = Reachability(rng, declared=node.config.dialable)
        self.counters: Counter[str] = Counter()
        self._desk = DialBackDesk()
        self._wake = asyncio.Event()
        self._discovery: Discovery | None = None
        self._company = False

    def start(self) -> None:
        """Knock at seeds and go on looking. Raises :class:`ConfigError` for a bad seed."""
        node = self._node
        for seed in node.config.seeds:
            address, curve = parse_seed(seed)
            if curve != node.keys.curve:
                self.doors.seed(address, curve)
        node.spawn(self._keep_knocking())
        node.spawn(self._keep_reachable())
        if not is_loopback(node.config.host):
            node.spawn(self._keep_addresses())

    async def stop(self) -> None:
        """End what is announced."""
        if self._discovery is not None:
            await self._discovery.stop()

    def all_counters(self) -> Counter[str]:
        """Named counts of everything refused and dropped on the way."""
        parts = [self.counters, self.doors.counters, self.reach.counters]
        if self._discovery is not None:
            parts.append(self._discovery.counters)
        return sum(parts, Counter())

    # -- knocking ---------------------------------------------------------------------------

    async def knock(self, address: str, curve: bytes) -> None:
        """Exchange passports at a door; raises :class:`GossamerError`."""
        node = self._node
        member, endpoints = await knock(
            node.context,
            node.keys,
            node.passport,
            node.trust,
            node.incarnation,
            address,
            curve,
            node.now,
        )
        node.met(member, endpoints)

    @property
    def alone(self) -> bool:
        """Whether no other node is known to live."""
        return not any(s is PeerState.ALIVE for s in self._node.core.peer_states.values())

    async def _keep_knocking(self) -> None:
        while True:
            alone = self.alone
            self._tell_of_company(alone=alone)
            core = self._node.core
            if alone:
                self.doors.remember(
                    {
                        member.curve: address
                        for member in core.members()
                        if member.node != self._node.me.node
                        and (address := core.endpoints(member.node).admission)
                    }
                )
            states = core.peer_states
            living = {m.curve for m in core.members() if states.get(m.node) is PeerState.ALIVE}
            for door in self.doors.due(self._node.now(), alone=alone, living=living):
                self._node.spawn(self._try(door))
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_S)

    def _tell_of_company(self, *, alone: bool) -> None:
        if self._company and alone:
            lost = (PeerState.DEAD, PeerState.SUSPECT)
            if any(state in lost for state in self._node.core.peer_states.values()):
                self._node.on_trouble(
                    "no other node answers any more: knocking at every known address until one does"
                )
        elif alone is self._company:
            log.info("this node has company")
        self._company = not alone

    async def _try(self, door: KnownDoor) -> None:
        address = door.address
        try:
            await self.knock(address, door.curve)
        except (GossamerError, zmq.ZMQError) as error:
            told = error.sentence() if isinstance(error, GossamerError) else str(error)
            self.counters["knocks_failed"] += 1
            given_up = self.doors.failed(door, self._node.now())
            if door.origin is Origin.SEED:
                self._node.on_trouble(f"seed {address}: {told}")
            elif given_up:
                self._node.on_trouble(f"a node of this mesh is announced by mDNS, but {told}")
        else:
            self.doors.answered(door, self._node.now())

    # -- this machine's addresses, and mDNS -------------------------------------------------

    async def _keep_addresses(self) -> None:
        """Follow the machine from network to network, and announce it where it is."""
        node, loop = self._node, asyncio.get_running_loop()
        config = node.config
        networks: list[str] = []
        again_at = loop.time()
        while True:
            there = await asyncio.to_thread(own_networks, config.host)
            moved = there != networks
            # Without any address (a cable pulled out) the old one is as good as another.
            if moved and there and is_wildcard(config.host) and not config.advertise:
                node.move(await asyncio.to_thread(facing_address))
            networks = there
            if config.discovery and (moved or loop.time() >= again_at):
                again_at = loop.time() + MDNS_AGAIN_S
                await self._discover(networks, moved=moved)
            await asyncio.sleep(ADDRESSES_S)

    async def _discover(self, networks: list[str], *, moved: bool) -> None:
        node = self._node
        if self._discovery is None:
            self._discovery = Discovery(
                node.me.node,
                node.trust.mesh,
                node.keys.curve,
                node.admission_port if node.config.dialable else 0,
                self._found,
                node.on_trouble,
            )
        if moved or not self._discovery.running:
            await self._discovery.start(networks)
        else:
            self._discovery.look_again()

    def _found(self, curve: bytes, addresses: list[str]) -> None:
        """mDNS tells of a node of this mesh."""
        core = self._node.core
        states = core.peer_states
        for member in core.members():
            if member.curve == curve and states.get(member.node) is PeerState.ALIVE:
                return
        self.doors.heard_of(curve, addresses, self._node.now())
        self._wake.set()

    # -- reach ------------------------------------------------------------------------------

    async def _keep_reachable(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            node, now = self._node, self._node.now()
            states = node.core.peer_states
            living = [peer for peer, state in states.items() if state is PeerState.ALIVE]
            asked = self.reach.ask(living, now)
            if asked is not None:
                node.emit([Send(*asked)])
            verdict = self.reach.verdict
            limited = {Dialable.NO, Dialable.SOME}
            before = node.endpoints.dialable
            # A yes is what everybody expects: it travels with the next profile that is due.
            if verdict != before and verdict is not Dialable.UNKNOWN:
                node.declare(verdict, at_once=bool({verdict, before} & limited))
            if verdict in limited:
                node.transport.hold(self._callers())
            elif before in limited:
                node.transport.hold(frozenset())

    def _callers(self) -> frozenset[bytes]:
        """To whom a link is held open: every member present, those nearest by id if too many."""
        states, me = self._node.core.peer_states, int.from_bytes(self._node.me.node)
        present = [node for node, state in states.items() if state in PRESENT]
        if len(present) > MAX_HELD_LINKS:
            self.counters["links_not_held"] = len(present) - MAX_HELD_LINKS
            present.sort(key=lambda node: int.from_bytes(node) ^ me)
        return frozenset(present[:MAX_HELD_LINKS])

    def on_message(self, peer: bytes, message: DialBack | DialedBack) -> None:
        """A peer asks for a dial-back, or tells how one went."""
        if isinstance(message, DialedBack):
            self.reach.answered(peer, message, self._node.now())
        elif self._desk.take(peer, self._node.now()):
            self._node.spawn(self._dial_back(peer, message.seq))
        else:
            self.counters["dial_backs_declined"] += 1
            declined = DialedBack(message.seq, DialOutcome.DECLINED, "over the rate")
            self._node.emit([Send(peer, declined)])

    async def _dial_back(self, peer: bytes, seq: int) -> None:
        outcome, reason = DialOutcome.REACHED, ""
        if not self._node.transport.is_dialled(peer):
            try:
                await self._open_anew(peer)
            except (PeerLost, zmq.ZMQError) as error:
                outcome, reason = DialOutcome.UNREACHED, str(error)[:120]
            except GossamerError:
                pass  # it answered, though with a no: the way is open
        self.counters[f"dial_backs_{outcome.name.lower()}"] += 1
        self._node.emit([Send(peer, DialedBack(seq, outcome, reason))])

    async def _open_anew(self, peer: bytes) -> None:
        """New connections to the peer's door and to its control lane, as a newcomer's would be."""
        node = self._node
        member, endpoints = node.core.member(peer), node.core.endpoints(peer)
        if member is None or not (endpoints.admission and endpoints.control):
            raise PeerLost("it advertises no address")
        await shake_hands(node.context, node.keys, endpoints.control, member.curve)
        await knock(
            node.context,
            node.keys,
            node.passport,
            node.trust,
            node.incarnation,
            endpoints.admission,
            member.curve,
            node.now,
        )

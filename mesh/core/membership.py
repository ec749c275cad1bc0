"""Who is alive: SWIM (Das 2002) with Lifeguard (Dadgar 2018), on signed statements.

Each node probes the others in turn, in random order. What does not answer is asked for
through others, whose answer must carry the subject's own signature; what still does not
answer is suspected, accused in a signed statement, and dead when it has not refuted in time.
A node acts on its own probes or on several distinct accusers, never on one voice: an
accusation by another only makes it look for itself, at once.

A node that cannot keep up blames itself first (local health), and one that was itself asleep
gives everybody their time again: its clock ran, their answers may be waiting unread.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

from mesh.core.clock import Now
from mesh.core.effects import Send
from mesh.core.events import PeerState
from mesh.core.identity import LocalIdentity, Member, Signed
from mesh.core.membership_config import MembershipConfig
from mesh.core.peers import MAX_ACCUSERS, Cause, Peer, Peers
from mesh.core.probing import Probe, Probes, RoundTrip
from mesh.core.statements import Statement, Word, check_ack, sign_ack, state, verify_statement
from mesh.core.wire import Ack, Ping, PingRequest, RelayedAck

MAX_UNAWARE = 64  # accusers of an earlier life of this node, to be told of its present one


class Membership:
    """The failure detector of one node.

    ``news`` are statements to spread; ``unaware`` are nodes (and the incarnation they spoke
    of) that accuse an earlier life of this node and should be told of the present one.
    """

    def __init__(
        self,
        identity: LocalIdentity,
        config: MembershipConfig,
        rng: random.Random,
        incarnation: int,
    ) -> None:
        self._identity = identity
        self.config = config
        self._rng = rng
        self.life = (incarnation, 0)
        self._peers = Peers(rng)
        self.peers = self._peers.all
        self.present = self._peers.present
        self.some = self._peers.some
        self.events = self._peers.events
        self.counters = self._peers.counters
        self._anyone = RoundTrip()  # over all peers: what to expect of one never measured
        self._probes = Probes(config, rng)
        self.health = 0  # Lifeguard's local health multiplier, 0 is well
        self._next_probe = -math.inf
        self._next_gone = -math.inf
        self._neighbours_turn = False
        self._planned = math.inf
        self._refuted_at = -math.inf
        self._refute_at = math.inf
        self.word: Signed | None = None  # this node's latest statement of itself
        self.unaware: deque[tuple[bytes, int]] = deque(maxlen=MAX_UNAWARE)
        self._leaving = False
        self.asks: Callable[[Now], int] = lambda now: 0  # what probes ask for as well
        self.told: Callable[[Ack, bytes, float, Now], None] = lambda *_: None
        self.news: deque[Signed] = deque()  # statements to spread

    # -- members -----------------------------------------------------------------------

    def add(self, member: Member, *, heard: bool, now: Now) -> None:
        """A node whose passport was checked; ``heard`` is false for one read from disk."""
        peer = self.peers.get(member.node)
        if member.node == self._identity.node:
            return
        if peer is not None:
            peer.member = member
            return
        self._peers.add(member, PeerState.ALIVE if heard else PeerState.UNKNOWN, now.mono)
        if self._next_probe == -math.inf:
            self._next_probe = now.mono + self._rng.random() * self.config.probe_period_s

    def remove(self, node: bytes) -> None:
        """Forget a node altogether."""
        self._peers.remove(node)
        self._probes.drop(node)

    def state(self, node: bytes) -> PeerState:
        """The state of a node; this node itself is alive, a stranger unknown."""
        if node == self._identity.node:
            return PeerState.ALIVE
        peer = self.peers.get(node)
        return peer.state if peer else PeerState.UNKNOWN

    # -- probing -----------------------------------------------------------------------

    def link_lost(self, node: bytes, now: Now) -> list[Send]:
        """The link to a peer broke: ask at once. A stalled process does not reset its links,
        one that ended does, so if it does not answer either, that is soon decided."""
        peer = self.peers.get(node)
        if peer is None:
            return []
        peer.link_broke = True
        return self.look_now(node, now)

    def look_now(self, node: bytes, now: Now) -> list[Send]:
        """Probe a node out of turn: somebody accuses it."""
        peer = self.peers.get(node)
        if peer is None or self._probes.pending(node) or self._leaving:
            return []
        # Others speak against it too, so this node's own health weighs less here.
        return self._probe(peer, min(self.health, 1), now)

    def _probe(self, peer: Peer, health: int, now: Now) -> list[Send]:
        timeout = self._timeout(peer) * (health + 1)
        trip = peer.round_trip if peer.round_trip.known else self._anyone
        probe = self._probes.begin(peer.node, timeout, trip.repeat(self.config), now)
        return [self._ping(peer, probe, now)]

    def _timeout(self, peer: Peer) -> float:
        """Of a peer never measured as much is expected as of all, with some patience."""
        if peer.round_trip.known or not self._anyone.known:
            return peer.round_trip.timeout(self.config)
        return 1.5 * self._anyone.timeout(self.config)

    def _ping(self, peer: Peer, probe: Probe, now: Now) -> Send:
        # Lifeguard's buddy system: a suspect hears first of all what is said of it.
        said = next(iter(peer.accusers.values()), None)
        suspect = said if peer.state is not PeerState.ALIVE else None
        seq, ask = probe.ping(now), self.asks(now)
        return Send(peer.node, Ping(seq, peer.node, probe.nonce, suspect=suspect, ask=ask))

    def _indirect(self, probe: Probe, now: Now) -> list[Send]:
        """The first timeout is over: ask others, and once more oneself."""
        peer = self.peers.get(probe.node)
        if peer is None:
            return []
        relays = self.some(self.config.relays, (probe.node,))
        relays = [r for r in relays if self.peers[r].state is PeerState.ALIVE]
        self._probes.widen(probe, len(relays), now)
        ask = PingRequest(probe.seq, probe.node, probe.nonce)
        return [Send(r, ask) for r in relays] + [self._ping(peer, probe, now)]

    def _failed(self, probe: Probe, now: Now) -> None:
        """Nobody reached it. Relays that said so show that this node itself can be heard."""
        self.counters["probes_failed"] += 1
        missing = probe.asked - probe.nacks
        peer = self.peers.get(probe.node)
        if peer is None or peer.state in (PeerState.DEAD, PeerState.DEPARTED):
            return
        if peer.state is PeerState.ALIVE:  # that a suspect stays silent says nothing of oneself
            self._feel(missing if probe.asked else 1)
        newcomer = now.mono - peer.since < self.config.newcomer_s
        if newcomer and not (peer.round_trip.known or peer.knows_us):
            self.counters["newcomers_spared"] += 1
            return
        peer.own_failed = True
        me = self._identity.node
        if me not in peer.accusers:
            said = state(self._identity, Word.ACCUSATION, peer.node, peer.life, now.wall)
            if len(peer.accusers) < MAX_ACCUSERS:
                peer.accusers[me] = said
            self.news.append(said)
        peer.accused_at = min(peer.accused_at, now.mono)
        self._suspect(peer, now)

    def _feel(self, delta: int) -> None:
        self.health = max(0, min(self.config.health_max, self.health + delta))

    def _heard(self, peer: Peer, probe: Probe, now: Now) -> None:
        """The subject's own answer to this node's nonce: it lives, whatever others say."""
        self._remember_silence(peer, now.mono - peer.accused_at, now)
        if probe.failed:
            self._remember_silence(peer, now.mono - probe.started, now)
        if not probe.failed:
            self._feel(-1)
        peer.own_failed = peer.link_broke = False
        peer.discounted = len(peer.accusers)
        peer.accused_at = math.inf
        self._peers.move(peer, Cause.HEARD)

    def _remember_silence(self, peer: Peer, silence_s: float, now: Now) -> None:
        """A board that answers after six seconds is slow, not dead: next time it gets them."""
        config = self.config
        if not config.silence_min_s < silence_s < 3 * config.silence_max_s:
            return  # a shorter one was a lost packet; in longer ones it was off, not stalled
        peer.silence_s = max(self._silence(peer, now), silence_s)
        peer.silence_at = now.mono

    def _silence(self, peer: Peer, now: Now) -> float:
        age = now.mono - peer.silence_at
        return float(peer.silence_s * 0.5 ** (age / self.config.silence_half_life_s))

    # -- suspicion ---------------------------------------------------------------------

    def _accused(self, peer: Peer) -> int:
        """How many accusers count: those since this node's own probe last succeeded."""
        return len(peer.accusers) - peer.discounted

    def _quorum(self) -> int:
        """How many distinct accusers outweigh a node's own lack of evidence."""
        return self.config.quorum

    def _suspect(self, peer: Peer, now: Now) -> None:
        if self._peers.move(peer, Cause.ACCUSED):
            peer.reprobe_at = now.mono + self.config.probe_period_s
        if peer.state is PeerState.SUSPECT:
            peer.verdict_at = peer.accused_at + self._patience(peer, now)

    def _patience(self, peer: Peer, now: Now) -> float:
        """Lifeguard's dynamic suspicion: seconds from suspicion to verdict, shrinking with
        the logarithm of independent confirmations (its section IV.B)."""
        config = self.config
        mesh = len(self.peers) + 1
        scale = max(1.0, math.log10(mesh) / 2)
        low = config.suspicion_min_s * scale
        if peer.link_broke and peer.own_failed:
            return low * config.broken_link_factor
        if now.mono - max(peer.since, peer.silence_at) < config.steady_s:
            low = max(low, config.suspicion_unsteady_s)
        low = max(low, min(config.silence_trust * self._silence(peer, now), config.silence_max_s))
        high = max(low, config.suspicion_max_s * scale)
        expected = min(config.confirmations, mesh - 2)
        confirmed = self._accused(peer) - 1
        if expected <= 0 or confirmed >= expected:
            return low
        share = math.log(max(confirmed, 0) + 1) / math.log(expected + 1)
        return high - (high - low) * share

    # -- statements --------------------------------------------------------------------

    def hear(self, signed: Signed, said: Statement, now: Now) -> tuple[bool, list[Send]]:
        """A statement from anywhere. True when it was new and verified, so worth relaying.

        Raises :class:`IdentityError` for a signature that does not hold.
        """
        if said.subject == self._identity.node:
            self._hear_of_me(signed, said, now)
            return False, []
        peer = self.peers.get(said.subject)
        speaker = self.peers.get(said.by)
        if said.by == self._identity.node or peer is None or speaker is None:
            return False, []
        if Word(said.kind) is Word.ACCUSATION:
            return self._hear_accusation(peer, speaker, signed, said, now)
        if said.life <= peer.life:
            return False, []
        verify_statement(signed, speaker.member.key, self._identity.trust)
        self.new_life(peer.node, said.life, now, left=said.kind == Word.LEAVE)
        return True, []

    def new_life(self, node: bytes, life: tuple[int, int], now: Now, *, left: bool = False) -> None:
        """A node's own verified word, statement or profile, of a later life than known."""
        peer = self.peers.get(node)
        if peer is None or life < peer.life:
            return
        if not left and life[0] == peer.life[0]:
            self._remember_silence(peer, now.mono - peer.accused_at, now)
        if life[0] > peer.life[0]:
            peer.round_trip, peer.since = RoundTrip(), now.mono
        peer.life = life
        peer.accusers.clear()
        peer.discounted = 0
        peer.accused_at = math.inf
        peer.own_failed = peer.link_broke = False
        self._probes.drop(node)
        self._peers.move(peer, Cause.LEFT if left else Cause.REFUTED)

    def _hear_accusation(
        self, peer: Peer, speaker: Peer, signed: Signed, said: Statement, now: Now
    ) -> tuple[bool, list[Send]]:
        if said.life != peer.life or said.by in peer.accusers:
            return False, []
        if abs(now.wall - said.issued) > self.config.accusation_life_s:
            self.counters["refused_accusation_age"] += 1
            return False, []
        if len(peer.accusers) >= MAX_ACCUSERS or peer.state is PeerState.DEPARTED:
            return False, []
        verify_statement(signed, speaker.member.key, self._identity.trust)
        peer.accusers[said.by] = signed
        peer.accused_at = min(peer.accused_at, now.mono)
        self.counters["accusations_heard"] += 1
        if peer.own_failed or self._accused(peer) >= self._quorum():
            self._suspect(peer, now)
        # Look for oneself; in a large mesh only some do, or a liar could aim all at one node.
        if self._rng.random() * len(self.peers) < self.config.lookers:
            return True, self.look_now(peer.node, now)
        return True, []

    def _hear_of_me(self, signed: Signed, said: Statement, now: Now) -> None:
        """Somebody accuses this node: refute, and ask whether it is this node's own fault."""
        speaker = self.peers.get(said.by)
        if said.kind != Word.ACCUSATION or speaker is None or self._leaving:
            return
        if said.life < self.life:
            self.unaware.append((said.by, said.incarnation))
            return
        if said.life > self.life:
            return  # of a life that this node has not led
        verify_statement(signed, speaker.member.key, self._identity.trust)
        # A little later at most: one liar must not make this node fill the mesh with words.
        self._refute_at = max(now.mono, self._refuted_at + self.config.refute_gap_s)
        if self._refute_at <= now.mono:
            self._refute(now)

    def _refute(self, now: Now) -> None:
        self._refute_at = math.inf
        self._refuted_at = now.mono
        self.life = (self.life[0], self.life[1] + 1)
        self.counters["refuted"] += 1
        self._feel(1)
        self.word = state(self._identity, Word.ALIVE, self._identity.node, self.life, now.wall)
        self.news.append(self.word)

    def raise_incarnation(self, seen: int) -> int:
        """The mesh remembers boot ``seen`` of this node: live in a later one."""
        self.life = (seen + 1, 0)
        self.word = None
        return seen + 1

    def leave(self, now: Now) -> Signed:
        """This node's signed farewell; it probes no more."""
        self._leaving = True
        self.life = (self.life[0], self.life[1] + 1)
        self.word = state(self._identity, Word.LEAVE, self._identity.node, self.life, now.wall)
        return self.word

    # -- messages ----------------------------------------------------------------------

    def on_ping(self, sender: bytes, ping: Ping, now: Now) -> list[Send]:
        """Answer a probe, unless it was meant for another node on this address before."""
        if ping.target != self._identity.node:
            self.counters["refused_ping_target"] += 1
            return []
        if (peer := self.peers.get(sender)) is not None:
            peer.knows_us = True
        signature = sign_ack(self._identity, ping.nonce, self.life[0]) if ping.sign else b""
        return [Send(sender, Ack(ping.seq, ping.nonce, self.life[0], signature))]

    def on_ack(self, sender: bytes, ack: Ack, now: Now) -> list[Send]:
        """An answer to a probe of this node's, or to one made for another."""
        relay = self._probes.take_relay(sender, ack.seq, ack.nonce)
        if relay is not None:
            answer = RelayedAck(relay.seq, sender, ack.nonce, ack.incarnation, ack.signature)
            return [Send(relay.asker, answer)]
        probe = self._probes.take(sender, ack.seq, ack.nonce)
        peer = self.peers.get(sender)
        if probe is None or peer is None:
            self.counters["refused_ack"] += 1
            return []
        took = probe.took(ack.seq, now)
        peer.round_trip.sample(took)
        self._anyone.sample(took)
        self.told(ack, sender, took, now)
        self._heard(peer, probe, now)
        return []

    def on_ping_request(self, sender: bytes, ask: PingRequest, now: Now) -> list[Send]:
        """Probe somebody for another; the answer must bear the subject's signature."""
        peer = self.peers.get(ask.target)
        if peer is None:
            return [Send(sender, RelayedAck(ask.seq, ask.target, ask.nonce))]
        timeout = min(self._timeout(peer), self.config.relay_wait_s) * 0.8
        seq = self._probes.relay(sender, ask, timeout, now)
        if seq is None:
            self.counters["refused_relay_full"] += 1
            return []
        return [Send(ask.target, Ping(seq, ask.target, ask.nonce, sign=True))]

    def on_relayed_ack(self, sender: bytes, ack: RelayedAck, now: Now) -> list[Send]:
        """A relay's word: worth nothing without the subject's signature over the nonce."""
        probe = self._probes.peek(ack.target, ack.seq, ack.nonce)
        peer = self.peers.get(ack.target)
        if probe is None or peer is None:
            return []
        if not ack.signature:
            probe.nacks += 1
            return []
        key = peer.member.key
        held = check_ack(
            self._identity.trust, key, ack.target, ack.nonce, ack.incarnation, ack.signature
        )
        if not held:
            self.counters["refused_relayed_ack"] += 1
            return []
        self._probes.take(ack.target, ack.seq, ack.nonce)
        self.counters["heard_through_others"] += 1
        self._heard(peer, probe, now)
        return []

    # -- time --------------------------------------------------------------------------

    def tick(self, now: Now) -> list[Send]:
        """Do what is due: timeouts, verdicts, the next probe."""
        self._forgive_own_sleep(now)
        out: list[Send] = []
        for relay in self._probes.relays_due(now):
            nack = RelayedAck(relay.seq, relay.target, relay.nonce)
            out.append(Send(relay.asker, nack))
        for probe in self._probes.repeats(now):
            if peer := self.peers.get(probe.node):
                out.append(self._ping(peer, probe, now))
        for probe in self._probes.due(now):
            if probe.wide:
                self._failed(probe, now)
            else:
                out += self._indirect(probe, now)
        for suspect in [p for p in self._peers.suspects.values() if p.verdict_at <= now.mono]:
            if suspect.own_failed or self._accused(suspect) >= self._quorum():
                self._peers.move(suspect, Cause.TIMED_OUT)
            else:
                suspect.verdict_at = math.inf
        if self._refute_at <= now.mono:
            self._refute(now)
        out += self._next_probes(now)
        self._planned = self.next_deadline()
        return out

    def _forgive_own_sleep(self, now: Now) -> None:
        """This process did not run when it should have: nobody else is to blame for that."""
        slept = now.mono - self._planned
        if slept < self.config.sleep_s or self._planned == math.inf:
            return
        self.counters["overslept"] += 1
        self._feel(1)
        self._probes.postpone(slept)
        for peer in self._peers.suspects.values():
            peer.accused_at += slept
            peer.verdict_at += slept

    def _next_probes(self, now: Now) -> list[Send]:
        out: list[Send] = []
        if self._leaving:
            return out
        if self._next_probe <= now.mono and self.peers:
            # Half a period each: somebody in turn, then this node's neighbour.
            self._next_probe = now.mono + self.config.probe_period_s * (self.health + 1) / 2
            self._neighbours_turn = not self._neighbours_turn
            if self._neighbours_turn:
                peer = self._peers.neighbour(self._identity.node)
            else:
                peer = self._peers.in_turn(self._probes.busy())
            if peer is not None and not self._probes.pending(peer.node):
                out += self._probe(peer, self.health, now)
        for peer in self._peers.suspects.values():
            if peer.reprobe_at <= now.mono:
                peer.reprobe_at = now.mono + self.config.probe_period_s
                out += self.look_now(peer.node, now)
        if self._next_gone <= now.mono:
            self._next_gone = now.mono + self.config.dead_probe_period_s
            gone = self._peers.a_gone_one()
            if gone is not None:
                out += self.look_now(gone.node, now)
        return out

    def next_deadline(self) -> float:
        """Monotonic seconds of the next thing due."""
        due = min(self._probes.next_deadline(), self._refute_at)
        for peer in self._peers.suspects.values():
            due = min(due, peer.verdict_at, peer.reprobe_at)
        if self._leaving or not self.peers:
            return due
        if self._peers.any_gone:
            due = min(due, self._next_gone)
        return min(due, self._next_probe)

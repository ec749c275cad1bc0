"""What a ping may ask for besides an answer: how loaded a node is, and what time it has.

Gossiped load may be seconds old. Where a choice is close, a handful of candidates are asked: one
ping each, whose answer carries the load. It tells a member no more than its status tells all
members anyway, so who is no member gets no answer and every member does.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import msgspec

from mesh.core.clock import Now
from mesh.core.effects import Send
from mesh.core.events import LoadHeard, PeerState
from mesh.core.membership import Membership
from mesh.core.mesh_time import MeshTime
from mesh.core.probing import NONCE_BYTES
from mesh.core.wire import Ack, Asked, Load, Ping

MAX_ASKED = 5  # at once: the best of five sampled queues is nearly as good as the best of all
MAX_UNDER_WAY = 64  # a busy asker must not become a flood of pings
MAX_WAIT_S = 5.0  # longer than that, an answer is no fresher than what gossip brings
GONE = frozenset({PeerState.DEAD, PeerState.DEPARTED})


class LoadQuestions:
    """The questions under way of one node. Their pings have the number 0, which no probe has."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._open: dict[bytes, tuple[bytes, float]] = {}  # by node: nonce and until when

    def ask(self, nodes: Iterable[bytes], timeout_s: float, now: Now) -> list[Send]:
        """Ask the first few of these; who is being asked already is not asked again."""
        for node in [n for n, (_, until) in self._open.items() if until < now.mono]:
            del self._open[node]
        sends = []
        until = now.mono + min(timeout_s, MAX_WAIT_S)
        for node in list(dict.fromkeys(nodes))[:MAX_ASKED]:
            if node in self._open or len(self._open) >= MAX_UNDER_WAY:
                continue
            nonce = self._rng.randbytes(NONCE_BYTES)
            self._open[node] = (nonce, until)
            sends.append(Send(node, Ping(0, node, nonce, ask=Asked.LOAD)))
        return sends

    def answers(self, sender: bytes, ack: Ack, now: Now) -> bool:
        """Whether this answers a question that is still open; then it is closed."""
        nonce, until = self._open.get(sender, (b"", -math.inf))
        if ack.seq != 0 or nonce != ack.nonce:
            return False
        del self._open[sender]
        return until >= now.mono

    def waits_for(self, node: bytes, now: Now) -> bool:
        """Whether an answer of this node may still come."""
        return self._open.get(node, (b"", -math.inf))[1] >= now.mono


class Asking:
    """Both ends of it, for one node. ``heard`` gets the loads that were asked for."""

    def __init__(
        self,
        membership: Membership,
        rng: random.Random,
        load: Callable[[], Load],
        clock: MeshTime,
        heard: Callable[[LoadHeard, Now], None],
    ) -> None:
        self._membership = membership
        self._load = load
        self._clock = clock
        self._heard = heard
        self._questions = LoadQuestions(rng)
        membership.asks = lambda now: Asked.WALL if clock.asks(now.mono) else 0
        membership.told = self._told

    def ask(self, nodes: Iterable[bytes], timeout_s: float, now: Now) -> list[Send]:
        """Questions to the first few of these that are known and not gone."""
        peers = self._membership.peers
        there = [n for n in nodes if n in peers and peers[n].state not in GONE]
        return self._questions.ask(there, timeout_s, now)

    def waits_for(self, node: bytes, now: Now) -> bool:
        """Whether an answer of this node may still come."""
        return self._questions.waits_for(node, now)

    def on_ack(self, sender: bytes, ack: Ack, now: Now) -> list[Send]:
        """An answer: to a question for the load, or to a probe."""
        if not self._questions.answers(sender, ack, now):
            return self._membership.on_ack(sender, ack, now)
        if ack.load is not None:  # an older node answers without
            self._heard(LoadHeard(sender, ack.load), now)
        return []

    def complete(self, answer: list[Send], ask: int, now: Now) -> list[Send]:
        """This node's answer to a ping, with what was asked for. Whose own clock is in doubt
        has no say about the time."""
        if not ask or not answer or not isinstance(ack := answer[0].message, Ack):
            return answer
        load = self._load() if ask & Asked.LOAD else None
        wall = now.wall if ask & Asked.WALL and not self._clock.doubtful else None
        return [answer[0]._replace(message=msgspec.structs.replace(ack, load=load, wall=wall))]

    def _told(self, ack: Ack, sender: bytes, took_s: float, now: Now) -> None:
        if ack.wall is not None:
            present = len(self._membership.present)
            self._clock.hear(sender, ack.wall, took_s, present, now.mono)

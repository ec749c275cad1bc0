"""Whether this node can be dialled: it asks others to try (libp2p's AutoNAT is the model).

Two kinds of evidence, each of one peer: it has opened a connection to this node, or it was
asked to and says how that went. A few distinct peers are asked after the start, then one now
and then. What they say is not authority: a node that wrongly believes that it cannot be
dialled opens some links more than it had to, and one that wrongly believes that it can is
still probed, and so called, by its own round of probes.
"""

from __future__ import annotations

import math
import random
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mesh.core.admission import TokenBucket
from mesh.core.clock import Now
from mesh.core.records import Dialable
from mesh.core.wire import DialBack, DialedBack, DialOutcome

MAX_EVIDENCE = 64  # peers; members that connect in turn must not fill the memory


class ReachConfig(msgspec.Struct, frozen=True):
    """All times in seconds.

    ``first_after_s``: patience after the first peer is known. Peers that dial of their own
    accord meanwhile spare the question.

    ``witnesses``: distinct peers to be heard. Neighbours behind the same NAT say yes where
    everybody else says no; a few at random find that out.

    ``next_after_s``: between two questions until that many are heard.

    ``again_s``, ``doubt_s``: one more question every so often, to notice a firewall that was
    closed; sooner while the answers are not all yes, to notice one that was opened.

    ``answer_s``: a dial-back takes two times 4 s at most, plus the way; then another is asked.

    ``life_s``: evidence older than this is forgotten. Above ``again_s``, so that a node whose
    mesh is quiet does not doubt itself.
    """

    first_after_s: float = 3.0
    witnesses: int = 3
    next_after_s: float = 1.0
    again_s: float = 300.0
    doubt_s: float = 60.0
    answer_s: float = 10.0
    life_s: float = 1200.0


@dataclass(slots=True)
class Evidence:
    """One peer's experience."""

    reached: bool
    at: float  # monotonic seconds
    reason: str = ""


class Reachability:
    """What this node knows of its own reachability.

    ``declared`` false: the configuration says that it cannot be dialled; nobody is asked.
    """

    def __init__(
        self, rng: random.Random, *, declared: bool = True, config: ReachConfig | None = None
    ) -> None:
        self.config = config or ReachConfig()
        self.declared = declared
        self._rng = rng
        self._evidence: OrderedDict[bytes, Evidence] = OrderedDict()
        self._asked: tuple[bytes, int, float] | None = None  # peer, seq, until
        self._seq = 0
        self._next = math.inf
        self.counters: Counter[str] = Counter()

    def moved(self, now: Now) -> None:
        """This node listens elsewhere now: what was found out does not hold there."""
        self._evidence.clear()
        self._asked = None
        self._next = now.mono + self.config.first_after_s

    def called_in(self, peer: bytes, now: Now) -> None:
        """A member opened a connection to this node."""
        self._note(peer, Evidence(True, now.mono))

    def ask(self, peers: Sequence[bytes], now: Now) -> tuple[bytes, DialBack] | None:
        """Whom to ask now, if anybody; ``peers`` are those alive."""
        if not self.declared or not peers:
            return None
        if self._next == math.inf:
            self._next = now.mono + self.config.first_after_s * self._rng.uniform(0.5, 1.5)
        if self._asked is not None and self._asked[2] <= now.mono:
            self._asked = None
        if self._asked is not None or self._next > now.mono:
            return None
        self._forget(peers, now)
        unheard = [peer for peer in peers if peer not in self._evidence]
        if unheard and len(self._evidence) < self.config.witnesses:
            peer = self._rng.choice(unheard)
        elif now.mono < max(e.at for e in self._evidence.values()) + self._pause():
            return None
        else:
            doubters = [p for p, evidence in self._evidence.items() if not evidence.reached]
            peer = self._rng.choice(doubters or peers)
        self._seq += 1
        self._asked = (peer, self._seq, now.mono + self.config.answer_s)
        self._plan(now)
        return peer, DialBack(self._seq)

    def answered(self, peer: bytes, said: DialedBack, now: Now) -> None:
        """A peer's answer; one that was not asked for counts for nothing."""
        if self._asked is None or self._asked[:2] != (peer, said.seq):
            self.counters["refused_dialed_back"] += 1
            return
        self._asked = None
        if said.outcome in (DialOutcome.REACHED, DialOutcome.UNREACHED):
            reached = said.outcome == DialOutcome.REACHED
            self._note(peer, Evidence(reached, now.mono, said.reason[:120]))
        self._plan(now)

    def _note(self, peer: bytes, evidence: Evidence) -> None:
        self._evidence.pop(peer, None)
        self._evidence[peer] = evidence
        if len(self._evidence) > MAX_EVIDENCE:
            self._evidence.popitem(last=False)

    def _pause(self) -> float:
        doubt = any(not e.reached for e in self._evidence.values())
        return self.config.doubt_s if doubt else self.config.again_s

    def _plan(self, now: Now) -> None:
        self._next = now.mono + self.config.next_after_s * self._rng.uniform(0.75, 1.25)

    def _forget(self, peers: Sequence[bytes], now: Now) -> None:
        """Drop what is old, and what those say who are gone: perhaps it was their network."""
        here = set(peers)
        for peer, evidence in list(self._evidence.items()):
            if peer not in here or evidence.at + self.config.life_s < now.mono:
                del self._evidence[peer]

    @property
    def verdict(self) -> Dialable:
        """What follows from it all."""
        if not self.declared:
            return Dialable.NO
        heard = {evidence.reached for evidence in self._evidence.values()}
        if not heard:
            return Dialable.UNKNOWN
        if len(heard) == 2:
            return Dialable.SOME
        return Dialable.YES if True in heard else Dialable.NO

    @property
    def why(self) -> str:
        """The verdict's grounds, in one sentence."""
        if not self.declared:
            return "the configuration says that it cannot be dialled"
        told = self._evidence.values()
        reached = sum(evidence.reached for evidence in told)
        if not told:
            return "no other node has tried yet"
        return f"{reached} of {len(told)} nodes that tried have reached it"


class DialBackDesk:
    """Which dial-backs this node makes for others."""

    PER_SECOND = 2.0  # a dial-back opens two connections; a restarting mesh asks all at once
    BURST = 16.0
    PER_PEER_S = 5.0  # a member must not aim this node's connections at an address it claims
    MAX_PEERS = 1024  # remembered for the above

    def __init__(self) -> None:
        self._all: TokenBucket | None = None
        self._last: OrderedDict[bytes, float] = OrderedDict()

    def take(self, peer: bytes, now: Now) -> bool:
        """Whether to dial this peer back now."""
        if self._all is None:
            self._all = TokenBucket(self.PER_SECOND, self.BURST, now.mono)
        if now.mono - self._last.get(peer, -math.inf) < self.PER_PEER_S:
            return False
        if not self._all.take(now.mono):
            return False
        self._last.pop(peer, None)
        self._last[peer] = now.mono
        if len(self._last) > self.MAX_PEERS:
            self._last.popitem(last=False)
        return True

"""The peers of a node and their states: a table says what moves one from state to state."""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from mesh.core.events import Event, PeerState, StateChanged
from mesh.core.identity import Member, Signed
from mesh.core.probing import RoundTrip


class Cause:
    """Why a peer's state may change."""

    HEARD = "it answered this node's probe"
    REFUTED = "it spoke for itself"
    ACCUSED = "it does not answer"
    TIMED_OUT = "it did not refute in time"
    LEFT = "it said that it leaves"


_S = PeerState
# Everything that moves a peer from state to state is in this table; what is not here, stays.
# One's own probe does not bring back the departed: only their own later word does.
TRANSITIONS: dict[tuple[PeerState, str], PeerState] = {
    (_S.UNKNOWN, Cause.HEARD): _S.ALIVE,
    (_S.UNKNOWN, Cause.REFUTED): _S.ALIVE,
    (_S.UNKNOWN, Cause.ACCUSED): _S.SUSPECT,
    (_S.UNKNOWN, Cause.LEFT): _S.DEPARTED,
    (_S.ALIVE, Cause.ACCUSED): _S.SUSPECT,
    (_S.ALIVE, Cause.LEFT): _S.DEPARTED,
    (_S.SUSPECT, Cause.HEARD): _S.ALIVE,
    (_S.SUSPECT, Cause.REFUTED): _S.ALIVE,
    (_S.SUSPECT, Cause.TIMED_OUT): _S.DEAD,
    (_S.SUSPECT, Cause.LEFT): _S.DEPARTED,
    (_S.DEAD, Cause.HEARD): _S.ALIVE,
    (_S.DEAD, Cause.REFUTED): _S.ALIVE,
    (_S.DEAD, Cause.LEFT): _S.DEPARTED,
    (_S.DEPARTED, Cause.REFUTED): _S.ALIVE,
}

PRESENT = frozenset({_S.ALIVE, _S.SUSPECT, _S.UNKNOWN})  # probed in turn, told of news
FEW = 3  # peers
MAX_ACCUSERS = 16  # kept per subject: a crowd of accusers must not fill the memory


@dataclass(slots=True)
class Peer:
    """What this node holds of another."""

    node: bytes
    member: Member
    state: PeerState
    since: float  # monotonic seconds: known, or known to have started again
    life: tuple[int, int] = (0, 0)  # incarnation, refutations since
    accusers: dict[bytes, Signed] = field(default_factory=dict)  # of this life
    discounted: int = 0  # accusers whose word this node's own probe has outweighed since
    knows_us: bool = False  # it has probed this node, so it does not take it for a stranger
    own_failed: bool = False
    link_broke: bool = False  # since it last answered
    accused_at: float = math.inf  # since when it could have refuted: the first accusation
    verdict_at: float = math.inf
    round_trip: RoundTrip = field(default_factory=RoundTrip)
    silence_s: float = 0.0  # the longest silence lately after which it answered
    silence_at: float = -math.inf
    reprobe_at: float = math.inf


class Peers:
    """Everybody but this node, and who of them is present."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.all: dict[bytes, Peer] = {}
        self.present: list[bytes] = []  # the ids of those in PRESENT, in no order
        self._place: dict[bytes, int] = {}
        self.suspects: dict[bytes, Peer] = {}
        self._gone: deque[bytes] = deque()  # the dead, asked now and then whether they are back
        self._turn: list[bytes] = []
        self._neighbour: bytes | None = None  # found again when who is present changes
        self.events: deque[Event] = deque()
        self.counters: Counter[str] = Counter()

    def add(self, member: Member, first: PeerState, since: float) -> None:
        """A new peer; it comes at a random place into the round of probes under way."""
        self.all[member.node] = Peer(member.node, member, first, since)
        self._list(member.node)
        self._turn.insert(self._rng.randrange(len(self._turn) + 1), member.node)
        self.events.append(
            StateChanged(member.node, member.name, PeerState.UNKNOWN, first, "it became known")
        )

    def remove(self, node: bytes) -> None:
        """Forget a peer altogether."""
        if self.all.pop(node, None) is not None:
            self._unlist(node)
            self.suspects.pop(node, None)

    def move(self, peer: Peer, cause: str) -> bool:
        """Whether the cause changed the peer's state."""
        new = TRANSITIONS.get((peer.state, cause))
        if new is None:
            return False
        old, peer.state = peer.state, new
        if new in PRESENT:
            self._list(peer.node)
        else:
            self._unlist(peer.node)
        if new is PeerState.SUSPECT:
            self.suspects[peer.node] = peer
        else:
            self.suspects.pop(peer.node, None)
            peer.verdict_at = peer.reprobe_at = math.inf
        if new is PeerState.DEAD and peer.node not in self._gone:
            self._gone.append(peer.node)
        self.counters[f"became_{new.name.lower()}"] += 1
        self.events.append(StateChanged(peer.node, peer.member.name, old, new, cause))
        return True

    def _list(self, node: bytes) -> None:
        if node not in self._place:
            self._neighbour = None
            self._place[node] = len(self.present)
            self.present.append(node)

    def _unlist(self, node: bytes) -> None:
        place = self._place.pop(node, None)
        if place is None:
            return
        self._neighbour = None
        last = self.present.pop()
        if last != node:
            self.present[place] = last
            self._place[last] = place

    def some(self, count: int, without: Iterable[bytes] = ()) -> list[bytes]:
        """Up to ``count`` present peers at random."""
        shunned = set(without)
        picks = self._rng.sample(self.present, min(len(self.present), count + len(shunned)))
        return [node for node in picks if node not in shunned][:count]

    def in_turn(self, busy: Iterable[bytes]) -> Peer | None:
        """Round robin in random order: the longest time between two probes is bounded."""
        shunned = set(busy)
        for _ in range(2):
            while self._turn:
                peer = self.all.get(self._turn.pop())
                if peer is not None and peer.state in PRESENT and peer.node not in shunned:
                    return peer
            self._turn = self._rng.sample(self.present, len(self.present))
        return None

    def neighbour(self, me: bytes) -> Peer | None:
        """The present peer whose id comes next after this node's, in a ring.

        Probing in random turns leaves now and then somebody unasked for several seconds;
        that everybody is also asked by the one before it bounds this. In a mesh of a few,
        turns come round as fast.
        """
        if len(self.present) < FEW:
            return None
        if self._neighbour is None:
            self._neighbour = min((n for n in self.present if n > me), default=min(self.present))
        return self.all[self._neighbour]

    def a_gone_one(self) -> Peer | None:
        """A dead node, in turn: split meshes heal because each side keeps asking."""
        for _ in range(len(self._gone)):
            peer = self.all.get(self._gone.popleft())
            if peer is not None and peer.state is PeerState.DEAD:
                self._gone.append(peer.node)
                return peer
        return None

    @property
    def any_gone(self) -> bool:
        """Whether somebody dead may be asked."""
        return bool(self._gone)

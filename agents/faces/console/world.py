"""What is known of the mesh, from the events of the feed (``Agent.watch``); it reads no clock."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from agents.faces.console.marks import Line, Span, line
from agents.views import NameView, PeerView, StepView

MAX_EVENTS = 200
MAX_RUNNING = 64  # requests whose end was lost must not stay for ever
MAX_VALUES = 240  # of one series: a screen's width and some
MAX_SERIES = 64
LINK_LIT_S = 1.5  # how long a link stays lit after a call over it ended
_STATES = {"alive", "suspect", "dead", "departed"}


class Running(msgspec.Struct, kw_only=True):
    """A request under way at the agent, whoever asked it."""

    trace: str
    question: str
    at: float
    nodes: dict[int, str] = {}  # step to the node that works on it


class World:
    """The picture so far. Times are wall seconds of the agent, so that replays are exact."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerView] = {}
        self.me: dict[str, Any] = {}
        self.best: dict[str, float] = {}  # tokens/s, the most that was said, by node id
        self.events: deque[tuple[float, Line]] = deque(maxlen=MAX_EVENTS)
        self.running: OrderedDict[str, Running] = OrderedDict()
        self.names: list[NameView] = []
        self.series: dict[str, deque[float]] = {}
        self.escalations: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self.lost = 0
        self.now = 0.0  # of the latest event
        self.began = 0.0
        self._lit: dict[str, float] = {}
        self._traffic: tuple[float, int, int] | None = None
        self.bytes_per_s = (0.0, 0.0)

    def feed(self, event: dict[str, Any]) -> None:
        """Take one event; a kind that is not known, or makes no sense, is passed over."""
        with suppress(TypeError, ValueError, AttributeError):  # of a newer agent, say
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        at = event.get("at")
        if isinstance(at, int | float) and event.get("type") != "request":
            self.now = max(self.now, float(at))
            self.began = self.began or self.now
        match event.get("type"):
            case "mesh":
                self._mesh(event)
            case "self":
                self._self(event)
            case "request":
                self._request(event)
            case "span":
                self._span(event)
            case "event":
                self._event(event)
            case "lost":
                self.lost += int(event.get("events") or 0)

    @property
    def ordered(self) -> list[PeerView]:
        """The nodes, the agent itself first, then by name."""
        return sorted(self.peers.values(), key=lambda peer: (not peer.me, peer.name))

    def peer(self, name: str) -> PeerView | None:
        """The node of that name; of several, the agent's own."""
        found = [peer for peer in self.peers.values() if peer.name == name]
        return min(found, key=lambda peer: not peer.me) if found else None

    @property
    def working(self) -> set[str]:
        """Names of the nodes that work on a request of this agent now."""
        return {node for one in self.running.values() for node in one.nodes.values() if node}

    def lit(self, name: str) -> bool:
        """Whether something goes over the link between the agent and this node now."""
        return name in self.working or self.now - self._lit.get(name, -9e9) < LINK_LIT_S

    def counts(self) -> dict[str, int]:
        """How many nodes are in which state."""
        found: dict[str, int] = {}
        for peer in self.peers.values():
            found[peer.state] = found.get(peer.state, 0) + 1
        return found

    def sample(self, key: str, value: float) -> None:
        """One more value of a series; a series too many is passed over."""
        if key not in self.series:
            if len(self.series) >= MAX_SERIES:
                return
            self.series[key] = deque(maxlen=MAX_VALUES)
        self.series[key].append(value)

    def _mesh(self, event: dict[str, Any]) -> None:
        for peer in _peers(event.get("peers")):
            self.peers[peer.node] = peer
            rate = max(peer.tokens_per_s, peer.best_tokens_per_s)
            if rate > self.best.get(peer.node, 0.0):
                self.best[peer.node] = rate
        for node in event.get("gone") or ():
            self.peers.pop(str(node), None)
            self.best.pop(str(node), None)

    def _self(self, event: dict[str, Any]) -> None:
        self.me = event
        now = (self.now, int(event.get("bytes_in") or 0), int(event.get("bytes_out") or 0))
        before, self._traffic = self._traffic, now
        if before is not None and now[0] > before[0]:
            took = now[0] - before[0]
            self.bytes_per_s = ((now[1] - before[1]) / took, (now[2] - before[2]) / took)
            self.sample("mesh bytes/s in", self.bytes_per_s[0])
            self.sample("mesh bytes/s out", self.bytes_per_s[1])
        load = event.get("load")
        if isinstance(load, dict):
            self.sample("tokens/s of this node", float(load.get("tokens_per_s") or 0.0))
            self.sample("slots busy", float(load.get("inflight") or 0.0))

    def _request(self, event: dict[str, Any]) -> None:
        trace, phase = str(event.get("trace") or ""), event.get("phase")
        if phase == "begin":
            asked = str(event.get("question") or "")
            self.running[trace] = Running(
                trace=trace, question=asked, at=float(event.get("at") or self.now)
            )
            while len(self.running) > MAX_RUNNING:
                self.running.popitem(last=False)
            self._say(Span("? ", "busy"), asked[:120])
        elif phase == "event" and trace in self.running:
            self._step(self.running[trace], event.get("event"))
        elif phase == "end":
            for node in self.running.pop(
                trace, Running(trace="", question="", at=0)
            ).nodes.values():
                self._lit[node] = self.now
            self._ended(event)

    def _step(self, one: Running, told: Any) -> None:
        if not isinstance(told, dict):
            return
        if told.get("type") == "step":
            try:
                step = msgspec.convert(told.get("step"), StepView)
            except msgspec.ValidationError:
                return
            if step.status == "running":
                one.nodes[step.id] = step.node
            elif one.nodes.pop(step.id, ""):
                self._lit[step.node] = self.now
        elif told.get("type") == "asked":
            one.nodes[0] = str(told.get("node") or "")

    def _ended(self, event: dict[str, Any]) -> None:
        answer = event.get("answer")
        answer = answer if isinstance(answer, dict) else {}
        took = seconds_of(event.get("elapsed_s"))
        if error := str(event.get("error") or ""):
            self._say(Span("✗ ", "bad"), f"{error} after {took}: {event.get('question', '')}"[:160])
        else:
            nodes = ", ".join(map(str, answer.get("nodes") or [])) or str(answer.get("node") or "")
            self._say(Span("= ", "good"), f"answered by {nodes or 'nobody'} in {took}")
        for decision in answer.get("decisions") or ():
            if is_escalation(decision):
                self.escalations.appendleft({"at": self.now, **decision})

    def _span(self, event: dict[str, Any]) -> None:
        told = event.get("span") if isinstance(event.get("span"), dict) else event
        node = str((told or {}).get("node") or "")
        if node:
            self._lit[node] = self.now

    def _event(self, event: dict[str, Any]) -> None:
        what, name = str(event.get("what") or ""), str(event.get("name") or "")
        tone = {"dead": "bad", "suspect": "warn", "revoked": "bad", "alive": "good"}.get(what, "")
        why = f": {event['why']}" if event.get("why") else ""
        self._say(Span(f"{name} ", "head"), Span(f"{what}{why}", tone))

    def _say(self, *parts: str | Span) -> None:
        self.events.appendleft((self.now, line(*parts)))


def is_escalation(decision: Any) -> bool:
    """Whether a decision is a rung of the ladder that was taken, or its end."""
    if not isinstance(decision, dict):
        return False
    rule, action = str(decision.get("rule", "")), str(decision.get("action", ""))
    return rule.startswith("escalation.") and action.startswith(("take", "stop"))


def seconds_of(value: Any) -> str:
    """Seconds of an event."""
    return f"{value:.2f} s" if isinstance(value, int | float) and value >= 0 else "-"


def _peers(found: Any) -> Iterable[PeerView]:
    for one in found or ():
        try:
            peer = one if isinstance(one, PeerView) else msgspec.convert(one, PeerView)
        except msgspec.ValidationError:
            continue
        if peer.state in _STATES:
            yield peer

"""Verbs of the local door for whoever looks on: watch, traces, trace, metrics.

``watch`` is the one feed of the console and the web page. Its events, by ``type``:

``mesh``     the nodes that changed since the last one (all of them in the first), and ``gone``
``self``     this agent: name, mesh, ready, troubles, load, bytes on the network
``request``  a question or generation of this agent's own people: phase begin, event or end
``span``     a call made or served here is over
``event``    something in the mesh: a node joined, is suspect, died, was revoked
``lost``     how many events a slow watcher missed
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.arguments import number_of, text_of
from agents.faces.control import Handler, unary, version
from agents.views import PeerView
from mesh.core.errors import NoSuchName
from mesh.core.events import Event, MemberForgotten, MemberLearned, Revoked, StateChanged

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.faces.verbs import Verbs

WATCH_EVERY_S = 0.5
MIN_WATCH_S, MAX_WATCH_S = 0.1, 60.0
SELF_EVERY_S = 2.0
MAX_LISTED = 64


class WatchVerbs:
    """The verbs of one agent about what happens."""

    def __init__(self, agent: Agent, verbs: Verbs) -> None:
        self._agent = agent
        self._verbs = verbs
        agent.node.listeners.append(self._on_mesh_event)

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler, for the control server."""
        return {
            "watch": self._watch,
            "traces": unary(self._traces),
            "trace": unary(self._trace),
            "metrics": unary(self._metrics),
        }

    async def _watch(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        """The feed; ``every_s`` is how often the nodes are looked at."""
        every_s = number_of(args, "every_s", WATCH_EVERY_S, low=MIN_WATCH_S, high=MAX_WATCH_S)
        feed = self._agent.observer.feed
        watcher = feed.join()
        shown: dict[str, PeerView] = {}
        self_at = look_at = 0.0
        try:
            while True:
                now = time.monotonic()
                if now >= look_at:
                    look_at = now + every_s
                    if change := self._changed(shown):
                        yield change
                if now >= self_at:
                    self_at = now + max(every_s, SELF_EVERY_S)
                    yield self._self()
                for event in watcher.take():
                    yield event
                await watcher.wait(max(0.0, min(look_at, self_at) - time.monotonic()))
        finally:
            feed.leave(watcher)

    def _changed(self, shown: dict[str, PeerView]) -> dict[str, Any] | None:
        """What differs from what was shown; brings ``shown`` up to date."""
        now = {view.node: view for view in self._verbs.peers()}
        changed = [v for node, v in now.items() if _still(v) != _still(shown.get(node))]
        gone = [node for node in shown if node not in now]
        first = not shown
        for node in gone:
            del shown[node]
        shown.update((view.node, view) for view in changed)
        if not (changed or gone or first):
            return None
        return {"type": "mesh", "at": time.time(), "peers": changed, "gone": gone}

    def _self(self) -> dict[str, Any]:
        agent, node = self._agent, self._agent.node
        return {
            "type": "self",
            "at": time.time(),
            "name": node.me.name,
            "mesh": node.identity.mesh_name,
            "version": version(),
            "uptime_s": round(time.monotonic() - agent.started_at, 1),
            "ready": agent.ready.is_set(),
            "troubles": [*agent.troubles, *node.troubles[-5:]],
            "load": msgspec.structs.asdict(agent.load()),
            "bytes_in": node.transport.bytes_in,
            "bytes_out": node.transport.bytes_out,
            "asks": agent.orchestrator.counters,
        }

    def _on_mesh_event(self, event: Event) -> None:
        feed = self._agent.observer.feed
        if isinstance(event, StateChanged):
            name = event.new.name.lower()
            self._agent.observer.meter.count("gossamer.peer.changes", state=name)
            told = {"what": name, "name": event.name, "old": event.old.name.lower()}
            told["why"] = event.why
        elif isinstance(event, MemberLearned):
            told = {"what": "joined", "name": event.member.name}
        elif isinstance(event, MemberForgotten):
            told = {"what": "forgotten", "name": event.name}
        elif isinstance(event, Revoked):
            told = {"what": "revoked", "name": event.name, "why": event.reason}
        else:
            return
        if feed.watched:
            feed.tell({"type": "event", "at": time.time(), **told})

    async def _traces(self, args: dict[str, Any]) -> list[Any]:
        count = int(number_of(args, "count", 20, low=1, high=MAX_LISTED))
        return [record.line() for record in self._agent.observer.traces.latest(count)]

    async def _trace(self, args: dict[str, Any]) -> dict[str, Any]:
        """A request with its events and the spans that this node has of it."""
        wanted = text_of(args, "trace").lower()
        observer = self._agent.observer
        record = observer.traces.find(wanted)
        trace = record.trace if record else wanted
        spans = observer.spans.of(trace)
        if record is None and not spans:
            raise NoSuchName(
                f"this agent remembers no request {wanted[:40]!r}",
                hint="the latest are kept; gossamer trace without an id lists them",
            )
        plain = msgspec.to_builtins(record) if record else {"trace": trace}
        return {**plain, "spans": msgspec.to_builtins(spans)}

    async def _metrics(self, args: dict[str, Any]) -> dict[str, Any]:
        """Everything that is counted: series of the meter, counters by part, gauges."""
        agent, node = self._agent, self._agent.node
        peers: dict[str, int] = {}
        for view in self._verbs.peers():
            peers[view.state] = peers.get(view.state, 0) + 1
        return {
            "node": node.me.name,
            "mesh": node.identity.mesh_name,
            "version": version(),
            "series": msgspec.to_builtins(agent.observer.meter.series()),
            "counters": {
                "gossip": dict(node.core.counters),
                "node": {**node.counters, **node.standing.all_counters()},
                "transport": {**node.transport.counters, **node.transport.gate_counters},
                "streams": {**node.streams.counters, **node.calls.counters},
                "orchestrator": agent.orchestrator.counters,
                "door": dict(agent.door_counters),
            },
            "bytes": {"in": node.transport.bytes_in, "out": node.transport.bytes_out},
            "load": msgspec.structs.asdict(agent.load()),
            "peers": peers,
            "tasks": len(asyncio.all_tasks()),
            "uptime_s": time.monotonic() - agent.started_at,
        }


def _still(view: PeerView | None) -> PeerView | None:
    """A node without what changes at every look: how long ago it was heard, to the second."""
    if view is None or view.state != "alive":
        return view
    return msgspec.structs.replace(
        view, seen_s=0.0, round_trip_ms=float(f"{view.round_trip_ms:.1g}")
    )

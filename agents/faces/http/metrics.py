"""Prometheus text of an agent and its HTTP process; names as OpenTelemetry's where it has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# What a label is called for people who know OpenTelemetry.
LABELS = {
    "model": "gen_ai_response_model",
    "name": "gen_ai_request_model",
    "type": "gen_ai_token_type",
}
HELP = {
    "gen_ai.server.request.duration": "Time to serve a call on this node, in seconds.",
    "gen_ai.server.time_to_first_token": "Time to the first token of a served call, in seconds.",
    "gen_ai.client.token.usage": "Tokens of a served call.",
    "gossamer.requests": "Questions and generations of this agent's own people.",
    "gossamer.served": "Calls served on this node, by outcome; rejected: the slots were taken.",
    "gossamer.answers.degraded": "Answers with a part missing or unsure.",
    "gossamer.escalations": "Rungs of the ladder that were taken.",
    "gossamer.cost": "Money spent outside the mesh, in US dollars.",
    "gossamer.peer.changes": "Nodes that came to be seen as alive, suspect, dead or departed.",
}
UNITS = {
    "gen_ai.server.request.duration": "seconds",
    "gen_ai.server.time_to_first_token": "seconds",
    "gen_ai.client.token.usage": "tokens",
}
BOARD_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REFUSED = re.compile(r"refus|denied|reject|dropped|banned|unknown_key|limit")


class HttpMetrics:
    """What the HTTP process itself counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gossamer_http_requests",
            "HTTP requests answered.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "gossamer_http_request_seconds",
            "Time to answer an HTTP request, streams to their end.",
            ["route"],
            buckets=BOARD_S,
            registry=self.registry,
        )
        self._gone = Counter(
            "gossamer_http_disconnects",
            "Clients that left before their answer was whole.",
            registry=self.registry,
        )
        self._refused = Counter(
            "gossamer_http_refusals", "Requests refused.", ["reason"], registry=self.registry
        )
        self.streams = Gauge("gossamer_http_streams", "Streams open now.", registry=self.registry)
        self.tasks = Gauge(
            "gossamer_http_tasks", "Tasks of the HTTP process's event loop.", registry=self.registry
        )

    def over(self, route: str, method: str, status: int, elapsed_s: float) -> None:
        """A request is over; status 0: its client left before there was one."""
        known = method if method in {"GET", "POST", "OPTIONS", "HEAD"} else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(elapsed_s)

    def gone(self) -> None:
        """A client left."""
        self._gone.inc()

    def refused(self, reason: str) -> None:
        """A request was refused."""
        self._refused.labels(reason).inc()


def render(http: HttpMetrics, agent: dict[str, Any] | None) -> bytes:
    """The whole page; ``agent`` is what the verb ``metrics`` says, None when none answers."""
    return generate_latest(_Both(http.registry, agent))


class _Both(CollectorRegistry):
    """The HTTP process's own registry, and the agent's figures of this moment behind it."""

    def __init__(self, own: CollectorRegistry, agent: dict[str, Any] | None) -> None:
        super().__init__()
        self._own = own
        if agent is not None:
            self.register(_AgentFigures(agent))
        self._up = Gauge("gossamer_up", "Whether the agent answers.", registry=self)
        self._up.set(agent is not None)

    def collect(self) -> Iterator[Metric]:
        """All of both."""
        yield from self._own.collect()
        yield from super().collect()


class _AgentFigures(Collector):
    def __init__(self, agent: dict[str, Any]) -> None:
        self._agent = agent

    def collect(self) -> Iterable[Metric]:
        """As Prometheus' library asks for them."""
        agent = self._agent
        yield from _series(agent.get("series") or [])
        yield from _parts(agent.get("counters") or {})
        load = agent.get("load") or {}
        for key, text in (
            ("inflight", "Slots at work."),
            ("queued", "Requests that wait for a slot."),
            ("slots", "Slots of all models together."),
            ("tokens_per_s", "Tokens a second of one stream, as measured."),
        ):
            yield _gauge(f"gossamer_{key}", text, float(load.get(key, 0)))
        yield _gauge("gossamer_tasks", "Tasks of the agent's event loop.", float(agent["tasks"]))
        yield _gauge("gossamer_uptime_seconds", "Since the start.", float(agent["uptime_s"]))
        moved = CounterMetricFamily(
            "gossamer_network_bytes", "Bytes over the mesh's links.", labels=["direction"]
        )
        for direction, count in (agent.get("bytes") or {}).items():
            moved.add_metric([direction], count)
        yield moved
        peers = GaugeMetricFamily(
            "gossamer_peers", "Nodes as this one sees them.", labels=["state"]
        )
        for state, count in (agent.get("peers") or {}).items():
            peers.add_metric([state], count)
        yield peers
        info = GaugeMetricFamily("gossamer_info", "Always 1.", labels=["node", "mesh", "version"])
        info.add_metric([agent["node"], agent["mesh"], agent["version"]], 1)
        yield info


def _series(series: list[dict[str, Any]]) -> Iterator[Metric]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in series:
        by_name.setdefault(one["name"], []).append(one)
    for name, group in by_name.items():
        labels = sorted({label for one in group for label in one["labels"]})
        shown = [LABELS.get(label, label) for label in labels]
        metric = name.replace(".", "_") + (f"_{UNITS[name]}" if name in UNITS else "")
        values = [([one["labels"].get(label, "") for label in labels], one) for one in group]
        if group[0].get("bounds"):
            found: Metric = HistogramMetricFamily(metric, HELP.get(name, name), labels=shown)
            for labelled, one in values:
                found.add_metric(labelled, _buckets(one), sum_value=one["total"])  # type: ignore[attr-defined]
        else:
            found = CounterMetricFamily(metric, HELP.get(name, name), labels=shown)
            for labelled, one in values:
                found.add_metric(labelled, one["value"])
        yield found


def _buckets(one: dict[str, Any]) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip([*map(str, one["bounds"]), "+Inf"], one["counts"], strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def _parts(counters: dict[str, dict[str, float]]) -> Iterator[Metric]:
    """Counters of the parts; those that say no stand also under one name of their own."""
    events = CounterMetricFamily(
        "gossamer_events", "What the parts of the agent count.", labels=["part", "event"]
    )
    refusals = CounterMetricFamily(
        "gossamer_refusals", "What was refused or dropped, and why.", labels=["part", "reason"]
    )
    for part, counted in sorted(counters.items()):
        for event, count in sorted(counted.items()):
            events.add_metric([part, event], float(count))
            if REFUSED.search(event):
                refusals.add_metric([part, event], float(count))
    yield events
    yield refusals


def _gauge(name: str, text: str, value: float) -> Metric:
    found = GaugeMetricFamily(name, text)
    found.add_metric([], value)
    return found

"""What can be asked of a running agent through the local door, verb by verb."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.arguments import (
    MAX_AGE_S,
    MAX_TIMEOUT_S,
    number_of,
    reach_of,
    text_of,
    texts_of,
    timeout_of,
    trace_of,
)
from agents.faces.client import Result
from agents.faces.control import Handler, unary, version
from agents.faces.verbs_admin import AdminVerbs
from agents.faces.verbs_card import CardVerbs
from agents.faces.verbs_data import DataVerbs
from agents.faces.verbs_documents import DocumentVerbs
from agents.faces.verbs_feedback import FeedbackVerbs
from agents.faces.verbs_generate import MAX_MESSAGES, GenerateVerbs
from agents.faces.verbs_knowledge import KnowledgeVerbs
from agents.faces.verbs_security import SecurityVerbs
from agents.faces.verbs_sensors import SensorVerbs
from agents.faces.verbs_watch import WatchVerbs
from agents.faces.verbs_write import WriteVerbs
from agents.orchestrator.events import (
    Answered,
    AskEvent,
    Failed,
    Finished,
    Planned,
    Retry,
    Started,
    StepDelta,
)
from agents.orchestrator.orchestrator import AskOptions
from agents.port import Offer, Task
from agents.telemetry.logs import current_trace
from agents.trace import TRACE_BYTES
from agents.views import EndpointView, NameView, PeerView, StepView
from capabilities.data.messages import KIND, decode_message
from capabilities.messages import Delta, Done, Generate, Message, Sample, decode_event, encode
from mesh.core.errors import ConfigError, NoSuchName, WireError
from mesh.core.events import PeerState
from mesh.core.identity import show_id
from mesh.core.names import matches, parse_address
from mesh.core.records import Dialable, Status
from mesh.core.wire import Op, Reach

if TYPE_CHECKING:
    from agents.agent import Agent

RESOLVE_TIMEOUT_S = 60.0  # of the task that a bare resolution stands for; nothing waits for it
BUDGET_DAYS, MAX_BUDGET_DAYS = 7, 40
LEDGER_DAYS, MAX_LEDGER_DAYS = 7, 90
MAX_QUESTION_CHARS = 16 * 1024
MAX_SEED = 2**32 - 1  # of llama.cpp's samplers


class Verbs:
    """The verbs of one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler, for the control server."""
        return {
            "status": unary(self._status),
            "peers": unary(self._peers),
            "names": unary(self._names),
            "resolve": unary(self._resolve),
            "stop": unary(self._stop),
            "call": self._call,
            "ask": self._ask,
            "budget": unary(self._budget),
            "ledger": unary(self._ledger),
            **AdminVerbs(self._agent).handlers(),
            **SecurityVerbs(self._agent).handlers(),
            **GenerateVerbs(self._agent).handlers(),
            **KnowledgeVerbs(self._agent).handlers(),
            **DocumentVerbs(self._agent, self._options).handlers(),
            **WriteVerbs(self._agent, self._options).handlers(),
            **FeedbackVerbs(self._agent).handlers(),
            **WatchVerbs(self._agent, self).handlers(),
            **DataVerbs(self._agent).handlers(),
            **SensorVerbs(self._agent).handlers(),
            **CardVerbs(self._agent).handlers(),
        }

    async def _status(self, args: dict[str, Any]) -> dict[str, Any]:
        agent, node = self._agent, self._agent.node
        counters = {
            **node.core.counters,
            **node.counters,
            **node.transport.counters,
            **node.transport.gate_counters,
            **node.streams.counters,
            **node.calls.counters,
            **node.standing.all_counters(),
            **node.finder.all_counters(),
            **(agent.cloud.counters() if agent.cloud is not None else {}),
            **agent.ledger.counters,
            **(agent.data.all_counters() if agent.data is not None else {}),
            **(agent.knowledge.all_counters() if agent.knowledge is not None else {}),
            **(agent.bridge.all_counters() if agent.bridge is not None else {}),
        }
        return {
            "node": show_id(node.me.node),
            "name": node.me.name,
            "mesh": node.identity.mesh_name,
            "groups": list(node.me.groups),
            "seed": node.seed,
            **node.standing.describe(),
            "endpoints": {
                lane: getattr(node.endpoints, lane) for lane in ("control", "bulk", "admission")
            },
            "dialable": _dialable(node.finder.reach.verdict),
            "reach": node.finder.reach.why,
            "http": agent.http.url if agent.http is not None else "",
            "http_fingerprint": agent.http.fingerprint if agent.http is not None else "",
            "uptime_s": round(time.monotonic() - agent.started_at, 1),
            "version": version(),
            "ready": agent.ready.is_set(),
            "drained": node.serving.draining,
            "troubles": [*agent.troubles, *node.troubles[-20:]],
            "counters": dict(sorted(counters.items())),
            "bytes_in": node.transport.bytes_in,
            "bytes_out": node.transport.bytes_out,
        }

    async def _peers(self, args: dict[str, Any]) -> list[Any]:
        return [msgspec.to_builtins(view) for view in self.peers()]

    def peers(self) -> list[PeerView]:
        """Every node that this node knows of, itself first."""
        node = self._agent.node
        core, me = node.core, node.me.node
        views = []
        for member in core.members():
            profile, status = core.profile(member.node), core.status(member.node)
            load = node.load(member.node)
            mine = member.node == me
            views.append(
                PeerView(
                    node=show_id(member.node),
                    name=member.name,
                    state="alive" if mine else core.membership.state(member.node).name.lower(),
                    me=mine,
                    groups=list(member.groups),
                    names=[served.name for served in profile.names] if profile else [],
                    models=[
                        f"{model.name} {model.quantization}".strip()
                        for model in (profile.models if profile else ())
                    ],
                    device=profile.device.kind if profile else "",
                    inflight=load.inflight,
                    queued=load.queued,
                    slots=load.slots,
                    tokens_per_s=load.tokens_per_s,
                    round_trip_ms=0.0 if mine else _ms(core.round_trip(member.node)),
                    healthy=status.healthy if status else True,
                    note=status.note if status else "",
                    tasks=dict(status.tasks) if status else {},
                    seen_s=0.0 if mine else node.silent_s(member.node),
                    reach="" if mine else node.transport.reach(member.node),
                    dialable=_dialable(
                        node.finder.reach.verdict if mine else core.endpoints(member.node).dialable
                    ),
                    best_tokens_per_s=profile.device.tokens_per_s if profile else 0.0,
                    temperature_c=status.temperature_c if status else 0.0,
                    battery=status.battery if status else -1.0,
                    joules_per_token=status.joules_per_token if status else 0.0,
                    throttled=status.throttled if status else False,
                    draining=self._draining(member.node, status),
                    power_w=status.power_w if status else 0.0,
                    software=profile.software if profile else "",
                )
            )
        return sorted(views, key=lambda view: (not view.me, view.name))

    def _draining(self, node: bytes, status: Status | None) -> bool:
        mesh = self._agent.node
        if node == mesh.me.node:
            return bool(mesh.serving.draining)
        return status is not None and status.draining

    async def _names(self, args: dict[str, Any]) -> list[Any]:
        pattern = str(args.get("pattern") or "*.gpt/**")
        by_name: dict[str, list[Offer]] = {}
        for offer in self._agent.port.offers():
            if matches(pattern, offer.served.name):
                by_name.setdefault(offer.served.name, []).append(offer)
        return [
            msgspec.to_builtins(
                NameView(
                    name=name,
                    domain=offers[0].served.domain,
                    description=offers[0].served.description,
                    examples=list(offers[0].served.examples),
                    kind=offers[0].served.kind,
                    endpoints=[self._endpoint(offer) for offer in offers],
                )
            )
            for name, offers in sorted(by_name.items())
        ]

    async def _resolve(self, args: dict[str, Any]) -> dict[str, Any]:
        address = parse_address(text_of(args, "name"))
        offers = self._agent.port.resolve(address.name, self._task(RESOLVE_TIMEOUT_S))
        if address.node:
            offers = [offer for offer in offers if offer.node_name == address.node]
            if not offers:
                raise NoSuchName(f"{address.node} does not offer {address.name}")
        return {
            "name": address.name,
            "endpoints": [msgspec.to_builtins(self._endpoint(offer)) for offer in offers],
            "decision": f"{len(offers)} by priority, weighted chance, then load",
        }

    async def _budget(self, args: dict[str, Any]) -> dict[str, Any]:
        desk = self._agent.cloud
        if desk is None:
            raise ConfigError(
                "this agent has no cloud, so there is no budget",
                hint="add a [[cloud.provider]] to its configuration, see docs/cloud.md",
            )
        from agents.budget.view import view

        days = int(number_of(args, "days", BUDGET_DAYS, low=1, high=MAX_BUDGET_DAYS))
        currency = desk.section.currency
        found = await desk.purse.use(lambda store: view(store, days=days, currency=currency))
        return {**msgspec.to_builtins(found), "cloud": desk.status()}

    async def _ledger(self, args: dict[str, Any]) -> dict[str, Any]:
        from agents.ledger.view import view

        agent = self._agent
        days = int(number_of(args, "days", LEDGER_DAYS, low=1, high=MAX_LEDGER_DAYS))
        now, name_of = agent.node.now().wall, agent.node.name_of
        await agent.ledger.flush()
        found = await agent.ledger.use(
            lambda store: view(store, days=days, now=now, name_of=name_of)
        )
        return dict(msgspec.to_builtins(found))

    async def _stop(self, args: dict[str, Any]) -> dict[str, Any]:
        self._agent.stop_requested.set()
        return {}

    async def _call(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        address = parse_address(text_of(args, "name"))
        task = self._task(timeout_of(args, self._agent.config.ask.timeout_s), reach_of(args))
        offers = self._agent.port.resolve(address.name, task)
        if address.node:
            offers = [offer for offer in offers if offer.node_name == address.node]
        if not offers:
            raise NoSuchName(f"{address.node or 'nobody'} does not offer {address.name}")
        offer, began = offers[0], self._agent.port.now()
        text = str(args.get("text") or "")
        if offer.served.kind == KIND:
            answer = self._agent.port.call(offer, b"", task, Op.SUBSCRIBE)
        else:
            body = encode(
                Generate(
                    messages=[Message("user", text)],
                    max_tokens=self._agent.config.ask.max_tokens,
                )
            )
            answer = self._agent.port.call(offer, body, task)
        finish, whole = "", ""
        async for message in answer:
            if offer.served.kind == KIND:
                told = decode_message(message)
                value = told if isinstance(told, Sample) else getattr(told, "value", None)
                if value is not None:
                    yield {"type": "message", "value": msgspec.to_builtins(value)}
                continue
            match decode_event(message):
                case Delta(text=piece, thinking=thinking):
                    yield {"type": "delta", "text": piece, "thinking": thinking}
                case Done(text=whole, finish=finish):
                    pass
        yield Result(
            {
                "text": whole,
                "node": offer.node_name,
                "name": offer.served.name,
                "elapsed_s": round(self._agent.port.now() - began, 3),
                "finish": finish,
            }
        )

    async def _ask(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        question = text_of(args, "question")
        if len(question) > MAX_QUESTION_CHARS:
            raise WireError(f"a question has at most {MAX_QUESTION_CHARS} characters")
        options = self._options(args)
        current_trace.set(options.trace.hex())
        with self._agent.observer.request("ask", question, options.trace.hex()) as watch:
            events = self._agent.ask(question, options)
            async with aclosing(events):  # type: ignore[type-var]
                async for event in events:
                    plain = event_json(event)
                    if isinstance(event, Answered):
                        watch.answered(plain)
                        yield Result(plain)
                    else:
                        watch.event(plain)
                        yield plain

    def _options(self, args: dict[str, Any]) -> AskOptions:
        """What goes with a question; raises ConfigError or WireError."""
        try:
            history = msgspec.convert(args.get("history") or [], tuple[Message, ...])
        except msgspec.ValidationError as error:
            raise WireError(f"'history' is no conversation: {error}") from error
        if len(history) > MAX_MESSAGES:
            raise WireError(f"a conversation has at most {MAX_MESSAGES} messages")
        return AskOptions(
            timeout_s=timeout_of(args, self._agent.config.ask.timeout_s),
            reach=reach_of(args),
            groups=self._agent.node.me.groups,
            trace=trace_of(args) or os.urandom(TRACE_BYTES),
            history=history,
            system=str(args.get("system") or ""),
            max_tokens=int(number_of(args, "max_tokens", 0, low=0, high=65_536)),
            temperature=number_of(args, "temperature", 0.0, low=0.0, high=2.0),
            seed=int(number_of(args, "seed", 0, low=0, high=MAX_SEED)),
            name=str(args.get("name") or ""),
            policy=str(args.get("policy") or ""),
            objective=str(args.get("objective") or "latency"),
            patience_s=number_of(args, "patience_s", 0.0, low=0.0, high=MAX_TIMEOUT_S),
            accuracy_floor=number_of(args, "accuracy_floor", 0.0, low=0.0, high=1.0),
            language=str(args.get("language") or ""),
            max_data_age_s=number_of(args, "max_data_age_s", 0.0, low=0.0, high=MAX_AGE_S),
            modalities=frozenset(texts_of(args, "modalities")) or frozenset({"text"}),
            vocab_hash=str(args.get("vocab_hash") or ""),
            nodes=texts_of(args, "nodes"),
        )

    def _task(self, timeout_s: float, reach: Reach = Reach.MESH) -> Task:
        node = self._agent.node
        return Task(
            trace=os.urandom(TRACE_BYTES),
            deadline=self._agent.port.now() + timeout_s,
            reach=reach,
            groups=node.me.groups,
        )

    def _endpoint(self, offer: Offer) -> EndpointView:
        state = PeerState.ALIVE if offer.me else self._agent.node.core.membership.state(offer.node)
        return EndpointView(
            node=show_id(offer.node),
            name=offer.node_name,
            state=state.name.lower(),
            priority=offer.served.priority,
            weight=offer.served.weight,
            load=round(offer.load, 3),
            accuracy=offer.served.accuracy,
            me=offer.me,
        )


def event_json(event: AskEvent) -> Any:
    """An event of a request as the faces know it; the answer itself for the last one."""
    match event:
        case Planned():
            view = StepView(
                id=event.step,
                name=event.name,
                node="",
                question=event.question,
                status="waiting",
                depends=list(event.depends),
                confidence=event.probability,
            )
            return {"type": "plan", "steps": [msgspec.to_builtins(view)]}
        case Started():
            view = StepView(
                id=event.step,
                name=event.name,
                node=event.node,
                question="",
                status="running",
                started_s=event.at_s,
                remote=event.remote,
            )
            return {"type": "step", "step": msgspec.to_builtins(view)}
        case StepDelta():
            return {
                "type": "delta",
                "step": event.step,
                "text": event.text,
                "thinking": event.thinking,
                **({"by": event.by} if event.by else {}),
            }
        case Retry():
            return {
                "type": "retry",
                "step": event.step,
                "node": event.node,
                "reason": event.reason,
                "discarded_chars": event.discarded_chars,
            }
        case Finished() | Failed():
            return {"type": "step", "step": msgspec.to_builtins(event.view)}
        case Answered():
            return msgspec.to_builtins(event.answer)


def _dialable(claim: int) -> str:
    known = claim in set(Dialable)
    return Dialable(claim).name.lower() if known else "unknown"


def _ms(seconds: float | None) -> float:
    return -1.0 if seconds is None else round(seconds * 1000, 2)

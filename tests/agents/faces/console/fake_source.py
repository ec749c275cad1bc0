"""A fake agent for the console: it says what a test tells it to, on request or at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from agents.faces.console.source import Source
from agents.library.events import AskedEvent, DataEvent, Delta, Plan, Published, Step
from agents.library.writing import WrittenAnswer
from agents.views import AnswerView, EndpointView, NameView, PeerView, StepView
from capabilities.messages import Message, Sample
from mesh.core.errors import AccessDenied, ConfigError, PeerLost

SUMS = "knowledge.gpt/arithmetic"
DATA = "data.gpt/machine/raw"
AT = 1_795_000_000.0
TRACE = "4185bf697095a1286ed248d35ad44fa6"


def peers() -> list[PeerView]:
    """One node of every state."""
    return [
        PeerView(
            node="a1",
            name="desk",
            state="alive",
            me=True,
            names=["computation.gpt/generate"],
            models=["general Q8_0"],
            device="computer",
            slots=4,
            tokens_per_s=512.0,
            best_tokens_per_s=640.0,
            round_trip_ms=0.0,
        ),
        PeerView(
            node="b2",
            name="abacus",
            state="alive",
            names=[SUMS],
            models=["arithmetic Q4_K"],
            device="pi5",
            inflight=2,
            queued=1,
            slots=4,
            tokens_per_s=33.5,
            best_tokens_per_s=41.0,
            round_trip_ms=4.2,
            temperature_c=71.0,
        ),
        PeerView(
            node="c3",
            name="tally",
            state="suspect",
            names=[SUMS],
            models=["arithmetic Q8_0"],
            device="phone",
            slots=1,
            round_trip_ms=12.0,
            battery=0.22,
        ),
        PeerView(node="d4", name="gauge", state="dead", names=[DATA], note="worker \x1b[2Jgone"),
        PeerView(node="e5", name="shed", state="alive", healthy=False, note="disk is full"),
    ]


NAMES = [
    NameView(
        name=SUMS,
        domain="arithmetic",
        description="sums and products",
        examples=["What is 7 * 8?"],
        kind="generate",
        endpoints=[
            EndpointView(
                node="b2",
                name="abacus",
                state="alive",
                priority=10,
                weight=10,
                load=0.5,
                accuracy=0.991,
            )
        ],
    ),
    NameView(
        name=DATA,
        domain="machine",
        description="load and memory",
        examples=[],
        kind="subscribe",
        endpoints=[
            EndpointView(
                node="d4",
                name="gauge",
                state="dead",
                priority=10,
                weight=10,
                load=0.0,
                accuracy=-1.0,
            )
        ],
    ),
]
STEP = StepView(
    id=1,
    name=SUMS,
    node="abacus",
    question="What is 48 * 27?",
    status="ok",
    elapsed_s=0.4,
    tokens=12,
    attempts=["tally", "abacus"],
    confidence=0.98,
    remote=True,
    text="48 * 27 = 1296",
)
ANSWER = AnswerView(
    text="48 * 27 = 1296",
    degraded=False,
    elapsed_s=0.5,
    steps=[STEP],
    nodes=["abacus"],
    trace=TRACE,
    asked="desk",
    decisions=[
        {"rule": "escalation.own_model", "action": "skip: this node does not offer it", "step": 1},
        {
            "rule": "escalation.expert",
            "action": "take: 2 other nodes may serve it",
            "score": 2.0,
            "threshold": 1.0,
            "step": 1,
            "at_s": 0.05,
        },
    ],
)


def changed(**changes: Any) -> StepView:
    """The step with other fields."""
    return msgspec.structs.replace(STEP, **changes)


def answer_events() -> list[AskedEvent]:
    """How the answer comes."""
    return [
        Plan(steps=[changed(status="waiting", node="", elapsed_s=0.0, attempts=[], tokens=0)]),
        Step(step=changed(status="running", question="", tokens=0, attempts=[], elapsed_s=0.0)),
        Delta(step=1, text="48*27", thinking=True, tokens=3),
        Delta(step=1, text="48 * 27", tokens=3),
        Delta(step=1, text=" = 1296", tokens=2),
        Step(step=STEP),
        ANSWER,
    ]


def record() -> dict[str, Any]:
    """The same question as the agent remembers it."""
    *events, answer = answer_events()
    return {
        "trace": TRACE,
        "verb": "ask",
        "question": "What is 48 * 27?",
        "at": AT,
        "elapsed_s": 0.5,
        "error": "",
        "events": [[0.08 * i, msgspec.to_builtins(event)] for i, event in enumerate(events)],
        "answer": msgspec.to_builtins(answer),
        "spans": [
            {"name": "ask", "kind": "internal", "at": AT, "elapsed_s": 0.5},
            {
                "name": SUMS,
                "kind": "client",
                "at": AT + 0.05,
                "elapsed_s": 0.4,
                "node": "abacus",
                "output_tokens": 12,
            },
        ],
    }


def mesh_event(views: list[PeerView] | None = None, at: float = AT) -> dict[str, Any]:
    """The event of the feed that tells of nodes."""
    shown = peers() if views is None else views
    return {"type": "mesh", "at": at, "peers": msgspec.to_builtins(shown), "gone": []}


def self_event(at: float = AT) -> dict[str, Any]:
    """The event of the feed that tells of the agent."""
    return {
        "type": "self",
        "at": at,
        "name": "desk",
        "mesh": "demo",
        "uptime_s": 65.0,
        "troubles": [],
        "load": {"inflight": 1, "queued": 0, "slots": 4, "tokens_per_s": 512.0},
        "bytes_in": int((at - AT) * 1000),
        "bytes_out": int((at - AT) * 500),
    }


class FakeSource(Source):
    """Scripted answers; ``tell`` adds to the feed, ``revoked`` and ``asked`` keep what was done."""

    def __init__(self) -> None:
        self.feed: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.asked: list[tuple[str, str]] = []
        self.revoked: list[str] = []
        self.orders: list[tuple[str, ...]] = []
        self.history: list[tuple[str, str]] = []
        self.may_revoke = True
        self.hold = asyncio.Event()  # an answer waits for it before its last two events
        self.hold.set()
        self.written: list[tuple[str, str, str]] = []
        self.left = 0  # streams and feeds that were closed
        self.closed = False
        self.cloud: dict[str, Any] | None = None
        self.tell(mesh_event())
        self.tell(self_event())

    def tell(self, event: dict[str, Any] | None) -> None:
        """The next event of the feed; None ends it as a lost agent does."""
        self.feed.put_nowait(event)

    async def watch(self, every_s: float = 0.5) -> AsyncIterator[dict[str, Any]]:
        while (event := await self.feed.get()) is not None:
            yield event
        raise PeerLost("The agent closed the connection.", hint="look at its log")

    async def stream(
        self,
        question: str,
        *,
        timeout_s: float = 60.0,
        reach: str = "mesh",
        history: Sequence[Message] = (),
    ) -> AsyncIterator[AskedEvent]:
        self.asked.append((question, reach))
        self.history = [(one.role, one.content) for one in history]
        try:
            *first, step, answer = answer_events()
            for event in first:
                yield event
            await self.hold.wait()
            yield step
            yield answer
        finally:
            self.left += 1

    async def write_stream(
        self,
        instruction: str,
        *,
        private: str = "",
        strong: str = "",
        timeout_s: float = 120.0,
        reach: str = "mesh",
    ) -> AsyncIterator[Plan | Step | WrittenAnswer]:
        self.written.append((instruction, private, strong))
        yield Plan(steps=[changed(status="waiting", attempts=[])])
        yield Step(step=changed())
        yield WrittenAnswer(answer=ANSWER, mode="private" if private else "outline")

    async def follow(self, name: str, *, timeout_s: float = 3600.0) -> AsyncIterator[DataEvent]:
        try:
            for number in range(8):
                sample = Sample(
                    domain="machine",
                    type="raw",
                    source="gauge",
                    at=AT + number,
                    values={"load": float(number % 4)},
                )
                yield Published(
                    name=name,
                    node="gauge",
                    key="",
                    version=number,
                    epoch=1,
                    sequence=number,
                    at=AT,
                    value=sample,
                )
            await asyncio.Event().wait()
        finally:
            self.left += 1

    async def names(self) -> list[NameView]:
        return NAMES

    async def traces(self, count: int = 20) -> list[dict[str, Any]]:
        return [{key: record()[key] for key in ("trace", "question", "at", "elapsed_s", "error")}]

    async def trace(self, trace: str) -> dict[str, Any]:
        return record()

    async def budget(self, days: int = 7) -> dict[str, Any]:
        if self.cloud is None:
            raise ConfigError("this agent has no cloud, so there is no budget")
        return self.cloud

    async def revoke(self, node: str, reason: str = "") -> dict[str, Any]:
        if not self.may_revoke:
            raise AccessDenied("this node is no issuer")
        self.revoked.append(node)
        return {}

    async def drain(self, node: str = "", reason: str = "") -> dict[str, Any]:
        return self._order("drain", node)

    async def resume(self, node: str = "") -> dict[str, Any]:
        return self._order("resume", node)

    async def load(
        self, model: str, *, names: Sequence[str] = (), node: str = ""
    ) -> dict[str, Any]:
        return self._order("load", node, model)

    async def unload(self, model: str, *, node: str = "") -> dict[str, Any]:
        return self._order("unload", node, model)

    async def policy(self, name: str = "", *, node: str = "") -> dict[str, Any]:
        if not name:
            return {"policy": "load_aware", "known": ["load_aware", "random"]}
        return self._order("policy", node, name)

    def _order(self, *said: str) -> dict[str, Any]:
        if not self.may_revoke:
            raise AccessDenied("this node may not")
        self.orders.append(said)
        return {}

    async def close(self) -> None:
        self.closed = True

"""An agent that is only its local door: verbs that answer from a script, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from agents.faces.control import ControlServer, Handler, Result, unary
from agents.views import AnswerView, EndpointView, NameView, PeerView, StepView
from mesh.core.errors import NobodyHealthy, NoSuchName

NAME = "knowledge.gpt/arithmetic"
ENDPOINT = EndpointView(
    node="ab12", name="abacus", state="alive", priority=0, weight=1, load=0.25, accuracy=0.98
)
STEP = StepView(id=1, name=NAME, node="abacus", question="48 * 27", status="ok", elapsed_s=0.4)
ANSWER = AnswerView(
    text="1296",
    degraded=False,
    elapsed_s=0.5,
    steps=[STEP],
    nodes=["abacus"],
    asked="desk",
    trace="t1",
    decisions=[{"rule": "relevance", "score": 0.93, "threshold": 0.5, "action": NAME}],
)
PEERS = [
    PeerView(node="11", name="desk", state="alive", me=True, slots=1),
    PeerView(node="22", name="abacus", state="dead", names=[NAME], note="worker \x1b[2Jgone"),
]
NAMES = [
    NameView(
        name=NAME,
        domain="arithmetic",
        description="sums and products",
        examples=["7 * 8"],
        kind="generate",
        endpoints=[ENDPOINT],
    )
]


def step(**changes: Any) -> dict[str, Any]:
    """The event of a step that changed."""
    return {
        "type": "step",
        "step": msgspec.to_builtins(msgspec.structs.replace(STEP, **changes)),
    }


class FakeAgent:
    """The verbs, what was asked of them, and what ``ask`` answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer = ANSWER
        self.events: list[Any] = [
            {"type": "plan", "steps": [msgspec.to_builtins(STEP)]},
            {"type": "delta", "step": 1, "text": "8*7=56", "thinking": True},
            {"type": "delta", "step": 1, "text": "12", "thinking": False},
            {"type": "delta", "step": 1, "text": "96", "thinking": False},
            step(),
        ]
        self.waiting = threading.Event()
        self.cancelled = threading.Event()

    async def ask(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        self.asked.append(("ask", args))
        if args["question"] == "wait":
            self.waiting.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if args["question"] == "nobody":
            yield self.events[0]
            raise NobodyHealthy(f"nobody who offers {NAME} is reachable", hint="try again later")
        for event in self.events:
            yield event
        yield Result(self.answer)

    async def call(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        self.asked.append(("call", args))
        if args["name"].startswith("data.gpt/"):
            for number in range(100):
                yield {"type": "message", "value": {"reading": number}}
            yield Result({"text": "", "node": "gauge", "elapsed_s": 1.0, "finish": "stop"})
            return
        yield {"type": "delta", "text": "8*7=56", "thinking": True}
        yield {"type": "delta", "text": "1296", "thinking": False}
        yield Result(
            {"text": "1296", "node": "abacus", "name": NAME, "elapsed_s": 0.4, "finish": "stop"}
        )

    async def names(self, args: dict[str, Any]) -> Any:
        self.asked.append(("names", args))
        return NAMES

    async def resolve(self, args: dict[str, Any]) -> Any:
        if args["name"] != NAME:
            raise NoSuchName(f"nobody offers {args['name']}", hint="see gossamer names")
        return {"name": NAME, "endpoints": [ENDPOINT], "decision": "1 by priority, then load"}

    async def peers(self, _: dict[str, Any]) -> Any:
        return PEERS

    async def status(self, _: dict[str, Any]) -> Any:
        return {"name": "desk", "mesh": "demo", "uptime_s": 5.0, "counters": {"refused": 3}}

    def handlers(self) -> dict[str, Handler]:
        """Verb to handler."""
        return {
            "ask": self.ask,
            "call": self.call,
            "names": unary(self.names),
            "resolve": unary(self.resolve),
            "peers": unary(self.peers),
            "status": unary(self.status),
        }


@contextmanager
def running(state: Path) -> Iterator[FakeAgent]:
    """A fake agent on ``state``, in a thread of its own until the block is left."""
    agent = FakeAgent()
    loop = asyncio.new_event_loop()
    server = ControlServer(state, agent.handlers())
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield agent
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

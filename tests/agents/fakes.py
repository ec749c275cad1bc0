"""A fake mesh: offers and scripted answers in memory, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from agents.port import Offer, Task
from capabilities.messages import Delta, Done, Evidence, Generate, Message, decode, encode
from mesh.core.errors import GossamerError, NobodyHealthy, NoSuchName, Rejected
from mesh.core.records import ServedName
from mesh.core.wire import Load, Op

ARITHMETIC = "knowledge.gpt/arithmetic"
GENERAL = "computation.gpt/generate"
MESH = "knowledge.gpt/mesh"

Script = Callable[[str], list[Delta | Done | GossamerError]]


def says(text: str, *, finish: str = "stop", evidence: Evidence | None = None) -> Script:
    """Streams ``text`` word by word after a line of scratchpad."""

    def script(_question: str) -> list[Delta | Done | GossamerError]:
        pieces = [Delta(text=piece) for piece in text.split(" ")]
        done = Done(text=text, finish=finish, evidence=evidence or Evidence())
        return [Delta(text="thinking", thinking=True), *pieces, done]

    return script


def table(answers: dict[str, str]) -> Script:
    """Looks the question up; a test that asks what is not in the table has gone wrong."""

    def script(question: str) -> list[Delta | Done | GossamerError]:
        assert question in answers, f"nobody said what {question!r} is"
        return says(answers[question])(question)

    return script


def breaks(error: GossamerError, *, after: int = 0) -> Script:
    """Streams ``after`` pieces, then fails."""
    return lambda _question: [*(Delta(text=f"half{n} ") for n in range(after)), error]


@dataclass
class FakeNode:
    """One node of the fake mesh."""

    name: str
    serves: dict[str, Script]
    me: bool = False
    healthy: bool = True
    load: float = 0.0
    slots: int = 2
    priority: int = 10
    model: str = ""
    accuracy: float = -1.0
    kind: str = "generate"
    rejects: int = 0
    retry_after_s: float = 0.0
    calls: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    @property
    def id(self) -> bytes:
        return self.name.encode().ljust(16, b"\0")


class FakeMesh:
    """A fake :class:`~agents.port.MeshPort`. ``gate`` holds every call until it is set."""

    def __init__(self, *nodes: FakeNode) -> None:
        self.nodes = list(nodes)
        self.time = 100.0
        self.gate: asyncio.Event | None = None
        self.running = 0
        self.most_at_once = 0
        self.closed = 0
        self.tasks: list[Task] = []
        self.broken: dict[str, GossamerError] = {}
        self.fresh: dict[bytes, Load] = {}
        self.asked_loads: list[list[bytes]] = []

    @property
    def node_name(self) -> str:
        return next((node.name for node in self.nodes if node.me), "me")

    def now(self) -> float:
        return self.time

    def offers(self) -> list[Offer]:
        return [self._offer(node, name) for node in self.nodes for name in node.serves]

    def resolve(
        self, name: str, task: Task, exclude: frozenset[bytes] = frozenset()
    ) -> list[Offer]:
        if name in self.broken:
            raise self.broken[name]
        known = [offer for offer in self.offers() if offer.served.name == name]
        if not known:
            raise NoSuchName(f"nobody advertises {name}")
        usable = [offer for offer in known if offer.healthy and offer.node not in exclude]
        if not usable:
            raise NobodyHealthy(f"nobody who offers {name} can be reached")
        return sorted(usable, key=lambda offer: offer.served.priority)

    async def fresh_loads(self, nodes: Sequence[bytes], timeout_s: float) -> dict[bytes, Load]:
        self.asked_loads.append(list(nodes))
        return {node: self.fresh[node] for node in nodes if node in self.fresh}

    async def call(
        self, offer: Offer, body: bytes, task: Task, op: Op = Op.QUERY
    ) -> AsyncIterator[bytes]:
        node = next(node for node in self.nodes if node.id == offer.node)
        generate = decode(body, Generate)
        question = generate.messages[-1].content
        node.calls.append(question)
        node.messages = generate.messages
        self.tasks.append(task)
        if node.rejects:
            node.rejects -= 1
            raise Rejected("all slots are taken", retry_after_s=node.retry_after_s)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            for event in node.serves[offer.served.name](question):
                if self.gate is not None:
                    await self.gate.wait()
                await asyncio.sleep(0)
                self.time += 0.001
                if isinstance(event, GossamerError):
                    raise event
                yield encode(event)
        finally:
            self.running -= 1
            self.closed += 1

    def _offer(self, node: FakeNode, name: str) -> Offer:
        served = ServedName(
            name=name,
            priority=node.priority,
            model=node.model,
            accuracy=node.accuracy,
            kind=node.kind,
        )
        return Offer(
            node=node.id,
            node_name=node.name,
            served=served,
            me=node.me,
            healthy=node.healthy,
            load=node.load,
            slots=node.slots,
        )

"""The tools: what each is called, takes, gives and does.

Nothing that a peer wrote stands in a description: what a model reads as instructions is ours,
and what nodes say of themselves travels as data in results.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec
from mcp_types import CallToolResult, TextContent, Tool, ToolAnnotations

from agents.faces.mcp import messages as m
from agents.faces.mcp.feeds import hear
from agents.library import (
    Agent,
    AnswerView,
    Asked,
    Delta,
    Generate,
    Generation,
    Message,
    Plan,
    Retry,
    Step,
)
from mesh.core.errors import GossamerError

PROGRESS_S = 0.25  # between two reports while text comes; a step is told at once
TOP_NAMES = 200  # of a status: a model reads all of it

Report = Callable[[float, str], Awaitable[None]]
T = TypeVar("T", bound=msgspec.Struct)


class BadArguments(Exception):
    """Arguments that do not fit a tool's schema; the message names the one at fault."""


class Progress:
    """Tells how far a request is: every step, and how much text has come."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._count = 0
        self._tokens = 0
        self._where = ""
        self._told_at = 0.0

    async def event(self, event: Plan | Step | Delta | Retry | Asked) -> None:
        """Tell of an event, unless another one was told a moment ago."""
        match event:
            case Plan():
                await self._tell(f"{_many(len(event.steps), 'step')} planned")
            case Step(step=step):
                self._where = f"{step.name} on {step.node}" if step.node else step.name
                await self._tell(f"{self._where}: {step.status}")
            case Asked():
                self._where = f"{event.name} on {event.node}"
                await self._tell(self._where)
            case Retry():
                await self._tell(f"asked again: {event.reason}")
            case Delta():
                self._tokens += event.tokens
                if time.monotonic() - self._told_at >= PROGRESS_S:
                    await self._tell(f"{self._where}: {_many(self._tokens, 'token')}".lstrip(": "))

    async def _tell(self, text: str) -> None:
        self._told_at = time.monotonic()
        self._count += 1  # has to rise with each report; nobody knows of how many
        await self._report(float(self._count), text)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


async def ask(agent: Agent, asked: m.Ask, progress: Progress) -> CallToolResult:
    """The mesh plans, answers and checks."""
    answer: AnswerView | None = None
    events = agent.stream(
        asked.question,
        reach=asked.reach,
        max_tokens=asked.max_tokens,
        timeout_s=asked.timeout_s,
    )
    async with aclosing(events) as found:  # type: ignore[type-var]
        async for event in found:
            if isinstance(event, AnswerView):
                answer = event
            else:
                await progress.event(event)
    if answer is None:
        raise GossamerError("the question ended without an answer")
    whole = m.Answer(
        text=answer.text,
        nodes=answer.nodes,
        degraded=answer.degraded,
        missing=answer.missing,
        steps=[
            m.AnswerStep(
                name=step.name,
                node=step.node,
                status=step.status,
                question=step.question,
                elapsed_s=step.elapsed_s,
                tokens=step.tokens,
                confidence=step.confidence,
                error=step.error,
            )
            for step in answer.steps
        ],
        cost=answer.cost,
        elapsed_s=answer.elapsed_s,
        trace=answer.trace,
    )
    text = answer.text
    if answer.missing:
        text += f"\n\nMissing: {'; '.join(answer.missing)}"
    return _result(whole, text, failed=not any(step.status == "ok" for step in answer.steps))


async def call(agent: Agent, asked: m.Call, progress: Progress) -> CallToolResult:
    """One name answers, nothing is planned or checked."""
    request = Generate(
        messages=[Message("user", asked.text)],
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
    )
    done: Generation | None = None
    events = agent.generate_stream(
        asked.name, request, timeout_s=asked.timeout_s, reach=asked.reach
    )
    async with aclosing(events) as found:  # type: ignore[type-var]
        async for event in found:
            if isinstance(event, Generation):
                done = event
            else:
                await progress.event(event)
    if done is None:
        raise GossamerError("the generation ended without an answer")
    called = m.Called(
        text=done.text,
        node=done.node,
        name=done.name,
        model=done.model,
        finish=done.finish,
        tokens=done.usage.completion_tokens,
        elapsed_s=done.elapsed_s,
        trace=done.trace,
    )
    return _result(called, done.text)


async def resolve(agent: Agent, asked: m.Resolve, _: Progress) -> CallToolResult:
    """Who would answer a name."""
    found = await agent.resolve(asked.name)
    return _result(m.Resolved(name=found.name, endpoints=found.endpoints, decision=found.decision))


async def names(agent: Agent, asked: m.Names, _: Progress) -> CallToolResult:
    """The names that the mesh offers."""
    return _result(m.NameList(names=await name_lines(agent, asked.pattern)))


async def subscribe(agent: Agent, asked: m.Subscribe, _: Progress) -> CallToolResult:
    """What is published under a name."""
    return _result(await hear(agent, asked))


async def status(agent: Agent, _: m.Status, __: Progress) -> CallToolResult:
    """The agent and the mesh around it."""
    return _result(await overview(agent))


async def name_lines(agent: Agent, pattern: str = "") -> list[m.NameLine]:
    """Every name in short."""
    return [
        m.NameLine(
            name=name.name,
            kind=name.kind,
            domain=name.domain,
            description=name.description,
            nodes=[endpoint.name for endpoint in name.endpoints],
        )
        for name in await agent.names(pattern)
    ]


async def overview(agent: Agent) -> m.Overview:
    """The agent, the nodes that it knows, the names that they offer."""
    own, peers, offered = await asyncio.gather(agent.status(), agent.peers(), agent.names())
    return m.Overview(
        node=str(own.get("name", "")),
        mesh=str(own.get("mesh", "")),
        ready=bool(own.get("ready", True)),
        uptime_s=float(own.get("uptime_s", 0.0)),
        version=str(own.get("version", "")),
        nodes=[
            m.NodeLine(
                name=peer.name,
                state=peer.state,
                names=len(peer.names),
                inflight=peer.inflight,
                queued=peer.queued,
                me=peer.me,
            )
            for peer in peers
        ],
        names=[name.name for name in offered][:TOP_NAMES],
        troubles=[str(trouble) for trouble in own.get("troubles", [])],
    )


class Kind(msgspec.Struct, frozen=True):
    """One tool: its words for the model, its types, what it does."""

    title: str
    description: str
    takes: type[msgspec.Struct]
    gives: type[msgspec.Struct]
    run: Callable[[Agent, Any, Progress], Awaitable[CallToolResult]]


TOOLS: dict[str, Kind] = {
    "ask": Kind(
        "Ask the mesh",
        "Ask a question in plain words. The mesh of small models plans it, picks who knows, "
        "checks the answer and says where each part is from. Use this when you do not know who "
        "should answer.",
        m.Ask,
        m.Answer,
        ask,
    ),
    "call": Kind(
        "Call one name",
        "Send a text to one name of the mesh (see names), without planning or checking. Use this "
        "when you know which expert you want.",
        m.Call,
        m.Called,
        call,
    ),
    "resolve": Kind(
        "Resolve a name",
        "Show which nodes would answer a name now, best first, with their load.",
        m.Resolve,
        m.Resolved,
        resolve,
    ),
    "names": Kind(
        "List names",
        "List the names that the mesh offers: experts (knowledge.gpt/...), work "
        "(computation.gpt/...) and feeds of data (data.gpt/...), with the nodes behind them.",
        m.Names,
        m.NameList,
        names,
    ),
    "subscribe": Kind(
        "Read a feed",
        "Read a feed of data (data.gpt/...): the latest value of each key, or wait for what is "
        "published next.",
        m.Subscribe,
        m.Updates,
        subscribe,
    ),
    "status": Kind(
        "Status of the mesh",
        "Show the agent that is asked, the nodes that it knows and whether they are alive, and "
        "what troubles it.",
        m.Status,
        m.Overview,
        status,
    ),
}


def listed() -> list[Tool]:
    """The tools as a client is shown them."""
    return [
        Tool(
            name=name,
            title=kind.title,
            description=kind.description,
            input_schema=m.schema_of(kind.takes),
            output_schema=m.schema_of(kind.gives),
            # Asking changes nothing in the mesh, but may cost and may leave for the cloud.
            annotations=ToolAnnotations(
                read_only_hint=True, open_world_hint=name in {"ask", "call"}
            ),
        )
        for name, kind in TOOLS.items()
    ]


async def run(agent: Agent, name: str, arguments: dict[str, Any], report: Report) -> CallToolResult:
    """Run a tool; raises KeyError for an unknown one and :class:`BadArguments`.

    What the mesh says no to is a result with ``is_error``, for the model to read.
    """
    kind = TOOLS[name]
    try:
        asked = msgspec.convert(arguments, kind.takes)
    except msgspec.ValidationError as error:
        raise BadArguments(f"{name}: {error}") from None
    try:
        return await kind.run(agent, asked, Progress(report))
    except GossamerError as error:
        return CallToolResult(
            content=[TextContent(text=f"{error.code}: {error.sentence()}")], is_error=True
        )


def _result(value: msgspec.Struct, text: str = "", *, failed: bool = False) -> CallToolResult:
    plain = msgspec.to_builtins(value)
    shown = text or msgspec.json.encode(value).decode()
    return CallToolResult(
        content=[TextContent(text=shown)], structured_content=plain, is_error=failed
    )

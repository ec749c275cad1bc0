"""One request to one model: who is asked, how long it waits, and what is learnt of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.config import AgentConfig
from agents.configure import POLICIES, build
from agents.faces.client import Result
from agents.faces.verbs_generate import GenerateVerbs
from agents.generating import Generated, Generator
from agents.orchestrator.dispatch import Dispatcher
from agents.orchestrator.options import AskOptions
from agents.port import Offer, Task
from agents.scheduling.policies import Context
from agents.scheduling.prediction import Outcome
from agents.scheduling.predictive import Predictive
from capabilities.base import Capability
from capabilities.messages import Delta, Generate, Message
from capabilities.slm.capability import SlmCapability
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Paced, Settings
from mesh.core.errors import CapabilityFailed, DeadlineExceeded, PeerLost, Rejected
from mesh.core.records import ServedName
from tests.agents.cloud.house import House, house
from tests.agents.fakes import ARITHMETIC, FakeMesh, FakeNode, breaks, says

SUM = says("48 * 27 = 1296")
REQUEST = Generate(messages=[Message("user", "What is 48 * 27?")], max_tokens=64)
FAST_S, SLOW_S = 0.002, 0.04  # seconds a token of the two paced boards takes
TOKENS = 12
BUSY_S = 3.0  # longer than a test on a busy machine takes to ask once more


class Watching:
    """A policy of a user's own: by name, the last first. It writes down what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.contexts: list[Context] = []

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        self.contexts.append(context)
        return sorted(offers, key=lambda offer: offer.node_name, reverse=True)

    def observe(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def generator(mesh: FakeMesh, policy: object) -> tuple[Generator, Dispatcher]:
    parts = msgspec.structs.replace(build(), policy=policy)
    dispatch = Dispatcher(parts, random.Random(1), POLICIES.create)
    return Generator(mesh, parts, dispatch), dispatch


async def said(
    made: Generator, mesh: FakeMesh, options: AskOptions | None = None
) -> tuple[Generated, list[str]]:
    """The whole answer, and the nodes that were named on the way."""
    task = Task(trace=b"t" * 16, deadline=mesh.now() + 60.0)
    chosen = await made.choose(ARITHMETIC, REQUEST, task)
    asked: list[str] = []
    async for item in made.run(chosen, REQUEST, task, options):
        if isinstance(item, Offer):
            asked.append(item.node_name)
        if isinstance(item, Generated):
            return item, asked
    raise AssertionError("no end")


def test_the_policy_sees_the_request_and_learns_from_every_call() -> None:
    policy = Watching()
    mesh = FakeMesh(
        FakeNode("a", {ARITHMETIC: SUM}),
        FakeNode("b", {ARITHMETIC: breaks(PeerLost("gone"))}),
        FakeNode("c", {ARITHMETIC: SUM}, rejects=1),
    )
    made, dispatch = generator(mesh, policy)
    found, asked = asyncio.run(said(made, mesh, AskOptions(patience_s=3.0)))
    assert (found.node, found.attempts, asked) == ("a", ("c", "b", "a"), ["c", "b", "a"])
    assert [outcome.status for outcome in policy.outcomes] == ["rejected", "failed", "ok"]
    context = policy.contexts[0]
    assert context.job.prompt_tokens > 0
    assert 0 < context.job.answer_tokens <= 64
    assert context.patience_s == 3.0
    assert context.service_class == ARITHMETIC
    assert 0 < context.time_left_s <= 60.0
    assert mesh.tasks[0].patience_s == pytest.approx(3.0, abs=0.1)  # the node is told as well
    assert not dispatch.flights.counts()


def test_a_bound_on_the_length_is_no_forecast_of_it() -> None:
    _, dispatch = generator(FakeMesh(), Watching())
    generous = msgspec.structs.replace(REQUEST, max_tokens=65_536)
    assert dispatch.job_of(generous).answer_tokens == dispatch.predictor.answer_tokens
    assert dispatch.job_of(msgspec.structs.replace(REQUEST, max_tokens=3)).answer_tokens == 3


def test_where_all_are_full_it_stands_in_several_lines_and_names_who_answers() -> None:
    mesh = FakeMesh(
        FakeNode("a", {ARITHMETIC: SUM}, load=1.5),
        FakeNode("b", {ARITHMETIC: breaks(Rejected("full"))}, load=1.5),
    )
    made, _ = generator(mesh, Watching())
    found, asked = asyncio.run(said(made, mesh))
    assert [task.lines for task in mesh.tasks] == [2, 2]
    assert (found.node, asked) == ("a", ["b", "a"])


def test_a_caller_that_leaves_cancels_the_call_and_blames_nobody() -> None:
    policy = Watching()
    mesh = FakeMesh(FakeNode("a", {ARITHMETIC: SUM}))
    made, dispatch = generator(mesh, policy)

    async def body() -> None:
        task = Task(trace=b"t" * 16, deadline=mesh.now() + 60.0)
        stream = made.run(await made.choose(ARITHMETIC, REQUEST, task), REQUEST, task)
        async for item in stream:
            if isinstance(item, Delta):
                break
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(body())
    assert [outcome.status for outcome in policy.outcomes] == ["cancelled"]
    assert mesh.closed == 1
    assert not dispatch.flights.counts()


def test_what_was_streamed_is_never_taken_back() -> None:
    mesh = FakeMesh(
        FakeNode("a", {ARITHMETIC: SUM}),
        FakeNode("b", {ARITHMETIC: breaks(PeerLost("gone"), after=1)}),
    )
    made, _ = generator(mesh, Watching())
    with pytest.raises(PeerLost):
        asyncio.run(said(made, mesh))
    assert not mesh.nodes[0].calls


def test_an_answer_without_an_end_is_a_failure() -> None:
    mesh = FakeMesh(FakeNode("a", {ARITHMETIC: lambda _question: [Delta(text="half")]}))
    made, _ = generator(mesh, Watching())
    with pytest.raises(CapabilityFailed):
        asyncio.run(said(made, mesh))


# -- real agents -------------------------------------------------------------------------------


def boards(config: AgentConfig, name: str) -> list[Capability]:
    """Paced engines in place of models: they sleep as long as a board would compute."""
    if name == "desk":
        return []
    pace = Paced(token_s=FAST_S if name == "fast" else SLOW_S, prompt_token_s=0.0)
    host = ModelHost("paced", Settings(slots=1, context_tokens=4096), paced=pace)
    return [SlmCapability(host, [ServedName(ARITHMETIC, model="paced")], queue=2)]


async def until(condition: Any) -> None:
    """Until it holds; a test that would wait for ever fails."""
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came to be so")


def words(count: int) -> dict[str, Any]:
    """A paced engine echoes: so many words are so many tokens."""
    return {"messages": [{"role": "user", "content": "w " * count}], "max_tokens": count}


async def generate(verbs: GenerateVerbs, **args: Any) -> dict[str, Any]:
    request = words(TOKENS)
    handler = verbs.handlers()["generate"]
    answer: dict[str, Any] = {}
    async for item in handler({"target": ARITHMETIC, "request": request, **args}):  # type: ignore[union-attr]
        if isinstance(item, Result):
            answer = dict(item.value)
    return answer


def test_agents_learn_who_is_fast_and_wait_no_longer_than_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.agent.make_capabilities", boards)

    async def body(made: House) -> None:
        fast = await made.agent("fast")
        slow = await made.agent("slow", fast)
        desk = await made.agent("desk", fast, slow, parts={"policy": "predictive"})
        await until(
            lambda: (
                len([o for o in desk.port.offers() if o.served.name == ARITHMETIC and o.slots]) == 2
            )
        )
        verbs, policy = GenerateVerbs(desk), desk.parts.policy
        assert isinstance(policy, Predictive)
        # One each by name, so that both are known by what they did.
        for node in ("slow", "fast"):
            await generate(verbs, target=f"{ARITHMETIC}@{node}")
        rates = {
            offer.node_name: policy.predictor.tokens_per_s(offer)
            for offer in desk.port.offers()
            if offer.served.name == ARITHMETIC
        }
        assert rates["fast"] > 2 * rates["slow"]
        for _ in range(3):
            assert (await generate(verbs))["node"] == "fast"
        # Both are at work for a while: nobody can begin within the patience of the third.
        busy = [
            asyncio.create_task(
                generate(
                    verbs,
                    target=f"{ARITHMETIC}@{node}",
                    request=words(int(BUSY_S / token_s)),
                )
            )
            for node, token_s in (("fast", FAST_S), ("slow", SLOW_S))
        ]
        flights = desk.orchestrator.dispatch.flights
        await until(lambda: sum(flight.first_at >= 0 for flight in flights) == 2)
        with pytest.raises((Rejected, DeadlineExceeded)):
            await generate(verbs, patience_s=0.05)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)

    async def main() -> None:
        async with house(tmp_path) as made:
            await body(made)

    asyncio.run(main())

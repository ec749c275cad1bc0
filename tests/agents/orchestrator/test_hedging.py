"""A straggler gets a second node beside it; the first whole answer wins, the other is cancelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from agents.configure import PartsConfig, build
from agents.orchestrator import tail
from agents.orchestrator.events import Answered, AskEvent, Retry, StepDelta
from agents.orchestrator.orchestrator import Orchestrator
from agents.orchestrator.tail import Tail
from agents.parts import Limits
from agents.port import Offer, Task
from agents.scheduling.prediction import Job
from capabilities.messages import Delta, encode
from mesh.core.errors import ModelError
from mesh.core.records import ServedName
from mesh.core.wire import Op
from tests.agents.fakes import ARITHMETIC, FakeMesh, FakeNode, breaks, says

QUESTION = "What is 48 * 27?"
SUM = says("48 * 27 = 1296")


class Straggling(FakeMesh):
    """A fake mesh in which one node stops after ``after`` messages, for ever."""

    def __init__(self, *nodes: FakeNode, after: int) -> None:
        super().__init__(*nodes)
        self.after = after
        self.cancelled = 0

    async def call(
        self, offer: Offer, body: bytes, task: Task, op: Op = Op.QUERY
    ) -> AsyncIterator[bytes]:
        if offer.node_name == "slow":
            try:
                for _ in range(self.after):
                    yield encode(Delta(text="half "))
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        async for message in super().call(offer, body, task, op):
            yield message


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is late at once: no test waits for a percentile."""
    monkeypatch.setattr(tail, "FIRST_FACTOR", 0.0)
    monkeypatch.setattr(tail, "LEAST_S", 0.01)


def events(mesh: FakeMesh, share: float = 0.1) -> list[AskEvent]:
    parts = build(PartsConfig(limits=Limits(hedge_share=share)))

    async def collect() -> list[AskEvent]:
        return [event async for event in Orchestrator(mesh, parts, rng=random.Random(1)).ask(
            QUESTION)]  # fmt: skip

    return asyncio.run(collect())


def slow_and(quick: FakeNode, after: int) -> Straggling:
    return Straggling(FakeNode("slow", {ARITHMETIC: SUM}, priority=1), quick, after=after)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("after", [0, 2])
def test_a_second_node_is_asked_and_the_loser_is_cancelled(after: int) -> None:
    mesh = slow_and(FakeNode("quick", {ARITHMETIC: SUM}), after)
    seen = events(mesh)
    answered = seen[-1]
    assert isinstance(answered, Answered)
    assert answered.answer.text == "48 * 27 = 1296"
    assert not answered.answer.degraded
    assert answered.answer.nodes == ["quick"]
    assert answered.answer.notes == ["slow was late: quick answered"]
    assert mesh.cancelled == 1
    # What the straggler had shown is taken back before the other's text is shown.
    kinds = [type(event) for event in seen if isinstance(event, Retry | StepDelta)]
    assert kinds == [*[StepDelta] * after, *[Retry] * bool(after), StepDelta]


@pytest.mark.usefixtures("impatient")
def test_a_hedge_that_fails_leaves_the_first_call_alone() -> None:
    mesh = FakeMesh(
        FakeNode("slow", {ARITHMETIC: SUM}, priority=1),
        FakeNode("broken", {ARITHMETIC: breaks(ModelError("it crashed"))}),
    )
    mesh.gate = asyncio.Event()

    async def opened() -> list[AskEvent]:
        assert mesh.gate is not None
        asyncio.get_running_loop().call_later(0.1, mesh.gate.set)
        asking = Orchestrator(mesh, rng=random.Random(1))
        return [event async for event in asking.ask(QUESTION)]

    answered = asyncio.run(opened())[-1]
    assert isinstance(answered, Answered)
    assert answered.answer.nodes == ["slow"]


@pytest.mark.usefixtures("impatient")
def test_a_full_node_is_not_asked_as_well() -> None:
    full = FakeNode("quick", {ARITHMETIC: SUM}, load=1.0)
    mesh = FakeMesh(FakeNode("one", {ARITHMETIC: SUM}, priority=1), full)
    mesh.gate = asyncio.Event()

    async def opened() -> None:
        assert mesh.gate is not None
        asyncio.get_running_loop().call_later(0.1, mesh.gate.set)
        await Orchestrator(mesh, rng=random.Random(1)).answer(QUESTION)

    asyncio.run(opened())
    assert full.calls == []


def offer() -> Offer:
    return Offer(
        node=b"n", node_name="n", served=ServedName(ARITHMETIC), me=False, healthy=True,
        load=0.0, slots=1, tokens_per_s=10.0,
    )  # fmt: skip


JOB = Job(prompt_tokens=10, answer_tokens=100)


def test_hedges_are_earned_by_calls_and_a_share_of_none_never_hedges() -> None:
    some, none = Tail(0.1), Tail(0.0)
    assert some.may_hedge()
    assert not some.may_hedge()
    for _ in range(10):
        some.lateness(offer(), JOB, 0)
        none.lateness(offer(), JOB, 0)
    assert some.may_hedge()
    assert not some.may_hedge()
    assert not none.may_hedge()


def test_late_is_what_95_of_100_calls_are_not() -> None:
    one = Tail(0.1)
    lateness = one.lateness(offer(), JOB, 0)
    assert lateness.done_s == pytest.approx(lateness.expected_done_s * tail.FIRST_FACTOR)
    for ratio in [*[0.5] * 95, *[4.0] * 5]:
        one.took(lateness, lateness.expected_first_s * ratio, lateness.expected_done_s * ratio)
    learnt = one.lateness(offer(), JOB, 0)
    assert lateness.expected_done_s * 0.5 <= learnt.done_s <= lateness.expected_done_s * 4.0

"""Many jobs given out: every one is told of, none waits for ever, one that fails hurts no other."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

import pytest

from agents.cooperation import computation
from agents.cooperation.computation import Fanout, Job, JobDone
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.port import Task
from agents.trace import TRACE_BYTES
from capabilities.messages import Generate, Message
from mesh.core.errors import ModelError, Rejected
from tests.agents.fakes import GENERAL, FakeMesh, FakeNode, breaks, says

TASK = Task(trace=b"t" * TRACE_BYTES, deadline=160.0)


def jobs(count: int) -> list[Job]:
    return [
        Job(id=n, request=Generate(messages=[Message("user", f"job {n}")])) for n in range(count)
    ]


def fanout(mesh: FakeMesh) -> Fanout:
    return Fanout(mesh, Orchestrator(mesh, rng=random.Random(1)).asker)


def run(mesh: FakeMesh, count: int, name: str = GENERAL) -> list[JobDone]:
    async def collect() -> list[JobDone]:
        return [done async for done in fanout(mesh).run(name, jobs(count), TASK, AskOptions())]

    return sorted(asyncio.run(collect()), key=lambda done: done.id)


def test_every_job_is_done_once_and_all_nodes_help() -> None:
    mesh = FakeMesh(*(FakeNode(f"n{k}", {GENERAL: says("yes")}) for k in range(4)))
    done = run(mesh, 40)
    assert [one.id for one in done] == list(range(40))
    assert all(one.said and one.said.text == "yes" for one in done)
    assert all(node.calls for node in mesh.nodes)
    assert 2 <= mesh.most_at_once <= 8  # four nodes with two slots each


def test_a_job_whose_node_dies_is_done_elsewhere() -> None:
    mesh = FakeMesh(
        FakeNode("dead", {GENERAL: breaks(ModelError("it crashed"))}),
        FakeNode("well", {GENERAL: says("yes")}),
    )
    done = run(mesh, 8)
    assert all(one.said and one.said.node == "well" for one in done)
    assert any(one.said and one.said.attempts == ("dead", "well") for one in done)


def test_a_job_that_nobody_can_do_says_why() -> None:
    done = run(FakeMesh(FakeNode("dead", {GENERAL: breaks(ModelError("it crashed"))})), 3)
    assert [one.said for one in done] == [None] * 3
    assert all("crashed" in one.error for one in done)
    assert all(one.error for one in run(FakeMesh(), 2))


def test_full_nodes_are_waited_for_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computation, "LEAST_WAIT_S", 0.001)
    soon = FakeNode("n", {GENERAL: says("yes")}, rejects=3)
    assert run(FakeMesh(soon), 1)[0].said is not None
    never = FakeNode("n", {GENERAL: breaks(Rejected("full"))})
    (done,) = run(FakeMesh(never), 1)
    assert done.said is None
    assert "slot" in done.error
    assert len(never.calls) == computation.MAX_WAITS


def test_closing_cancels_the_jobs_under_way() -> None:
    async def leave() -> FakeMesh:
        mesh = FakeMesh(FakeNode("n", {GENERAL: says("yes")}))
        mesh.gate = asyncio.Event()
        running = fanout(mesh).run(GENERAL, jobs(8), TASK, AskOptions())
        async with aclosing(running):
            first = asyncio.ensure_future(anext(running))
            await asyncio.sleep(0.02)
            assert mesh.running > 0
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        return mesh

    assert asyncio.run(leave()).running == 0

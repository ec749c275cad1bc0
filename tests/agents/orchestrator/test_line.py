"""A request in several lines: the first that begins answers, the others are left at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agents.orchestrator.line import Line
from agents.port import Offer, Task
from mesh.core.errors import CapabilityFailed, GossamerError, PeerLost, Rejected
from mesh.core.records import ServedName


def offer(name: str) -> Offer:
    return Offer(
        node=name.encode(),
        node_name=name,
        served=ServedName("knowledge.gpt/x"),
        me=False,
        healthy=True,
        load=1.0,
    )


class FakePort:
    """Scripted streams: an event to wait for, then messages or an error."""

    def __init__(self, **scripts: list[object]) -> None:
        self.scripts = scripts
        self.open: set[str] = set()

    async def call(self, one: Offer, body: bytes, task: Task) -> AsyncIterator[bytes]:
        self.open.add(one.node_name)
        try:
            for item in self.scripts[one.node_name]:
                if isinstance(item, asyncio.Event):
                    await item.wait()
                elif isinstance(item, GossamerError):
                    raise item
                else:
                    yield item  # type: ignore[misc]
        finally:
            self.open.discard(one.node_name)


def asked(port: FakePort, *names: str) -> Line:
    return Line(port, [offer(name) for name in names])  # type: ignore[arg-type]


async def heard(line: Line) -> list[bytes]:
    task = Task(trace=b"t" * 16, deadline=1e9)
    return [message async for message in line.call(b"", task)]


def test_the_first_that_begins_answers_and_the_others_are_left() -> None:
    async def run() -> None:
        port = FakePort(a=[asyncio.Event(), b"a"], b=[b"b1", b"b2"], c=[asyncio.Event(), b"c"])
        line = asked(port, "a", "b", "c")
        assert await heard(line) == [b"b1", b"b2"]
        assert line.offer.node_name == "b"
        assert not port.open

    asyncio.run(run())


def test_a_refusal_does_not_end_the_waiting_in_the_other_lines() -> None:
    async def run() -> None:
        gate = asyncio.Event()
        port = FakePort(a=[Rejected("full")], b=[gate, b"b"])
        line = asked(port, "a", "b")
        task = asyncio.create_task(heard(line))
        await asyncio.sleep(0)
        gate.set()
        assert await task == [b"b"]

    asyncio.run(run())


def test_when_all_refuse_the_first_ones_word_is_told() -> None:
    async def run() -> None:
        port = FakePort(a=[Rejected("a is full")], b=[PeerLost("gone")])
        with pytest.raises(Rejected, match="a is full"):
            await heard(asked(port, "a", "b"))
        assert not port.open

    asyncio.run(run())


def test_an_answer_that_is_empty_is_a_failure_and_not_a_hang() -> None:
    async def run() -> None:
        with pytest.raises(CapabilityFailed):
            await heard(asked(FakePort(a=[], b=[]), "a", "b"))

    asyncio.run(run())


def test_who_leaves_leaves_every_line() -> None:
    async def run() -> None:
        port = FakePort(a=[asyncio.Event()], b=[asyncio.Event()])
        task = asyncio.create_task(heard(asked(port, "a", "b")))
        await asyncio.sleep(0.01)
        assert port.open == {"a", "b"}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not port.open

    asyncio.run(run())


def test_one_line_is_a_plain_call() -> None:
    async def run() -> None:
        port = FakePort(a=[b"1", b"2"])
        assert await heard(asked(port, "a")) == [b"1", b"2"]
        assert not port.open

    asyncio.run(run())

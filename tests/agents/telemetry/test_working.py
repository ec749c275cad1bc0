"""A node's status tells how far its tasks are, bounded, and forgets those that are over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from agents.hosting import expected
from agents.telemetry.working import MAX_TOLD, MOST, Working
from capabilities.base import Request
from capabilities.messages import Generate, Message, encode
from mesh.core.records import MAX_STATUS_BYTES, Kind, Status

TRACE = "0123456789abcdef" * 2


async def stream(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"word"


def test_progress_grows_with_what_was_sent_and_ends_with_the_answer() -> None:
    async def run() -> list[tuple[tuple[str, float], ...]]:
        working = Working()
        answer = working.through(TRACE, 4, stream(3))
        seen = [working.told()]
        async for _ in answer:
            seen.append(working.told())
        return [*seen, working.told()]

    progress = [dict(told).get("01234567") for told in asyncio.run(run())]
    assert progress == [0.0, 0.25, 0.5, 0.75, None]


@pytest.mark.parametrize("started", [False, True])
def test_a_cancelled_task_is_over(started: bool) -> None:
    async def run() -> tuple[tuple[str, float], ...]:
        working = Working()
        answer = working.through(TRACE, 4, stream(3))
        if started:
            await anext(answer)
        await answer.aclose()  # type: ignore[attr-defined]
        return working.told()

    assert asyncio.run(run()) == ()


def test_more_than_was_expected_is_still_not_done() -> None:
    async def run() -> float:
        working = Working()
        answer = working.through(TRACE, 1, stream(5))
        for _ in range(5):
            await anext(answer)
        return working.told()[0][1]

    assert asyncio.run(run()) == MOST


def test_a_full_node_s_tasks_leave_room_in_its_status() -> None:
    working = Working()
    held = [working.through(f"{n:08x}" * 4, 4, stream(1)) for n in range(100)]
    told = working.told()
    assert len(told) == MAX_TOLD
    status = Status(kind=Kind.STATUS, node=b"n" * 16, incarnation=1, sequence=1, issued=1e9,
                    expires=2e9, note="n" * 120, tasks=told)  # fmt: skip
    assert len(msgspec.msgpack.encode(status)) < MAX_STATUS_BYTES / 2
    assert len(held) == 100


def test_a_generation_s_length_is_its_limit_and_of_other_calls_it_is_not_known() -> None:
    body = encode(Generate(messages=[Message("user", "hi")], max_tokens=9))
    assert expected(Request(name="n", body=body, timeout_s=1.0)) == 10
    assert expected(Request(name="n", body=b"", timeout_s=1.0)) == 1

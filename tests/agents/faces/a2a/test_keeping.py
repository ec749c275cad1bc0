"""What the endpoint remembers has an end."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("a2a", reason="pip install 'gossamer-mesh[a2a]'")

from a2a.server.context import ServerCallContext
from a2a.types import ListTasksRequest, Task, TaskState, TaskStatus

from agents.faces.a2a.keeping import (
    MAX_CONTEXTS,
    MAX_TASKS,
    MAX_TURNS,
    BoundedTasks,
    Client,
    Conversations,
)

ANN = ServerCallContext(user=Client("ann"))
BOB = ServerCallContext(user=Client("bob"))


def task(name: str, state: TaskState = TaskState.TASK_STATE_COMPLETED) -> Task:
    return Task(id=name, context_id="c", status=TaskStatus(state=state))


def test_the_oldest_task_that_is_over_makes_room() -> None:
    async def run() -> None:
        store = BoundedTasks()
        await store.save(task("busy", TaskState.TASK_STATE_WORKING), ANN)
        for number in range(MAX_TASKS + 1):
            await store.save(task(f"t{number}"), ANN)
        assert await store.get("busy", ANN) is not None
        assert await store.get("t0", ANN) is None
        assert await store.get(f"t{MAX_TASKS}", ANN) is not None
        listed = await store.list(ListTasksRequest(page_size=1), ANN)
        assert listed.total_size == MAX_TASKS

    asyncio.run(run())


def test_tasks_of_another_key_are_not_there() -> None:
    async def run() -> None:
        store = BoundedTasks()
        await store.save(task("hers"), ANN)
        assert await store.get("hers", BOB) is None
        await store.delete("hers", BOB)
        assert await store.get("hers", ANN) is not None

    asyncio.run(run())


def test_conversations_keep_the_last_turns_of_the_latest_contexts() -> None:
    said = Conversations()
    for number in range(MAX_TURNS):
        said.said("ann", "c", f"q{number}", f"a{number}")
    turns = said.before("ann", "c")
    assert len(turns) == MAX_TURNS
    assert turns[-1].content == f"a{MAX_TURNS - 1}"
    assert said.before("bob", "c") == ()
    for number in range(MAX_CONTEXTS):
        said.said("ann", f"other{number}", "q", "a")
    assert said.before("ann", "c") == ()

"""Feedback reaches the last answer, once, and an answer that cannot be found is an error."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.faces.verbs_feedback import FeedbackVerbs
from agents.memory import REUSE
from agents.orchestrator.orchestrator import Orchestrator
from mesh.core.errors import ConfigError
from tests.agents.cooperation.test_knowledge_memory import (
    QUESTION,
    TASK,
    House,
    expert,
    run,
)
from tests.agents.fakes import ARITHMETIC, FakeMesh, FakeNode, says


def verbs() -> tuple[FeedbackVerbs, Orchestrator]:
    mesh = FakeMesh(FakeNode("a", {ARITHMETIC: says("3 + 4 = 7")}))
    orchestrator = Orchestrator(mesh, rng=random.Random(1))
    agent: Any = SimpleNamespace(orchestrator=orchestrator, knowledge=None)
    return FeedbackVerbs(agent), orchestrator


def say(verbs: FeedbackVerbs, **args: object) -> dict[str, Any]:
    return asyncio.run(verbs._feedback(args))


def test_without_a_trace_the_last_answer_is_meant_and_only_once() -> None:
    feedback, orchestrator = verbs()
    asyncio.run(orchestrator.answer("What is 1 + 4?"))
    answer = asyncio.run(orchestrator.answer("What is 3 + 4?"))
    found = say(feedback, right=True)
    assert found["trace"] == answer.trace
    assert found["steps"] == [[ARITHMETIC, "What is 3 + 4?"]]
    with pytest.raises(ConfigError, match="there is no answer"):
        say(feedback, right=True)


def test_an_earlier_answer_is_found_by_its_trace() -> None:
    feedback, orchestrator = verbs()
    first = asyncio.run(orchestrator.answer("What is 1 + 4?"))
    asyncio.run(orchestrator.answer("What is 3 + 4?"))
    assert say(feedback, right=False, trace=first.trace)["steps"][0][1] == "What is 1 + 4?"


@pytest.mark.parametrize("args", [{}, {"right": "yes"}, {"right": True, "trace": "zz"}])
def test_what_is_no_feedback_is_refused(args: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        say(verbs()[0], **args)


def test_a_wrong_answer_is_forgotten_and_the_next_asker_does_not_get_it(tmp_path: Path) -> None:
    wrong = FakeNode("wrong", {ARITHMETIC: says("48 * 27 = 1297")}, model="w", priority=1)

    async def body(house: House) -> None:
        agent: Any = SimpleNamespace(
            orchestrator=house.asking,
            knowledge=SimpleNamespace(memory=house.memory),
            node=SimpleNamespace(me=SimpleNamespace(node=b"desk")),
        )
        first = await house.ask()
        assert (await house.memory.recall(QUESTION, ARITHMETIC, TASK)).action == REUSE
        before = house.memory.trust(wrong.id, "arithmetic").mean
        await FeedbackVerbs(agent)._feedback({"right": False, "trace": first.trace})
        assert (await house.memory.recall(QUESTION, ARITHMETIC, TASK)).action != REUSE
        assert house.memory.trust(wrong.id, "arithmetic").mean < before
        assert (await house.ask()).text == "48 * 27 = 1296"

    run(tmp_path, FakeMesh(wrong, expert()), body)

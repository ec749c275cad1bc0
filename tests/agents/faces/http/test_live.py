"""What of a question's events is sent at once, and what happens when sent text does not hold."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agents.faces.http.convert import chat_job
from agents.faces.http.errors import HttpError
from agents.faces.http.live import CORRECTED, LiveText
from agents.faces.http.schema import ChatMessage, ChatRequest
from agents.faces.http.turn import answer as make_answer
from agents.library import Agent
from agents.library.events import AskedEvent, Delta, Plan, Retry, Step
from agents.views import AnswerView, StepView


def step(number: int, status: str) -> StepView:
    return StepView(id=number, name="knowledge.gpt/x", node="oak", question="?", status=status)


def plan(*numbers: int) -> Plan:
    return Plan([step(number, "waiting") for number in numbers])


def answer(text: str) -> AnswerView:
    return AnswerView(text=text, degraded=False, elapsed_s=1.0, steps=[], nodes=[])


def sent(events: list[AskedEvent], whole: str, *, hold: bool = False) -> str:
    live = LiveText(hold=hold)
    out = [text for event in events for text, thinking in live.event(event) if not thinking]
    return "".join(out) + live.finish(answer(whole))


def text(number: int, words: str) -> Delta:
    return Delta(step=number, text=words)


def test_one_step_is_sent_as_it_comes() -> None:
    live = LiveText()
    assert live.event(plan(1)) == []
    assert live.event(text(1, "a")) == [("a", False)]
    assert live.event(Delta(step=1, text="hm", thinking=True)) == [("hm", True)]
    assert live.finish(answer("a")) == ""


def test_two_steps_never_mix() -> None:
    events = [plan(1), plan(2), text(2, "second"), text(1, "first"), Step(step(1, "ok"))]
    assert sent(events, "first\nsecond") == "first\nsecond"


def test_a_retry_before_anything_was_sent_leaves_no_mark() -> None:
    events = [plan(1), Retry(step=1), text(1, "good")]
    assert sent(events, "good") == "good"


def test_an_answer_that_did_not_hold_is_followed_by_the_one_that_does() -> None:
    events = [plan(1), text(1, "bad"), Retry(step=1), text(1, "good")]
    assert sent(events, "good") == "bad" + CORRECTED + "good"


def test_a_doubted_answer_that_was_kept_after_all_stands() -> None:
    events = [plan(1), text(1, "good"), Retry(step=1), text(1, "worse"), Step(step(1, "ok"))]
    assert sent(events, "good") == "good"


@pytest.mark.parametrize("hold", [True, False])
def test_held_text_comes_once_and_whole(hold: bool) -> None:
    events = [plan(1), text(1, "bad"), Retry(step=1), text(1, "good")]
    assert (sent(events, "good", hold=hold) == "good") is hold


def test_a_part_that_failed_is_told_behind_the_parts_that_went_well() -> None:
    events = [plan(1), plan(2), text(1, "first"), Step(step(1, "ok")), Step(step(2, "failed"))]
    assert sent(events, "first\nsecond?: nobody knows.") == "first\nsecond?: nobody knows."


class FailingAgent(Agent):
    """Stands in for an agent of which every step fails."""

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s

    async def stream(self, question: str, **options: Any) -> AsyncIterator[Any]:
        yield AnswerView(
            text="",
            degraded=True,
            elapsed_s=0.1,
            steps=[step(1, "failed")],
            nodes=[],
            retry_after_s=self.retry_after_s,
        )


@pytest.mark.parametrize(("retry_after_s", "status"), [(3.0, 429), (-1.0, 503)])
def test_a_mesh_that_is_full_says_when_to_come_again_and_one_without_an_answer_does_not(
    retry_after_s: float, status: int
) -> None:
    message = ChatMessage(role="user", content="What is 48 * 27?")
    job = chat_job(ChatRequest(model="mesh", messages=[message]), random.Random(1))

    async def run() -> None:
        async for _ in make_answer(FailingAgent(retry_after_s), job):
            pass

    with pytest.raises(HttpError) as told:
        asyncio.run(run())
    assert told.value.status == status
    if status == 429:
        assert told.value.headers() == {"retry-after": "3"}

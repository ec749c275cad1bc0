"""A joined text is kept only where each statement has a finding and each finding is in it."""

from __future__ import annotations

import asyncio
import random

import pytest

from agents.configure import PartsConfig, build
from agents.orchestrator import joining
from agents.orchestrator.joining import JoinRefused
from agents.orchestrator.orchestrator import Orchestrator
from agents.views import StepView
from capabilities.messages import Done
from mesh.core.errors import ModelError
from tests.agents.fakes import ARITHMETIC, GENERAL, FakeMesh, FakeNode, breaks, table


def step(number: int, text: str, status: str = "ok", question: str = "") -> StepView:
    return StepView(
        id=number, name=f"n{number}", node=f"node{number}", question=question or f"q{number}",
        status=status, text=text,
    )  # fmt: skip


TWO = [step(1, "The air at the park is good."), step(2, "The pulse of 62 is normal.")]


def test_each_statement_keeps_its_source() -> None:
    found = joining.joined("The pulse of 62 is normal. The air at the park is good.", TWO)
    assert [(s.step, s.node) for s in found] == [(2, "node2"), (1, "node1")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("The air at the park is good.", "loses the finding of step 2"),
        ("The air at the park is good. The pulse is normal.", "loses the number 62"),
        ("The air at the park is good. The pulse of 99 is normal.", "no finding carries"),
        ("The air at the park is good. The pulse of 62 is normal. Buy gold now.", "no finding"),
        ("", "loses"),
    ],
)
def test_what_no_finding_carries_or_what_is_lost_is_refused(text: str, why: str) -> None:
    with pytest.raises(JoinRefused, match=why):
        joining.joined(text, TWO)


def test_it_may_say_that_something_is_missing_only_when_it_is() -> None:
    text = "The air at the park is good. The pulse is missing."
    short = [TWO[0], step(2, "", status="failed")]
    assert joining.joined(text, short)[1].step == 0
    with pytest.raises(JoinRefused):
        joining.joined(text, [TWO[0], step(2, "The river is long.")])


def test_one_finding_needs_no_joining() -> None:
    assert joining.request([TWO[0], step(2, "", status="failed")]) is None


JOINED = "The result of 48 * 27 = 1296, and 12 + 30 = 42."


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (
            lambda _: [Done(text="48 * 27 = 1296.\n12 + 30 = 42.", finish="stop")],
            "48 * 27 = 1296.\n12 + 30 = 42.",
        ),
        (lambda _: [Done(text="It is 7.", finish="stop")], "48 * 27 = 1296\n12 + 30 = 42"),
        (breaks(ModelError("it crashed")), "48 * 27 = 1296\n12 + 30 = 42"),
    ],
)
def test_the_general_model_joins_and_where_it_cannot_the_lines_stand(
    script: object, text: str
) -> None:
    answers = table({"What is 48*27": "48 * 27 = 1296", "what is 12+30?": "12 + 30 = 42"})
    port = FakeMesh(
        FakeNode("me", {GENERAL: script}, me=True),  # type: ignore[dict-item]
        FakeNode("a", {ARITHMETIC: answers}),
    )
    orchestrator = Orchestrator(port, build(PartsConfig(aggregator="model")), rng=random.Random(1))
    found = asyncio.run(orchestrator.answer("What is 48*27 and what is 12+30?"))
    assert found.text == text
    assert [statement.step for statement in found.statements] == [1, 2]
    assert all(statement.node == "a" for statement in found.statements)

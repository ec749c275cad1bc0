"""A joined text is kept only where each statement has a finding and each finding is in it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from agents.configure import PartsConfig, build
from agents.orchestrator import joining
from agents.orchestrator.aggregate import Joined
from agents.orchestrator.joining import JoinRefused
from agents.orchestrator.orchestrator import Orchestrator
from agents.views import StatementView, StepView
from capabilities.messages import Done
from mesh.core.errors import ConfigError, ModelError
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


class Loudest:
    """An aggregator of a user's own: the longest finding first, or a refusal."""

    def __init__(self, mute: bool = False) -> None:
        self.mute = mute

    def join(self, question: str, steps: Sequence[StepView]) -> Joined:
        if self.mute:
            raise JoinRefused("nothing to conclude")
        longest = max(steps, key=lambda one: len(one.text))
        first = StatementView(text=f"The most: {longest.text}", step=longest.id, node=longest.node)
        return Joined(statements=[first], decision=f"step {longest.id}", inputs={"of": len(steps)})


@pytest.mark.parametrize(
    ("mute", "text", "action"),
    [
        (False, "The most: 48 * 27 = 1296", "step 1"),
        (True, "48 * 27 = 1296\n12 + 30 = 42", "line by line instead: nothing to conclude"),
    ],
)
def test_an_aggregator_of_one_s_own_concludes_and_its_decision_is_in_the_trace(
    mute: bool, text: str, action: str
) -> None:
    answers = table({"What is 48*27": "48 * 27 = 1296", "what is 12+30?": "12 + 30 = 42"})
    port = FakeMesh(FakeNode("me", {}, me=True), FakeNode("a", {ARITHMETIC: answers}))
    parts = build(
        PartsConfig(aggregator=f"{__name__}:Loudest", options={"aggregator": {"mute": mute}})
    )
    orchestrator = Orchestrator(port, parts, rng=random.Random(1))
    found = asyncio.run(orchestrator.answer("What is 48*27 and what is 12+30?"))
    assert found.text == text
    decided = [one for one in found.decisions if one["rule"] == "aggregate.part"]
    assert [one["action"] for one in decided] == [action]
    alone = asyncio.run(orchestrator.answer("What is 48*27"))
    assert alone.text == "48 * 27 = 1296"


@pytest.mark.parametrize("name", ["loudest", "tests.agents.no_such:Part"])
def test_an_aggregator_that_is_not_there_is_refused_before_the_start(name: str) -> None:
    with pytest.raises(ConfigError, match="aggregator"):
        build(PartsConfig(aggregator=name))

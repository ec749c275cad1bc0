"""A failed step is replanned once: the next expert that fits, flagged, and nobody pretends."""

from __future__ import annotations

import asyncio
import json
import random

import msgspec
import pytest

from agents.classifier.catalogue import KnownName
from agents.classifier.relevance import Relevance, Scored
from agents.configure import build
from agents.orchestrator.modelplan import ModelPlanner
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.orchestrator.plan import Plan, Step
from agents.views import AnswerView
from capabilities.messages import Delta, Done
from mesh.core.errors import GossamerError, ModelError
from tests.agents.fakes import ARITHMETIC, GENERAL, FakeMesh, FakeNode, Script, breaks, says, table

OTHER = "knowledge.gpt/numbers"
DATA = "data.gpt/air/trend"
BROKEN = breaks(ModelError("it crashed"))


class Torn:
    """A classifier that is torn between two experts."""

    blocking = False

    def classify(self, question: str, known: list[KnownName]) -> Relevance:
        ranked = (Scored(ARITHMETIC, 0.6), Scored(GENERAL, 0.2), Scored(OTHER, 0.15))
        return Relevance(ranked=ranked, method="test", out_of_scope=0.0)


def asked(mesh: FakeMesh, **options: object) -> tuple[AnswerView, dict[str, int]]:
    parts = msgspec.structs.replace(build(), classifier=Torn())
    orchestrator = Orchestrator(mesh, parts, rng=random.Random(1))
    made = AskOptions(**options)  # type: ignore[arg-type]
    return asyncio.run(orchestrator.answer("What is 48 * 27?", made)), orchestrator.counters


def test_the_next_likeliest_expert_is_asked_and_the_answer_says_so() -> None:
    other = FakeNode("other", {OTHER: says("1296")})
    found, counters = asked(FakeMesh(FakeNode("a", {ARITHMETIC: BROKEN}), other))
    assert found.text == "1296"
    assert found.steps[0].name == OTHER
    assert found.steps[0].attempts == ["a", "other"]
    assert "replanned" in found.notes[0]
    assert found.degraded  # it is as sure as the classifier was that this is its matter
    assert counters["replanned"] == 1
    assert any(line["rule"] == "replan" for line in found.decisions)


def test_it_is_replanned_once_and_not_again() -> None:
    found, counters = asked(
        FakeMesh(FakeNode("a", {ARITHMETIC: BROKEN}), FakeNode("b", {OTHER: BROKEN}))
    )
    assert found.steps[0].status == "failed"
    assert counters["replanned"] == 1


def test_the_general_model_does_not_stand_in_for_an_expert_that_failed() -> None:
    general = FakeNode("me", {GENERAL: says("It is 7.")}, me=True)
    found, _ = asked(FakeMesh(FakeNode("a", {ARITHMETIC: BROKEN}), general))
    assert found.steps[0].status == "failed"
    assert general.calls == []


def test_where_nobody_offers_the_name_no_other_expert_pretends() -> None:
    other = FakeNode("other", {OTHER: says("1296")})
    found, _ = asked(FakeMesh(other))
    assert found.steps[0].status == "failed"
    assert other.calls == []


def test_who_asks_for_a_name_gets_that_name_or_nothing() -> None:
    other = FakeNode("other", {OTHER: says("1296")})
    found, _ = asked(FakeMesh(FakeNode("a", {ARITHMETIC: BROKEN}), other), name=ARITHMETIC)
    assert found.steps[0].status == "failed"
    assert other.calls == []


def test_no_expert_stands_in_for_a_measurement_that_failed() -> None:
    class Measured:
        def plan(self, question: str) -> Plan:
            return Plan(steps=(Step(id=1, question=question, name=DATA),), method="test")

    other = FakeNode("other", {OTHER: says("It is 14, I guess.")})
    mesh = FakeMesh(FakeNode("a", {DATA: BROKEN}), other)
    parts = msgspec.structs.replace(build(), classifier=Torn(), planner=Measured())
    orchestrator = Orchestrator(mesh, parts, rng=random.Random(1))
    found = asyncio.run(orchestrator.answer("What is the PM2.5?", AskOptions()))
    assert found.steps[0].status == "failed"
    assert other.calls == []


def planning(*plans: str) -> Script:
    """A general model that plans: one answer after the other, the last one again."""
    left = list(plans)

    def script(question: str) -> list[Delta | Done | GossamerError]:
        assert question.startswith("Names: "), question
        return says(left.pop(0) if len(left) > 1 else left[0])(question)

    return script


def step(question: str, name: str, number: int = 1, *depends: int) -> dict[str, object]:
    return {"id": number, "question": question, "name": name, "depends": list(depends)}


def plan(*steps: dict[str, object]) -> str:
    return json.dumps({"steps": steps})


def asked_of_a_planner(mesh: FakeMesh) -> tuple[AnswerView, dict[str, int]]:
    parts = msgspec.structs.replace(build(), classifier=Torn(), planner=ModelPlanner())
    orchestrator = Orchestrator(mesh, parts, rng=random.Random(1))
    return asyncio.run(orchestrator.answer("Please tell me: 4 * 5 * 6")), orchestrator.counters


FIRST = plan(step("4 * 5 * 6", ARITHMETIC))


def test_the_planner_is_told_what_failed_and_its_new_plan_is_run() -> None:
    again = plan(step("4 * 5", OTHER), step("{1} * 6", OTHER, 2, 1))
    planner = FakeNode("me", {GENERAL: planning(FIRST, again)}, me=True)
    other = FakeNode("other", {OTHER: table({"4 * 5": "20", "20 * 6": "120"})})
    found, counters = asked_of_a_planner(
        FakeMesh(planner, FakeNode("a", {ARITHMETIC: BROKEN}), other)
    )
    assert found.text == "120"
    assert [view.id for view in found.steps] == [1]
    assert found.steps[0].attempts == ["a", "other", "other"]
    assert "replanned" in found.notes[0]
    told = planner.calls[1]
    assert f"Failed: {ARITHMETIC}" in told
    assert "it crashed" in told
    assert ARITHMETIC not in told.partition("Request:")[0]
    assert counters["replanned"] == 1


@pytest.mark.parametrize(
    "again",
    ["no plan", plan(step("4 * 5 * 6", ARITHMETIC)), plan(step("4 * 5 * 7", OTHER))],
    ids=["nonsense", "what failed", "another number"],
)
def test_a_new_plan_that_cannot_be_meant_leaves_the_rules(again: str) -> None:
    planner = FakeNode("me", {GENERAL: planning(FIRST, again)}, me=True)
    other = FakeNode("other", {OTHER: table({"4 * 5 * 6": "120"})})
    found, counters = asked_of_a_planner(
        FakeMesh(planner, FakeNode("a", {ARITHMETIC: BROKEN}), other)
    )
    assert found.text == "120"
    assert counters["replanned"] == 1
    assert any(line["rule"] == "replan.model" for line in found.decisions)


def test_a_new_plan_that_fails_too_is_the_end_of_it() -> None:
    again = plan(step("4 * 5 * 6", OTHER))
    planner = FakeNode("me", {GENERAL: planning(FIRST, again)}, me=True)
    found, counters = asked_of_a_planner(
        FakeMesh(planner, FakeNode("a", {ARITHMETIC: BROKEN}), FakeNode("b", {OTHER: BROKEN}))
    )
    assert found.steps[0].status == "failed"
    assert len(found.missing) == 1
    assert counters["replanned"] == 1
    assert len(planner.calls) == 2

"""A model's plan is taken where it can be meant; else the rules plan."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from agents.configure import PartsConfig, build
from agents.orchestrator.allocate import Route
from agents.orchestrator.modelplan import ModelPlanner, merge_light
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.orchestrator.plan import Plan, PlanRefused, Step
from agents.views import AnswerView
from capabilities.messages import Done
from capabilities.slm.training.plans import example, plan_json
from mesh.core.errors import ModelError
from tests.agents.fakes import ARITHMETIC, GENERAL, FakeMesh, FakeNode, breaks, table

QUESTION = "What is 12 + 30, then multiply the result by 3"
NAMES = [ARITHMETIC, GENERAL]
GOOD = [(1, "what is 12 + 30", ARITHMETIC, ()), (2, "multiply {1} by 3", ARITHMETIC, (1,))]


def decoded(rows: list[tuple[int, str, str, tuple[int, ...]]], question: str = QUESTION) -> Plan:
    return ModelPlanner().decoded(plan_json(rows), question, NAMES)


def test_a_plan_in_the_training_datas_form_is_taken() -> None:
    plan = decoded(GOOD)
    assert [step.depends for step in plan.steps] == [(), (1,)]
    assert plan.method == "model: 2 steps"


def test_every_plan_of_the_training_data_is_taken() -> None:
    rng = random.Random(7)
    for _ in range(300):
        made = example(rng, held_out=False)
        listed, _, request = made.question.removeprefix("Names: ").partition("\nRequest: ")
        plan = ModelPlanner().decoded(made.answer, request, listed.split(", "))
        assert len(plan.steps) == len(json.loads(made.answer)["steps"])


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([(1, "what is 12 + 30", "knowledge.gpt/magic", ())], "not known"),
        ([(1, "multiply {1} by 3", ARITHMETIC, ())], "holes"),
        ([GOOD[0], (2, "multiply it by 3", ARITHMETIC, (1,))], "holes"),
        ([GOOD[0], (2, "multiply {1} by 99", ARITHMETIC, (1,))], "makes up"),
        ([GOOD[0]], "loses"),
        ([(1, " ", ARITHMETIC, ())], "asks nothing"),
        ([GOOD[0], (1, "what is 3", "", ())], "same number"),
        (
            [(1, "add 12 to {2} and 30", "", (2,)), (2, "multiply {1} by 3", "", (1,))],
            "wait for each other",
        ),
        ([(1, "12 30 {9} 3", "", (9,))], "not there"),
        ([(n, "12 + 30 * 3", "", ()) for n in range(1, 10)], "at most 8"),
        ([], "without a step"),
    ],
)
def test_nonsense_is_refused_with_its_reason(
    rows: list[tuple[int, str, str, tuple[int, ...]]], why: str
) -> None:
    with pytest.raises(PlanRefused, match=why):
        decoded(rows, QUESTION if rows else "hello you there")


@pytest.mark.parametrize(
    "text", ["", "{", "null", '{"steps": 3}', '{"steps": [{"id": "x"}]}', "[" * 5000, "\ud800"]
)
def test_what_is_no_plan_at_all_is_refused(text: str) -> None:
    with pytest.raises(PlanRefused, match="form"):
        ModelPlanner().decoded(text, QUESTION, NAMES)


def mesh(planner: object, counted: bool = True) -> FakeMesh:
    expert = table({"what is 12 + 30": "12 + 30 = 42", "What is 12 + 30": "12 + 30 = 42",
                    "multiply 42 by 3": "42 * 3 = 126"})  # fmt: skip
    return FakeMesh(
        FakeNode("me", {GENERAL: planner}, me=True),  # type: ignore[dict-item]
        FakeNode("expert", {ARITHMETIC: expert}),
    )


def asked(port: FakeMesh) -> tuple[AnswerView, dict[str, int]]:
    orchestrator = Orchestrator(port, build(PartsConfig(planner="model")), rng=random.Random(1))
    return asyncio.run(orchestrator.answer(QUESTION, AskOptions())), orchestrator.counters


def test_the_planner_model_is_asked_and_its_plan_is_run() -> None:
    port = mesh(lambda _: [Done(text=plan_json(GOOD), finish="stop")])
    found, counters = asked(port)
    assert found.text == "12 + 30 = 42\n42 * 3 = 126"
    assert counters["plans_by_model"] == 1
    assert any(line["rule"] == "plan.model" for line in found.decisions)


@pytest.mark.parametrize(
    "planner",
    [
        breaks(ModelError("it crashed"), after=1),
        lambda _: [Done(text='{"steps": []}', finish="stop")],
        lambda _: [Done(text="I do not know.", finish="length")],
    ],
)
def test_a_planner_that_fails_or_talks_nonsense_leaves_the_plan_to_the_rules(
    planner: object,
) -> None:
    found, counters = asked(mesh(planner))
    assert found.text == "12 + 30 = 42\n42 * 3 = 126"
    assert counters["plans_by_rules"] == 1
    reasons = [line["action"] for line in found.decisions if line["rule"] == "plan.model"]
    assert len(reasons) == 1
    assert "by the rules instead" in str(reasons[0])


def test_without_a_planner_model_in_the_mesh_the_rules_plan() -> None:
    port = mesh(None)
    port.nodes = [node for node in port.nodes if node.name == "expert"]
    assert asked(port)[0].text == "12 + 30 = 42\n42 * 3 = 126"


def plan_of(*steps: Step) -> Plan:
    return Plan(steps=steps, method="test")


def routes(plan: Plan, name: str) -> dict[int, Route]:
    return {s.id: Route(name=name, probability=1.0, rule="test") for s in plan.steps}


CHAIN = plan_of(
    Step(id=1, question="name a river."),
    Step(id=2, question="describe {1}", depends=(1,)),
    Step(id=3, question="translate {2}", depends=(2,)),
)


def test_a_chain_of_light_steps_for_the_general_model_becomes_one() -> None:
    plan, left, gone = merge_light(CHAIN, routes(CHAIN, GENERAL), GENERAL, lambda _: 0.1)
    assert gone == 2
    assert [step.question for step in plan.steps] == [
        "name a river, then describe the result, then translate the result"
    ]
    assert set(left) == {1}


@pytest.mark.parametrize(("name", "difficulty"), [(ARITHMETIC, 0.1), (GENERAL, 0.9)])
def test_experts_and_hard_steps_are_left_as_they_are(name: str, difficulty: float) -> None:
    plan, _, gone = merge_light(CHAIN, routes(CHAIN, name), GENERAL, lambda _: difficulty)
    assert gone == 0
    assert plan == CHAIN


def test_a_result_that_two_steps_need_is_not_merged_away() -> None:
    fork = plan_of(
        Step(id=1, question="name a river"),
        Step(id=2, question="describe {1}", depends=(1,)),
        Step(id=3, question="praise {1}", depends=(1,)),
    )
    assert merge_light(fork, routes(fork, GENERAL), GENERAL, lambda _: 0.1)[2] == 0


def test_what_waits_for_a_merged_step_waits_for_what_it_went_into() -> None:
    plan = plan_of(
        Step(id=1, question="name a river"),
        Step(id=2, question="describe {1}", depends=(1,)),
        Step(id=3, question="what is 2 + 2"),
        Step(id=4, question="join {2} and {3}", depends=(2, 3)),
    )
    merged, _, gone = merge_light(plan, routes(plan, GENERAL), GENERAL, lambda _: 0.1)
    assert gone == 1
    assert merged.steps[-1].depends == (1, 3)
    assert merged.steps[-1].question == "join {1} and {3}"

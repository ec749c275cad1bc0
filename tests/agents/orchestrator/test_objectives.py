"""Three objectives: the policy's order, the best measured first, the weakest that will do."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from agents.orchestrator.objectives import arrange
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.port import Offer
from agents.scheduling.policies import Context
from mesh.core.errors import ConfigError
from mesh.core.records import ServedName
from tests.agents.fakes import ARITHMETIC, FakeMesh, FakeNode, says


def offer(name: str, rate: float, accuracy: float = -1.0, **more: object) -> Offer:
    made = Offer(
        node=name.encode(), node_name=name, served=ServedName(ARITHMETIC, accuracy=accuracy),
        me=False, healthy=True, load=0.0, slots=2, tokens_per_s=rate,
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


STRONG, WEAK, MIDDLE = offer("strong", 80, 0.7), offer("weak", 5, 0.9), offer("middle", 20, 0.8)
ORDER = [STRONG, MIDDLE, WEAK]


def arranged(objective: str, difficulty: float = 0.1, time_s: float = 60.0,
             order: list[Offer] = ORDER) -> list[str]:  # fmt: skip
    context = Context(rng=random.Random(1), objective=objective, time_left_s=time_s)
    found = arrange(order, context, difficulty=difficulty, answer_tokens=100)
    assert sorted(o.node for o in found.order) == sorted(o.node for o in order)
    return [one.node_name for one in found.order]


def test_latency_leaves_the_policys_order() -> None:
    assert arranged("latency") == ["strong", "middle", "weak"]


def test_accuracy_puts_the_best_measured_first() -> None:
    assert arranged("accuracy") == ["weak", "middle", "strong"]


def test_resources_gives_a_light_step_to_the_weakest_node() -> None:
    assert arranged("resources") == ["weak", "middle", "strong"]


def test_resources_leaves_a_hard_step_where_the_policy_put_it() -> None:
    assert arranged("resources", difficulty=0.9) == ["strong", "middle", "weak"]


def test_a_weak_node_that_would_be_late_is_not_first() -> None:
    assert arranged("resources", time_s=20.0)[0] == "middle"


@pytest.mark.parametrize("change", [{"load": 1.0}, {"battery": 0.1}])
def test_a_weak_node_that_is_full_or_low_on_battery_is_spared(change: dict[str, float]) -> None:
    order = [STRONG, MIDDLE, msgspec.structs.replace(WEAK, **change)]
    assert arranged("resources", order=order)[0] == "middle"


def test_the_objective_stands_in_the_trace_and_in_the_answer() -> None:
    port = FakeMesh(FakeNode("expert", {ARITHMETIC: says("48 * 27 = 1296")}))
    asking = Orchestrator(port, rng=random.Random(1)).answer(
        "What is 48 * 27?", AskOptions(objective="resources")
    )
    found = asyncio.run(asking)
    assert found.objective == "resources"
    assert any(line["rule"] == "objective" for line in found.decisions)


def test_an_unknown_objective_is_the_callers_mistake() -> None:
    asking = Orchestrator(FakeMesh()).answer("What is 48 * 27?", AskOptions(objective="fame"))
    with pytest.raises(ConfigError, match="objective"):
        asyncio.run(asking)

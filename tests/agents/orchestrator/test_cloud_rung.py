"""The cloud is the last rung: when it is asked, when not, and what is told of it."""

from __future__ import annotations

import asyncio
import random

import pytest

from agents.configure import PartsConfig, build
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.views import AnswerView
from capabilities.messages import Delta, Done, Evidence, Paid, Usage
from mesh.core.access import CLOUD
from mesh.core.errors import CapabilityFailed, GossamerError, PeerLost, Rejected
from mesh.core.wire import Reach
from tests.agents.fakes import ARITHMETIC, FakeMesh, FakeNode, breaks, says

QUESTION = "What is 48 * 27?"
SUM = says("48 * 27 = 1296")
UNSURE = says("48 * 27 = 1000", evidence=Evidence(mean_logprob=-4.0, min_probability=0.001))
PAID = Paid(provider="acme", model="large-1", cost=0.0012)


def from_cloud(_question: str) -> list[Delta | Done | GossamerError]:
    usage = Usage(prompt_tokens=20, completion_tokens=9)
    return [Delta(text="1296"), Done(text="1296", finish="stop", usage=usage, paid=PAID)]


def keyed(**changes: object) -> FakeNode:
    values: dict[str, object] = {"name": "keyed", "serves": {CLOUD: from_cloud}, **changes}
    return FakeNode(**values)  # type: ignore[arg-type]


def ask(mesh: FakeMesh, *, reach: Reach = Reach.CLOUD, **options: object) -> AnswerView:
    parts = build(PartsConfig(options={"escalation": options}))
    orchestrator = Orchestrator(mesh, parts, rng=random.Random(1))
    return asyncio.run(
        orchestrator.answer(QUESTION, AskOptions(reach=reach, name=ARITHMETIC, timeout_s=5.0))
    )


def full(name: str, times: int = 99) -> FakeNode:
    return FakeNode(name, {ARITHMETIC: SUM}, rejects=times, retry_after_s=3.0)


def lines(found: AnswerView, rule: str) -> list[str]:
    return [str(line["action"]) for line in found.decisions if line["rule"] == rule]


def test_an_idle_mesh_answers_without_the_cloud() -> None:
    cloud = keyed()
    found = ask(FakeMesh(FakeNode("expert", {ARITHMETIC: SUM}), cloud))
    assert found.nodes == ["expert"]
    assert found.cost == 0
    assert not cloud.calls


def test_full_nodes_are_left_for_the_cloud_after_one_redirect_and_the_answer_says_all() -> None:
    cloud = keyed()
    mesh = FakeMesh(full("a"), full("b"), full("c"), cloud)
    found = ask(mesh)
    assert len(cloud.calls) == 1
    assert sum(len(node.calls) for node in mesh.nodes) == 3
    assert (found.text, found.degraded, found.cost) == ("1296", False, 0.0012)
    (step,) = found.steps
    assert (step.name, step.node) == (CLOUD, "keyed")
    told = step.cloud
    assert told is not None
    assert (told.provider, told.model, told.prompt_tokens, told.completion_tokens) == (
        "acme", "large-1", 20, 9,
    )  # fmt: skip
    assert "the mesh could not" in told.why
    assert lines(found, "escalation.paid") == [f"acme answered with large-1: {told.why}"]


@pytest.mark.parametrize("reach", [Reach.NODE, Reach.GROUP, Reach.MESH])
def test_a_task_that_may_not_leave_never_gets_to_the_cloud(reach: Reach) -> None:
    cloud = keyed()
    found = ask(FakeMesh(full("a"), cloud), reach=reach)
    assert not cloud.calls
    assert found.degraded


def test_nobody_who_offers_the_name_leads_to_the_cloud() -> None:
    found = ask(FakeMesh(keyed()))
    assert found.text == "1296"


def test_an_unsure_answer_is_bettered_by_the_cloud() -> None:
    cloud = keyed()
    found = ask(FakeMesh(FakeNode("a", {ARITHMETIC: UNSURE}, model="small"), cloud))
    assert found.text == "1296"
    assert len(cloud.calls) == 1


def test_a_hopeless_answer_is_not_escalated() -> None:
    cloud = keyed()
    cascade = {"thresholds": [0.9], "gains": [0.0] * 10, "budget": 1.0, "questions": 50}
    found = ask(
        FakeMesh(FakeNode("a", {ARITHMETIC: UNSURE}, model="small"), cloud), cascade=cascade
    )
    assert not cloud.calls
    assert found.degraded
    assert any("hopeless" in line for line in lines(found, "escalation.cloud"))


def test_with_the_cloud_refusing_the_mesh_is_asked_on_and_answers() -> None:
    cloud = keyed(rejects=9, retry_after_s=40.0)
    found = ask(FakeMesh(full("a"), full("b"), FakeNode("c", {ARITHMETIC: SUM}, load=5.0), cloud))
    assert found.text == "48 * 27 = 1296"
    assert found.nodes == ["c"]
    assert len(cloud.calls) == 1


def test_when_all_refuse_the_answer_says_when_to_come_back() -> None:
    cloud = keyed(rejects=9, retry_after_s=40.0)
    found = ask(FakeMesh(full("a"), cloud))
    assert found.degraded
    assert found.retry_after_s > 0
    assert "ask again in" in found.missing[0]
    assert "the cloud by way of keyed" in found.missing[0]


@pytest.mark.parametrize(
    "error", [CapabilityFailed("broke"), PeerLost("gone"), Rejected("over budget")]
)
def test_a_cloud_that_breaks_off_midway_leaves_no_half_answer(error: GossamerError) -> None:
    cloud = keyed(serves={CLOUD: breaks(error, after=2)})
    other = keyed(name="second", priority=20)
    found = ask(FakeMesh(cloud, other))
    assert found.text == "1296"
    assert found.steps[0].node == "second"


def test_at_most_three_nodes_are_asked_for_the_cloud() -> None:
    clouds = [keyed(name=f"k{n}", rejects=9) for n in range(6)]
    found = ask(FakeMesh(*clouds))
    assert found.degraded
    assert sum(len(cloud.calls) for cloud in clouds) == 3


def test_a_plain_question_is_never_taken_for_one_about_the_cloud() -> None:
    cloud = keyed()
    mesh = FakeMesh(FakeNode("expert", {ARITHMETIC: SUM}), cloud)
    orchestrator = Orchestrator(mesh, rng=random.Random(1))
    question = "Which large model outside the mesh costs money?"
    asyncio.run(orchestrator.answer(question, AskOptions(timeout_s=2.0)))
    assert not cloud.calls


def test_asked_by_its_name_the_cloud_answers_once() -> None:
    cloud = keyed(rejects=99)
    mesh = FakeMesh(cloud)
    orchestrator = Orchestrator(mesh, rng=random.Random(1))
    options = AskOptions(reach=Reach.CLOUD, name=CLOUD, timeout_s=2.0)
    found = asyncio.run(orchestrator.answer(QUESTION, options))
    assert found.degraded
    assert 1 <= len(cloud.calls) <= 5

"""The way of a request over a fake mesh: the right name, the right node, whole or told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from agents.classifier.catalogue import KnownName
from agents.classifier.relevance import Relevance, Scored
from agents.configure import PartsConfig, build
from agents.orchestrator.events import (
    Answered,
    AskEvent,
    Failed,
    Finished,
    Planned,
    Retry,
    Started,
    StepDelta,
    event_json,
)
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.parts import Limits, Thresholds
from agents.views import AnswerView
from capabilities.messages import Delta, Done, Evidence, Message
from mesh.core.errors import (
    AccessDenied,
    CapabilityFailed,
    DeadlineExceeded,
    ModelError,
    NameInvalid,
    PeerLost,
)
from mesh.core.wire import Reach
from tests.agents.fakes import ARITHMETIC, GENERAL, MESH, FakeMesh, FakeNode, breaks, says, table

SUM = says("48 * 27 = 1296")
HELLO = says("Hello, I am the general model.")
UNSURE = Evidence(mean_logprob=-4.0, min_probability=0.001)
QUESTION = "What is 48 * 27?"


def general(**changes: object) -> FakeNode:
    values: dict[str, object] = {
        "name": "me",
        "serves": {GENERAL: HELLO, MESH: says("A mesh has no leader.")},
        "me": True,
        **changes,
    }
    return FakeNode(**values)  # type: ignore[arg-type]


def answer(mesh: FakeMesh, question: str = QUESTION, **options: object) -> AnswerView:
    orchestrator = Orchestrator(mesh, rng=random.Random(1))
    return asyncio.run(orchestrator.answer(question, AskOptions(**options)))  # type: ignore[arg-type]


def events(mesh: FakeMesh, question: str = QUESTION) -> list[AskEvent]:
    async def collect() -> list[AskEvent]:
        return [event async for event in Orchestrator(mesh, rng=random.Random(1)).ask(question)]

    return asyncio.run(collect())


def test_a_calculation_runs_on_the_expert_and_not_on_the_node_that_was_asked() -> None:
    found = answer(FakeMesh(general(), FakeNode("expert", {ARITHMETIC: SUM})))
    assert found.text == "48 * 27 = 1296"
    assert not found.degraded
    assert not found.missing
    assert found.nodes == ["expert"]
    (step,) = found.steps
    assert (step.name, step.node, step.status, step.remote) == (ARITHMETIC, "expert", "ok", True)
    assert found.asked == "me"


def test_events_tell_the_way_in_order_and_end_with_the_answer() -> None:
    seen = events(FakeMesh(general(), FakeNode("expert", {ARITHMETIC: SUM})))
    kinds = [type(event) for event in seen if not isinstance(event, StepDelta)]
    assert kinds == [Planned, Started, Finished, Answered]
    deltas = [event for event in seen if isinstance(event, StepDelta)]
    assert "".join(d.text for d in deltas if not d.thinking) == "48*27=1296"
    assert any(delta.thinking for delta in deltas)
    assert all(event_json(event)["type"] for event in seen)


def test_two_calculations_overlap_on_two_nodes() -> None:
    answers = table({"What is 48*27": "48 * 27 = 1296", "what is 12+30?": "12 + 30 = 42"})
    mesh = FakeMesh(
        general(), FakeNode("a", {ARITHMETIC: answers}), FakeNode("b", {ARITHMETIC: answers})
    )
    found = answer(mesh, "What is 48*27 and what is 12+30?")
    assert found.text == "48 * 27 = 1296\n12 + 30 = 42"
    assert mesh.most_at_once == 2
    assert set(found.nodes) == {"a", "b"}
    first, second = found.steps
    assert second.started_s < first.started_s + first.elapsed_s


def test_a_dependent_step_is_asked_with_the_text_of_its_parents_result() -> None:
    answers = table({"What is 12 + 30": "12 + 30 = 42", "multiply 42 by 3": "42 * 3 = 126"})
    mesh = FakeMesh(general(), FakeNode("a", {ARITHMETIC: answers}))
    found = answer(mesh, "What is 12 + 30, then multiply the result by 3")
    assert found.text == "12 + 30 = 42\n42 * 3 = 126"
    assert found.steps[1].depends == [1]
    assert mesh.most_at_once == 1


def test_a_step_whose_parent_failed_is_skipped_and_told() -> None:
    mesh = FakeMesh(general(), FakeNode("a", {ARITHMETIC: breaks(ModelError("crashed"))}))
    found = answer(mesh, "What is 12 + 30, then multiply the result by 3")
    assert [step.status for step in found.steps] == ["failed", "skipped"]
    assert found.degraded
    assert len(found.missing) == 2


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize(
    "error", [PeerLost("the link died"), ModelError("the worker crashed"), CapabilityFailed("no")]
)
def test_a_failure_before_or_while_streaming_is_asked_again_once_elsewhere(
    error: PeerLost, after: int
) -> None:
    mesh = FakeMesh(
        general(),
        FakeNode("bad", {ARITHMETIC: breaks(error, after=after)}),
        FakeNode("good", {ARITHMETIC: SUM}, load=0.5),
    )
    seen = events(mesh)
    found = seen[-1]
    assert isinstance(found, Answered)
    assert found.answer.text == "48 * 27 = 1296"
    assert not found.answer.degraded
    assert found.answer.steps[0].attempts == ["bad", "good"]
    (retry,) = [event for event in seen if isinstance(event, Retry)]
    assert error.message in retry.reason
    assert (retry.discarded_chars > 0) == (after > 0)


def test_a_half_answer_is_never_handed_on() -> None:
    mesh = FakeMesh(general(), FakeNode("bad", {ARITHMETIC: breaks(PeerLost("gone"), after=3)}))
    seen = events(mesh)
    found = seen[-1]
    assert isinstance(found, Answered)
    assert "half" not in found.answer.text
    assert "gone" in found.answer.text
    assert found.answer.degraded
    assert any(isinstance(event, Failed) for event in seen)


def test_a_stream_that_ends_without_its_end_is_a_failure() -> None:
    def cut(_question: str) -> list[Delta | Done | PeerLost]:
        return [Delta(text="12")]

    mesh = FakeMesh(
        general(),
        FakeNode("cut", {ARITHMETIC: cut}),  # type: ignore[dict-item]
        FakeNode("good", {ARITHMETIC: SUM}, load=0.5),
    )
    assert answer(mesh).text == "48 * 27 = 1296"


def test_a_link_that_dies_after_the_last_message_loses_nothing() -> None:
    def late(_question: str) -> list[Delta | Done | PeerLost]:
        return [Done(text="48 * 27 = 1296", finish="stop"), PeerLost("gone")]

    found = answer(FakeMesh(general(), FakeNode("a", {ARITHMETIC: late})))  # type: ignore[dict-item]
    assert found.text == "48 * 27 = 1296"
    assert not found.degraded


def test_only_as_many_nodes_are_tried_as_the_budget_allows() -> None:
    bad = [FakeNode(f"bad{n}", {ARITHMETIC: breaks(PeerLost("gone"))}) for n in range(4)]
    mesh = FakeMesh(general(), *bad)
    found = answer(mesh)
    assert len(found.steps[0].attempts) == 2
    assert sum(len(node.calls) for node in bad) == 2


def test_a_reject_is_redirected_to_another_node() -> None:
    mesh = FakeMesh(
        general(),
        FakeNode("full", {ARITHMETIC: SUM}, rejects=9),
        FakeNode("free", {ARITHMETIC: SUM}, load=0.5),
    )
    found = answer(mesh)
    assert found.steps[0].attempts == ["full", "free"]
    assert not found.degraded


def test_when_all_are_full_the_step_waits_for_a_slot() -> None:
    mesh = FakeMesh(general(), FakeNode("only", {ARITHMETIC: SUM}, rejects=2, retry_after_s=0.0))
    found = answer(mesh)
    assert found.text == "48 * 27 = 1296"
    assert found.steps[0].attempts == ["only"] * 3


def test_waiting_for_a_slot_ends() -> None:
    mesh = FakeMesh(general(), FakeNode("only", {ARITHMETIC: SUM}, rejects=99))
    found = answer(mesh, timeout_s=0.3)
    assert found.steps[0].status == "failed"
    assert "slots are taken" in found.text


def test_when_nobody_offers_the_name_the_answer_says_so_and_nobody_pretends() -> None:
    me = general()
    found = answer(FakeMesh(me))
    assert found.text == f"Nobody in the mesh offers {ARITHMETIC}."
    assert found.degraded
    assert found.missing == [found.text]
    assert me.calls == []


def test_when_every_node_of_a_name_is_dead_the_answer_says_so() -> None:
    me = general()
    found = answer(FakeMesh(me, FakeNode("dead", {ARITHMETIC: SUM}, healthy=False)))
    assert found.text.startswith(f"Nobody in the mesh offers {ARITHMETIC}")
    assert found.degraded
    assert me.calls == []


def test_a_name_that_may_not_be_used_is_told_apart_from_one_that_is_not_there() -> None:
    mesh = FakeMesh(general())
    mesh.broken[ARITHMETIC] = AccessDenied("no rule allows it")
    assert "may not use" in answer(mesh).text


def test_a_partial_answer_gives_what_there_is_and_says_what_is_missing() -> None:
    found = answer(FakeMesh(general()), "What is 3 + 4 and what is gossip?")
    assert "A mesh has no leader." in found.text
    assert "Nobody in the mesh offers" in found.text
    assert found.degraded
    assert len(found.missing) == 1


def test_a_question_that_fits_no_name_goes_to_the_general_model_and_is_flagged() -> None:
    found = answer(FakeMesh(general()), "What is the capital of France?")
    assert found.text == "Hello, I am the general model."
    assert found.steps[0].name == GENERAL
    assert found.degraded
    assert found.steps[0].confidence < 0.5


def test_small_talk_is_the_general_models_own_and_not_flagged() -> None:
    found = answer(FakeMesh(general()), "hello")
    assert found.steps[0].name == GENERAL
    assert not found.degraded


def test_an_unsure_answer_is_asked_of_another_model() -> None:
    mesh = FakeMesh(
        general(),
        FakeNode("unsure", {ARITHMETIC: says("48 * 27 = 12", evidence=UNSURE)}, model="tiny"),
        FakeNode("sure", {ARITHMETIC: SUM}, model="big", load=0.5),
    )
    found = answer(mesh)
    assert found.text == "48 * 27 = 1296"
    assert not found.degraded


def test_the_same_model_is_not_asked_twice_for_the_same_doubt() -> None:
    twin = FakeNode(
        "twin", {ARITHMETIC: says("48 * 27 = 12", evidence=UNSURE)}, model="tiny", load=0.5
    )
    mesh = FakeMesh(
        general(),
        FakeNode("unsure", {ARITHMETIC: says("48 * 27 = 12", evidence=UNSURE)}, model="tiny"),
        twin,
    )
    found = answer(mesh)
    assert twin.calls == []
    assert found.text == "48 * 27 = 12"
    assert found.degraded


def test_a_doubted_answer_is_kept_when_the_second_attempt_fails() -> None:
    mesh = FakeMesh(
        general(),
        FakeNode("unsure", {ARITHMETIC: says("48 * 27 = 12", evidence=UNSURE)}, model="tiny"),
        FakeNode("dead", {ARITHMETIC: breaks(PeerLost("gone"))}, model="big", load=0.5),
    )
    found = answer(mesh)
    assert found.text == "48 * 27 = 12"
    assert found.degraded


def test_an_expert_that_declines_is_quoted_and_flagged() -> None:
    mesh = FakeMesh(
        general(), FakeNode("a", {ARITHMETIC: says("I only add and subtract.")}, model="tiny")
    )
    found = answer(mesh, "What is 12 + 30, then multiply the result by 3")
    assert found.steps[0].text == "I only add and subtract."
    assert found.steps[1].status == "skipped"
    assert found.degraded


def test_when_the_general_model_declines_the_second_likeliest_name_is_asked() -> None:
    mesh = FakeMesh(
        general(serves={GENERAL: says("I cannot do that.")}),
        FakeNode("expert", {ARITHMETIC: says("12 plus 30 is 42")}),
    )
    thresholds = Thresholds(name=1.0, second=0.01)
    parts = build(PartsConfig(planner="whole", thresholds=thresholds))
    orchestrator = Orchestrator(mesh, parts, rng=random.Random(1))
    found = asyncio.run(orchestrator.answer("add 12 and 30"))
    assert found.text == "12 plus 30 is 42"
    assert found.steps[0].name == ARITHMETIC


AIR, TRAFFIC = "knowledge.gpt/air_quality", "knowledge.gpt/traffic"


class Likely:
    """A fake classifier: these names, most likely first, whatever is asked."""

    blocking = False

    def __init__(self, names: dict[str, float]) -> None:
        self._names = names

    def classify(self, question: str, names: Sequence[KnownName]) -> Relevance:
        ranked = tuple(Scored(f"knowledge.gpt/{name}", p) for name, p in self._names.items())
        none = 1.0 - sum(self._names.values())
        return Relevance(ranked=ranked, out_of_scope=none, method="fake")


def _asked(mesh: FakeMesh, **likely: float) -> AnswerView:
    parts = msgspec.structs.replace(build(PartsConfig(planner="whole")), classifier=Likely(likely))
    return asyncio.run(Orchestrator(mesh, parts, rng=random.Random(1)).answer("RR: 20"))


def test_each_expert_that_says_not_my_field_hands_on_to_the_next_likeliest() -> None:
    experts = {
        AIR: FakeNode("air", {AIR: says("I only judge air quality.")}),
        TRAFFIC: FakeNode("traffic", {TRAFFIC: says("I only judge traffic.")}),
        ARITHMETIC: FakeNode("right", {ARITHMETIC: says("It is 42.")}),
    }
    mesh = FakeMesh(general(), *experts.values())
    found = _asked(mesh, air_quality=0.6, traffic=0.25, arithmetic=0.09)
    assert found.text == "It is 42."
    assert found.steps[0].attempts == ["air", "traffic", "right"]
    assert not found.degraded


def test_a_name_that_was_never_likely_is_not_asked_when_the_expert_declines() -> None:
    far = FakeNode("far", {TRAFFIC: says("The road is free.")})
    mesh = FakeMesh(general(), FakeNode("air", {AIR: says("I only judge air quality.")}), far)
    found = _asked(mesh, air_quality=0.97, traffic=0.02)
    assert found.text == "I only judge air quality."
    assert found.degraded
    assert far.calls == []


def test_another_model_of_the_same_name_goes_before_another_name() -> None:
    mesh = FakeMesh(
        general(),
        FakeNode("small", {AIR: says("I only judge air quality.")}, model="small", priority=1),
        FakeNode("large", {AIR: says("Good.")}, model="large", priority=9),
        FakeNode("traffic", {TRAFFIC: says("The road is free.")}),
    )
    found = _asked(mesh, air_quality=0.6, traffic=0.3)
    assert found.steps[0].attempts == ["small", "large"]
    assert found.text == "Good."


def test_a_task_that_may_not_leave_the_node_does_not() -> None:
    expert = FakeNode("expert", {ARITHMETIC: SUM})
    found = answer(FakeMesh(general(), expert), reach=Reach.NODE)
    assert expert.calls == []
    assert found.degraded


def test_the_caller_may_name_the_name_and_the_node() -> None:
    nodes = [FakeNode(name, {ARITHMETIC: SUM}) for name in ("a", "b")]
    for wanted in ("a", "b"):
        found = answer(FakeMesh(general(), *nodes), "hello", name=f"{ARITHMETIC}@{wanted}")
        assert found.nodes == [wanted]


def test_a_name_outside_the_grammar_is_the_callers_mistake() -> None:
    with pytest.raises(NameInvalid):
        answer(FakeMesh(general()), name="arithmetic")


@pytest.mark.parametrize("question", ["", "   ", "x" * 100_000, "; ".join(["1+1"] * 9)])
def test_a_question_that_cannot_be_planned_is_answered_with_the_reason(question: str) -> None:
    found = answer(FakeMesh(general()), question)
    assert found.degraded
    assert found.text
    assert found.steps == []


def test_history_and_system_go_along_with_a_single_step() -> None:
    me = general()
    history = (Message("user", "hi"), Message("assistant", "hello"))
    answer(FakeMesh(me), "who are you?", system="Be brief.", history=history)
    assert [message.role for message in me.messages] == ["system", "user", "assistant", "user"]


def test_every_decision_leaves_a_line_under_one_trace() -> None:
    mesh = FakeMesh(
        general(),
        FakeNode("bad", {ARITHMETIC: breaks(PeerLost("gone"))}),
        FakeNode("good", {ARITHMETIC: SUM}, load=0.5),
    )
    found = answer(mesh)
    rules = [str(line["rule"]) for line in found.decisions]
    for rule in ("plan", "relevance", "policy.LoadAware", "escalation.expert", "execute.attempt"):
        assert rule in rules
    assert "escalation.another_peer" in rules
    assert rules[-1] == "aggregate"
    assert {task.trace.hex() for task in mesh.tasks} == {found.trace}


def test_with_the_cloud_allowed_and_none_configured_a_line_says_so() -> None:
    found = answer(FakeMesh(general()), reach=Reach.CLOUD)
    assert any(
        line["rule"] == "escalation.cloud" and "offers a cloud" in str(line["action"])
        for line in found.decisions
    )


def test_the_same_seed_decides_the_same() -> None:
    def once() -> AnswerView:
        nodes = [FakeNode(f"n{n}", {ARITHMETIC: SUM}) for n in range(5)]
        return answer(FakeMesh(general(), *nodes))

    assert once() == once()


def test_what_happens_is_counted() -> None:
    mesh = FakeMesh(
        general(),
        FakeNode("bad", {ARITHMETIC: breaks(PeerLost("gone"), after=2)}),
        FakeNode("good", {ARITHMETIC: SUM}, load=0.5),
    )
    orchestrator = Orchestrator(mesh, rng=random.Random(1))
    asyncio.run(orchestrator.answer(QUESTION))
    counted = orchestrator.counters
    assert counted["asks"] == counted["steps"] == counted["retries"] == 1
    assert counted["attempts"] == 2
    assert counted["failed.peer_lost"] == 1
    assert counted["discarded_chars"] > 0


def test_closing_the_events_cancels_what_is_under_way() -> None:
    async def leave_early() -> FakeMesh:
        mesh = FakeMesh(general(), FakeNode("a", {ARITHMETIC: SUM}))
        mesh.gate = asyncio.Event()
        stream = Orchestrator(mesh, rng=random.Random(1)).ask(QUESTION)
        async for event in stream:
            if isinstance(event, Started):
                await asyncio.sleep(0)
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return mesh

    mesh = asyncio.run(leave_early())
    assert mesh.running == 0


def test_a_reader_that_leaves_a_full_queue_behind_leaves_nothing_running() -> None:
    long = says(" ".join(str(n) for n in range(2000)))

    async def leave() -> FakeMesh:
        mesh = FakeMesh(general(serves={GENERAL: long}))
        stream = Orchestrator(mesh, rng=random.Random(1)).ask("hello")
        async for event in stream:
            if isinstance(event, StepDelta):
                break
        for _ in range(2000):  # until the queue is full and the stream waits
            await asyncio.sleep(0)
        await stream.aclose()  # type: ignore[attr-defined]
        return mesh

    assert asyncio.run(leave()).running == 0


def test_a_reader_that_is_slow_loses_no_event() -> None:
    long = says(" ".join(str(n) for n in range(2000)))

    async def slow() -> int:
        stream = Orchestrator(FakeMesh(general(serves={GENERAL: long}))).ask("hello")
        count = 0
        async for event in stream:
            await asyncio.sleep(0)
            count += isinstance(event, StepDelta)
        return count

    assert asyncio.run(slow()) == 2001


def test_a_node_that_hangs_leaves_time_for_another() -> None:
    late = breaks(DeadlineExceeded("the time given is over"))
    mesh = FakeMesh(
        general(),
        FakeNode("hangs", {ARITHMETIC: late}),
        FakeNode("good", {ARITHMETIC: SUM}, load=0.5),
    )
    found = answer(mesh, timeout_s=10.0)
    assert found.text == "48 * 27 = 1296"
    first, second = mesh.tasks
    assert first.deadline < second.deadline == pytest.approx(110.0)


def test_steps_above_the_limit_wait_their_turn() -> None:
    mesh = FakeMesh(general(), FakeNode("a", {ARITHMETIC: SUM}, slots=8))
    parts = build(PartsConfig(limits=Limits(concurrent=2)))
    orchestrator = Orchestrator(mesh, parts, rng=random.Random(1))
    found = asyncio.run(orchestrator.answer("1+1; 2+2; 3+3; 4+4; 5+5"))
    assert len(found.steps) == 5
    assert mesh.most_at_once == 2


def test_a_bug_in_a_part_is_raised_and_not_swallowed() -> None:
    class Broken:
        def plan(self, question: str) -> None:
            raise ZeroDivisionError(question)

    parts = msgspec.structs.replace(build(), planner=Broken())
    with pytest.raises(ZeroDivisionError):
        asyncio.run(Orchestrator(FakeMesh(general()), parts).answer("hello"))

"""A question's own policy, its patience, and what the policies are told of each call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from agents.configure import POLICIES, build
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.port import Offer
from agents.scheduling.policies import Context
from agents.scheduling.prediction import Outcome
from agents.views import AnswerView
from mesh.core.errors import ConfigError, PeerLost
from tests.agents.fakes import ARITHMETIC, FakeMesh, FakeNode, breaks, says

SUM = says("48 * 27 = 1296")
QUESTION = "What is 48 * 27?"


class Last:
    """A policy of a user's own: the last of the offers first. It writes down what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.contexts: list[Context] = []

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        self.contexts.append(context)
        return sorted(offers, key=lambda offer: offer.node_name, reverse=True)

    def observe(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def ask(mesh: FakeMesh, policy: object = None, **options: object) -> AnswerView:
    parts = build()
    if policy is not None:
        parts = msgspec.structs.replace(parts, policy=policy)
    asked = Orchestrator(mesh, parts, rng=random.Random(1))
    return asyncio.run(asked.answer(QUESTION, AskOptions(name=ARITHMETIC, **options)))  # type: ignore[arg-type]


def mesh_of(*names: str, **more: object) -> FakeMesh:
    return FakeMesh(*(FakeNode(name, {ARITHMETIC: SUM}, **more) for name in names))  # type: ignore[arg-type]


def test_a_question_may_bring_its_own_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES._added, "last", Last)
    mesh = FakeMesh(FakeNode("a", {ARITHMETIC: SUM}), FakeNode("b", {ARITHMETIC: SUM}, load=0.9))
    assert ask(mesh).nodes == ["a"]
    asked = Orchestrator(mesh, rng=random.Random(1))
    view = asyncio.run(asked.answer(QUESTION, AskOptions(name=ARITHMETIC, policy="last")))
    assert view.nodes == ["b"]


@pytest.mark.parametrize("name", ["no_such_policy", "os:system"])
def test_a_policy_that_is_not_installed_is_refused_before_anything_is_asked(name: str) -> None:
    mesh = mesh_of("a")
    asked = Orchestrator(mesh, rng=random.Random(1))
    with pytest.raises(ConfigError):
        asyncio.run(asked.answer(QUESTION, AskOptions(policy=name)))
    assert not mesh.nodes[0].calls


def test_a_policy_that_learns_is_told_how_every_call_went() -> None:
    policy = Last()
    mesh = FakeMesh(
        FakeNode("a", {ARITHMETIC: SUM}),
        FakeNode("b", {ARITHMETIC: breaks(PeerLost("gone"), after=1)}),
        FakeNode("c", {ARITHMETIC: SUM}, rejects=1),
    )
    assert ask(mesh, policy).nodes == ["a"]
    assert [(o.node[:1], o.status) for o in policy.outcomes] == [
        (b"c", "rejected"),
        (b"b", "failed"),
        (b"a", "ok"),
    ]
    assert policy.outcomes[-1].first_token_s >= 0
    assert policy.outcomes[-1].tokens > 0


def test_the_policy_sees_what_will_be_asked_and_how_long_there_is() -> None:
    policy = Last()
    ask(mesh_of("a"), policy, timeout_s=12.0, max_tokens=77, patience_s=3.0)
    context = policy.contexts[0]
    assert context.job.answer_tokens == 77
    assert context.job.prompt_tokens > 0
    assert 0 < context.time_left_s <= 12.0
    assert context.patience_s == 3.0


def test_calls_under_way_are_given_back_however_they_end() -> None:
    mesh = FakeMesh(FakeNode("a", {ARITHMETIC: breaks(PeerLost("gone"))}))
    asked = Orchestrator(mesh, rng=random.Random(1))
    asyncio.run(asked.answer(QUESTION, AskOptions(name=ARITHMETIC)))
    assert asked._executor.dispatch.flights.counts() == {}


def test_who_says_nothing_within_the_patience_is_left_for_another() -> None:
    class Silent(FakeMesh):
        async def call(self, offer: Offer, *rest: object, **more: object):  # type: ignore[no-untyped-def]
            if offer.node_name == "b":
                await asyncio.sleep(3600)
            async for message in super().call(offer, *rest, **more):  # type: ignore[arg-type]
                yield message

    mesh = Silent(FakeNode("a", {ARITHMETIC: SUM}), FakeNode("b", {ARITHMETIC: SUM}))
    view = ask(mesh, Last(), patience_s=0.05, timeout_s=30.0)
    assert view.nodes == ["a"]
    assert view.steps[0].attempts == ["b", "a"]


def test_full_nodes_are_stood_in_line_at_together() -> None:
    mesh = mesh_of("a", "b", "c", load=1.0)
    view = ask(mesh)
    assert not view.degraded
    assert sum(bool(node.calls) for node in mesh.nodes) == 3
    assert mesh.running == 0

"""Where a choice is close and the figures are old, the candidates are asked; else nobody is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from agents.classifier.matching import Need
from agents.configure import build
from agents.orchestrator.freshness import WAIT_S, confirm, refreshed, worth_asking
from agents.orchestrator.orchestrator import Orchestrator
from agents.port import Offer
from agents.scheduling.policies import Context, LoadAware, Policy, Random, Weighted
from mesh.core.records import ServedName
from mesh.core.wire import Load
from tests.agents.fakes import FakeMesh, FakeNode, says

NAME = "knowledge.gpt/x"
PARTS = build()
NOW = 1000.0


def offer(name: str, load: float = 0.6, seen_at: float = NOW - 3, **fields: object) -> Offer:
    described: dict[str, object] = {"served": ServedName(NAME), "me": False, "healthy": True}
    node = name.encode().ljust(16, b"\0")
    return msgspec.convert(
        {
            "node": node,
            "node_name": name,
            "load": load,
            "slots": 4,
            "seen_at": seen_at,
            **described,
            **fields,
        },
        Offer,
    )


def asked(*order: Offer, policy: Policy | None = None) -> list[str]:
    nodes = worth_asking(order, policy or LoadAware(), Context(rng=random.Random(1), now=NOW))
    return [node.rstrip(b"\0").decode() for node in nodes]


def test_two_candidates_alike_whose_figures_are_old_are_asked() -> None:
    assert asked(offer("a"), offer("b", 0.7)) == ["a", "b"]


@pytest.mark.parametrize(
    "order",
    [
        (),
        (offer("a"),),
        (offer("a", 0.5), offer("b", 1.2)),
        (offer("a", seen_at=NOW), offer("b", seen_at=NOW)),
        (offer("a", 0.0), offer("b", 0.1)),
        (offer("a", me=True), offer("b")),
        (offer("a"), offer("b", served=ServedName(NAME, priority=20))),
    ],
    ids=["nobody", "no choice", "clear", "fresh", "calm", "own", "priority decides"],
)
def test_nobody_is_asked_where_an_answer_could_change_nothing(order: tuple[Offer, ...]) -> None:
    assert asked(*order) == []


@pytest.mark.parametrize("policy", [Random(), Weighted()])
def test_a_policy_that_does_not_look_at_load_asks_for_none(policy: Policy) -> None:
    assert asked(offer("a"), offer("b"), policy=policy) == []


def test_who_answered_has_a_fresh_figure_and_who_was_silent_keeps_the_old() -> None:
    a, b = offer("a"), offer("b")
    fresh = refreshed([a, b], {a.node: Load(3, 2, 4, 20.0)}, NOW)
    assert (fresh[0].load, fresh[0].seen_at, fresh[0].tokens_per_s) == (1.25, NOW, 20.0)
    assert fresh[1] == b


def decide(mesh: FakeMesh) -> tuple[list[str], str]:
    offers = mesh.resolve(NAME, None)  # type: ignore[arg-type]
    context = Context(rng=random.Random(1))
    allotted, line = asyncio.run(confirm(mesh, NAME, offers, Need(), PARTS, context))
    return [one.node_name for one in allotted.order], line


def busy_pair() -> FakeMesh:
    says_yes = says("yes")
    return FakeMesh(
        *(
            FakeNode(name=name, serves={NAME: says_yes}, load=load, slots=4)
            for name, load in (("a", 0.6), ("b", 0.7))
        )
    )


def test_fresh_figures_turn_the_order_and_the_line_says_so() -> None:
    mesh = busy_pair()
    mesh.fresh = {mesh.nodes[0].id: Load(4, 3, 4), mesh.nodes[1].id: Load(0, 0, 4)}
    assert decide(mesh) == (["b", "a"], "asked 2 for their load, 2 answered: b before a now")


def test_silence_leaves_the_order_as_it_was() -> None:
    mesh = busy_pair()
    order, line = decide(mesh)
    assert order == ["a", "b"]
    assert line == "asked 2 for their load, 0 answered: the order stays"
    assert 0 < WAIT_S < 1


def test_two_steps_that_ask_at_once_do_not_choose_the_same_node() -> None:
    class Asked(FakeMesh):
        async def fresh_loads(self, nodes: Sequence[bytes], timeout_s: float) -> dict[bytes, Load]:
            await asyncio.sleep(0.01)  # both steps are asking now
            self.time += 0.001
            # "a" is ahead, until one more call is there.
            return {n: Load(1, 0, 4) if n.startswith(b"a") else Load(3, 0, 8) for n in nodes}

    nodes = [FakeNode(name, {NAME: says("yes")}, load=0.6) for name in "ab"]
    for node in nodes:
        node.serves["knowledge.gpt/arithmetic"] = says("= 1")
    asking = Orchestrator(Asked(*nodes), rng=random.Random(1))
    found = asyncio.run(asking.answer("What is 48*27 and what is 12+30?"))
    assert set(found.nodes) == {"a", "b"}

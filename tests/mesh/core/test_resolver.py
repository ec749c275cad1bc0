"""A name to endpoints: health, priority, free slots, then chance by weight."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mesh.core.cms import Store
from mesh.core.errors import AccessDenied, NameInvalid, NobodyHealthy, NoSuchName
from mesh.core.events import PeerState
from mesh.core.records import ServedName
from mesh.core.resolver import Resolver
from mesh.sim.cheap import CheapScheme

from .people import NOW, Mesh, Person

MESH = Mesh(scheme=CheapScheme())
X = "knowledge.gpt/x"
PEOPLE = [MESH.person(f"n{n}") for n in range(60)]


class Scene:
    """A store, and states and loads that a test may set."""

    def __init__(self, *offers: tuple[Person, ServedName]) -> None:
        self.store = Store(MESH.trust)
        for person, served in offers:
            self.store.merge(person.profile(served), NOW)
        self.states: dict[bytes, PeerState] = {}
        self.loads: dict[bytes, float] = {}
        self.resolver = Resolver(
            self.store,
            random.Random(7),
            lambda node: self.states.get(node, PeerState.ALIVE),
            lambda node: self.loads.get(node, 0.0),
        )

    def names(self, address: str = X, **how: object) -> list[str]:
        return [c.member.name for c in self.resolver.resolve(address, **how)]  # type: ignore[arg-type]


def offer(index: int, **fields: int) -> tuple[Person, ServedName]:
    return PEOPLE[index], ServedName(X, **fields)  # type: ignore[arg-type]


def test_lower_priority_comes_first() -> None:
    scene = Scene(offer(0, priority=20), offer(1, priority=5), offer(2, priority=10))
    assert scene.names() == ["n1", "n2", "n0"]


def test_choice_among_equals_follows_weight() -> None:
    weights = {"n0": 10, "n1": 20, "n2": 70}
    scene = Scene(*(offer(n, weight=w) for n, w in enumerate(weights.values())))
    picks = Counter(scene.names()[0] for _ in range(10_000))
    chi_square = sum((picks[n] - w * 100) ** 2 / (w * 100) for n, w in weights.items())
    assert chi_square < 13.8  # two degrees of freedom, one in a thousand; the seed is fixed


def test_choice_among_very_many_follows_weight_too() -> None:
    scene = Scene(*(offer(n, weight=30 if n < 20 else 10) for n in range(60)))
    picks = Counter(int(scene.names()[0][1:]) < 20 for _ in range(4000))
    assert abs(picks[True] / 4000 - 0.6) < 0.03


def test_a_full_node_comes_after_a_free_one_of_the_same_priority() -> None:
    scene = Scene(offer(0, weight=1000), offer(1, weight=1))
    scene.loads[PEOPLE[0].node] = 1.0
    assert scene.names() == ["n1", "n0"]


def test_suspects_come_last_whatever_their_priority() -> None:
    scene = Scene(offer(0, priority=0), offer(1, priority=50))
    scene.states[PEOPLE[0].node] = PeerState.SUSPECT
    assert scene.names() == ["n1", "n0"]


def test_the_three_ways_to_fail_differ() -> None:
    scene = Scene(offer(0), offer(1))
    with pytest.raises(NoSuchName):
        scene.names("knowledge.gpt/other")
    with pytest.raises(AccessDenied):
        scene.names(allowed=lambda name, member: False)
    for person in PEOPLE[:2]:
        scene.states[person.node] = PeerState.DEAD
    with pytest.raises(NobodyHealthy, match="n0, n1"):
        scene.names()
    with pytest.raises(NameInvalid):
        scene.names("nonsense")


def test_policy_is_asked_with_the_name_and_the_member() -> None:
    scene = Scene(offer(0), offer(1))
    assert scene.names(allowed=lambda name, member: (name, member.name) == (X, "n1")) == ["n1"]


def test_the_excluded_are_not_chosen() -> None:
    scene = Scene(offer(0), offer(1))
    assert scene.names(exclude={PEOPLE[0].node}) == ["n1"]
    with pytest.raises(NobodyHealthy):
        scene.names(exclude={PEOPLE[0].node, PEOPLE[1].node})


def test_a_dead_endpoint_is_tried_at_most_once() -> None:
    # Nobody knows yet that they are dead; whoever calls leaves out what it has tried.
    scene = Scene(*(offer(n) for n in range(50)))
    living = PEOPLE[42].node
    tried: list[bytes] = []
    while not tried or tried[-1] != living:
        tried.append(scene.resolver.resolve(X, exclude=tried)[0].node)
    assert len(tried) == len(set(tried))
    # And once membership knows, they are not tried at all.
    scene.states = {person.node: PeerState.DEAD for person in PEOPLE if person.node != living}
    assert scene.names() == ["n42"]


def test_an_address_asks_for_one_node() -> None:
    scene = Scene(offer(0), offer(1))
    assert scene.names(f"{X}@n1") == ["n1"]
    with pytest.raises(NoSuchName, match="n9"):
        scene.names(f"{X}@n9")


def test_one_healthy_node_among_many_dead_is_found() -> None:
    scene = Scene(*(offer(n) for n in range(60)))
    scene.states = {person.node: PeerState.DEAD for person in PEOPLE if person is not PEOPLE[42]}
    assert scene.names() == ["n42"]


def test_names_are_listed_by_pattern_with_how_many_are_healthy() -> None:
    scene = Scene(offer(0), offer(1), (PEOPLE[2], ServedName("knowledge.gpt/y/z")))
    scene.states[PEOPLE[0].node] = PeerState.DEAD
    listed = {entry.name: entry.healthy for entry in scene.resolver.names("knowledge.gpt/**")}
    assert listed == {X: 1, "knowledge.gpt/y/z": 1}
    assert [entry.name for entry in scene.resolver.names("knowledge.gpt/*")] == [X]
    assert scene.resolver.names("data.gpt/**") == []

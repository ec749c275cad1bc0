"""At whose doors a node knocks, and when."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.clock import Now
from mesh.core.doors import Doors, DoorsConfig, KnownDoor, Origin, on_link


def key(number: int) -> bytes:
    return number.to_bytes(32)


def at(seconds: float) -> Now:
    return Now(seconds, 1e9 + seconds)


def doors(**config: float) -> Doors:
    return Doors(random.Random(1), DoorsConfig(**config))  # type: ignore[arg-type]


def knocks(
    known: Doors, seconds: float, *, alone: bool = True, living: set[bytes] | None = None
) -> list[KnownDoor]:
    return known.due(at(seconds), alone=alone, living=living or set())


def test_a_seed_is_knocked_at_until_it_has_answered_and_again_only_when_alone() -> None:
    known = doors()
    known.seed("tcp://s:1", key(1))
    (seed,) = knocks(known, 0.0, alone=False)
    assert knocks(known, 0.1, alone=False) == []  # under way
    assert not known.failed(seed, at(4.0))
    assert knocks(known, 4.1, alone=False) == []
    assert knocks(known, 7.0, alone=False) == [seed]
    known.answered(seed, at(7.1))
    assert knocks(known, 1000.0, alone=False) == []
    assert knocks(known, 1001.0, alone=True) == [seed]


def test_pauses_grow_to_a_bound_and_never_end() -> None:
    known = doors()
    known.seed("tcp://s:1", key(1))
    now, last = 0.0, 0.0
    for _ in range(40):
        while not (due := knocks(known, now)):
            now += 0.5
        assert now - last <= 30.0 * 1.25 + 0.5
        last = now
        known.failed(due[0], at(now))
    assert now > 30.0 * 20  # mostly at the bound by then


def test_remembered_members_are_knocked_at_only_while_alone_and_at_once_when_company_is_lost() -> (
    None
):
    known = doors()
    known.remember({key(1): "tcp://a:1", key(2): "tcp://b:1"})
    assert knocks(known, 0.0, alone=False) == []
    first = knocks(known, 1.0)
    assert {d.address for d in first} == {"tcp://a:1", "tcp://b:1"}
    for door in first:
        for _ in range(6):
            known.failed(door, at(2.0))
    assert knocks(known, 3.0) == []
    knocks(known, 3.5, alone=False)
    assert len(knocks(known, 4.0)) == 2  # alone again: the old pauses are forgotten
    known.remember({key(2): "tcp://moved:1"})
    assert len(known) == 1


def test_a_stranger_is_given_up_after_some_tries_and_each_try_takes_the_next_address() -> None:
    known = doors(stranger_tries=3)
    known.heard_of(key(1), ["tcp://a:1", "tcp://b:1"], at(0.0))
    tried = []
    now = 1.0
    while len(known):
        for door in knocks(known, now):
            tried.append(door.address)
            known.failed(door, at(now))
        now += 1.0
    assert tried == ["tcp://a:1", "tcp://b:1", "tcp://a:1"]
    assert known.counters["strangers_given_up"] == 1


def test_a_stranger_that_has_become_a_living_peer_is_not_knocked_at() -> None:
    known = doors()
    known.heard_of(key(1), ["tcp://a:1"], at(0.0))
    assert knocks(known, 10.0, alone=False, living={key(1)}) == []
    assert len(known) == 0


def test_a_node_with_company_leaves_the_first_knock_to_the_newcomer() -> None:
    known = doors()
    knocks(known, 0.0, alone=False)
    known.heard_of(key(1), ["tcp://a:1"], at(0.0))
    assert knocks(known, 0.5, alone=False) == []
    assert len(knocks(known, 6.0, alone=False)) == 1


def test_a_flood_of_announcements_is_bounded_in_memory_in_knocks_and_does_not_shut_others_out() -> (
    None
):
    known = doors(max_strangers=8)
    for number in range(1000):
        known.heard_of(key(number), ["tcp://victim:1"], at(0.0))
    assert len(known) == 8
    assert known.counters["strangers_dropped"] == 992
    knocked = 0
    for step in range(600):  # a minute
        now = 1.0 + step / 10
        for door in knocks(known, now):
            knocked += 1
            known.failed(door, at(now))
        known.heard_of(key(2000 + step), ["tcp://victim:1"], at(now))
    config = DoorsConfig()
    assert knocked <= config.knock_burst + 61 * config.knocks_per_s
    reached = set()
    for second in range(63, 120):  # the flood is over; mDNS tells of its services again
        known.heard_of(key(5000), ["tcp://honest:1"], at(float(second)))
        for door in knocks(known, float(second)):
            reached.add(door.address)
            known.failed(door, at(float(second)))
    assert "tcp://honest:1" in reached


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("hfad")), max_size=200))
def test_no_more_doors_are_under_way_than_allowed_whatever_happens(
    steps: list[tuple[int, str]],
) -> None:
    known = doors(max_under_way=3)
    known.seed("tcp://s:1", key(99))
    under_way: list[KnownDoor] = []
    for step, (number, what) in enumerate(steps):
        now = step * 0.3
        if what == "h":
            known.heard_of(key(number), ["tcp://a:1"], at(now))
        elif what == "d":
            under_way += knocks(known, now, alone=bool(number % 2))
        elif under_way:
            door = under_way.pop()
            (known.failed if what == "f" else known.answered)(door, at(now))
        assert len(under_way) <= 3
        assert all(door.origin in Origin for door in under_way)


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("10.0.0.7", True),
        ("10.0.1.7", False),
        ("8.8.8.8", False),
        ("169.254.3.4", True),
        ("no address", False),
        ("fe80::1", False),
    ],
)
def test_only_addresses_on_an_own_link_are_knocked_at(address: str, near: bool) -> None:
    assert on_link(address, ["10.0.0.2/24", "169.254.9.9/16"]) is near

"""A policy orders willing nodes; it never adds, drops or repeats one."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.configure import POLICIES
from agents.port import Offer
from agents.scheduling.policies import Context, in_line
from mesh.core.records import ServedName


def offer(
    name: str,
    *,
    load: float = 0.0,
    me: bool = False,
    priority: int = 10,
    weight: int = 10,
    slots: int = 2,
    tokens_per_s: float = 10.0,
    accuracy: float = -1.0,
) -> Offer:
    return Offer(
        node=name.encode(),
        node_name=name,
        served=ServedName("knowledge.gpt/x", priority=priority, weight=weight, accuracy=accuracy),
        me=me,
        healthy=True,
        load=load,
        slots=slots,
        tokens_per_s=tokens_per_s,
    )


def context(seed: int = 1, **values: object) -> Context:
    return Context(rng=random.Random(seed), **values)  # type: ignore[arg-type]


def first_counts(policy: str, offers: list[Offer], tries: int = 2000) -> Counter[str]:
    rng = Context(rng=random.Random(7))
    part = POLICIES.create(policy)
    return Counter(part.order(offers, rng)[0].node_name for _ in range(tries))


@pytest.mark.parametrize("policy", ["random", "weighted", "load_aware"])
@given(loads=st.lists(st.floats(0, 3), max_size=8), seed=st.integers(0, 2**32))
def test_the_order_is_a_permutation(policy: str, loads: list[float], seed: int) -> None:
    offers = [offer(f"n{n}", load=load) for n, load in enumerate(loads)]
    ordered = POLICIES.create(policy).order(offers, context(seed))
    assert sorted(o.node_name for o in ordered) == sorted(o.node_name for o in offers)


@pytest.mark.parametrize("policy", ["random", "weighted", "load_aware"])
def test_the_same_seed_gives_the_same_order(policy: str) -> None:
    offers = [offer(f"n{n}") for n in range(6)]
    part = POLICIES.create(policy)
    assert part.order(offers, context(3)) == part.order(offers, context(3))


def test_random_does_not_care_for_capacity() -> None:
    counts = first_counts("random", [offer("strong", tokens_per_s=90), offer("weak")])
    assert abs(counts["strong"] - counts["weak"]) < 200  # about 4.5 standard deviations


def test_weighted_prefers_the_strong_in_proportion() -> None:
    counts = first_counts("weighted", [offer("strong", tokens_per_s=30), offer("weak")])
    assert 0.7 < counts["strong"] / 2000 < 0.8  # three quarters


def test_weighted_keeps_to_priorities() -> None:
    counts = first_counts("weighted", [offer("second", priority=20, weight=99), offer("first")])
    assert counts["first"] == 2000


def test_load_aware_takes_the_least_busy() -> None:
    offers = [offer("busy", load=0.9), offer("idle", load=0.1), offer("half", load=0.5)]
    ordered = POLICIES.create("load_aware").order(offers, context())
    assert [o.node_name for o in ordered] == ["idle", "half", "busy"]


def test_load_aware_prefers_this_node_when_the_choice_is_equal() -> None:
    for seed in range(20):
        ordered = POLICIES.create("load_aware").order(
            [offer("peer"), offer("me", me=True)], context(seed)
        )
        assert ordered[0].me


def test_own_calls_count_before_gossip_tells_of_them() -> None:
    offers = [offer("a"), offer("b")]
    ordered = POLICIES.create("load_aware").order(offers, context(dispatched={b"a": 1}))
    assert ordered[0].node_name == "b"


def test_a_full_node_comes_after_one_of_worse_priority_that_is_free() -> None:
    offers = [offer("full", load=1.0, priority=1), offer("free", priority=50)]
    ordered = POLICIES.create("load_aware").order(offers, context())
    assert ordered[0].node_name == "free"


def test_the_objective_accuracy_goes_by_what_was_measured() -> None:
    offers = [offer("fast", accuracy=0.7), offer("exact", accuracy=0.99, load=0.5)]
    ordered = POLICIES.create("load_aware").order(offers, context(objective="accuracy"))
    assert ordered[0].node_name == "exact"


def test_a_request_stands_in_line_only_where_its_first_choice_is_full() -> None:
    free, full = offer("free", load=0.5), [offer(f"n{n}", load=1.0) for n in range(4)]
    assert in_line([free, *full], context(1), 3) == (free,)
    assert in_line([*full, free], context(1), 3) == tuple(full[:3])
    assert in_line(full, context(1), 0) == (full[0],)
    assert in_line([], context(1), 3) == ()

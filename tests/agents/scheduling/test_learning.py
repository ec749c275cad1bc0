"""The policies that learn: whom each puts first, and what changes its mind."""

from __future__ import annotations

import math
import random
from collections import Counter

import msgspec
import pytest

from agents.configure import POLICIES
from agents.scheduling.constrained_ucb import ConstrainedUcb
from agents.scheduling.flights import Flights
from agents.scheduling.policies import Context
from agents.scheduling.prediction import Job, Outcome
from agents.scheduling.predictive import Predictive
from agents.scheduling.prequal import Prequal
from tests.agents.scheduling.test_policies import context, offer

LEARNING = ["predictive", "prequal", "constrained_ucb"]
NAME = "knowledge.gpt/x"


def outcome(node: str, rate: float, *, tokens: int = 100, **more: object) -> Outcome:
    values = {
        "first_token_s": 1 / rate,
        "total_s": tokens / rate,
        "tokens": tokens,
        "deadline_s": 60.0,
    }
    return Outcome(node=node.encode(), name=NAME, at=0.0, **{**values, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [*LEARNING, "power_of_two"])
def test_the_order_is_a_permutation_whatever_was_seen(policy: str) -> None:
    rng = random.Random(11)
    part = POLICIES.create(policy)
    offers = [offer(f"n{n}", load=rng.random() * 3, slots=rng.randrange(4)) for n in range(9)]
    for _ in range(50):
        ordered = part.order(offers, context(1))
        assert sorted(o.node_name for o in ordered) == sorted(o.node_name for o in offers)
        if policy in LEARNING:
            part.observe(outcome(f"n{rng.randrange(12)}", rng.random() * 50 + 0.1))  # type: ignore[attr-defined]
    assert part.order([], context(1)) == []


@pytest.mark.parametrize("policy", LEARNING)
def test_a_node_that_turned_slow_is_left(policy: str) -> None:
    part = POLICIES.create(policy)
    offers = [offer("a", tokens_per_s=20), offer("b", tokens_per_s=12)]
    for _ in range(100):
        part.order(offers, context(1))
        part.observe(outcome("a", 20.0))  # type: ignore[attr-defined]
        part.observe(outcome("b", 12.0))  # type: ignore[attr-defined]
    assert part.order(offers, context(1))[0].node_name == "a"
    for _ in range(20):
        part.observe(outcome("a", 2.0))  # type: ignore[attr-defined]
    assert part.order(offers, context(1))[0].node_name == "b"


def test_power_of_two_never_takes_the_busier_of_the_two_it_draws() -> None:
    part = POLICIES.create("power_of_two")
    offers = [offer("idle"), offer("half", load=0.5), offer("full", load=1.0)]
    rng = Context(rng=random.Random(3))
    counts = Counter(part.order(offers, rng)[0].node_name for _ in range(900))
    assert counts["full"] == 0
    assert counts["idle"] > counts["half"] > 0


def test_prequal_prefers_the_fastest_of_the_cold_and_leaves_the_hot() -> None:
    part = Prequal()
    offers = [offer("slow"), offer("fast"), offer("hot", load=2.0)]
    for _ in range(8):
        part.observe(outcome("slow", 5.0))
        part.observe(outcome("fast", 20.0))
        part.observe(outcome("hot", 100.0))
    assert [o.node_name for o in part.order(offers, context(1))] == ["fast", "slow", "hot"]


def test_prequal_refuses_a_quantile_that_is_none() -> None:
    with pytest.raises(TypeError):
        Prequal(hot_quantile=1.5)


def test_predictive_counts_its_own_calls_that_no_report_holds_yet() -> None:
    part, flights = Predictive(), Flights()
    offers = [offer("a", tokens_per_s=11), offer("b", tokens_per_s=10)]
    for _ in range(2):
        flights.open(b"a", 5.0)
    assert part.order(offers, context(1, flights=flights, now=5.0))[0].node_name == "b"


def test_predictive_goes_where_the_prompt_was_read_before() -> None:
    part = Predictive()
    job = Job(prompt_tokens=4000, answer_tokens=20, prefix=(1, 2, 3), block_tokens=1000)
    offers = [offer("a"), offer("b")]
    part.order(offers, context(1, job=job))
    part.observe(outcome("b", 10.0, prefix=(1, 2, 3)))
    assert part.order(offers, context(1, job=job))[0].node_name == "b"


def test_predictive_puts_what_would_miss_the_deadline_last() -> None:
    part = Predictive()
    late = offer("late", tokens_per_s=1, priority=1)
    order = part.order(
        [late, offer("right")], context(1, job=Job(answer_tokens=50), time_left_s=10.0)
    )
    assert [o.node_name for o in order] == ["right", "late"]


def test_predictive_spares_an_empty_battery_where_the_choice_is_near() -> None:
    tired = msgspec.structs.replace(offer("tired", tokens_per_s=11), battery=0.05)
    order = Predictive().order([tired, offer("fresh", tokens_per_s=10)], context(1))
    assert order[0].node_name == "fresh"


def test_predictive_takes_the_thriftier_of_two_about_as_fast_and_waits_for_no_joule() -> None:
    part = Predictive()
    for name in ("thirsty", "thrifty"):
        part.order([offer(name)], context(1))
        part.observe(outcome(name, 10.0))
    thirsty = msgspec.structs.replace(offer("thirsty", tokens_per_s=10), joules_per_token=2.0)
    thrifty = msgspec.structs.replace(offer("thrifty", tokens_per_s=10), joules_per_token=0.5)
    assert part.order([thirsty, thrifty], context(1))[0] is thrifty
    full = msgspec.structs.replace(thrifty, load=1.0)
    assert part.order([thirsty, full], context(1))[0] is thirsty
    silent = msgspec.structs.replace(thirsty, joules_per_token=0.0)
    assert {part.order([silent, thrifty], context(n))[0].node_name for n in range(20)} == {
        "thirsty",
        "thrifty",
    }  # who says nothing is not taken for the worst


def test_predictive_tries_a_newcomer_at_once_and_then_goes_by_what_it_did() -> None:
    part = Predictive()
    old, new = offer("old", tokens_per_s=20), offer("new", tokens_per_s=12)
    part.order([old], context(1))
    part.observe(outcome("old", 20.0))
    assert part.order([old, new], context(1))[0] is new
    under_way = Flights()
    flight = under_way.open(new.node, 0.0)
    told = msgspec.structs.replace(context(1), flights=under_way)
    assert part.order([old, new], told)[0] is old  # one request finds out as much as several
    under_way.close(flight)
    part.observe(outcome("new", 12.0, status="rejected"))
    assert part.order([old, new], told)[0] is old


@pytest.mark.parametrize("change", [{"load": 1.0}, {"tokens_per_s": 2.0}])
def test_predictive_tries_nobody_who_is_full_or_slow_by_its_own_word(
    change: dict[str, float],
) -> None:
    part = Predictive()
    old = offer("old", tokens_per_s=20)
    new = msgspec.structs.replace(offer("new", tokens_per_s=20), **change)
    part.order([old], context(1))
    part.observe(outcome("old", 20.0))
    assert part.order([old, new], context(1))[0] is old


def test_constrained_ucb_takes_no_arm_that_breaks_a_constraint_while_another_keeps_it() -> None:
    part = ConstrainedUcb()
    offers = [offer("slow", tokens_per_s=1), offer("good", tokens_per_s=20)]
    for seed in range(50):
        made = context(seed, job=Job(answer_tokens=100), time_left_s=20.0)
        assert part.order(offers, made)[0].node_name == "good"
        part.observe(outcome("good", 20.0, deadline_s=20.0))


def test_constrained_ucb_minds_the_accuracy_floor() -> None:
    part = ConstrainedUcb()
    offers = [offer("fast", tokens_per_s=90, accuracy=0.5), offer("right", accuracy=0.9)]
    assert part.order(offers, context(1, accuracy_floor=0.8))[0].node_name == "right"


def test_constrained_ucb_looks_at_an_arm_that_it_does_not_know() -> None:
    part = ConstrainedUcb()
    offers = [offer("known"), offer("new")]
    part.order(offers, context(1))
    for _ in range(20):
        part.observe(outcome("known", 10.0))
    assert part.order(offers, context(1))[0].node_name == "new"


def test_a_limit_on_waiting_of_none_is_infinite() -> None:
    assert context(1).patience_s == math.inf

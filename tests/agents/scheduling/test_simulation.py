"""The simulator: every request has one end, limits hold, and the article's order comes out."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.configure import POLICIES
from agents.scheduling.sim.bound import cloud_bound
from agents.scheduling.sim.central import central_queue
from agents.scheduling.sim.experiments import Bench, relative, rules_for, summary
from agents.scheduling.sim.mesh import Simulation
from agents.scheduling.sim.model import Change, Rules, Served
from agents.scheduling.sim.workload import (
    Machine,
    Request,
    article_hour,
    fit_trace,
    jetsons,
    parse_trace,
)
from mesh.core.errors import ConfigError

POLICY_NAMES = POLICIES.names()


def simulate(
    policy: str,
    requests: list[Request],
    rules: Rules,
    machines: list[Machine] | None = None,
    changes: tuple[Change, ...] = (),
) -> list[Served]:
    boards = machines or jetsons()
    return Simulation(
        boards, requests, lambda: POLICIES.create(policy), rules, random.Random(1), changes
    ).run()


def minutes(seed: int = 1, seconds: float = 400.0) -> list[Request]:
    return article_hour(random.Random(seed), seconds=seconds)


@pytest.mark.parametrize("policy", POLICY_NAMES)
@pytest.mark.parametrize("limit_s", [0.0, 5.0])
def test_every_request_ends_once_in_the_mesh_or_in_the_cloud(policy: str, limit_s: float) -> None:
    load = minutes()
    served = simulate(policy, load, rules_for(policy, limit_s))
    assert sorted(one.at for one in served) == [request.at for request in load]
    assert all((one.cost > 0) == (one.node < 0) for one in served)


@given(seed=st.integers(0, 999), limit_s=st.sampled_from([0.0, 2.0, 20.0]), ties=st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_no_board_ever_works_on_more_than_its_slots(seed: int, limit_s: float, ties: int) -> None:
    rules = Rules(limit_s=limit_s, queue=16, redirects=1, ties=ties, ingress=3, age_s=1.0)
    boards = jetsons()
    served = simulate("predictive", minutes(seed), rules)
    edges = []
    for one in served:
        if one.node >= 0:
            end = one.at + one.total_s
            begin = end - one.answer / boards[one.node].tokens_per_s
            edges += [(begin + 1e-6, 1, one.node), (end - 1e-6, -1, one.node)]
            assert begin - one.at <= limit_s + 1e-6
    busy = [0] * len(boards)
    for _, change, node in sorted(edges):
        busy[node] += change
        assert busy[node] <= boards[node].slots


def test_the_same_seed_gives_the_same_run() -> None:
    rules = Rules(ingress=4, age_s=2.0, redirects=1, ask_fresh=True)
    runs = [summary(simulate("predictive", minutes(), rules)) for _ in range(2)]
    assert runs[0] == runs[1]


def test_the_articles_order_holds() -> None:
    found = Bench(POLICIES.create).hour(["random", "weighted", "load_aware"], [5])
    costs = {policy: ratios[0] for policy, ratios in relative(found, "random").items()}
    assert costs["load_aware"] < costs["weighted"] < costs["random"] == 1.0


def test_asking_for_fresh_load_makes_up_for_old_gossip() -> None:
    load = minutes(3, 900.0)
    old = summary(simulate("predictive", load, Rules(ingress=8, age_s=5.0))).cost
    asked = summary(simulate("predictive", load, Rules(ingress=8, age_s=5.0, ask_fresh=True))).cost
    assert asked < old


def test_a_board_that_turns_slow_gets_less() -> None:
    lost = Bench(POLICIES.create).turned_slow("predictive", 2)
    assert lost > 0.5


def test_a_board_that_joins_gets_work_and_none_before() -> None:
    served = simulate(
        "load_aware", minutes(), Rules(), changes=(Change(at=200.0, node=0, factor=0),)
    )
    at_it = [one.at for one in served if one.node == 0]
    assert at_it
    assert min(at_it) >= 200.0


def test_the_central_queue_keeps_every_request_and_its_limit() -> None:
    load = minutes()
    served = central_queue(jetsons(), load, Rules(limit_s=5.0))
    assert sorted(one.at for one in served) == [request.at for request in load]
    assert all(one.first_token_s <= 5.0 + 1 / 12 + 1e-9 for one in served if one.node >= 0)


@pytest.mark.parametrize("limit_s", [0.0, 5.0])
def test_nobody_pays_less_than_the_bound(limit_s: float) -> None:
    load, rules = minutes(), Rules(limit_s=limit_s)
    bound = cloud_bound(jetsons(), load, rules, rounds=60)
    assert 0 < bound <= summary(central_queue(jetsons(), load, rules)).cost
    assert bound <= summary(simulate("predictive", load, rules_for("predictive", limit_s))).cost


def test_the_bound_is_exact_where_one_slot_must_choose() -> None:
    board = [Machine(name="b", tokens_per_s=10.0, slots=1)]
    load = [Request(at=1.0, prompt=0, answer=100), Request(at=1.0, prompt=0, answer=50)]
    rules = Rules()
    bound = cloud_bound(board, load, rules, rounds=400)
    assert bound == pytest.approx(rules.prices.cost(0, 50), rel=0.05)
    assert bound <= rules.prices.cost(0, 50) + 1e-12


def test_the_linear_programs_bound_is_higher_and_still_below_every_schedule() -> None:
    pytest.importorskip("scipy")  # of the benchmarks only
    from benchmarks._scheduling_bound import tight_bound

    load, rules = minutes(), Rules()
    bound = tight_bound(jetsons(), load, rules)
    assert cloud_bound(jetsons(), load, rules, rounds=100) <= bound + 1e-9
    assert bound <= summary(central_queue(jetsons(), load, rules)).cost
    assert bound <= summary(simulate("predictive", load, rules_for("predictive"))).cost


def test_what_the_mesh_can_serve_costs_nothing_in_the_bound() -> None:
    load = [Request(at=float(n), prompt=10, answer=10) for n in range(20)]
    assert cloud_bound(jetsons(), load, Rules(), rounds=10) == pytest.approx(0.0, abs=1e-9)


def test_traces_of_both_formats_are_read() -> None:
    azure = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
    )
    mooncake = "\n".join(
        json.dumps({"timestamp": t, "input_length": 5, "output_length": 7, "hash_ids": [t]})
        for t in (3000, 0)
    )
    one, two = parse_trace(azure), parse_trace(mooncake)
    assert [(r.prompt, r.answer) for r in one] == [(374, 44), (396, 109)]
    assert one[1].at == pytest.approx(4.314579)
    assert [(r.at, r.prefix) for r in two] == [(0.0, (0,)), (3.0, (3000,))]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        '{"timestamp": 1}',
        "{broken",
        "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,-4,1\n",
    ],
)
def test_what_is_no_trace_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_trace(text)


def test_a_trace_is_thinned_to_the_mesh_and_keeps_its_times() -> None:
    load = [Request(at=n / 10, prompt=100, answer=300) for n in range(4000)]
    boards = jetsons()
    kept = fit_trace(load, boards, random.Random(1), load=0.5, context=8192)
    offered = sum(r.answer for r in kept) / 400.0
    assert offered == pytest.approx(0.5 * 480, rel=0.15)
    assert {r.at for r in kept} <= {r.at for r in load}


def test_a_trace_of_prompts_that_fit_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="fits"):
        fit_trace(
            [Request(at=0.0, prompt=9000, answer=1)],
            jetsons(),
            random.Random(1),
            load=1.0,
            context=100,
        )


def test_a_cached_prefix_is_read_once() -> None:
    board = [
        Machine(name="b", tokens_per_s=10.0, slots=1, prompt_tokens_per_s=100.0, cache_blocks=8)
    ]
    load = [Request(at=t, prompt=1024, answer=1, prefix=(1, 2)) for t in (1.0, 60.0)]
    first, second = simulate("predictive", load, Rules(limit_s=math.inf, queue=4), board)
    assert second.first_token_s < first.first_token_s / 5

"""The experiments on scheduling: each a function of seeds that returns plain figures."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev

import msgspec

from agents.scheduling.policies import Policy
from agents.scheduling.sim.central import central_queue
from agents.scheduling.sim.mesh import Simulation
from agents.scheduling.sim.model import Change, Rules, Served
from agents.scheduling.sim.workload import (
    BASE_PER_S,
    BURST_PER_S,
    Machine,
    Request,
    article_hour,
    fit_trace,
    jetsons,
)

ARTICLE = ("random", "weighted", "load_aware")
LIMITS_S = (0.0, 5.0, 20.0)  # before the first token
AGES_S = (0.0, 1.0, 2.0, 5.0)
TIES = 4  # lines that one request stands in; more gains little, and each is a message
QUEUE = 128  # places in line at each node; requests in four lines leave three of them
REDIRECTS = 1  # as the ladder has it
TRACE_LOAD = 1.0  # as much work as the mesh can just do: bursts above it, lulls below
TRACE_CONTEXT = 8192  # tokens: what a board of that size holds for a request
# An endpoint turns slow at minute ten of twenty.
TURNS_AT_S = 600.0
TURNS_SECONDS = 1200.0
TURNS_BY = 5.0
DECISIONS = 60

Factory = Callable[[str], Policy]
Told = Callable[[str], None]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Cost in dollars; latencies in seconds, of all requests, the cloud's among them."""

    cost: float
    requests: int
    cloud_share: float
    first_token_p50: float
    first_token_p99: float
    completion_mean: float
    completion_p99: float
    mesh_tokens: int


def summary(served: Sequence[Served]) -> Summary:
    """The figures of one run."""
    first = sorted(one.first_token_s for one in served)
    total = sorted(one.total_s for one in served)
    return Summary(
        cost=sum(one.cost for one in served),
        requests=len(served),
        cloud_share=sum(one.node < 0 for one in served) / len(served),
        first_token_p50=_quantile(first, 0.5),
        first_token_p99=_quantile(first, 0.99),
        completion_mean=mean(total),
        completion_p99=_quantile(total, 0.99),
        mesh_tokens=sum(one.answer for one in served if one.node >= 0),
    )


def _quantile(ranked: Sequence[float], share: float) -> float:
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation, least and most over seeds."""
    return {
        "mean": round(mean(values), 4),
        "sd": round(stdev(values), 4) if len(values) > 1 else 0.0,
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def rules_for(policy: str, limit_s: float = 0.0) -> Rules:
    """How a mesh under ``policy`` is run: the article's three choose once and reject when the
    chosen node is busy; the others are asked elsewhere once, and may stand in line."""
    if policy in ARTICLE or limit_s <= 0:
        redirects = 0 if policy in ARTICLE else REDIRECTS
        return Rules(redirects=redirects)
    return Rules(limit_s=limit_s, queue=QUEUE, redirects=REDIRECTS, ties=TIES)


class Bench:
    """Runs simulations; ``make`` turns a policy's name into one, ``told`` hears of progress."""

    def __init__(self, make: Factory, told: Told = lambda _: None) -> None:
        self._make = make
        self._told = told

    def serve(
        self,
        policy: str,
        seed: int,
        requests: Sequence[Request],
        rules: Rules,
        machines: Sequence[Machine],
        changes: Sequence[Change] = (),
    ) -> list[Served]:
        """One run of one policy."""
        rng = random.Random(seed)
        return Simulation(machines, requests, lambda: self._make(policy), rules, rng, changes).run()

    def hour(
        self,
        policies: Sequence[str],
        seeds: Sequence[int],
        *,
        base: float = BASE_PER_S,
        burst: float = BURST_PER_S,
        limit_s: float = 0.0,
        requests: Callable[[int], Sequence[Request]] | None = None,
        machines: Sequence[Machine] | None = None,
    ) -> dict[str, list[Summary]]:
        """Each policy over the same loads; ``requests`` makes the load of a seed in place of
        the article's hour. ``central_queue`` is taken for a policy."""
        boards = jetsons() if machines is None else machines
        found: dict[str, list[Summary]] = {policy: [] for policy in policies}
        for seed in seeds:
            if requests is not None:
                load = requests(seed)
            else:
                load = article_hour(random.Random(seed), base, burst)
            for policy in policies:
                self._told(f"seed {seed}: {policy}, {len(load)} requests")
                if policy == "central_queue":
                    served = central_queue(boards, load, Rules(limit_s=limit_s))
                else:
                    rules = rules_for(policy, limit_s)
                    served = self.serve(policy, seed, load, rules, boards)
                found[policy].append(summary(served))
        return found

    def stale(
        self,
        policy: str,
        seeds: Sequence[int],
        ages_s: Sequence[float],
        *,
        ingress: int = 8,
        ask_fresh: bool = True,
    ) -> dict[float, list[Summary]]:
        """The reference point with eight asking nodes, each with a gossiped picture of that age;
        when a choice is close they ask a few candidates for their load."""
        found: dict[float, list[Summary]] = {}
        for age_s in ages_s:
            rules = msgspec.structs.replace(
                rules_for(policy), ingress=ingress, age_s=age_s, ask_fresh=ask_fresh
            )
            found[age_s] = []
            for seed in seeds:
                self._told(f"seed {seed}: {policy}, gossip {age_s:g} s old")
                load = article_hour(random.Random(seed))
                found[age_s].append(summary(self.serve(policy, seed, load, rules, jetsons())))
        return found

    def slow_node(self, policy: str, seed: int) -> dict[str, float]:
        """Four boards that claim the same rate, one of them ten times slower, at 95 % of what
        they can do: throughput as a share of an oracle's, which is told the true rates; and how
        long a fifth board that joins idle waits for its first work."""
        boards = [
            Machine(name=f"n{n}", tokens_per_s=3.0 if n == 0 else 30.0, slots=4, claims=30.0)
            for n in range(5)
        ]
        told = [msgspec.structs.replace(board, claims=board.tokens_per_s) for board in boards]
        rng = random.Random(seed)
        four = sum(board.tokens_per_s * board.slots for board in boards[:4])
        rate = 0.95 * four / MEAN_SIZE
        load = article_hour(rng, rate, rate, 1800.0)
        # At most a few seconds of waiting: work that queues at the slow node is work lost.
        rules = rules_for(policy, 5.0)
        joins_at = 1200.0
        changes = [Change(at=joins_at, node=4, factor=0)]
        real = self.serve(policy, seed, load, rules, boards, changes)
        oracle = central_queue(told[:4], load, rules)
        before = [one for one in real if one.at < joins_at]
        best = [one for one in oracle if one.at < joins_at]
        share = summary(before).mesh_tokens / summary(best).mesh_tokens
        first = [one.at for one in real if one.node == 4]
        # The first start there is the arrival of the request plus what it waited in line.
        starts = [
            one.at + one.first_token_s - 1 / boards[4].tokens_per_s for one in real if one.node == 4
        ]
        newcomer_s = min(starts) - joins_at if first else float("inf")
        return {"share": share, "newcomer_s": max(0.0, newcomer_s)}

    def turned_slow(self, policy: str, seed: int) -> float:
        """One strong board turns five times slower at minute ten: the share of its share that it
        has lost in the decisions after the next sixty."""
        boards = jetsons()
        load = article_hour(random.Random(seed), 2.0, 2.0, TURNS_SECONDS)
        change = Change(at=TURNS_AT_S, node=0, factor=1 / TURNS_BY)
        rules = rules_for(policy, 5.0)
        served = sorted(
            self.serve(policy, seed, load, rules, boards, [change]), key=lambda one: one.decided
        )
        before = [one for one in served if one.at < TURNS_AT_S]
        after = [one for one in served if one.at >= TURNS_AT_S][DECISIONS:]
        was = sum(one.chosen == 0 for one in before) / len(before)
        now = sum(one.chosen == 0 for one in after) / len(after)
        return 1 - now / was if was else 0.0


MEAN_SIZE = 142.5  # tokens of a request of the article's hour, by its sizes and weights


def trace_load(
    requests: Sequence[Request], machines: Sequence[Machine]
) -> Callable[[int], Sequence[Request]]:
    """Loads thinned from a trace, one for each seed."""

    def load(seed: int) -> Sequence[Request]:
        rng = random.Random(seed)
        return fit_trace(requests, machines, rng, load=TRACE_LOAD, context=TRACE_CONTEXT)

    return load


def relative(found: Mapping[str, Sequence[Summary]], to: str) -> dict[str, list[float]]:
    """Cost of each policy relative to ``to``, seed by seed."""
    base = found[to]
    return {
        policy: [
            one.cost / other.cost if other.cost else 0.0
            for one, other in zip(runs, base, strict=True)
        ]
        for policy, runs in found.items()
    }

"""The parts of benchmarks.scheduling that run in the simulator, over seeds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from agents.configure import POLICIES
from agents.scheduling.sim.experiments import (
    AGES_S,
    LIMITS_S,
    Bench,
    Summary,
    relative,
    spread,
    trace_load,
)
from agents.scheduling.sim.model import Rules
from agents.scheduling.sim.workload import (
    BASE_PER_S,
    BURST_PER_S,
    SWEEP,
    Machine,
    Request,
    article_hour,
    jetsons,
    parse_trace,
)
from benchmarks._report import Options, progress

SEEDS = 20
QUICK_SEEDS = 3
ALL = ("random", "weighted", "load_aware", "power_of_two", "prequal", "constrained_ucb")
SMALLEST_BOUND = 0.05  # of random's cost; below it a ratio to the bound says nothing

Load = Callable[[int], Sequence[Request]]


def _seeds(options: Options) -> range:
    count = options.more.seeds or (QUICK_SEEDS if options.quick else SEEDS)
    return range(options.seed, options.seed + count)


def _bench() -> Bench:
    return Bench(POLICIES.create)


def article(options: Options) -> dict[str, Any]:
    """Cost relative to random at the reference point, and over the sweep."""
    seeds = _seeds(options)
    found = _bench().hour([*ALL, "predictive", "central_queue"], seeds)
    figures: dict[str, Any] = {
        policy: spread(values) for policy, values in relative(found, "random").items()
    }
    figures["cloud_share"] = {p: spread([s.cloud_share for s in r]) for p, r in found.items()}
    sweep = {}
    for base, burst in SWEEP:
        progress(f"  sweep {base:g}/{burst:g}")
        three = _bench().hour(("random", "weighted", "load_aware"), seeds, base=base, burst=burst)
        costs = relative(three, "random")
        sweep[f"{base:g}/{burst:g}"] = {
            "weighted": spread(costs["weighted"]),
            "load_aware": spread(costs["load_aware"]),
            "strict_order_share": mean(
                load < weight < 1.0
                for load, weight in zip(costs["load_aware"], costs["weighted"], strict=True)
            ),
        }
    figures["sweep"] = sweep
    return figures


def _loads(options: Options) -> dict[str, tuple[Load, list[Machine]]]:
    """The article's hour, and each trace fitted to the mesh."""
    loads: dict[str, tuple[Load, list[Machine]]] = {
        "article": (
            lambda seed: article_hour(random.Random(seed), BASE_PER_S, BURST_PER_S),
            jetsons(),
        )
    }
    for path in options.more.trace:
        boards = jetsons(prompts=True)
        requests = parse_trace(Path(path).read_text(encoding="utf-8"))
        loads[Path(path).stem] = (trace_load(requests, boards), boards)
    return loads


def predictive(options: Options) -> dict[str, Any]:
    """Cost of predictive relative to load_aware at three limits on waiting, and to the central
    queue with the same limit; latencies beside it."""
    figures: dict[str, Any] = {}
    for name, (load, boards) in _loads(options).items():
        here: dict[str, Any] = {}
        bench, seeds = _bench(), _seeds(options)
        base = bench.hour(["load_aware"], seeds, requests=load, machines=boards)["load_aware"]
        here["load_aware"] = _latencies(base)
        for limit_s in LIMITS_S:
            progress(f"  {name}, limit {limit_s:g} s")
            found = bench.hour(
                ["predictive", "central_queue"],
                seeds,
                limit_s=limit_s,
                requests=load,
                machines=boards,
            )
            mine, central = found["predictive"], found["central_queue"]
            here[f"{limit_s:g}"] = {
                "cost": spread(_ratios(mine, base)),
                "to_central_queue": spread(_ratios(mine, central)),
                **_latencies(mine),
            }
        if name == "article":
            figures.update(here)
        else:
            figures[name] = here
    return figures


def _ratios(mine: Sequence[Summary], other: Sequence[Summary]) -> list[float]:
    return [
        one.cost / two.cost if two.cost else float(one.cost > 0) + 1.0
        for one, two in zip(mine, other, strict=True)
    ]


def _latencies(runs: Sequence[Summary]) -> dict[str, Any]:
    return {
        "p99_latency": spread([run.first_token_p99 for run in runs]),
        "p50_latency": spread([run.first_token_p50 for run in runs]),
        "completion_mean": spread([run.completion_mean for run in runs]),
        "cloud_share": spread([run.cloud_share for run in runs]),
    }


def to_bound(options: Options) -> dict[str, Any]:
    """Cost of predictive over the clairvoyant lower bound with the same limit on waiting."""
    from benchmarks._scheduling_bound import tight_bound  # it brings scipy: only who needs it

    figures: dict[str, Any] = {}
    seeds = _seeds(options)
    for name, (load, boards) in _loads(options).items():
        here: dict[str, Any] = {}
        for limit_s in LIMITS_S:
            progress(f"  {name}, limit {limit_s:g} s")
            found = _bench().hour(
                ["random", "predictive", "central_queue"],  # random never waits
                seeds,
                limit_s=limit_s,
                requests=load,
                machines=boards,
            )
            rules = Rules(limit_s=limit_s)
            bounds = [tight_bound(boards, load(seed), rules) for seed in seeds]
            random_costs = [run.cost for run in found["random"]]
            share = mean(b / r for b, r in zip(bounds, random_costs, strict=True))
            entry: dict[str, Any] = {"bound_to_random": round(share, 4)}
            if share >= SMALLEST_BOUND:
                for policy in ("predictive", "central_queue"):
                    costs = [run.cost for run in found[policy]]
                    ratios = [c / b for c, b in zip(costs, bounds, strict=True)]
                    entry[policy] = spread(ratios)
            here[f"{limit_s:g}"] = entry
        figures[name] = here
    return figures


def staleness(options: Options) -> dict[str, Any]:
    """Cost with gossiped load aged, relative to fresh, seed by seed; with nobody asked beside."""
    bench, seeds = _bench(), _seeds(options)
    figures: dict[str, Any] = {}
    for key, ask_fresh in (("", True), ("nobody_asked", False)):
        found = bench.stale("predictive", seeds, AGES_S, ask_fresh=ask_fresh)
        fresh = found[0.0]
        ages = {f"{age:g}": spread(_ratios(runs, fresh)) for age, runs in found.items()}
        figures.update({key: ages} if key else ages)
    return figures


def slow_node(options: Options) -> dict[str, Any]:
    """Share of the oracle's throughput, and how long a newcomer waits for work."""
    figures: dict[str, Any] = {}
    for policy in ("predictive", "load_aware"):
        runs = [_bench().slow_node(policy, seed) for seed in _seeds(options)]
        figures[policy] = {
            key: spread([run[key] for run in runs]) for key in ("share", "newcomer_s")
        }
    return {**figures.pop("predictive"), **figures}


def turned_slow(options: Options) -> dict[str, Any]:
    """Share lost by an endpoint that turned five times slower, after sixty decisions."""
    policies = ("predictive", "constrained_ucb", "prequal", "load_aware")
    lost = {
        policy: spread([_bench().turned_slow(policy, seed) for seed in _seeds(options)])
        for policy in policies
    }
    return {**lost.pop("predictive"), **lost}


PARTS = {
    "article": article,
    "predictive": predictive,
    "to_bound": to_bound,
    "staleness": staleness,
    "slow_node": slow_node,
    "turned_slow": turned_slow,
}

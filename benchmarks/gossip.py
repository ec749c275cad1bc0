"""Membership, gossip and the store: how fast, how quiet, how often wrong.

python -m benchmarks.gossip --json              all of it, about half an hour on two cores
python -m benchmarks.gossip --json --quick      a few seeds, for CI
python -m benchmarks.gossip --json --only core  one part: core, rounds, starved, sim, real

Times of `sim` are virtual and do not depend on the machine; those of `real` and `core` do.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks._real_mesh import LightNode, RealMesh, loopback_bytes, private_network
from benchmarks._report import Options, progress, run
from mesh.core.clock import Now
from mesh.core.cms import Store, StoreConfig
from mesh.core.events import PeerState
from mesh.core.identity import Authority, NodeKeys, Signed, Trust, make_passport, new_keys
from mesh.core.node import NodeCoreConfig
from mesh.core.records import (
    MAX_STATUS_BYTES,
    Device,
    Endpoints,
    Kind,
    Profile,
    ServedName,
    Status,
    seal,
)
from mesh.core.resolver import Resolver
from mesh.sim import scenarios
from mesh.sim.network import Link
from mesh.sim.rounds import Beat
from mesh.sim.scenarios import FalseDeaths

WALL = 1_800_000_000.0
SIZES = (8, 32, 128, 512, 1000)
TRIALS = {8: 200, 32: 200, 128: 100, 512: 10, 1000: 5}
STEADY_S = 65.0  # see MembershipConfig.steady_s
Samples = dict[str, list[float]]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below this share of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50 and p99, and of how many."""
    return {
        "p50": round(percentile(values, 0.5), 2),
        "p99": round(percentile(values, 0.99), 2),
        "n": len(values),
    }


# -- the store and the resolver ---------------------------------------------------------------


class Signer:
    """Nodes of one mesh with real signatures, and the records that they sign."""

    def __init__(self) -> None:
        self._authority = Authority(os.urandom(32))
        self.trust = Trust(self._authority.key)

    def keys(self) -> NodeKeys:
        return new_keys(os.urandom)

    def profile(self, keys: NodeKeys, name: str, served: tuple[ServedName, ...]) -> Signed:
        certificate = self._authority.certify(
            key=keys.key,
            name=name,
            groups=("bench",),
            publish=("knowledge.gpt/**",),
            not_before=WALL - 86400.0,
            not_after=WALL + 86400.0,
            serial=os.urandom(8),
        )
        record = Profile(
            kind=Kind.PROFILE,
            node=keys.node,
            incarnation=1,
            sequence=1,
            issued=WALL,
            expires=WALL + 3600.0,
            passport=make_passport(keys, certificate, self.trust.mesh),
            endpoints=Endpoints("tcp://10.0.0.1:4000", "tcp://10.0.0.1:4001"),
            names=served,
            device=Device(kind="bench"),
        )
        return seal(keys.signing, self.trust.mesh, record)

    def status(self, keys: NodeKeys, sequence: int) -> Signed:
        """With a load, two tasks and a note, as a working node's."""
        status = Status(
            kind=Kind.STATUS,
            node=keys.node,
            incarnation=1,
            sequence=sequence,
            issued=WALL + sequence,
            expires=WALL + sequence + 600.0,
            load=0.75,
            inflight=3,
            queued=1,
            slots=4,
            tokens_per_s=21.5,
            note="2 experts loaded",
            tasks=(("7f3a9c", 0.5), ("81bd02", 0.25)),
            temperature_c=61.5,
        )
        return seal(keys.signing, self.trust.mesh, status)


def per_second(items: Sequence[Any], do: Callable[[Any], object]) -> float:
    """How many a second one core does, by CPU time: others may use the machine too."""
    start = time.process_time()
    for item in items:
        do(item)
    return len(items) / (time.process_time() - start)


def core_figures(options: Options) -> dict[str, Any]:
    """Merging and resolving with real signatures, on one core."""
    signer = Signer()
    store = Store(signer.trust, StoreConfig(burst=1e9))
    now = Now(1.0, WALL)
    keys = [signer.keys() for _ in range(50)]
    for number, one in enumerate(keys):
        store.merge(signer.profile(one, f"n{number}", ()), now)
    rounds = 40 if options.quick else 400
    fresh = [signer.status(one, 2 + step) for step in range(rounds) for one in keys]
    new_rate = per_second(fresh, lambda signed: store.merge(signed, Now(1.0, WALL + 500.0)))
    stale_rate = per_second(fresh * 5, lambda signed: store.merge(signed, Now(1.0, WALL + 500.0)))
    current = fresh[-50:] * (100 * rounds // 40)
    again_rate = per_second(current, lambda signed: store.merge(signed, Now(1.0, WALL + 500.0)))
    progress(
        f"merge: {new_rate:.0f} new, {stale_rate:.0f} stale, {again_rate:.0f} doubled a second"
    )
    typical = signer.status(keys[0], 9999)
    return {
        "merge_new_per_s": round(new_rate),
        "merge_stale_per_s": round(stale_rate),
        "merge_again_per_s": round(again_rate),
        "record_bytes": {
            "typical": len(typical.payload) + len(typical.signature),
            "cap": MAX_STATUS_BYTES,
        },
        **resolving(signer, options),
    }


def resolving(signer: Signer, options: Options) -> dict[str, Any]:
    """A thousand nodes with five names each, of a hundred names: fifty servers of each."""
    store = Store(signer.trust, StoreConfig(burst=1e9))
    rng = random.Random(options.seed)
    names = [f"knowledge.gpt/topic_{number}" for number in range(100)]
    for number in range(1000):
        served = tuple(ServedName(name) for name in rng.sample(names, 5))
        profile = signer.profile(signer.keys(), f"n{number}", served)
        store.merge(profile, Now(1.0, WALL))
    resolver = Resolver(store, rng, lambda _: PeerState.ALIVE, lambda _: 0.3)
    took_us: list[float] = []
    for _ in range(2_000 if options.quick else 20_000):
        name = rng.choice(names)
        start = time.perf_counter_ns()
        resolver.resolve(name)
        took_us.append((time.perf_counter_ns() - start) / 1000)
    took_us = took_us[len(names) :]
    progress(f"resolve: p99 {percentile(took_us, 0.99):.0f} us")
    return {
        "resolve_us_p50": round(percentile(took_us, 0.5), 1),
        "resolve_us_p99": round(percentile(took_us, 0.99), 1),
    }


# -- under virtual time -----------------------------------------------------------------------


def rounds_figures(options: Options) -> dict[str, Any]:
    """Rounds to reach everybody, without and with a quarter of all messages lost. A trial is
    another piece of news from another node in a mesh of the same seed."""
    figures: dict[str, Any] = {"rounds_p99": {}, "rounds_p99_loss25": {}, "rounds_trials": {}}
    for size in SIZES[:3] if options.quick else SIZES:
        trials = options.more.trials or (20 if options.quick else TRIALS[size])
        figures["rounds_trials"][str(size)] = trials
        for key, loss in (("rounds_p99", 0.0), ("rounds_p99_loss25", 0.25)):
            beat = Beat(options.seed, size, loss)
            took = [float(beat.rounds()) for _ in range(trials)]
            figures[key][str(size)] = round(percentile(took, 0.99))
            figures.setdefault(f"{key}_worst", {})[str(size)] = round(max(took))
            progress(f"rounds: {size} nodes, loss {loss:.0%}: p99 {figures[key][str(size)]}")
            del beat
    return figures


def starved_figures(options: Options) -> dict[str, Any]:
    """False alarms among 32 nodes of which 4 starve, for ten minutes."""
    seeds = range(options.seed, options.seed + (2 if options.quick else 20))
    seconds = 120.0 if options.quick else 600.0

    def total(found: list[FalseDeaths]) -> tuple[int, float]:
        starved = sum(one.starved for one in found)
        return sum(one.healthy for one in found), round(starved / len(found) / 4, 3)

    whole, plain, steady = [], [], []
    for seed in seeds:
        whole.append(scenarios.starved(seed, seconds=seconds))
        progress(f"starved: seed {seed}: {whole[-1]}")
    for seed in list(seeds)[: max(1, len(seeds) // 4)]:
        plain.append(scenarios.starved(seed, seconds=seconds, config=scenarios.plain_swim()))
        steady.append(scenarios.starved(seed, seconds=seconds, steady_s=STEADY_S))
        progress(f"starved: without local health {plain[-1]}; steady before {steady[-1]}")
    healthy, starved = total(whole)
    plain_healthy, plain_starved = total(plain)
    return {
        "false_deaths_starved": {
            "healthy": healthy,
            "starved": starved,
            "starved_without_local_health": plain_starved,
            "healthy_without_local_health": plain_healthy,
            "starved_after_a_steady_minute": total(steady)[1],
            "virtual_s": seconds,
            "seeds": len(whole),
            "seeds_without": len(plain),
        }
    }


def sim_figures(options: Options) -> dict[str, Any]:
    """Detection, false deaths by loss, healing, joining and the cost of changing load."""
    seeds = range(options.seed, options.seed + (1 if options.quick else 5))
    lossy = Link(loss=0.5, datagram=True)
    crash0 = [s for n in seeds for s in scenarios.crash(n, steady_s=STEADY_S)]
    new0 = [s for n in seeds for s in scenarios.crash(n, steady_s=12.0)]
    crash50 = [s for n in seeds for s in scenarios.crash(n, link=lossy, steady_s=STEADY_S)]
    progress(f"detection of 100: {quantiles(crash0)}, half lost {quantiles(crash50)}")
    hours = 2 / 6 / 60 * 16 if options.quick else 1 / 6 * 16
    seconds = 120.0 if options.quick else 600.0
    few = list(seeds)[:4]
    loss10 = [scenarios.lossy(seed, 0.10, seconds=seconds) for seed in few]
    loss25 = [scenarios.lossy(seed, 0.25, seconds=seconds) for seed in few]
    progress(f"false deaths: {loss10} at 10 %, {loss25} at 25 % packet loss")
    heal = [scenarios.split(seed) for seed in few]
    joins = [scenarios.join(seed) for seed in seeds]
    busy = {size: scenarios.busy(options.seed, nodes=size) for size in (32, 64)}
    progress(f"heal {heal}, join {joins}, busy {busy}")
    return {
        "detect_sim_s_p99": {
            "loss0": quantiles(crash0)["p99"],
            "loss50": quantiles(crash50)["p99"],
        },
        "detect_sim_s": {
            "loss0": quantiles(crash0),
            "loss0_unsteady": quantiles(new0),
            "loss50": quantiles(crash50),
        },
        "false_deaths_loss": {
            "loss10": sum(loss10),
            "loss25": sum(loss25),
            "loss25_per_node_hour": round(sum(loss25) / len(few) / hours, 3),
        },
        "heal_s": round(max(heal), 2),
        "join_visible_sim_s_p99": round(percentile(joins, 0.99), 2),
        "busy_bytes_per_s": {str(size): round(rate) for size, rate in busy.items()},
    }


# -- real processes ---------------------------------------------------------------------------


def real_figures(options: Options) -> dict[str, Any]:
    """Light nodes without models on loopback, in a network namespace of their own if allowed."""
    private = private_network()
    progress("real processes" + ("" if private else " (others' traffic is counted too)"))
    sizes = (8,) if options.quick else (8, 32, 64)
    figures: dict[str, Any] = {
        "detect_s": {},
        "idle_bytes_per_s": {},
        "wire_counted": "all bytes on the loopback of a private network namespace"
        if private
        else "all bytes on the shared loopback",
    }
    joins: list[float] = []
    for size in sizes:
        progress(f"{size} processes start")
        with RealMesh(size) as mesh:
            figures["idle_bytes_per_s"][str(size)] = idle(mesh, figures, options)
            if size <= 32:
                figures["detect_s"][str(size)] = detection(mesh, joins, options)
    figures["join_visible_s_p99"] = round(percentile(joins, 0.99), 2)
    figures["join_visible_s"] = [round(s, 2) for s in joins]
    return figures


def idle(mesh: RealMesh, figures: dict[str, Any], options: Options) -> dict[str, float]:
    """Bytes a second and node while nothing changes, over a minute after half a minute."""
    time.sleep(5.0 if options.quick else 30.0)
    seconds = 20.0 if options.quick else 40.0
    start, wire, payload = time.monotonic(), loopback_bytes(), mesh.payload_bytes()
    cpu = mesh.cost()[1]
    time.sleep(seconds)
    mb, cpu_after = mesh.cost()
    took = time.monotonic() - start
    nodes = len(mesh.nodes)
    found = {"payload": round((mesh.payload_bytes() - payload) / took / nodes, 1)}
    after = loopback_bytes()
    if wire is not None and after is not None:
        found["wire"] = round((after - wire) / took / nodes, 1)
    share = (cpu_after - cpu) / took / nodes
    progress(f"idle {nodes}: {found}, {mb:.1f} MB, {share:.2%} of a core")
    figures.setdefault("node_idle_by_size", {})[str(nodes)] = {
        "mb": round(mb, 1),
        "cpu_share": round(share, 4),
    }
    if nodes <= 32:
        figures["node_idle"] = figures["node_idle_by_size"][str(nodes)]
    return found


def detection(mesh: RealMesh, joins: list[float], options: Options) -> dict[str, Any]:
    """Crash to dead at every survivor: kill -9 and SIGSTOP, each of nodes that were steady. The
    killed are replaced, which is also how long a newcomer takes to be visible everywhere."""
    times = 1 if options.quick else 3
    victims: list[LightNode] = mesh.nodes[2:]
    killed: list[float] = []
    frozen: list[float] = []
    for _ in range(times):
        killed += mesh.detect(victims.pop(), signal.SIGKILL)
        progress(f"kill -9 in {len(mesh.nodes) + 1}: last {max(killed):.1f} s so far")
        joins.append(mesh.join())
        progress(f"a newcomer is visible after {joins[-1]:.2f} s")
        frozen += mesh.detect(victims.pop(), signal.SIGSTOP)
        progress(f"SIGSTOP in {len(mesh.nodes)}: last {max(frozen):.1f} s so far")
        time.sleep(3.0)
    return {**quantiles(killed), "frozen": quantiles(frozen)}


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "core": core_figures,
    "rounds": rounds_figures,
    "starved": starved_figures,
    "sim": sim_figures,
    "real": real_figures,
}


def measure(options: Options) -> dict[str, Any]:
    """All parts, or those asked for."""
    only: list[str] = options.more.only or list(PARTS)
    figures: dict[str, Any] = {"config": json.loads(_config())}
    for part in only:
        figures.update(PARTS[part](options))
    if options.out:
        (options.out / "gossip.json").write_text(json.dumps(figures, indent=2))
    return figures


def _config() -> str:
    import msgspec

    return msgspec.json.encode(NodeCoreConfig()).decode()


def _extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="*", choices=list(PARTS), help="only these parts")
    parser.add_argument(
        "--trials", type=int, default=0, help="of rounds, for every size (200: an hour and more)"
    )


if __name__ == "__main__":
    run("Membership, gossip and the store.", measure, _extend)

"""What the benchmark asks of a mesh under virtual time: each function is one scenario, whole.

All take a seed that repeats them, and return what happened, not whether it was good.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mesh.core.announcing import Vitals
from mesh.core.events import PeerState
from mesh.core.node import NodeCoreConfig
from mesh.sim.network import Link
from mesh.sim.world import World

EPISODE_GAP_S = 3.0  # verdicts on the same node closer than this are one false alarm


def plain_swim() -> NodeCoreConfig:
    """The same code without local health: no multiplier, no forgiving of one's own sleep, no
    memory of a peer's stalls, no patience with the unsteady."""
    whole = NodeCoreConfig()
    membership = msgspec.structs.replace(
        whole.membership,
        health_max=0,
        sleep_s=1e9,
        silence_trust=0.0,
        suspicion_unsteady_s=0.0,
    )
    return msgspec.structs.replace(whole, membership=membership)


class FalseDeaths(NamedTuple):
    """False alarms: a running node that at least one other declared dead, counted per spell."""

    healthy: int
    starved: int
    verdicts: int  # of single observers, on starved nodes


def settled(
    seed: int,
    nodes: int,
    *,
    link: Link | None = None,
    config: NodeCoreConfig | None = None,
    steady_s: float = 12.0,
    measure: bool = False,
) -> World:
    """A mesh that has known itself all along and been quiet for ``steady_s``."""
    world = World(seed, nodes, link=link, config=config, measure=measure)
    world.all_know_each_other()
    world.run(steady_s)
    return world


def spells(times: Iterable[float]) -> int:
    """How many separate alarms these verdicts are."""
    count, last = 0, float("-inf")
    for when in sorted(times):
        count += when - last > EPISODE_GAP_S
        last = when
    return count


def starved(
    seed: int,
    *,
    nodes: int = 32,
    starving: int = 4,
    pause_s: tuple[float, float] = (1.0, 8.0),
    run_s: tuple[float, float] = (3.0, 10.0),
    seconds: float = 600.0,
    steady_s: float = 12.0,
    config: NodeCoreConfig | None = None,
) -> FalseDeaths:
    """Some nodes are not run for a while, again and again, and answer in the end each time.

    They starve from ``steady_s`` after the mesh met; what is counted goes on until the last
    of them has run again for ten seconds.
    """
    with settled(seed, nodes, config=config, steady_s=steady_s) as world:
        start = world.time
        weak = {f"n{number}" for number in range(starving)}
        for name in sorted(weak):
            world.starve(name, pause_s, run_s, until=start + seconds)
        world.run(seconds + pause_s[1] + 10.0)
        by_subject: dict[str, list[float]] = {}
        for when, _, subject in world.deaths(since=start):
            by_subject.setdefault(subject, []).append(when)
        return FalseDeaths(
            healthy=sum(spells(t) for name, t in by_subject.items() if name not in weak),
            starved=sum(spells(t) for name, t in by_subject.items() if name in weak),
            verdicts=sum(len(t) for name, t in by_subject.items() if name in weak),
        )


def crash(
    seed: int,
    *,
    nodes: int = 100,
    link: Link | None = None,
    reset: bool = False,
    steady_s: float = 12.0,
    within_s: float = 60.0,
    config: NodeCoreConfig | None = None,
) -> list[float]:
    """Seconds until each survivor has declared a node dead that stopped without a word.

    ``reset`` is kill -9 (its machine resets the connections), else the power is gone. A
    survivor that never does counts ``within_s``.
    """
    with settled(seed, nodes, link=link, config=config, steady_s=steady_s) as world:
        victim = f"n{1 + seed % (nodes - 1)}"
        start = world.time
        if reset:
            world.kill(victim)
        else:
            world.vanish(victim)
        world.until(world.sees_everywhere(victim, PeerState.DEAD), within_s)
        took: dict[str, float] = {}
        for when, observer, subject in world.deaths(since=start):
            if subject == victim:
                took.setdefault(observer, when - start)
        return [took.get(sim.name, within_s) for sim in world.running]


def lossy(seed: int, loss: float, *, nodes: int = 16, seconds: float = 600.0) -> int:
    """False alarms on TCP links that lose this share of their packets."""
    with settled(seed, nodes, link=Link(loss=loss)) as world:
        world.run(seconds)
        by_subject: dict[str, list[float]] = {}
        for when, _, subject in world.deaths():
            by_subject.setdefault(subject, []).append(when)
        return sum(map(spells, by_subject.values()))


def split(seed: int, *, nodes: int = 16, seconds: float = 30.0) -> float:
    """Seconds until two halves, cut apart for ``seconds``, are one mesh again; 120 for never."""
    with settled(seed, nodes) as world:
        names = [sim.name for sim in world.sims]
        world.cut(names[: nodes // 2], names[nodes // 2 :])
        world.run(seconds)
        world.heal()
        took = world.until(world.converged(), within=120.0)
        return 120.0 if took is None else took


def join(seed: int, *, nodes: int = 64) -> float:
    """Seconds until a newcomer's profile is known to everybody, and everybody's to it."""
    with settled(seed, nodes) as world:
        world.add("newcomer")
        world.join("newcomer", through=f"n{seed % nodes}")
        took = world.until(world.converged(), within=60.0)
        return 60.0 if took is None else took


def busy(seed: int, *, nodes: int = 64, seconds: float = 60.0) -> float:
    """Payload bytes a second and node, sent, while everybody's load changes all the time."""
    with settled(seed, nodes, measure=True) as world:
        end = world.time + seconds

        def change() -> None:
            for sim in world.sims:
                slots = 4
                inflight = world.rng.randrange(slots + 1)
                sim.core.set_status(Vitals(inflight / slots, inflight, 0, slots), world.now(sim))
                world.wake(sim)
            if world.time < end:
                world.after(0.5, change)

        change()
        world.run(10.0)  # the first statuses of all
        before = sum(sim.sent_bytes for sim in world.sims)
        end = world.time + seconds
        world.run(seconds)
        return (sum(sim.sent_bytes for sim in world.sims) - before) / seconds / nodes

"""How one piece of news spreads through a mesh, as a curve over virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from mesh.core.node import NodeCoreConfig
from mesh.core.records import Device, Endpoints, ServedName
from mesh.sim.network import Link
from mesh.sim.world import World

STEP_S = 0.02
NEWS = "knowledge.gpt/news"


class Curve(NamedTuple):
    """Who knew after how long. ``known[i]`` nodes of ``nodes`` after ``times_s[i]`` seconds;
    ``payload_bytes`` were sent meanwhile, by all together."""

    seed: int
    nodes: int
    times_s: list[float]
    known: list[int]
    payload_bytes: int

    def reached_s(self, share: float) -> float:
        """Seconds until this share of the nodes knew; ``inf`` if they never did."""
        wanted = math.ceil(share * self.nodes)
        reached = zip(self.times_s, self.known, strict=True)
        return next((time for time, known in reached if known >= wanted), math.inf)

    def share_at(self, time_s: float) -> float:
        """The share that knew at a time."""
        best = 1
        for time, known in zip(self.times_s, self.known, strict=True):
            if time > time_s:
                break
            best = known
        return best / self.nodes


def spread(
    seed: int,
    nodes: int,
    link: Link,
    *,
    config: NodeCoreConfig | None = None,
    within_s: float = 30.0,
    told: Callable[[str, float], None] = lambda _what, _share: None,
) -> Curve:
    """One node of a quiet mesh offers something new; when does everybody know?

    ``told`` hears what is being done and how far it is, 0 to 1. The mesh is given five
    seconds first, in which what its nodes said at the start is told.
    """
    told("building", 0.0)
    world = World(seed, nodes, link=link, config=config, measure=True, keep_events=False)
    world.all_know_each_other()
    told("settling", 0.0)
    world.run(5.0)
    source = world.sims[world.rng.randrange(nodes)]
    before = sum(sim.sent_bytes for sim in world.sims)
    start = world.time
    now = world.now(source)
    source.core.set_profile((ServedName(NEWS),), (), Device(kind="sim"), Endpoints(), now)
    world.wake(source)
    missing = [sim for sim in world.sims if sim is not source]
    times, known = [0.0], [1]
    while missing and world.time - start < within_s:
        world.run(STEP_S)
        missing = [sim for sim in missing if not sim.core.store.names.servers(NEWS)]
        times.append(round(world.time - start, 6))
        known.append(nodes - len(missing))
        told("spreading", known[-1] / nodes)
    spent = sum(sim.sent_bytes for sim in world.sims) - before
    return Curve(seed, nodes, times, known, spent)

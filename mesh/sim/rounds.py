"""How many rounds news takes: one round is every node having gossiped once.

A running mesh has no rounds: a node that was quiet passes news on at once, so the time of one
gossip period can hold several hops, and time divided by the period flatters. Here all nodes
are held to the beat: in a round each node ticks once, on what it knew before the round; then
everything sent, and whatever is answered to that (an announcement is followed by a request and
the record), is delivered, each message lost with the given chance. So a hop is a round.
"""

from __future__ import annotations

import random
from collections import deque

from mesh.core.clock import Now
from mesh.core.node import NodeCoreConfig
from mesh.core.records import Device, Endpoints, ServedName
from mesh.sim.world import EPOCH, Sim, World

NEVER = 1000  # rounds


class Beat:
    """A converged mesh that is driven round by round. ``loss`` is a share of all messages.

    Ticks are one gossip period apart; probes and anti-entropy run as always.
    """

    def __init__(
        self, seed: int, nodes: int, loss: float = 0.0, config: NodeCoreConfig | None = None
    ) -> None:
        self.world = World(seed, nodes, config=config, keep_events=False)
        self.world.all_know_each_other()
        self.loss = loss
        self.rng = random.Random(seed)
        self.round = 0
        self._news = 0
        self._of = {sim.node: sim for sim in self.world.sims}
        for _ in range(12):
            self.step()  # the profiles of the beginning are old news by now

    @property
    def now(self) -> Now:
        """Both clocks at this round."""
        # A hair more than a period, or rounding would make a node skip a round.
        time = self.round * (self.world.config.gossip.period_s + 1e-6)
        return Now(time, EPOCH + time)

    def step(self) -> None:
        """One round."""
        self.round += 1
        now = self.now
        under_way: deque[tuple[Sim, Sim, object]] = deque()

        def send(sim: Sim, sends: list) -> None:  # type: ignore[type-arg]
            for to, message, _ in sends:
                if not self.loss or self.rng.random() >= self.loss:
                    under_way.append((sim, self._of[to], message))
            sim.core.drain_events()

        for sim in self.world.sims:
            send(sim, sim.core.tick(now))
        while under_way:
            sender, receiver, message = under_way.popleft()
            send(receiver, receiver.core.receive(sender.node, message, now))  # type: ignore[arg-type]

    def spread(self, at_most: int = 100) -> list[int]:
        """One node has something new. Who knows it, after each round, until all do."""
        self._news += 1
        source = self.world.sims[self.rng.randrange(len(self.world.sims))]
        name = f"knowledge.gpt/news_{self._news}"
        offered = (ServedName(name),)
        source.core.set_profile(offered, (), Device(kind="sim"), Endpoints(), self.now)
        missing = [sim for sim in self.world.sims if sim is not source]
        known = [1]
        for _ in range(at_most):
            self.step()
            missing = [sim for sim in missing if not sim.core.store.names.servers(name)]
            known.append(len(self.world.sims) - len(missing))
            if not missing:
                break
        return known

    def rounds(self, at_most: int = 100) -> int:
        """Rounds until news of a random node has reached everybody, :data:`NEVER` for never."""
        known = self.spread(at_most)
        took = len(known) - 1 if known[-1] == len(self.world.sims) else NEVER
        for _ in range(12):
            self.step()
        return took

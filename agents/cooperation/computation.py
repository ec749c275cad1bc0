"""Many small jobs of one name, given out to the nodes that offer it.

Each job goes where the scheduling policy sends it, is asked again elsewhere when its node fails,
and waits where all nodes are full. As many are under way as the nodes have slots; all of it ends
with the task's deadline. A job that fails is told and leaves the others alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import msgspec

from agents.orchestrator.asking import Asker, Said
from agents.orchestrator.options import AskOptions
from agents.port import MeshPort, Task
from capabilities.messages import Generate
from mesh.core.errors import DeadlineExceeded, GossamerError, Rejected

MOST_AT_ONCE = 32  # calls of one question under way: it shares the mesh with others
FEWEST_AT_ONCE = 2
MAX_WAITS = 20  # for a slot, of one job; the deadline ends it in any case
LEAST_WAIT_S = 0.05


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work; ``id`` is the caller's."""

    id: int
    request: Generate


class JobDone(msgspec.Struct, frozen=True, kw_only=True):
    """How a job went: what was said, or why nothing was."""

    id: int
    said: Said | None
    error: str = ""


class Fanout:
    """Gives jobs out; one per question."""

    def __init__(self, port: MeshPort, asker: Asker) -> None:
        self._port = port
        self._asker = asker

    def width(self, name: str, task: Task) -> int:
        """How many jobs may be under way: the free slots of who offers the name."""
        try:
            offers = self._port.resolve(name, task)
        except GossamerError:
            return FEWEST_AT_ONCE
        free = sum(max(0, round(offer.slots * (1 - min(1.0, offer.load)))) for offer in offers)
        return max(FEWEST_AT_ONCE, len(offers), min(MOST_AT_ONCE, free))

    async def run(
        self, name: str, jobs: Sequence[Job], task: Task, options: AskOptions
    ) -> AsyncGenerator[JobDone, None]:
        """The jobs as they are done, in any order; closing the iterator cancels the rest."""
        waiting = list(reversed(jobs))
        running: set[asyncio.Task[JobDone]] = set()
        width = self.width(name, task)
        try:
            while waiting or running:
                while waiting and len(running) < width:
                    job = waiting.pop()
                    running.add(asyncio.create_task(self._one(name, job, task, options)))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for finished in done:
                    yield finished.result()
        finally:
            for left in running:
                left.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _one(self, name: str, job: Job, task: Task, options: AskOptions) -> JobDone:
        for _ in range(MAX_WAITS):
            try:
                said = await self._asker.ask(name, job.request, task, options)
            except Rejected as error:
                wait_s = max(LEAST_WAIT_S, error.retry_after_s)
                if self._port.now() + wait_s >= task.deadline:
                    return JobDone(id=job.id, said=None, error=error.sentence())
                await asyncio.sleep(wait_s)
            except GossamerError as error:
                return JobDone(id=job.id, said=None, error=error.sentence())
            else:
                return JobDone(id=job.id, said=said)
        late = DeadlineExceeded("no node had a free slot")
        return JobDone(id=job.id, said=None, error=late.sentence())

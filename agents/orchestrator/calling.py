"""One attempt: a node is asked, and a second one beside it where the first is a straggler.

The second answer is held back until it is whole. Where it is whole first, what the straggler had
shown is taken back (a Retry) and the straggler is cancelled; else the second one is.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from agents.halves import MAX_NAME_CHARS
from agents.orchestrator import allocate as allocation
from agents.orchestrator.dispatch import Dispatcher, closing
from agents.orchestrator.events import Retry, StepDelta
from agents.orchestrator.line import Line
from agents.orchestrator.progress import Run, StepState
from agents.orchestrator.tail import Lateness
from agents.orchestrator.verify import Answer, Assembly
from agents.parts import Parts
from agents.port import MeshPort, Offer, Task
from agents.scheduling.flights import Flight
from agents.scheduling.prediction import Job
from capabilities.messages import Delta, Event, decode_event
from mesh.core.access import CLOUD
from mesh.core.errors import DeadlineExceeded, GossamerError

# The port ends a call at its deadline; this net catches one that does not (its own bug).
GRACE_S = 0.25


class Called(NamedTuple):
    """A whole answer and who gave it; ``hedged`` when that was the second one asked."""

    answer: Answer
    offer: Offer
    hedged: bool = False


class _Calling(NamedTuple):
    """What both calls of an attempt share."""

    body: bytes
    task: Task
    job: Job
    patience_s: float


class Calls:
    """Makes the attempts of an executor."""

    def __init__(self, port: MeshPort, parts: Parts, dispatch: Dispatcher) -> None:
        self._port = port
        self._parts = parts
        self._dispatch = dispatch

    async def call(
        self,
        offer: Offer,
        others: int,
        body: bytes,
        assembly: Assembly,
        state: StepState,
        run: Run,
    ) -> Called:
        """One attempt, and who answered; raises a :class:`GossamerError` when no whole answer
        came of it."""
        now = self._port.now()
        deadline = allocation.attempt_deadline(
            now, state.deadline, others=others, first_share=self._parts.limits.first_share
        )
        line = (offer, *([] if offer.served.name == CLOUD else state.line))
        task = msgspec.structs.replace(
            run.task,
            deadline=deadline,
            why=state.cloud.because,
            patience_s=run.options.patience_s,
            lines=len(line),
        )
        calling = _Calling(
            body=body,
            task=task,
            job=self._dispatch.job(run.options, state.question),
            patience_s=run.options.patience_s,
        )
        unseen = self._dispatch.flights.since(offer.node, offer.seen_at)
        lateness = self._dispatch.tail.lateness(offer, calling.job, unseen)
        if state.spare is None or len(line) > 1 or offer.served.name == CLOUD:
            return await self._one(line, calling, assembly, lateness, (state, run))
        return await self._hedged(offer, state.spare, calling, assembly, lateness, state, run)

    async def _hedged(
        self,
        offer: Offer,
        spare: Offer,
        calling: _Calling,
        assembly: Assembly,
        lateness: Lateness,
        state: StepState,
        run: Run,
    ) -> Called:
        # Opened here and not when the task begins: another step chooses its node before that.
        flight = self._dispatch.flights.open(offer.node, self._port.now())
        first = asyncio.create_task(
            self._one((offer,), calling, assembly, lateness, (state, run), flight)
        )
        tasks = [first]
        try:
            await asyncio.wait(tasks, timeout=lateness.first_s)
            if not first.done() and assembly.heard:
                await asyncio.wait(tasks, timeout=max(0.0, lateness.done_s - lateness.first_s))
            if first.done() or not self._dispatch.tail.may_hedge():
                return await first
            what = "said nothing yet" if not assembly.heard else "is not done yet"
            run.note(
                self._port,
                state.step.id,
                "execute.hedge",
                f"{offer.node_name} {what}: ask {spare.node_name} as well",
                score=lateness.done_s if assembly.heard else lateness.first_s,
            )
            state.hedge(spare)
            held = Assembly()
            tasks.append(asyncio.create_task(self._one((spare,), calling, held, lateness, None)))
            winner = await _first_good(tasks)
            called = winner.result()
            if winner is first:
                return called
            if assembly.heard:
                await run.emit(
                    Retry(
                        step=state.step.id,
                        node=offer.node_name,
                        reason=f"{spare.node_name} was done before it",
                        discarded_chars=assembly.chars,
                        at_s=self._port.now() - run.begun,
                    )
                )
            await run.emit(StepDelta(step=state.step.id, text=called.answer.text))
            return called._replace(hedged=True)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._dispatch.flights.close(flight)  # if the task never began

    async def _one(
        self,
        offers: tuple[Offer, ...],
        calling: _Calling,
        assembly: Assembly,
        lateness: Lateness,
        shown: tuple[StepState, Run] | None,
        opened: Flight | None = None,
    ) -> Called:
        """A call of the first of ``offers`` that begins to answer; shown as it comes, or held."""
        task, patience_s, now = calling.task, calling.patience_s, self._port.now()
        loop = asyncio.get_running_loop()
        end = loop.time() + max(0.0, task.deadline - now) + GRACE_S
        first = loop.time() + patience_s + GRACE_S if patience_s else end
        line = Line(self._port, offers)
        try:
            with self._dispatch.calling(
                line, calling.job, task, assembly, self._port.now, opened
            ) as flight:
                async with (
                    asyncio.timeout_at(min(first, end)) as clock,
                    closing(line.call(calling.body, task)) as stream,
                ):
                    async for data in stream:
                        clock.reschedule(end)
                        event = decode_event(data)
                        assembly.take(event)
                        if isinstance(event, Delta):
                            self._dispatch.heard(flight, event.tokens, self._port.now())
                        await _show(event, shown)
        except TimeoutError as error:
            if assembly.done is None:
                raise DeadlineExceeded(
                    "the node did not finish in time"
                    if flight.first_at >= 0 or not patience_s
                    else f"no word came within {patience_s:g} s"
                ) from error
        except GossamerError:
            if assembly.done is None:  # after the last message nothing is lost with the link
                raise
        whole = assembly.whole()
        done_s = self._port.now() - flight.started
        first_s = flight.first_at - flight.started if flight.first_at >= 0 else done_s
        self._dispatch.tail.took(lateness, first_s, done_s)
        return Called(whole, line.offer)


async def _show(event: Event, shown: tuple[StepState, Run] | None) -> None:
    if shown is not None and isinstance(event, Delta) and event.text:
        state, run = shown
        await run.emit(
            StepDelta(
                step=state.step.id,
                text=event.text,
                thinking=event.thinking,
                by=event.by[:MAX_NAME_CHARS],
            )
        )


async def _first_good(tasks: list[asyncio.Task[Called]]) -> asyncio.Task[Called]:
    """The first task that ends with an answer; the first one asked, when none does."""
    waiting = set(tasks)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done and task.exception() is None:
                return task
    return tasks[0]

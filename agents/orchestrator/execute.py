"""Runs a plan: steps side by side, each asked of a node, asked again elsewhere if it must be.

A half answer is never handed on: when a node rejects, dies or fails, before or during its
answer, what it streamed is taken back (:class:`~agents.orchestrator.events.Retry`) and the step
begins again on another node, once. All waiting ends with the deadline; all that happens is
counted in ``counters`` and leaves a line in the trace.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping

import msgspec

from agents.classifier.gap import ACCEPT
from agents.classifier.matching import Need
from agents.escalation import Rung, Situation
from agents.escalation.ladder import CLOUD_RUNG
from agents.orchestrator import allocate as allocation
from agents.orchestrator import climbing, freshness
from agents.orchestrator.allocate import Allocation, Route
from agents.orchestrator.dispatch import Dispatcher, Make, closing
from agents.orchestrator.events import Failed, Finished, Retry, Started, StepDelta
from agents.orchestrator.line import Line
from agents.orchestrator.plan import Plan, Step, critical_first, filled, path_lengths
from agents.orchestrator.progress import Kept, Outcome, Run, StepState
from agents.orchestrator.verify import Answer, Assembly, better, verify
from agents.parts import Parts
from agents.port import MeshPort, Offer
from agents.scheduling.flights import Flight
from capabilities.messages import Delta, Event, Generate, Paid, decode_event, encode
from mesh.core.access import CLOUD
from mesh.core.errors import Cancelled, DeadlineExceeded, GossamerError, Rejected

# The port ends a call at its deadline; this net catches one that does not (its own bug).
GRACE_S = 0.25
MIN_WAIT_S = 0.05
MIN_COME_BACK_S = 1.0  # of a REJECT that names no time: whoever asks again at once adds to it
MAX_REJECTIONS = 3  # redirects after a REJECT and before waiting: it costs a round trip each


class Executor:
    """Runs plans over a :class:`~agents.port.MeshPort`; one per agent, for all its requests."""

    def __init__(
        self, port: MeshPort, parts: Parts, rng: random.Random, make: Make | None = None
    ) -> None:
        self._port = port
        self._parts = parts
        self.dispatch = Dispatcher(parts, rng, make)
        self.counters: Counter[str] = Counter()

    async def run_plan(
        self, plan: Plan, routes: Mapping[int, Route], run: Run
    ) -> dict[int, Outcome]:
        """All steps of a checked plan; every step has an outcome, also when it failed."""
        paths = path_lengths(plan)
        waiting = {step.id: step for step in plan.steps}
        outcomes: dict[int, Outcome] = {}
        running: dict[asyncio.Task[Outcome], int] = {}
        try:
            while waiting or running:
                ready = [s.id for s in waiting.values() if all(p in outcomes for p in s.depends)]
                room = self._parts.limits.concurrent - len(running)
                for number in critical_first(plan, ready)[:room]:
                    step = waiting.pop(number)
                    running[
                        asyncio.create_task(
                            self._step(step, routes[number], outcomes, paths[number], run)
                        )
                    ] = number
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    outcomes[running.pop(task)] = task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return outcomes

    async def _step(
        self, step: Step, route: Route, outcomes: Mapping[int, Outcome], path: int, run: Run
    ) -> Outcome:
        self.counters["steps"] += 1
        now = self._port.now()
        unusable = [parent for parent in step.depends if not outcomes[parent].usable]
        answers = {parent: outcomes[parent].view.text for parent in step.depends}
        state = StepState(
            step=step,
            route=route,
            question=step.question if unusable else filled(step, answers),
            begun=now,
            deadline=allocation.step_deadline(now, run.task.deadline, path),
            name=route.name,
            node=run.options.name.partition("@")[2],
        )
        if unusable:
            why = f"it builds on step {unusable[0]}, which has no usable answer"
            self.counters["steps_skipped"] += 1
            self._note(run, step.id, "execute.skip", why)
            view = state.view(run, now, "skipped", error=why)
            await run.emit(Failed(view=view))
            return Outcome(view, usable=False)
        outcome = await self._attempts(state, run)
        event = Finished if outcome.view.status == "ok" else Failed
        await run.emit(event(view=outcome.view))
        return outcome

    async def _attempts(self, state: StepState, run: Run) -> Outcome:
        while True:
            choice, others = await self._choose(state, run)
            if choice is None:
                if await self._wait_for_a_slot(state, run):
                    continue
                return self._conclude(state, run)
            if state.attempts:
                await self._tell_retry(state, run)
            state.attempts.append(choice.node_name)
            state.mark_tried(choice.node, cloud=choice.served.name == CLOUD)
            self.counters["attempts"] += 1
            await run.emit(
                Started(
                    step=state.step.id,
                    name=choice.served.name,
                    node=choice.node_name,
                    attempt=len(state.attempts),
                    remote=not choice.me,
                    at_s=self._port.now() - run.begun,
                )
            )
            assembly = Assembly()
            try:
                answer, choice = await self._call(choice, others, assembly, state, run)
            except Cancelled:
                raise
            except GossamerError as error:
                self._failed(state, run, choice, assembly, error)
                continue
            if self._judged(state, run, choice, answer, assembly):
                return self._conclude(state, run)

    async def _choose(self, state: StepState, run: Run) -> tuple[Offer | None, int]:
        """The node for the next attempt, and how many others could take over."""
        error: GossamerError | None = None
        offers: list[Offer] = []
        try:
            offers = self._port.resolve(state.name, run.task, frozenset(state.tried))
        except GossamerError as raised:
            error = raised
        need = Need(
            reach=run.task.reach,
            accuracy_floor=run.options.accuracy_floor,
            node=state.node,
            tried=frozenset(state.tried),
        )
        job = self.dispatch.job(run.options, state.question)
        context = self.dispatch.context(
            run.options, job, state.name, self._port.now(), state.deadline
        )
        parts = self.dispatch.parts_for(run.options.policy)
        allotted, asked = await freshness.confirm(
            self._port, state.name, offers, need, parts, context
        )
        if asked:
            self._note(run, state.step.id, "load.asked", asked)
        if not allotted.order and not state.attempts:
            state.nobody = allocation.absence(state.name, error, allotted.refused)
        if state.model:  # asking the same model again would bring the same answer
            different = tuple(o for o in allotted.order if o.served.model != state.model)
            hopeless = bool(allotted.order) and not different
            allotted = Allocation(order=different or allotted.order, refused=allotted.refused)
        else:
            hopeless = False
        self._note_allocation(state, run, allotted, error)
        clouds = climbing.open_clouds(self._port, state, run.task)
        taken = self._climb(state, run, allotted.order, clouds, hopeless=hopeless)
        if taken is None:
            return None, 0
        if taken.rung == CLOUD_RUNG:
            state.cloud.because = taken.why
            return clouds[0], len(clouds) - 1
        state.line = self.dispatch.line(allotted.order, context)
        return allotted.order[0], len(allotted.order) - 1

    def _climb(
        self,
        state: StepState,
        run: Run,
        order: tuple[Offer, ...],
        clouds: list[Offer],
        *,
        hopeless: bool,
    ) -> Rung | None:
        """The rung that is taken; None to stop."""
        limits = self._parts.limits
        free_redirects = min(state.rejections, MAX_REJECTIONS)
        rungs = self._parts.escalation.climb(
            Situation(
                name=state.name,
                local_fit=sum(offer.me for offer in order),
                remote_fit=sum(not offer.me for offer in order),
                chose_me=bool(order) and order[0].me,
                attempts=state.mesh_attempts,
                attempts_allowed=limits.attempts + free_redirects,
                time_left_s=state.deadline - self._port.now(),
                reach=run.task.reach,
                last=state.last or state.nobody,
                hopeless=hopeless,
                rejections=state.rejections,
                predicted_s=climbing.quickest_s(order, self._parts, state),
                confidence=state.kept.verdict.confidence if state.kept else -1.0,
                cloud_fit=len(clouds),
                cloud_why=state.cloud.why_not,
            )
        )
        for rung in rungs:
            self._note(
                run,
                state.step.id,
                f"escalation.{rung.rung}",
                f"{rung.action}: {rung.why}",
                score=rung.score,
                threshold=rung.threshold,
            )
        taken = next((rung for rung in rungs if rung.action == "take"), None)
        if taken is None or (taken.rung != CLOUD_RUNG and not order):
            return None
        return taken

    async def _call(
        self, offer: Offer, others: int, assembly: Assembly, state: StepState, run: Run
    ) -> tuple[Answer, Offer]:
        """One attempt, and who answered; raises a :class:`GossamerError` when no whole answer
        came of it."""
        now = self._port.now()
        deadline = allocation.attempt_deadline(
            now, state.deadline, others=others, first_share=self._parts.limits.first_share
        )
        task = msgspec.structs.replace(run.task, deadline=deadline, why=state.cloud.because)
        body = encode(self._request(state, run))
        job, patience_s = self.dispatch.job(run.options, state.question), run.options.patience_s
        loop = asyncio.get_running_loop()
        end = loop.time() + max(0.0, deadline - now) + GRACE_S
        first = loop.time() + patience_s + GRACE_S if patience_s else end
        line = Line(self._port, (offer, *([] if offer.served.name == CLOUD else state.line)))
        try:
            with self.dispatch.calling(line, job, task, assembly, self._port.now) as flight:
                async with (
                    asyncio.timeout_at(min(first, end)) as clock,
                    closing(line.call(body, task)) as stream,
                ):
                    async for data in stream:
                        clock.reschedule(end)
                        event = decode_event(data)
                        assembly.take(event)
                        await self._heard(event, flight, state, run)
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
        return assembly.whole(), line.offer

    async def _heard(self, event: Event, flight: Flight, state: StepState, run: Run) -> None:
        if isinstance(event, Delta):
            self.dispatch.heard(flight, event.tokens, self._port.now())
            if event.text:
                await run.emit(
                    StepDelta(step=state.step.id, text=event.text, thinking=event.thinking)
                )

    def _request(self, state: StepState, run: Run) -> Generate:
        request, difficulty = self.dispatch.request(run.options, state)
        self._note(
            run,
            state.step.id,
            "complexity",
            f"at most {request.max_tokens} tokens",
            score=difficulty,
        )
        return request

    def _failed(
        self, state: StepState, run: Run, offer: Offer, assembly: Assembly, error: GossamerError
    ) -> None:
        self.counters[f"failed.{error.code}"] += 1
        if isinstance(error, Rejected):
            state.come_back_s = max(error.retry_after_s, MIN_COME_BACK_S)
        if offer.served.name == CLOUD:
            self._cloud_failed(state, run, offer, assembly, error)
            return
        if isinstance(error, Rejected):
            state.rejections += 1
            state.tried.update(other.node for other in state.line)  # all of them said no
            state.retry_after_s = max(state.retry_after_s, error.retry_after_s)
        else:
            state.retry_after_s = -1.0
        state.last = f"{offer.node_name}: {error.sentence()}"
        state.last_node, state.last_chars = offer.node_name, assembly.chars
        self.counters["discarded_chars"] += assembly.chars
        self._note(
            run,
            state.step.id,
            "execute.attempt",
            f"failed: {error.sentence()}",
            inputs={"node": offer.node_name, "code": error.code, "chars": assembly.chars},
        )

    def _cloud_failed(
        self, state: StepState, run: Run, offer: Offer, assembly: Assembly, error: GossamerError
    ) -> None:
        """The cloud is one rung: that it failed says nothing about the nodes of the mesh."""
        state.cloud.why_not = f"the cloud by way of {offer.node_name}: {error.sentence()}"
        if not state.last:
            state.last = state.nobody or state.cloud.why_not
        state.last_node, state.last_chars = offer.node_name, assembly.chars
        self.counters["cloud_failed"] += 1
        self.counters["discarded_chars"] += assembly.chars
        self._note(
            run,
            state.step.id,
            "escalation.cloud_attempt",
            f"failed: {error.sentence()}",
            inputs={"node": offer.node_name, "code": error.code, "chars": assembly.chars},
        )

    def _judged(
        self, state: StepState, run: Run, offer: Offer, answer: Answer, assembly: Assembly
    ) -> bool:
        """Keep the better answer; True when it will do."""
        floor = climbing.floor_of(self._parts, state, run.task)
        expert = state.route.expert or state.switched
        verdict = verify(answer, self._parts.gap, expert=expert, floor=floor)
        self._note(
            run,
            state.step.id,
            "verify",
            f"{verdict.action}: {verdict.why}",
            score=verdict.confidence,
            threshold=floor,
            inputs={"node": offer.node_name, "finish": answer.done.finish},
        )
        if answer.done.paid is not None:
            self._note_paid(run, state, offer, answer.done.paid)
        kept = Kept(answer, verdict, offer, offer.served.name)
        if state.kept is None or better(state.kept.verdict, verdict):
            state.kept = kept
        if verdict.action == ACCEPT:
            return True
        self.counters["doubted"] += 1
        state.last = f"{offer.node_name}: {verdict.why}"
        state.last_node, state.last_chars = offer.node_name, assembly.chars
        state.model = offer.served.model or answer.done.model
        state.retry_after_s = -1.0
        if verdict.declined and not expert:
            self._switch(state, run)
        return False

    def _note_paid(self, run: Run, state: StepState, offer: Offer, paid: Paid) -> None:
        self.counters["cloud_answers"] += 1
        self._note(
            run,
            state.step.id,
            "escalation.paid",
            f"{paid.provider} answered with {paid.model}: {state.cloud.because}",
            score=paid.cost,
            inputs={
                "node": offer.node_name,
                "currency": paid.currency,
                "estimated": paid.estimated,
                "attempts": paid.attempts,
            },
        )

    def _switch(self, state: StepState, run: Run) -> None:
        """The general model declined: the classifier's next name gets the second attempt."""
        for name in state.route.others:
            try:
                found = self._port.resolve(name, run.task)
            except GossamerError:
                continue
            if found:
                self._note(
                    run, state.step.id, "relevance.second", f"{state.name} declined: ask {name}"
                )
                state.name, state.switched, state.model = name, True, ""
                state.tried.clear()
                return

    async def _wait_for_a_slot(self, state: StepState, run: Run) -> bool:
        """All who fit said REJECT for now: wait and ask again, a few times, within the time."""
        left = state.deadline - self._port.now()
        if state.retry_after_s < 0 or state.waits >= self._parts.limits.waits:
            return False
        wait_s = max(state.retry_after_s, MIN_WAIT_S * 2**state.waits)
        if wait_s * 2 > left:
            return False
        state.waits += 1
        self.counters["waits"] += 1
        self._note(
            run,
            state.step.id,
            "execute.wait",
            "every node that fits is full: wait and ask again",
            score=wait_s,
            threshold=left,
        )
        await asyncio.sleep(wait_s)
        state.tried.clear()
        state.rejections += 1  # the round that comes is a redirect as well
        state.retry_after_s = -1.0
        return True

    async def _tell_retry(self, state: StepState, run: Run) -> None:
        self.counters["retries"] += 1
        await run.emit(
            Retry(
                step=state.step.id,
                node=state.last_node,
                reason=state.last,
                discarded_chars=state.last_chars,
                at_s=self._port.now() - run.begun,
            )
        )

    def _conclude(self, state: StepState, run: Run) -> Outcome:
        kept = state.kept
        if kept is None:
            self.counters["steps_failed"] += 1
            error = state.nobody or state.last or "there was no time to ask anybody"
            if state.last:
                error = f"no node gave an answer for {state.name}; the last was {state.last}"
            if state.cloud.why_not and state.cloud.why_not not in error:
                error = f"{error}; {state.cloud.why_not}"
            if state.come_back_s >= 0:
                error = f"{error}; ask again in {state.come_back_s:.0f} s"
            view = state.view(run, self._port.now(), "failed", error=error)
            return Outcome(view, usable=False)
        accepted = kept.verdict.action == ACCEPT
        confidence = kept.verdict.confidence
        if not state.switched and kept.answer.done.paid is None:
            confidence *= state.route.trust
        error = "" if accepted else f"{kept.verdict.why} (on {kept.offer.node_name})"
        if accepted and confidence < self._parts.thresholds.floor:
            error = "no name in the mesh fits this question; the general model answered"
        view = state.view(run, self._port.now(), "ok", error=error, confidence=confidence)
        return Outcome(view, usable=not (kept.verdict.declined or kept.verdict.cut))

    def _note_allocation(
        self, state: StepState, run: Run, allotted: Allocation, error: GossamerError | None
    ) -> None:
        order = allotted.order
        self._note(
            run,
            state.step.id,
            f"policy.{type(self.dispatch.parts_for(run.options.policy).policy).__name__}",
            f"ask {order[0].node_name}" if order else "nobody to ask",
            score=order[0].load if order else 0.0,
            inputs={
                "name": state.name,
                "order": [offer.node_name for offer in order[:8]],
                "refused": list(allotted.refused[:8]),
                "error": error.code if error else "",
            },
        )

    def _note(
        self,
        run: Run,
        step: int,
        rule: str,
        action: str,
        *,
        inputs: Mapping[str, object] | None = None,
        score: float = 0.0,
        threshold: float = 0.0,
    ) -> None:
        run.trace.note(
            rule,
            action,
            inputs=inputs,
            score=score,
            threshold=threshold,
            step=step,
            at_s=self._port.now() - run.begun,
        )

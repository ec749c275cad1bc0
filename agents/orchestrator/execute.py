"""Runs a plan: steps side by side, each asked of a node, asked again elsewhere if it must be.

A half answer is never handed on: when a node rejects, dies or fails, before or during its
answer, what it streamed is taken back (:class:`~agents.orchestrator.events.Retry`) and the step
begins again on another node, once. All waiting ends with the deadline; all that happens is
counted in ``counters`` and leaves a line in the trace.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from agents.classifier.gap import refuses
from agents.escalation import Rung, Situation
from agents.escalation.ladder import CLOUD_RUNG
from agents.orchestrator import allocate as allocation
from agents.orchestrator import climbing, freshness, replanning
from agents.orchestrator.allocate import NAMED_IN_PLAN, Allocation, Route
from agents.orchestrator.calling import Calls
from agents.orchestrator.dispatch import Dispatcher, Make
from agents.orchestrator.events import AskEvent, Failed, Finished, Retry, Started
from agents.orchestrator.judging import Judge
from agents.orchestrator.learning import UNKNOWN, Learning
from agents.orchestrator.needs import need_of
from agents.orchestrator.objectives import LATENCY, arrange
from agents.orchestrator.plan import Plan, Step, critical_first, filled, path_lengths
from agents.orchestrator.progress import Outcome, Run, StepState
from agents.orchestrator.remembering import Remembering, memory_of
from agents.orchestrator.verify import Assembly
from agents.parts import Parts
from agents.port import MeshPort, Offer
from agents.scheduling.policies import Context
from capabilities.messages import Generate, encode
from mesh.core.access import CLOUD
from mesh.core.errors import Cancelled, GossamerError

MIN_WAIT_S = 0.05
MAX_REJECTIONS = 3  # redirects after a REJECT and before waiting: it costs a round trip each


LEAST_REPLAN_S = 0.5  # with less time left a step is not begun anew

Reroute = Callable[[Step, str, Run], Awaitable[Route | None]]
Replan = Callable[[StepState, str, Run], Awaitable[tuple[Plan, Mapping[int, Route]] | None]]


async def _no_other(step: Step, failed: str, run: Run) -> Route | None:
    return None


async def _no_plan(
    failed: StepState, why: str, run: Run
) -> tuple[Plan, Mapping[int, Route]] | None:
    return None


async def _unheard(event: AskEvent) -> None:
    """The steps of a step are its own affair: what is told is what it came to."""


class Executor:
    """Runs plans over a :class:`~agents.port.MeshPort`; one per agent, for all its requests."""

    def __init__(
        self, port: MeshPort, parts: Parts, rng: random.Random, make: Make | None = None
    ) -> None:
        self._port = port
        self._parts = parts
        self.dispatch = Dispatcher(parts, rng, make)
        self.counters: Counter[str] = Counter()
        self._calls = Calls(port, parts, self.dispatch)
        self._judge = Judge(port, parts, self.counters)
        self.reroute: Reroute = _no_other
        self.replan: Replan = _no_plan
        self.remembering = Remembering(port, parts)
        self.learning = Learning(parts)

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
            run.note(self._port, step.id, "execute.skip", why)
            view = state.view(run, now, "skipped", error=why)
            await run.emit(Failed(view=view))
            return Outcome(view, usable=False)
        outcome = await self._attempts(state, run)
        if not outcome.usable and outcome.view.status == "failed":
            outcome = await self._replanned(state, path, run) or outcome
        event = Finished if outcome.view.status == "ok" else Failed
        await run.emit(event(view=outcome.view))
        return outcome

    async def _replanned(self, failed: StepState, path: int, run: Run) -> Outcome | None:
        """The failed step once more: as the planner model says, which is told what failed, else
        under the next name that fits; None where nothing came of it.

        Not where nobody offers its name: then no other expert should pretend, unless it was a
        model's plan that chose the name. Never for data: nobody knows what another measured.
        """
        now = self._port.now()
        deadline = allocation.step_deadline(now, run.task.deadline, path)
        planned = failed.route.rule == NAMED_IN_PLAN
        late = deadline - now < LEAST_REPLAN_S
        if not run.replans or run.options.name or not (failed.attempts or planned) or late:
            return None
        if planned and failed.name.startswith("data.gpt/"):
            return None
        why = failed.last or failed.nobody
        again = await self.replan(failed, why, run)
        if again is not None:
            return await self._by_plan(failed, why, *again, deadline, run)
        route = await self.reroute(failed.step, failed.name, run)
        if route is None:
            return None
        self.counters["replanned"] += 1
        run.note(
            self._port,
            failed.step.id,
            "replan",
            f"{failed.name} failed: ask {route.name}",
            score=route.probability,
            threshold=self._parts.thresholds.second,
            inputs={"why": why},
        )
        state = StepState(
            step=failed.step,
            route=route,
            question=failed.question,
            begun=failed.begun,
            deadline=deadline,
            name=route.name,
            before=tuple(failed.attempts),
            note=f"replanned: {failed.name} failed ({why}), {route.name} was asked",
        )
        outcome = await self._attempts(state, run)
        return outcome if outcome.usable else None

    async def _by_plan(
        self,
        failed: StepState,
        why: str,
        plan: Plan,
        routes: Mapping[int, Route],
        deadline: float,
        run: Run,
    ) -> Outcome | None:
        """What the steps of a new plan for a failed step come to; None where that is no use."""
        self.counters["replanned"] += 1
        run.note(
            self._port,
            failed.step.id,
            "replan",
            f"{failed.name} failed: {len(plan.steps)} steps by {plan.method}",
            inputs={"why": why, "names": [routes[step.id].name for step in plan.steps]},
        )
        task = msgspec.structs.replace(run.task, deadline=deadline)
        inner = dataclasses.replace(run, task=task, emit=_unheard, replans=False)
        outcome = replanning.joined(failed, why, plan, await self.run_plan(plan, routes, inner))
        return outcome if outcome.usable else None

    async def _attempts(self, state: StepState, run: Run) -> Outcome:
        if await self.remembering.recalled(state, run):
            self.counters["remembered"] += 1
            return self._judge.conclude(state, run)
        while True:
            choice, others = await self._choose(state, run)
            if choice is None:
                if await self._wait_for_a_slot(state, run):
                    continue
                return self._judge.conclude(state, run)
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
                request = self._request(state, run)
                body = encode(self.remembering.with_examples(request, choice, state))
                called = await self._calls.call(choice, others, body, assembly, state, run)
            except Cancelled:
                raise
            except GossamerError as error:
                self._judge.failed(state, run, choice, assembly, error)
                continue
            if called.hedged:
                self.counters["hedges_won"] += 1
                state.note = f"{choice.node_name} was late: {called.offer.node_name} answered"
            declined = len(state.declined)
            if not self._judge.judged(state, run, called.offer, called.answer, assembly):
                if refuses(called.answer.text):
                    self.learning.declined(state, called.offer, called.answer.done.model)
                if len(state.declined) == declined:  # who says "not my field" is to be trusted
                    self.remembering.doubted(state, called.offer)
            elif await self.remembering.verified(state, run):
                self.learning.concluded(state, run.task.trace.hex())
                return self._judge.conclude(state, run)
            else:
                self.learning.declined(state, called.offer, called.answer.done.model)

    async def _choose(self, state: StepState, run: Run) -> tuple[Offer | None, int]:
        """The node for the next attempt, and how many others could take over."""
        error: GossamerError | None = None
        offers: list[Offer] = []
        try:
            offers = self._port.resolve(state.name, run.task, frozenset(state.tried))
        except GossamerError as raised:
            error = raised
        job = self.dispatch.job(run.options, state.question)
        need = need_of(
            run.options,
            run.task.reach,
            offers,
            job=job,
            node=state.node,
            tried=frozenset(state.tried),
        )
        context = self.dispatch.context(
            run.options, job, state.name, self._port.now(), state.deadline
        )
        parts = self.dispatch.parts_for(run.options.policy)
        allotted, asked = await freshness.confirm(
            self._port, state.name, offers, need, parts, context
        )
        if asked:
            run.note(self._port, state.step.id, "load.asked", asked)
        estimate = parts.complexity.estimate(state.question)
        arranged = arrange(
            allotted.order,
            context,
            difficulty=estimate.difficulty,
            answer_tokens=job.answer_tokens,
        )
        order = self.remembering.ranked(state.name, arranged.order)
        order, behind = self.learning.ranked(state.question, order)
        if behind:
            run.note(
                self._port,
                state.step.id,
                "gap.before",
                f"{', '.join(behind[:4])} got questions like it wrong: asked after the others",
                threshold=UNKNOWN,
            )
        allotted = msgspec.structs.replace(allotted, order=order)
        if run.options.objective != LATENCY:
            run.note(
                self._port,
                state.step.id,
                "objective",
                arranged.why,
                score=estimate.difficulty,
                inputs={"order": [offer.node_name for offer in arranged.order[:8]]},
            )
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
        taken = self._climb(state, run, allotted.order, clouds, context, hopeless=hopeless)
        if taken is None:
            return None, 0
        if taken.rung == CLOUD_RUNG:
            state.cloud.because = taken.why
            return clouds[0], len(clouds) - 1
        state.line = self.dispatch.line(allotted.order, context)
        state.spare = self.dispatch.spare(allotted.order, context)
        return allotted.order[0], len(allotted.order) - 1

    def _climb(
        self,
        state: StepState,
        run: Run,
        order: tuple[Offer, ...],
        clouds: list[Offer],
        context: Context,
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
                attempts_allowed=limits.attempts + free_redirects + len(state.declined),
                time_left_s=state.deadline - self._port.now(),
                reach=run.task.reach,
                last=state.last or state.nobody,
                hopeless=hopeless,
                rejections=state.rejections,
                predicted_s=climbing.quickest_s(order, self.dispatch.predictor, context),
                confidence=state.kept.verdict.confidence if state.kept else -1.0,
                cloud_fit=len(clouds),
                cloud_why=state.cloud.why_not,
                **memory_of(state),
            )
        )
        for rung in rungs:
            run.note(
                self._port,
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

    def _request(self, state: StepState, run: Run) -> Generate:
        request, difficulty = self.dispatch.request(run.options, state)
        run.note(
            self._port,
            state.step.id,
            "complexity",
            f"at most {request.max_tokens} tokens",
            score=difficulty,
        )
        return request

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
        run.note(
            self._port,
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

    def _note_allocation(
        self, state: StepState, run: Run, allotted: Allocation, error: GossamerError | None
    ) -> None:
        order = allotted.order
        run.note(
            self._port,
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

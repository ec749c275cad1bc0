"""The way of a request: understand, plan, allocate, execute, verify, aggregate, answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from agents.classifier.catalogue import KnownName, known_names, remember
from agents.classifier.relevance import Relevance
from agents.configure import POLICIES, PartsConfig, build
from agents.memory import Memory
from agents.orchestrator import joining
from agents.orchestrator.aggregate import (
    cost_of,
    missing_of,
    nodes_of,
    notes_of,
    retry_of,
    text_of,
)
from agents.orchestrator.allocate import NAMED_IN_PLAN, Route, route
from agents.orchestrator.asking import Asker
from agents.orchestrator.dispatch import Dispatcher
from agents.orchestrator.events import Answered, AskEvent, Planned
from agents.orchestrator.execute import Executor
from agents.orchestrator.learning import Learning
from agents.orchestrator.modelplan import ModelPlanner, merge_light
from agents.orchestrator.objectives import OBJECTIVES
from agents.orchestrator.options import AskOptions
from agents.orchestrator.plan import Plan, PlanRefused, Step, checked
from agents.orchestrator.progress import Run, StepState
from agents.orchestrator.replanning import renumbered
from agents.parts import Parts
from agents.port import MeshPort, Task
from agents.trace import TRACE_BYTES, Trace
from agents.views import AnswerView, StatementView, StepView
from capabilities.messages import MAX_PROMPT_CHARS
from mesh.core import names
from mesh.core.access import CLOUD
from mesh.core.errors import ConfigError, GossamerError

# Events between the steps and whoever reads them: a slow reader slows the streams down, which
# is what credits on the wire are for; it never fills the memory.
MAX_EVENTS = 256
# Comparing a question with a name takes about a tenth of a millisecond on a board; above this
# many it goes to a thread, so that no probe waits for it.
MAX_NAMES_ON_LOOP = 64
PLAN_SHARE = 0.2  # of a question's time that a model may take to plan it

__all__ = ["AskOptions", "Orchestrator", "make_parts"]


def make_parts(
    *,
    classifier: str = "ngram",
    complexity: str = "features",
    gap: str = "fitted",
    planner: str = "rules",
    policy: str = "load_aware",
    escalation: str = "ladder",
    aggregator: str = "lines",
    options: Mapping[str, dict[str, Any]] | None = None,
) -> Parts:
    """The parts by name; raises :class:`~mesh.core.errors.ConfigError`. All fields:
    :class:`~agents.configure.PartsConfig`."""
    return build(
        PartsConfig(
            classifier=classifier,
            complexity=complexity,
            gap=gap,
            planner=planner,
            policy=policy,
            escalation=escalation,
            aggregator=aggregator,
            options=dict(options or {}),
        )
    )


class Orchestrator:
    """Answers questions with what the mesh offers; one per agent.

    ``rng`` decides ties and draws trace ids: with a seeded one, what is decided repeats.
    """

    def __init__(
        self, port: MeshPort, parts: Parts | None = None, *, rng: random.Random | None = None
    ) -> None:
        self._port = port
        self._parts = parts or build()
        self._rng = rng or random.Random()
        self._executor = Executor(port, self._parts, self._rng, POLICIES.create)
        self._executor.reroute = self._reroute
        self._executor.replan = self._replan
        self.asker = Asker(port, self._parts, self._executor.dispatch)
        self._remembered: dict[str, KnownName] = {}

    def use_memory(self, memory: Memory) -> None:
        """Look there before anybody is asked, and keep there what others answered."""
        self._executor.remembering.memory = memory

    @property
    def learning(self) -> Learning:
        """What its parts learn from how steps went, and from what the asker says of answers."""
        return self._executor.learning

    @property
    def dispatch(self) -> Dispatcher:
        """This agent's calls as its policies see them; whoever else calls shares it."""
        return self._executor.dispatch

    @property
    def counters(self) -> dict[str, int]:
        """What happened since the start: asks, steps, attempts, retries, failed.<code>, ..."""
        return dict(self._executor.counters)

    async def answer(self, question: str, options: AskOptions | None = None) -> AnswerView:
        """The whole answer, without the events on the way. Raises as :meth:`ask` does."""
        view: AnswerView | None = None
        async for event in self.ask(question, options):
            if isinstance(event, Answered):
                view = event.answer
        if view is None:
            raise GossamerError("the question ended without an answer")
        return view

    async def ask(
        self, question: str, options: AskOptions | None = None
    ) -> AsyncIterator[AskEvent]:
        """Events as they happen; the last one is :class:`~agents.orchestrator.events.Answered`.

        What fails in the mesh is told in the answer, not raised. Raises
        :class:`~mesh.core.errors.NameInvalid` for ``options.name`` outside the grammar, and
        :class:`~mesh.core.errors.ConfigError` for an unknown ``options.policy``.
        Closing the iterator cancels everything that is under way.
        """
        options = options or AskOptions()
        if options.name:
            names.parse_address(options.name)
        if options.objective not in OBJECTIVES:
            raise ConfigError(
                f"there is no objective called {options.objective[:40]!r}",
                hint=f"one of {', '.join(OBJECTIVES)}",
            )
        self._executor.dispatch.parts_for(options.policy)  # says at once if there is none
        events: asyncio.Queue[AskEvent | None] = asyncio.Queue(maxsize=MAX_EVENTS)
        worker = asyncio.create_task(self._work(question, options, events))
        try:
            while (event := await events.get()) is not None:
                yield event
            await worker  # raises what was a bug
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    async def _work(
        self, question: str, options: AskOptions, events: asyncio.Queue[AskEvent | None]
    ) -> None:
        try:
            answer = await self._answer(question, options, events)
            await events.put(Answered(answer=answer))
        except asyncio.CancelledError:
            raise  # nobody reads any more: putting the end into a full queue would wait for ever
        except BaseException:
            await events.put(None)
            raise
        await events.put(None)

    async def _answer(
        self, question: str, options: AskOptions, events: asyncio.Queue[AskEvent | None]
    ) -> AnswerView:
        begun = self._port.now()
        trace_id = options.trace or self._rng.randbytes(TRACE_BYTES)
        run = Run(
            task=Task(
                trace=trace_id,
                deadline=begun + options.timeout_s,
                reach=options.reach,
                priority=options.priority,
                hops=options.hops,
                groups=options.groups,
                caller=options.caller,
                warrant=options.warrant,
            ),
            options=options,
            trace=Trace(trace_id),
            emit=events.put,
            begun=begun,
        )
        self._executor.counters["asks"] += 1
        try:
            plan = await self._plan(question, options, run)
        except GossamerError as error:
            run.trace.note("plan", f"refused: {error.sentence()}")
            return self._unanswered(error, run)
        routes = await self._understand(plan, run)
        plan, routes = self._merged(plan, routes, run)
        for step in plan.steps:
            found = routes[step.id]
            await run.emit(
                Planned(
                    step=step.id,
                    name=found.name,
                    question=step.question,
                    depends=step.depends,
                    probability=round(found.probability, 4),
                    at_s=self._port.now() - begun,
                )
            )
        outcomes = await self._executor.run_plan(plan, routes, run)
        views = [outcomes[step.id].view for step in plan.steps]
        missing = missing_of(views, self._parts.thresholds.floor)
        run.trace.note(
            "aggregate",
            f"{len(views)} steps, {len(missing)} short of what was asked",
            at_s=self._port.now() - begun,
        )
        if missing:
            self._executor.counters["degraded"] += 1
        text, statements = await self._joined(question, views, run)
        return AnswerView(
            text=text,
            degraded=bool(missing),
            elapsed_s=round(self._port.now() - begun, 4),
            steps=views,
            nodes=nodes_of(views),
            missing=missing,
            trace=trace_id.hex(),
            asked=self._port.node_name,
            cost=cost_of(views),
            retry_after_s=retry_of(views),
            objective=options.objective,
            statements=statements,
            notes=notes_of(views),
            decisions=run.trace.as_dicts(),
        )

    async def _plan(self, question: str, options: AskOptions, run: Run) -> Plan:
        if not question.strip():
            raise PlanRefused("there is no question", hint="ask something")
        if len(question) > MAX_PROMPT_CHARS:
            raise PlanRefused(
                f"the question has {len(question)} characters, at most {MAX_PROMPT_CHARS} are taken"
            )
        plan: Plan | None
        if options.name:
            step = Step(id=1, question=question, name=names.parse_address(options.name).name)
            plan = Plan(steps=(step,), method="asked for by name")
        else:
            plan = await self._plan_by_model(question, run)
        if plan is None:
            # In a thread: the first plan with dependent steps imports the graph library, which
            # takes some hundred milliseconds, and probes must not wait for it.
            plan = await asyncio.to_thread(self._checked_plan, question)
        run.trace.note(
            "plan",
            plan.method,
            inputs={
                "question": question,
                "steps": len(plan.steps),
                "objective": options.objective,
            },
        )
        return plan

    def _checked_plan(self, question: str) -> Plan:
        return checked(self._parts.planner.plan(question))

    async def _plan_by_model(self, question: str, run: Run) -> Plan | None:
        """A plan by the planner model, where one is configured; None to plan by the rules."""
        planner = self._parts.planner
        if not isinstance(planner, ModelPlanner):
            return None
        known = [name.name for name in self._known()]
        request = planner.request(question, known)
        if request is None:
            return None
        now = self._port.now()
        deadline = now + (run.task.deadline - now) * PLAN_SHARE
        task = msgspec.structs.replace(run.task, deadline=deadline)
        try:
            said = await self.asker.ask(self._parts.general_name, request, task)
            plan = await asyncio.to_thread(planner.decoded, said.text, question, known)
        except GossamerError as error:
            self._executor.counters["plans_by_rules"] += 1
            run.trace.note("plan.model", f"by the rules instead: {error.sentence()}")
            return None
        self._executor.counters["plans_by_model"] += 1
        run.trace.note("plan.model", f"{said.node} planned", inputs={"model": said.model})
        return plan

    async def _replan(
        self, failed: StepState, why: str, run: Run
    ) -> tuple[Plan, dict[int, Route]] | None:
        """A failed step planned anew by the planner model, where one is configured."""
        planner = self._parts.planner
        if not isinstance(planner, ModelPlanner):
            return None
        known = [name.name for name in self._known() if name.name != failed.name]
        request = planner.again(failed.question, known, failed.name, why)
        if request is None:
            return None
        now = self._port.now()
        deadline = now + (run.task.deadline - now) * PLAN_SHARE
        task = msgspec.structs.replace(run.task, deadline=deadline)
        try:
            said = await self.asker.ask(self._parts.general_name, request, task)
            plan = await asyncio.to_thread(planner.decoded, said.text, failed.question, known)
        except GossamerError as error:
            run.trace.note("replan.model", f"by the rules instead: {error.sentence()}")
            return None
        plan = renumbered(plan, failed.step.id)
        routes = await self._understand(plan, run, without=failed.name)
        # The general model does not stand in for an expert; that only it is left is no plan.
        if any(not found.expert for found in routes.values()):
            run.trace.note("replan.model", "by the rules instead: no expert is left for it")
            return None
        return plan, routes

    def _merged(
        self, plan: Plan, routes: dict[int, Route], run: Run
    ) -> tuple[Plan, dict[int, Route]]:
        complexity = self._parts.complexity
        merged, left, gone = merge_light(
            plan,
            routes,
            self._parts.general_name,
            lambda question: complexity.estimate(question).difficulty,
        )
        if gone:
            run.trace.note("plan.merge", f"{gone} light steps went into those before them")
        return merged, left

    async def _joined(
        self, question: str, views: list[StepView], run: Run
    ) -> tuple[str, list[StatementView]]:
        """The text of the answer, and its statements with their sources."""
        lines = text_of(views), joining.statements_of(views)
        if self._parts.joiner is not None and len(views) > 1:
            try:
                made = self._parts.joiner.join(question, views)
            except GossamerError as error:
                run.trace.note("aggregate.part", f"line by line instead: {error.sentence()}")
                return lines
            run.trace.note("aggregate.part", made.decision, inputs=dict(made.inputs))
            return "\n".join(one.text for one in made.statements), list(made.statements)
        request = joining.request(views) if self._parts.aggregator == "model" else None
        if request is None:
            return lines
        try:
            said = await self.asker.ask(self._parts.general_name, request, run.task)
            statements = joining.joined(said.text, views)
        except GossamerError as error:
            self._executor.counters["joined_by_lines"] += 1
            run.trace.note("aggregate.model", f"line by line instead: {error.sentence()}")
            return lines
        self._executor.counters["joined_by_model"] += 1
        run.trace.note("aggregate.model", f"{said.node} joined", inputs={"model": said.model})
        return said.text, statements

    def _known(self) -> list[KnownName]:
        """The names that a question may be about."""
        # The cloud is a rung of the ladder, not a name that a question is about.
        offers = [o for o in self._port.offers() if not _is_cloud(o.served.name)]
        remember(self._remembered, offers)
        return known_names(offers, self._remembered, self._parts.well_known)

    async def _classified(self, question: str, known: list[KnownName]) -> Relevance:
        classifier = self._parts.classifier
        if classifier.blocking or len(known) > MAX_NAMES_ON_LOOP:
            return await asyncio.to_thread(classifier.classify, question, known)
        return classifier.classify(question, known)

    async def _reroute(self, step: Step, failed: str, run: Run) -> Route | None:
        """The next likeliest expert for a step whose name failed, if any of it can be asked."""
        relevance = await self._classified(step.question, self._known())
        for scored in relevance.ranked:
            if scored.probability < self._parts.thresholds.second:
                return None
            if scored.name in {failed, self._parts.general_name}:
                continue
            try:
                offers = self._port.resolve(scored.name, run.task)
            except GossamerError:
                continue
            if offers:
                return Route(
                    name=scored.name,
                    probability=scored.probability,
                    rule="replanned",
                    trust=scored.probability,
                )
        return None

    async def _understand(self, plan: Plan, run: Run, without: str = "") -> dict[int, Route]:
        """The name of each step, which is not ``without``."""
        known = [name for name in self._known() if name.name != without]
        routes: dict[int, Route] = {}
        for step in plan.steps:
            if step.name:
                expert = step.name != self._parts.general_name
                routes[step.id] = Route(
                    name=step.name, probability=1.0, rule=NAMED_IN_PLAN, expert=expert
                )
                continue
            relevance = await self._classified(step.question, known)
            found = route(relevance, self._parts)
            routes[step.id] = found
            run.trace.note(
                "relevance",
                f"{found.name}: {found.rule}",
                inputs={
                    "question": step.question,
                    "method": relevance.method,
                    "ranked": {s.name: round(s.probability, 4) for s in relevance.ranked[:4]},
                    "out_of_scope": relevance.out_of_scope,
                },
                score=relevance.best.probability,
                threshold=self._parts.thresholds.name,
                step=step.id,
                at_s=self._port.now() - run.begun,
            )
        return routes

    def _unanswered(self, error: GossamerError, run: Run) -> AnswerView:
        self._executor.counters["degraded"] += 1
        text = error.sentence()
        text = f"{text[:1].upper()}{text[1:]}."
        return AnswerView(
            text=text,
            degraded=True,
            elapsed_s=round(self._port.now() - run.begun, 4),
            steps=[],
            nodes=[],
            missing=[text],
            trace=run.trace.id.hex(),
            asked=self._port.node_name,
            decisions=run.trace.as_dicts(),
        )


def _is_cloud(name: str) -> bool:
    return name == CLOUD or name.startswith(f"{CLOUD}/")

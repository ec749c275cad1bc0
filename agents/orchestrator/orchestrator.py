"""The way of a request: understand, plan, allocate, execute, verify, aggregate, answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

from agents.classifier.catalogue import KnownName, known_names, remember
from agents.configure import POLICIES, PartsConfig, build
from agents.orchestrator.aggregate import cost_of, missing_of, nodes_of, retry_of, text_of
from agents.orchestrator.allocate import Route, route
from agents.orchestrator.events import Answered, AskEvent, Planned
from agents.orchestrator.execute import Executor
from agents.orchestrator.options import AskOptions
from agents.orchestrator.plan import Plan, PlanRefused, Step, checked
from agents.orchestrator.progress import Run
from agents.parts import Parts
from agents.port import MeshPort, Task
from agents.trace import TRACE_BYTES, Trace
from agents.views import AnswerView
from capabilities.messages import MAX_PROMPT_CHARS
from mesh.core import names
from mesh.core.access import CLOUD
from mesh.core.errors import GossamerError

# Events between the steps and whoever reads them: a slow reader slows the streams down, which
# is what credits on the wire are for; it never fills the memory.
MAX_EVENTS = 256
# Comparing a question with a name takes about a tenth of a millisecond on a board; above this
# many it goes to a thread, so that no probe waits for it.
MAX_NAMES_ON_LOOP = 64

__all__ = ["AskOptions", "Orchestrator", "make_parts"]


def make_parts(
    *,
    classifier: str = "ngram",
    planner: str = "rules",
    policy: str = "load_aware",
    escalation: str = "ladder",
    options: Mapping[str, dict[str, Any]] | None = None,
) -> Parts:
    """The parts by name; raises :class:`~mesh.core.errors.ConfigError`. All fields:
    :class:`~agents.configure.PartsConfig`."""
    return build(
        PartsConfig(
            classifier=classifier,
            planner=planner,
            policy=policy,
            escalation=escalation,
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
        self._remembered: dict[str, KnownName] = {}

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
        routes = await self._understand(plan, options, run)
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
        return AnswerView(
            text=text_of(views),
            degraded=bool(missing),
            elapsed_s=round(self._port.now() - begun, 4),
            steps=views,
            nodes=nodes_of(views),
            missing=missing,
            trace=trace_id.hex(),
            asked=self._port.node_name,
            cost=cost_of(views),
            retry_after_s=retry_of(views),
            decisions=run.trace.as_dicts(),
        )

    async def _plan(self, question: str, options: AskOptions, run: Run) -> Plan:
        if not question.strip():
            raise PlanRefused("there is no question", hint="ask something")
        if len(question) > MAX_PROMPT_CHARS:
            raise PlanRefused(
                f"the question has {len(question)} characters, at most {MAX_PROMPT_CHARS} are taken"
            )
        if options.name:
            step = Step(id=1, question=question, name=names.parse_address(options.name).name)
            plan = Plan(steps=(step,), method="asked for by name")
        else:
            # In a thread: the first plan with dependent steps imports the graph library, which
            # takes some hundred milliseconds, and probes must not wait for it.
            plan = await asyncio.to_thread(self._checked_plan, question)
        run.trace.note("plan", plan.method, inputs={"question": question, "steps": len(plan.steps)})
        return plan

    def _checked_plan(self, question: str) -> Plan:
        return checked(self._parts.planner.plan(question))

    async def _understand(self, plan: Plan, options: AskOptions, run: Run) -> dict[int, Route]:
        """The name of each step."""
        # The cloud is a rung of the ladder, not a name that a question is about.
        offers = [o for o in self._port.offers() if not _is_cloud(o.served.name)]
        remember(self._remembered, offers)
        known = known_names(offers, self._remembered, self._parts.well_known)
        routes: dict[int, Route] = {}
        classifier = self._parts.classifier
        for step in plan.steps:
            if step.name:
                expert = step.name != self._parts.general_name
                routes[step.id] = Route(
                    name=step.name, probability=1.0, rule="named in the plan", expert=expert
                )
                continue
            if classifier.blocking or len(known) > MAX_NAMES_ON_LOOP:
                relevance = await asyncio.to_thread(classifier.classify, step.question, known)
            else:
                relevance = classifier.classify(step.question, known)
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

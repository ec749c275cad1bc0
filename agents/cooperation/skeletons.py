"""Long answers written by several nodes from one outline, with or without a private context.

The strong node (the biggest model of a name, or the cloud) writes an outline; each point of it is
a job of its own, given out over the mesh. With a private context the strong node is shown the
instruction alone, and this node's own model writes every point. Where no outline comes back, or
the instruction itself would tell what is private, a fixed one takes its place, and that is said.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import msgspec

from agents.classifier.complexity import ComplexityClassifier
from agents.cooperation import skeletons_protocol as protocol
from agents.cooperation.computation import Fanout, Job
from agents.cooperation.skeletons_protocol import Budget, Candidate, OutlineRefused, Point
from agents.orchestrator.asking import Asker, Said
from agents.orchestrator.options import AskOptions
from agents.port import MeshPort, Offer, Task
from agents.trace import TRACE_BYTES, Trace
from agents.views import AnswerView, StatementView, StepView
from capabilities.messages import Generate
from mesh.core.access import CLOUD
from mesh.core.errors import ConfigError, GossamerError, NoSuchName
from mesh.core.wire import Reach

OUTLINE_SHARE = 0.3  # of the time, for the strong node's outline
DIRECT, OUTLINED, PRIVATE = "direct", "outline", "private"

Secrets = Callable[[str], Sequence[str]]


class SkeletonOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``private`` is seen by this node alone. ``strong`` is the name whose biggest node writes
    the outline (empty: the general one; "cloud": the cloud's desk). ``length`` in tokens, 0: as
    is predicted."""

    private: str = ""
    strong: str = ""
    length: int = 0


class Outlined(msgspec.Struct, frozen=True, kw_only=True, tag="plan"):
    """The points as steps that wait."""

    steps: list[StepView]


class PointDone(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    """A point is written, or was not."""

    step: StepView


class Written(msgspec.Struct, frozen=True, kw_only=True, tag="written"):
    """The last event. ``mode`` is direct, outline or private; ``outline_by`` the node that wrote
    the outline, empty with ``fallback`` for the fixed one."""

    answer: AnswerView
    mode: str
    outline: list[Point]
    outline_by: str = ""
    fallback: str = ""  # why the outline is the fixed one
    predicted_tokens: int = 0
    outline_chars: int = 0
    candidates: int = 0  # texts that were written for all points


class Skeletons:
    """Writes long answers; one per agent. ``secrets`` finds in a text what is personal."""

    def __init__(
        self,
        port: MeshPort,
        asker: Asker,
        complexity: ComplexityClassifier,
        general_name: str,
        secrets: Secrets | None = None,
    ) -> None:
        self._port = port
        self._asker = asker
        self._complexity = complexity
        self._general = general_name
        self._secrets = secrets

    async def write(
        self, instruction: str, options: AskOptions, choices: SkeletonOptions | None = None
    ) -> AsyncGenerator[Outlined | PointDone | Written, None]:
        """Events as the text is written; the last is :class:`Written`.

        Raises :class:`ConfigError` for what cannot be asked for, or a private context with no
        model on this node. Closing the iterator cancels.
        """
        choices = choices or SkeletonOptions()
        _check(instruction, options, choices)
        session = _Session(self._port, self._asker, self._general, options, choices)
        tokens = choices.length or options.max_tokens
        tokens = tokens or self._complexity.estimate(instruction).answer_tokens
        session.trace_length(tokens)
        if tokens < protocol.LEAST_TOKENS:
            yield await session.direct(instruction, protocol.budget_of(tokens))
            return
        async with aclosing(session.outlined(instruction, tokens, self._secrets)) as events:
            async for event in events:
                yield event


def _check(instruction: str, options: AskOptions, choices: SkeletonOptions) -> None:
    if not instruction.strip():
        raise ConfigError("there is no instruction", hint="say what is to be written")
    if len(instruction) > protocol.MAX_INSTRUCTION_CHARS:
        raise ConfigError(
            f"an instruction has at most {protocol.MAX_INSTRUCTION_CHARS} characters",
            hint="put what it is about into the private file",
        )
    if len(choices.private) > protocol.MAX_PRIVATE_CHARS:
        raise ConfigError(
            f"a private context has at most {protocol.MAX_PRIVATE_CHARS} characters",
            hint="give the part of it that matters",
        )
    if not 0 <= choices.length <= protocol.MOST_LENGTH:
        raise ConfigError(f"a length is 0 (predicted) to {protocol.MOST_LENGTH} tokens")
    if choices.strong in {"cloud", CLOUD} and options.reach < Reach.CLOUD:
        raise ConfigError("this task may not leave the mesh", hint="allow it: --reach cloud")


class _Session:
    """One text."""

    def __init__(
        self,
        port: MeshPort,
        asker: Asker,
        general: str,
        options: AskOptions,
        choices: SkeletonOptions,
    ) -> None:
        self._port = port
        self._asker = asker
        self._general = general
        self._options = options
        self._private = choices.private.strip()
        self._strong_name = CLOUD if choices.strong == "cloud" else choices.strong or general
        self._begun = port.now()
        trace = options.trace or os.urandom(TRACE_BYTES)
        self._task = Task(
            trace=trace,
            deadline=self._begun + options.timeout_s,
            reach=options.reach,
            priority=options.priority,
            hops=options.hops,
            groups=options.groups,
            caller=options.caller,
            warrant=options.warrant,
        )
        self._trace = Trace(trace)
        self._points: tuple[Point, ...] = ()
        self._written = 0

    def trace_length(self, tokens: int) -> None:
        short = tokens < protocol.LEAST_TOKENS
        action = "short: written at once" if short else "long: written from an outline"
        self._note("skeleton.length", action, score=tokens, threshold=protocol.LEAST_TOKENS)

    # -- at once ----------------------------------------------------------------------------

    async def direct(self, instruction: str, budget: Budget) -> Written:
        """The answer without an outline."""
        asker, task = self._writers()
        request = protocol.direct_request(instruction, budget, self._private)
        said = await asker.ask(self._general, request, task, self._options)
        point = Point(title=" ".join(instruction.split())[: protocol.TITLE_CHARS])
        view = self._view(1, point, Candidate(text=said.text, node=said.node), said)
        return self._end(DIRECT, [view], budget, point_titles=False)

    # -- from an outline --------------------------------------------------------------------

    async def outlined(
        self, instruction: str, tokens: int, secrets: Secrets | None
    ) -> AsyncGenerator[Outlined | PointDone | Written, None]:
        asker, task = self._writers()  # before anything leaves: who will write it?
        strong = self._strong()
        budget = protocol.budget_of(tokens, strong.load if strong is not None else 0.0)
        by, fallback = "", ""
        try:
            by = await self._outline(instruction, budget, strong, secrets)
        except GossamerError as error:
            fallback = error.sentence()
            self._points = protocol.fixed_outline(budget)
            self._note("skeleton.fixed", f"the fixed outline: {fallback}")
        points = self._points
        budget = msgspec.structs.replace(budget, points=len(points))
        yield Outlined(steps=[self._waiting(n, point) for n, point in enumerate(points, 1)])
        fanout = Fanout(self._port, asker)
        width = fanout.width(self._general, task)
        twice = 2 if width >= 2 * len(points) else 1
        self._note("skeleton.expand", f"{twice} texts a point", score=width, threshold=len(points))
        jobs = [
            Job(
                id=place * 2 + other,
                request=protocol.expansion_request(
                    instruction, points, place, budget, private=self._private, other=other
                ),
            )
            for other in range(twice)
            for place in range(len(points))
        ]
        views: dict[int, StepView] = {}
        open_jobs = dict.fromkeys(range(len(points)), twice)
        found: dict[int, list[Said]] = {place: [] for place in range(len(points))}
        why: dict[int, str] = {}
        async with aclosing(fanout.run(self._general, jobs, task, self._options)) as running:
            async for done in running:
                place = done.id // 2
                open_jobs[place] -= 1
                if done.said is not None and done.said.text.strip():
                    found[place].append(done.said)
                    self._written += 1
                else:
                    why[place] = done.error or "the node wrote nothing"
                if not open_jobs[place]:
                    views[place] = self._chosen(place + 1, found[place], why.get(place, ""))
                    yield PointDone(step=views[place])
        steps = [views[place] for place in range(len(points))]
        mode = PRIVATE if self._private else OUTLINED
        yield self._end(mode, steps, budget, outline_by=by, fallback=fallback)

    def _writers(self) -> tuple[Asker, Task]:
        """Who writes: all of the mesh, or this node alone where there is a private context."""
        if not self._private:
            return self._asker, self._task
        task = msgspec.structs.replace(self._task, reach=Reach.NODE)
        try:
            mine = [offer for offer in self._port.resolve(self._general, task) if offer.me]
        except GossamerError:
            mine = []
        if not mine:
            raise ConfigError(
                "no model on this node may read the private context",
                hint=f"load one that answers {self._general} here (gossamer load)",
            )
        return self._asker.at(mine[0].node), task

    def _strong(self) -> Offer | None:
        """The node with the biggest model of the strong name; a peer before this node where they
        are equal, for it is one more to work."""
        try:
            offers = self._port.resolve(self._strong_name, self._task)
        except GossamerError:
            return None
        healthy = [offer for offer in offers if offer.healthy]
        if self._strong_name == CLOUD:
            return healthy[0] if healthy else None
        return min(
            healthy,
            key=lambda o: (-(o.model.parameters if o.model else 0), o.me, o.load, o.node),
            default=None,
        )

    async def _outline(
        self, instruction: str, budget: Budget, strong: Offer | None, secrets: Secrets | None
    ) -> str:
        """Have the outline written; who wrote it. Raises where there is none to work on."""
        if strong is None:
            raise NoSuchName(f"nobody offers {self._strong_name}")
        request = protocol.outline_request(instruction, budget)
        if self._private and (not strong.me or strong.served.name == CLOUD):
            await self._guard(request, secrets)
        left_s = self._task.deadline - self._port.now()
        task = msgspec.structs.replace(
            self._task,
            deadline=self._port.now() + left_s * OUTLINE_SHARE,
            why="an outline is wanted" if strong.served.name == CLOUD else "",
        )
        said = await self._asker.at(strong.node).ask(
            self._strong_name, request, task, self._options, attempts=1
        )
        self._points = protocol.read_outline(said.text, budget)
        chars = sum(len(point.sketch) for point in self._points)
        self._note(
            "skeleton.outline",
            f"{len(self._points)} points by {said.node}",
            score=chars,
            threshold=budget.sketch_chars,
            inputs={"model": said.model, "name": self._strong_name},
        )
        return said.node

    async def _guard(self, request: Generate, secrets: Secrets | None) -> None:
        """Refuse what would tell a span of the private context; nothing was sent then."""
        texts = [message.content for message in request.messages]

        def look() -> list[protocol.Leak]:
            known = secrets(self._private) if secrets is not None else ()
            return protocol.leaks(self._private, texts, known)

        found = await asyncio.to_thread(look)  # milliseconds a page: no probe waits for it
        self._note(
            "skeleton.private", "the strong node sees the instruction alone", score=len(found)
        )
        if found:
            raise OutlineRefused(
                f"the instruction repeats {len(found)} spans of the private context, so it was "
                "kept here",
                hint="say in the instruction only what anybody may read",
            )

    # -- what comes of it -------------------------------------------------------------------

    def _chosen(self, number: int, said: Sequence[Said], why: str) -> StepView:
        point = self._points[number - 1]
        if not said:
            return msgspec.structs.replace(
                self._waiting(number, point),
                status="failed",
                error=why,
                elapsed_s=self._elapsed(),
            )
        candidates = [
            Candidate(text=one.text, node=one.node, mean_logprob=one.evidence.mean_logprob)
            for one in said
        ]
        taken, score = protocol.best(candidates, point)
        place = candidates.index(taken)
        self._note(
            "skeleton.choose",
            f"point {number}: text {place + 1} of {len(candidates)}, by {taken.node}",
            score=score,
            step=number,
        )
        return self._view(number, point, taken, said[place])

    def _waiting(self, number: int, point: Point) -> StepView:
        return StepView(
            id=number, name=self._general, node="", question=point.title, status="waiting"
        )

    def _view(self, number: int, point: Point, taken: Candidate, said: Said) -> StepView:
        return StepView(
            id=number,
            name=self._general,
            node=taken.node,
            question=point.title,
            status="ok",
            text=taken.text,
            elapsed_s=round(said.elapsed_s, 4),
            tokens=said.usage.completion_tokens,
            prompt_tokens=said.usage.prompt_tokens,
            attempts=list(said.attempts),
            remote=taken.node != self._port.node_name,
            model=said.model,
            finish=said.finish,
        )

    def _end(
        self,
        mode: str,
        steps: list[StepView],
        budget: Budget,
        *,
        outline_by: str = "",
        fallback: str = "",
        point_titles: bool = True,
    ) -> Written:
        good = [step for step in steps if step.status == "ok"]
        missing = [f"{step.question}: {step.error}" for step in steps if step.status != "ok"]
        statements = [
            StatementView(text=step.text, step=step.id, name=step.name, node=step.node)
            for step in good
        ]
        answer = AnswerView(
            text=protocol.joined([step.text for step in good]),
            degraded=bool(missing),
            elapsed_s=self._elapsed(),
            steps=steps,
            nodes=list(dict.fromkeys(step.node for step in good)),
            missing=missing,
            trace=self._task.trace.hex(),
            asked=self._port.node_name,
            statements=statements if point_titles else [],
            notes=[f"the outline is the fixed one: {fallback}"] if fallback else [],
            decisions=self._trace.as_dicts(),
        )
        return Written(
            answer=answer,
            mode=mode,
            outline=list(self._points),
            outline_by=outline_by,
            fallback=fallback,
            predicted_tokens=budget.tokens,
            outline_chars=sum(len(point.sketch) for point in self._points),
            candidates=self._written or len(good),
        )

    def _elapsed(self) -> float:
        return round(self._port.now() - self._begun, 4)

    def _note(
        self,
        rule: str,
        action: str,
        *,
        score: float = 0.0,
        threshold: float = 0.0,
        step: int = 0,
        inputs: dict[str, object] | None = None,
    ) -> None:
        self._trace.note(
            rule,
            action,
            inputs=inputs,
            score=score,
            threshold=threshold,
            step=step,
            at_s=self._elapsed(),
        )

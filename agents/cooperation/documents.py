"""A question about a text too long to read at once: MinionS over the mesh.

A supervisor writes at most three tasks; peers read the chunks that fit them best, each chunk for
each task, and cite what they find; what is believed goes to the supervisor, who answers or asks
for more, for at most five rounds. The strong model reads findings, never the text. Nothing that a
model writes is run, and an answer says which words of the text it stands on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from agents.cooperation import documents_protocol as protocol
from agents.cooperation.computation import Fanout, Job
from agents.cooperation.documents_chunks import (
    CHUNK_CHARS,
    LEAST_CHUNK_CHARS,
    Chunk,
    Selector,
    chunked,
    fitting,
)
from agents.cooperation.documents_protocol import Found, NotBelieved
from agents.cooperation.documents_supervisor import ModelSupervisor, RuleSupervisor, Supervisor
from agents.orchestrator.asking import Asker, Said
from agents.orchestrator.options import AskOptions
from agents.port import MeshPort, Task
from agents.trace import TRACE_BYTES, Trace
from agents.views import AnswerView, StatementView, StepView
from capabilities.reading.capability import EXTRACT_NAME, MODEL, answer_json
from capabilities.slm.tasks import NOT_THERE
from mesh.core.access import CLOUD
from mesh.core.errors import ConfigError, GossamerError

FIRST_CHUNKS = 4  # read for a task in the first round: BM25's best mostly hold it
WIDER = 4  # times as many chunks in each round after it
MAX_FOUND_PER_TASK = 8
SUPERVISORS = ("rules", "model", "cloud")


class Reading(msgspec.Struct, frozen=True, kw_only=True, tag="reading"):
    """How far the readers are: jobs done of those given out in this round."""

    round: int
    tasks: list[str]
    jobs: int
    done: int
    found: int
    worker: str
    at_s: float = 0.0


class Read(msgspec.Struct, frozen=True, kw_only=True, tag="read"):
    """The last event: the answer, and what it took."""

    answer: AnswerView
    rounds: int
    chunks: int
    jobs: int
    supervisor: str
    supervisor_tokens: int
    worker: str
    not_believed: int  # readers' answers whose citation or form did not hold
    failed_jobs: int


class DocumentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``worker`` is the name that reads, empty: the extractive reader where it is offered, else
    this node's own. ``supervisor`` is rules, model (the general one) or cloud. ``select`` False
    reads every chunk in the first round, which is the comparison and no way to work.
    ``chunk_chars`` must leave a model that reads room in its context; 0 takes the longest that
    fits every model that may read."""

    chunk_chars: int = 0
    worker: str = ""
    supervisor: str = "rules"
    select: bool = True


class DocumentReader:
    """Answers questions about documents; one per agent."""

    def __init__(self, port: MeshPort, asker: Asker, general_name: str) -> None:
        self._port = port
        self._asker = asker
        self._general = general_name

    async def read(
        self,
        document: str,
        question: str,
        options: AskOptions,
        choices: DocumentOptions | None = None,
        *,
        supervisor: Supervisor | None = None,
    ) -> AsyncGenerator[Reading | Read, None]:
        """Events as the reading goes on; the last is :class:`Read`.

        Raises :class:`ConfigError` for a document that is empty or too long, or a choice that is
        none. What fails in the mesh is told in the answer. Closing the iterator cancels.
        """
        choices = choices or DocumentOptions()
        if not document.strip():
            raise ConfigError("the document is empty")
        if not question.strip():
            raise ConfigError("there is no question", hint="ask something about the document")
        if choices.chunk_chars and not LEAST_CHUNK_CHARS <= choices.chunk_chars <= CHUNK_CHARS:
            raise ConfigError(
                f"a chunk has {LEAST_CHUNK_CHARS} to {CHUNK_CHARS} characters, "
                f"not {choices.chunk_chars}"
            )
        begun = self._port.now()
        task = _task(options, begun)
        limit = choices.chunk_chars or self._longest(self.worker_name(choices, task), task)
        chunks = await asyncio.to_thread(chunked, document, limit)
        boss = supervisor or self._supervisor(choices, task, options, begun)
        session = _Session(self, chunks, question, options, task, choices, boss, begun)
        selector = await asyncio.to_thread(Selector, chunks)
        try:
            async with aclosing(session.run(selector)) as events:
                async for event in events:
                    yield event
        finally:
            selector.close()

    def _supervisor(
        self, choices: DocumentOptions, task: Task, options: AskOptions, now: float
    ) -> Supervisor:
        if choices.supervisor not in SUPERVISORS:
            raise ConfigError(
                f"there is no supervisor called {choices.supervisor[:40]!r}",
                hint=f"one of {', '.join(SUPERVISORS)}",
            )
        if choices.supervisor == "rules":
            return RuleSupervisor()
        name = CLOUD if choices.supervisor == "cloud" else self._general
        return ModelSupervisor(self._asker, name, task, options, now)

    def worker_name(self, choices: DocumentOptions, task: Task) -> str:
        """The name that reads; empty for this node's own extractive reader."""
        if choices.worker:
            return choices.worker
        try:
            return EXTRACT_NAME if self._port.resolve(EXTRACT_NAME, task) else ""
        except GossamerError:
            return ""

    def _longest(self, worker: str, task: Task) -> int:
        """The longest chunk that the models behind a name hold with a task and an answer."""
        try:
            offers = self._port.resolve(worker, task) if worker else []
        except GossamerError:
            offers = []
        contexts = [offer.model.context for offer in offers if offer.healthy and offer.model]
        empty = protocol.reader_request("", "")
        around = protocol.MAX_TASK_CHARS + sum(len(message.content) for message in empty.messages)
        return fitting(contexts, around, empty.max_tokens)

    def fanout(self) -> Fanout:
        """What gives the jobs out."""
        return Fanout(self._port, self._asker)

    @property
    def node_name(self) -> str:
        """This node."""
        return self._port.node_name

    def now(self) -> float:
        """Monotonic seconds."""
        return self._port.now()


class _Session:
    """One question about one document."""

    def __init__(
        self,
        reader: DocumentReader,
        chunks: Sequence[Chunk],
        question: str,
        options: AskOptions,
        task: Task,
        choices: DocumentOptions,
        supervisor: Supervisor,
        begun: float,
    ) -> None:
        self._reader = reader
        self._chunks = chunks
        self._question = question
        self._options = options
        self._task = task
        self._choices = choices
        self._supervisor = supervisor
        self._begun = begun
        self._worker = reader.worker_name(choices, task)
        self._trace = Trace(task.trace)
        self._found: list[Found] = []
        self._read: set[tuple[str, int]] = set()
        self._tasks: list[str] = []
        self._jobs = self._not_believed = self._failed = 0
        self._last_error = ""

    async def run(self, selector: Selector) -> AsyncGenerator[Reading | Read, None]:
        about = f"a document of {len(self._chunks)} pieces"
        longest = max(len(chunk.text) for chunk in self._chunks)
        self._note("documents.chunks", f"{len(self._chunks)} of at most {longest} characters", 0)
        feedback, decision = "", protocol.Decision(final=False)
        number = 0
        for number in range(1, protocol.MAX_ROUNDS + 1):
            tasks = await self._supervisor.tasks(about, self._question, feedback)
            self._tasks = list(dict.fromkeys([*self._tasks, *tasks]))
            ranked = await asyncio.to_thread(self._ranked, selector, tasks)
            jobs = self._next(ranked, number)
            self._note("documents.round", f"{len(tasks)} tasks, {len(jobs)} jobs", number)
            async with aclosing(self._round(number, tasks, jobs)) as events:
                async for event in events:
                    yield event
            more = any((t, c) not in self._read for t, order in ranked.items() for c in order)
            more = more and self._left() > 0 and self._jobs < protocol.MAX_JOBS
            decision = await self._supervisor.decide(
                self._question, self._tasks, self._found, more=more
            )
            what = "final" if decision.final else "additional"
            self._note("documents.decision", what, len(self._found))
            if decision.final or not more:
                break
            feedback = decision.feedback
        yield self._answer(decision, number)

    def _ranked(self, selector: Selector, tasks: Sequence[str]) -> dict[str, list[int]]:
        if not self._choices.select:
            return {task: [chunk.id for chunk in self._chunks] for task in tasks}
        return {task: selector.ranked(task) for task in tasks}

    def _next(self, ranked: dict[str, list[int]], number: int) -> list[tuple[str, int]]:
        """The jobs of a round: for each task that lacks a finding, the next best chunks."""
        most = FIRST_CHUNKS * WIDER ** (number - 1)
        jobs: list[tuple[str, int]] = []
        for task, order in ranked.items():
            if self._choices.select and any(f.task == task for f in self._found):
                continue
            fresh = [chunk for chunk in order if (task, chunk) not in self._read]
            jobs += [(task, chunk) for chunk in (fresh[:most] if self._choices.select else fresh)]
        return jobs[: protocol.MAX_JOBS - self._jobs]

    async def _round(
        self, number: int, tasks: Sequence[str], jobs: Sequence[tuple[str, int]]
    ) -> AsyncGenerator[Reading, None]:
        self._read |= set(jobs)
        self._jobs += len(jobs)
        order = {job: place for place, job in enumerate(jobs)}
        round_found: list[tuple[int, Found]] = []

        def reading(done: int) -> Reading:
            return Reading(
                round=number,
                tasks=list(tasks),
                jobs=len(jobs),
                done=done,
                found=len(self._found) + len(round_found),
                worker=self._worker or f"{MODEL} on this node",
                at_s=round(self._reader.now() - self._begun, 4),
            )

        yield reading(0)
        done = 0
        async with aclosing(self._said(jobs)) as answers:
            async for place, said, error in answers:
                done += 1
                task, chunk = jobs[place]
                if said is None:
                    self._failed += 1
                    self._last_error = error
                else:
                    found = self._believed(said, task, chunk)
                    if found is not None:
                        round_found.append((order[task, chunk], found))
                yield reading(done)
        # In the order of the ranking and not of arrival: the same question, the same answer.
        for _, found in sorted(round_found, key=lambda pair: pair[0]):
            same = [f for f in self._found if f.task == found.task]
            if len(same) < MAX_FOUND_PER_TASK and found.citation not in {f.citation for f in same}:
                self._found.append(found)

    async def _said(
        self, jobs: Sequence[tuple[str, int]]
    ) -> AsyncGenerator[tuple[int, Said | None, str], None]:
        if not self._worker:
            for place, (task, chunk) in enumerate(jobs):
                if self._left() <= 0:
                    yield place, None, "no time was left"
                    continue
                text = await asyncio.to_thread(answer_json, self._chunks[chunk].text, task)
                yield place, Said(text=text, node=self._reader.node_name, model=MODEL), ""
            return
        asked = [
            Job(id=place, request=protocol.reader_request(self._chunks[chunk].text, task))
            for place, (task, chunk) in enumerate(jobs)
        ]
        fanout = self._reader.fanout()
        running = fanout.run(self._worker, asked, self._task, self._options)
        async with aclosing(running) as finished:
            async for done in finished:
                yield done.id, done.said, done.error

    def _believed(self, said: Said, task: str, chunk: int) -> Found | None:
        try:
            return protocol.read_answer(
                said.text, task, self._chunks[chunk].text, chunk, said.node, said.model
            )
        except NotBelieved as error:
            self._not_believed += 1
            self._note("documents.not_believed", f"{said.node}: {error.sentence()}", chunk)
            return None

    def _left(self) -> float:
        return self._task.deadline - self._reader.now()

    def _note(self, rule: str, action: str, score: float) -> None:
        self._trace.note(rule, action, score=score, at_s=self._reader.now() - self._begun)

    def _answer(self, decision: protocol.Decision, rounds: int) -> Read:
        steps = [self._step(number, task) for number, task in enumerate(self._tasks, start=1)]
        missing = [f"{s.question} {s.error}" for s in steps if s.status != "ok"]
        statements = [
            StatementView(
                text=found.answer,
                step=self._tasks.index(found.task) + 1,
                name=self._worker or EXTRACT_NAME,
                node=found.node,
                citation=found.citation,
            )
            for found in self._found
        ]
        lines = [f'{s.question} {s.text}' if s.status == "ok" else f"{s.question} {s.error}"
                 for s in steps]  # fmt: skip
        told = decision.answer.strip() if decision.final else ""
        if told and statements:
            lines = [told]
        lines += [f'  "{statement.citation}"' for statement in statements]
        answer = AnswerView(
            text="\n".join(lines),
            degraded=bool(missing),
            elapsed_s=round(self._reader.now() - self._begun, 4),
            steps=steps,
            nodes=list(dict.fromkeys(found.node for found in self._found)),
            missing=missing,
            trace=self._task.trace.hex(),
            asked=self._reader.node_name,
            objective=self._options.objective,
            statements=statements,
            notes=list(getattr(self._supervisor, "fallbacks", [])),
            decisions=self._trace.as_dicts(),
        )
        return Read(
            answer=answer,
            rounds=rounds,
            chunks=len(self._chunks),
            jobs=self._jobs,
            supervisor=self._supervisor.name,
            supervisor_tokens=self._supervisor.tokens,
            worker=self._worker or f"{MODEL} on this node",
            not_believed=self._not_believed,
            failed_jobs=self._failed,
        )

    def _step(self, number: int, task: str) -> StepView:
        found = next((f for f in self._found if f.task == task), None)
        error = NOT_THERE
        if found is None and self._failed:
            error = f"Not found; {self._failed} pieces were not read: {self._last_error}"
        elif found is None and self._left() <= 0:
            error = "Not found in the time there was."
        return StepView(
            id=number,
            name=self._worker or EXTRACT_NAME,
            node=found.node if found else "",
            question=task,
            status="ok" if found else "failed",
            text=found.answer if found else "",
            error="" if found else error,
            elapsed_s=round(self._reader.now() - self._begun, 4),
            remote=bool(found and found.node != self._reader.node_name),
            model=found.worker if found else "",
        )


def _task(options: AskOptions, begun: float) -> Task:
    return Task(
        trace=options.trace or os.urandom(TRACE_BYTES),
        deadline=begun + options.timeout_s,
        reach=options.reach,
        priority=options.priority,
        hops=options.hops,
        groups=options.groups,
        caller=options.caller,
        warrant=options.warrant,
    )

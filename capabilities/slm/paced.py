"""An engine that sleeps a stated time per token instead of computing; it stands for a board.

Where many nodes share a few cores, computing would measure the machine and not the mesh. This
engine is a real worker process of the same protocol, with the same scheduler, whose answers
echo the question word by word. Every figure made with it says so: its model is ``paced``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from capabilities.messages import Done, Event, Usage
from capabilities.slm import protocol
from capabilities.slm.batching import Batcher, Job
from capabilities.slm.engine import Emit, check
from capabilities.slm.errors import BadRequest, Unsupported
from capabilities.slm.output import TextStream
from mesh.core.errors import DeadlineExceeded, GossamerError
from mesh.core.records import ModelInfo

QUANTIZATION = "paced"
CATCH_UP_S = 0.5  # of lost time is made up for; what a machine loses beyond shows as slowness


@dataclass(slots=True)
class _Run:
    submit: protocol.Submit
    job: Job
    words: list[str]
    length: int
    text: TextStream
    arrived: float
    first: float = 0.0
    spoken: int = 0
    events: list[Event] = field(default_factory=list)


class PacedEngine:
    """Serves Submit at the pace of a :class:`~capabilities.slm.protocol.Paced`."""

    def __init__(
        self,
        pace: protocol.Paced,
        settings: protocol.Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pace = pace
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._steps = 0
        self._due = math.inf  # when the last step should have ended; after a rest, no matter
        self._runs: dict[int, _Run] = {}
        self._batcher = Batcher(
            slots=settings.slots,
            cells=settings.context_tokens or settings.slots * pace.context_tokens,
            sequence=pace.context_tokens,
            batch=max(settings.batch_tokens, settings.slots),
            chunk=settings.prefill_chunk,
            max_waiting=settings.max_waiting,
        )

    def ready(self) -> protocol.Ready:
        """Its stated rates; the model is marked as paced."""
        pace = self._pace
        info = ModelInfo(
            name=pace.name,
            arch="paced",
            quantization=QUANTIZATION,
            context=pace.context_tokens,
            paced=True,
        )
        return protocol.Ready(
            info=info,
            slots=self._settings.slots,
            context_tokens=self._batcher.cells,
            sequence_tokens=pace.context_tokens,
            features=["generate"],
            decode_tokens_per_s=1 / pace.token_s if pace.token_s > 0 else 0.0,
            prefill_tokens_per_s=1 / pace.prompt_token_s if pace.prompt_token_s > 0 else 0.0,
        )

    @property
    def load(self) -> tuple[int, int, int]:
        """Steps done, requests running, requests waiting."""
        return self._steps, self._batcher.running, self._batcher.waiting

    @property
    def gauges(self) -> tuple[int, int, int]:
        """It keeps no prompts and computes with no threads."""
        return 0, 0, 0

    def handle(self, command: protocol.AnyCommand, emit: Emit) -> None:
        """Take a request or a cancellation."""
        if isinstance(command, protocol.Cancel):
            self._end(command.id)
            return
        request_id = getattr(command, "id", protocol.LOAD_ID)
        try:
            if isinstance(command, protocol.Submit):
                self._submit(command)
            else:
                what = f"a paced worker does not serve {protocol.describe(command)}"
                emit(protocol.failed(request_id, Unsupported(what)))
        except GossamerError as error:
            emit(protocol.failed(request_id, error))

    def _submit(self, command: protocol.Submit) -> None:
        request = command.request
        check(request)
        if request.json_schema or request.grammar or request.tools or request.adapters:
            raise Unsupported("a paced worker echoes; it holds no answer to a form")
        if not request.messages:
            raise BadRequest("a request without messages", hint="send at least one user message")
        words = request.messages[-1].content.split() or ["..."]
        now = self._clock()
        job = self._batcher.submit(
            command.id,
            max(1, sum(len(message.content.split()) for message in request.messages)),
            request.max_tokens,
            priority=command.priority,
            deadline=now + command.timeout_s if command.timeout_s > 0 else float("inf"),
            owner=command.isolation,
            now=now,
        )
        length = self._pace.answer_tokens or len(words)
        text = TextStream(list(request.stop))
        self._runs[command.id] = _Run(command, job, words, length, text, now)

    def _end(self, request_id: int) -> None:
        self._batcher.leave(request_id)
        self._runs.pop(request_id, None)

    def step(self, emit: Emit) -> bool:
        """Sleep as long as the board would compute, then say the next words."""
        for key in self._batcher.expired(self._clock()):
            self._end(key)
            emit(protocol.failed(key, DeadlineExceeded("the deadline passed")))
        self._batcher.join(self._clock())
        shares = self._batcher.plan()
        if not shares:
            self._due = math.inf
            return False
        pace = self._pace
        filled = sum(share.count for share in shares if not share.job.generating)
        streams = len([share for share in shares if share.job.generating])
        seconds = filled * pace.prompt_token_s
        if streams:
            seconds += pace.token_s * (1 + (streams - 1) * pace.stream_cost)
        self._steps += 1
        self._pause(seconds)
        for share in shares:
            self._batcher.done(share)
            if share.samples:
                self._speak(self._runs[share.job.key], emit)
        return True

    def _pause(self, seconds: float) -> None:
        """Sleep until the step would be done: what a busy machine overslept in the last steps
        comes off, or many paced workers would measure the machine after all."""
        now = self._clock()
        self._due = max(self._due, now - CATCH_UP_S) + seconds
        self._due = min(self._due, now + seconds)
        self._sleep(max(0.0, self._due - now))

    def _speak(self, run: _Run, emit: Emit) -> None:
        run.first = run.first or self._clock()
        word = run.words[run.spoken % len(run.words)]
        run.spoken += 1
        over = run.spoken >= run.length
        events: list[Event] = [*run.text.push((word if over else word + " ").encode())]
        finish = "stop" if over or run.text.stopped else ""
        if not finish and run.spoken >= run.job.answer:
            finish = "length"
        if finish:
            events += run.text.flush()
            usage = Usage(
                prompt_tokens=run.job.prompt,
                completion_tokens=run.spoken,
                first_token_s=run.first - run.arrived,
                total_s=self._clock() - run.arrived,
            )
            events.append(
                Done(text=run.text.text, finish=finish, model=self._pace.name, usage=usage)
            )
            self._end(run.submit.id)
        if events:
            emit(protocol.Output(id=run.submit.id, events=events))

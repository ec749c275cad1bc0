"""The stronger side of a model on two machines: a segment served as a capability.

Upload and infer are calls of their own and run side by side; what several askers want in the same
moment goes into one decode of the worker. The rules of what is kept are in
:mod:`capabilities.segments.streams`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.segments import messages
from capabilities.segments.choosing import choose, confidence
from capabilities.segments.files import Segment
from capabilities.segments.messages import Chosen, Closed, Have, Infer, Missing, Open, Upload
from capabilities.segments.passes import Passes
from capabilities.segments.streams import Key, Limits, Stream, Streams
from capabilities.slm.errors import BadRequest, SequenceLost
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Block, SequenceState
from mesh.core.errors import GossamerError, ModelError, Rejected
from mesh.core.records import ModelInfo, ServedName

MAX_CALLS = 256  # under way; most of them wait for rows or for the worker
PASS_S = 30.0  # the longest that the worker may take for one pass
WAIT_SHARE = 0.8  # of the asker's time for rows that do not come; then it is told what is missing


class SegmentCapability(Capability):
    """Serves ``computation.gpt/segment/<model>/<from>-<to>`` with a worker that holds the file."""

    def __init__(
        self,
        host: ModelHost,
        segment: Segment,
        *,
        limits: Limits | None = None,
        passes: Passes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._passes: Passes = passes or host
        self._segment = segment
        self._limits = limits
        self._clock = clock
        self._streams: Streams | None = None
        self._news: dict[Key, asyncio.Condition] = {}
        self._order: dict[Key, asyncio.Lock] = {}
        self._calls = 0
        self._running = 0
        self._sweeper: asyncio.Task[None] | None = None
        self._slots = 1

    @property
    def names(self) -> Sequence[ServedName]:
        """Its one name."""
        one = self._segment
        return (
            ServedName(
                name=one.name,
                domain="segment",
                description=f"layers {one.range} of {one.layers} of {one.model}: "
                "rows in, the next token out",
                model=one.model,
            ),
        )

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The segment's file, once it is loaded."""
        return (self._host.info,) if self._streams is not None else ()

    @property
    def streams(self) -> Streams:
        """What is kept; raises ModelError before the start."""
        if self._streams is None:
            raise ModelError("the segment is not loaded", hint="start the capability first")
        return self._streams

    async def start(self) -> None:
        """Load the segment."""
        if not self._segment.exit:
            raise ModelError(
                f"{self._segment.path.name} ends in rows, not in tokens",
                hint="serve a segment that reaches the last layer, or one with an exit head",
            )
        await self._host.start()
        ready = self._host.ready
        limits = self._limits or Limits(positions=ready.sequence_tokens)
        self._streams = Streams(self._host.info.embedding_dim, limits)
        self._slots = ready.slots
        self._sweeper = asyncio.create_task(self._sweep(), name="segment-sweep")

    async def stop(self) -> None:
        """End the worker and forget all streams."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._host.stop()

    def admit(self, request: Request) -> Admission:
        """Take what belongs to a stream: its rows are few, and the worker batches."""
        if request.name != self._segment.name:
            return Admission(accepted=False, reason=f"{request.name} is not served here")
        health = self._host.health()
        if not health.healthy:
            reason = health.note or f"the model is {health.state}"
            return Admission(accepted=False, reason=reason, retry_after_s=1.0)
        if self._calls >= MAX_CALLS:
            return Admission(accepted=False, reason=f"{self._calls} calls are under way")
        return ACCEPTED

    def occupancy(self) -> Occupancy:
        """How full it is now."""
        health = self._host.health()
        return Occupancy(
            slots=self._slots,
            inflight=min(self._slots, self._running),
            queued=max(0, self._running - self._slots),
            places=MAX_CALLS,
            healthy=health.healthy,
            note="" if health.healthy else health.note or health.state,
        )

    async def serve(self, request: Request) -> AsyncIterator[bytes]:
        """One answer to one message."""
        self._calls += 1
        try:
            yield messages.encode(await self._answer(request))
        finally:
            self._calls -= 1

    async def _answer(self, request: Request) -> messages.Answer:
        question = messages.decode_question(request.body)
        key = (request.isolation, question.stream)
        if isinstance(question, Open):
            return await self._open(key, question)
        if isinstance(question, Upload):
            return await self._upload(key, question)
        if isinstance(question, Infer):
            return await self._infer(key, question, request.timeout_s)
        await self.forget([key])
        return Closed()

    # --- the two APIs

    async def _open(self, key: Key, question: Open) -> Have:
        if question.model_sha256 != self._segment.model_sha256:
            raise BadRequest(
                "the other half is of another model file",
                hint="cut both halves from one file with gossamer model split",
            )
        await self.forget(self.streams.expired(self._clock()))
        stream = self.streams.open(
            key, question.epoch, question.keep, question.sampling, self._clock()
        )
        return Have(have=stream.have)

    async def _upload(self, key: Key, question: Upload) -> Have | Missing:
        stream = self.streams.get(key, question.epoch)
        if stream is None:
            return Missing(have=0)
        try:
            taken = self._take(stream, question)
        except Rejected:
            # Somebody who has been silent for longer gives way, and can send again.
            victim = self.streams.longest_unused(key)
            if victim is None:
                raise
            await self.forget([victim])
            taken = self._take(stream, question)
        if not taken:
            return Missing(have=stream.have)
        news = self._news.get(key)
        if news is not None:
            async with news:
                news.notify_all()
        return Have(have=stream.have)

    def _take(self, stream: Stream, question: Upload) -> bool:
        return self.streams.upload(stream, question.position, question.rows, self._clock())

    async def _infer(self, key: Key, question: Infer, timeout_s: float) -> Chosen | Missing:
        stream = self.streams.get(key, question.epoch)
        if stream is None:
            return Missing(have=0)
        stream.used_at = self._clock()
        if not await self._arrived(key, stream, question.position, timeout_s * WAIT_SHARE):
            return Missing(have=stream.have)
        async with self._order.setdefault(key, asyncio.Lock()):
            last = stream.last
            if last is not None and last.position == question.position:
                return last  # the answer was lost on its way, or asked for twice
            if question.position < stream.done:
                raise BadRequest(
                    f"position {question.position} is computed already",
                    hint="raise the epoch to write history anew",
                )
            stream.busy = True
            self._running += 1
            try:
                return await self._compute(key, stream, question)
            except SequenceLost:
                self.streams.cut(stream, 0)
                return Missing(have=0)
            finally:
                self._running -= 1
                stream.busy = False

    async def _arrived(self, key: Key, stream: Stream, position: int, wait_s: float) -> bool:
        """Wait until the row of a position is there."""
        if stream.have > position:
            return True
        news = self._news.setdefault(key, asyncio.Condition())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), news:
                await news.wait_for(lambda: stream.have > position)
        return stream.have > position

    async def _compute(self, key: Key, stream: Stream, question: Infer) -> Chosen:
        await self._make_resident(key, stream)
        rows = self.streams.take(stream, question.position)
        block = Block(rows=len(rows), width=rows.shape[1], data=rows.astype("<f4").tobytes())
        began = self._clock()
        found = await self._passes.forward(
            _sequence(key), stream.done, block, timeout_s=PASS_S, logprobs=stream.sampling.wants
        )
        pairs = found.logprobs[-1]
        answer = Chosen(
            position=question.position,
            token=choose(pairs, stream.sampling, question.position, question.counts),
            probability=confidence(pairs),
            compute_s=self._clock() - began,
            rows=len(rows),
        )
        self.streams.computed(stream, answer, self._clock())
        return answer

    # --- memory

    async def _make_resident(self, key: Key, stream: Stream) -> None:
        """Bring a parked stream back into the model's memory, and park another if need be."""
        if stream.done and stream.parked is None:
            return
        while (other := self.streams.to_park(key)) is not None:
            # Its own asker waits meanwhile: a pass between save and drop would be forgotten. Nobody
            # waits in a circle, since who holds an order is busy, and the busy are not parked.
            async with self._order.setdefault(other, asyncio.Lock()):
                await self._park(other)
        mine = self.streams.unpark(stream)
        if isinstance(mine, SequenceState):
            await self._passes.restore_sequence(_sequence(key), mine, timeout_s=PASS_S)

    async def _park(self, key: Key) -> None:
        """Take a stream out of the model's memory, unless it was used or closed meanwhile."""
        parked = self.streams.get(key, self.streams.epoch(key))
        if parked is None or parked.busy or not parked.done or parked.parked is not None:
            return
        parked.busy = True
        try:
            state = await self._passes.save_sequence(_sequence(key), timeout_s=PASS_S)
            self.streams.park(parked, state, len(state.data))
            await self._passes.drop_sequence(_sequence(key), timeout_s=PASS_S)
        except SequenceLost:
            self.streams.cut(parked, 0)
        finally:
            parked.busy = False

    async def forget(self, keys: Sequence[Key]) -> None:
        """Let go of streams, here and in the worker; harmless for those that are not there."""
        for key in keys:
            self.streams.close(key)
            self._news.pop(key, None)
            self._order.pop(key, None)
            with contextlib.suppress(GossamerError):
                await self._passes.drop_sequence(_sequence(key), timeout_s=PASS_S)

    async def _sweep(self) -> None:
        """Let go of what nobody has used for a while, also when nobody calls."""
        while True:
            await asyncio.sleep(self.streams.limits.idle_s / 4)
            await self.forget(self.streams.expired(self._clock()))


def _sequence(key: Key) -> str:
    return f"{key[0]}/{key[1]}"

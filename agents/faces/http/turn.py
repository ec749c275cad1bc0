"""An answer on its way: one stream of pieces and an end, whoever makes it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import msgspec

from agents.faces.http.convert import Job, forced_call
from agents.faces.http.errors import HttpError, http_error
from agents.faces.http.live import LiveText
from agents.faces.http.schema import CachedTokens, Provenance, RouteStep, UsageBody
from agents.library import Agent
from agents.library.events import Asked, Delta, Generation
from agents.views import AnswerView, StepView
from capabilities.messages import TokenLogprob, ToolCall
from mesh.core.errors import GossamerError

log = logging.getLogger("gossamer.http")

# Pieces that wait for a client that reads slowly; then the agent waits, and a peer's credits.
MAX_WAITING = 64


class Piece(msgspec.Struct, frozen=True):
    """A piece of text."""

    text: str
    thinking: bool = False
    logprobs: list[TokenLogprob] = []
    index: int = 0  # of several answers, which


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer. ``rest`` is text of it that was in no piece."""

    text: str
    rest: str
    thinking: str
    finish: str
    usage: UsageBody
    provenance: Provenance
    model: str
    tool_calls: list[ToolCall] = []
    logprobs: list[TokenLogprob] = []
    index: int = 0


class Over(msgspec.Struct, frozen=True):
    """Nothing more comes."""


Item = Piece | End


async def answer(agent: Agent, job: Job) -> AsyncIterator[Item]:
    """Pieces and one end; raises :class:`GossamerError` or :class:`HttpError`."""
    source = _asked(agent, job) if job.whole else _generated(agent, job)
    async with aclosing(source):  # type: ignore[type-var]
        async for item in source:
            yield item


async def answers(agent: Agent, jobs: Sequence[Job]) -> AsyncIterator[Item]:
    """The same of several jobs at once: pieces as they come, an end for each. When one fails, all
    of them are over."""
    if len(jobs) == 1:
        source = answer(agent, jobs[0])
        async with aclosing(source):  # type: ignore[type-var]
            async for item in source:
                yield item
        return
    came: asyncio.Queue[Item | Exception] = asyncio.Queue(MAX_WAITING)

    async def follow(index: int, job: Job) -> None:
        try:
            source = answer(agent, job)
            async with aclosing(source):  # type: ignore[type-var]
                async for item in source:
                    await came.put(msgspec.structs.replace(item, index=index))
        except Exception as error:
            await came.put(error)

    tasks = [asyncio.create_task(follow(index, job)) for index, job in enumerate(jobs)]
    try:
        left = len(jobs)
        while left:
            next_ = await came.get()
            if isinstance(next_, Exception):
                raise next_
            left -= isinstance(next_, End)
            yield next_
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _generated(agent: Agent, job: Job) -> AsyncIterator[Item]:
    thinking: list[str] = []
    seen: list[str] = []
    logprobs: list[TokenLogprob] = []
    events = agent.generate_stream(
        job.target,
        job.request,
        timeout_s=job.timeout_s,
        reach=job.wishes.reach,
        trace=job.wishes.trace,
    )
    async with aclosing(events):  # type: ignore[type-var]
        async for event in events:
            match event:
                case Delta():
                    (thinking if event.thinking else seen).append(event.text)
                    logprobs += [] if event.thinking else event.logprobs
                    if not job.forced:
                        yield Piece(event.text, event.thinking, event.logprobs)
                case Generation():
                    yield _end(job, event, "".join(seen), "".join(thinking), logprobs)
                case Asked():
                    pass


def _end(job: Job, done: Generation, seen: str, thinking: str, logprobs: list[TokenLogprob]) -> End:
    calls, text, finish = done.tool_calls, seen or done.text, done.finish
    if job.forced:
        call = forced_call(done.text, job.forced)
        if call is not None:
            calls, text, finish = [call], "", "tool_calls"
    return End(
        text=text,
        rest=text if job.forced or not seen else "",
        thinking=thinking,
        finish="tool_calls" if calls else finish if finish == "length" else "stop",
        usage=usage_of(
            done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.cached_tokens
        ),
        provenance=Provenance(
            trace=done.trace,
            nodes=[done.node],
            route=[
                RouteStep(
                    name=done.name,
                    node=done.node,
                    status="ok",
                    model=done.model,
                    tokens=done.usage.completion_tokens,
                    elapsed_s=done.elapsed_s,
                    attempts=done.attempts,
                    remote=done.remote,
                    halves=done.halves,
                )
            ],
            cost=done.cost,
            elapsed_s=done.elapsed_s,
            first_token_s=done.first_token_s,
        ),
        model=done.model,
        tool_calls=calls,
        logprobs=logprobs,
    )


async def _asked(agent: Agent, job: Job) -> AsyncIterator[Item]:
    *before, last = job.request.messages
    system = "\n".join(message.content for message in before if message.role == "system")
    live = LiveText(hold=job.hold)
    thinking: list[str] = []
    began, first_s = time.monotonic(), -1.0
    events = agent.stream(
        last.content,
        timeout_s=job.timeout_s,
        reach=job.wishes.reach,
        system=system,
        history=[message for message in before if message.role != "system"],
        max_tokens=job.request.max_tokens,
        temperature=job.request.temperature,
        seed=job.request.seed,
        trace=job.wishes.trace,
    )
    async with aclosing(events):  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, AnswerView):
                _require_an_answer(event)
                rest = live.finish(event)
                yield _whole(event, rest, "".join(thinking), first_s)
                continue
            for text, thought in live.event(event):
                if first_s < 0:
                    first_s = time.monotonic() - began
                if thought:
                    thinking.append(text)
                yield Piece(text, thought)


def _require_an_answer(answer: AnswerView) -> None:
    """An answer without a single part that went well is an error for a program."""
    if any(step.status == "ok" for step in answer.steps):
        return
    if answer.retry_after_s > 0:  # there are nodes for it, and each of them is full
        raise HttpError(
            429,
            answer.text or "every node that could answer is full",
            kind="rate_limit_error",
            code="rejected",
            retry_after_s=answer.retry_after_s,
        )
    raise HttpError(
        503,
        answer.text or "nobody in the mesh could answer",
        kind="service_unavailable_error",
        code="no_answer",
    )


def _whole(answer: AnswerView, rest: str, thinking: str, first_s: float) -> End:
    good = [step for step in answer.steps if step.status == "ok"]
    cut = any(step.finish == "length" for step in good)
    return End(
        text=answer.text,
        rest=rest,
        thinking=thinking,
        finish="length" if cut else "stop",
        usage=usage_of(sum(step.prompt_tokens for step in good), sum(step.tokens for step in good)),
        provenance=Provenance(
            trace=answer.trace,
            nodes=answer.nodes,
            route=[_route(step) for step in answer.steps],
            cost=answer.cost,
            degraded=answer.degraded,
            missing=answer.missing,
            elapsed_s=answer.elapsed_s,
            first_token_s=round(first_s, 4),
        ),
        model=good[0].model if len(good) == 1 else "",
    )


def _route(step: StepView) -> RouteStep:
    return RouteStep(
        name=step.name,
        node=step.node,
        status=step.status,
        model=step.model,
        tokens=step.tokens,
        elapsed_s=step.elapsed_s,
        confidence=step.confidence,
        attempts=step.attempts,
        remote=step.remote,
        error=step.error,
        halves=step.halves,
    )


def usage_of(prompt: int, completion: int, cached: int = 0) -> UsageBody:
    """Usage in OpenAI's shape."""
    return UsageBody(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=CachedTokens(cached_tokens=cached),
    )


class Turn:
    """An answer that is made in a task of its own, so that waiting for it can end early."""

    def __init__(self, source: AsyncIterator[Item]) -> None:
        self._items: asyncio.Queue[Item | HttpError | Over] = asyncio.Queue(MAX_WAITING)
        self._task = asyncio.create_task(self._make(source))
        self._head: Item | HttpError | Over | None = None

    async def begin(self, within_s: float) -> None:
        """Wait for the first piece, at most so long; raises what went wrong before it."""
        try:
            async with asyncio.timeout(within_s):
                self._head = await self._items.get()
        except TimeoutError:
            return
        if isinstance(self._head, HttpError):
            raise self._head

    async def take(self, within_s: float | None = None) -> list[Item] | None:
        """What came, in order; empty when ``within_s`` passed without; None at the end.

        Raises :class:`HttpError`, when everything before it was taken.
        """
        found: list[Item] = []
        while self._head is not None or not self._items.empty() or not found:
            head, self._head = self._head, None
            if head is None:
                try:
                    async with asyncio.timeout(within_s):
                        head = await self._items.get()
                except TimeoutError:
                    return found
            if isinstance(head, Piece | End):
                found.append(head)
                continue
            self._head = head  # the end is looked at again the next time
            if found:
                return found
            if isinstance(head, HttpError):
                raise head
            return None
        return found

    async def end(self) -> End:
        """The whole answer; raises :class:`HttpError`."""
        while (items := await self.take()) is not None:
            for item in items:
                if isinstance(item, End):
                    return item
        raise HttpError(502, "the answer ended before it was whole", kind="server_error")

    async def ends(self) -> list[End]:
        """The ends of all answers, in their order; raises :class:`HttpError`."""
        found: list[End] = []
        while (items := await self.take()) is not None:
            found += [item for item in items if isinstance(item, End)]
        return sorted(found, key=lambda end: end.index)

    async def close(self) -> None:
        """Cancel what is still under way."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _make(self, source: AsyncIterator[Item]) -> None:
        try:
            async with aclosing(source):  # type: ignore[type-var]
                async for item in source:
                    await self._items.put(item)
            await self._items.put(Over())
        except HttpError as error:
            await self._items.put(error)
        except GossamerError as error:
            await self._items.put(http_error(error))
        except Exception:
            log.exception("making an answer failed")
            await self._items.put(HttpError(500, "internal error", kind="server_error"))

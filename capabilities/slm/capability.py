"""A model as a capability of a node: served under names, admitted against its real slots."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.messages import Done, Event, Generate, Message, Usage, decode, encode
from capabilities.slm.host import Health
from capabilities.slm.protocol import Ready
from mesh.core.errors import DeadlineExceeded
from mesh.core.records import ModelInfo, ServedName

DEFAULT_QUEUE = 4
CLAIM_S = 5.0  # an accepted request that nobody serves within this gives its place back
RATE_WEIGHT = 0.2  # of the newest answer in the moving averages
RATE_TOKENS = 8  # a shorter answer says nothing about speed
FIRST_GUESS_S = 1.0  # how long an answer takes, before the first has been measured


class Speaker(Protocol):
    """What holds a model: a :class:`ModelHost`, or the edge of a model on two machines."""

    @property
    def ready(self) -> Ready:
        """What was loaded; raises before the start."""

    @property
    def info(self) -> ModelInfo:
        """The model."""

    def health(self) -> Health:
        """How it is now."""

    async def start(self) -> ModelInfo:
        """Load it."""

    async def stop(self) -> None:
        """End it."""

    def generate(
        self, request: Generate, *, timeout_s: float, priority: int = 0, isolation: str = ""
    ) -> AsyncIterator[Event]:
        """Stream an answer; the last event is Done."""


class SlmCapability(Capability):
    """Serves names with one model.

    ``system_prompts``: the system message for a name, used when a request brings none.
    ``queue``: accepted requests above the slots; they wait in the worker. Owns ``host``.
    """

    def __init__(
        self,
        host: Speaker,
        names: Sequence[ServedName],
        *,
        system_prompts: Mapping[str, str] | None = None,
        queue: int = DEFAULT_QUEUE,
        converses: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._names = tuple(names)
        self._known = frozenset(name.name for name in names)
        self._prompts = dict(system_prompts or {})
        self._queue = queue
        self._converses = converses
        self._clock = clock
        self._slots = 0
        self._serving = 0
        self._promised: deque[float] = deque()  # when each place not yet claimed was given
        self._tokens_per_s = 0.0
        self._answer_s = FIRST_GUESS_S
        self._measured = False

    @property
    def names(self) -> Sequence[ServedName]:
        """The names it serves, as they are advertised."""
        return self._names

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The model, once it has been loaded."""
        if not self._slots:
            return ()
        reads = round(self._host.ready.prefill_tokens_per_s, 1)
        return (msgspec.structs.replace(self._host.info, prompt_tokens_per_s=reads),)

    @property
    def host(self) -> Speaker:
        """The model's host, for its health."""
        return self._host

    def with_host(self, host: Speaker) -> SlmCapability:
        """The same names and limits with another model behind them; before the start only."""
        return SlmCapability(
            host,
            self._names,
            system_prompts=self._prompts,
            queue=self._queue,
            converses=self._converses,
            clock=self._clock,
        )

    async def start(self) -> None:
        """Load the model; its first rate is the one that the trial decode measured."""
        await self._host.start()
        ready = self._host.ready
        self._tokens_per_s = ready.decode_tokens_per_s
        self._slots = ready.slots

    async def stop(self) -> None:
        """End the worker."""
        await self._host.stop()

    def admit(self, request: Request) -> Admission:
        """Take the request if its name is served, the model is up and a place is free."""
        if request.name not in self._known:
            return Admission(accepted=False, reason=f"{request.name} is not served here")
        health = self._host.health()
        if not health.healthy:
            reason = health.note or f"the model is {health.state}"
            return Admission(accepted=False, reason=reason, retry_after_s=self._answer_s)
        taken = self._taken()
        if taken >= self._slots + self._queue:
            return Admission(
                accepted=False,
                reason=f"{self._slots} slots and {self._queue} places in the queue are taken",
                retry_after_s=self._wait_s(taken),
            )
        self._promised.append(self._clock())
        return ACCEPTED

    def serve(self, request: Request) -> AsyncIterator[bytes]:
        """Stream the answer: Delta bodies, then one Done."""
        if self._promised:
            self._promised.popleft()
        self._serving += 1
        return _Answer(self._generate(request), self._release)

    def occupancy(self) -> Occupancy:
        """How full it is now."""
        taken, health = self._taken(), self._host.health()
        return Occupancy(
            slots=self._slots,
            inflight=min(taken, self._slots),
            queued=max(0, taken - self._slots),
            places=self._queue,
            tokens_per_s=self._tokens_per_s,
            healthy=health.healthy,
            note="" if health.healthy else health.note or health.state,
        )

    def _taken(self) -> int:
        now = self._clock()
        while self._promised and now - self._promised[0] > CLAIM_S:
            self._promised.popleft()
        return self._serving + len(self._promised)

    def _wait_s(self, taken: int) -> float:
        """When a place is likely to be free: answers leave one after another, slots at a time."""
        above = taken - self._slots - self._queue + 1
        return self._answer_s * above / max(1, self._slots)

    def _release(self) -> None:
        self._serving -= 1

    async def _generate(self, request: Request) -> AsyncGenerator[bytes, None]:
        body = self._with_system(request.name, decode(request.body, Generate))
        if not self._converses:
            body = msgspec.structs.replace(body, messages=last_turn(body.messages))
        if request.timeout_s <= 0:
            raise DeadlineExceeded("the deadline was over before the model was asked")
        events = self._host.generate(
            body,
            timeout_s=request.timeout_s,
            priority=request.priority,
            isolation=request.isolation,
        )
        async for event in events:
            if isinstance(event, Done):
                self._learn(event.usage)
            yield encode(event)

    def _with_system(self, name: str, body: Generate) -> Generate:
        prompt = self._prompts.get(name, "")
        if not prompt or any(message.role == "system" for message in body.messages):
            return body
        return msgspec.structs.replace(body, messages=[Message("system", prompt), *body.messages])

    def _learn(self, usage: Usage) -> None:
        """Follow the rate that one stream really gets, and how long an answer takes."""
        spent = usage.total_s - usage.first_token_s
        if usage.completion_tokens >= RATE_TOKENS and spent > 0:
            rate = (usage.completion_tokens - 1) / spent
            self._tokens_per_s += RATE_WEIGHT * (rate - self._tokens_per_s)
        weight = RATE_WEIGHT if self._measured else 1.0
        self._answer_s += weight * (usage.total_s - self._answer_s)
        self._measured = True


class _Answer(AsyncIterator[bytes]):
    """A stream that gives its place back once, however it ends, even if it never began."""

    def __init__(self, source: AsyncGenerator[bytes, None], release: Callable[[], None]) -> None:
        self._source = source
        self._release: Callable[[], None] | None = release

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._source)
        except BaseException:
            self._over()
            raise

    async def aclose(self) -> None:
        """Cancel the work."""
        try:
            await self._source.aclose()
        finally:
            self._over()

    def _over(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()

    def __del__(self) -> None:
        self._over()


def last_turn(messages: Sequence[Message]) -> list[Message]:
    """The system messages, and the conversation from its last user message on.

    A model that was trained on single questions answers one of them again when it sees it before
    the new one: what went before is nothing that it could use.
    """
    asked = [index for index, message in enumerate(messages) if message.role == "user"]
    first = asked[-1] if asked else 0
    system = [message for message in messages[:first] if message.role == "system"]
    return [*system, *messages[first:]]

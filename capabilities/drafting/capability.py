"""The checking side: a model that says how much of a draft stands.

Served as ``computation.gpt/verify/<model>`` beside the names that the same model answers; drafts of
several askers join the steps of its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.drafting import messages
from capabilities.drafting.accepting import distribution, draw, greedy, sampled
from capabilities.drafting.messages import Check, CheckTree, Closed, Fed, Feed, Told, Verdict
from capabilities.drafting.tree import LEAVES, Node, leaves, longest
from capabilities.segments.choosing import Pairs
from capabilities.segments.passes import Passes
from capabilities.slm.errors import BadRequest, SequenceLost
from capabilities.slm.host import STOPPED, ModelHost
from mesh.core.errors import GossamerError, ModelError, Rejected
from mesh.core.names import as_segment, check_name
from mesh.core.records import ServedName

MAX_CALLS = 64
MAX_STREAMS = 64
PASS_S = 30.0
IDLE_S = 120.0
LOOK_S = 0.05
START_S = 10.0  # before the model begins to load, or after its load has failed


def verify_name(model: str) -> str:
    """The name that checks drafts for a model."""
    return check_name(f"computation.gpt/verify/{as_segment(model)}")


@dataclass(slots=True)
class _Stream:
    used_at: float
    tokens: list[int] = field(default_factory=list)  # whose state is in the worker
    known: bool = False  # its vocabulary was compared
    order: asyncio.Lock = field(default_factory=asyncio.Lock)


class VerifyCapability(Capability):
    """Checks drafts with the model of ``host``, which somebody else starts and stops.

    ``passes`` may stand for the host's; ``rng`` draws for sampled answers.
    """

    def __init__(
        self,
        host: ModelHost,
        model: str,
        *,
        passes: Passes | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._passes: Passes = passes or host
        self._name = verify_name(model)
        self._model = model
        # Whoever knew the draws could bias an answer.
        self._rng = rng or random.Random(int.from_bytes(os.urandom(16), "big"))
        self._clock = clock
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._calls = 0
        self._stopped_for_s = 0.0
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def names(self) -> Sequence[ServedName]:
        """Its one name."""
        words = f"how much of a draft {self._model} would have said itself"
        return (ServedName(name=self._name, domain="verify", description=words, model=self._model),)

    def __len__(self) -> int:
        return len(self._streams)

    async def start(self) -> None:
        """Wait until the model is loaded; raises ModelError when it will not be."""
        while not self._host.health().healthy:
            if self._host.health().state == STOPPED:
                self._stopped_for_s += LOOK_S
                if self._stopped_for_s > START_S:
                    raise ModelError(f"{self._model} is not loaded, so it checks no drafts")
            await asyncio.sleep(LOOK_S)
        self._sweeper = asyncio.create_task(self._sweep(), name="drafts-sweep")

    async def stop(self) -> None:
        """Forget all streams; the model is not stopped here."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        self._streams.clear()

    def admit(self, request: Request) -> Admission:
        """Take what is short: a draft is one pass."""
        if request.name != self._name:
            return Admission(accepted=False, reason=f"{request.name} is not served here")
        health = self._host.health()
        if not health.healthy:
            reason = health.note or f"the model is {health.state}"
            return Admission(accepted=False, reason=reason, retry_after_s=1.0)
        if self._calls >= MAX_CALLS:
            return Admission(accepted=False, reason=f"{self._calls} drafts are being checked")
        return ACCEPTED

    def occupancy(self) -> Occupancy:
        """How full it is now."""
        return Occupancy(slots=MAX_CALLS, inflight=self._calls)

    async def serve(self, request: Request) -> AsyncIterator[bytes]:
        """One answer to one message, and what the model says alone behind it."""
        self._calls += 1
        try:
            question = messages.decode_question(request.body)
            key = (request.isolation, question.stream)
            answer = await self._answer(key, question)
            yield messages.encode(answer)
            if isinstance(question, Check) and isinstance(answer, Verdict) and question.more:
                async for token in self._alone(key, question, answer.next):
                    yield messages.encode(Told(token=token))
        finally:
            self._calls -= 1

    async def _answer(self, key: tuple[str, str], question: messages.Question) -> messages.Answer:
        if isinstance(question, messages.Close):
            await self._forget(key)
            return Closed()
        if isinstance(question, Feed):
            return await self._feed(key, question)
        stream = self._streams.get(key)
        if stream is None or not stream.known:
            return Fed(have=0)
        stream.used_at = self._clock()
        async with stream.order:
            if question.at != len(stream.tokens):
                if question.at > len(stream.tokens):
                    return Fed(have=len(stream.tokens))
                del stream.tokens[question.at :]  # a verdict was lost on its way
            began = self._clock()
            try:
                if isinstance(question, Check):
                    verdict = await self._check(key, stream, question)
                else:
                    verdict = await self._check_tree(key, stream, question)
            except SequenceLost:
                stream.tokens.clear()
                return Fed(have=0)
            return Verdict(
                count=verdict.count,
                next=verdict.next,
                path=verdict.path,
                compute_s=self._clock() - began,
            )

    async def _feed(self, key: tuple[str, str], question: Feed) -> Fed:
        mine = self._host.info.vocab_hash
        if question.vocab_hash != mine:
            raise BadRequest(
                f"drafts for {self._model} need its vocabulary, and the drafting model has another",
                hint="draft with a model of the same family, or with n-grams",
            )
        stream = self._streams.get(key)
        if stream is None:
            await self._make_room()
            stream = self._streams[key] = _Stream(self._clock())
        stream.known, stream.used_at = True, self._clock()
        async with stream.order:
            if question.at > len(stream.tokens):
                return Fed(have=len(stream.tokens))
            del stream.tokens[question.at :]
            if question.tokens:
                try:
                    await self._passes.forward(
                        _sequence(key), question.at, question.tokens, timeout_s=PASS_S
                    )
                except SequenceLost:
                    stream.tokens.clear()
                    return Fed(have=0)
                stream.tokens += question.tokens
        return Fed(have=len(stream.tokens))

    async def _check(self, key: tuple[str, str], stream: _Stream, question: Check) -> Verdict:
        """One pass over tail and draft; what does not stand is dropped with the next pass."""
        if not question.tail:
            raise BadRequest("a check brings at least the last token that was said")
        found = await self._passes.forward(
            _sequence(key),
            question.at,
            [*question.tail, *question.draft],
            timeout_s=PASS_S,
            logprobs=question.sampling.wants,
            all_rows=True,
        )
        rows: list[Pairs] = list(found.logprobs[len(question.tail) - 1 :])
        if question.sampling.temperature <= 0:
            accepted = greedy(question.draft, rows)
        else:
            checked = [distribution(row, question.sampling) for row in rows]
            accepted = sampled(question.draft, question.drawn, checked, self._rng)
        stream.tokens += [*question.tail, *question.draft[: accepted.count]]
        return Verdict(count=accepted.count, next=accepted.next)

    async def _alone(self, key: tuple[str, str], question: Check, token: int) -> AsyncIterator[int]:
        """What the model says after its own token, without a draft."""
        stream = self._streams.get(key)
        for _ in range(question.more):
            if stream is None or token in question.ends:
                return
            async with stream.order:
                found = await self._passes.forward(
                    _sequence(key),
                    len(stream.tokens),
                    [token],
                    timeout_s=PASS_S,
                    logprobs=question.sampling.wants,
                )
                stream.tokens.append(token)
                stream.used_at = self._clock()
            token = draw(distribution(found.logprobs[-1], question.sampling), self._rng)
            yield token

    async def _check_tree(
        self, key: tuple[str, str], stream: _Stream, question: CheckTree
    ) -> Verdict:
        """The leaves' paths as forks of the stream, side by side in the worker's steps."""
        if not question.tail:
            raise BadRequest("a check brings at least the last token that was said")
        nodes = [Node(token, parent, 0, 0.0) for token, parent in question.nodes]
        paths = leaves(nodes)
        if len(paths) > LEAVES:
            raise BadRequest(f"a tree of {len(paths)} leaves, at most {LEAVES}")
        name = _sequence(key)
        found = await self._passes.forward(
            name, question.at, question.tail, timeout_s=PASS_S, logprobs=1
        )
        stream.tokens += question.tail
        root, at = found.logprobs[-1], len(stream.tokens)

        async def walk(number: int, path: list[int]) -> list[Pairs]:
            fork = f"{name}/{number}"
            try:
                forked = await self._passes.forward(
                    fork,
                    at,
                    [nodes[i].token for i in path],
                    timeout_s=PASS_S,
                    logprobs=1,
                    all_rows=True,
                    fork=name,
                )
                return list(forked.logprobs)
            finally:
                with contextlib.suppress(GossamerError):
                    await self._passes.drop_sequence(fork, timeout_s=PASS_S)

        walked = await asyncio.gather(*(walk(i, path) for i, path in enumerate(paths)))
        rows: dict[int, Pairs] = {}
        for path, found_rows in zip(paths, walked, strict=True):
            rows.update(zip(path, found_rows, strict=True))
        path, following = longest(nodes, root, [rows[i] for i in range(len(nodes))])
        return Verdict(count=len(path), next=following, path=path)

    async def _make_room(self) -> None:
        await self.forget_idle()
        if len(self._streams) >= MAX_STREAMS:
            raise Rejected(f"drafts of {len(self._streams)} answers are being checked")

    async def forget_idle(self) -> None:
        """Let go of answers that nobody has asked about for a while."""
        now = self._clock()
        idle = [
            key
            for key, stream in self._streams.items()
            if now - stream.used_at > IDLE_S and not stream.order.locked()
        ]
        for key in idle:
            await self._forget(key)

    async def _sweep(self) -> None:
        """Also when nobody begins a new answer."""
        while True:
            await asyncio.sleep(IDLE_S / 4)
            await self.forget_idle()

    async def _forget(self, key: tuple[str, str]) -> None:
        if self._streams.pop(key, None) is not None:
            with contextlib.suppress(GossamerError):
                await self._passes.drop_sequence(_sequence(key), timeout_s=PASS_S)


def _sequence(key: tuple[str, str]) -> str:
    return f"verify/{key[0]}/{key[1]}"

"""A model on two machines, as the agent at the edge holds it: asked like any other model.

Two workers hold the edge's segments; the rest is asked of a far side that the agent finds in the
mesh. What cannot be had token by token from two machines (grammars, tools, adapters) is refused
with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import msgspec

from capabilities.messages import Delta, Done, Event, Generate, Halves, TokenLogprob, Usage
from capabilities.segments import messages
from capabilities.segments.accounts import Account
from capabilities.segments.choosing import Sampling
from capabilities.segments.edge import Asked, Edge, Far, Said
from capabilities.segments.files import Segment
from capabilities.segments.rows import Floats
from capabilities.segments.switching import Rules, Switch
from capabilities.slm import protocol
from capabilities.slm.errors import ContextFull, Unsupported
from capabilities.slm.host import Health, ModelHost
from capabilities.slm.output import TextStream
from mesh.core.errors import DeadlineExceeded, ModelError
from mesh.core.records import ModelInfo

SPELL_S = 10.0  # a worker spells within a step; a machine that swaps takes longer


class SplitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are made; see :class:`capabilities.segments.edge.Asked`."""

    theta: float = 0.8
    infer_s: float = 2.0
    alone: bool = False
    budget_s: float = 1.0


class SplitHost:
    """The edge of a model on two machines; ``first`` has to be loaded with ``capture``.

    ``second`` may be missing: then the first exit is the last. ``far`` is set by the agent once
    it is in the mesh; without it the model works alone.
    """

    def __init__(
        self,
        first: ModelHost,
        second: ModelHost | None,
        segment: Segment,
        options: SplitOptions | None = None,
        *,
        change: Callable[[Floats], Floats] | None = None,
    ) -> None:
        self._first, self._second = first, second
        self._segment = segment
        self.options = options or SplitOptions()
        self._change = change
        self.far: Far | None = None
        self._edge: Edge | None = None
        self._spelled: dict[int, tuple[bytes, str]] = {}
        self._slots = asyncio.Semaphore(1)

    @property
    def segment(self) -> Segment:
        """The first segment."""
        return self._segment

    @property
    def ready(self) -> protocol.Ready:
        """What the first segment's worker said; its rates are those of this side alone."""
        return self._first.ready

    @property
    def info(self) -> ModelInfo:
        """The model, for the node's profile."""
        return msgspec.structs.replace(self._first.info, name=self._segment.model)

    @property
    def edge(self) -> Edge:
        """The side of this machine, and what it has learnt of the way; raises ModelError."""
        if self._edge is None:
            raise ModelError(f"{self._segment.model} is not loaded", hint="start the host first")
        return self._edge

    def health(self) -> Health:
        """Of both workers: the first that is not well, or the first segment's."""
        mine = self._first.health()
        other = self._second.health() if self._second is not None else mine
        return mine if other.healthy else other

    async def start(self) -> ModelInfo:
        """Load the segments; raises a GossamerError."""
        hosts = [host for host in (self._first, self._second) if host is not None]
        await asyncio.gather(*(host.start() for host in hosts))
        switch = Switch(Rules(budget_s=self.options.budget_s), allowed=not self.options.alone)
        self._edge = Edge(
            self._first,
            self._second,
            _Later(self),
            layers=self._segment.range.last,
            width=self._first.info.embedding_dim,
            model_sha256=self._segment.model_sha256,
            switch=switch,
            change=self._change,
        )
        self._slots = asyncio.Semaphore(self._first.ready.slots)
        return self.info

    async def stop(self) -> None:
        """End the workers."""
        hosts = [host for host in (self._first, self._second) if host is not None]
        await asyncio.gather(*(host.stop() for host in hosts))

    async def generate(
        self,
        request: Generate,
        *,
        timeout_s: float,
        priority: int = 0,
        isolation: str = "",
    ) -> AsyncIterator[Event]:
        """Stream an answer; the last event is Done, with an account of both sides.

        Raises as :meth:`ModelHost.generate`, and Unsupported for what two machines cannot do.
        """
        _check(request)
        try:
            async with asyncio.timeout(timeout_s), self._slots:
                events = self._generate(request)
                try:
                    async for event in events:
                        yield event
                finally:
                    await events.aclose()
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while two machines answered") from None

    async def _generate(self, request: Generate) -> AsyncGenerator[Event, None]:
        loop = asyncio.get_running_loop()
        began, first = loop.time(), 0.0
        prompt = await self._first.ask(lambda i: protocol.Render(id=i, request=request), SPELL_S)
        if not isinstance(prompt, protocol.Tokens):
            raise ModelError(f"the worker answered a prompt with {protocol.describe(prompt)}")
        room = self._first.ready.sequence_tokens - len(prompt.tokens)
        if room < 1:
            raise ContextFull(
                f"the prompt has {len(prompt.tokens)} tokens and the context holds "
                f"{self._first.ready.sequence_tokens}",
                hint="shorten the prompt, or raise the model's context",
            )
        text = TextStream(list(request.stop), thinking=prompt.thinking)
        account, finish = Account(), "length"
        answer = self.edge.generate(
            prompt.tokens,
            Asked(
                theta=self.options.theta,
                infer_s=self.options.infer_s,
                sampling=_sampling(request),
                max_tokens=min(room, request.max_tokens),
            ),
            ends=lambda token: False,
            account=account,
        )
        try:
            async for said in answer:
                piece, kind = await self._spell(said.token)
                first = first or loop.time()
                if kind == "end":
                    finish = "stop"
                    break
                for delta in self._deltas(text, said, piece, kind, request.logprobs):
                    yield delta
                if text.stopped:
                    finish = "stop"
                    break
        finally:
            await answer.aclose()
        for delta in text.flush():
            yield delta
        usage = Usage(
            prompt_tokens=len(prompt.tokens),
            completion_tokens=account.tokens,
            first_token_s=(first or loop.time()) - began,
            total_s=loop.time() - began,
        )
        yield Done(
            text=text.text,
            finish=finish,
            model=self._segment.model,
            usage=usage,
            halves=halves_of(account),
        )

    def _deltas(
        self, text: TextStream, said: Said, piece: bytes, kind: str, wanted: int
    ) -> list[Delta]:
        if kind in ("think", "answer"):
            return text.mark(thinking=kind == "think")
        logprob = None
        if wanted:
            from math import log

            likely = log(max(said.probability, 1e-30))
            logprob = TokenLogprob(piece.decode("utf-8", "replace"), likely)
        return [msgspec.structs.replace(one, by=said.by) for one in text.push(piece, logprob)]

    async def _spell(self, token: int) -> tuple[bytes, str]:
        found = self._spelled.get(token)
        if found is None:
            reply = await self._first.ask(lambda i: protocol.Spell(id=i, tokens=[token]), SPELL_S)
            if not isinstance(reply, protocol.Spelled):
                raise ModelError(f"the worker spelt a token with {protocol.describe(reply)}")
            self._spelled[token] = found = (reply.pieces[0], reply.kinds[0])
        return found


class _Later:
    """The far side, as soon as the agent has found the way."""

    def __init__(self, host: SplitHost) -> None:
        self._host = host

    async def ask(self, question: messages.Question, timeout_s: float) -> messages.Answer:
        """Ask it; raises ModelError while there is no way."""
        if self._host.far is None:
            raise ModelError("this agent is not in a mesh yet")
        return await self._host.far.ask(question, timeout_s)


def halves_of(account: Account) -> Halves:
    """The account as it travels."""
    return Halves(
        edge_s=account.edge_s,
        far_s=account.far_s,
        link_s=account.link_s,
        bytes_up=account.bytes_up,
        bytes_down=account.bytes_down,
        asked=account.asked,
        degraded=account.degraded,
        said_by=dict(account.said_by),
        mode=account.mode,
        why=account.why,
    )


def _sampling(request: Generate) -> Sampling:
    return Sampling(
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        seed=request.seed,
    )


def _check(request: Generate) -> None:
    """What a token that two machines may choose cannot be held to."""
    refused = {
        "a grammar": request.grammar,
        "a JSON schema": request.json_schema,
        "tools": request.tools,
        "adapters": request.adapters,
        "logit_bias": request.logit_bias,
        "repeat_penalty": request.repeat_penalty != 1.0,
    }
    for what, given in refused.items():
        if given:
            raise Unsupported(
                f"a model on two machines does not serve {what}",
                hint="ask a node that holds the whole model",
            )

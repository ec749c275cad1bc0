"""What a model that two machines speak for is to its agent: asked like any other model.

A subclass says where tokens come from. Prompts are rendered and tokens spelt by a worker of this
machine that holds the vocabulary. What cannot be had token by token from two machines (grammars,
tools, adapters) is refused with the reason.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from capabilities.messages import Delta, Done, Event, Generate, Halves, TokenLogprob, Usage
from capabilities.segments.choosing import Sampling
from capabilities.slm import protocol
from capabilities.slm.errors import ContextFull, Unsupported
from capabilities.slm.host import ModelHost
from capabilities.slm.output import TextStream
from mesh.core.errors import DeadlineExceeded, ModelError

SPELL_S = 10.0  # a worker spells within a step; a machine that swaps takes longer


class Spoken(msgspec.Struct, frozen=True):
    """A token, who said it, and how sure; the probability is 0 where nobody told it."""

    token: int
    by: str
    probability: float


class PairHost(ABC):
    """A model of two machines. ``words`` renders and spells; ``slots`` answers at once."""

    def __init__(self, words: ModelHost, model: str) -> None:
        self._words = words
        self._model = model
        self._spelled: dict[int, tuple[bytes, str]] = {}
        self._slots = asyncio.Semaphore(1)

    @abstractmethod
    def _tokens(
        self, prompt: list[int], request: Generate, most: int, told: dict[str, Halves]
    ) -> AsyncGenerator[Spoken, None]:
        """The answer's tokens; at its end the account is put into ``told`` under "halves"."""

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
        check(request)
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
        prompt = await self._words.ask(lambda i: protocol.Render(id=i, request=request), SPELL_S)
        if not isinstance(prompt, protocol.Tokens):
            raise ModelError(f"the worker answered a prompt with {protocol.describe(prompt)}")
        holds = self._words.ready.sequence_tokens
        room = holds - len(prompt.tokens)
        if room < 1:
            raise ContextFull(
                f"the prompt has {len(prompt.tokens)} tokens and the context holds {holds}",
                hint="shorten the prompt, or raise the model's context",
            )
        text = TextStream(list(request.stop), thinking=prompt.thinking)
        finish, count = "length", 0
        told: dict[str, Halves] = {}
        answer = self._tokens(prompt.tokens, request, min(room, request.max_tokens), told)
        try:
            async for said in answer:
                piece, kind = await self._spell(said.token)
                first = first or loop.time()
                count += 1
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
            completion_tokens=count,
            first_token_s=(first or loop.time()) - began,
            total_s=loop.time() - began,
        )
        yield Done(
            text=text.text,
            finish=finish,
            model=self._model,
            usage=usage,
            halves=told.get("halves"),
        )

    def _deltas(
        self, text: TextStream, said: Spoken, piece: bytes, kind: str, wanted: int
    ) -> list[Delta]:
        if kind in ("think", "answer"):
            return text.mark(thinking=kind == "think")
        logprob = None
        if wanted and said.probability > 0:
            logprob = TokenLogprob(piece.decode("utf-8", "replace"), math.log(said.probability))
        return [msgspec.structs.replace(one, by=said.by) for one in text.push(piece, logprob)]

    async def _spell(self, token: int) -> tuple[bytes, str]:
        found = self._spelled.get(token)
        if found is None:
            reply = await self._words.ask(lambda i: protocol.Spell(id=i, tokens=[token]), SPELL_S)
            if not isinstance(reply, protocol.Spelled):
                raise ModelError(f"the worker spelt a token with {protocol.describe(reply)}")
            self._spelled[token] = found = (reply.pieces[0], reply.kinds[0])
        return found


def sampling_of(request: Generate) -> Sampling:
    """How a request wants its tokens chosen."""
    return Sampling(
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        seed=request.seed,
    )


def check(request: Generate) -> None:
    """Raises Unsupported for what a token that two machines choose cannot be held to."""
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

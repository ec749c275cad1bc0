"""What a whole model answers, and the rows that its layers made on the way.

The weights are in a worker's process (law 7). An answer is said token by token, several at once;
then its positions are computed again, all in one pass for each layer that is wanted, since a pass
hands out the rows of one layer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capabilities.messages import Generate, Message
from capabilities.segments.choosing import Sampling, choose
from capabilities.segments.rows import Floats
from capabilities.slm import header, protocol
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Block, Settings
from mesh.core.errors import ModelError

TOGETHER = 4  # answers in one step: most of what batching brings, on few cores
POSITIONS = 1024  # of one answer with its prompt, at most; keys and values of all are in memory
LEAST_ROOM = 8  # tokens: where less is left for an answer, its prompt is left out
PASS_S = 600.0  # the longest wait for one pass; a large model on a small machine takes minutes
FINAL = 0  # stands for the row after the last norm, which the head sees


@dataclass(frozen=True)
class Answer:
    """What was said, with the token that ends it, and for each the rows that led to it.

    ``number``: of its question. ``rows``: by the layer that they leave (counted from one; FINAL),
    `[tokens, width]`.
    """

    number: int
    tokens: tuple[int, ...]
    rows: dict[int, Floats]


class Whole:
    """A running model that is asked, and watched while it answers."""

    def __init__(self, host: ModelHost, ends: frozenset[int], positions: int, vocabulary: int):
        self._host, self._ends = host, ends
        self._positions, self._vocabulary = positions, vocabulary
        self.left_out: set[str] = set()  # questions too long to be answered

    async def answers(
        self,
        questions: Sequence[str],
        *,
        most: int,
        layers: Sequence[int],
        sampling: Sampling | None = None,
    ) -> AsyncIterator[Answer]:
        """Answers of at most so many tokens, in the order of their questions.

        With ``sampling`` each question has a seed of its own; else the likeliest token is said.
        Raises as :class:`ModelHost` does.
        """
        sampling = sampling or Sampling()
        for first in range(0, len(questions), TOGETHER):
            some = questions[first : first + TOGETHER]
            found = await asyncio.gather(
                *(
                    self._answer(first + i, question, most, layers, sampling)
                    for i, question in enumerate(some)
                )
            )
            for one in found:
                if one is not None:
                    yield one

    async def _answer(
        self, number: int, question: str, most: int, layers: Sequence[int], sampling: Sampling
    ) -> Answer | None:
        prompt = await self._prompt(question)
        most = min(most, self._positions - len(prompt))
        if not prompt or most < LEAST_ROOM:
            self.left_out.add(question)
            return None
        name = f"answer{number}"
        own = Sampling(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            seed=sampling.seed + number,
        )
        tokens = await self._said(name, prompt, most, own)
        rows = {}
        for layer in layers:
            # The position before a token is the one that says it.
            found = await self._host.forward(
                name,
                len(prompt) - 1,
                [prompt[-1], *tokens[:-1]],
                timeout_s=PASS_S,
                want_rows=True,
                layer=layer - 1,
                all_rows=True,
            )
            assert found.rows is not None
            rows[layer] = _array(found.rows)
        await self._host.drop_sequence(name, timeout_s=PASS_S)
        return Answer(number, tuple(tokens), rows)

    async def _prompt(self, question: str) -> list[int]:
        request = Generate(messages=[Message("user", question)])
        reply = await self._host.ask(lambda i: protocol.Render(id=i, request=request), PASS_S)
        assert isinstance(reply, protocol.Tokens)
        return reply.tokens

    async def _said(self, name: str, prompt: list[int], most: int, sampling: Sampling) -> list[int]:
        said: list[int] = []
        given, position = prompt, 0
        while len(said) < most:
            found = await self._host.forward(
                name,
                position,
                given,
                timeout_s=PASS_S,
                logprobs=min(sampling.wants, self._vocabulary),
            )
            position += len(given)
            said.append(choose(found.logprobs[-1], sampling, position))
            if said[-1] in self._ends:
                break
            given = said[-1:]
        return said


@contextlib.asynccontextmanager
async def whole(path: Path, *, threads: int = 0) -> AsyncIterator[Whole]:
    """The model of a file in a worker of its own, which is ended with the block.

    Raises ModelError when it cannot be loaded, or answers nothing.
    """
    head = header.read(path)
    trained = int(head.scalars.get(f"{head.arch}.context_length", POSITIONS))
    positions = min(POSITIONS, trained)
    settings = Settings(
        slots=1,
        sequences=TOGETHER,
        context_tokens=(TOGETHER + 1) * positions,
        prefix_tokens=0,
        threads=threads,
        capture=True,
    )
    host = ModelHost(path, settings)
    try:
        await host.start()
        if missing := {"generate", "forward", "rows"} - set(host.ready.features):
            raise ModelError(
                f"{path.name} cannot be given exits: its worker does not serve "
                + " and ".join(sorted(missing)),
                hint="a model that generates text is needed",
            )
        yield Whole(host, await _ends(host, head.vocabulary), positions, head.vocabulary)
    finally:
        await host.stop()


async def _ends(host: ModelHost, vocabulary: int) -> frozenset[int]:
    """The tokens that end an answer."""
    everything = list(range(vocabulary))
    reply = await host.ask(lambda i: protocol.Spell(id=i, tokens=everything), PASS_S)
    assert isinstance(reply, protocol.Spelled)
    return frozenset(token for token, kind in enumerate(reply.kinds) if kind == "end")


def _array(block: Block) -> Floats:
    found: Floats = np.frombuffer(block.data, dtype="<f4").reshape(-1, block.width)
    return found

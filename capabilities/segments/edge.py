"""The weaker side of a model on two machines: it speaks when it is sure, and asks when it is not.

CE-CoLLM (Jin and Wu 2024), on llama.cpp. The first segment computes every position; if its exit is
sure of the next token, the second segment is spared, and catches up in one batch when it is
needed. If neither exit is sure, the other half is asked; the rows it needs are on their way since
the first segment computed them. A lost link costs quality, never the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from capabilities.segments import messages
from capabilities.segments.accounts import FAR, LAST, Account
from capabilities.segments.calibration import RAW, Calibration
from capabilities.segments.choosing import Pairs, Sampling, choose, confidence
from capabilities.segments.farewells import Farewells
from capabilities.segments.messages import Chosen, Close, Have, Infer, Missing, Open, Upload
from capabilities.segments.passes import Passes
from capabilities.segments.rows import Floats, pack, payload
from capabilities.segments.switching import ALONE, Switch
from capabilities.segments.uploading import Uploads
from capabilities.slm.protocol import Block
from mesh.core.errors import DeadlineExceeded, GossamerError

CHUNK_BYTES = 48 * 1024  # of rows in one call: it fits into one frame of the control lane
TOKEN_BYTES = 8  # of payload in an answer: a token and its probability
RETRIES = 2  # of one question whose rows were missing
CLOSE_S = 2.0
PROMPT_PAIRS = 1 << 16  # rows times best tokens of one prompt pass; more takes two passes


class Far(Protocol):
    """The way to the other half."""

    async def ask(self, question: messages.Question, timeout_s: float) -> messages.Answer:
        """Its answer; raises a GossamerError when there is none."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How one answer is made. ``theta`` above 1 asks the other half for every token.

    ``infer_s`` is the longest wait for one token of it. ``beside`` False sends rows before
    computing goes on, which only a measurement wants. ``ends`` tells the tokens that end it.
    """

    theta: float = 0.8
    sampling: Sampling = Sampling()
    max_tokens: int = 256
    infer_s: float = 2.0
    pass_s: float = 30.0
    dtype: str = "f16"
    beside: bool = True


class Said(msgspec.Struct, frozen=True):
    """A token, who said it (``exit 1``, ``exit 2``, ``far``, ``last``), and the raw probability of
    the likeliest one where it was said."""

    token: int
    by: str
    probability: float


class Edge:
    """One edge: a first segment with an exit, a second with another or none, and the way out.

    ``layers``: of the first segment. ``switch`` learns over all answers. ``change`` is applied to
    rows before they leave (noise, say). ``calibrations``: how far either exit is believed.
    """

    def __init__(
        self,
        first: Passes,
        second: Passes | None,
        far: Far | None,
        *,
        layers: int,
        width: int,
        model_sha256: str,
        switch: Switch | None = None,
        change: Callable[[Floats], Floats] | None = None,
        calibrations: tuple[Calibration, Calibration] = (RAW, RAW),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.first, self.second, self.far = first, second, far
        self.layers, self.width, self.model_sha256 = layers, width, model_sha256
        self.switch = switch or Switch(allowed=far is not None)
        self.change = change or (lambda rows: rows)
        self.calibrations = calibrations
        self.clock = clock
        self.farewells = Farewells()

    async def generate(
        self,
        prompt: Sequence[int],
        asked: Asked,
        *,
        ends: Callable[[int], bool],
        account: Account | None = None,
    ) -> AsyncGenerator[Said, None]:
        """Tokens, without the one that ends; ``account`` is filled on the way.

        Raises as the passes do. Closing the generator ends all that belongs to it.
        """
        answer = _Answer(self, asked, list(prompt), account or Account())
        try:
            async for said in answer.run(ends):
                yield said
        finally:
            await answer.over()


class _Answer:
    """One answer under way."""

    def __init__(self, edge: Edge, asked: Asked, tokens: list[int], account: Account) -> None:
        self.edge, self.asked, self.account = edge, asked, account
        self.tokens = tokens  # prompt and answer
        self.prompt = len(tokens)
        self.name = os.urandom(8).hex()
        self.uploads = Uploads(edge.width)
        self.pending: list[Floats] = []  # rows that the second segment has not seen
        self.caught_up = 0  # positions that it has
        self.counts: Counter[int] = Counter()
        self.began = edge.clock()
        self.news = asyncio.Event()  # rows to send, or leave to send them
        self.sender: asyncio.Task[None] | None = None
        self.syncing = False  # alone, and sending what the other half lacks
        self.opened = False
        self.most_sent = 0

    async def run(self, ends: Callable[[int], bool]) -> AsyncGenerator[Said, None]:
        edge, asked, account = self.edge, self.asked, self.account
        account.prompt_tokens = self.prompt
        if edge.switch.allowed:
            self.sender = asyncio.create_task(self._send(), name="segment-upload")
        pairs = await self._first(0, self.tokens)
        for index in range(asked.max_tokens):
            position = self.prompt - 1 + index
            said = await self._next(position, pairs)
            edge.switch.settle(edge.clock())
            account.mode, account.why = edge.switch.mode, edge.switch.why
            account.tokens += 1
            if edge.switch.mode != ALONE:
                account.alone_from = 0
            elif not account.alone_from:
                account.alone_from = account.tokens
            account.said_by[said.by] += 1
            account.total_s = edge.clock() - self.began
            if ends(said.token):
                return
            self.tokens.append(said.token)
            self.counts[said.token] += 1
            yield said
            if index + 1 < asked.max_tokens:
                pairs = await self._first(position + 1, [said.token])

    async def over(self) -> None:
        """End the upload, and let both sides forget the answer."""
        if self.sender is not None:
            self.sender.cancel()
            await asyncio.gather(self.sender, return_exceptions=True)
        edge = self.edge
        if self.opened and edge.far is not None:
            edge.farewells.say(edge.far.ask(Close(stream=self.name), CLOSE_S))
        for passes in (edge.first, edge.second):
            if passes is not None:
                with contextlib.suppress(GossamerError):
                    await passes.drop_sequence(self.name, timeout_s=CLOSE_S)
        self.account.total_s = edge.clock() - self.began

    # --- computing here

    async def _first(self, position: int, tokens: list[int]) -> Pairs:
        """The first segment over new tokens: its rows go to both others, its exit speaks."""
        wants = self.asked.sampling.wants
        if len(tokens) > 1 and len(tokens) * wants > PROMPT_PAIRS:
            await self._first(position, tokens[:-1])
            position, tokens = position + len(tokens) - 1, tokens[-1:]
        rows, pairs = await self._rows(self.name, position, tokens, wants)
        self.pending.append(rows)
        if self.edge.switch.allowed:
            self.uploads.add(self.edge.change(rows))
            self.news.set()
            if not self.asked.beside:
                await self._drained()
        return pairs

    async def _rows(
        self, sequence: str, position: int, tokens: list[int], wants: int
    ) -> tuple[Floats, Pairs]:
        began = self.edge.clock()
        found = await self.edge.first.forward(
            sequence,
            position,
            tokens,
            timeout_s=self.asked.pass_s,
            logprobs=wants,
            want_rows=True,
            layer=self.edge.layers - 1,
            all_rows=True,
        )
        self.account.edge_s += self.edge.clock() - began
        assert found.rows is not None
        return _array(found.rows), found.logprobs[-1]

    async def _second(self) -> Pairs:
        """The second segment over all rows that it has not seen; its exit speaks of the last."""
        assert self.edge.second is not None
        rows = np.concatenate(self.pending)
        began = self.edge.clock()
        block = Block(rows=len(rows), width=self.edge.width, data=rows.astype("<f4").tobytes())
        found = await self.edge.second.forward(
            self.name,
            self.caught_up,
            block,
            timeout_s=self.asked.pass_s,
            logprobs=self.asked.sampling.wants,
        )
        self.account.edge_s += self.edge.clock() - began
        self.caught_up += len(rows)
        self.pending.clear()
        return found.logprobs[-1]

    async def _next(self, position: int, pairs: Pairs) -> Said:
        sampling, theta = self.asked.sampling, self.asked.theta
        calibrations = self.edge.calibrations
        sure, by = calibrations[0].confidence(pairs[0][1]), "exit 1"
        if sure < theta and self.edge.second is not None:
            pairs = await self._second()
            sure, by = calibrations[1].confidence(pairs[0][1]), "exit 2"
        if sure < theta:
            far = await self._ask(position)
            if far is not None:
                return Said(far.token, FAR, far.probability)
            by = LAST
        return Said(choose(pairs, sampling, position, self.counts), by, confidence(pairs))

    # --- the other half

    async def _ask(self, position: int) -> Chosen | None:
        """Its token for a position, or nothing; what is lost shows in account and switch."""
        edge, switch = self.edge, self.edge.switch
        if edge.far is None or not switch.allowed:
            return None
        if switch.mode == ALONE:
            self._probe()
        if not switch.ask(self.uploads.backlog * edge.width * 2):
            self.account.degraded += 1
            return None
        began = edge.clock()
        try:
            async with asyncio.timeout(self.asked.infer_s):
                answer = await self._asked(edge.far, position)
        except (GossamerError, TimeoutError) as error:
            switch.failed(edge.clock(), _reason(error))
            self.account.degraded += 1
            return None
        finally:
            self.account.waited_s += edge.clock() - began
        switch.answered(edge.clock() - began, answer.compute_s)
        self.account.far_s += answer.compute_s
        self.account.far_rows += answer.rows
        self.account.bytes_down += TOKEN_BYTES
        return answer

    async def _asked(self, far: Far, position: int) -> Chosen:
        counts = dict(self.counts) if self.asked.sampling.wants > 1 else {}
        self.account.asked += 1
        for _ in range(RETRIES + 1):
            question = Infer(stream=self.name, epoch=0, position=position, counts=counts)
            answer = await far.ask(question, self.asked.infer_s)
            if isinstance(answer, Chosen) and answer.position == position:
                return answer
            if isinstance(answer, Missing):
                await self._resend(answer.have)
        raise DeadlineExceeded("the other half still misses rows")

    async def _resend(self, have: int) -> None:
        """The other half lacks rows: those on their way are not sent twice for it."""
        if have == 0 and self.opened:
            self.opened = False  # it forgot the stream
        if have < self.uploads.acked:
            self.uploads.again(have)
        self.news.set()

    def _probe(self) -> None:
        """Alone: look now and then whether the other half is back, beside computing."""
        edge = self.edge
        if not self.syncing and edge.switch.probe_due(edge.clock()):
            edge.switch.probing(edge.clock())
            self.syncing, self.opened = True, False
            self.news.set()

    async def _send(self) -> None:
        """Open the stream and send rows as they come, until cancelled."""
        edge, switch = self.edge, self.edge.switch
        assert edge.far is not None
        while True:
            await self.news.wait()
            self.news.clear()
            if switch.mode == ALONE and not self.syncing:
                continue
            try:
                await self._drain(edge.far)
            except (GossamerError, TimeoutError) as error:
                self.uploads.sent = self.uploads.acked
                self.syncing = False
                switch.failed(edge.clock(), _reason(error))
                if switch.mode != ALONE:
                    await asyncio.sleep(0)
                    self.news.set()
            else:
                if self.syncing:
                    self.syncing = False
                    switch.back(self._last_round_trip)

    async def _drain(self, far: Far) -> None:
        edge, asked = self.edge, self.asked
        if not self.opened:
            began = edge.clock()
            question = Open(
                stream=self.name, epoch=0, model_sha256=edge.model_sha256, sampling=asked.sampling
            )
            answer = await self._within(far, question)
            self._last_round_trip = edge.clock() - began
            self.opened = True
            self.uploads.again(answer.have if isinstance(answer, Have) else 0)
        most = max(1, CHUNK_BYTES // (edge.width * (2 if asked.dtype == "f16" else 4)))
        while True:
            if self.uploads.torn:
                rows, _ = await self._rows(self.name + "r", 0, self.tokens, 1)
                await edge.first.drop_sequence(self.name + "r", timeout_s=CLOSE_S)
                self.uploads.rebuilt(edge.change(rows[: self.uploads.end]))
            piece = self.uploads.next(most)
            if piece is None:
                return
            position, rows = piece
            packed = pack(rows, asked.dtype)
            again = max(0, min(len(rows), self.most_sent - position))
            self.most_sent = max(self.most_sent, position + len(rows))
            size = payload(packed)
            self.account.bytes_up += size
            self.account.bytes_again += size * again // len(rows)
            began = edge.clock()
            upload = Upload(stream=self.name, epoch=0, position=position, rows=packed)
            answer = await self._within(far, upload)
            if isinstance(answer, Have):
                self.uploads.have(answer.have)
                edge.switch.uploaded(size, edge.clock() - began)
            elif isinstance(answer, Missing):
                self.uploads.again(answer.have)
                self.opened = self.opened and answer.have > 0
                if not self.opened:
                    self.news.set()
                    return

    async def _within(self, far: Far, question: messages.Question) -> messages.Answer:
        async with asyncio.timeout(self.asked.infer_s):
            return await far.ask(question, self.asked.infer_s)

    async def _drained(self) -> None:
        """Wait until the other half has all rows (only without overlap)."""
        while self.uploads.backlog and self.edge.switch.mode != ALONE:
            self.news.set()
            await asyncio.sleep(0.0005)


def _array(block: Block) -> Floats:
    kind = "<f2" if block.dtype == "f16" else "<f4"
    rows: Floats = np.frombuffer(block.data, dtype=kind).astype(np.float32)
    return rows.reshape(-1, block.width)


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, GossamerError) else "no answer in time"

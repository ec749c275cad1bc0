"""What the routes share: reading a request, running it, answering it, one state for all."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from agents.faces.http.convert import Job
from agents.faces.http.errors import HttpError
from agents.faces.http.metrics import HttpMetrics
from agents.faces.http.schema import ErrorBody, Provenance, Wishes
from agents.faces.http.settings import Settings
from agents.faces.http.sse import DONE, PING, PING_S, EventStream, event, unless_gone
from agents.faces.http.turn import End, Turn, answers
from agents.library import Agent
from agents.trace import TRACE_BYTES

# Until then an error gets a status of its own; from then on the client hears that we work.
HEAD_S = 5.0
TRACEPARENT_PARTS = 4  # version, trace, parent, flags (W3C Trace Context)
T = TypeVar("T")


class Server:
    """The HTTP process's state."""

    def __init__(self, settings: Settings, agent: Agent) -> None:
        self.settings = settings
        self.agent = agent
        self.metrics = HttpMetrics()
        self.rng = random.Random(os.urandom(8))
        self.ping = (PING_S, PING)
        self.turns: set[Turn] = set()
        self.watchers = 0

    @classmethod
    def of(cls, request: Request) -> Server:
        """The state of the application that a request came to."""
        server: Server = request.app.state.server
        return server

    def new_id(self, kind: str) -> str:
        """An id of an answer."""
        return f"{kind}-{os.urandom(12).hex()}"

    def now(self) -> int:
        """Seconds since 1970."""
        return int(time.time())

    def turn(self, *jobs: Job) -> Turn:
        """Begin a job, or several answers of one request; each has a trace from here on, so that
        a stream's headers can tell it."""
        for job in jobs:
            job.wishes.trace = job.wishes.trace or os.urandom(TRACE_BYTES).hex()
        turn = Turn(answers(self.agent, jobs))
        self.turns.add(turn)
        return turn

    async def whole(self, request: Request, turn: Turn) -> End:
        """The end of a job; raises :class:`HttpError`, or ClientGone when nobody waits."""
        try:
            return await unless_gone(request, turn.end())
        finally:
            await self.close(turn)

    async def all(self, request: Request, turn: Turn) -> list[End]:
        """The ends of all its answers; raises as :meth:`whole` does."""
        try:
            return await unless_gone(request, turn.ends())
        finally:
            await self.close(turn)

    async def stream(
        self, request: Request, turn: Turn, job: Job, chunks: AsyncIterator[bytes]
    ) -> Response:
        """The answer as events; raises :class:`HttpError` for what fails before the first."""
        try:
            await unless_gone(request, turn.begin(HEAD_S))
        except BaseException:
            await self.close(turn)
            raise
        headers = {"x-gossamer-trace": job.wishes.trace}
        return EventStream(self._watched(turn, chunks), headers, self.metrics.gone)

    async def _watched(self, turn: Turn, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.metrics.streams.inc()
        try:
            async with aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk
        except HttpError as error:
            # The status went out long ago: clients look for an event with an error.
            self.metrics.refused(error.detail.code or error.detail.type)
            yield event(ErrorBody(error=error.detail)) + DONE
        finally:
            self.metrics.streams.dec()
            await self.close(turn)

    async def close(self, turn: Turn) -> None:
        """A job is over, however it ended."""
        self.turns.discard(turn)
        await turn.close()


async def read(request: Request, kind: type[T]) -> T:
    """The body of a request; raises :class:`HttpError` that names the field at fault.

    A W3C ``traceparent`` header gives the request its trace, unless the body names one.
    """
    body = await request.body()
    try:
        asked = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `")
        param = where.rstrip("`").removeprefix("$.") or None
        raise HttpError(
            400, f"{param}: {message}" if param else message, code="invalid_value", param=param
        ) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise HttpError(400, f"the body is no JSON: {error}", code="invalid_json") from None
    trace = _trace_in(request.headers.get("traceparent", ""))
    if trace and hasattr(asked, "gossamer"):
        asked.gossamer = asked.gossamer or Wishes()
        asked.gossamer.trace = asked.gossamer.trace or trace
    return asked


def _trace_in(header: str) -> str:
    parts = header.strip().lower().split("-")
    if len(parts) != TRACEPARENT_PARTS or len(parts[1]) != 32 or not parts[1].strip("0"):
        return ""
    return parts[1] if all(c in "0123456789abcdef" for c in parts[1]) else ""


def json_response(body: msgspec.Struct, provenance: Provenance | None = None) -> Response:
    """A whole answer; who gave it and what it cost stand in headers too."""
    headers = {}
    if provenance is not None:
        headers = {
            "x-gossamer-trace": provenance.trace,
            "x-gossamer-nodes": ", ".join(provenance.nodes),
            "x-gossamer-cost": f"{provenance.cost:.6f}",
            "x-gossamer-degraded": str(provenance.degraded).lower(),
        }
    return Response(msgspec.json.encode(body), media_type="application/json", headers=headers)

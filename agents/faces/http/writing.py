"""Long texts by outline over HTTP, which OpenAI's API has no word for.

POST /v1/write              a text; with "stream" its points as they are written, and then the text
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agents.cooperation.skeletons_protocol import MOST_LENGTH
from agents.faces.http.errors import http_error
from agents.faces.http.schema import ErrorBody, Wishes
from agents.faces.http.serving import HEAD_S, Server, json_response, read
from agents.faces.http.sse import DONE, EventStream, event, unless_gone
from agents.library.events import Plan, Step
from agents.library.writing import WRITE_S, WrittenAnswer
from mesh.core.errors import GossamerError


class WriteRequest(msgspec.Struct, kw_only=True):
    """What to write. ``private`` is read by this agent's own model and by no other node;
    ``strong`` is the name whose biggest node outlines the text, or "cloud"; ``length`` in tokens,
    0: as the agent predicts."""

    instruction: Annotated[str, Meta(min_length=1)]
    private: str = ""
    strong: str = ""
    length: Annotated[int, Meta(ge=0, le=MOST_LENGTH)] = 0
    stream: bool = False
    gossamer: Wishes | None = None


class WriteEnd(msgspec.Struct, kw_only=True, tag="written"):
    """The last event of a stream: the whole text."""

    written: WrittenAnswer


Piece = Plan | Step | WrittenAnswer


async def write(request: Request) -> Response:
    """A text, streamed or whole."""
    server = Server.of(request)
    asked = await read(request, WriteRequest)
    wishes = asked.gossamer or Wishes()
    pieces = server.agent.write_stream(
        asked.instruction,
        private=asked.private,
        strong=asked.strong,
        length=asked.length,
        timeout_s=wishes.timeout_s or WRITE_S,
        reach=wishes.reach,
        trace=wishes.trace,
    )
    if asked.stream:
        return await _streamed(server, request, pieces)
    try:
        return json_response(await unless_gone(request, _whole(pieces)))
    except GossamerError as error:
        raise http_error(error) from None


async def _whole(pieces: AsyncIterator[Piece]) -> WrittenAnswer:
    async with aclosing(pieces):  # type: ignore[type-var]
        async for piece in pieces:
            if isinstance(piece, WrittenAnswer):
                return piece
    raise GossamerError("the text ended before it was whole")


async def _streamed(server: Server, request: Request, pieces: AsyncIterator[Piece]) -> Response:
    """Raises HttpError for what fails before the first event."""
    first: asyncio.Future[Piece | None] = asyncio.ensure_future(_next(pieces))
    try:
        await unless_gone(request, asyncio.wait({first}, timeout=HEAD_S))
        if first.done():
            first.result()
    except GossamerError as error:
        raise http_error(error) from None
    except BaseException:
        await _end(first, pieces)
        raise
    return EventStream(_events(server, first, pieces), {}, server.metrics.gone)


async def _events(
    server: Server, coming: asyncio.Future[Piece | None], pieces: AsyncIterator[Piece]
) -> AsyncIterator[bytes]:
    """What was written as events; a client hears now and then that work goes on."""
    server.metrics.streams.inc()
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=server.ping[0])
            if not done:
                yield server.ping[1]
                continue
            piece = coming.result()
            if piece is None:
                break
            yield event(WriteEnd(written=piece) if isinstance(piece, WrittenAnswer) else piece)
            coming = asyncio.ensure_future(_next(pieces))
        yield DONE
    except GossamerError as error:
        refused = http_error(error)
        server.metrics.refused(refused.detail.code or refused.detail.type)
        yield event(ErrorBody(error=refused.detail)) + DONE
    finally:
        server.metrics.streams.dec()
        await _end(coming, pieces)


async def _next(pieces: AsyncIterator[Piece]) -> Piece | None:
    return await anext(pieces, None)


async def _end(coming: asyncio.Future[Piece | None], pieces: AsyncIterator[Piece]) -> None:
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)
    await pieces.aclose()  # type: ignore[attr-defined]


ROUTES = [Route("/v1/write", write, methods=["POST"])]
# For the document at /openapi.json, as in knowing.py.
POSTS = (
    ("/v1/write", "write", WriteRequest, WrittenAnswer, Plan | Step | WriteEnd,
     "A long text: one node outlines it, many write it; see docs/skeletons.md."),
)  # fmt: skip

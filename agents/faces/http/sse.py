"""Answers that end when their client goes away: streamed as server-sent events, or whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PING_S = 15.0  # proxies and clients end a connection that is silent for longer, 30 s and up
PING = b": still working\n\n"
DONE = b"data: [DONE]\n\n"
T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection; nobody is left to answer."""


def event(body: msgspec.Struct, name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + msgspec.json.encode(body) + b"\n\n"


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``; raises :class:`ClientGone`, and cancels it, when the client goes."""
    return await _first(asyncio.ensure_future(work), request.receive)


async def _first(work: asyncio.Future[T], receive: Receive) -> T:
    leaving = asyncio.create_task(_left(receive))
    try:
        both: set[asyncio.Future[Any]] = {work, leaving}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientGone
        return work.result()
    finally:
        leaving.cancel()
        work.cancel()
        await asyncio.gather(leaving, work, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Sends what ``chunks`` yields, and closes it as soon as the client is gone.

    ``on_gone`` is told of a client that left before the end.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        headers: Mapping[str, str],
        on_gone: Callable[[], None],
    ) -> None:
        self.chunks = chunks
        self.on_gone = on_gone
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        try:
            await _first(asyncio.ensure_future(self._send(send)), receive)
        except (ClientGone, OSError):
            self.on_gone()
        finally:
            with contextlib.suppress(ClientGone):
                await self.chunks.aclose()  # type: ignore[attr-defined]

    async def _send(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        async for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

"""A stand-in for a provider's cloud: an OpenAI-compatible server on loopback with a real model.

The model is the embedded general one, served by Gossamer's own engine; what a provider does
wrong is injected, one :class:`Fault` per request. Its token counts are real, its prices are
whatever the test says, and nothing about its speed says anything about a provider's.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from capabilities.messages import Delta, Generate, Message
from capabilities.slm.embedded import embedded_models
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Settings

KEY = "sk-stand-in-4d1c7c1e90"
MODEL = "stand-in-general"
START_S = 60.0
ANSWER_S = 60.0


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request. ``status`` above 0 replies so at once; ``silent`` never
    replies; ``cut_after`` pieces the connection is dropped; ``pause_s`` is before each piece."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    code: str = ""
    silent: bool = False
    pause_s: float = 0.0
    cut_after: int = -1
    no_usage: bool = False
    whole: bool = False
    garbage: bytes = b""
    midway_error: bool = False
    no_model: bool = False  # answers a fixed text: where the model's time is not the point


class StandIn:
    """The server; ``script`` holds the faults of the next requests, ``always`` of the others."""

    def __init__(self, *, with_model: bool = True, model: str = "general") -> None:
        self.script: deque[Fault] = deque()
        self.always = Fault(no_model=not with_model)
        self.seen: list[dict[str, Any]] = []  # the bodies, as they came
        self.billed: list[tuple[int, int]] = []  # tokens in and out, of every answer begun
        self.closed_early = 0
        self.url = ""
        self._with_model = with_model
        self._model = model  # of those that ship
        self._host: ModelHost | None = None

    def app(self) -> Starlette:
        """The application: one route, and the model behind it."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            if self._with_model:
                path = embedded_models()[self._model].path
                self._host = ModelHost(path, Settings(slots=4, context_tokens=4096, threads=1))
                await self._host.start()
            try:
                yield
            finally:
                if self._host is not None:
                    await self._host.stop()

        routes = [Route("/v1/chat/completions", self._chat, methods=["POST"])]
        return Starlette(routes=routes, lifespan=lifespan)

    async def _chat(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            said = {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
            return JSONResponse(said, 401)
        body = await request.json()
        self.seen.append(body)
        fault = self.script.popleft() if self.script else self.always
        if fault.silent:
            await asyncio.sleep(ANSWER_S)
        if fault.status:
            error = {"error": {"message": f"injected {fault.status}", "code": fault.code}}
            return JSONResponse(error, fault.status, headers=fault.headers)
        if fault.garbage:
            return Response(fault.garbage, media_type="text/event-stream")
        if fault.whole:
            return JSONResponse(await self._all(body))
        return StreamingResponse(
            self._stream(body, fault), media_type="text/event-stream", headers=fault.headers
        )

    async def _all(self, body: dict[str, Any]) -> dict[str, Any]:
        text, usage, finish = "", {}, "stop"
        async for piece, end in self._answer(body, fixed=False):
            text += piece
            if end:
                usage, finish = end
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return {"model": MODEL, "choices": [choice], "usage": usage}

    async def _stream(self, body: dict[str, Any], fault: Fault) -> AsyncIterator[bytes]:
        sent, whole = 0, False
        wants_usage = (body.get("stream_options") or {}).get("include_usage")
        try:
            yield _event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
            async for piece, end in self._answer(body, fixed=fault.no_model):
                await asyncio.sleep(fault.pause_s)
                if sent == fault.cut_after:
                    raise ConnectionAbortedError("injected")
                if fault.midway_error and sent:
                    yield _event({"error": {"message": "injected midway", "code": "server_error"}})
                    return
                if piece:
                    yield _event({"choices": [{"index": 0, "delta": {"content": piece}}]})
                    sent += 1
                if end:
                    usage, finish = end
                    ending = {"index": 0, "delta": {}, "finish_reason": finish}
                    yield _event({"choices": [ending]})
                    if wants_usage and not fault.no_usage:
                        yield _event({"choices": [], "usage": usage})
            whole = True
            yield b"data: [DONE]\n\n"
        finally:
            self.closed_early += not whole

    async def _answer(
        self, body: dict[str, Any], *, fixed: bool
    ) -> AsyncIterator[tuple[str, tuple[dict[str, int], str] | None]]:
        limit = int(body.get("max_tokens") or body.get("max_completion_tokens") or 64)
        if fixed or self._host is None:
            words = ["The", " cloud", " answers", " so."][:limit]
            count = sum(len(m["content"].split()) for m in body["messages"])
            usage = {"prompt_tokens": count, "completion_tokens": len(words)}
            self.billed.append((count, len(words)))  # also if nobody reads it to the end
            for word in words:
                yield word, None
            yield "", (usage, "stop")
            return
        generate = Generate(
            messages=[Message(m["role"], m["content"]) for m in body["messages"]],
            max_tokens=limit,
            temperature=float(body.get("temperature") or 0.0),
        )
        async for event in self._host.generate(generate, timeout_s=ANSWER_S):
            if isinstance(event, Delta):
                if not event.thinking:
                    yield event.text, None
            else:
                used = {
                    "prompt_tokens": event.usage.prompt_tokens,
                    "completion_tokens": event.usage.completion_tokens,
                }
                self.billed.append((used["prompt_tokens"], used["completion_tokens"]))
                yield "", (used, event.finish)


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps({'model': MODEL, **value})}\n\n".encode()


@contextmanager
def running(stand_in: StandIn, *, port: int = 0) -> Iterator[StandIn]:
    """Serve on loopback in a thread until the block is left; ``stand_in.url`` is its base."""
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        stand_in.app(), log_level="critical", lifespan="on", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    waited = threading.Event()
    for _ in range(int(START_S / 0.02)):
        if server.started or not thread.is_alive():
            break
        waited.wait(0.02)
    if not server.started:
        raise RuntimeError("the stand-in did not start")
    stand_in.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        yield stand_in
    finally:
        server.should_exit = True
        thread.join(START_S)
        listener.close()

"""The web page and what fills it: the feed, a question with its route, names, one request.

The page itself holds nothing and needs no key; what fills it does, wherever there is one. The
feed is the console's, less the words of what others ask: whoever may open this page is not the
owner of the agent, who sees all of it at the local door.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from importlib import resources
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agents.faces.http.errors import HttpError, http_error
from agents.faces.http.serving import Server, read
from agents.faces.http.sse import EventStream
from agents.library import Agent
from agents.library.events import Delta, Plan, Retry, Step
from agents.views import AnswerView, NameView
from capabilities.messages import Message
from mesh.core.errors import GossamerError

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/web/style.css": ("style.css", "text/css; charset=utf-8"),
    "/web/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/web/feed.js": ("feed.js", "text/javascript; charset=utf-8"),
    "/web/picture.js": ("picture.js", "text/javascript; charset=utf-8"),
    "/web/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
    "/web/manage.js": ("manage.js", "text/javascript; charset=utf-8"),
    "/web/icon.svg": ("icon.svg", "image/svg+xml"),
}
ASK = "/web/api/ask"
MAX_WATCHERS = 16  # open pages; each has a snapshot of the mesh and a request at the local door
MAX_TURNS = 64
MAX_CHARS = 16 * 1024  # of a question, as at the local door
TRACE_CHARS = 32  # all of an id: who has it asked the question
SHORT = 8
KEPT = ("type", "phase", "verb", "at", "elapsed_s")  # of what a request's event says
# Nothing from elsewhere, nothing in line, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",
}


class Said(msgspec.Struct, kw_only=True):
    """An earlier turn of the conversation."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Meta(max_length=MAX_CHARS)]


class Question(msgspec.Struct, kw_only=True):
    """What the page asks."""

    question: Annotated[str, Meta(min_length=1, max_length=MAX_CHARS)]
    history: Annotated[list[Said], Meta(max_length=MAX_TURNS)] = []
    reach: Literal["node", "group", "mesh", "cloud"] = "mesh"
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 120.0


class Answered(msgspec.Struct, frozen=True, tag="answer"):
    """The whole answer: the last event of a question."""

    answer: AnswerView


class Problem(msgspec.Struct, frozen=True, kw_only=True, tag="error"):
    """What went wrong after the stream had begun; it ends with this."""

    code: str
    message: str
    hint: str = ""


class Seen(msgspec.Struct, frozen=True):
    """An event of the feed: ``self`` (this agent), ``mesh`` (nodes that changed or went),
    ``request`` (that one began, went on, ended), ``error`` and others, with fields of their own."""

    type: str


Event = Plan | Step | Delta | Retry | Answered | Problem


async def file(request: Request) -> Response:
    """One of the page's files."""
    settings = Server.of(request).settings
    if not settings.page:
        raise HttpError(
            403,
            'the page is shown on this machine and over TLS only: take http.tls = "off" away, '
            "or open it through ssh -L",
            kind="permission_error",
            code="page_needs_tls",
        )
    name, kind = FILES[request.url.path]
    body = (resources.files(__package__) / "web" / name).read_bytes()
    return Response(body, media_type=kind, headers=HEADERS)


async def watch(request: Request) -> Response:
    """The feed as server-sent events, until the page is closed."""
    server = Server.of(request)
    if server.watchers >= MAX_WATCHERS:
        raise HttpError(
            429,
            f"{server.watchers} pages are open, as many as this agent shows",
            kind="rate_limit_error",
            code="too_many_pages",
            retry_after_s=5.0,
        )
    server.watchers += 1
    return _Page(_feed(server), HEADERS, lambda: None, server)


class _Page(EventStream):
    """A feed that is counted for as long as its page is open."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        headers: Mapping[str, str],
        on_gone: Callable[[], None],
        server: Server,
    ) -> None:
        super().__init__(chunks, headers, on_gone)
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._server.watchers -= 1


async def _feed(server: Server) -> AsyncIterator[bytes]:
    try:
        async with aclosing(server.agent.watch()) as events:  # type: ignore[type-var]
            async for event in events:
                if (shown := without_words(event)) is not None:
                    yield _line(shown)
    except GossamerError as error:
        yield _line(_problem(error))


def without_words(event: dict[str, Any]) -> dict[str, Any] | None:
    """An event of the feed without what people asked and were answered; None: nothing is left."""
    if event.get("type") != "request":
        return event
    shown = {key: event[key] for key in KEPT if key in event}
    shown["trace"] = str(event.get("trace") or "")[:SHORT]
    told = event.get("event")
    if isinstance(told, dict):
        step = told.get("step")
        if told.get("type") == "step" and isinstance(step, dict):
            kept = {key: step.get(key) for key in ("id", "name", "node", "status")}
            return {**shown, "event": {"type": "step", "step": kept}}
        if told.get("type") == "asked":
            kept = {key: told.get(key) for key in ("type", "name", "node")}
            return {**shown, "event": kept}
        return None
    if event.get("phase") == "end":
        answer = event.get("answer") if isinstance(event.get("answer"), dict) else {}
        shown["nodes"] = (answer or {}).get("nodes") or []
        shown["error"] = event.get("error") or ""
    return shown


async def ask(request: Request) -> Response:
    """A question: its plan, steps and words as server-sent events, last the answer."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":  # what a form of another page cannot send unasked
        raise HttpError(400, "a question is sent as application/json", code="invalid_value")
    server = Server.of(request)
    asked = await read(request, Question)
    return EventStream(_asked(server.agent, asked), HEADERS, server.metrics.gone)


async def _asked(agent: Agent, asked: Question) -> AsyncIterator[bytes]:
    events = agent.stream(
        asked.question,
        timeout_s=asked.timeout_s,
        reach=asked.reach,
        history=[Message(one.role, one.content) for one in asked.history],
    )
    try:
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, AnswerView):
                    yield _line(Answered(event))
                elif not (isinstance(event, Delta) and not event.text):
                    yield _line(event)
    except GossamerError as error:
        yield _line(_problem(error))


async def names(request: Request) -> Response:
    """What can be asked for, and who serves it."""
    return await _fetched(request, Server.of(request).agent.names())


async def trace(request: Request) -> Response:
    """One request in full, for who knows all of its id."""
    wanted = str(request.path_params["trace"])
    if len(wanted) != TRACE_CHARS:
        raise HttpError(404, "a request is known by its whole id", code="no_such_trace")
    return await _fetched(request, Server.of(request).agent.trace(wanted))


async def _fetched(request: Request, work: Any) -> Response:
    try:
        async with asyncio.timeout(30.0):
            found = await work
    except GossamerError as error:
        raise http_error(error) from None
    body = msgspec.json.encode(found)
    return Response(body, media_type="application/json", headers=HEADERS)


def _line(event: Any) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _problem(error: GossamerError) -> Problem:
    return Problem(code=error.code, message=error.message, hint=error.hint)


ROUTES = [
    *(Route(path, file, methods=["GET"]) for path in FILES),
    Route("/web/api/watch", watch, methods=["GET"]),
    Route("/web/api/names", names, methods=["GET"]),
    Route("/web/api/trace/{trace}", trace, methods=["GET"]),
    Route(ASK, ask, methods=["POST"]),
]
# For the document at /openapi.json.
POSTS = (
    (ASK, "webAsk", Question, None, Event,
     "The web page's question: its plan, its steps, its words as they come, last the answer."),
)  # fmt: skip
GETS = (
    ("/web/api/names", "webNames", list[NameView], "What can be asked for, and who serves it."),
    ("/web/api/trace/{trace}", "webTrace", dict[str, Any],
     "One request in full, for who knows all of its id."),
)  # fmt: skip
FEEDS = (
    ("/web/api/watch", "webWatch", Seen,
     "What happens in the mesh, without the words of others, until the client leaves."),
)  # fmt: skip

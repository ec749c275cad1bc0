"""What every request passes before anything reads it: who asks, from where, how much, how many.

The order is that of their cost. A browser is turned away unless its page is ours or allowed
(Origin), and unless it used a name of this server (Host), since a page elsewhere can make a
browser send requests to loopback, also under a name that its owner points there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agents.faces.http import a2a, mcp
from agents.faces.http.errors import HttpError
from agents.faces.http.metrics import HttpMetrics
from agents.faces.http.page import ASK, FILES
from agents.faces.http.settings import LOOPBACK_NAMES, Settings

BODY_S = 30.0  # to send a body of at most a quarter of a megabyte
# The page holds nothing, what fills it needs a key; the card says that one is needed.
OPEN_PATHS = frozenset({"/healthz", a2a.CARD_PATH, a2a.KEYS_PATH, *FILES})
COUNTED = ("/v1/", a2a.RPC_PATH, mcp.PATH, ASK)  # the paths that are work for a model
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared, not bound


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: HttpMetrics) -> None:
        self.app = app
        self._settings = settings
        self._metrics = metrics
        self.busy = 0
        self._hosts = {*LOOPBACK_NAMES, *settings.hosts, settings.host.lower()}
        self._any_address = settings.host in WILDCARDS
        if self._any_address:
            own = socket.gethostname().partition(".")[0].lower()
            self._hosts |= {own, f"{own}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        answer = _Answer(send, os.urandom(12).hex(), began)
        counted = scope["path"].startswith(COUNTED) and scope["method"] == "POST"
        try:
            self._check(scope)
            if counted:
                self._check_room()
            self.busy += counted
            try:
                body = _Body(receive, self._settings.max_body_bytes)
                await self.app(scope, body, answer)
            finally:
                self.busy -= counted
        except HttpError as error:
            self._metrics.refused(error.detail.code or error.detail.type)
            await answer.refuse(error)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.over(route, scope["method"], answer.status, time.monotonic() - began)

    def _check_room(self) -> None:
        if self.busy >= self._settings.max_requests:
            raise HttpError(
                429,
                f"{self.busy} requests are under way, as many as this server takes",
                kind="rate_limit_error",
                code="too_many_requests",
                retry_after_s=1.0,
            )

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name not in self._hosts and not (self._any_address and _is_address(name)):
            raise HttpError(
                403,
                f"this server is not called {name[:80]!r}; http.hosts lists its names",
                kind="permission_error",
                code="host_not_allowed",
            )
        origin = headers.get("origin", "")
        if origin and origin not in self._settings.origins and urlsplit(origin).netloc != host:
            raise HttpError(
                403,
                f"pages of {origin[:80]!r} may not use this server; http.origins lists who may",
                kind="permission_error",
                code="origin_not_allowed",
            )
        # Browsers send no Origin with what a foreign page embeds; they say that it is foreign.
        foreign = not origin and headers.get("sec-fetch-site") == "cross-site"
        if foreign and scope["path"] != "/":
            raise HttpError(
                403,
                "a page of another site may not load this",
                kind="permission_error",
                code="origin_not_allowed",
            )
        if not self._settings.keys or _is_open(scope) or scope["method"] == "OPTIONS":
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._settings.known(key.strip()):
            raise HttpError(
                401,
                "a key is needed: send it as Authorization: Bearer KEY",
                kind="authentication_error",
                code="invalid_api_key",
            )


def _is_open(scope: Scope) -> bool:
    """Whether no key is needed: to look at what is open, never to do anything there."""
    return scope["path"] in OPEN_PATHS and scope["method"] in {"GET", "HEAD"}


def _is_address(name: str) -> bool:
    """Whether a host is an address: no name server can point one here for a page elsewhere."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class _Answer:
    """Passes an answer on with our headers; knows its status and whether it has begun."""

    def __init__(self, send: Send, request_id: str, began: float) -> None:
        self._send = send
        self._id = request_id
        self._began = began
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = f"req_{self._id}"
            headers["openai-processing-ms"] = str(round((time.monotonic() - self._began) * 1000))
            headers["x-content-type-options"] = "nosniff"
        await self._send(message)

    async def refuse(self, error: HttpError) -> None:
        """Answer with an error, unless an answer has begun."""
        if self.status:
            return
        body = error.body()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **error.headers(),
        }
        raw = [(key.encode(), value.encode()) for key, value in headers.items()]
        await self({"type": "http.response.start", "status": error.status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})


class _Body:
    """The request's body, no larger and no slower than allowed."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0
        self._until = time.monotonic() + BODY_S
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise HttpError(408, "the request did not arrive in time", code="timeout") from None
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._size > self._limit:
            raise HttpError(
                413, f"a request has at most {self._limit} bytes", code="request_too_large"
            )
        return message

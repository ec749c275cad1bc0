"""Drain and resume a node from the web page, for who has the owner's key.

A key of ``http.key`` is for asking: assistants and other programs hold it, and on loopback nobody
needs one. So neither is enough to change anything; ``http.admin_key`` is, where there is one. What
the agent may do to another node is up to that node, as ever (docs/administration.md).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agents.faces.http.errors import HttpError, http_error
from agents.faces.http.serving import Server, json_response, read
from mesh.core.errors import GossamerError

WAIT_S = 30.0  # for another node's word
VIA = "key holder, at the web page"  # as the audit log of the node that is asked has it
Node = Annotated[str, Meta(max_length=64)]


class Drain(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Take nothing new. ``node``: a name or an id, empty for this agent's own."""

    node: Node = ""
    reason: Annotated[str, Meta(max_length=120)] = ""


class Resume(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Take work again."""

    node: Node = ""


class Drained(msgspec.Struct, kw_only=True):
    """What is so now. ``running``: requests that are still finished; ``kept``: a restart changes
    nothing."""

    node: str
    draining: bool
    running: int
    kept: bool


class Rights(msgspec.Struct, kw_only=True):
    """``offered``: there is a key that administers; ``administer``: it came with this request."""

    offered: bool
    administer: bool


async def rights(request: Request) -> Response:
    """What the holder of this key may do."""
    settings = Server.of(request).settings
    allowed = settings.administers(_key(request))
    return json_response(Rights(offered=bool(settings.admin_keys), administer=allowed))


async def drain(request: Request) -> Response:
    """Let a node finish what it works on and take nothing new."""
    server = _allowed(request)
    asked = await read(request, Drain)
    return await _ordered(server.agent.drain(asked.node, asked.reason, via=VIA))


async def resume(request: Request) -> Response:
    """Let it take work again."""
    server = _allowed(request)
    asked = await read(request, Resume)
    return await _ordered(server.agent.resume(asked.node, via=VIA))


def _allowed(request: Request) -> Server:
    server = Server.of(request)
    if not server.settings.administers(_key(request)):
        raise HttpError(
            403,
            "this key may not administer; http.admin_key of this agent may"
            if server.settings.admin_keys
            else "nothing is administered here: http.admin_key of this agent is not set",
            kind="permission_error",
            code="admin_key_needed",
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":  # what a form of another page cannot send unasked
        raise HttpError(400, "an order is sent as application/json", code="invalid_value")
    return server


async def _ordered(work: Any) -> Response:
    try:
        async with asyncio.timeout(WAIT_S):
            done = await work
    except TimeoutError:
        raise HttpError(
            504, "the node did not answer in time; it may have done it", code="deadline"
        ) from None
    except GossamerError as error:
        raise http_error(error) from None
    return json_response(msgspec.convert(done, Drained))


def _key(request: Request) -> str:
    return request.headers.get("authorization", "").partition(" ")[2].strip()


ROUTES = [
    Route("/web/api/rights", rights, methods=["GET"]),
    Route("/web/api/drain", drain, methods=["POST"]),
    Route("/web/api/resume", resume, methods=["POST"]),
]
# For the document at /openapi.json.
POSTS = (
    ("/web/api/drain", "drain", Drain, Drained, None,
     "Let a node finish what it works on and take nothing new; needs http.admin_key."),
    ("/web/api/resume", "resume", Resume, Drained, None,
     "Let a drained node take work again; needs http.admin_key."),
)  # fmt: skip
GETS = (("/web/api/rights", "rights", Rights, "What the holder of this key may do."),)

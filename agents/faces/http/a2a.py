"""Routes of the Agent2Agent protocol; what is behind them is imported when somebody asks.

The SDK takes half a second and 34 MB, which an agent that nobody asks this way does not pay.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agents.faces.http.errors import HttpError, http_error
from agents.faces.http.serving import Server
from mesh.core.errors import GossamerError

CARD_PATH = "/.well-known/agent-card.json"
KEYS_PATH = "/.well-known/jwks.json"
RPC_PATH = "/a2a"


async def card(request: Request) -> Response:
    """The signed agent card."""
    endpoint = await _endpoint(request)
    try:
        response: Response = await endpoint.card(request)
    except GossamerError as error:
        raise http_error(error) from None
    return response


async def keys(request: Request) -> Response:
    """The key that it is signed with."""
    endpoint = await _endpoint(request)
    try:
        response: Response = await endpoint.keys(request)
    except GossamerError as error:
        raise http_error(error) from None
    return response


async def rpc(request: Request) -> Response:
    """JSON-RPC."""
    response: Response = await (await _endpoint(request)).rpc(request)
    return response


async def _endpoint(request: Request) -> Any:
    state = request.app.state
    if not hasattr(state, "a2a_loading"):
        state.a2a_loading = asyncio.Lock()
    async with state.a2a_loading:
        if not hasattr(state, "a2a"):
            try:
                module = await asyncio.to_thread(import_module, "agents.faces.a2a.endpoint")
            except ImportError as error:
                raise HttpError(
                    501,
                    f"A2A needs a library that is not installed here ({error.name}): "
                    "pip install 'gossamer-mesh[a2a]'",
                    code="not_installed",
                ) from None
            server = Server.of(request)
            state.a2a = module.Endpoint(server.agent, keys=bool(server.settings.keys))
    return state.a2a


ROUTES = [
    Route(CARD_PATH, card, methods=["GET"]),
    Route(KEYS_PATH, keys, methods=["GET"]),
    Route(RPC_PATH, rpc, methods=["POST"]),
]

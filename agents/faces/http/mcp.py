"""The Model Context Protocol at ``/mcp``; what is behind it is imported when somebody asks.

``gossamer mcp --http`` serves the same in a process of its own (docs/mcp.md); here it is one more
route, behind the key, the names and the limits of all the others.
"""

from __future__ import annotations

import asyncio
from importlib import import_module

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.faces.http.errors import HttpError
from agents.faces.http.serving import Server

PATH = "/mcp"


class Endpoint:
    """Streamable HTTP; one session manager for the application, made for the first request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        app = await _served(Request(scope, receive))
        await app(scope, receive, send)


async def _served(request: Request) -> ASGIApp:
    state = request.app.state
    server = Server.of(request)
    if not server.settings.mcp:
        raise HttpError(
            404,
            'this agent has no MCP at its HTTP: set mcp = true under [http], or use "gossamer mcp"',
            code="unknown_url",
        )
    if not hasattr(state, "mcp_loading"):
        state.mcp_loading = asyncio.Lock()
    async with state.mcp_loading:
        if not hasattr(state, "mcp"):
            try:
                module = await asyncio.to_thread(import_module, "agents.faces.mcp.serving")
            except ImportError as error:
                raise HttpError(
                    501,
                    f"MCP needs a library that is not installed here ({error.name}): "
                    "pip install 'gossamer-mesh[mcp]'",
                    code="not_installed",
                ) from None
            mounted = module.Mounted(module.MeshServer(server.agent), server.settings)
            await mounted.start()
            state.mcp = mounted
    app: ASGIApp = state.mcp
    return app


ROUTES = [Route(PATH, Endpoint())]

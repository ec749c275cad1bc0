"""How the server is reached: over standard input and output, or over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

import uvicorn
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from agents.faces.http.__main__ import BACKLOG, KEEP_ALIVE_S, SPARE_CONNECTIONS, listen
from agents.faces.http.guard import Guard
from agents.faces.http.metrics import HttpMetrics
from agents.faces.http.settings import Settings
from agents.faces.mcp.server import MeshServer
from mesh.core.errors import ConfigError

PATH = "/mcp"
LEAVE_S = 2  # for answers under way at Ctrl-C


async def over_stdio(mesh: MeshServer) -> None:
    """Serve one client until it closes our standard input."""
    async with stdio_server() as (read, write):
        try:
            await mesh.server.run(read, write, mesh.server.create_initialization_options())
        finally:
            await mesh.watching.close()


async def over_http(mesh: MeshServer, settings: Settings) -> None:
    """Serve on the settings' address until a signal; raises :class:`ConfigError`."""
    try:
        door = listen(settings)
    except OSError as error:
        raise ConfigError(f"cannot listen: {error}") from None
    # Host and Origin are checked by the guard, for every path and with names of the user's own.
    app = mesh.server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=settings.max_body_bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    server = uvicorn.Server(
        uvicorn.Config(
            Guard(app, settings, HttpMetrics()),
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LEAVE_S,
            limit_concurrency=settings.max_requests + SPARE_CONNECTIONS,
            ssl_certfile=settings.certificate or None,
            ssl_keyfile=settings.private_key or None,
        )
    )
    sys.stderr.write(f"MCP at {url_of(settings, door)} (Ctrl-C ends it)\n")
    sys.stderr.flush()
    try:
        await server.serve(sockets=[door])
    finally:
        await mesh.watching.close()


def url_of(settings: Settings, door: socket.socket) -> str:
    """Where a bound socket is reached."""
    host, port = door.getsockname()[:2]
    host = settings.shown or host
    scheme = "https" if settings.certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"


def leave_on_signals(task: asyncio.Task[None]) -> None:
    """End a task at SIGTERM as at Ctrl-C: clients end servers over stdio with it."""
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

"""How the server is reached: over standard input and output, or over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

import uvicorn
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import Receive, Scope, Send

from agents.faces.http.__main__ import BACKLOG, KEEP_ALIVE_S, SPARE_CONNECTIONS, listen
from agents.faces.http.guard import Guard
from agents.faces.http.metrics import HttpMetrics
from agents.faces.http.settings import Settings
from agents.faces.mcp.server import MeshServer
from mesh.core.errors import ConfigError

PATH = "/mcp"
LEAVE_S = 2  # for answers under way at Ctrl-C
# A session costs some 100 KB and its client may never say that it is gone. Both bounds stop who
# opens one after the other; a client whose session has ended is told to begin another.
MAX_SESSIONS = 256
SESSION_IDLE_S = 600.0
# Host and Origin are checked by the guard, for every path and with names of the user's own.
UNCHECKED = TransportSecuritySettings(enable_dns_rebinding_protection=False)


class Mounted:
    """The same behind an agent's own HTTP: an ASGI application without a lifespan of its own."""

    def __init__(self, mesh: MeshServer, settings: Settings) -> None:
        self._mesh = mesh
        self._sessions = StreamableHTTPSessionManager(
            mesh.server,
            max_request_body_size=settings.max_body_bytes,
            max_sessions=MAX_SESSIONS,
            session_idle_timeout=SESSION_IDLE_S,
            security_settings=UNCHECKED,
        )
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ready for requests, until the event loop ends."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # One task enters and leaves it, as a group of tasks has to be.
        self._life = asyncio.create_task(self._live(begun), name="mcp-sessions")
        await asyncio.wait({begun, self._life}, return_when=asyncio.FIRST_COMPLETED)
        if self._life.done():
            await self._life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        await self._sessions.handle_request(scope, receive, send)

    async def _live(self, begun: asyncio.Future[None]) -> None:
        try:
            async with self._sessions.run():
                begun.set_result(None)
                await asyncio.Event().wait()
        finally:
            await self._mesh.watching.close()


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
    app = mesh.server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=settings.max_body_bytes,
        max_sessions=MAX_SESSIONS,
        session_idle_timeout=SESSION_IDLE_S,
        transport_security=UNCHECKED,
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

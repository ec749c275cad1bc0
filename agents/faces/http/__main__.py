"""The HTTP process of an agent: ``python -m agents.faces.http``, its settings on standard input.

It says on standard output where it listens, and ends when its standard input does, so that it
never outlives its agent.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import msgspec
import uvicorn

from agents.faces.http.app import make_app
from agents.faces.http.settings import Settings
from agents.library import Agent
from agents.telemetry.logs import set_up
from mesh.core.errors import GossamerError

BACKLOG = 256
KEEP_ALIVE_S = 75  # an idle connection; clients' pools give theirs up after 60 s or sooner
LEAVE_S = 2  # for answers under way when the agent stops
# Connections beyond the requests that are taken: idle ones, and those that hear 429.
SPARE_CONNECTIONS = 512


def main() -> int:
    """Serve until standard input ends; returns the exit status."""
    try:
        settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=Settings)
        door = listen(settings)
    except (msgspec.MsgspecError, OSError) as error:
        _say({"error": f"HTTP cannot listen: {error}"})
        return 1
    set_up(settings.log_level, settings.log_format)
    asyncio.run(serve(settings, door))
    return 0


def listen(settings: Settings) -> socket.socket:
    """A bound socket; raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns Nagle's delay off only on sockets that say that they are TCP; with it, a small
    # answer on a connection that is used again waits 40 ms for an acknowledgement.
    door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((settings.host, settings.port))
    except OSError as error:
        door.close()
        raise OSError(
            f"{settings.host} port {settings.port}: {error.strerror} "
            "(choose another http.port, or 0 for any)"
        ) from error
    return door


async def serve(settings: Settings, door: socket.socket) -> None:
    """Serve on a bound socket until standard input ends."""
    agent = Agent(settings.state)
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(settings, agent),
            lifespan="off",
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
    host, port = door.getsockname()[:2]
    host = settings.shown or host
    scheme = "https" if settings.certificate else "http"
    _say({"listening": f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"})
    leaving = asyncio.create_task(_until_left(server))
    try:
        await server.serve(sockets=[door])
    except GossamerError as error:
        _say({"error": error.sentence()})
    finally:
        leaving.cancel()
        await agent.close()


async def _until_left(server: uvicorn.Server) -> None:
    """The agent closes our standard input, or dies, which closes it too."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
    server.should_exit = True


def _say(line: dict[str, str]) -> None:
    print(msgspec.json.encode(line).decode(), flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The local door: how every face reaches the agent that runs on a state directory.

A Unix-domain socket that only its owner may open, one JSON object per line. The server speaks
first::

    < {"hello": {"protocol": 1, "version": "0.1.0"}}
    > {"id": 1, "verb": "ask", "args": {"question": "..."}}
    < {"id": 1, "event": ...}                                   any number of these
    < {"id": 1, "result": ...}  or  {"id": 1, "error": {"code", "message", "hint"}}
    > {"id": 1, "cancel": true}

Many requests may be in flight on one connection. A client that goes away cancels its own. A
line that is no request is answered with an error and disturbs nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from agents.faces.client import PROTOCOL, READ_BYTES, ControlClient, Result, no_agent
from agents.faces.door import (
    candidates,
    default_state,
    is_socket,
    place_socket,
    remove_socket,
    socket_path,
)
from agents.faces.lines import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    Hello,
    LineSplitter,
    Oversize,
    Reply,
    Request,
    encode_line,
    problem_of,
)
from mesh.core.errors import (
    Cancelled,
    FrameTooLarge,
    GossamerError,
    PeerLost,
    Rejected,
    StateLocked,
    WireError,
)

__all__ = [
    "ControlServer",
    "ControlClient",
    "Handler",
    "Result",
    "unary",
    "candidates",
    "default_state",
    "no_agent",
    "socket_path",
    "version",
]

MAX_CONNECTIONS = 64  # a loop of clients must not use up the agent's file descriptors
MAX_IN_FLIGHT = 64  # per connection: a runaway script is refused, not queued
STALL_S = 30.0  # a client that reads nothing for so long is dropped, so that no answer is held
FLUSH_S = 1.0  # for the last lines to a client that leaves
ANSWER_S = 1.0  # whether somebody listens on a local socket shows at once

_log = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], AsyncIterator[Any]]


def unary(function: Callable[[dict[str, Any]], Awaitable[Any]]) -> Handler:
    """A handler out of a coroutine function that returns its result and has no events."""

    async def handler(args: dict[str, Any]) -> AsyncIterator[Any]:
        yield Result(await function(args))

    return handler


def version() -> str:
    """The version of the installed distribution, or a mark that it runs from source."""
    try:
        return metadata.version("gossamer-mesh")
    except metadata.PackageNotFoundError:
        return "0+source"


class ControlServer:
    """Serves the verbs of one agent on its state directory; the module says how it speaks.

    ``handlers`` maps a verb to an async generator function of its arguments, which yields
    events and, last, :class:`Result`. What it raises as a :class:`GossamerError` reaches the
    client with code, message and hint; anything else is a bug, logged and reported as internal.
    ``counters`` says what came in and what was refused.
    """

    def __init__(self, state: Path, handlers: Mapping[str, Handler]) -> None:
        self.state = state
        self.handlers = dict(handlers)
        self.counters: Counter[str] = Counter()
        self.path: Path | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen. Raises :class:`StateLocked` when another agent answers on this directory."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        old = socket_path(self.state)
        if is_socket(old):
            if await _answers(old):
                raise StateLocked(
                    f"an agent already runs on {self.state}",
                    hint="stop it, or give this one another --state",
                )
            remove_socket(self.state, old)  # of an agent that was killed
        self.path = place_socket(self.state)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.bind(str(self.path))
        self.path.chmod(0o600)  # before it listens, so that nobody can have come in yet
        self._server = await asyncio.start_unix_server(self._client, sock=door)

    async def stop(self) -> None:
        """Cancel what is in flight, close every connection and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
        clients = list(self._clients)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        if self.path is not None:
            remove_socket(self.state, self.path)
            self.path = None

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        connection = _Connection(self, writer)
        try:
            if len(self._clients) > MAX_CONNECTIONS:
                self.counters["refused"] += 1
                await connection.refuse(
                    None, Rejected(f"{MAX_CONNECTIONS} clients are connected to this agent")
                )
                return
            await connection.send(Hello({"protocol": PROTOCOL, "version": version()}))
            await connection.read(reader)
        except (OSError, PeerLost):
            pass  # gone; what it asked for is cancelled now
        except asyncio.CancelledError:
            pass  # by stop(), which waits for this task; raised on, asyncio logs it as an error
        finally:
            await connection.close()
            self._clients.discard(task)


class _Connection:
    """One client: its requests in flight, and its lines out."""

    def __init__(self, server: ControlServer, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.writer = writer
        self.tasks: dict[int | str, asyncio.Task[None]] = {}
        self.leaving = False

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Take requests until the client goes."""
        splitter = LineSplitter(MAX_REQUEST_BYTES)
        while data := await reader.read(READ_BYTES):
            for line in splitter.feed(data):
                try:
                    self.take(line)
                except GossamerError as error:
                    self.server.counters[error.code] += 1
                    await self.refuse(None, error)

    async def close(self) -> None:
        """Cancel the client's requests and let it go, also when it no longer reads."""
        self.leaving = True
        running = list(self.tasks.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self.writer.close()
        try:
            async with asyncio.timeout(FLUSH_S):
                await self.writer.wait_closed()
        except (OSError, TimeoutError):
            self.writer.transport.abort()

    def take(self, line: bytes | Oversize) -> None:
        """Begin or cancel what one line asks for; raises when it is no request."""
        if isinstance(line, Oversize):
            raise FrameTooLarge(f"a request of more than {MAX_REQUEST_BYTES} bytes")
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.MsgspecError, RecursionError, ValueError) as cause:
            raise WireError(
                f"not a request: {cause}",
                hint='a request is one line such as {"id": 1, "verb": "status", "args": {}}',
            ) from cause
        running = self.tasks.get(request.id)
        if request.cancel:
            if running is not None:
                running.cancel()
            return
        if running is not None:
            # Answered without the id, which belongs to the request in flight.
            raise WireError(f"request id {request.id!r} is already in flight")
        task = asyncio.create_task(self.serve(request))
        self.tasks[request.id] = task
        task.add_done_callback(lambda _: self.tasks.pop(request.id, None))

    async def serve(self, request: Request) -> None:
        """Run one request to its result or its error."""
        self.server.counters["requests"] += 1
        with contextlib.suppress(OSError, PeerLost):  # gone, and reading notices it too
            try:
                value = await self.stream(request)
                await self.send(Reply(request.id, result=value))
            except asyncio.CancelledError:
                # Not raised again: this task is the request, and so it ends.
                self.server.counters["cancelled"] += 1
                await self.refuse(request.id, Cancelled("the request was cancelled"))
            except GossamerError as error:
                self.server.counters[error.code] += 1
                await self.refuse(request.id, error)
            except Exception as error:
                self.server.counters["internal"] += 1
                _log.exception("the verb %s failed", request.verb)
                await self.refuse(request.id, error)

    async def stream(self, request: Request) -> Any:
        """Send the events of a request; returns its result, null when its handler gives none."""
        if len(self.tasks) > MAX_IN_FLIGHT:
            raise Rejected(f"{MAX_IN_FLIGHT} requests are in flight on this connection")
        handler = self.server.handlers.get(request.verb)
        if handler is None:
            raise WireError(
                f"no verb {request.verb[:40]!r}",
                hint=f"this agent knows {', '.join(sorted(self.server.handlers))}",
            )
        items = handler(request.args)
        try:
            async for item in items:
                if isinstance(item, Result):
                    return item.value
                await self.send(Reply(request.id, event=item))
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
        return None

    async def refuse(self, number: int | str | None, error: Exception) -> None:
        """Say no to one request, or to a line that names none."""
        await self.send(Reply(number, error=problem_of(error)))

    async def send(self, reply: Reply | Hello) -> None:
        """Write one line; a client that does not read it in time loses its connection."""
        line = encode_line(reply)
        if len(line) > MAX_REPLY_BYTES:
            raise FrameTooLarge(
                f"a reply of {len(line)} bytes, at most {MAX_REPLY_BYTES} are allowed",
                hint="ask for less at once",
            )
        if self.leaving or self.writer.is_closing():
            raise PeerLost("the client is gone")
        self.writer.write(line)
        if not self.writer.transport.get_write_buffer_size():
            return
        try:
            # Not wait_for: before Python 3.12 it can swallow a cancellation.
            async with asyncio.timeout(STALL_S):
                await self.writer.drain()
        except TimeoutError:
            self.server.counters["stalled"] += 1
            self.writer.transport.abort()
            raise PeerLost("the client does not read its replies") from None


async def _answers(path: Path) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_unix_connection(str(path))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True

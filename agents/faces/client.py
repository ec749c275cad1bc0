"""A face's side of the control socket: requests to the agent, many at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agents.faces.door import candidates, socket_path
from agents.faces.lines import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    Hello,
    LineSplitter,
    Oversize,
    Problem,
    Reply,
    Request,
    encode_line,
    error_of,
)
from mesh.core.errors import (
    DeadlineExceeded,
    FrameTooLarge,
    GossamerError,
    PeerLost,
    Rejected,
    WireError,
)

PROTOCOL = 1
CONNECT_S = 5.0
SILENCE_S = 30.0  # patience between two replies, unless a caller says otherwise
READ_BYTES = 64 * 1024
MAX_UNREAD = 4096  # replies that a caller may leave unread before its request is given up

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Result(msgspec.Struct, frozen=True):
    """What a handler yields last, and what a client's stream ends with."""

    value: Any = None


def no_agent(state: Path | None) -> GossamerError:
    """The error of a face that finds no agent."""
    where = f"the state directory {state}" if state else "this state directory"
    error = PeerLost(
        f"No agent runs on {where}.",
        hint="Start one with: gossamer up --config FILE, or gossamer demo",
    )
    error.code = "no_agent"
    return error


class ControlClient:
    """A connection to a running agent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int | str, asyncio.Queue[Reply | GossamerError]] = {}
        self._last_id = 0
        self._lost: GossamerError | None = None
        self._pump: asyncio.Task[None] | None = None
        self.version = ""  # of the agent
        self.state = Path()  # of the agent

    @classmethod
    async def connect(cls, state: Path | None = None) -> ControlClient:
        """Reach the agent of ``state`` (by default the user's own, or a running demo).

        Raises a :class:`GossamerError` of code no_agent when none runs.
        """
        for place in candidates(state):
            path = str(socket_path(place))
            try:
                async with asyncio.timeout(CONNECT_S):
                    reader, writer = await asyncio.open_unix_connection(path)
            except (OSError, TimeoutError):
                continue  # left behind by an agent that was killed
            client = cls(reader, writer)
            client.state = place
            try:
                async with asyncio.timeout(CONNECT_S):
                    await client._greet()
            except BaseException as error:
                await client.close()
                if isinstance(error, TimeoutError):
                    raise DeadlineExceeded(
                        f"The agent on {place} does not answer.",
                        hint="it may be stopped or overloaded; look at its log",
                    ) from None
                raise
            return client
        raise no_agent(state)

    @property
    def lost(self) -> bool:
        """Whether the agent has gone."""
        return self._lost is not None

    async def __aenter__(self) -> ControlClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave; the agent cancels what this client still had in flight."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def request(
        self,
        verb: str,
        args: Mapping[str, Any] | None = None,
        *,
        silence_s: float | None = SILENCE_S,
    ) -> AsyncGenerator[Any, None]:
        """The events of one request and, last, its :class:`Result`.

        Raises the agent's error as a :class:`GossamerError` of the same class and code, and
        :class:`DeadlineExceeded` after ``silence_s`` without a word (None: never). Closing the
        iterator cancels the request at the agent.
        """
        if self._lost is not None:
            raise self._lost
        self._last_id += 1
        number = self._last_id
        line = encode_line(Request(id=number, verb=verb, args=dict(args or {})))
        if len(line) > MAX_REQUEST_BYTES:
            raise FrameTooLarge(
                f"a request of {len(line)} bytes, at most {MAX_REQUEST_BYTES} are allowed",
                hint="shorten the text",
            )
        replies: asyncio.Queue[Reply | GossamerError] = asyncio.Queue()
        self._waiting[number] = replies
        over = False
        try:
            await self._write(line)
            while not over:
                reply = await _next(replies, silence_s)
                over = isinstance(reply, GossamerError) or reply.event is msgspec.UNSET
                if isinstance(reply, GossamerError):
                    raise reply
                if isinstance(reply.error, Problem):
                    raise error_of(reply.error)
                yield Result(reply.result) if over else reply.event
        finally:
            self._waiting.pop(number, None)
            if not over and self._lost is None:
                self._writer.write(encode_line(Request(id=number, cancel=True)))

    async def fetch(
        self,
        verb: str,
        args: Mapping[str, Any] | None = None,
        *,
        silence_s: float | None = SILENCE_S,
    ) -> Any:
        """The result of one request; its events, if any, are passed over."""
        last = None
        async for item in self.request(verb, args, silence_s=silence_s):
            last = item
        return last.value if isinstance(last, Result) else None

    async def _write(self, line: bytes) -> None:
        try:
            self._writer.write(line)
            async with asyncio.timeout(CONNECT_S):
                await self._writer.drain()
        except (OSError, TimeoutError):
            raise self._gone() from None

    async def _greet(self) -> None:
        """Read the agent's first line and begin to receive."""
        splitter = LineSplitter(MAX_REPLY_BYTES)
        lines: list[bytes | Oversize] = []
        while not lines:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise self._gone()
            lines = splitter.feed(data)
        spoken, self.version = _greeting(lines[0])
        if spoken != PROTOCOL:
            raise WireError(
                f"the agent (Gossamer {self.version}) speaks control protocol {spoken}, "
                f"this command speaks {PROTOCOL}",
                hint="restart the agent with the Gossamer that this command belongs to",
            )
        self._pump = asyncio.create_task(self._receive(splitter, lines[1:]))

    async def _receive(self, splitter: LineSplitter, lines: list[bytes | Oversize]) -> None:
        """Hand each reply to its request until the agent goes."""
        try:
            while True:
                for line in lines:
                    self._deliver(line)
                data = await self._reader.read(READ_BYTES)
                if not data:
                    break
                lines = splitter.feed(data)
        except OSError:
            pass  # the same as its end
        finally:
            lost = self._gone()
            for number in list(self._waiting):
                self._hand(number, lost)

    def _deliver(self, line: bytes | Oversize) -> None:
        reply = _decoded(line, Reply)
        if reply is None:
            _log.warning("the agent sent a line that is no reply; it is passed over")
        elif reply.id is not None:
            self._hand(reply.id, reply)

    def _hand(self, number: int | str, reply: Reply | GossamerError) -> None:
        """Queue a reply for its request; one that nobody reads is given up, the rest go on."""
        waiting = self._waiting.get(number)
        if waiting is None:
            return
        if waiting.qsize() >= MAX_UNREAD:
            reply = Rejected(f"{MAX_UNREAD} replies were left unread, so the request was given up")
            self._waiting.pop(number)
            self._writer.write(encode_line(Request(id=number, cancel=True)))
        waiting.put_nowait(reply)

    def _gone(self) -> GossamerError:
        self._lost = PeerLost(
            "The agent closed the connection.", hint="it was stopped or died; look at its log"
        )
        return self._lost


async def _next(
    replies: asyncio.Queue[Reply | GossamerError], silence_s: float | None
) -> Reply | GossamerError:
    try:
        async with asyncio.timeout(silence_s):
            return await replies.get()
    except TimeoutError:
        raise DeadlineExceeded(
            f"The agent has said nothing for {silence_s:.0f} s.",
            hint="give it longer with --timeout, or look at its log",
        ) from None


def _greeting(line: bytes | Oversize) -> tuple[int, str]:
    """Protocol and version of a hello line; raises what a refusing agent says instead."""
    hello = _decoded(line, Hello)
    if hello is None:
        refusal = _decoded(line, Reply)
        if refusal is not None and isinstance(refusal.error, Problem):
            raise error_of(refusal.error)
    elif isinstance(protocol := hello.hello.get("protocol"), int):
        return protocol, str(hello.hello.get("version", ""))
    raise WireError("what listens on the control socket is no Gossamer agent")


def _decoded(line: bytes | Oversize, kind: type[T]) -> T | None:
    if isinstance(line, Oversize):
        return None
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None

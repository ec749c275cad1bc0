"""A slow link between two nodes of one machine: bandwidth, delay and jitter, for tests and figures.

Each direction of each TCP connection is read, held back as long as such a link would take, and
passed on in order. A pair of nodes needs two links, since each node dials the other: one in front
of each listening address. What is measured through it is real ZeroMQ with CURVE.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

CHUNK = 4096  # bytes held back together; finer costs more wake-ups


@dataclass(slots=True)
class Shape:
    """``delay_s`` is one way; ``jitter_s`` the most that is added to it, evenly."""

    bits_per_s: float = 30e6
    delay_s: float = 0.001
    jitter_s: float = 0.0
    seed: int = 0


@dataclass
class Link:
    """Listens at ``host`` on the ports of ``target`` and passes bytes on; may be cut."""

    host: str
    target: str
    ports: Sequence[int]
    shape: Shape
    is_cut: bool = False
    passed: int = 0  # bytes towards the target
    _servers: list[asyncio.Server] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _busy_until: float = 0.0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Link:
        self._random = random.Random(self.shape.seed)
        for port in self.ports:
            server = await asyncio.start_server(
                lambda reader, writer, port=port: self._accept(reader, writer, port),  # type: ignore[misc]
                self.host,
                port,
            )
            self._servers.append(server)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._writers):
            writer.close()
        for server in self._servers:
            with contextlib.suppress(Exception):
                await server.wait_closed()

    def cut(self) -> None:
        """Nothing passes any more; connections stay open and silent, as with a pulled cable."""
        self.is_cut = True

    def mend(self) -> None:
        """What comes now passes again; what was held back while it was cut is passed, too."""
        self.is_cut = False

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        try:
            there, out = await asyncio.open_connection(self.target, port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, out}
        for source, sink, forward in ((reader, out, True), (there, writer, False)):
            task = asyncio.create_task(self._pass(source, sink, forward=forward))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, forward: bool
    ) -> None:
        """One direction of one connection; all connections share the bandwidth forwards.

        Backwards flow acknowledgements of the transport only: they are delayed and not counted.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                while self.is_cut:  # noqa: ASYNC110 - a cable tells nobody
                    await asyncio.sleep(0.01)
                sink.write(data)
                await sink.drain()

        task = asyncio.create_task(deliver())
        try:
            last = 0.0
            while data := await source.read(CHUNK):
                now = loop.time()
                sent = now
                if forward:
                    self.passed += len(data)
                    sent = max(now, self._busy_until) + len(data) * 8 / self.shape.bits_per_s
                    self._busy_until = sent
                jitter = self._random.random() * self.shape.jitter_s
                last = max(last, sent + self.shape.delay_s + jitter)
                queue.put_nowait((last, data))
            while not queue.empty():  # noqa: ASYNC110 - what is held back goes first
                await asyncio.sleep(0.005)
        except (ConnectionError, OSError):
            pass
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            sink.close()

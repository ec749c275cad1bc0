"""One request in several lines at once: whoever has a slot first answers it.

Where all nodes are full, the one whose queue looks shortest often is not, since nobody knows how
long the answers before will be. A request that stands in a few lines and leaves the others when
the first begins is served nearly as from one queue for all (Dean and Barroso, "The tail at
scale", 2013; Ousterhout et al., "Sparrow", 2013). It costs a message for each line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from agents.port import MeshPort, Offer, Task
from mesh.core.errors import CapabilityFailed, GossamerError


class Line:
    """A call of the first of ``offers`` that begins to answer; ``offer`` is who does or, until
    then, who was asked first."""

    def __init__(self, port: MeshPort, offers: Sequence[Offer]) -> None:
        self.offer = offers[0]
        self._port = port
        self._offers = offers

    async def call(self, body: bytes, task: Task) -> AsyncGenerator[bytes, None]:
        """Stream the answer; raises what the first node said when none of them answers."""
        if len(self._offers) == 1:
            streams = [self._port.call(self.offer, body, task)]
            try:
                async for message in streams[0]:
                    yield message
            finally:
                await _close(streams)
            return
        streams = [self._port.call(offer, body, task) for offer in self._offers]
        first: dict[asyncio.Task[bytes], int] = {
            asyncio.ensure_future(_first(stream)): place for place, stream in enumerate(streams)
        }
        try:
            place, message = await self._winner(first)
            self.offer = self._offers[place]
            await _cancel(first)
            await _close([s for other, s in enumerate(streams) if other != place])
            yield message
            async for message in streams[place]:
                yield message
        finally:
            await _cancel(first)
            await _close(streams)

    @staticmethod
    async def _winner(first: dict[asyncio.Task[bytes], int]) -> tuple[int, bytes]:
        refusals: dict[int, GossamerError] = {}
        waiting = set(first)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda one: first[one]):
                try:
                    return first[task], task.result()
                except GossamerError as error:
                    refusals[first[task]] = error
        raise refusals[min(refusals)]


async def _first(stream: AsyncIterator[bytes]) -> bytes:
    try:
        return await anext(stream)
    except StopAsyncIteration:  # a task must not end with it
        raise CapabilityFailed("the stream ended before the answer was whole") from None


async def _cancel(tasks: dict[asyncio.Task[bytes], int]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _close(streams: Sequence[AsyncIterator[bytes]]) -> None:
    for stream in streams:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()

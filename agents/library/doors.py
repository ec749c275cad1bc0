"""Connections to one agent: opened when needed, shared by many requests, replaced when lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from agents.faces.client import SILENCE_S, ControlClient, Result
from mesh.core.errors import Rejected

PER_CONNECTION = 48  # requests on one connection; the door refuses above 64
MAX_CONNECTIONS = 12  # of the 64 that a door takes, so that other faces still get in


class Doors:
    """Connections to the agent of one state directory."""

    def __init__(self, state: Path | None) -> None:
        self._state = state
        self._open: list[ControlClient] = []
        self._busy: Counter[int] = Counter()  # requests under way, by id of the connection
        self._opening = asyncio.Lock()

    async def request(
        self, verb: str, args: Mapping[str, Any], *, silence_s: float | None = SILENCE_S
    ) -> AsyncIterator[Any]:
        """As :meth:`ControlClient.request`; raises Rejected when every connection is full."""
        client = await self.take()
        try:
            async with aclosing(client.request(verb, args, silence_s=silence_s)) as items:
                async for item in items:
                    yield item
        finally:
            self.give(client)

    async def fetch(
        self, verb: str, args: Mapping[str, Any], *, silence_s: float | None = SILENCE_S
    ) -> Any:
        """The result alone."""
        last = None
        async with aclosing(self.request(verb, args, silence_s=silence_s)) as items:  # type: ignore[type-var]
            async for item in items:
                last = item
        return last.value if isinstance(last, Result) else None

    async def take(self) -> ControlClient:
        """A connection with room for one more request; give it back."""
        client = self._roomy()
        if client is None:
            async with self._opening:
                client = self._roomy()  # somebody else may have opened one meanwhile
                if client is None:
                    client = await self._connect()
        self._busy[id(client)] += 1
        return client

    def give(self, client: ControlClient) -> None:
        """A request on a connection is over."""
        self._busy[id(client)] -= 1
        if self._busy[id(client)] <= 0:
            del self._busy[id(client)]

    async def close(self) -> None:
        """Leave; the agent cancels what is under way."""
        clients, self._open = self._open, []
        await asyncio.gather(*(client.close() for client in clients))

    def _roomy(self) -> ControlClient | None:
        for client in self._open:
            if not client.lost and self._busy[id(client)] < PER_CONNECTION:
                return client
        return None

    async def _connect(self) -> ControlClient:
        lost = [client for client in self._open if client.lost]
        self._open = [client for client in self._open if not client.lost]
        for client in lost:
            await client.close()
        if len(self._open) >= MAX_CONNECTIONS:
            raise Rejected(
                f"{MAX_CONNECTIONS * PER_CONNECTION} requests of this program are under way",
                retry_after_s=1.0,
            )
        client = await ControlClient.connect(self._state)
        self._state = client.state  # the same agent from now on
        self._open.append(client)
        return client

"""What happens at an agent, as it happens, to whoever watches: the console, a web page.

A watcher that reads too slowly loses the oldest events and is told how many; nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

MAX_BEHIND = 1024  # events that a watcher may be behind


class Watcher:
    """One reader of a feed."""

    def __init__(self, limit: int = MAX_BEHIND) -> None:
        self._events: deque[Any] = deque()
        self._limit = limit
        self._arrived = asyncio.Event()
        self.lost = 0  # since the last :meth:`take`

    def put(self, event: Any) -> None:
        """Add an event."""
        if len(self._events) >= self._limit:
            self._events.popleft()
            self.lost += 1
        self._events.append(event)
        self._arrived.set()

    def take(self) -> list[Any]:
        """What came since the last time; a note of what was lost stands first."""
        events = list(self._events)
        self._events.clear()
        self._arrived.clear()
        if self.lost:
            events.insert(0, {"type": "lost", "events": self.lost})
            self.lost = 0
        return events

    async def wait(self, timeout_s: float) -> None:
        """Until something came, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            pass


class Feed:
    """Hands each event to every watcher; costs nothing while nobody watches."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self._watchers)

    def join(self) -> Watcher:
        """A new watcher; give it back with :meth:`leave`."""
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        self._watchers.discard(watcher)

    def tell(self, event: Any) -> None:
        """One event for all."""
        for watcher in self._watchers:
            watcher.put(event)

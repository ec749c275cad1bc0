"""Last words to another node, which no answer waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from mesh.core.errors import GossamerError

__all__ = ["Farewells"]


class Farewells:
    """Says them beside what goes on; that nobody hears one is no trouble, the other side expires
    what it holds."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def say(self, word: Coroutine[Any, Any, object]) -> None:
        """Begin to say it."""
        task = asyncio.create_task(self._said(word))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _said(self, word: Coroutine[Any, Any, object]) -> None:
        with contextlib.suppress(GossamerError, TimeoutError):
            await word

    async def done(self) -> None:
        """Wait until all are said or given up: each has a time limit of its own."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Break off what is not said yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

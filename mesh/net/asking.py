"""Asking a few nodes for their load and waiting for as many answers as come in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mesh.core.events import LoadHeard
from mesh.core.wire import Load

if TYPE_CHECKING:
    from mesh.net.node import MeshNode


class LoadAsker:
    """The waiting end of :class:`mesh.core.asking.Asking`: one future per node that is asked."""

    def __init__(self, node: MeshNode) -> None:
        self._node = node
        self._waiting: dict[bytes, asyncio.Future[Load]] = {}

    async def ask(self, nodes: Iterable[bytes], timeout_s: float) -> dict[bytes, Load]:
        """What those say that answer within ``timeout_s``, this node included if it is named.

        The first few are asked (:data:`mesh.core.asking.MAX_ASKED`); who is silent is not in it.
        """
        node = self._node
        named = list(dict.fromkeys(nodes))
        fresh = {one: node.load(one) for one in named if one == node.me.node}
        node.emit(node.core.ask_loads(named, timeout_s, node.now()))
        asked = [one for one in named if node.core.asking.waits_for(one, node.now())]
        loop = asyncio.get_running_loop()
        futures = {one: self._waiting.setdefault(one, loop.create_future()) for one in asked}
        if futures:
            await asyncio.wait(futures.values(), timeout=timeout_s)
        for one, future in futures.items():
            if future.done():
                fresh[one] = future.result()
            elif self._waiting.get(one) is future and not node.core.asking.waits_for(
                one, node.now()
            ):
                del self._waiting[one]
        return fresh

    def heard(self, event: LoadHeard) -> None:
        """An answer came."""
        future = self._waiting.pop(event.node, None)
        if future is not None and not future.done():
            future.set_result(event.load)

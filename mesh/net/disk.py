"""What a running node writes down now and then: its journal, its clock, its incarnation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh.core.errors import ConfigError
from mesh.net.journal import write_journal

if TYPE_CHECKING:
    from mesh.net.node import MeshNode

JOURNAL_EVERY_S = 5.0  # no more often while changes keep coming: a memory card wears
# What changes after a quiet time is written this soon: a node that is killed in its first seconds,
# and comes back at another port, finds the mesh only through what it wrote.
JOURNAL_SOON_S = 0.5


class Disk:
    """Writes off the event loop, as a whole, and tells people when it cannot."""

    def __init__(self, node: MeshNode) -> None:
        self._node = node
        self._changed = asyncio.Event()

    @property
    def dirty(self) -> bool:
        """Whether the journal is behind what the node knows."""
        return self._changed.is_set()

    @dirty.setter
    def dirty(self, changed: bool) -> None:
        if changed:
            self._changed.set()
        else:
            self._changed.clear()

    async def keep(self) -> None:
        """Write again and again: what changed soon, the clock now and then.

        While changes keep coming the pause doubles, up to ``JOURNAL_EVERY_S``.
        """
        pause_s = JOURNAL_SOON_S
        while True:
            try:
                async with asyncio.timeout(JOURNAL_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                pause_s = JOURNAL_SOON_S
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, JOURNAL_EVERY_S)
            await self.write()

    async def write(self) -> None:
        """Write what has changed."""
        node = self._node
        try:
            if self.dirty:
                self.dirty = False
                await asyncio.to_thread(write_journal, node.state.journal, node.core.snapshot())
            await asyncio.to_thread(node.state.keep_clock)
        except ConfigError as error:  # a full disk: the mesh goes on, and people are told
            self.dirty = True
            node.counters["disk_failed"] += 1
            node.on_trouble(error.sentence())

    async def remember_incarnation(self, incarnation: int) -> None:
        """The mesh knows a later boot than the disk did."""
        node = self._node
        node.incarnation = node.door.incarnation = incarnation
        try:
            await asyncio.to_thread(node.state.keep_incarnation, incarnation)
        except ConfigError as error:
            node.on_trouble(error.sentence())

"""Resources that clients watch: told when they change, read again by whoever wants to know.

A client of the protocol since 2026-07-28 opens one stream that names its URIs; older ones
subscribe to each. Both are served by one follower per URI, which ends with its last watcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing

from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourcesListChanged, ResourceUpdated

from agents.faces.mcp.resources import NAMES, NODES, STATUS, name_of
from agents.library import Agent, Published
from mesh.core.errors import GossamerError

REST_S = 0.2  # between two notices of one resource: a feed may publish hundreds a second
RETRY_S = 2.0  # an agent that went away
MAX_WATCHED = 64  # URIs at once
MAX_OLD = 256  # subscriptions of older clients; a connection that is gone says nothing
LIST = "list"  # what stands for the list of resources among the URIs

log = logging.getLogger("gossamer.mcp")


class Watching:
    """The followers of one server."""

    def __init__(self, agent: Agent) -> None:
        self.bus = InMemorySubscriptionBus()
        self._agent = agent
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watchers: dict[str, int] = {}
        self._old: OrderedDict[tuple[str, int], ServerSession] = OrderedDict()

    @contextlib.asynccontextmanager
    async def held(self, uris: Iterable[str]) -> AsyncIterator[None]:
        """Follow these while the block runs; raises :class:`GossamerError` for too many."""
        taken: list[str] = []
        try:
            for uri in uris:
                self._take(uri)
                taken.append(uri)
            yield
        finally:
            for uri in taken:
                self._give(uri)

    def subscribe(self, uri: str, session: ServerSession) -> None:
        """Of an older client; raises :class:`GossamerError` for too many."""
        key = (uri, _connection(session))
        if key not in self._old:
            self._take(uri)
        self._old[key] = session
        while len(self._old) > MAX_OLD:
            (first, _), _session = self._old.popitem(last=False)
            self._give(first)

    def unsubscribe(self, uri: str, session: ServerSession) -> None:
        """Of an older client."""
        if self._old.pop((uri, _connection(session)), None) is not None:
            self._give(uri)

    async def close(self) -> None:
        """End every follower."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, uri: str) -> None:
        if uri not in self._watchers and len(self._watchers) >= MAX_WATCHED:
            raise GossamerError(
                f"{MAX_WATCHED} resources are watched already", hint="end another subscription"
            )
        self._watchers[uri] = self._watchers.get(uri, 0) + 1
        if uri not in self._tasks:
            self._tasks[uri] = asyncio.create_task(self._follow(uri), name=f"watch {uri}")

    def _give(self, uri: str) -> None:
        self._watchers[uri] -= 1
        if not self._watchers[uri]:
            del self._watchers[uri]
            if (task := self._tasks.pop(uri, None)) is not None:
                task.cancel()

    async def _follow(self, uri: str) -> None:
        """Notice changes and tell them, at most one in ``REST_S``, the last one always."""
        changed = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._notice(uri, changed))
            while True:
                await changed.wait()
                changed.clear()
                await self._tell(uri)
                await asyncio.sleep(REST_S)

    async def _notice(self, uri: str, changed: asyncio.Event) -> None:
        while True:
            try:
                async with aclosing(self._changes(uri)) as changes:  # type: ignore[type-var]
                    async for _ in changes:
                        changed.set()
            except GossamerError as error:
                log.info("watching %s: %s", uri, error.sentence())
            await asyncio.sleep(RETRY_S)

    async def _changes(self, uri: str) -> AsyncIterator[None]:
        if name := name_of(uri):
            async with aclosing(self._agent.follow(name)) as updates:  # type: ignore[type-var]
                async for update in updates:
                    if isinstance(update, Published):
                        yield
            return
        listed: object = None
        async with aclosing(self._agent.watch()) as told:  # type: ignore[type-var]
            async for event in told:
                if event.get("type") == "self" and uri == STATUS:
                    yield
                if event.get("type") != "mesh":
                    continue
                if uri in {NODES, STATUS} or _about(event, uri):
                    yield
                elif uri in {NAMES, LIST}:
                    names = [(one.name, len(one.endpoints)) for one in await self._agent.names()]
                    nodes = [peer.name for peer in await self._agent.peers()]
                    now = (names, nodes if uri == LIST else None)
                    if now != listed and listed is not None:
                        yield
                    listed = now

    async def _tell(self, uri: str) -> None:
        if uri == LIST:
            await self.bus.publish(ResourcesListChanged())
            return
        await self.bus.publish(ResourceUpdated(uri=uri))
        for (wanted, _), session in list(self._old.items()):
            if wanted == uri:
                await session.send_resource_updated(uri)


def _about(event: dict[str, object], uri: str) -> bool:
    peers = event.get("peers")
    node = uri.removeprefix(f"{NODES}/")
    return isinstance(peers, list) and any(peer.get("name") == node for peer in peers)


def _connection(session: ServerSession) -> int:
    """What tells one client's connection from another's: its handshake, which lives as long."""
    return id(session.client_params)

"""Feeds of data as one answer: what is known now, or what is published next."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

import msgspec

from agents.faces.mcp.messages import MAX_UPDATES, Subscribe, Update, Updates
from agents.library import Agent, Broken, Current, DataEvent, Missed, Published
from mesh.core.names import matches

GRACE_S = 5.0  # for the agent's last words
MAX_NOTES = 20
KIND = "subscribe"  # of a name that is followed, not asked
ALIVE = "alive"
STREAM = 0  # the epoch of a name that sends samples as it makes them, and keeps none


class Heard:
    """What was heard of a feed so far; ``event`` says whether it is enough."""

    def __init__(self, asked: Subscribe, publishers: set[tuple[str, str]]) -> None:
        self._asked = asked
        self._waiting = publishers  # (name, node) whose latest was not heard yet
        self._current: set[tuple[str, str]] = set()
        self._latest: dict[tuple[str, str, str], Update] = {}
        self._next: list[Update] = []
        self.notes: list[str] = []

    def event(self, event: DataEvent) -> bool:
        """Note one event; True when nothing more is wished for."""
        where = (event.name, event.node)
        match event:
            case Published():
                if event.epoch == STREAM:  # it keeps nothing: the first that is heard is the latest
                    self._current.add(where)
                    self._waiting.discard(where)
                if not event.past:
                    self._published(event, where)
            case Current():
                self._current.add(where)
                self._waiting.discard(where)
            case Broken():
                self._waiting.discard(where)
                self._note(f"{event.name} at {event.node}: {event.why}")
            case Missed():
                many = "an unknown number of" if event.missed < 0 else str(event.missed)
                self._note(f"{event.name} at {event.node}: {many} updates were missed")
        return self.complete

    @property
    def complete(self) -> bool:
        """Whether it is all that was wished for."""
        if self._asked.wait == "next":
            return len(self._next) >= self._asked.count
        return not self._waiting

    def updates(self) -> Updates:
        """All of it, the newest of each key last."""
        found = self._next if self._asked.wait == "next" else list(self._latest.values())
        found = sorted(found, key=lambda update: update.at)
        if len(found) > MAX_UPDATES:
            self._note(f"{len(found) - MAX_UPDATES} older keys are left out")
            found = found[-MAX_UPDATES:]
        return Updates(
            name=self._asked.name, updates=found, complete=self.complete, notes=self.notes
        )

    def _published(self, event: Published, where: tuple[str, str]) -> None:
        value = None if event.value is None else msgspec.to_builtins(event.value)
        update = Update(
            name=event.name,
            node=event.node,
            key=event.key,
            version=event.version,
            at=event.at,
            value=value,
        )
        if self._asked.wait == "next":
            # What comes before a publisher is current was published before we asked.
            if where in self._current and len(self._next) < self._asked.count:
                self._next.append(update)
        elif value is None:
            self._latest.pop((*where, event.key), None)
        else:
            self._latest[(*where, event.key)] = update

    def _note(self, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)


async def hear(agent: Agent, asked: Subscribe) -> Updates:
    """Follow a feed until there is enough of it, or the time is over."""
    heard = Heard(asked, await _publishers(agent, asked.name))
    if heard.complete:  # nobody publishes it now, and nothing is waited for
        heard.notes.append("nobody who is alive publishes it")
        return heard.updates()
    follow = agent.follow(asked.name, timeout_s=asked.timeout_s + GRACE_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(asked.timeout_s), aclosing(follow) as events:  # type: ignore[type-var]
            async for event in events:
                if heard.event(event):
                    break
    return heard.updates()


async def _publishers(agent: Agent, name: str) -> set[tuple[str, str]]:
    """Who publishes now, as (name, node); raises what resolving a plain name raises."""
    pattern, _, node = name.partition("@")
    if "*" not in pattern:
        endpoints = (await agent.resolve(name)).endpoints
        return {(pattern, one.name) for one in endpoints if one.state == ALIVE}
    return {
        (one.name, endpoint.name)
        for one in await agent.names()
        if one.kind == KIND and matches(pattern, one.name)
        for endpoint in one.endpoints
        if endpoint.state == ALIVE and (not node or endpoint.name == node)
    }

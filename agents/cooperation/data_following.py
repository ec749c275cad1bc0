"""Follows data names at every node that offers them, through restarts, cuts and refusals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec

from agents.port import MeshPort, Offer, Task
from capabilities.data.follower import Broken, Follower, FollowEvent, Fresh
from capabilities.data.messages import KIND, Update, decode_message
from capabilities.messages import Sample, encode
from mesh.core.errors import AccessDenied, ConfigError, GossamerError, NoSuchName
from mesh.core.names import check_pattern, matches
from mesh.core.wire import Op, Reach

LOOK_S = 1.0  # how often new publishers of the name are looked for
STREAM_S = 3600.0  # of one stream; it is opened anew where it stood
UNREAD = 256  # events that wait for a slow reader; beyond them the publishers wait
MAX_SOURCES = 64  # publishers of one pattern: each costs a stream at both ends
TRACE_BYTES = 16


class Heard(msgspec.Struct, frozen=True):
    """What happened at one publisher. ``denied``: its rules do not let this node follow."""

    name: str
    node: str
    event: FollowEvent
    denied: bool = False


class Following:
    """One pattern of data names. ``events`` may be read once; closing it ends every stream.

    ``counters`` are those of all its followers.
    """

    def __init__(
        self,
        port: MeshPort,
        pattern: str,
        *,
        node: str = "",
        groups: tuple[str, ...] = (),
        reach: int = Reach.MESH,
        rng: random.Random | None = None,
        patient: bool = False,
        back: int = 0,
    ) -> None:
        self.pattern = check_pattern(pattern)
        self._port = port
        self._node = node
        self._groups = groups
        self._reach = reach
        self._rng = rng or random.Random()
        self._patient = patient
        self._back = back
        self._followers: dict[tuple[bytes, str], Follower] = {}
        self._denied: dict[tuple[bytes, str], str] = {}
        self._queue: asyncio.Queue[Heard | GossamerError] = asyncio.Queue(UNREAD)
        self._tasks: dict[tuple[bytes, str], asyncio.Task[None]] = {}

    @property
    def counters(self) -> Counter[str]:
        """What all its followers counted."""
        total: Counter[str] = Counter()
        for follower in self._followers.values():
            total.update(follower.counters)
        return total

    def state(self) -> dict[tuple[str, str], dict[str, Update]]:
        """The latest of each key, by name and publisher."""
        return {
            (name, node.hex()): follower.state for (node, name), follower in self._followers.items()
        }

    async def events(self) -> AsyncIterator[Heard]:
        """What happens, until it is closed.

        Unless patient, raises :class:`NoSuchName` when nobody offers the name, and
        :class:`AccessDenied` when everybody who does refuses.
        """
        if not self._patient and not self._offers():
            if any(matches(self.pattern, offer.served.name) for offer in self._port.offers()):
                raise ConfigError(
                    f"{self.pattern} is asked, not subscribed to", hint="use ask, call or generate"
                )
            raise NoSuchName(
                f"nobody publishes {self.pattern}" + (f" at {self._node}" if self._node else ""),
                hint="gossamer names 'data.gpt/**' shows what is published",
            )
        looking = asyncio.create_task(self._keep_looking())
        try:
            while True:
                heard = await self._queue.get()
                if isinstance(heard, GossamerError):
                    raise heard
                yield heard
        finally:
            tasks = [looking, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- who publishes ----------------------------------------------------------------------

    def _offers(self) -> list[Offer]:
        return [
            offer
            for offer in self._port.offers()
            if offer.served.kind == KIND
            and matches(self.pattern, offer.served.name)
            and self._node in {"", offer.node_name}
        ]

    async def _keep_looking(self) -> None:
        while True:
            for offer in self._offers():
                key = (offer.node, offer.served.name)
                if key not in self._tasks and len(self._tasks) < MAX_SOURCES:
                    seed = self._rng.getrandbits(64)
                    self._followers[key] = Follower(random.Random(seed), back=self._back)
                    self._tasks[key] = asyncio.create_task(self._source(key))
            await asyncio.sleep(LOOK_S)

    async def _source(self, key: tuple[bytes, str]) -> None:
        follower = self._followers[key]
        while True:
            now = self._port.now()
            offer = next((o for o in self._offers() if (o.node, o.served.name) == key), None)
            if offer is None or not follower.due(now):
                wait_s = LOOK_S if offer is None else follower.next_deadline() - now
                await asyncio.sleep(min(LOOK_S, max(0.01, wait_s)))
                continue
            await self._stream(offer, follower)

    # -- one stream -------------------------------------------------------------------------

    async def _stream(self, offer: Offer, follower: Follower) -> None:
        key = (offer.node, offer.served.name)
        hello = encode(follower.hello(self._port.now()))
        task = Task(
            trace=os.urandom(TRACE_BYTES),
            deadline=self._port.now() + STREAM_S,
            reach=self._reach,
            groups=self._groups,
        )
        answer = self._port.call(offer, hello, task, Op.SUBSCRIBE)
        why, denied = "the feed ended", False
        try:
            async with aclosing(answer):  # type: ignore[type-var]
                while True:
                    left_s = follower.next_deadline() - self._port.now()
                    async with asyncio.timeout(max(0.0, left_s)):
                        body = await anext(answer)
                    self._denied.pop(key, None)
                    if not await self._on_body(offer, follower, body):
                        return
        except StopAsyncIteration:
            pass
        except TimeoutError:
            why = f"{offer.node_name} says nothing"
        except AccessDenied as error:
            why, denied = error.sentence(), True
        except GossamerError as error:
            why = error.sentence()
        broken = follower.lost(why, self._port.now(), denied=denied)
        for event in broken:
            await self._queue.put(Heard(offer.served.name, offer.node_name, event, denied))
        if denied:
            self._denied[key] = why
            if not self._patient and set(self._denied) == set(self._tasks):
                await self._queue.put(AccessDenied(why))

    async def _on_body(self, offer: Offer, follower: Follower, body: bytes) -> bool:
        """Hand on what one message means; False when the stream is of no use any more."""
        told = decode_message(body)
        if isinstance(told, Sample):
            events: list[FollowEvent] = [Fresh(follower.bare(told, self._port.now()))]
        else:
            events = follower.receive(told, len(body), self._port.now())
        for event in events:
            await self._queue.put(Heard(offer.served.name, offer.node_name, event))
        return not any(isinstance(event, Broken) for event in events)


@contextlib.asynccontextmanager
async def following(following: Following) -> AsyncIterator[AsyncIterator[Heard]]:
    """Its events, closed at the end."""
    async with aclosing(following.events()) as events:  # type: ignore[type-var]
        yield events

"""What one agent publishes: its feeds, the files that fill them, the views that it makes.

The certificate says which names; ``[states]`` says how much noise an embedding gets before it
leaves; the access rules say who may follow, where the following is served.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agents.config import AgentConfig, PublishSection, TrendSection
from agents.configure import build_noise
from agents.cooperation.data_files import FileTail
from agents.cooperation.data_following import Following, following
from agents.port import MeshPort
from capabilities.data.capability import Feed, FeedsCapability, served_feed
from capabilities.data.follower import Fresh
from capabilities.data.lines import value_of
from capabilities.data.log import FeedLimits
from capabilities.data.messages import MAX_STATIONS, Embedding, Update, Value
from capabilities.data.stations import StationBook, ViewConfig
from capabilities.data.store import FeedStore
from capabilities.messages import Sample
from capabilities.state_noise import StateNoise
from mesh.core.errors import AccessDenied, GossamerError
from mesh.core.names import check_name

if TYPE_CHECKING:
    from mesh.core.identity import Member

log = logging.getLogger("gossamer.data")

RETELL_S = 60.0  # a view that did not change is told again, so that its ages are true


class DataDesk(FeedsCapability):
    """The feeds of one agent. ``me`` is asked each time: certificates are renewed."""

    def __init__(
        self, config: AgentConfig, folder: Path, me: Callable[[], Member], port: MeshPort
    ) -> None:
        super().__init__(FeedStore(folder))
        self._me = me
        self._port = port
        self._noise = build_noise(config.states)
        self._publish: Sequence[PublishSection] = config.publish
        self._trends: Sequence[TrendSection] = config.trend
        self._work: list[asyncio.Task[None]] = []
        self.followings: list[Following] = []

    async def start(self) -> None:
        """Open the configured feeds, read their files, follow what the views are made of.

        Raises :class:`AccessDenied` for a name that this node's certificate does not grant.
        """
        for section in self._publish:
            self.may(section.name)
            limits = FeedLimits(history=section.history)
            served = served_feed(section.name, description=section.description)
            self.declare(served, limits, keep=section.keep)
        for trend in self._trends:
            name = trend_name(trend.domain)
            self.may(name)
            text = trend.description or f"What the stations of {trend.domain} say together."
            self.declare(served_feed(name, description=text), FeedLimits(), keep=True)
        await super().start()
        for section in self._publish:
            if section.source is not None:
                self._work.append(asyncio.create_task(self._read(section)))
        for trend in self._trends:
            self._work.append(asyncio.create_task(self._view(trend)))

    async def stop(self) -> None:
        """End what fills the feeds, then the feeds."""
        work, self._work = self._work, []
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await super().stop()

    def all_counters(self) -> Counter[str]:
        """What was published and followed, for the status."""
        total = Counter({f"data_{key}": count for key, count in self.counters.items()})
        for one in self.followings:
            total.update({f"data_{key}": count for key, count in one.counters.items()})
        return total

    # -- publishing -------------------------------------------------------------------------

    async def say(
        self,
        name: str,
        raw: dict[str, Any],
        *,
        key_field: str = "key",
        description: str = "",
    ) -> Update:
        """Publish a JSON object under a name, which is opened if it is not yet.

        Raises :class:`AccessDenied` without the right to the name, :class:`WireError` for an
        object that is no value.
        """
        node = self.may(name)
        key, value = value_of(raw, name, source=node, now=time.time(), key_field=key_field)
        await self.open(served_feed(name, description=description))
        return self.put(name, key, await self._blur(value))

    async def open_feed(
        self, name: str, limits: FeedLimits, *, description: str = "", keep: bool = True
    ) -> Feed:
        """A feed that is filled by a program; raises :class:`AccessDenied` without the right."""
        self.may(name)
        served = served_feed(name, description=description)
        return await self.open(served, limits, keep=keep)

    async def take_away(self, name: str, key: str) -> Update:
        """Take a key away; raises :class:`WireError` when there is none."""
        self.may(name)
        await self.open(served_feed(name))
        return self.publish(name, key, None)

    def put(self, name: str, key: str, value: Value) -> Update:
        """Publish a value in a feed that is open."""
        return self.publish(name, key, value)

    def may(self, name: str) -> str:
        """This node's name, if it may publish ``name``; raises :class:`AccessDenied`."""
        me = self._me()
        if not me.may_publish(check_name(name)):
            raise AccessDenied(
                f"the certificate of {me.name} does not grant {name}",
                hint="ask the mesh's owner for a certificate that grants the name",
            )
        return me.name

    async def _blur(self, value: Value) -> Value:
        """An embedding with the noise of ``[states]``; anything else as it is."""
        if not isinstance(value, Embedding) or self._noise.kind == "none":
            return value
        return await asyncio.to_thread(blurred, value, self._noise)

    # -- what fills them --------------------------------------------------------------------

    async def _read(self, section: PublishSection) -> None:
        assert section.source is not None
        tail = FileTail(section.source, self.feed(section.name).source)
        while True:
            lines, place = await asyncio.to_thread(tail.read)
            for raw in lines:
                if raw is None:
                    self.counters["refused_lines"] += 1
                    continue
                try:
                    await self.say(section.name, raw, key_field=section.key)
                except GossamerError as error:
                    self.counters["refused_lines"] += 1
                    log.warning("%s: %s", section.source, error.sentence())
            self.read_to(section.name, place)
            if not tail.more:
                await asyncio.sleep(section.every_s)

    async def _view(self, section: TrendSection) -> None:
        """Follow the raw data of a domain at every node, and tell what it says together."""
        book = StationBook(
            section.domain,
            ViewConfig(
                stale_s=section.stale_s, window=section.window, quantities=section.quantities
            ),
        )
        name = f"data.gpt/{section.domain}/raw"
        back = section.window * MAX_STATIONS  # as far as the histories reach
        source = Following(self._port, name, patient=True, back=back)
        self.followings.append(source)
        changed = asyncio.Event()

        async def listen() -> None:
            async with following(source) as events:
                async for heard in events:
                    if isinstance(heard.event, Fresh):
                        take(book, heard.node, heard.event.update)
                        changed.set()

        listening = asyncio.create_task(listen())
        try:
            while True:
                try:
                    async with asyncio.timeout(RETELL_S):
                        await changed.wait()
                except TimeoutError:
                    pass
                changed.clear()
                view = await asyncio.to_thread(book.view, self._me().name, time.time())
                if view is not None:
                    self.put(trend_name(section.domain), "", view)
                await asyncio.sleep(section.every_s)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def trend_name(domain: str) -> str:
    """Where the view of a domain is published."""
    return f"data.gpt/{domain}/trend"


def take(book: StationBook, node: str, update: Update) -> None:
    """What one node published, into the book; only numbers have a place in it."""
    if update.value is None:
        book.forget(node, update.key)
    elif isinstance(update.value, Sample):
        book.add(node, update.key, update.value)


def blurred(value: Embedding, noise: StateNoise) -> Embedding:
    """The embedding with noise, of unit length again where its space says so."""
    import numpy as np

    row = np.frombuffer(value.data, "<f4").astype(np.float32)
    # Seeded from the system: who can guess the noise can take it off.
    seed = int.from_bytes(os.urandom(16))
    made = noise.apply(row, np.random.default_rng(seed))
    if value.space.normalised and (length := float(np.linalg.norm(made))) > 0:
        made = made / length
    moved = noise.report(value.dimensionality).mean_distance
    # The text would tell what the noise hides.
    return msgspec.structs.replace(value, data=made.astype("<f4").tobytes(), noise=moved, text="")

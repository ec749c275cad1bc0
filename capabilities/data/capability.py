"""The feeds of one node as a capability: ``data.gpt/<domain>/<type>`` to follow, or to ask."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.data.log import FeedLimits, FeedLog, Reader, Restored, next_epoch
from capabilities.data.messages import KIND, Subscribe, Update, Value
from capabilities.data.store import FeedStore, StoreFailed
from capabilities.data.telling import told
from capabilities.messages import Done, decode, encode, question_in
from mesh.core.errors import CapabilityFailed, NameInvalid, NoSuchName, Rejected
from mesh.core.names import check_name
from mesh.core.records import ServedName

HEARTBEAT_S = 5.0  # said into a silence, so that a subscriber knows that it has everything
MAX_FEEDS = 32  # of a node; a profile holds 64 names
MAX_SUBSCRIBERS = 128  # of all feeds; one costs a task and a place in the log
REWRITE_S = 5.0  # after a write that failed

log = logging.getLogger("gossamer.data")


@dataclass
class Feed:
    """One name, its log, who waits for it, and how much of it the disk knows."""

    served: ServedName
    log: FeedLog
    keep: bool
    written: int = 0
    source: str = ""  # how far the source of it was read, in the words of that source
    news: set[asyncio.Event] = field(default_factory=set)
    dirty: bool = False


class FeedsCapability(Capability):
    """Publishes. ``store`` None keeps nothing over a restart. ``changed`` is called when a name
    was added while it runs, so that it is advertised."""

    def __init__(
        self,
        store: FeedStore | None = None,
        *,
        wall: Callable[[], float] = time.time,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.trouble = ""
        self.counters: Counter[str] = Counter()
        self._store = store
        self._wall = wall
        self._heartbeat_s = heartbeat_s
        self._feeds: dict[str, Feed] = {}
        self._declared: list[tuple[ServedName, FeedLimits, bool]] = []
        self._active = 0
        self._opening = asyncio.Lock()
        self._disk = asyncio.Lock()
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    @property
    def names(self) -> Sequence[ServedName]:
        """Every feed there is now."""
        return [feed.served for feed in self._feeds.values()]

    def declare(self, served: ServedName, limits: FeedLimits, *, keep: bool) -> None:
        """A feed to open at the start."""
        self._declared.append((served, limits, keep))

    async def start(self) -> None:
        """Open what was declared, from disk where it is kept."""
        self._writer = asyncio.create_task(self._keep_writing())
        for served, limits, keep in self._declared:
            await self.open(served, limits, keep=keep)

    async def stop(self) -> None:
        """Write what is not written yet."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None
            await self._write_all()
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    # -- publishing -------------------------------------------------------------------------

    def feed(self, name: str) -> Feed:
        """A feed by its name; raises :class:`NoSuchName`."""
        if name not in self._feeds:
            raise NoSuchName(f"this node publishes no {name}")
        return self._feeds[name]

    async def open(
        self, served: ServedName, limits: FeedLimits | None = None, *, keep: bool = True
    ) -> Feed:
        """The feed of a name, opened if it is not yet. Raises :class:`NameInvalid` for a name
        that is none of data, :class:`Rejected` for a feed too many."""
        async with self._opening:
            feed = self._feeds.get(served.name)
            if feed is not None:
                return feed
            if not check_name(served.name).startswith("data.gpt/"):
                raise NameInvalid(
                    f"{served.name} is no feed", hint="feeds are data.gpt/<domain>/<type>"
                )
            if len(self._feeds) >= MAX_FEEDS:
                raise Rejected(f"this node publishes {MAX_FEEDS} feeds already")
            keep = keep and self._store is not None
            found = await self._restore(served.name) if keep else None
            restored, source = found or (Restored(), "")
            epoch = next_epoch((e for e, _ in restored.epochs), self._wall())
            # What could not be read is replaced as a whole by what is written next.
            written = restored.sequence if found is not None else -1
            feed = Feed(served, FeedLog(epoch, limits, restored), keep, written, source)
            if keep:
                await self._try(self._begin, served.name, epoch, restored.sequence)
            self._feeds[served.name] = feed
        self.changed()
        return feed

    def publish(self, name: str, key: str, value: Value | None) -> Update:
        """The next update of a feed that is open; raises as :meth:`FeedLog.publish`."""
        feed = self.feed(name)
        update = feed.log.publish(key, value, self._wall())
        self.counters["published"] += 1
        for event in feed.news:
            event.set()
        if feed.keep:
            feed.dirty = True
            self._wake.set()
        return update

    def read_to(self, name: str, source: str) -> None:
        """How far the source of a feed was read; kept with the updates, not before them."""
        feed = self.feed(name)
        if feed.source != source:
            feed.source = source
            feed.dirty = feed.keep
            self._wake.set()

    async def kept(self, name: str, sequence: int) -> None:
        """Wait until the disk knows everything of a feed up to ``sequence``; a disk that is full
        is waited for. Returns at once for a feed that is not kept."""
        feed = self.feed(name)
        while feed.keep and feed.written < sequence:
            await self._written.wait()

    # -- following --------------------------------------------------------------------------

    def admit(self, request: Request) -> Admission:
        """A yes while there is room for one more subscriber."""
        if request.name not in self._feeds:
            return Admission(accepted=False, reason=f"{request.name} is not published here")
        if self._active >= MAX_SUBSCRIBERS:
            return Admission(accepted=False, reason="too many subscribers", retry_after_s=5.0)
        return ACCEPTED

    async def serve(self, request: Request) -> AsyncIterator[bytes]:
        """Everything from where the subscriber stands on, until it leaves; to a question the
        latest in words."""
        feed = self.feed(request.name)
        if (question := question_in(request.body)) is not None:
            text = told(feed.log.latest.values(), question, self._wall())
            if not text:
                raise CapabilityFailed(f"nothing was published under {request.name} yet")
            self.counters["told"] += 1
            yield encode(Done(text=text, finish="stop"))
            return
        asked = decode(request.body, Subscribe) if request.body else Subscribe()
        reader, news = Reader(feed.log, asked), asyncio.Event()
        feed.news.add(news)
        self._active += 1
        resumed = bool(asked.epoch)
        try:
            while True:
                news.clear()
                while (update := reader.pull()) is not None:
                    yield encode(update)  # waits here while the subscriber has no credit
                if resumed:
                    resumed = False  # it may have missed nothing: say at once that this is all
                    yield encode(reader.alive())
                    continue
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        await news.wait()
                except TimeoutError:
                    yield encode(reader.alive())
        finally:
            self._active -= 1
            feed.news.discard(news)

    def occupancy(self) -> Occupancy:
        """How many subscribers there are; unwell while the history cannot be kept."""
        return Occupancy(
            slots=MAX_SUBSCRIBERS,
            inflight=min(self._active, MAX_SUBSCRIBERS),
            healthy=not self.trouble,
            note=self.trouble,
        )

    # -- the disk ---------------------------------------------------------------------------

    async def _restore(self, name: str) -> tuple[Restored, str] | None:
        assert self._store is not None
        try:
            async with self._disk:
                return await asyncio.to_thread(self._store.load, name)
        except StoreFailed as error:
            self._failed(error)
            return None

    def _begin(self, name: str, epoch: int, before: int) -> None:
        assert self._store is not None
        self._store.begin(name, epoch, before)

    async def _try(self, work: Callable[..., None], *args: object) -> bool:
        try:
            async with self._disk:
                await asyncio.to_thread(work, *args)
        except StoreFailed as error:
            self._failed(error)
            return False
        self.trouble = ""
        return True

    def _failed(self, error: StoreFailed) -> None:
        self.counters["not_kept"] += 1
        if not self.trouble:
            log.error("%s", error.sentence())
        self.trouble = error.sentence()

    async def _keep_writing(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._write_all():
                await asyncio.sleep(REWRITE_S)
                self._wake.set()

    async def _write_all(self) -> bool:
        whole = True
        for feed in list(self._feeds.values()):
            if feed.dirty:
                feed.dirty = False
                written = await self._write(feed)
                feed.dirty |= not written
                whole &= written
        return whole

    async def _write(self, feed: Feed) -> bool:
        """Everything that the log has and the disk has not, at this moment."""
        history, sequence, source = feed.log.after(feed.written), feed.log.sequence, feed.source
        oldest, epochs = feed.log.oldest, feed.log.epochs
        hole = feed.written + 1 < oldest
        latest = list(feed.log.latest.values()) if hole else None
        store = self._store
        assert store is not None

        def write() -> None:
            store.begin(feed.served.name, *epochs[-1])  # the disk may have been full at the start
            store.write(
                feed.served.name,
                history,
                oldest=oldest,
                sequence=sequence,
                source=source,
                whole=latest,
            )

        if not await self._try(write):
            return False
        feed.written = sequence
        written, self._written = self._written, asyncio.Event()
        written.set()
        return True


def served_feed(name: str, domain: str = "", description: str = "") -> ServedName:
    """A feed as it is advertised; the domain is the name's unless said otherwise."""
    return ServedName(
        name=check_name(name),
        domain=domain or name.split("/")[1],
        description=description,
        kind=KIND,
    )

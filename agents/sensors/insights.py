"""What the raw feeds of this node mean, published in their place: figures, words, vectors.

Raw values are read where they are, in this node's own log; what is published is made by
:mod:`capabilities.sensors.insight`. Who may follow the raw feed itself is for the access rules.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from agents.port import Task
from agents.sensors.config import InsightSection
from agents.trace import TRACE_BYTES
from capabilities.base import Admission, Capability, Occupancy, Request
from capabilities.data.lines import domain_and_type
from capabilities.data.log import FeedLimits, Reader
from capabilities.data.messages import Begin, Past, Subscribe, Summary, Update
from capabilities.embedding.messages import EMBED, Embed, Vectors
from capabilities.messages import Sample, decode, encode
from capabilities.sensors.insight import STANDARDS, Insight, InsightBook, InsightConfig
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.records import ServedName
from mesh.core.wire import Reach

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.cooperation.data import DataDesk

log = logging.getLogger("gossamer.sensors")

MAX_KEYS = 256  # of one feed
WORDS_S = 30.0  # for the model of this node; then the rules' own words are taken
WAIT_S = 0.5  # until a feed is looked for again that is not open yet
BACK = 65536  # as much of the history as there is
QUESTION = "What do the sensors show? Answer in at most three sentences, with the figures."


class InsightDesk(Capability):
    """``[[insight]]`` at work. It offers no names itself: its feeds are the data desk's."""

    def __init__(self, agent: Agent, sections: Sequence[InsightSection]) -> None:
        self.counters: Counter[str] = Counter()
        self.last: dict[tuple[str, str], Insight] = {}
        self._agent = agent
        self._sections = sections
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def names(self) -> Sequence[ServedName]:
        """None of its own."""
        return ()

    async def start(self) -> None:
        """Begin to look; raises :class:`ConfigError` or :class:`AccessDenied`."""
        desk = await self._agent.data_desk()
        for section in self._sections:
            check_rules(section)
            for name in (section.name, *made_names(section)):
                desk.may(name)
        for section in self._sections:
            self._tasks.append(asyncio.create_task(self._follow(desk, section)))

    async def stop(self) -> None:
        """End it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def admit(self, request: Request) -> Admission:
        """Nothing is asked of it."""
        return Admission(accepted=False, reason="insights are followed, not asked")

    def serve(self, request: Request) -> AsyncIterator[bytes]:
        """Nothing is asked of it."""
        raise GossamerError("insights are followed, not asked")

    def occupancy(self) -> Occupancy:
        """It holds nobody up."""
        return Occupancy(slots=0, inflight=0)

    # -- the work ---------------------------------------------------------------------------

    async def _follow(self, desk: DataDesk, section: InsightSection) -> None:
        feed_of = {served.name for served in desk.names}
        while section.name not in feed_of:  # a mapping opens it with its first message
            await asyncio.sleep(WAIT_S)
            feed_of = {served.name for served in desk.names}
        feed = desk.feed(section.name)
        reader, news = Reader(feed.log, Subscribe(back=BACK)), asyncio.Event()
        feed.news.add(news)
        books: dict[str, InsightBook] = {}
        changed: set[str] = set()
        told_at = 0.0
        try:
            while True:
                news.clear()
                for key in self._read(reader, books, section):
                    changed.add(key)
                left_s = told_at + section.every_s - time.monotonic()
                if changed and left_s <= 0:
                    told_at = time.monotonic()
                    keys, changed = sorted(changed), set()
                    for key in keys:
                        await self._tell(desk, section, key, books[key])
                    continue
                try:
                    async with asyncio.timeout(left_s if changed else section.every_s):
                        await news.wait()
                except TimeoutError:
                    changed.update(books)  # a sensor that fell silent is news as well
        finally:
            feed.news.discard(news)

    def _read(
        self, reader: Reader, books: dict[str, InsightBook], section: InsightSection
    ) -> set[str]:
        """What is new in the log, into the books; the keys that it is of."""
        found: set[str] = set()
        while (told := reader.pull()) is not None:
            if isinstance(told, Past):
                told = told.update
            if isinstance(told, Begin):
                self.counters["gaps"] += told.why == "gap"
            elif isinstance(told, Update):
                if told.value is None:
                    books.pop(told.key, None)
                elif isinstance(told.value, Sample):
                    if told.key not in books and len(books) >= MAX_KEYS:
                        self.counters["keys_refused"] += 1
                        continue
                    book = books.get(told.key)
                    if book is None:
                        book = books[told.key] = InsightBook(book_config(section))
                    book.add(told.value.at, told.value.values)
                    found.add(told.key)
        return found

    async def _tell(
        self, desk: DataDesk, section: InsightSection, key: str, book: InsightBook
    ) -> None:
        try:
            now = time.time()
            insight = await asyncio.to_thread(book.insight, now)
            if insight is None:
                return
            self.last[section.name, key] = insight
            domain, _ = domain_and_type(section.name)
            about: dict[str, Any] = {
                "domain": domain,
                "source": self._agent.node.me.name,
                "at": now,
            }
            figures, summary, *_ = made_names(section)
            if insight.values:
                sample = Sample(
                    type="insight", values=dict(list(insight.values.items())[:64]), **about
                )
                await self._publish(desk, figures, key, sample)
            if section.words == "none":
                return
            text = await self._words(section, domain, key, insight)
            await self._publish(desk, summary, key, Summary(type="summary", text=text, **about))
            if section.embed:
                await self._embed(desk, domain, key, text)
            self.counters["insights"] += 1
        except GossamerError as error:
            self.counters["failed"] += 1
            log.warning("%s: %s", section.name, error.sentence())

    @staticmethod
    async def _publish(desk: DataDesk, name: str, key: str, value: Sample | Summary) -> None:
        await desk.open_feed(name, FeedLimits(), description=DESCRIPTIONS[name.rpartition("/")[2]])
        desk.put(name, key, value)

    async def _words(self, section: InsightSection, domain: str, key: str, insight: Insight) -> str:
        """The facts, by the model of this node where it can and keeps to them."""
        plain = " ".join([f"{key}:" if key else "", *insight.facts]).strip()
        if section.words != "model":
            return plain
        from agents.cooperation.knowledge_reader import Reader as WordReader
        from agents.cooperation.knowledge_setup import own_readers

        words = WordReader(self._agent.port, lambda: own_readers(self._agent))
        about = f"the sensors of {domain}" + (f", {key}" if key else "")
        made = await words.read(QUESTION, [(about, plain)], self._task(), whole=True)
        self.counters["words_by_model" if made.by_model else "words_by_rules"] += 1
        return made.text

    async def _embed(self, desk: DataDesk, domain: str, key: str, text: str) -> None:
        own = [o for o in self._agent.port.offers() if o.served.name == EMBED and o.me]
        if not own:
            raise ConfigError(
                "nothing embeds summaries on this node", hint='set embedder = "builtin"'
            )
        answer = self._agent.port.call(own[0], encode(Embed(texts=[text])), self._task())
        async with aclosing(answer):  # type: ignore[type-var]
            async for body in answer:
                vectors = decode(body, Vectors)
                raw = {
                    "key": key,
                    "embedding": vectors.matrix()[0].tolist(),
                    "dimensionality": vectors.space.dimensionality,
                    "space": msgspec.to_builtins(vectors.space),
                    "type": "summary",
                    "text": text,
                }
                await desk.say(f"data.gpt/{domain}/processed_embeddings", raw)

    def _task(self) -> Task:
        return Task(
            trace=os.urandom(TRACE_BYTES),
            deadline=self._agent.port.now() + WORDS_S,
            reach=Reach.NODE,
        )


DESCRIPTIONS = {
    "insight": "Figures of what the sensors of this node measured, faults and anomalies included.",
    "summary": "What the sensors of this node measured, in words.",
}


def made_names(section: InsightSection) -> list[str]:
    """The names that come of a section: figures, words, and vectors if wanted."""
    domain, _ = domain_and_type(section.name)
    names = [f"data.gpt/{domain}/insight", f"data.gpt/{domain}/summary"]
    return [*names, f"data.gpt/{domain}/processed_embeddings"] if section.embed else names


def check_rules(section: InsightSection) -> None:
    """Raises :class:`ConfigError` for a standard that there is not."""
    for name, rule in section.rules.items():
        if rule not in STANDARDS:
            raise ConfigError(
                f"[[insight]] rules: {name} = {rule!r} is no standard",
                hint=f"one of {', '.join(STANDARDS)}",
            )
    if section.name.split("/")[-1] in {"insight", "summary", "processed_embeddings"}:
        raise ConfigError(f"{section.name} is made by [[insight]], it cannot be made of itself")


def book_config(section: InsightSection) -> InsightConfig:
    """The section as the pure part takes it."""
    return InsightConfig(
        quantities=section.quantities,
        window_s=section.window_s,
        period_s=section.period_s,
        season_s=section.season_s,
        low=section.low,
        high=section.high,
        rules=section.rules,
        ppg=section.ppg,
        ppg_hz=section.ppg_hz,
    )

"""Messages of a broker into feeds: decoded, counted, written, and only then acknowledged.

No ``await`` stands between the updates of a message and the place that goes on disk with them, so
what a feed holds and what was heard of its publishers are of the same moment, whatever dies.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from capabilities.data.lines import domain_and_type
from capabilities.data.log import FeedLimits
from capabilities.data.messages import MAX_KEY_CHARS
from capabilities.messages import Sample
from capabilities.sensors.mapping import Mapper, Rule, Taken, place, taken
from capabilities.sensors.readings import Measured, moment
from capabilities.sensors.sequences import Sequences
from capabilities.sensors.sparkplug import ROUND, SparkplugBook
from mesh.core.errors import GossamerError, WireError

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

    from agents.cooperation.data import DataDesk

log = logging.getLogger("gossamer.sensors")

MAX_TOPICS = 4096  # whose rule is remembered
MAX_REFUSALS = 20  # last ones that are shown
TELL_EVERY_S = 60.0  # of one kind of refusal in the log


@dataclass
class Series:
    """One key of one feed, as it is shown."""

    name: str
    key: str
    topic: str
    at: float
    values: dict[str, float]
    updates: int = 0


@dataclass
class _Feed:
    sequences: Sequences
    last: int = 0
    pending: int = 0
    touched: bool = False  # its publishers' numbers changed
    limits: FeedLimits = field(default_factory=FeedLimits)


class Intake:
    """What one bridge has taken in. ``rebirth`` is called with the topic that asks a Sparkplug
    node to say again who it is."""

    def __init__(
        self,
        desk: DataDesk,
        mapper: Mapper,
        limits: Callable[[str], tuple[FeedLimits, str, bool]],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.series: OrderedDict[tuple[str, str], Series] = OrderedDict()
        self.refusals: list[dict[str, str]] = []
        self.mapper = mapper
        self.sparkplug = SparkplugBook()
        self.rebirths: list[str] = []
        self._desk = desk
        self._limits = limits
        self._wall = wall
        self._feeds: dict[str, _Feed] = {}
        self._rules: dict[str, list[tuple[Rule, dict[str, str]]]] = {}
        self._told: dict[str, float] = {}
        self._source = ""

    def forget_rules(self) -> None:
        """The mapper has other rules now."""
        self._rules.clear()

    async def take(self, messages: list[MQTTMessage], ack: Callable[[MQTTMessage], None]) -> None:
        """Publish what the messages say; acknowledge them once it is on disk."""
        done: list[MQTTMessage] = []
        for message in messages:
            try:
                await self._one(message)
            except GossamerError as error:
                self.refused(message.topic, error)
            done.append(message)
            if any(feed.pending >= feed.limits.history // 2 for feed in self._feeds.values()):
                await self._settle()
                self._acknowledge(done, ack)
                done = []
        await self._settle()
        self._acknowledge(done, ack)

    @staticmethod
    def _acknowledge(done: list[MQTTMessage], ack: Callable[[MQTTMessage], None]) -> None:
        for message in done:
            ack(message)

    async def _settle(self) -> None:
        """Wait until all that was published is on disk."""
        for name, feed in self._feeds.items():
            if feed.pending or feed.touched:
                feed.pending, feed.touched = 0, False
                self._desk.read_to(name, feed.sequences.dump())
        for name, feed in self._feeds.items():
            if feed.last:
                await self._desk.kept(name, feed.last)
                feed.last = 0

    async def _one(self, message: MQTTMessage) -> None:
        self.counters["messages"] += 1
        topic = message.topic
        rules = self._rule(topic)
        if not rules:
            self.counters["unmapped"] += 1
        if message.dup:
            self.counters["redelivered"] += 1
        for rule, words in rules:
            if message.retain and not rule.retained:
                self.counters["retained_passed_over"] += 1
            elif rule.shape.format == "sparkplug":
                await self._from_sparkplug(rule, words, message)
            else:
                body = bytes(message.payload)
                readings = taken(rule, words, body)
                await self._publish(readings, topic, body, retained=message.retain)

    def _rule(self, topic: str) -> list[tuple[Rule, dict[str, str]]]:
        if topic not in self._rules:
            if len(self._rules) >= MAX_TOPICS:
                self._rules.clear()
            self._rules[topic] = self.mapper.rules_for(topic)
        return self._rules[topic]

    async def _publish(
        self, readings: list[Taken], topic: str, body: bytes, *, retained: bool = False
    ) -> None:
        for name in {one.name for one in readings}:
            await self._opened(name, len(readings))
        for one in readings:
            number = one.measured.sequence
            if number is not None and not self._counts(one, topic, number, body, retained=retained):
                return  # a repetition, as a whole
            self._say(one, topic)

    def _counts(
        self, one: Taken, topic: str, number: int, body: bytes, *, retained: bool, modulo: int = 0
    ) -> bool:
        """Whether a numbered message is news; a gap before it is counted and told."""
        feed = self._feeds[one.name]
        publisher = f"{topic}|{one.measured.device}"
        known = feed.sequences.keys.get(publisher)
        same = known is not None and known.epoch == one.measured.epoch
        if retained and known is not None and same and number <= known.last:
            self.counters["retained_passed_over"] += 1  # it was told when it was new
            return False
        feed.touched = True
        heard = feed.sequences.heard(
            publisher, number, body, modulo=modulo, epoch=one.measured.epoch
        )
        if heard.what == "duplicate":
            self.counters["duplicates"] += 1
            return False
        if heard.missed:
            self.counters["lost"] += heard.missed
            self._warn(
                topic, f"{topic}: {heard.missed} messages before number {number} are missing"
            )
        elif heard.what == "late":
            self.counters["lost"] -= 1
        elif heard.what == "restart":
            self.counters["publisher_restarts"] += 1
        return True

    def _say(self, one: Taken, topic: str) -> None:
        measured, now = one.measured, self._wall()
        self.counters["missing_values"] += len(measured.missing)
        if not measured.values:
            return
        domain, kind = domain_and_type(one.name)
        sample = Sample(
            domain=domain,
            type=kind,
            source=self._source,
            at=moment(measured.at, now),
            values=measured.values,
        )
        update = self._desk.publish(one.name, one.key, sample)
        feed = self._feeds[one.name]
        feed.last = update.sequence
        feed.pending += 1
        self.counters["published"] += 1
        shown = self.series.get((one.name, one.key))
        if shown is None:
            shown = Series(one.name, one.key, topic, sample.at, sample.values)
            self.series[one.name, one.key] = shown
            if len(self.series) > MAX_TOPICS:
                self.series.popitem(last=False)
        shown.topic, shown.at, shown.values = topic, sample.at, sample.values
        shown.updates += 1

    async def _opened(self, name: str, coming: int) -> None:
        """The feed of a name, with what was heard of its publishers in earlier lives.

        Raises AccessDenied without the right to the name, and WireError for a message of more
        moments than the history holds.
        """
        known = self._feeds.get(name)
        if known is None:
            limits, description, keep = self._limits(name)
            self._source = self._desk.may(name)
            feed = await self._desk.open_feed(name, limits, description=description, keep=keep)
            known = self._feeds[name] = _Feed(Sequences(feed.source), limits=feed.log.limits)
        if coming > known.limits.history // 2:
            raise WireError(
                f"{coming} moments in one message, the feed keeps {known.limits.history}",
                hint="send smaller messages, or raise `history` of the mapping",
            )

    # -- Sparkplug --------------------------------------------------------------------------

    async def _from_sparkplug(
        self, rule: Rule, words: dict[str, str], message: MQTTMessage
    ) -> None:
        body = bytes(message.payload)
        told = self.sparkplug.hear(message.topic, body)
        self.counters["before_birth"] += told.unborn
        if told.rebirth:
            self.counters["rebirths_asked"] += 1
            self.rebirths.append(told.rebirth)
        if told.died:
            self.counters["deaths"] += 1
        readings = place(rule, words, told.measured)
        names = {one.name for one in readings} or {
            place(rule, words, [Measured(values={})])[0].name
        }
        for name in names:
            await self._opened(name, len(readings))
        if told.sequence is not None:
            first = next(iter(names))
            marker = Taken(first, "", Measured(values={}, device=""))
            if told.born:
                self._feeds[first].sequences.begin(f"{told.node}|", told.sequence)
            elif not self._counts(
                marker, told.node, told.sequence, body, retained=False, modulo=ROUND
            ):
                return
        for one in readings:
            self._say(one, message.topic)
        if told.died:
            self._gone(told.node, names)

    def _gone(self, node: str, names: set[str]) -> None:
        """Readings of a node that died are not of now: their keys are taken away."""
        for (name, key), shown in list(self.series.items()):
            if name in names and self.sparkplug.belongs(shown.topic, node):
                update = self._desk.publish(name, key[:MAX_KEY_CHARS], None)
                self._feeds[name].last = update.sequence
                self._feeds[name].pending += 1
                del self.series[name, key]

    # -- what went wrong --------------------------------------------------------------------

    def refused(self, topic: str, error: GossamerError) -> None:
        """A message that means nothing here."""
        self.counters["refused"] += 1
        line = {"topic": topic[:200], "why": error.sentence()[:300]}
        if line not in self.refusals:
            self.refusals = [*self.refusals, line][-MAX_REFUSALS:]
        self._warn(topic, f"{topic}: {error.sentence()}")

    def _warn(self, topic: str, text: str) -> None:
        now = self._wall()
        if now - self._told.get(topic, 0.0) >= TELL_EVERY_S:
            if len(self._told) >= MAX_TOPICS:
                self._told.clear()
            self._told[topic] = now
            log.warning("%s", text)

    def lost_by_publisher(self) -> dict[str, dict[str, int]]:
        """What was lost of each numbered publisher, since the feed was made."""
        return {
            publisher: {"lost": c.lost, "restarts": c.restarts, "last": c.last}
            for feed in self._feeds.values()
            for publisher, c in feed.sequences.keys.items()
        }

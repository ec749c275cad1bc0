"""The bridge from a broker to the feeds of this node, for as long as the agent runs.

        connect ─▶ subscribe ─▶ take ─▶ publish, write, acknowledge ─▶ take ...
           ▲                     │
           └── backoff, jitter ◀─┴─ the broker is gone

The session outlives both sides: the broker keeps what is not acknowledged. Where it does not (its
session expired, its disk was lost) the connection says so, and that is counted and told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import ssl
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiomqtt
import msgspec

from agents.sensors.config import MqttMapSection, MqttSection
from agents.sensors.intake import Intake
from agents.sensors.session import BrokerLost, Login, Session
from capabilities.base import Admission, Capability, Occupancy, Request
from capabilities.data.log import FeedLimits
from capabilities.sensors.mapping import Mapper, Rule
from capabilities.sensors.payload import Shape
from capabilities.sensors.readings import Path as ReadingPath
from capabilities.sensors.sequences import RING
from capabilities.sensors.sparkplug import rebirth_command
from capabilities.sensors.topics import TopicPattern
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.records import ServedName

if TYPE_CHECKING:
    from agents.cooperation.data import DataDesk

log = logging.getLogger("gossamer.sensors")

MEMORY_FILE = "mqtt.json"
FIRST_RETRY_S = 0.25
BATCH = 256  # messages to one write
CONFIRM_EVERY = RING // 6
# Confirmations under way: the broker answers each behind all that it sends meanwhile, and waiting
# for every one of them left the bridge idle for two fifths of the time.
CONFIRMING = 3
# What may come again at most: a third less than what is remembered.
AGAIN = (CONFIRMING + 1) * CONFIRM_EVERY
MAX_PASSWORD_BYTES = 4096
STOP_S = 20.0  # to write what was taken; then it ends without, and is told it again


class Memory(msgspec.Struct):
    """What a bridge knows of its session from one life to the next."""

    broker: str = ""
    filters: list[str] = []
    ended: bool = True  # in order


class MqttBridge(Capability):
    """``[mqtt]`` at work. It offers no names itself: its feeds are the data desk's."""

    def __init__(
        self,
        section: MqttSection,
        folder: Path,
        desk: Callable[[], DataDesk],
        node_name: str,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self.section = section
        self.node_name = node_name
        self.connected = False
        self.trouble = "not connected yet"
        self.counters: Counter[str] = Counter()
        self.intake: Intake | None = None
        self.helpers: list[Helper] = []
        """Who else speaks over the same connection."""
        self._folder = folder
        self._desk = desk
        self._rng = rng or random.Random()
        self._rules = {rule_text(one): one for one in section.map}
        self._mapper = Mapper([make_rule(one) for one in section.map])
        self._session: Session | None = None  # once it follows its topics
        self._live: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._confirming: deque[asyncio.Task[None]] = deque()
        self._stopping = False
        self._since = 0.0
        self._helping: list[asyncio.Task[None]] = []

    # -- as a capability --------------------------------------------------------------------

    @property
    def names(self) -> Sequence[ServedName]:
        """None of its own."""
        return ()

    async def start(self) -> None:
        """Begin to reach for the broker; raises :class:`ConfigError` for what cannot work."""
        login = await asyncio.to_thread(self._login)
        desk = self._desk()
        for rule in self._mapper.rules:
            if "{" not in rule.name:
                desk.may(rule.name)
        self.intake = Intake(desk, self._mapper, self._limits)
        self._task = asyncio.create_task(self._run(login))

    async def stop(self) -> None:
        """Finish what was taken, say goodbye; the broker keeps the rest."""
        self._stopping = True
        if self._live is not None:
            self._live.wake()
        for task in self._confirming:
            task.cancel()
        if self._task is not None:
            try:
                async with asyncio.timeout(STOP_S):
                    await asyncio.shield(self._task)
            except TimeoutError:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def admit(self, request: Request) -> Admission:
        """Nothing is asked of it."""
        return Admission(accepted=False, reason="the bridge answers no calls")

    def serve(self, request: Request) -> AsyncIterator[bytes]:
        """Nothing is asked of it."""
        raise GossamerError("the bridge answers no calls")

    def occupancy(self) -> Occupancy:
        """It holds nobody up: a node without its broker still answers."""
        return Occupancy(slots=0, inflight=0)

    def all_counters(self) -> Counter[str]:
        """What happened here, for the status."""
        taken = self.intake.counters if self.intake is not None else {}
        return Counter({f"mqtt_{key}": n for key, n in {**self.counters, **taken}.items()})

    def view(self) -> dict[str, Any]:
        """Everything about the bridge, for the faces."""
        intake = self.intake
        return {
            "broker": f"{self.section.host}:{self.section.port}",
            "connected": self.connected,
            "trouble": self.trouble,
            "connected_s": round(time.monotonic() - self._since, 1) if self.connected else 0.0,
            "maps": [{"topic": m.topic, "name": m.name} for m in self.section.map],
            "found": [line for helper in self.helpers for line in helper.found()],
            "series": []
            if intake is None
            else [
                {
                    "name": one.name,
                    "key": one.key,
                    "topic": one.topic,
                    "at": one.at,
                    "values": one.values,
                    "updates": one.updates,
                }
                for one in intake.series.values()
            ],
            "publishers": {} if intake is None else intake.lost_by_publisher(),
            "refusals": [] if intake is None else intake.refusals,
            "counters": dict(sorted(self.all_counters().items())),
        }

    # -- the connection ---------------------------------------------------------------------

    async def _run(self, login: Login) -> None:
        memory = await asyncio.to_thread(self._recall)
        if not memory.ended:
            self.counters["unclean_starts"] += 1
            log.warning("the last run did not end in order: what was under way is told again")
        known = memory.broker == self._broker
        retry_s = FIRST_RETRY_S
        while not self._stopping:
            try:
                await self._connection(login, memory, known=known)
                retry_s, known = FIRST_RETRY_S, True
            except (aiomqtt.MqttError, OSError, BrokerLost) as error:
                if self.connected:
                    retry_s, known = FIRST_RETRY_S, True
                self._lost(error)
            finally:
                self.connected, self._session, self._live = False, None, None
            if not self._stopping:
                await asyncio.sleep(retry_s * self._rng.uniform(0.5, 1.0))
                retry_s = min(2 * retry_s, self.section.retry_max_s)
        memory.ended = True
        await asyncio.to_thread(self._remember, memory)

    async def _connection(self, login: Login, memory: Memory, *, known: bool) -> None:
        assert self.intake is not None
        will = aiomqtt.Will(self.availability, "offline", qos=1, retain=True)
        session = Session(login, will)
        async with session:
            self._live = session
            if known and not session.resumed:
                self.counters["sessions_lost"] += 1
                log.warning(
                    "the broker does not know this session any more: "
                    "what it kept for this node is lost"
                )
            filters = {topic: rule.qos for topic, rule in self._mapper.filters().items()}
            for helper in self.helpers:
                filters.update(helper.filters())
            stale = set(memory.filters) - set(filters)
            if stale and session.resumed:
                await session.leave(sorted(stale))
            memory.broker, memory.filters, memory.ended = self._broker, sorted(filters), False
            await asyncio.to_thread(self._remember, memory)
            # Answered while messages are taken: the answers may stand behind a backlog of them.
            starting = asyncio.create_task(self._begin(session, filters))
            starting.add_done_callback(lambda _: session.wake())
            try:
                await self._pump(session, starting)
                if session.connected:
                    # QoS 0: nobody waits for an answer when leaving.
                    await session.publish(self.availability, "offline", retain=True)
            finally:
                starting.cancel()
                for task in self._helping:
                    task.cancel()
                await asyncio.gather(starting, *self._helping, return_exceptions=True)
                self._helping = []
                self.counters["dropped_qos0"] += session.dropped

    async def _begin(self, session: Session, filters: dict[str, int]) -> None:
        await session.listen(filters)
        await session.tell(self.availability, "online")
        self._session, self.connected, self.trouble = session, True, ""
        self._since = time.monotonic()
        self.counters["connections"] += 1
        log.info("connected to the broker at %s", self._broker)
        self._helping = [asyncio.create_task(helper.run(session)) for helper in self.helpers]

    async def _pump(self, session: Session, starting: asyncio.Task[None]) -> None:
        """Take, write, acknowledge, and ask now and then how far the broker has read that: what it
        may tell again is :data:`AGAIN` messages at most, whatever it sends ahead."""
        room = CONFIRM_EVERY
        try:
            while not self._stopping:
                if not room:
                    self._confirming.append(asyncio.create_task(session.confirmed()))
                    while len(self._confirming) > CONFIRMING or (
                        self._confirming and self._confirming[0].done()
                    ):
                        if not await self._was_confirmed():
                            return
                    room = CONFIRM_EVERY
                room -= await self._round(session, starting, min(room, BATCH))
        finally:
            for task in self._confirming:
                task.cancel()
            await asyncio.gather(*self._confirming, return_exceptions=True)
            self._confirming.clear()

    async def _was_confirmed(self) -> bool:
        """Wait for the answer that is due first; False when the bridge stops instead."""
        await asyncio.wait({self._confirming[0]})
        if not self._confirming or self._confirming[0].cancelled():
            return False
        self._confirming.popleft().result()
        return True

    async def _round(self, session: Session, starting: asyncio.Task[None], most: int) -> int:
        """One write; how many messages it was of."""
        intake = self.intake
        assert intake is not None
        messages = [] if starting.done() and starting.exception() else await session.take(most)
        if starting.done():
            starting.result()  # raises what kept it from subscribing
        if not messages and not session.connected:
            raise BrokerLost("the broker closed the connection")
        taken = len(messages)
        for helper in self.helpers:
            messages = helper.hear(messages, session.ack)
        await intake.take(messages, session.ack)
        while intake.rebirths:
            topic = intake.rebirths.pop()
            await session.publish(topic, rebirth_command(int(time.time() * 1000)))
        return taken

    def _lost(self, error: Exception) -> None:
        self.counters["connections_failed"] += 1
        told = error.sentence() if isinstance(error, GossamerError) else str(error)
        trouble = f"the broker at {self._broker}: {told}"
        if trouble != self.trouble:
            log.warning("%s; trying again", trouble)
        self.trouble = trouble

    async def listen_to(self, filters: dict[str, int]) -> None:
        """Subscribe to more topics over the connection that stands."""
        if self._session is not None and self.connected:
            await self._session.listen(filters)

    def add_rules(self, rules: Sequence[Rule]) -> None:
        """More mappings, behind those of the configuration."""
        self._mapper.rules = [*self._mapper.rules[: len(self.section.map)], *rules]
        if self.intake is not None:
            self.intake.forget_rules()

    @property
    def availability(self) -> str:
        """Where this bridge says whether it is there."""
        return f"gossamer/{self.node_name}/availability"

    @property
    def _broker(self) -> str:
        return f"{self.section.host}:{self.section.port}"

    # -- from the configuration -------------------------------------------------------------

    def _limits(self, name: str) -> tuple[FeedLimits, str, bool]:
        for one in self.section.map:
            if one.name == name or "{" in one.name:
                return FeedLimits(history=one.history), one.description, one.keep
        return FeedLimits(history=4096), "Sensors that announced themselves.", True

    def _login(self) -> Login:
        section = self.section
        return Login(
            host=section.host,
            port=section.port,
            client_id=section.client_id or f"gossamer-{self.node_name}",
            username=section.username,
            password=read_password(section.password_file),
            tls=make_tls(section),
            version=5 if section.version == "5" else 3,
            keepalive_s=section.keepalive_s,
            session_s=int(section.session_days * 86400),
        )

    def _recall(self) -> Memory:
        try:
            return msgspec.json.decode((self._folder / MEMORY_FILE).read_bytes(), type=Memory)
        except (OSError, msgspec.MsgspecError):
            return Memory()

    def _remember(self, memory: Memory) -> None:
        place = self._folder / MEMORY_FILE
        fresh = place.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(memory))
            fresh.replace(place)
        except OSError as error:
            log.warning("%s cannot be written: %s", place, error.strerror)


class Helper:
    """Something else that speaks over the bridge's connection."""

    def filters(self) -> dict[str, int]:
        """What it wants to hear, with the QoS."""
        return {}

    def hear(self, messages: list[Any], ack: Callable[[Any], None]) -> list[Any]:
        """Take its own messages out of the stream; the others are returned."""
        return messages

    async def run(self, session: Session) -> None:
        """Its own work while the connection stands."""

    def found(self) -> list[dict[str, Any]]:
        """What it found, for the faces."""
        return []


def rule_text(section: MqttMapSection) -> str:
    """A mapping in one line."""
    return f"{section.topic} -> {section.name}"


def make_rule(section: MqttMapSection) -> Rule:
    """A mapping of the configuration as a rule; raises :class:`ConfigError`."""

    def path(text: str) -> ReadingPath | None:
        return ReadingPath(text) if text else None

    return Rule(
        pattern=TopicPattern(section.topic),
        name=section.name,
        key=section.key,
        shape=Shape(
            format=section.format,
            value=section.value,
            values={name: ReadingPath(text) for name, text in section.values.items()},
            scale=section.scale,
            time=path(section.time),
            sequence=path(section.sequence),
            epoch=path(section.epoch),
            device=path(section.device),
            rate_hz=section.rate_hz,
        ),
        qos=section.qos,
        retained=section.retained,
    )


def read_password(file: Path | None) -> str:
    """The password in a file; raises :class:`ConfigError` when others may read it."""
    if file is None:
        return ""
    try:
        with file.open("rb") as opened:
            open_to_others = os.fstat(opened.fileno()).st_mode & 0o077
            text = opened.read(MAX_PASSWORD_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the password of the broker in {file} cannot be read: {error}") from None
    if open_to_others:
        raise ConfigError(f"{file} can be read by others", hint=f"chmod 600 {file}")
    return text.rstrip("\r\n")


def make_tls(section: MqttSection) -> ssl.SSLContext | None:
    """TLS as configured, None for plain TCP; raises :class:`ConfigError`."""
    if not section.tls:
        if section.ca_file or section.certificate:
            raise ConfigError("[mqtt] names certificates, but tls is false", hint="set tls = true")
        return None
    try:
        context = ssl.create_default_context(
            cafile=str(section.ca_file) if section.ca_file else None
        )
        if section.certificate is not None:
            context.load_cert_chain(section.certificate, section.private_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the certificates of [mqtt] cannot be used: {error}") from error
    return context


@contextlib.asynccontextmanager
async def running(bridge: MqttBridge) -> AsyncIterator[MqttBridge]:
    """A bridge that is stopped at the end."""
    await bridge.start()
    try:
        yield bridge
    finally:
        await bridge.stop()

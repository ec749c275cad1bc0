"""Home Assistant on the same broker: its sensors become feeds, the mesh becomes entities."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from agents.sensors.bridge import Helper, MqttBridge
from agents.sensors.config import HomeAssistantSection
from agents.sensors.session import Session
from capabilities.data.messages import Summary
from capabilities.sensors.home_assistant import (
    MAX_FOUND,
    Entity,
    announce_node,
    announce_summary,
    discovery_filters,
    is_discovery,
    node_state_topic,
    read_announcement,
    rules_of,
    summary_state,
    summary_topic,
)
from mesh.core.errors import GossamerError

if TYPE_CHECKING:
    from agents.agent import Agent

log = logging.getLogger("gossamer.sensors")

ONLINE = b"online"
OWN = "gossamer_"  # begins the identifiers of what we announce ourselves


class HomeAssistant(Helper):
    """``[mqtt.home_assistant]`` at work."""

    def __init__(self, agent: Agent, bridge: MqttBridge, section: HomeAssistantSection) -> None:
        self.counters: Counter[str] = Counter()
        self._agent = agent
        self._bridge = bridge
        self._section = section
        self._entities: dict[str, list[Entity]] = {}
        self._fresh: asyncio.Queue[dict[str, int]] = asyncio.Queue()
        self._announced: set[str] = set()
        self._again = asyncio.Event()

    # -- in ---------------------------------------------------------------------------------

    def filters(self) -> dict[str, int]:
        """Announcements, and Home Assistant's own birth."""
        wanted: dict[str, int] = {}
        if self._section.offer:
            wanted[self._birth] = 1
        if self._section.take:
            wanted.update(discovery_filters(self._section.prefix))
            for entities in self._entities.values():
                wanted.update({one.rule.pattern.filter: one.rule.qos for one in entities})
        return wanted

    @property
    def _birth(self) -> str:
        return f"{self._section.prefix}/status"

    def hear(self, messages: list[Any], ack: Callable[[Any], None]) -> list[Any]:
        """Announcements are read at once; they are retained, so losing one costs nothing."""
        others = []
        for message in messages:
            if message.topic == self._birth:
                if bytes(message.payload) == ONLINE:
                    self._announced.clear()
                    self._again.set()
            elif self._section.take and is_discovery(self._section.prefix, message.topic):
                self._announcement(message.topic, bytes(message.payload))
            else:
                others.append(message)
                continue
            ack(message)
        return others

    def _announcement(self, topic: str, body: bytes) -> None:
        if f"/{OWN}" in topic:
            return
        try:
            entities = read_announcement(topic, body, self._section.name)
        except GossamerError as error:
            self.counters["refused"] += 1
            if self._bridge.intake is not None:
                self._bridge.intake.refused(topic, error)
            return
        known = sum(len(found) for found in self._entities.values())
        if entities and known + len(entities) > MAX_FOUND and topic not in self._entities:
            self.counters["too_many"] += 1
            return
        if entities:
            self._entities[topic] = entities
            self._fresh.put_nowait({e.rule.pattern.filter: e.rule.qos for e in entities})
        else:
            self._entities.pop(topic, None)
        found = [one for entities in self._entities.values() for one in entities]
        self._bridge.add_rules(rules_of(found))

    def found(self) -> list[dict[str, Any]]:
        """The sensors that announced themselves."""
        return [
            {
                "topic": one.rule.pattern.text,
                "name": one.rule.name,
                "device": one.device,
                "reading": one.reading,
                "unit": one.unit,
            }
            for entities in self._entities.values()
            for one in entities
        ]

    # -- out --------------------------------------------------------------------------------

    async def run(self, session: Session) -> None:
        """Follow what was found; tell how the mesh is."""
        self._announced.clear()
        await asyncio.gather(self._keep_listening(session), self._keep_telling(session))

    async def _keep_listening(self, session: Session) -> None:
        while True:
            filters = await self._fresh.get()
            while not self._fresh.empty():
                filters.update(self._fresh.get_nowait())
            try:
                await session.listen(filters)
            except GossamerError as error:
                log.warning("%s", error.sentence())

    async def _keep_telling(self, session: Session) -> None:
        while self._section.offer:
            await self._tell_nodes(session)
            await self._tell_summaries(session)
            self._again.clear()
            try:
                async with asyncio.timeout(self._section.every_s):
                    await self._again.wait()
            except TimeoutError:
                pass

    async def _tell_nodes(self, session: Session) -> None:
        prefix, me = self._section.prefix, self._bridge.node_name
        for state in node_states(self._agent):
            name = state.pop("name")
            if name not in self._announced:
                hot = state["temperature_c"] > 0
                for shown in announce_node(prefix, me, name, temperature=hot):
                    await session.publish(shown.topic, shown.body, qos=1, retain=True)
                self._announced.add(name)
            await session.publish(
                node_state_topic(me, name), msgspec.json.encode(state), qos=1, retain=True
            )

    async def _tell_summaries(self, session: Session) -> None:
        desk, me = self._agent.data, self._bridge.node_name
        if desk is None:
            return
        for served in list(desk.names):
            if not served.name.endswith("/summary"):
                continue
            for key, update in list(desk.feed(served.name).log.latest.items()):
                if not isinstance(update.value, Summary):
                    continue
                domain = update.value.domain
                topic = summary_topic(me, domain, key)
                if topic not in self._announced:
                    shown = announce_summary(self._section.prefix, me, domain, key)
                    await session.publish(shown.topic, shown.body, qos=1, retain=True)
                    self._announced.add(topic)
                body = summary_state(update.value.text, update.value.at)
                await session.publish(topic, body, qos=1, retain=True)


def node_states(agent: Agent) -> list[dict[str, Any]]:
    """How each node of the mesh is, as this one sees it."""
    from agents.faces.verbs import Verbs

    return [
        {
            "name": peer.name,
            "online": peer.state == "alive" and peer.healthy,
            "queue": peer.queued,
            "busy": peer.inflight,
            "tokens_per_s": peer.tokens_per_s,
            "temperature_c": peer.temperature_c,
            "battery": peer.battery,
            "names": peer.names,
        }
        for peer in Verbs(agent).peers()
    ]

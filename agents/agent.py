"""One agent: a node of the mesh, the capabilities that it hosts, and the parts that decide.

agent = Agent(load_config(path))
await agent.start()
async for event in agent.ask("What is 48 * 27?"): ...
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from agents.administering import AdminService, Steward
from agents.boards.readings import Readings
from agents.boards.readings import read as read_board
from agents.boards.shedding import Condition, Level, ShedConfig, Shedding
from agents.cloud.leaving import Leaving
from agents.cloud.options import ladder_options
from agents.config import AgentConfig
from agents.configure import build_redactor
from agents.cooperation.documents import DocumentReader
from agents.cooperation.skeletons import Skeletons
from agents.cooperation.skeletons_protocol import secrets_of
from agents.energy import EnergyMeter
from agents.faces.control import ControlServer
from agents.faces.http.child import HttpDoor, http_door
from agents.faces.verbs import Verbs
from agents.hosting import connected, make_capabilities, services_of, this_device
from agents.ledger.book import open_ledger
from agents.meshport import NodePort
from agents.orchestrator.events import AskEvent
from agents.orchestrator.orchestrator import AskOptions, Orchestrator, make_parts
from agents.rules import make_policy
from agents.telemetry.observer import Observer
from capabilities.base import Capability
from mesh.core.access import CLOUD
from mesh.core.announcing import Vitals
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.identity import show_id
from mesh.core.wire import Load
from mesh.net.auditing import Auditor
from mesh.net.node import MeshNode, NodeConfig
from mesh.net.statedir import StateDir

if TYPE_CHECKING:
    from agents.cloud.desk import CloudDesk
    from agents.cooperation.data import DataDesk
    from agents.cooperation.knowledge_service import KnowledgeDesk
    from agents.sensors.bridge import MqttBridge
    from agents.sensors.insights import InsightDesk

log = logging.getLogger("gossamer.agent")

MACHINE_EVERY_S = 10.0  # how often the machine's own temperature and power are read
GENERATES = "generate"  # the kind of a served name that answers in words
REPORT_EVERY_S = 0.5  # how often load is looked at; it is sent only when it has changed


class Agent:
    """A running agent. ``start`` returns once it is in the mesh; models load behind it."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.started_at = time.monotonic()
        self.troubles: list[str] = []
        self._state: StateDir | None = None
        self._capabilities: list[Capability] = []
        self._ready: list[Capability] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._control: ControlServer | None = None
        self._auditor: Auditor | None = None
        self.observer = Observer(log_content=config.log_content)
        self.http: HttpDoor | None = None
        self.cloud: CloudDesk | None = None
        self.knowledge: KnowledgeDesk | None = None
        self.data: DataDesk | None = None
        self.bridge: MqttBridge | None = None
        self.insights: InsightDesk | None = None
        self.shedding = Shedding(ShedConfig(**config.shed.model_dump(exclude={"enabled", "root"})))
        self.rng = random.Random()
        self.stop_requested = asyncio.Event()
        self.ready = asyncio.Event()

    # -- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the mesh, open the local door, begin to load models.

        Raises :class:`~mesh.core.errors.GossamerError` when the agent cannot run at all. A
        model that cannot be loaded is told, and leaves the rest running.
        """
        config = self.config
        self._state = StateDir(config.node.state)
        try:
            await self._start(self._state)
        except BaseException:
            await self.stop()
            raise

    async def _start(self, state: StateDir) -> None:
        config = self.config
        section = config.node
        self.node = MeshNode(
            state,
            NodeConfig(
                host=section.host,
                advertise=section.advertise,
                control_port=section.control_port,
                bulk_port=section.bulk_port,
                admission_port=section.admission_port,
                seeds=section.seeds,
                discovery=section.discovery,
                dialable=section.dialable,
            ),
            make_policy(config.access),
            load=self.load,
        )
        await self.node.start()
        self._auditor = Auditor(self.node)
        await self._auditor.start()
        self.ledger = self.observer.ledger = open_ledger(self.node, state.path)
        self.port = NodePort(self.node, self.observer)
        record, me = self._auditor.log.record, self.node.me
        redactor = build_redactor(config.redaction)
        self.port.leaving = Leaving(redactor, record, f"{me.name} {show_id(me.node)}")
        self.parts = make_parts(
            classifier=config.parts.classifier,
            complexity=config.parts.complexity,
            gap=config.parts.gap,
            planner=config.parts.planner,
            policy=config.parts.policy,
            escalation=config.parts.escalation,
            aggregator=config.parts.aggregator,
            options=await self._options(),
        )
        self.orchestrator = Orchestrator(self.port, self.parts, rng=self.rng)
        self.steward = Steward(self, record)
        self.node.serving.admin = AdminService(self.steward)
        self.documents = DocumentReader(self.port, self.orchestrator.asker, self.parts.general_name)
        self.skeletons = Skeletons(
            self.port,
            self.orchestrator.asker,
            self.parts.complexity,
            self.parts.general_name,
            lambda text: secrets_of(text, redactor.spans(text)),
        )
        self._capabilities = connected(make_capabilities(config, self.node.me.name), self.port)
        if config.secure_sum:
            from agents.sums import make_sums  # it brings numpy: only who takes part pays for it

            self._capabilities += make_sums(config.secure_sum, self.node)
        if config.cloud.provider:
            from agents.cloud.desk import CloudDesk  # it brings SQLite: only who pays for it

            self.cloud = CloudDesk(config.cloud, state.path, self.node, record)
            self._capabilities.append(self.cloud)
        if config.publish or config.trend or config.mqtt or config.insight:
            self._capabilities.append(self._make_data())
        if config.mqtt or config.insight:
            from agents.sensors.setup import make_sensors  # it brings paho: only who has sensors

            self._capabilities += make_sensors(self, state.path)
        if config.knowledge is not None:
            from agents.cooperation.knowledge_setup import make_knowledge  # it brings numpy

            self.knowledge = make_knowledge(self, config.knowledge, state.path, self._offer)
            self._capabilities.append(self.knowledge)
            self.orchestrator.use_memory(self.knowledge.memory)
        self._offer()
        self._control = ControlServer(state.path, Verbs(self).handlers())
        await self._control.start()
        if config.telemetry.otlp_endpoint:
            from agents.telemetry.otel import OtelSink  # an extra: only who exports pays for it

            self.observer.sink = OtelSink(config.telemetry.otlp_endpoint, self.node.me.name)
        if config.http is not None:
            level, form = config.log_level, config.log_format
            self.http = await http_door(self.node, state.path, config.http, level=level, form=form)
            await self.http.start()
        for capability in self._capabilities:
            self._spawn(self._start_capability(capability))
        self._spawn(self._keep_reporting())
        if not self._capabilities:
            self.ready.set()

    async def _options(self) -> dict[str, dict[str, object]]:
        """What the deciding parts take from the configuration."""
        parts, found = self.config.parts, dict[str, dict[str, object]]()
        if parts.escalation == "ladder":
            found |= await asyncio.to_thread(ladder_options, self.config.cloud)
        if parts.gap_curves is not None:
            found["gap"] = {"file": str(parts.gap_curves)}
        return found

    async def _start_capability(self, capability: Capability) -> None:
        try:
            await capability.start()
        except GossamerError as error:
            self.troubles.append(error.sentence())
            log.error("%s", error.sentence())
        else:
            self._ready.append(capability)
            try:
                self._offer()
            except GossamerError as error:
                self._ready.remove(capability)
                self.troubles.append(error.sentence())
                log.error("%s", error.sentence())
                await capability.stop()
        loading = len(self._ready) + len(self.troubles) < len(self._capabilities)
        if not loading:
            self.ready.set()

    async def stop(self) -> None:
        """Leave the mesh, end the models, free the state directory; safe to call twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.http is not None:
            await self.http.stop()
            self.http = None
        if self._control is not None:
            await self._control.stop()
            self._control = None
        if self.bridge is not None:
            await self.bridge.stop()  # while there is a disk to write on
        capabilities, self._capabilities = self._capabilities, []
        await asyncio.gather(*(c.stop() for c in capabilities), return_exceptions=True)
        if hasattr(self, "node"):
            await self.node.stop()
        if self.observer.ledger is not None:
            await self.observer.ledger.stop()
        if self._auditor is not None:
            await self._auditor.stop()
        sink, self.observer.sink = self.observer.sink, None
        if sink is not None:
            await asyncio.to_thread(sink.close)  # it sends what is left, and may wait
        if self._state is not None:
            self._state.close()
            self._state = None

    # -- what it offers ---------------------------------------------------------------------

    def _make_data(self) -> DataDesk:
        from agents.cooperation.data import DataDesk  # it brings SQLite: only who publishes

        assert self._state is not None
        self.data = DataDesk(self.config, self._state.path, lambda: self.node.me, self.port)
        self.data.changed = self._offer
        return self.data

    async def data_desk(self) -> DataDesk:
        """What publishes here; made when something is published for the first time."""
        if self.data is None:
            await self.add(self._make_data())
        assert self.data is not None
        if self.ready.is_set() and self.data not in self._ready:
            raise ConfigError(
                "the feeds of this agent did not start", hint="; ".join(self.troubles)[:400]
            )
        return self.data

    async def add(self, capability: Capability) -> None:
        """Offer one more capability; the agent starts it, and stops it with itself.

        What does not start stands in ``troubles``, and leaves the rest running.
        """
        self._capabilities.append(capability)
        await self._start_capability(capability)

    def _offer(self) -> None:
        me = self.node.me.node
        names = [
            pair for c in self._ready for pair in services_of(c, self.observer, self.shedding, me)
        ]
        models = [model for capability in self._ready for model in capability.models]
        if not self.node.me.may_publish(CLOUD):
            # A key serves its own node's users without leave; the right is for serving others.
            kept = [pair for pair in names if pair[0].name == CLOUD]
            names = [pair for pair in names if pair[0].name != CLOUD]
            if kept and not self.node.serving.own:
                log.info("the cloud is this node's own: its certificate does not grant %s", CLOUD)
            self.node.serving.own = {served.name: (served, service) for served, service in kept}
        self.node.offer(names, models, this_device(self._ready))

    async def bring(self, capability: Capability) -> None:
        """As :meth:`add`, for who waits for it: raises :class:`ConfigError` where it cannot."""
        before = len(self.troubles)
        await self.add(capability)
        if capability not in self._ready:
            self._capabilities.remove(capability)
            why = "; ".join(self.troubles[before:])
            del self.troubles[before:]  # it is told to who asked for it; the node is not unwell
            raise ConfigError(why or "it did not start")

    def withdraw(self, capability: Capability) -> None:
        """Offer it no more; calls under way go on until it is stopped."""
        self._ready.remove(capability)
        self._offer()

    async def remove(self, capability: Capability) -> None:
        """Stop what was withdrawn."""
        self._capabilities.remove(capability)
        await capability.stop()

    @property
    def ready_capabilities(self) -> list[Capability]:
        """What is loaded and served now."""
        return list(self._ready)

    @property
    def door_counters(self) -> dict[str, int]:
        """What came in at the local door, and what it refused."""
        return dict(self._control.counters) if self._control is not None else {}

    def load(self) -> Load:
        """How full the node is now, over all its models that answer in words.

        An embedder's slots are not counted: it is never what a question waits for.
        """
        occupied = [
            capability.occupancy()
            for capability in self._ready
            if capability.models and any(served.kind == GENERATES for served in capability.names)
        ]
        return Load(
            inflight=sum(o.inflight for o in occupied),
            queued=sum(o.queued for o in occupied),
            slots=self.shedding.slots(sum(o.slots for o in occupied)),
            tokens_per_s=sum(o.tokens_per_s for o in occupied),
        )

    async def _keep_reporting(self) -> None:
        board = Readings()
        energy = EnergyMeter(self.config.node.watts)
        looked_at = float("-inf")
        while True:
            if time.monotonic() - looked_at >= MACHINE_EVERY_S:
                board = await asyncio.to_thread(read_board, self.config.shed.root)
                looked_at = time.monotonic()
                energy.look(board.power_w, self.load())
                self._shed(board, looked_at)
            load = self.load()
            unwell = [o.note for c in self._ready if not (o := c.occupancy()).healthy]
            rests = self.shedding.level is Level.RESTING
            less = [self.shedding.reason] if self.shedding.reason else []
            vitals = Vitals(
                load=(load.inflight + load.queued) / max(1, load.slots),
                inflight=load.inflight,
                queued=load.queued,
                slots=load.slots,
                tokens_per_s=round(load.tokens_per_s, 1),
                healthy=not unwell and not self.troubles and not rests,
                note="; ".join([*unwell, *self.troubles, *less])[:120],
                tasks=self.observer.working.told(),
                temperature_c=board.temperature_c,
                battery=board.battery,
                joules_per_token=energy.joules_per_token(load),
                throttled=board.throttled,
                power_w=board.power_w,
                draining=bool(self.node.serving.draining),
            )
            self.node.report(vitals)
            await asyncio.sleep(REPORT_EVERY_S)

    def _shed(self, board: Readings, now: float) -> None:
        """Take less work, or more again, by how the machine is; told where it changes."""
        if not self.config.shed.enabled:
            return
        before = self.shedding.level
        level = self.shedding.look(
            Condition(
                slack_c=board.slack_c,
                throttled=board.throttled,
                low_voltage=board.low_voltage,
                battery=board.battery,
                discharging=board.discharging,
            ),
            now,
        )
        if level is not before:
            name = level.name.lower()
            self.observer.meter.count("gossamer.shedding", level=name)
            log.warning("work: %s, was %s: %s", name, before.name.lower(), self.shedding.reason)

    # -- what it is asked -------------------------------------------------------------------

    def ask(self, question: str, options: AskOptions | None = None) -> AsyncIterator[AskEvent]:
        """Answer a question with whatever the mesh offers; streams what happens."""
        return self.orchestrator.ask(question, options or AskOptions())

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

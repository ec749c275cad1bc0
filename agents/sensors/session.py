"""One connection to a broker, with acknowledgement in the hands of the caller.

aiomqtt 2.5 acknowledges a message before anybody has seen it, so a process that dies loses what
was in its queue. paho, underneath, can leave it to the application; this class is the only place
that reaches through to it. Messages wait unacknowledged, and a bridge that dies is told all of them
again. A broker should send no more than ``receive_max`` of them. Mosquitto 2.0.11 releases as many
with *each* acknowledgement once a session is resumed, so all of its queue comes at once: who
takes messages asks with :meth:`confirmed` how far the broker has read the acknowledgements.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from mesh.core.errors import GossamerError

RECEIVE_MAX = 256  # unacknowledged at once: one write to disk for as many
ANSWER_S = 30.0  # without an answer and without a message: longer, and the broker counts as gone
MAX_WAITING = 8192  # QoS 0 has no acknowledgement, so nothing else holds it back
REFUSED = 128  # of the codes that answer a subscription
SEND_NEW = 1  # retained messages come with a new subscription, not with each reconnection
NOBODY = "gossamer/confirm"  # a filter that nobody follows: to leave it changes nothing

T = TypeVar("T")


class BrokerLost(GossamerError):
    """The broker is not there, or does not let us in."""

    code = "broker"


@dataclass(frozen=True)
class Login:
    """How a broker is reached."""

    host: str
    port: int
    client_id: str
    username: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    version: int = 5
    keepalive_s: int = 30
    session_s: int = 7 * 86400
    receive_max: int = RECEIVE_MAX


class Session(aiomqtt.Client):
    """A persistent session. ``take`` gives messages, :meth:`ack` says that one is safe."""

    def __init__(self, login: Login, will: aiomqtt.Will | None = None) -> None:
        five = login.version == 5
        properties = None
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = login.session_s
            properties.ReceiveMaximum = login.receive_max
        super().__init__(
            login.host,
            login.port,
            identifier=login.client_id,
            username=login.username or None,
            password=login.password or None,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            clean_session=None if five else False,
            clean_start=False if five else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=properties,
            keepalive=login.keepalive_s,
            tls_context=login.tls,
            will=will,
            timeout=ANSWER_S,
            logger=logging.getLogger("gossamer.mqtt"),
        )
        self.resumed = False
        """Whether the broker still knew this session."""
        self.dropped = 0
        self.heard = 0
        """Messages that came, acknowledged or not."""
        self._five = five
        self._inbox: deque[paho.MQTTMessage] = deque()
        self._news = asyncio.Event()
        self._client.manual_ack_set(True)

    async def __aenter__(self) -> Session:
        await super().__aenter__()
        self._disconnected.add_done_callback(self._ended)
        return self

    def _ended(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled():
            future.exception()  # seen: the pump says that the connection is over
        self._news.set()

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return not self._disconnected.done()

    async def listen(self, topics: dict[str, int]) -> None:
        """Subscribe to filters with their QoS; raises :class:`BrokerLost` when one is refused."""
        if not topics:
            return
        if self._five:
            wanted: Any = [
                (topic, SubscribeOptions(qos=qos, retainHandling=SEND_NEW))
                for topic, qos in topics.items()
            ]
        else:
            wanted = list(topics.items())
        answers = await self._answer(self.subscribe(wanted, timeout=math.inf))
        for topic, answer in zip(topics, answers, strict=False):
            code = answer if isinstance(answer, int) else int(getattr(answer, "value", 0))
            if code >= REFUSED:  # MQTT 3.1.1, 3.9.3; 5.0, 3.9.3
                raise BrokerLost(
                    f"the broker does not let us follow {topic}",
                    hint="look at its access list (acl_file of mosquitto)",
                )

    async def take(self, most: int) -> list[paho.MQTTMessage]:
        """The next messages, at least one; none when the connection is over or :meth:`wake` was
        called."""
        if not self._inbox and self.connected:
            self._news.clear()
            await self._news.wait()
        inbox = self._inbox
        return [inbox.popleft() for _ in range(min(most, len(inbox)))]

    def wake(self) -> None:
        """End a :meth:`take` that waits."""
        self._news.set()

    def ack(self, message: paho.MQTTMessage) -> None:
        """This message is safe, and need not be told again."""
        if message.qos and self.connected:
            self._client.ack(message.mid, message.qos)

    async def confirmed(self) -> None:
        """Wait until the broker has read every acknowledgement given so far.

        It answers a connection's packets in their order. Raises :class:`BrokerLost`.
        """
        await self.leave([NOBODY])

    async def leave(self, topics: list[str]) -> None:
        """Follow these filters no more; raises :class:`BrokerLost`."""
        await self._answer(self.unsubscribe(topics, timeout=math.inf))

    async def tell(self, topic: str, payload: str) -> None:
        """Publish what the broker keeps, and wait until it has it; raises :class:`BrokerLost`."""
        await self._answer(self.publish(topic, payload, qos=1, retain=True, timeout=math.inf))

    async def _answer(self, asked: Awaitable[T]) -> T:
        """The answer may stand behind all of a backlog: while messages come, it is waited for."""
        task = asyncio.ensure_future(asked)
        ends: set[asyncio.Future[Any]] = {task, self._disconnected}
        try:
            while True:
                heard = self.heard
                await asyncio.wait(ends, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return task.result()
                if not self.connected:
                    raise BrokerLost("the broker closed the connection")
                if self.heard == heard:
                    raise BrokerLost(f"the broker did not answer in {ANSWER_S:.0f} s")
        finally:
            task.cancel()

    # -- what paho calls --------------------------------------------------------------------

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        if message.qos == 0 and len(self._inbox) >= MAX_WAITING:
            self.dropped += 1
            return
        self.heard += 1
        self._inbox.append(message)
        self._news.set()

    def _on_unsubscribe(self, client: Any, userdata: Any, mid: int, *more: Any) -> None:
        if mid in self._pending_unsubscribes:  # else nobody waits any more: the bridge is stopping
            super()._on_unsubscribe(client, userdata, mid, *more)

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        self.resumed = bool(flags.session_present)
        super()._on_connect(client, userdata, flags, reason_code, properties)

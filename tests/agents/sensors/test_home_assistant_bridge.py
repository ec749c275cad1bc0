"""Home Assistant's discovery over a real broker, both ways, at a real agent."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest

from agents.agent import Agent
from agents.config import make_config
from agents.sensors.broker import LocalBroker, mosquitto
from capabilities.messages import Sample
from mesh.core.identity import Authority
from mesh.net.statedir import create_identity

pytestmark = pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed")

PATIENCE_S = 30.0
CONFIG = {
    "state_topic": "zigbee2mqtt/kitchen",
    "value_template": "{{ value_json.temperature }}",
    "unit_of_measurement": "°C",
    "device_class": "temperature",
    "device": {"name": "Kitchen"},
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    made = LocalBroker(tmp_path / "broker")
    made.start()
    yield made
    made.kill()


def make_agent(root: Path, broker: LocalBroker) -> Agent:
    authority = Authority(os.urandom(32))
    create_identity(
        root / "hub", authority, "home", name="hub", groups=(), publish=("data.gpt/**",)
    )
    node = {"state": str(root / "hub"), "discovery": False}
    mqtt = {"port": broker.port, "home_assistant": {"every_s": 1.0}}
    return Agent(make_config({"node": node, "mqtt": mqtt}, base=root))


def test_sensors_are_found_and_the_mesh_is_offered(broker: LocalBroker, tmp_path: Path) -> None:
    agent = make_agent(tmp_path, broker)

    async def main() -> None:
        async with aiomqtt.Client(broker.host, broker.port) as home:
            await home.subscribe("homeassistant/+/gossamer_hub/+/config", qos=1)
            await home.subscribe("gossamer/hub/nodes/hub", qos=1)
            await agent.start()
            try:
                await agent.ready.wait()
                topic = "homeassistant/sensor/kitchen/temperature/config"
                await home.publish(topic, json.dumps(CONFIG), qos=1, retain=True)
                heard: dict[str, dict[str, object]] = {}
                async with asyncio.timeout(PATIENCE_S):
                    async for message in home.messages:
                        heard[str(message.topic)] = json.loads(bytes(message.payload))
                        if "gossamer/hub/nodes/hub" in heard and len(heard) >= 4:
                            break
                assert heard["gossamer/hub/nodes/hub"]["online"] is True
                assert "homeassistant/sensor/gossamer_hub/queue/config" in heard
                async with asyncio.timeout(PATIENCE_S):
                    while not (agent.bridge and agent.bridge.view()["found"]):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                    desk = await agent.data_desk()
                    while not desk.names:
                        await home.publish("zigbee2mqtt/kitchen", '{"temperature": 21.5}', qos=1)
                        await asyncio.sleep(0.1)
                value = desk.feed("data.gpt/home/raw").log.latest["Kitchen"].value
                assert isinstance(value, Sample)
                assert value.values == {"temperature_c": 21.5}
            finally:
                await agent.stop()

    asyncio.run(main())

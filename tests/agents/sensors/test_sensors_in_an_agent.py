"""A real agent between a real broker and its own feeds: raw values stay, insights are published."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from agents.agent import Agent
from agents.config import make_config
from agents.sensors.broker import LocalBroker, mosquitto
from capabilities.data.messages import Embedding, Summary, Value
from capabilities.messages import Sample
from mesh.core.identity import Authority
from mesh.net.statedir import create_identity

pytestmark = pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed")

PATIENCE_S = 30.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    made = LocalBroker(tmp_path / "broker")
    made.start()
    yield made
    made.kill()


def make_agent(root: Path, publish: tuple[str, ...] = ("data.gpt/**",), **more: Any) -> Agent:
    authority = Authority(os.urandom(32))
    create_identity(root / "hub", authority, "city", name="hub", groups=(), publish=publish)
    node = {"state": str(root / "hub"), "discovery": False}
    return Agent(make_config({"node": node, **more}, base=root))


async def latest(agent: Agent, name: str, key: str) -> Value:
    """The latest value of a key, when there is one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            desk = agent.data
            if desk is not None and name in {served.name for served in desk.names}:
                update = desk.feed(name).log.latest.get(key)
                if update is not None and update.value is not None:
                    return update.value
            await asyncio.sleep(0.02)


def test_a_station_becomes_figures_words_and_a_vector(broker: LocalBroker, tmp_path: Path) -> None:
    agent = make_agent(
        tmp_path,
        publish=("data.gpt/**", "computation.gpt/embed"),
        embedder="builtin",
        mqtt={
            "port": broker.port,
            "map": [
                {
                    "topic": "city/{station}/air",
                    "name": "data.gpt/air/raw",
                    "values": {"pm2_5_ug_m3": "pm25"},
                    "time": "at",
                }
            ],
        },
        insight=[
            {
                "name": "data.gpt/air/raw",
                "every_s": 0.2,
                "rules": {"pm2_5_ug_m3": "air_quality.pm2_5"},
                "embed": True,
            }
        ],
    )

    async def main() -> None:
        await agent.start()
        try:
            await agent.ready.wait()
            assert not agent.troubles
            now = time.time()
            async with aiomqtt.Client(broker.host, broker.port) as client:
                for n in range(20):
                    body = json.dumps({"pm25": 40.0 + n % 2, "at": now - 20 + n})
                    await client.publish("city/north/air", body, qos=1)
            raw = await latest(agent, "data.gpt/air/raw", "north")
            assert isinstance(raw, Sample)
            words = await latest(agent, "data.gpt/air/summary", "north")
            assert isinstance(words, Summary)
            assert "Unhealthy for sensitive groups" in words.text
            figures = await latest(agent, "data.gpt/air/insight", "north")
            assert isinstance(figures, Sample)
            assert figures.values["pm2_5_ug_m3_aqi"] > 100
            vector = await latest(agent, "data.gpt/air/processed_embeddings", "north")
            assert isinstance(vector, Embedding)
            assert vector.domain == "air"
        finally:
            await agent.stop()

    asyncio.run(main())


def test_a_name_that_the_certificate_does_not_grant_is_told_at_the_start(
    broker: LocalBroker, tmp_path: Path
) -> None:
    mapping = {"topic": "a/b", "name": "data.gpt/air/raw"}
    mqtt = {"port": broker.port, "map": [mapping]}
    agent = make_agent(tmp_path, ("data.gpt/noise/**",), mqtt=mqtt)

    async def main() -> None:
        await agent.start()
        try:
            await agent.ready.wait()
            assert any("does not grant data.gpt/air/raw" in trouble for trouble in agent.troubles)
        finally:
            await agent.stop()

    asyncio.run(main())

"""The bridge as a process of its own: ``python -m benchmarks._sensors_bridge FOLDER PORT``.

With ``--bare`` an aiomqtt loop that does nothing with what it hears; it is what the bridge is
measured beside. Both print a line of JSON when they have heard ``--count`` messages, or at SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agents.sensors.bridge import MqttBridge
from agents.sensors.config import MqttSection
from agents.sensors.session import RECEIVE_MAX
from capabilities.data.capability import Feed, FeedsCapability, served_feed
from capabilities.data.log import FeedLimits
from capabilities.data.store import FeedStore

FEEDS = 4  # topics, each a feed: the history of one holds 65,536 updates
CLIENT = "gossamer-benchmark"


class Desk(FeedsCapability):
    """The feeds of a node, on disk, without the mesh around them."""

    def may(self, name: str) -> str:
        return "benchmark"

    async def open_feed(
        self, name: str, limits: FeedLimits, *, description: str = "", keep: bool = True
    ) -> Feed:
        return await self.open(served_feed(name), limits, keep=keep)


def section(port: int) -> MqttSection:
    """What the benchmark maps: a number and a counter."""
    mapping = {
        "topic": "bench/{feed}",
        "name": "data.gpt/{feed}/raw",
        "key": "all",
        "values": {"value": "v"},
        "sequence": "n",
        "history": 65536,
    }
    return MqttSection(port=port, client_id=CLIENT, map=(mapping,), retry_max_s=0.5)  # type: ignore[arg-type]


def _tell(started: float, cpu: float, heard: int, **more: object) -> None:
    line = {"s": time.monotonic() - started, "cpu_s": time.process_time() - cpu, "heard": heard}
    print(json.dumps({**line, **more}), flush=True)


async def bridge(folder: Path, port: int, count: int) -> None:
    """Run until SIGTERM, or until so many messages are on disk."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    desk = Desk(FeedStore(folder))
    await desk.start()
    made = MqttBridge(section(port), folder, lambda: desk, "benchmark")  # type: ignore[arg-type,return-value]
    await made.start()
    print("ready", flush=True)
    started, cpu, first = time.monotonic(), time.process_time(), True
    while not stop.is_set():
        try:
            async with asyncio.timeout(0.01):
                await stop.wait()
        except TimeoutError:
            pass
        heard = made.all_counters()["mqtt_messages"]
        if heard and first:
            first = False
        if count and heard >= count:
            written = sum(desk.feed(s.name).written for s in desk.names)
            if written >= count:
                _tell(started, cpu, heard)
                break
    await made.stop()
    await desk.stop()
    if not count:
        counters = made.all_counters()
        lost = sum(p["lost"] for p in made.view()["publishers"].values())
        _tell(started, cpu, counters["mqtt_messages"], lost=lost, counters=dict(counters))


async def bare(port: int, count: int) -> None:
    """aiomqtt's own loop, in the same session with the same window."""
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    properties.ReceiveMaximum = RECEIVE_MAX
    started, cpu, heard = time.monotonic(), time.process_time(), 0
    print("ready", flush=True)
    async with aiomqtt.Client(
        "127.0.0.1",
        port,
        identifier=CLIENT,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
    ) as client:
        await client.subscribe("bench/+", qos=1)
        if not count:
            return
        async for _ in client.messages:
            heard += 1
            if heard >= count:
                break
        _tell(started, cpu, heard)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--core", type=int, default=-1)
    given = parser.parse_args()
    if given.core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {given.core})
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.bare:
        asyncio.run(bare(given.port, given.count))
    else:
        asyncio.run(bridge(given.folder, given.port, given.count))
    sys.exit(0)


if __name__ == "__main__":
    main()

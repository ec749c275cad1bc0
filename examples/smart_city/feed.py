"""What the town's sensors send, replayed from ``data/`` into a broker: an hour with each message.

A sensor can be made to fail while it runs: ``--faults`` names a file of JSON that is read again
before each message, ``{"city/air/tiantan": {"silent": true}, "city/air/dongsi": {"scale": 6}}``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import time
from pathlib import Path
from typing import Any

import aiomqtt

DATA = Path(__file__).with_name("data")
# File, topic, and the column that tells the sensors of a file apart.
FEEDS = {
    "air": ("air.csv", "city/air/{}", "station"),
    "traffic": ("traffic.csv", "city/traffic/{}", "counter"),
    "weather": ("weather.csv", "city/weather/{}", ""),
}


def series(kind: str) -> dict[str, list[dict[str, float]]]:
    """The readings of a kind by topic."""
    file, topic, column = FEEDS[kind]
    found: dict[str, list[dict[str, float]]] = {}
    with (DATA / file).open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            place = topic.format(row.pop(column) if column else "dongsi")
            row.pop("time")
            found.setdefault(place, []).append({k: float(v) for k, v in row.items()})
    return found


async def run(arguments: argparse.Namespace) -> None:
    """Send until the end of the process; the series begin again at their end."""
    kinds = [kind for kind in FEEDS if not arguments.only or kind in arguments.only.split(",")]
    told = {topic: rows for kind in kinds for topic, rows in series(kind).items()}
    count = 0
    async with aiomqtt.Client(arguments.broker, arguments.port) as client:
        while True:
            faults = read_faults(arguments.faults)
            for topic, rows in told.items():
                fault = faults.get(topic, {})
                if fault.get("silent"):
                    continue
                hour = rows[(arguments.start + count) % len(rows)]
                values = {k: v * float(fault.get("scale", 1.0)) for k, v in hour.items()}
                body = {**values, "n": count + 1, "ts": round(time.time(), 3)}
                await client.publish(topic, json.dumps(body), qos=1)
            count += 1
            await asyncio.sleep(arguments.every_s)


def read_faults(file: Path | None) -> dict[str, dict[str, Any]]:
    """What is wrong with which sensor now; nothing where the file is not there or half written."""
    if file is not None:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(file.read_text()))
    return {}


def main() -> None:
    """``python -m examples.smart_city.feed``."""
    made = argparse.ArgumentParser(prog="python -m examples.smart_city.feed", description=__doc__)
    made.add_argument("--broker", default="127.0.0.1")
    made.add_argument("--port", type=int, default=1883)
    made.add_argument("--only", default="", help="air, traffic, weather, with commas; else all")
    made.add_argument("--faults", type=Path)
    made.add_argument("--start", type=int, default=0, help="hours to leave out at the beginning")
    made.add_argument("--every-s", type=float, default=0.5)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(made.parse_args()))


if __name__ == "__main__":
    main()

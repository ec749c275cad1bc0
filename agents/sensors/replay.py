"""A CSV file into a broker at a rate, as if sensors sent it: for demonstrations and tests."""

from __future__ import annotations

import asyncio
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec

from capabilities.sensors.readings import number_of
from capabilities.sensors.topics import fill, places_of
from mesh.core.errors import ConfigError, GossamerError, WireError

REPORT_S = 1.0


@dataclass(frozen=True)
class Replay:
    """What is sent. ``topic`` may hold columns in braces: city/{station}/air."""

    file: Path
    topic: str
    rate_hz: float = 1.0
    count: int = 0
    """Rows to send; 0: all of them."""
    loop: bool = False
    columns: tuple[str, ...] = ()
    """Which columns; empty: every one with a number."""
    qos: int = 1
    retain: bool = False


def messages(replay: Replay) -> Iterator[tuple[str, bytes]]:
    """Topic and payload of each row: the numbers as JSON, ``n`` counts per topic, ``ts`` is now.

    Raises :class:`ConfigError` for a file or a column that is not there.
    """
    counts: dict[str, int] = {}
    sent = 0
    while True:
        before = sent
        for row in _rows(replay):
            topic = fill(replay.topic, row)
            values = _numbers(replay, row)
            if not values:
                continue
            counts[topic] = counts.get(topic, 0) + 1
            # Of this run: a sequence that began at 0 each time would tell of restarts for ever.
            body = {**values, "n": counts[topic], "ts": round(time.time(), 3)}
            yield topic, msgspec.json.encode(body)
            sent += 1
            if replay.count and sent >= replay.count:
                return
        if not replay.loop or sent == before:
            return


def _rows(replay: Replay) -> Iterator[dict[str, str]]:
    try:
        with replay.file.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            known = set(reader.fieldnames or ())
            for word in (places_of(replay.topic) | set(replay.columns)) - known:
                raise ConfigError(
                    f"{replay.file} has no column {word!r}", hint=f"it has {', '.join(known)}"
                )
            for row in reader:
                yield {k: v for k, v in row.items() if k is not None and isinstance(v, str)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{replay.file} cannot be read: {error}") from error


def _numbers(replay: Replay, row: dict[str, str]) -> dict[str, Any]:
    used = places_of(replay.topic)
    values: dict[str, Any] = {}
    for name, text in row.items():
        if name in used or (replay.columns and name not in replay.columns):
            continue
        try:
            values[name] = number_of(text)
        except WireError:
            continue  # a text, such as the direction of the wind
    return values


async def send(
    client: aiomqtt.Client, replay: Replay, tell: Callable[[int], None] = lambda sent: None
) -> int:
    """Send all rows; returns how many."""
    started, told, sent = time.monotonic(), 0.0, 0
    for topic, body in messages(replay):
        due = started + sent / replay.rate_hz if replay.rate_hz > 0 else 0.0
        if (wait_s := due - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        await client.publish(topic, body, qos=replay.qos, retain=replay.retain)
        sent += 1
        if time.monotonic() - told >= REPORT_S:
            told = time.monotonic()
            tell(sent)
    return sent


async def run(
    replay: Replay,
    *,
    host: str,
    port: int,
    username: str = "",
    password: str = "",
    tell: Callable[[int], None] = lambda sent: None,
) -> int:
    """Connect and send; raises :class:`GossamerError` when the broker cannot be reached."""
    try:
        async with aiomqtt.Client(
            host, port, username=username or None, password=password or None
        ) as client:
            return await send(client, replay, tell)
    except aiomqtt.MqttError as error:
        raise GossamerError(
            f"the broker at {host}:{port}: {error}", hint="is it running, and is the port right?"
        ) from error

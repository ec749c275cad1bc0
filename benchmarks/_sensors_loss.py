"""What is lost between a publisher and the disk when broker and bridge are stopped or killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agents.sensors.broker import LocalBroker
from benchmarks._report import progress
from benchmarks._sensors_bridge import FEEDS
from capabilities.data.messages import decode_value
from capabilities.data.store import FILE
from capabilities.messages import Sample

START_S = 30.0
DRAIN_S = 180.0
WINDOW = 200  # messages that a publisher has under way


class BridgeProcess:
    """The bridge, started and stopped as often as wanted."""

    def __init__(self, folder: Path, port: int, *more: str) -> None:
        self._command = [
            sys.executable,
            "-m",
            "benchmarks._sensors_bridge",
            str(folder),
            str(port),
            *more,
        ]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Run until it is ready."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("the bridge did not start")

    def end(self, how: signal.Signals = signal.SIGTERM) -> dict[str, Any]:
        """End it; what it said at its end, where it could."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.result()

    def result(self) -> dict[str, Any]:
        """What it says at its end."""
        assert self.process is not None
        said, _ = self.process.communicate(timeout=DRAIN_S)
        lines = [line for line in said.splitlines() if line.startswith("{")]
        return dict(json.loads(lines[-1])) if lines else {}


class Publisher:
    """A sensor that counts its messages and keeps each until the broker has it (QoS 1)."""

    def __init__(self, port: int) -> None:
        self.acknowledged = 0
        self.numbers = [0] * FEEDS
        self._room = threading.Semaphore(WINDOW)
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="sensor", clean_session=False
        )
        self._client.max_inflight_messages_set(WINDOW)
        self._client.reconnect_delay_set(0.1, 0.5)  # type: ignore[arg-type]
        self._client.on_publish = self._published
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _published(self, *_: Any) -> None:
        self.acknowledged += 1
        self._room.release()

    def send(self, count: int) -> None:
        """So many messages, over all topics in turn."""
        for _ in range(count):
            self._room.acquire()
            feed = sum(self.numbers) % FEEDS
            body = json.dumps({"v": self.numbers[feed], "n": self.numbers[feed]})
            self._client.publish(f"bench/feed{feed}", body, qos=1)
            self.numbers[feed] += 1

    def settle(self) -> None:
        """Wait until the broker has everything."""
        before, until = 0, time.monotonic() + DRAIN_S
        while self.acknowledged < sum(self.numbers) and time.monotonic() < until:
            if self.acknowledged > before:
                before, until = self.acknowledged, time.monotonic() + DRAIN_S
            time.sleep(0.02)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def kept(folder: Path) -> dict[str, list[int]]:
    """The numbers that are on disk, by feed."""
    found: dict[str, list[int]] = {}
    with contextlib.closing(sqlite3.connect(folder / FILE)) as db:
        for feed, value in db.execute("SELECT feed, value FROM history ORDER BY sequence"):
            sample = decode_value(value)
            assert isinstance(sample, Sample)
            found.setdefault(feed, []).append(int(sample.values["value"]))
    return found


def _missing(sent: list[int], found: dict[str, list[int]]) -> tuple[int, int]:
    """Messages that are not on disk, and those that are there twice."""
    lost = twice = 0
    for feed, count in enumerate(sent):
        numbers = found.get(f"data.gpt/feed{feed}/raw", [])
        lost += count - len(set(numbers))
        twice += len(numbers) - len(set(numbers))
    return lost, twice


@contextlib.contextmanager
def _stage() -> Iterator[tuple[LocalBroker, Path]]:
    with tempfile.TemporaryDirectory(prefix="gossamer-sensors-") as folder:
        broker = LocalBroker(Path(folder) / "broker")
        broker.start()
        try:
            yield broker, Path(folder) / "bridge"
        finally:
            broker.kill()


def _drained(folder: Path, expected: int) -> bool:
    """Wait for all messages; False when nothing came for so long that nothing more will."""
    best, until = 0, time.monotonic() + DRAIN_S
    while time.monotonic() < until:
        with contextlib.suppress(sqlite3.Error):
            there = sum(len(set(n)) for n in kept(folder).values())
            if there >= expected:
                return True
            if there > best:
                best, until = there, time.monotonic() + DRAIN_S
        time.sleep(0.5)
    return False


def orderly(messages: int, restarts: int) -> dict[str, Any]:
    """Restarts of the broker and of the bridge, in turn, under a stream of messages."""
    with _stage() as (broker, folder):
        bridge = BridgeProcess(folder, broker.port)
        bridge.start()
        time.sleep(1.0)  # the session has to exist before the first message
        publisher = Publisher(broker.port)
        started = time.monotonic()
        parts = 2 * restarts + 1
        counters: dict[str, int] = {}
        try:
            for part in range(parts):
                publisher.send(messages * (part + 1) // parts - messages * part // parts)
                if part == parts - 1:
                    break
                if part % 2 == 0:
                    broker.stop()
                    broker.start()
                else:
                    _add(counters, bridge.end().get("counters", {}))
                    bridge.start()
                if part % 10 == 0:
                    progress(f"  {publisher.acknowledged} of {messages} messages")
            publisher.settle()
            drained = _drained(folder, messages)
            elapsed_s = time.monotonic() - started
        finally:
            publisher.close()
            last = bridge.end()
        _add(counters, last.get("counters", {}))
        lost, twice = _missing(publisher.numbers, kept(folder))
        return {
            "messages": messages,
            "restarts": {"broker": restarts, "bridge": restarts},
            "acknowledged_by_broker": publisher.acknowledged,
            "drained": drained,
            "lost": lost,
            "twice": twice,
            "reported_lost": last.get("lost", -1),
            "duplicates_dropped": counters.get("mqtt_duplicates", 0),
            "sessions_lost": counters.get("mqtt_sessions_lost", 0),
            "s": round(elapsed_s, 1),
        }


def _gaps_closed(folder: Path, publisher: Publisher) -> bool:
    """Send on until a message of each feed is on disk that was sent after the last kill: a gap is
    known by the message behind it, and a bridge on a busy machine is late to follow again."""
    sent = list(publisher.numbers)
    until = time.monotonic() + DRAIN_S
    while time.monotonic() < until:
        publisher.send(FEEDS)
        publisher.settle()
        time.sleep(0.5)
        with contextlib.suppress(sqlite3.Error):
            found = kept(folder)
            newest = [max(found.get(f"data.gpt/feed{n}/raw", [-1])) for n in range(FEEDS)]
            if all(new >= before for new, before in zip(newest, sent, strict=True)):
                under_way = sum(publisher.numbers) - sum(newest) - FEEDS
                there = sum(len(set(numbers)) for numbers in found.values())
                return _drained(folder, there + under_way)
    return False


def killed(messages: int, kills: int) -> dict[str, Any]:
    """Broker and bridge are killed in turn: what is lost then has to be told, to the message."""
    with _stage() as (broker, folder):
        bridge = BridgeProcess(folder, broker.port)
        bridge.start()
        time.sleep(1.0)
        publisher = Publisher(broker.port)
        by_bridge = by_broker = 0
        try:
            for number in range(kills):
                publisher.send(messages // (2 * kills))
                bridge.end(signal.SIGKILL)
                bridge.start()
                publisher.send(messages // (2 * kills))
                broker.kill()  # what it kept since its last save is gone
                broker.start()
                by_bridge, by_broker = by_bridge + 1, by_broker + 1
                progress(f"  killed both {number + 1} times")
            closed = _gaps_closed(folder, publisher)
        finally:
            publisher.close()
            last = bridge.end()
        lost, twice = _missing(publisher.numbers, kept(folder))
        return {
            "messages": sum(publisher.numbers),
            "kills": {"broker": by_broker, "bridge": by_bridge},
            "lost": lost,
            "reported_lost": last.get("lost", -1),
            "twice": twice,
            "every_gap_reported": lost == last.get("lost", -1),
            "a_message_behind_each_gap": closed,
            "sessions_lost": last.get("counters", {}).get("mqtt_sessions_lost", 0),
        }


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for key, count in more.items():
        total[key] = total.get(key, 0) + count


def throughput(messages: int, rounds: int) -> dict[str, Any]:
    """Messages a second that one core takes in, beside aiomqtt's bare loop on the same core.

    They wait in the broker, which has the other core to itself, and are taken by a session that
    comes back. Rounds alternate; the median counts.
    """
    cores = sorted(os.sched_getaffinity(0))
    core, other = cores[0], cores[-1]
    rates: dict[str, list[float]] = {"bridge": [], "bare": []}
    per_cpu: dict[str, list[float]] = {"bridge": [], "bare": []}
    for _ in range(rounds):
        for kind in ("bare", "bridge"):
            with _stage() as (broker, folder):
                os.sched_setaffinity(broker.pid, {other})
                subprocess.run(
                    [
                        sys.executable,
                        "-m",
                        "benchmarks._sensors_bridge",
                        str(folder),
                        str(broker.port),
                        "--bare",
                    ],
                    check=True,
                    stdout=subprocess.DEVNULL,
                )  # makes the session and leaves
                publisher = Publisher(broker.port)
                publisher.send(messages)
                publisher.settle()
                publisher.close()
                more = ["--count", str(messages), "--core", str(core)]
                taking = BridgeProcess(
                    folder, broker.port, *more, *(["--bare"] if kind == "bare" else [])
                )
                taking.start()
                found = taking.result()
                rates[kind].append(found["heard"] / found["s"])
                per_cpu[kind].append(found["heard"] / found["cpu_s"])
    middle = {kind: median(values) for kind, values in rates.items()}
    cpu = {kind: median(values) for kind, values in per_cpu.items()}
    return {
        "bridge_per_s": round(middle["bridge"]),
        "bare_per_s": round(middle["bare"]),
        "ratio": round(middle["bridge"] / middle["bare"], 3),
        "bridge_per_cpu_s": round(cpu["bridge"]),
        "bare_per_cpu_s": round(cpu["bare"]),
        "ratio_cpu": round(cpu["bridge"] / cpu["bare"], 3),
        "messages": messages,
        "rounds": rounds,
        "all": {kind: [round(rate) for rate in values] for kind, values in rates.items()},
    }

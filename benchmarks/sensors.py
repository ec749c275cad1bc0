"""Sensors: what is lost on the way in, how fast it goes, and what is made of it.

``python -m benchmarks.sensors --json``. The messages need mosquitto. ``--data`` is a folder as
:mod:`benchmarks._sensors_signals` describes it; without one, the figures that need it are null.
The libraries beside it (river, heartpy) are in the extra "sensor-peers".
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

from agents.sensors.broker import mosquitto
from benchmarks._report import Options, progress, run

PARTS = ("loss", "throughput", "signals")


def _extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=None, help="folder with the real series")
    parser.add_argument("--only", choices=PARTS, help="one part of it")


def _peer(name: str, **figures: Any) -> dict[str, Any]:
    return {"name": name, "version": importlib.metadata.version(name), **figures}


def _messages(options: Options, figures: dict[str, Any], peers: list[Any], parts: set[str]) -> None:
    from benchmarks import _sensors_loss as loss

    program = mosquitto()
    assert program is not None
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
    peers.append({"name": "mosquitto", "version": said.split("\n", 1)[0].rpartition(" ")[2]})
    if "loss" in parts:
        progress("restarts in order")
        figures["orderly"] = loss.orderly(*((4_000, 2) if options.quick else (100_000, 20)))
        figures["lost"] = figures["orderly"]["lost"]
        progress("kills")
        figures["killed"] = loss.killed(*((4_000, 2) if options.quick else (20_000, 5)))
    if "throughput" in parts:
        progress("messages a second")
        rate = loss.throughput(*((3_000, 1) if options.quick else (20_000, 5)))
        figures["throughput"], figures["throughput_ratio"] = rate, rate["ratio"]
        peers.append(_peer("aiomqtt", messages_per_s=rate["bare_per_s"]))


def _signals(options: Options, figures: dict[str, Any], peers: list[Any]) -> None:
    from benchmarks import _sensors_signals as signals

    data = options.more.data
    progress("anomalies of traffic")
    traffic = signals.traffic(data / "city" / "nab_traffic")
    progress("faults of air stations")
    faults = signals.air(data / "city", quick=options.quick, seed=options.seed)
    progress("heart rate")
    hearts = signals.hearts(data / "wearable")
    figures["anomaly"] = {
        "nab_f1": traffic["f1"],
        "faults_f1": faults["f1"],
        "library_f1": {"nab": traffic["library_f1"], "faults": faults["library_f1"]},
        "nab": traffic,
        "faults": faults,
    }
    figures["heart_rate"] = hearts
    peers.append(_peer("river", nab_f1=traffic["library_f1"], faults_f1=faults["library_f1"]))
    peers.append(_peer("heartpy", stretches=hearts["stretches"]))


def measure(options: Options) -> dict[str, Any]:
    """All parts, or the one that was asked for."""
    only = options.more.only
    parts = {only} if only else set(PARTS)
    figures: dict[str, Any] = {
        "lost": None,
        "throughput_ratio": None,
        "anomaly": None,
        "heart_rate": None,
    }
    peers: list[Any] = []
    if parts & {"loss", "throughput"}:
        if mosquitto() is None:
            progress("mosquitto is not installed: apt install mosquitto")
        else:
            _messages(options, figures, peers, parts)
    if "signals" in parts:
        if options.more.data is None:
            progress("no --data: anomalies, faults and heart rate are not measured")
        else:
            _signals(options, figures, peers)
    return {**figures, "peers": peers}


if __name__ == "__main__":
    run(__doc__ or "", measure, _extend)

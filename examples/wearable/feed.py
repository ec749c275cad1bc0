"""The sensors of one case into a broker: ``python -m examples.wearable.feed --help``."""

from __future__ import annotations

import argparse
import asyncio
import csv
import time
from collections.abc import Sequence
from pathlib import Path

import aiomqtt

from examples.wearable import cases
from examples.wearable.cases import Case, Played, play

WAVE = Path(__file__).parent / "data" / "ppg_100hz.csv"
AGAIN_S = 60.0


def read_wave(path: Path = WAVE) -> list[float]:
    """The recording, a number a line under a head."""
    with path.open(newline="", encoding="utf-8") as file:
        return [float(row["ppg"]) for row in csv.DictReader(file)]


async def send(host: str, port: int, played: Sequence[Played]) -> int:
    """Send everything at once; the readings carry their own times. Returns how many messages."""
    sent = 0
    async with aiomqtt.Client(host, port) as client:
        for one in played:
            for topic, body in one.messages:
                await client.publish(topic, body, qos=1)
                sent += 1
    return sent


def all_cases() -> dict[str, Case]:
    """By session."""
    told = (cases.CALM, *cases.EVENING, cases.MISSING, cases.CONTRADICTION, cases.AWAY)
    return {case.session: case for case in told}


async def _keep_sending(arguments: argparse.Namespace, case: Case) -> None:
    wave = read_wave()
    while True:
        played = [
            one
            for one in play(case, wave, time.time())
            if arguments.device in {"", one.device}
        ]  # fmt: skip
        try:
            sent = await send(arguments.host, arguments.port, played)
            print(f"{case.session}: {sent} messages", flush=True)
        except aiomqtt.MqttError as error:
            print(f"the broker at {arguments.host}:{arguments.port}: {error}", flush=True)
        if arguments.once:
            return
        await asyncio.sleep(AGAIN_S)


def main() -> None:
    """On a board: the sensors that it does not have."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.wearable.feed",
        description="Send the sensors of a case to an MQTT broker, each minute again.",
        epilog="example: python -m examples.wearable.feed --case calm --device ring",
    )
    parser.add_argument("--case", choices=sorted(all_cases()), default="calm")
    parser.add_argument("--device", choices=["watch", "ring", "patch", "hub"], default="")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--once", action="store_true", help="send half an hour once, and end")
    arguments = parser.parse_args()
    try:
        asyncio.run(_keep_sending(arguments, all_cases()[arguments.case]))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()

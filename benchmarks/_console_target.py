"""A scripted door for the console's benchmark: it says what an agent of a mesh of N nodes would.

Run as a process of its own, so that the console's figures are the console's alone.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from agents.faces.control import ControlServer, Handler, unary
from agents.views import EndpointView, NameView, PeerView
from mesh.core.errors import ConfigError

NAME = "knowledge.gpt/arithmetic"


def peers(count: int, rng: random.Random) -> list[PeerView]:
    """Nodes with figures that differ at every look."""
    return [
        PeerView(
            node=f"{i:026d}",
            name=f"node-{i:02d}",
            state="suspect" if rng.random() < 0.02 else "alive",
            me=i == 0,
            names=[NAME],
            models=["arithmetic Q8_0"],
            device="raspberry pi 5",
            inflight=rng.randrange(5),
            queued=rng.randrange(3),
            slots=4,
            tokens_per_s=rng.uniform(5, 40),
            best_tokens_per_s=41.0,
            round_trip_ms=rng.uniform(1, 30),
            temperature_c=rng.uniform(40, 80),
            battery=rng.random(),
        )
        for i in range(count)
    ]


def handlers(count: int, hz: float, seed: int) -> dict[str, Handler]:
    """The verbs that the console asks for; every node changes at every event."""
    rng = random.Random(seed)

    async def watch(args: dict[str, Any]) -> AsyncIterator[Any]:
        while True:
            at = time.time()
            shown = msgspec.to_builtins(peers(count, rng))
            yield {"type": "mesh", "at": at, "peers": shown, "gone": []}
            load = {"inflight": 1, "queued": 0, "slots": 4, "tokens_per_s": 20.0}
            yield {"type": "self", "at": at, "name": "node-00", "mesh": "bench", "load": load}
            await asyncio.sleep(1 / hz)

    async def names(args: dict[str, Any]) -> list[Any]:
        served = [
            EndpointView(
                node=p.node,
                name=p.name,
                state=p.state,
                priority=1,
                weight=1,
                load=0.1,
                accuracy=0.9,
            )
            for p in peers(count, rng)
        ]
        view = NameView(
            name=NAME, domain="", description="", examples=[], kind="generate", endpoints=served
        )
        return [msgspec.to_builtins(view)]

    async def traces(args: dict[str, Any]) -> list[Any]:
        return []

    async def budget(args: dict[str, Any]) -> dict[str, Any]:
        raise ConfigError("this agent has no cloud, so there is no budget")

    return {
        "watch": watch,
        "names": unary(names),
        "traces": unary(traces),
        "budget": unary(budget),
    }


async def serve(state: Path, count: int, hz: float, seed: int) -> None:
    """Until it is ended."""
    server = ControlServer(state, handlers(count, hz, seed))
    await server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))

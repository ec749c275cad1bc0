"""A node without models, for benchmarks: python -m benchmarks._light_node STATE NAME [SEED ...]

It tells of itself in lines of JSON on standard output: when it is up, every change that it
sees of a peer's state with the monotonic time, and, asked by a line on standard input, how
many bytes it has handed to its links (``bytes``), how many names it knows (``names``).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from mesh.core.announcing import Vitals
from mesh.core.events import Event, StateChanged
from mesh.core.records import Device, ServedName
from mesh.net.node import MeshNode, NodeConfig
from mesh.net.statedir import StateDir

SLOTS = 4
BUSY_EVERY_S = 0.5


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def busy(node: MeshNode) -> None:
    """Its load changes all the time."""
    while True:
        inflight = random.randrange(SLOTS + 1)
        node.report(Vitals(inflight / SLOTS, inflight, 0, SLOTS))
        await asyncio.sleep(BUSY_EVERY_S)


async def main(state: Path, name: str, seeds: tuple[str, ...]) -> None:
    node = MeshNode(StateDir(state), NodeConfig(seeds=seeds, discovery=False))
    sent = 0

    def on_event(event: Event) -> None:
        if isinstance(event, StateChanged):
            say(peer=event.name, state=event.new.name.lower(), at=time.monotonic())

    node.listeners.append(on_event)
    await node.start()
    send = node.transport.send

    def counted(to: bytes, frame: bytes, *rest: Any) -> Any:
        nonlocal sent
        sent += len(frame)
        return send(to, frame, *rest)

    node.transport.send = counted  # type: ignore[method-assign, assignment]
    node.offer([(ServedName(f"knowledge.gpt/{name}"), None)], [], Device(kind="bench"))  # type: ignore[list-item]
    say(up=name, seed=node.seed, at=time.monotonic())
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    load: asyncio.Task[None] | None = None
    while line := (await reader.readline()).decode().strip():
        match line:
            case "bytes":
                say(bytes=sent)
            case "names":
                say(served=[listing.name for listing in node.core.names()])
            case "busy":
                load = asyncio.create_task(busy(node))
            case _:
                break
    if load is not None:
        load.cancel()
    await node.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], tuple(sys.argv[3:])))

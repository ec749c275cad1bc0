"""A real node in a process of its own, to be attacked and measured: one JSON line per order.

python -m benchmarks._security_target STATE_DIRECTORY
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import zmq
import zmq.asyncio

from mesh.core.identity import Member, new_keys
from mesh.core.records import Device, ServedName
from mesh.core.wire import Lane
from mesh.net.calls import IncomingCall, Verdict
from mesh.net.node import MeshNode, NodeConfig
from mesh.net.statedir import StateDir
from mesh.net.transport import Transport

ECHO, HANG, FULL = "knowledge.gpt/echo", "knowledge.gpt/hang", "knowledge.gpt/full"


class Service:
    """Echo answers at once, hang never ends, full says no and counts."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.active = 0
        self.asked = 0
        self.first = self.last = 0.0

    def admit(self, call: IncomingCall) -> Verdict:
        self.last = time.perf_counter()
        if not self.asked:
            self.first = self.last
        self.asked += 1
        return Verdict(self.kind != FULL, "no slots")

    async def serve(self, call: IncomingCall) -> AsyncIterator[bytes]:
        self.active += 1
        try:
            yield call.body
            if self.kind == HANG:
                await asyncio.Event().wait()
        finally:
            self.active -= 1


class CountingOwner:
    """What a transport tells, counted and nothing else."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0.0

    def on_frames(self, node: bytes, lane: Lane, frames: list[bytes]) -> None:
        self.last = time.perf_counter()
        if not self.count:
            self.first = self.last
        self.count += len(frames)

    def on_link_up(self, node: bytes) -> None: ...
    def on_link_down(self, node: bytes) -> None: ...
    def on_called(self, node: bytes) -> None: ...
    def on_trouble(self, sentence: str) -> None: ...


class Target:
    """The orders, one method each."""

    def __init__(self, node: MeshNode) -> None:
        self.node = node
        self.services = {kind: Service(kind) for kind in (ECHO, HANG, FULL)}
        self.node.offer(
            [(ServedName(name=kind), service) for kind, service in self.services.items()],
            [],
            Device(),
        )
        self._bare: asyncio.Task[None] | None = None
        self._bare_count = CountingOwner()
        self._transport: Transport | None = None
        self._transport_owner = CountingOwner()
        self._context: zmq.Context[Any] = zmq.Context()

    async def where(self, _: dict[str, Any]) -> dict[str, Any]:
        node = self.node
        return {
            "seed": node.seed,
            "control": node.endpoints.control,
            "bulk": node.endpoints.bulk,
            "admission": node.endpoints.admission,
            "curve": node.keys.curve.hex(),
        }

    async def stats(self, _: dict[str, Any]) -> dict[str, Any]:
        node, process = self.node, psutil.Process()
        counters: Counter[str] = sum(
            (
                node.core.counters,
                node.counters,
                node.transport.counters,
                node.transport.gate_counters,
                Counter(node.streams.counters),
                node.calls.counters,
                node.standing.all_counters(),
            ),
            Counter(),
        )
        names: dict[str, list[str]] = {}
        for offering, served in node.core.store.query():
            names.setdefault(served.name, []).append(node.name_of(offering))
        return {
            "counters": dict(counters),
            "members": {
                m.name: node.core.membership.state(m.node).name
                for m in node.core.members()
                if m.node != node.me.node
            },
            "names": names,
            "active": self.services[HANG].active,
            "served": self.services[ECHO].asked,
            "rss_mb": round(process.memory_info().rss / 2**20, 1),
            "descriptors": process.num_fds(),
            "cpu_s": sum(process.cpu_times()[:2]),
            "troubles": len(node.troubles),
        }

    async def invite(self, _: dict[str, Any]) -> dict[str, Any]:
        token, _expires = await self.node.standing.invite(publish=("knowledge.gpt/**",))
        return {"token": token}

    async def revoke(self, order: dict[str, Any]) -> dict[str, Any]:
        return await self.node.standing.revoke(order["who"], "benchmark")

    async def bare(self, order: dict[str, Any]) -> dict[str, Any]:
        """A bare ``zmq.asyncio`` ROUTER with CURVE: answers, or only counts."""
        keys = new_keys(_random)
        socket = zmq.asyncio.Context.shadow(self._context).socket(zmq.ROUTER)
        socket.curve_server = True
        socket.curve_secretkey = keys.curve_secret
        socket.bind("tcp://127.0.0.1:*")
        owner, echo = self._bare_count, order.get("echo", True)
        owner.count = 0

        async def loop() -> None:
            while True:
                parts = await socket.recv_multipart()
                if echo:
                    await socket.send_multipart(parts)
                else:
                    owner.on_frames(b"", Lane.CONTROL, parts[1:])

        self._bare = asyncio.create_task(loop())
        return {"address": socket.last_endpoint.decode(), "curve": keys.curve.hex()}

    async def transport(self, order: dict[str, Any]) -> dict[str, Any]:
        """Gossamer's transport alone, with one member."""
        keys = new_keys(_random)
        context: zmq.Context[Any] = zmq.Context()
        transport = Transport(context, keys, self._transport_owner, None)  # type: ignore[arg-type]
        address, _ = transport.bind("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")
        curve = bytes.fromhex(order["curve"])
        transport.allow(Member(b"n" * 16, "m", (), (), b"", curve, 9e9, b""))
        self._transport = transport
        return {"address": address, "curve": keys.curve.hex()}

    async def received(self, order: dict[str, Any]) -> dict[str, Any]:
        """Messages counted since the last asking, and the seconds they took."""
        if order["kind"] == "authorised":
            service = self.services[FULL]
            found = {"count": service.asked, "s": service.last - service.first}
            if not order.get("look"):
                service.asked = 0
            return found
        owner = self._bare_count if order["kind"] == "bare" else self._transport_owner
        found = {"count": owner.count, "s": owner.last - owner.first}
        if not order.get("look"):
            owner.count = 0
        return found


def _random(count: int) -> bytes:
    import os

    return os.urandom(count)


async def main(state: Path) -> None:
    logging.disable(logging.CRITICAL)
    node = MeshNode(StateDir(state), NodeConfig())
    await node.start()
    target = Target(node)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps(await target.where({})), flush=True)
    while line := await reader.readline():
        order = json.loads(line)
        if order["do"] == "end":
            break
        try:
            answer = await getattr(target, order["do"])(order)
        except Exception as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    if target._bare is not None:
        target._bare.cancel()
    await node.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

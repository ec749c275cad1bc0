"""Attacks refused, floods borne, and what security costs a call.

python -m benchmarks.security --json

A node runs in a process of its own. From outside come every attack of docs/threat-model.md,
three floods beside legal traffic, and the same 256-byte call and 512-byte messages through
Gossamer and through bare ``zmq.asyncio`` with CURVE, in turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

from benchmarks import secure_sum
from benchmarks._attacks import ATTACKS, Ground
from benchmarks._report import Options, progress, run
from benchmarks._security_target import ECHO, FULL
from mesh.core.errors import GossamerError
from mesh.core.identity import ANY_GROUP, Authority, new_keys
from mesh.core.invitations import read_token
from mesh.core.records import Device, ServedName
from mesh.core.wire import Call, CallHeader, encode
from mesh.net.issuer import create_issuer
from mesh.net.joining import join
from mesh.net.node import MeshNode, NodeConfig
from mesh.net.sockets import dialer
from mesh.net.statedir import StateDir, create_identity, parse_seed

VISIBLE_S = 5.0  # how long a counter is waited for; the claim is 1 s
LEGAL_PER_S = 100.0  # legal calls offered during a flood; a busy board sees a tenth of it
FLOODS = {
    "handshake flood": "handshakes",
    "admission flood": "knocks",
    "half-open connections": "half_open",
}
BODY = b"x" * 256


class TargetProcess:
    """The node under attack; orders go in as lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process, where: dict[str, Any]) -> None:
        self.process = process
        self.where = where
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, state: Path) -> TargetProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks._security_target",
            str(state),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        return cls(process, json.loads(await process.stdout.readline()))

    async def __call__(self, do: str, **rest: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self._turn:
            self.process.stdin.write(json.dumps({"do": do, **rest}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return answer

    async def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b'{"do": "end"}\n')
        await self.process.wait()


class World:
    """The target and the members around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(os.urandom(32))
        self.nodes: list[MeshNode] = []
        self.target: TargetProcess

    async def start(self) -> None:
        host = self._make("host")
        create_issuer(host, self.authority, name="host", groups=ANY_GROUP, publish=("*.gpt/**",))
        self.target = await TargetProcess.start(host)
        _, self.curve = parse_seed(self.target.where["seed"])

    def _make(self, name: str) -> Path:
        path = self.folder / name
        create_identity(
            path,
            self.authority,
            "bench",
            name=name,
            groups=("home",),
            publish=("knowledge.gpt/**",),
        )
        return path

    async def member(self, name: str, *, invited: bool = False) -> MeshNode:
        if invited:
            token = (await self.target("invite"))["token"]
            await join(read_token(token), self.folder / name, name=name)
            path = self.folder / name
        else:
            path = self._make(name)
        node = MeshNode(StateDir(path), NodeConfig(seeds=(self.target.where["seed"],)))
        await node.start()
        node.offer([(ServedName(name=f"knowledge.gpt/{name}"), None)], [], Device())  # type: ignore[list-item]
        self.nodes.append(node)
        for _ in range(500):
            stats = await self.target("stats")
            known = [m for m in node.core.members() if m.name == "host"]
            if known and name in stats["names"].get(f"knowledge.gpt/{name}", []):
                return node
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{name} never met the target")

    async def stop(self) -> None:
        for node in self.nodes:
            await node.stop()
        await self.target.stop()


def host_id(node: MeshNode) -> bytes:
    return next(m.node for m in node.core.members() if m.name == "host")


def header(node: MeshNode, timeout_s: float = 5.0) -> CallHeader:
    return CallHeader(os.urandom(16), os.urandom(8), int(timeout_s * 1000), node.me.node)


async def attacks(world: World, ground: Ground) -> list[dict[str, Any]]:
    results = []
    for attack in ATTACKS:
        before = (await world.target("stats"))["counters"]
        await attack.act(ground)
        ended = time.perf_counter()
        seen_s, stats = -1.0, {}
        while time.perf_counter() - ended < VISIBLE_S:
            stats = await world.target("stats")
            after = stats["counters"]
            rose = any(after.get(c, 0) > before.get(c, 0) for c in attack.counts)
            if rose and attack.harmless(stats, ground):
                seen_s = round(time.perf_counter() - ended, 4)
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        refused = seen_s >= 0 and attack.harmless(await world.target("stats"), ground)
        results.append({"name": attack.name, "tried": 1, "refused": refused, "visible_s": seen_s})
        progress(f"{attack.name}: {'refused' if refused else 'NOT REFUSED'} {seen_s:.3f} s")
    return results


class Traffic:
    """Legal calls at a steady rate, each on its own; counts those answered in time."""

    def __init__(self, node: MeshNode, host: bytes) -> None:
        self.node, self.host = node, host
        self.done = 0
        self.failed = 0
        self._open: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> float:
        self.done, began = 0, time.perf_counter()
        number = 0
        while (now := time.perf_counter() - began) < seconds:
            while number < now * LEGAL_PER_S and len(self._open) < 64:
                task = asyncio.create_task(self._one())
                self._open.add(task)
                task.add_done_callback(self._open.discard)
                number += 1
            await asyncio.sleep(0.005)
        rate = self.done / seconds
        await asyncio.gather(*self._open, return_exceptions=True)
        return rate

    async def _one(self) -> None:
        try:
            async for _ in self.node.call(self.host, ECHO, BODY, header(self.node, 2.0)):
                pass
            self.done += 1
        except GossamerError:
            self.failed += 1


async def floods(world: World, guest: MeshNode, seconds: float) -> list[dict[str, Any]]:
    where, traffic = world.target.where, Traffic(guest, host_id(guest))
    await traffic.run(1.0)
    results = []
    for name, kind in FLOODS.items():
        quiet = await traffic.run(seconds / 2)  # each time: a shared machine changes its mind
        before = await world.target("stats")
        places = [where["control"], where["bulk"]]
        if kind != "handshakes":
            places = [where["admission"], *places]
        flood = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks._flood",
            kind,
            str(seconds + 1),
            where["curve"],
            *places,
            stdout=asyncio.subprocess.PIPE,
        )
        await asyncio.sleep(0.7)  # until it is at full speed
        most_mb, most_descriptors = 0.0, 0
        measured = asyncio.create_task(traffic.run(seconds))
        while not measured.done():
            stats = await world.target("stats")
            most_mb = max(most_mb, stats["rss_mb"])
            most_descriptors = max(most_descriptors, stats["descriptors"])
            await asyncio.sleep(0.25)
        rate = measured.result()
        out, _ = await flood.communicate()
        ended = time.perf_counter()
        counted = (
            "key_refused",
            "connections_cut_waiting",
            "admission_malformed",
            "connections_unknown",
            "handshake_unfinished",
        )
        seen_s = -1.0
        while time.perf_counter() - ended < VISIBLE_S:
            after = (await world.target("stats"))["counters"]
            if any(after.get(c, 0) > before["counters"].get(c, 0) for c in counted):
                seen_s = round(time.perf_counter() - ended, 4)
                break
        await asyncio.sleep(1.0)
        back = await world.target("stats")
        results.append(
            {
                "name": name,
                "tried": json.loads(out)["made"],
                "refused": seen_s >= 0 and set(back["members"]) == set(before["members"]),
                "visible_s": seen_s,
                "legal_rate_share": round(rate / quiet, 3),
                "rss_mb": {"before": before["rss_mb"], "most": most_mb, "after": back["rss_mb"]},
                "descriptors": {
                    "before": before["descriptors"],
                    "most": most_descriptors,
                    "after": back["descriptors"],
                },
            }
        )
        progress(f"{name}: {results[-1]}")
    return results


async def round_trips(world: World, guest: MeshNode, count: int) -> dict[str, Any]:
    """The same 256 bytes there and back, in alternating blocks; microseconds."""
    bare = await world.target("bare", echo=True)
    keys = new_keys(os.urandom)
    context = zmq.asyncio.Context()
    link = context.socket(zmq.DEALER)
    link.curve_serverkey = bytes.fromhex(bare["curve"])
    link.curve_publickey, link.curve_secretkey = keys.curve, keys.curve_secret
    link.connect(bare["address"])
    host, ours, theirs = host_id(guest), [], []

    async def call() -> None:
        async for _ in guest.call(host, ECHO, BODY, header(guest)):
            pass

    async def echo() -> None:
        await link.send(BODY)
        await link.recv()

    for block in range(-1, 10):
        for one, kept in ((call, ours), (echo, theirs)):
            for _ in range(count // 10):
                began = time.perf_counter()
                await one()
                if block >= 0:
                    kept.append((time.perf_counter() - began) * 1e6)
    link.close(0)
    context.destroy(0)
    figures: dict[str, Any] = {"rpc_ratio": {}, "rpc_us": {}, "rpc_bare_us": {}}
    for name, place in (("p50", 0.5), ("p99", 0.99)):
        mine, base = _at(ours, place), _at(theirs, place)
        figures["rpc_us"][name] = round(mine)
        figures["rpc_bare_us"][name] = round(base)
        figures["rpc_ratio"][name] = round(mine / base, 2)
    return figures


def _at(values: list[float], place: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * place))]


def _pour(address: str, server: bytes, keys: Any, frame: Any, count: int) -> None:
    """Send ``count`` frames as fast as the link takes them; runs in a thread."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    link = dialer(context, keys, server, 65536)
    link.setsockopt(zmq.IMMEDIATE, 0)
    link.connect(address)
    for number in range(count):
        link.send(frame(number), 0)
    link.close(linger=20_000)
    context.term()


async def receiving(world: World, liar: MeshNode, count: int) -> dict[str, Any]:
    """Messages a second, 512 bytes each: bare loop, our transport, decoded and authorised."""
    keys = new_keys(os.urandom)
    bare = await world.target("bare", echo=False)
    plain = await world.target("transport", curve=keys.curve.hex())
    payload = os.urandom(512)
    called = header(liar, 60.0)
    call_body = os.urandom(512 - len(encode(Call(1, called, FULL, 0, b"", 1))))

    def call(number: int) -> bytes:
        return encode(Call(1_000_000 + number, called, FULL, 0, call_body, 1))

    where = world.target.where
    ways = {
        "bare": (bare["address"], bytes.fromhex(bare["curve"]), keys, lambda _: payload),
        "transport": (plain["address"], bytes.fromhex(plain["curve"]), keys, lambda _: payload),
        "authorised": (where["control"], world.curve, liar.keys, call),
    }
    rates: dict[str, list[float]] = {kind: [] for kind in ways}
    for _ in range(3):
        for kind, (address, server, with_keys, frame) in ways.items():
            await world.target("received", kind=kind)
            await asyncio.to_thread(_pour, address, server, with_keys, frame, count)
            for _ in range(100):
                await asyncio.sleep(0.1)
                found = await world.target("received", kind=kind, look=True)
                if found["count"] >= count:
                    break
            await world.target("received", kind=kind)
            if found["count"] >= count * 0.9:
                rates[kind].append(found["count"] / max(found["s"], 1e-9))
    middle = {kind: statistics.median(r) if r else 0.0 for kind, r in rates.items()}
    base = middle["bare"] or 1.0
    return {
        "receive_ratio": {k: round(middle[k] / base, 2) for k in ("transport", "authorised")},
        "receive_per_s": {k: round(v) for k, v in middle.items()},
    }


async def everything(options: Options, folder: Path) -> dict[str, Any]:
    world = World(folder)
    await world.start()
    try:
        guest = await world.member("guest")
        figures = await round_trips(world, guest, 300 if options.quick else 3000)
        progress(f"calls: {figures}")
        liar = await world.member("liar")
        figures |= await receiving(world, liar, 5_000 if options.quick else 40_000)
        progress(f"receiving: {figures['receive_per_s']}")
        flooded = await floods(world, guest, 3.0 if options.quick else 8.0)
        leaver = await world.member("leaver", invited=True)
        ground = Ground(
            folder,
            world.target,
            world.target.where,
            host_id(guest),
            guest,
            liar,
            leaver,
            world.authority,
        )
        tried = [*await attacks(world, ground), *flooded]
        figures["adversarial"] = {
            "tried": len(tried),
            "refused_share": round(sum(a["refused"] for a in tried) / len(tried), 3),
            "visible_s_max": max(
                (a["visible_s"] for a in tried if a["visible_s"] >= 0), default=-1.0
            ),
            "legal_rate_share": min(f["legal_rate_share"] for f in flooded),
            "attacks": tried,
        }
    finally:
        await world.stop()
    return figures


def measure(options: Options) -> dict[str, Any]:
    """The figures of the table in the project's notes, and ``secure_sum`` beside them."""
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(everything(options, Path(folder)))
    figures |= secure_sum.measure(options)
    bare = figures["rpc_bare_us"]
    figures["peers"] = [
        {
            "name": "zmq.asyncio with CURVE, bare",
            "version": zmq.pyzmq_version(),
            "rpc_us": bare,
            "receive_per_s": figures["receive_per_s"]["bare"],
        }
    ]
    return figures


if __name__ == "__main__":
    run("Attacks refused, floods borne, and what security costs a call.", measure)

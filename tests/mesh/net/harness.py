"""Real nodes on loopback, several in one process, each with its own state directory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.core.access import Policy
from mesh.core.identity import Authority
from mesh.core.records import Device, ServedName
from mesh.core.wire import CallHeader, Reach
from mesh.net.calls import IncomingCall, Verdict
from mesh.net.node import MeshNode, NodeConfig
from mesh.net.statedir import StateDir, create_identity

PATIENCE_S = 30.0  # of a loaded CI machine; no test asserts how long anything took


class Echo:
    """A service that answers with its input, one byte per message, and counts what it does."""

    def __init__(self, *, slots: int = 4, hang: bool = False) -> None:
        self.slots = slots
        self.hang = hang
        self.active = 0
        self.cancelled = 0
        self.calls: list[IncomingCall] = []

    def admit(self, call: IncomingCall) -> Verdict:
        if self.active >= self.slots:
            return Verdict(False, f"{self.slots} slots are taken", 1.5)
        return Verdict(True)

    async def serve(self, call: IncomingCall) -> AsyncIterator[bytes]:
        self.active += 1
        self.calls.append(call)
        try:
            for byte in call.body:
                yield bytes([byte])
            if self.hang:
                await asyncio.Event().wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.active -= 1


class Fabric:
    """Makes nodes of one mesh under a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(os.urandom(32))
        self.nodes: list[MeshNode] = []

    async def node(
        self,
        name: str,
        *seeds: MeshNode | str,
        publish: tuple[str, ...] = ("knowledge.gpt/**", "computation.gpt/**", "data.gpt/**"),
        groups: tuple[str, ...] = ("home",),
        authority: Authority | None = None,
        policy: Policy | None = None,
    ) -> MeshNode:
        """A node that has started and knocks at ``seeds``."""
        path = self.folder / name
        if not (path / "identity.json").exists():
            create_identity(
                path,
                authority or self.authority,
                "test",
                name=name,
                groups=groups,
                publish=publish,
            )
        asked = tuple(seed if isinstance(seed, str) else seed.seed for seed in seeds)
        node = MeshNode(StateDir(path), NodeConfig(seeds=asked), policy)
        await node.start()
        self.nodes.append(node)
        return node

    async def close(self, *nodes: MeshNode) -> None:
        for node in nodes or tuple(self.nodes):
            await node.stop()
            node.state.close()
            if node in self.nodes:
                self.nodes.remove(node)


@asynccontextmanager
async def fabric(folder: Path) -> AsyncIterator[Fabric]:
    """A mesh that is closed, whatever happens."""
    made = Fabric(folder)
    try:
        yield made
    finally:
        await made.close()


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until ``condition`` holds; fails with ``what`` after a long time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came true: {what}")
        await asyncio.sleep(0.01)


def offer(node: MeshNode, service: object, *names: str) -> None:
    """Offer names with one service behind them."""
    node.offer([(ServedName(name=name), service) for name in names], [], Device())  # type: ignore[arg-type]


def header(node: MeshNode, timeout_s: float = 20.0, reach: Reach = Reach.MESH) -> CallHeader:
    """A call's header."""
    return CallHeader(
        trace=os.urandom(16),
        span=os.urandom(8),
        timeout_ms=int(timeout_s * 1000),
        caller=node.me.node,
        reach=reach,
        groups=node.me.groups,
    )


def knows(node: MeshNode, other: MeshNode, name: str = "") -> bool:
    """Whether ``node`` has the profile of ``other``, offering ``name``."""
    profile = node.core.profile(other.me.node)
    if profile is None:
        return False
    return not name or any(served.name == name for served in profile.names)

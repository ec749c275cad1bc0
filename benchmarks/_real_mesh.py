"""Light nodes as real processes: started, asked, killed, frozen, and what they cost."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from mesh.core.identity import Authority
from mesh.net.statedir import create_identity

PATIENCE_S = 120.0
CLONE_NEWNET = 0x40000000  # linux/sched.h
START_GAP_S = 0.25  # a hundred interpreters that start together only hinder each other


class LightNode:
    """One process, and the lines that it says."""

    def __init__(self, name: str, state: Path, seeds: list[str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._light_node", str(state), name, *seeds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.seen: list[dict[str, Any]] = []  # changes of peers' states
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line = json.loads(text)
            if "peer" in line:
                self.seen.append(line)
            else:
                self._answers.put(line)

    def deaths_of(self, name: str) -> list[float]:
        """When it saw this node dead, monotonic seconds (one clock for the whole machine)."""
        return [s["at"] for s in list(self.seen) if s["peer"] == name and s["state"] == "dead"]

    def answer(self) -> dict[str, Any]:
        """The next line that is no change of state."""
        return self._answers.get(timeout=PATIENCE_S)

    def tell(self, line: str) -> None:
        """Hand it a line on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> dict[str, Any]:
        """Hand it a line and wait for what it answers."""
        self.tell(line)
        return self.answer()


class RealMesh:
    """``count`` light nodes of one mesh on loopback; everybody knows everybody on entering."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._folder = tempfile.TemporaryDirectory(prefix="gossamer-bench-")
        self._authority = Authority(os.urandom(32))
        self.nodes: list[LightNode] = []
        self.seeds: list[str] = []

    def start(self) -> tuple[LightNode, dict[str, Any]]:
        """One more node; it and the line with which it said that it was up."""
        name = f"n{len(self.nodes)}-{os.urandom(2).hex()}"
        state = Path(self._folder.name) / name
        create_identity(
            state,
            self._authority,
            "bench",
            name=name,
            groups=(),
            publish=("knowledge.gpt/**",),
        )
        node = LightNode(name, state, self.seeds[:2])
        self.nodes.append(node)
        return node, node.answer()

    def __enter__(self) -> RealMesh:
        try:
            while len(self.nodes) < self.count:
                _, line = self.start()
                self.seeds.append(line["seed"])
                time.sleep(START_GAP_S)
            self.complete()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def complete(self) -> None:
        """Wait until every node knows every name."""
        until = time.monotonic() + PATIENCE_S
        for node in self.nodes:
            while len(node.ask("names")["served"]) < len(self.nodes):
                if time.monotonic() > until:
                    raise RuntimeError(f"{node.name} never knew all {len(self.nodes)} nodes")
                time.sleep(0.2)

    def close(self) -> None:
        """End every process."""
        for node in self.nodes:
            node.process.kill()
        for node in self.nodes:
            node.process.wait()
        self._folder.cleanup()

    def detect(self, victim: LightNode, how: signal.Signals) -> list[float]:
        """Seconds until each other node saw this one dead; a frozen one is thawed afterwards.
        A survivor that never does counts the patience."""
        others = [node for node in self.nodes if node is not victim]
        start = time.monotonic()
        victim.process.send_signal(how)
        took: dict[str, float] = {}
        while time.monotonic() < start + 40.0 and len(took) < len(others):
            time.sleep(0.05)
            for node in others:
                if node.name not in took:
                    died = [at for at in node.deaths_of(victim.name) if at >= start]
                    took.update({node.name: died[0] - start} if died else {})
        if how is signal.SIGSTOP:
            victim.process.send_signal(signal.SIGCONT)
        else:
            self.nodes.remove(victim)
            victim.process.wait()
        return [took.get(node.name, PATIENCE_S) for node in others]

    def join(self) -> float:
        """Seconds from a newcomer's first being up until everybody knows its name and it
        everybody's."""
        newcomer, line = self.start()
        waiting = {node.name: node for node in self.nodes}
        until = time.monotonic() + PATIENCE_S
        while waiting and time.monotonic() < until:
            for name, node in list(waiting.items()):
                known = node.ask("names")["served"]
                whole = len(self.nodes) if node is newcomer else 1
                wanted = [n.name for n in self.nodes] if node is newcomer else [newcomer.name]
                if sum(f"knowledge.gpt/{n}" in known for n in wanted) == whole:
                    del waiting[name]
        return time.monotonic() - float(line["at"])

    def payload_bytes(self) -> int:
        """All that the nodes have handed to their links so far."""
        return sum(int(node.ask("bytes")["bytes"]) for node in self.nodes)

    def cost(self) -> tuple[float, float]:
        """Mean resident MB per node, and CPU seconds of all of them so far."""
        processes = [psutil.Process(node.process.pid) for node in self.nodes]
        times = [p.cpu_times() for p in processes]
        rss = sum(p.memory_info().rss for p in processes) / len(processes)
        return rss / 2**20, sum(t.user + t.system for t in times)


def loopback_bytes() -> int | None:
    """Bytes sent over this network namespace's loopback so far, TCP/IP headers and
    acknowledgements included; None where it cannot be read."""
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[8])
    return None


def private_network() -> bool:
    """Move this thread, and the processes it starts, into a network namespace of their own, so
    that nobody else's traffic is counted. False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or libc.unshare(CLONE_NEWNET) != 0:
        return False
    tool = shutil.which("ip")
    if tool is None:
        return False
    return subprocess.run([tool, "link", "set", "lo", "up"], check=False).returncode == 0

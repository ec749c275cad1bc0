"""A demonstration mesh of real processes, and what tests need to poke it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from agents.faces.client import ControlClient
from agents.faces.demo import Demo, roster, start

PATIENCE_S = 110.0  # of a loaded CI machine; no test asserts how long anything took
ARITHMETIC = "knowledge.gpt/arithmetic"


class Mesh:
    """Four agents, each a process with its worker."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo

    def fetch(self, node: str, verb: str, **args: Any) -> Any:
        """One request at a node's local door."""

        async def run() -> Any:
            async with await ControlClient.connect(self.demo.state(node)) as client:
                return await client.fetch(verb, args)

        return asyncio.run(run())

    def ask(self, question: str, node: str = "desk", **args: Any) -> Any:
        """The answer to a question asked at a node."""
        return self.fetch(node, "ask", question=question, **args)

    def agent(self, name: str) -> psutil.Process:
        """The process of an agent."""
        return psutil.Process(self.demo.processes[name].pid)

    def worker(self, name: str) -> psutil.Process:
        """The process of an agent's model; waits until there is one."""
        found: list[psutil.Process] = []

        def look() -> bool:
            found[:] = self.agent(name).children(recursive=True)
            return bool(found)

        until(look, f"{name} has a worker")
        return found[0]

    def peer(self, name: str, seen_from: str = "desk") -> Any:
        """A node as another sees it."""
        return next(p for p in self.fetch(seen_from, "peers") if p["name"] == name)


@contextmanager
def running_mesh(folder: Path) -> Iterator[Mesh]:
    """Start the mesh, wait until everybody is ready, and leave nothing behind."""
    with Demo(roster(4), folder) as demo:

        async def begin() -> None:
            await (await start(demo)).close()

        asyncio.run(begin())
        yield Mesh(demo)


@contextmanager
def signals_heeded() -> Iterator[None]:
    """Signals as a program in a terminal has them, for this process and for those it starts: what
    nohup started, or a shell in the background, begins with some of them ignored."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until ``condition`` holds; fails with ``what`` after a long time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came true: {what}")
        time.sleep(0.05)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process whose command line names ``folder``, and their children."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or ()):
            found += [process, *process.children(recursive=True)]
    return found

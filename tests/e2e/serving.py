"""One real agent with its HTTP process and both embedded models, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from agents.faces.client import ControlClient
from mesh.core.errors import GossamerError
from mesh.net.statedir import create_authority, create_identity

PATIENCE_S = 60.0
KEY = "a-key-that-only-this-test-knows"
OWNER_KEY = "a-key-that-only-its-owner-knows"


class Served:
    """A running agent, where its HTTP listens, and a request at its local door."""

    def __init__(self, state: Path, process: subprocess.Popen[bytes], url: str) -> None:
        self.state = state
        self.process = process
        self.url = url

    def fetch(self, verb: str, **args: Any) -> Any:
        """The result of one verb."""

        async def run() -> Any:
            async with await ControlClient.connect(self.state) as client:
                return await client.fetch(verb, args)

        return asyncio.run(run())

    @property
    def processes(self) -> list[psutil.Process]:
        """The agent, its HTTP process and the workers of its models."""
        agent = psutil.Process(self.process.pid)
        return [agent, *agent.children(recursive=True)]

    def busy(self) -> int:
        """Slots at work and requests that wait, over all models."""
        load = self.fetch("metrics")["load"]
        return int(load["inflight"] + load["queued"])


def config_of(folder: Path, *, http: dict[str, Any] | None = None, more: str = "") -> Path:
    """A configuration with an identity of a throw-away authority."""
    authority = create_authority(folder / "authority", "test")
    create_identity(
        folder / "desk",
        authority,
        "test",
        name="desk",
        groups=("test",),
        publish=("computation.gpt/**", "knowledge.gpt/**", "data.gpt/machine/**"),
    )
    lines = [
        "machine = true",
        'embedder = "builtin"',
        more,
        "[node]",
        'state = "desk"',
        "discovery = false",
    ]
    for model in ("arithmetic", "general"):
        lines += ["[[model]]", f'path = "builtin:{model}"', "context = 512", "threads = 1"]
    lines += ["[[access]]", "allow = true", 'names = "data.gpt/machine/**"', 'groups = ["test"]']
    lines += ["[http]", *(f"{k} = {json.dumps(v)}" for k, v in {"port": 0, **(http or {})}.items())]
    path = folder / "desk.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@contextmanager
def serving(
    folder: Path, *, http: dict[str, Any] | None = None, more: str = ""
) -> Iterator[Served]:
    """Start the agent, wait until it is ready and HTTP listens, and leave nothing behind."""
    config = config_of(folder, http=http, more=more)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agents.faces.up", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        served = Served(folder / "desk", process, "")
        until = time.monotonic() + PATIENCE_S
        while not served.url:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.1)
            try:
                status = served.fetch("status")
            except GossamerError:
                continue
            served.url = status["http"] if status["ready"] else ""
        yield served
    finally:
        process.terminate()
        process.wait(PATIENCE_S)

"""Agents with HTTP as processes of their own, for measuring from outside.

python -m benchmarks._http_target CONFIG            as `gossamer up` runs it
python -m benchmarks._http_target CONFIG TOKEN_S    its models replaced by a paced engine
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from agents.config import AgentConfig, load_config
from agents.faces.client import ControlClient
from capabilities.base import Capability
from capabilities.slm.capability import SlmCapability
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Paced, Settings
from mesh.core.errors import GossamerError
from mesh.core.records import ServedName
from mesh.net.statedir import create_authority, create_identity

NAME = "computation.gpt/generate"
PATIENCE_S = 240.0  # a model of half a gigabyte is loaded and tried
PUBLISH = ("computation.gpt/**", "knowledge.gpt/**")


class Target(AbstractContextManager["Target"]):
    """One agent: ``url`` of its HTTP, its processes, its local door."""

    def __init__(
        self,
        folder: Path,
        authority: Any,
        name: str,
        *,
        models: Sequence[dict[str, Any]] = (),
        seeds: Sequence[str] = (),
        http: bool = True,
        token_s: float | None = None,
    ) -> None:
        self.name = name
        self.state = folder / name
        create_identity(self.state, authority, "bench", name=name, groups=(), publish=PUBLISH)
        lines = ["[node]", f'state = "{name}"', "discovery = false", f"seeds = {json.dumps(seeds)}"]
        for model in models:
            lines += ["[[model]]", *(f"{k} = {json.dumps(v)}" for k, v in model.items())]
            if not str(model["path"]).startswith("builtin:"):
                lines += ["[[model.name]]", f'name = "{NAME}"']
        lines += ["[http]", "port = 0", "max_requests = 512"] if http else []
        config = folder / f"{name}.toml"
        config.write_text("\n".join(lines) + "\n")
        arguments = [str(config), *([] if token_s is None else [str(token_s)])]
        self._log = (folder / f"{name}.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._http_target", *arguments],
            stdout=self._log,
            stderr=self._log,
        )
        self.url = ""
        self.seed = ""
        self._http = http
        self._found: list[psutil.Process] = []

    def wait(self, *, peers: int = 1) -> None:
        """Until it is ready, HTTP listens, and so many nodes offer something to it."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                status = self.fetch("status")
                offering = [p for p in self.fetch("peers") if p["names"] and p["state"] == "alive"]
            except GossamerError:
                time.sleep(0.1)
                continue
            self.url, self.seed = status["http"], status["seed"]
            if status["ready"] and (self.url or not self._http) and len(offering) >= peers:
                return
            time.sleep(0.1)
        raise RuntimeError(
            f"{self.name} did not come up: {Path(self._log.name).read_text()[-800:]}"
        )

    def fetch(self, verb: str, **args: Any) -> Any:
        """The result of one verb."""

        async def run() -> Any:
            async with await ControlClient.connect(self.state) as client:
                return await client.fetch(verb, args)

        return asyncio.run(run())

    def front_mb(self) -> float:
        """Resident memory of the agent and its HTTP process, without the models' workers."""
        return sum(p.memory_info().rss for p in self._front()) / 2**20

    def front_cpu_s(self) -> float:
        """CPU seconds of the same so far: what they cost also where other work shares the cores."""
        times = [process.cpu_times() for process in self._front()]
        return sum(one.user + one.system for one in times)

    def _front(self) -> list[psutil.Process]:
        if not self._found:
            agent = psutil.Process(self.process.pid)
            http = [c for c in agent.children() if "agents.faces.http" in c.cmdline()]
            self._found = [agent, *http]
        return self._found

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


def authority(folder: Path) -> Any:
    """A throw-away one."""
    return create_authority(folder / "authority", "bench")


def paced(token_s: float) -> SlmCapability:
    """A real worker that sleeps so long per token, with room for hundreds of streams."""
    pace = Paced(token_s=token_s, prompt_token_s=0.0, stream_cost=0.0, answer_tokens=64)
    settings = Settings(slots=64, max_waiting=512)
    host = ModelHost(Path("paced"), settings, paced=pace)
    return SlmCapability(host, [ServedName(name=NAME, model="paced")], queue=512)


def main(arguments: list[str]) -> int:
    """Run one agent until it is told to stop."""
    from agents import agent as running
    from agents.faces.up import serve

    config = load_config(Path(arguments[0]))
    if len(arguments) > 1:
        token_s = float(arguments[1])

        def make(config: AgentConfig, node_name: str, *_: Any, **__: Any) -> list[Capability]:
            return [paced(token_s)]

        running.make_capabilities = make
    return asyncio.run(serve(config))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

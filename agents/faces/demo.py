"""A mesh of four agents on this machine, from one command.

Each agent is a process of its own with a certificate of a throw-away authority; they find each
other over encrypted loopback links exactly as boards on a network would.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agents.faces.client import ControlClient
from agents.faces.door import announced
from agents.faces.ending import orderly, undisturbed
from agents.views import PeerView
from mesh.core.errors import ConfigError, GossamerError, ModelError
from mesh.net.statedir import create_authority, create_identity

ASK_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0  # a Raspberry Pi 3 with a slow card needs most of it
STOP_TIMEOUT_S = 5.0
HTTP_PATIENCE_S = 10.0  # its process starts in a second or two
GROUP = "demo"


@dataclass(frozen=True)
class DemoNode:
    """One agent of the demonstration: what its certificate lets it offer, and what it runs."""

    name: str
    publish: tuple[str, ...]
    model: str = ""
    machine: bool = False


NODES = (
    DemoNode("desk", ("computation.gpt/generate", "knowledge.gpt/mesh"), model="general"),
    DemoNode("abacus", ("knowledge.gpt/arithmetic",), model="arithmetic"),
    DemoNode("tally", ("knowledge.gpt/arithmetic",), model="arithmetic"),
    DemoNode("gauge", ("data.gpt/machine/**",), machine=True),
)


def run(*, once: str | None, as_json: bool, nodes: int = 4, state: Path | None = None) -> int:
    """Start the mesh, then ask ``once`` or show a prompt; returns the exit status."""
    with Demo(roster(nodes), state, http=once is None) as demo:
        return asyncio.run(_run(demo, once, as_json=as_json))


def roster(count: int) -> tuple[DemoNode, ...]:
    """The agents of a demonstration of ``count``: above four, more specialists."""
    extra = tuple(
        DemoNode(f"tally-{number}", NODES[2].publish, model=NODES[2].model)
        for number in range(2, count - len(NODES) + 2)
    )
    return (*NODES, *extra)[:count]


class Demo:
    """The processes of a demonstration; leaving the ``with`` block leaves none behind."""

    def __init__(
        self, nodes: tuple[DemoNode, ...], state: Path | None = None, *, http: bool = False
    ) -> None:
        self.nodes = nodes
        self.http = http  # the first agent shows the web page and takes OpenAI's clients
        self._own = state is None
        self.root = state or Path(tempfile.mkdtemp(prefix="gossamer-demo-"))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._signals = ExitStack()

    def __enter__(self) -> Demo:
        if (self.root / "authority").exists():
            raise ConfigError(
                f"{self.root} holds a demonstration that was begun before",
                hint="take another --state, or delete the folder: nothing of it is needed",
            )
        try:
            self._signals.enter_context(orderly())
            authority = create_authority(self.root / "authority", "demo")
            for node in self.nodes:
                create_identity(
                    self.state(node.name),
                    authority,
                    "demo",
                    name=node.name,
                    groups=(GROUP,),
                    publish=node.publish,
                )
        except BaseException:
            self._clean()
            self._signals.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C in here would leave the agents; it ends within seconds.
        with self._signals, undisturbed():
            self.stop()
            self._clean()

    def state(self, name: str) -> Path:
        """The state directory of an agent."""
        return self.root / name

    def log(self, name: str) -> Path:
        """Where an agent's messages go."""
        return self.root / f"{name}.log"

    def launch(self, node: DemoNode, seeds: tuple[str, ...]) -> None:
        """Start one agent as a process of its own."""
        config = self.root / f"{node.name}.toml"
        http = self.http and node is self.nodes[0]
        config.write_text(_toml(node, seeds, http=http), encoding="utf-8")
        with self.log(node.name).open("ab") as out, undisturbed():
            self.processes[node.name] = subprocess.Popen(
                [sys.executable, "-m", "agents.faces.up", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C reaches us alone: we end the agents in order
            )

    def stop(self) -> None:
        """End every agent: politely, then not."""
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + STOP_TIMEOUT_S
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _clean(self) -> None:
        if self._own:
            shutil.rmtree(self.root, ignore_errors=True)


def _toml(node: DemoNode, seeds: tuple[str, ...], *, http: bool = False) -> str:
    lines = [
        f"machine = {json.dumps(node.machine)}",
        "[node]",
        f"state = {json.dumps(node.name)}",
        f"seeds = {json.dumps(list(seeds))}",
    ]
    if node.model:
        lines += ["[[model]]", f'path = "builtin:{node.model}"', "context = 512", "threads = 1"]
    if node.machine:
        lines += [
            "[[access]]",
            "allow = true",
            'names = "data.gpt/machine/**"',
            f"groups = [{json.dumps(GROUP)}]",
        ]
    if http:
        lines += ["[http]", "port = 0"]  # any: a newcomer's machine may use the usual ones
    return "\n".join(lines) + "\n"


async def start(demo: Demo, say: Callable[[str], None] | None = None) -> ControlClient:
    """Launch the agents, wait until each is ready and the first sees them all.

    Returns a client of the first. Raises :class:`GossamerError` with the log's last line when
    an agent does not come up.
    """
    first, *others = demo.nodes
    demo.launch(first, ())
    client = await _connect(demo, first.name)
    seed = (await client.fetch("status", {}))["seed"]
    for node in others:
        demo.launch(node, (seed,))
    until = time.monotonic() + START_TIMEOUT_S
    wanted = {node.name for node in demo.nodes}
    while True:
        for node in demo.nodes:
            _check_alive(demo, node.name)
        peers = await client.fetch("peers", {})
        ready = {p["name"] for p in peers if p["names"] and p["state"] == "alive"}
        if say is not None:
            say(f"{len(ready & wanted)} of {len(wanted)} agents are ready")
        if ready >= wanted:
            return client
        if time.monotonic() > until:
            raise ModelError(
                f"not ready after {START_TIMEOUT_S:g} s: {', '.join(sorted(wanted - ready))}",
                hint=f"their messages: {_last_lines(demo, sorted(wanted - ready)[0])}",
            )
        await asyncio.sleep(0.1)


async def _connect(demo: Demo, name: str) -> ControlClient:
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        _check_alive(demo, name)
        try:
            return await ControlClient.connect(demo.state(name))
        except GossamerError:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(0.05)


def _check_alive(demo: Demo, name: str) -> None:
    status = demo.processes[name].poll()
    if status is not None:
        raise ModelError(f"agent {name} ended with status {status}", hint=_last_lines(demo, name))


def _last_lines(demo: Demo, name: str, count: int = 3) -> str:
    try:
        lines = demo.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "it left no message"
    return " / ".join(line.strip() for line in lines[-count:]) or "it left no message"


async def _run(demo: Demo, once: str | None, *, as_json: bool) -> int:
    progress = _Progress(quiet=as_json or once is not None)
    client = await start(demo, progress.say)
    progress.done()
    # Commands in another terminal find this mesh without being told where it is.
    with announced(demo.state(demo.nodes[0].name)):
        return await _talk(client, once, as_json=as_json)


async def _talk(client: ControlClient, once: str | None, *, as_json: bool) -> int:
    from agents.faces.cli import talk
    from agents.faces.prompt import interact
    from agents.faces.show import console, peers_sheet, show_sheet

    async with client:
        if once is not None:
            return await talk.ask(client, once, "mesh", ASK_TIMEOUT_S, as_json=as_json)
        peers = msgspec.convert(await client.fetch("peers", {}), list[PeerView])
        show_sheet(peers_sheet(peers), console())
        await _tell_http(client)
        await interact(client)
    return 0


async def http_url(client: ControlClient) -> str:
    """Where the first agent's page is, empty where there is none; its process comes up beside
    the agent, a moment later."""
    until = time.monotonic() + HTTP_PATIENCE_S
    while not (url := (await client.fetch("status", {})).get("http", "")):
        if time.monotonic() > until:
            return ""  # the mesh works without it; `gossamer status` shows it once it is there
        await asyncio.sleep(0.1)
    return str(url)


async def _tell_http(client: ControlClient) -> None:
    if url := await http_url(client):
        sys.stdout.write(
            f"In a browser: {url}   For OpenAI's clients: base_url {url}/v1, any key\n"
            "In another terminal: gossamer console\n"
        )
        sys.stdout.flush()


class _Progress:
    """One line that is written over on a terminal, and says nothing elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._on = not quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        if self._on:
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()

    def done(self) -> None:
        if self._on:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

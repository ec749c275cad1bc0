"""What the scenarios share: agents as processes, a broker, telling what happens, a report.

A :class:`Stage` owns every process that it starts; leaving its ``with`` block leaves none behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.faces.client import ControlClient
from agents.sensors.broker import LocalBroker, mosquitto
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.identity import Authority
from mesh.net.statedir import create_authority, create_identity

PATIENCE_S = 90.0  # of a loaded machine; a quiet one needs a few seconds
STOP_S = 8.0
LOOK_S = 0.1
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Actor:
    """One agent: what its certificate lets it offer, and its configuration.

    ``config`` is TOML but ``[node]``, which the stage writes with the lines of ``node`` in it;
    ``place`` is the network namespace that it runs in, empty for none.
    """

    name: str
    publish: tuple[str, ...] = ()
    config: str = ""
    node: str = ""
    groups: tuple[str, ...] = ("city",)
    host: str = "127.0.0.1"
    place: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


class Stage:
    """Agents, programs beside them and brokers, in one folder."""

    def __init__(self, mesh: str, folder: Path | None = None) -> None:
        self.mesh = mesh
        self._own = folder is None
        self.root = (folder or Path(tempfile.mkdtemp(prefix=f"gossamer-{mesh}-"))).resolve()
        self.actors: dict[str, Actor] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.brokers: list[LocalBroker] = []
        self._authority: Authority | None = None
        self._old: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> Stage:
        # SIGTERM must take the same way out as Ctrl-C, or the agents would stay.
        self._old = signal.signal(signal.SIGTERM, _leave)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._authority = create_authority(self.root / "authority", self.mesh)
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        finally:
            self._clean()
            signal.signal(signal.SIGTERM, self._old)

    @property
    def kept(self) -> bool:
        """Whether its folder outlives it."""
        return not self._own

    def state(self, name: str) -> Path:
        """The state directory of an agent."""
        return self.root / name

    def log(self, name: str) -> Path:
        """Where the messages of an agent or a program go."""
        return self.root / f"{name}.log"

    def last_lines(self, name: str, count: int = 3) -> str:
        """The end of that log."""
        try:
            lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "it left no message"
        return " / ".join(line.strip() for line in lines[-count:]) or "it left no message"

    def broker(self, name: str = "broker", *, place: str = "", host: str = "") -> LocalBroker:
        """A mosquitto of this stage's own, started; raises where it is not installed."""
        if place:
            raise ConfigError("start a broker of a namespace with spawn()")
        made = LocalBroker(self.root / name)
        made.start()
        self.brokers.append(made)
        return made

    def launch(self, actor: Actor, seeds: Sequence[str] = ()) -> None:
        """Start an agent; it gets a certificate on its first start and keeps its state after."""
        if self._authority is None:
            raise ConfigError("enter the stage first")
        state = self.state(actor.name)
        if not (state / "identity.json").exists():
            create_identity(
                state,
                self._authority,
                self.mesh,
                name=actor.name,
                groups=actor.groups,
                publish=actor.publish,
            )
        lines = [f"state = {json.dumps(str(state))}", f"seeds = {json.dumps(list(seeds))}"]
        lines += [f"host = {json.dumps(actor.host)}", actor.node]
        config = self.root / f"{actor.name}.toml"
        # Plain keys stand before the first table, so [node] goes last.
        config.write_text(f"{actor.config}\n[node]\n" + "\n".join(lines) + "\n", encoding="utf-8")
        self.actors[actor.name] = actor
        command = [sys.executable, "-m", "agents.faces.up", str(config)]
        self.spawn(actor.name, command, environment=actor.environment, place=actor.place)

    def spawn(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        place: str = "",
    ) -> subprocess.Popen[bytes]:
        """Start a program beside the agents; what it says goes to its log."""
        inside = ["ip", "netns", "exec", place] if place else []
        with self.log(name).open("ab") as out:
            process = subprocess.Popen(
                [*inside, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches us alone: we end the others in order
            )
        self.processes[name] = process
        return process

    def kill(self, name: str) -> None:
        """As a power cut: at once, and everything that the process started."""
        process = self.processes[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self, name: str) -> None:
        """Politely; after a while, not."""
        self._end([self.processes[name]])

    def freeze(self, name: str, *, frozen: bool = True) -> None:
        """Stop a process where it stands, or let it go on."""
        os.killpg(self.processes[name].pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def check(self) -> None:
        """Raises :class:`GossamerError` when an agent that was not stopped by us has ended."""
        for name, process in self.processes.items():
            status = process.poll()
            if status is not None and status not in {0, -signal.SIGKILL, -signal.SIGTERM}:
                raise GossamerError(
                    f"{name} ended with status {status}", hint=self.last_lines(name)
                )

    def close(self) -> None:
        """End every process."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)  # a frozen one would not hear of its end
        self._end(list(self.processes.values()))
        for broker in self.brokers:
            broker.kill()

    @asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[ControlClient]:
        """A connection to an agent's local door."""
        async with await ControlClient.connect(self.state(name)) as client:
            yield client

    async def fetch(self, agent: str, verb: str, /, **args: Any) -> Any:
        """One request at an agent's local door."""
        async with self.client(agent) as client:
            return await client.fetch(verb, args, silence_s=PATIENCE_S)

    async def ask(self, agent: str, question: str, /, **args: Any) -> dict[str, Any]:
        """The answer to a question asked at an agent, with its steps."""
        return dict(await self.fetch(agent, "ask", question=question, **args))

    async def peers(self, name: str) -> dict[str, dict[str, Any]]:
        """The nodes as an agent sees them, by name; empty while it starts."""
        try:
            return {p["name"]: dict(p) for p in await self.fetch(name, "peers")}
        except GossamerError:
            return {}

    async def seed(self, name: str) -> str:
        """What another agent needs to knock at this one; waits until it is up."""
        found: list[str] = []

        async def look() -> bool:
            with suppress(GossamerError):
                found[:] = [str((await self.fetch(name, "status"))["seed"])]
            return bool(found)

        await self.until(look, f"{name} is up")
        return found[0]

    async def ready(self, seen_from: str, names: Iterable[str] = ()) -> None:
        """Wait until an agent sees the others (all of the stage unless named) with their names."""
        wanted = set(names) or set(self.actors)

        async def look() -> bool:
            seen = await self.peers(seen_from)
            here = {n for n, p in seen.items() if p["state"] == "alive"}
            offers = {n for n in wanted if self.actors[n].publish}
            return wanted <= here and all(seen[n]["names"] for n in offers)

        await self.until(look, f"{seen_from} sees {', '.join(sorted(wanted))}")

    async def until(self, condition: Callable[[], Awaitable[object]], what: str) -> None:
        """Wait until it holds; raises :class:`GossamerError` with ``what`` after a long time."""
        deadline = time.monotonic() + PATIENCE_S
        while not await condition():
            self.check()
            if time.monotonic() > deadline:
                raise GossamerError(f"it never came true: {what}", hint=f"logs: {self.root}")
            await asyncio.sleep(LOOK_S)

    async def sent(self) -> dict[str, int]:
        """Bytes that each living agent has put on the mesh's links since its start."""
        out: dict[str, int] = {}
        for name in self.actors:
            with suppress(GossamerError):
                out[name] = int((await self.fetch(name, "status"))["bytes_out"])
        return out

    def _end(self, processes: list[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + STOP_S
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers too
            process.wait()

    def _clean(self) -> None:
        if self._own:
            shutil.rmtree(self.root, ignore_errors=True)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


class Narrator:
    """Tells what happens in the terminal; quiet, it says nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, highlight=False)

    def heading(self, text: str) -> None:
        """A new part of the story."""
        self.console.print()
        self.console.rule(f"[bold]{escape(text)}", align="left")

    def say(self, text: str) -> None:
        """A sentence."""
        self.console.print(escape(text))

    def answer(self, text: str) -> None:
        """What the mesh said."""
        for line in text.splitlines():
            self.console.print(f"  [cyan]│[/] {escape(line)}")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows under a head."""
        made = Table(*columns, box=None, pad_edge=False, header_style="dim")
        for row in rows:
            made.add_row(*(escape(str(cell)) for cell in row))
        self.console.print(made)


def steps_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The wall time of an answer beside the sum of its steps', in seconds, and its route."""
    steps = answer.get("steps", [])
    return {
        "wall_s": round(float(answer.get("elapsed_s", 0.0)), 3),
        "sum_of_steps_s": round(sum(float(s["elapsed_s"]) for s in steps), 3),
        "nodes": list(answer.get("nodes", [])),
        "sources": [f"{s['name']}@{s['node']}" for s in steps if s["status"] == "ok"],
        "missing": list(answer.get("missing", [])),
    }


@dataclass
class Report:
    """A Markdown report with plots beside it."""

    title: str
    parts: list[str] = field(default_factory=list)
    plots: dict[str, Callable[[Any], None]] = field(default_factory=dict)

    def heading(self, text: str) -> None:
        """A section."""
        self.parts.append(f"## {text}")

    def text(self, text: str) -> None:
        """A paragraph, or lines of Markdown."""
        self.parts.append(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table; bars in cells are escaped."""
        head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        body = [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
        self.parts.append("\n".join([*head, *body]))

    def plot(self, name: str, caption: str, draw: Callable[[Any], None]) -> None:
        """A figure that ``draw`` paints on matplotlib axes; left out where it is not installed."""
        self.plots[name] = draw
        self.parts.append(f"![{caption}]({name}.svg)")

    def write(self, folder: Path, name: str = "report.md") -> Path:
        """Write it; without matplotlib the plots are named, not drawn. Returns the file."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = list(self.parts)
        try:
            import matplotlib as mpl
        except ImportError:
            hint = "(no plot: install the extra `plots`)"
            parts = [hint if p.startswith("![") and p.endswith(".svg)") else p for p in parts]
        else:
            mpl.use("Agg")
            for plot, draw in self.plots.items():
                draw_svg(draw, folder / f"{plot}.svg")
        file = folder / name
        file.write_text("\n\n".join([f"# {self.title}", *parts]) + "\n", encoding="utf-8")
        return file


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def draw_svg(draw: Callable[[Any], None], file: Path) -> None:
    """One figure on a page of its own; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    draw(figure.add_subplot())
    figure.savefig(file)


def parser(program: str, about: str) -> argparse.ArgumentParser:
    """The options that the scenarios share."""
    made = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=about,
        epilog=f"example: python -m {program} --report report",
    )
    made.add_argument("--short", action="store_true", help="the same story without the waits")
    made.add_argument("--json", action="store_true", help="print one object, tell nothing")
    made.add_argument("--report", type=Path, metavar="DIR", help="write report.md and its plots")
    made.add_argument(
        "--keep-open", action="store_true", help="leave the agents running until Ctrl-C"
    )
    made.add_argument("--state", type=Path, metavar="DIR", help="keep states and logs here")
    return made


def lacking() -> str:
    """Why the scenarios cannot run on this machine; empty when they can."""
    if mosquitto() is None:
        return "mosquitto is not installed (apt install mosquitto)"
    return ""

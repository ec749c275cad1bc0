"""``gossamer subscribe`` and ``gossamer publish``: data of the mesh as lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer

from agents.faces.cli.common import EXIT_FAILED, AsJson, State, guarded, with_agent
from agents.faces.client import ControlClient, Result
from agents.faces.lines import LineSplitter, Oversize
from agents.faces.sheets import printable
from agents.faces.show import GRACE_S, print_json
from capabilities.data.lines import parse_line
from mesh.core.errors import AccessDenied, GossamerError, PeerLost, WireError
from mesh.core.names import check_name, check_pattern

READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 128 * 1024  # the local door takes no more than 256 KiB at once
DAY_S = 24 * 3600.0  # the longest that an agent takes
FATAL = {AccessDenied.code, PeerLost.code, "no_agent", "name_invalid", "config"}


def register(app: typer.Typer) -> None:
    """Add both to the command line."""
    app.command(
        "subscribe",
        epilog="Example:  gossamer subscribe data.gpt/air/raw\n\n"
        "Example:  gossamer subscribe 'data.gpt/air/*' --json --count 10\n\n"
        "Example:  gossamer subscribe data.gpt/air/trend@hub --latest",
    )(subscribe)
    app.command(
        "publish",
        epilog="""Example:  echo '{"pm25_ug_m3": 14, "station": "north"}' |"""
        " gossamer publish data.gpt/air/raw --key station\n\n"
        "Example:  tail -F readings.jsonl | gossamer publish data.gpt/air/raw",
    )(publish)


def subscribe(
    name: Annotated[
        str, typer.Argument(help="A data name, name@node, or a pattern.", show_default=False)
    ],
    count: Annotated[
        int, typer.Option("--count", min=0, help="Leave after so many updates (0: never).")
    ] = 0,
    latest: Annotated[
        bool, typer.Option("--latest", help="Leave when the latest of each key is shown.")
    ] = False,
    back: Annotated[
        int, typer.Option("--back", min=0, max=65536, help="So many earlier updates first.")
    ] = 0,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Leave after this.")
    ] = DAY_S,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show what is published under a name, by every node that offers it, until Ctrl-C.

    A publisher that goes away is waited for, and followed from where it was; updates that were
    missed are told. With --json everything that happens is a line on standard output.
    """
    with guarded(as_json):
        check_pattern(name.partition("@")[0])
        show = _Show(as_json=as_json, count=count, latest=latest)

        async def run(client: ControlClient) -> None:
            args = {"name": name, "back": back, "timeout_s": min(timeout, DAY_S)}
            items = client.request("subscribe", args, silence_s=timeout + GRACE_S)
            async with contextlib.aclosing(items):
                async for item in items:
                    if not isinstance(item, Result) and show.event(item):
                        return

        with_agent(state, run)


class _Show:
    """Writes events; ``event`` says when it has had enough."""

    def __init__(self, *, as_json: bool, count: int, latest: bool) -> None:
        self._as_json = as_json
        self._count = count
        self._latest = latest
        self._seen = 0

    def event(self, event: dict[str, Any]) -> bool:
        """Show one event; True when that was the last one wanted."""
        kind = event.get("type")
        if self._as_json:
            sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
            sys.stdout.flush()
        elif kind == "update":
            sys.stdout.write(printable(update_line(event)) + "\n")
            sys.stdout.flush()
        elif (aside := aside_line(event)) is not None:
            sys.stderr.write(f"gossamer: {printable(aside)}\n")
        self._seen += kind == "update"
        return bool(self._count and self._seen >= self._count) or (
            self._latest and kind == "synced"
        )


def update_line(event: dict[str, Any]) -> str:
    """An update on one line: when, where, which key and version, what."""
    at = datetime.fromtimestamp(float(event.get("at", 0.0))).strftime("%H:%M:%S")
    key = f" {event['key']}" if event.get("key") else ""
    return f"{at} {event.get('node')}{key} v{event.get('version')}  {_value(event.get('value'))}"


def _value(value: dict[str, Any] | None) -> str:
    if value is None:
        return "gone"
    match value.get("kind"):
        case "sample":
            return "  ".join(f"{name}={reading:g}" for name, reading in value["values"].items())
        case "summary":
            return " ".join(str(value["text"]).split())
        case "embedding":
            space = value["space"]["model"]
            label = f" {value['label']}" if value.get("label") else ""
            return f"embedding of {value['dimensionality']} in {space}{label}"
        case "view":
            return "  ".join(_view(value))
        case kind:
            return f"a {kind} that this command does not know"


def _view(value: dict[str, Any]) -> Iterator[str]:
    for name, found in value["quantities"].items():
        spread = f" ±{found['spread']:.3g}" if found["spread"] else ""
        yield f"{name}={found['value']:.6g}{spread} {found['trend']} ({found['nodes']} nodes)"
    if value.get("outlying"):
        yield f"outlying: {', '.join(value['outlying'])}"
    if value.get("stale"):
        yield f"stale: {', '.join(value['stale'])}"


def aside_line(event: dict[str, Any]) -> str | None:
    """What is no data, in words; None for what nobody needs to read."""
    where = f"{event.get('name')} at {event.get('node')}"
    match event.get("type"):
        case "gap":
            missed = int(event.get("missed", -1))
            many = "an unknown number of" if missed < 0 else str(missed)
            return f"{where}: {many} updates were missed ({event.get('why')})"
        case "broken":
            again = f"again in {float(event.get('retry_s', 0.0)):.1f} s"
            return f"{where}: {event.get('why')}; {again}"
        case _:
            return None


def publish(
    name: Annotated[str, typer.Argument(help="data.gpt/DOMAIN/TYPE.", show_default=False)],
    key: Annotated[
        str, typer.Option("--key", metavar="FIELD", help="The field that tells keys apart.")
    ] = "key",
    description: Annotated[
        str, typer.Option("--description", help="What it is, for who looks for names.")
    ] = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Publish each line of JSON from standard input; numbers in it are readings.

    A line that is none is told and passed over, and the command then fails at its end.
    """
    with guarded(as_json):
        check_name(name)
        options = {"name": name, "key_field": key, "description": description}
        done = with_agent(state, lambda client: _publish(client, options, as_json=as_json))
        if not as_json:
            refused = f", {done['refused']} refused" if done["refused"] else ""
            sys.stderr.write(f"{done['published']} published{refused}.\n")
        else:
            print_json(done)
    raise typer.Exit(EXIT_FAILED if done["refused"] or not done["published"] else 0)


async def _publish(
    client: ControlClient, options: dict[str, Any], *, as_json: bool
) -> dict[str, Any]:
    published = refused = number = 0
    last: dict[str, Any] = {}
    async with contextlib.aclosing(_lines(sys.stdin.fileno())) as lines:
        async for line in lines:
            number += 1
            try:
                if isinstance(line, Oversize):
                    raise WireError(f"a line of more than {MAX_LINE_BYTES} bytes")
                raw = parse_line(line)
                last = await client.fetch("publish", {**options, "value": raw})
                published += 1
            except GossamerError as error:
                if error.code in FATAL:
                    raise
                refused += 1
                sys.stderr.write(f"gossamer: line {number}: {printable(error.sentence())}\n")
    return {"name": options["name"], "published": published, "refused": refused, **_end(last)}


async def _lines(descriptor: int) -> AsyncGenerator[bytes | Oversize, None]:
    """The lines of a file, a pipe or a terminal as they come.

    Read in a thread that nobody waits for: Ctrl-C must not wait for the next line.
    """
    loop = asyncio.get_running_loop()
    read: asyncio.Queue[bytes] = asyncio.Queue(1)

    def pump() -> None:
        data = b"?"
        with contextlib.suppress(RuntimeError, OSError):  # the loop has ended meanwhile
            while data:
                data = os.read(descriptor, READ_BYTES)
                asyncio.run_coroutine_threadsafe(read.put(data), loop).result()

    threading.Thread(target=pump, daemon=True).start()
    splitter = LineSplitter(MAX_LINE_BYTES)
    while data := await read.get():
        for line in splitter.feed(data):
            yield line
    for line in splitter.feed(b"\n"):  # the last one needs no end
        yield line


def _end(last: dict[str, Any]) -> dict[str, Any]:
    return {field: last[field] for field in ("epoch", "sequence") if field in last}

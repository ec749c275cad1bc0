"""The console's ways in: on a screen, once in plain text, once as JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from agents.faces.console.marks import Line, fitted, line, text_of
from agents.faces.console.nodes import names_body, nodes_body, nodes_sheet
from agents.faces.console.paper import show_lines
from agents.faces.console.picture import legend
from agents.faces.console.record import traces_body, traces_sheet
from agents.faces.console.showing import Showing
from agents.faces.console.world import World
from agents.faces.sheets import console, error_line, names_sheet, plain
from agents.faces.show import print_json
from agents.library import Agent, connect
from mesh.core.errors import ConfigError, DeadlineExceeded, GossamerError

LOOK_S = 10.0  # for the agent's first words


def require_terminal(instead: str) -> None:
    """Raises :class:`ConfigError` when there is no terminal to draw on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError(
            "the console needs a terminal",
            hint=f"in a script or a pipe: {instead}; over ssh: ssh -t HOST gossamer console",
        )


async def look(agent: Agent) -> tuple[World, dict[str, Any]]:
    """The mesh as it is now, and everything of it as plain values."""
    world = World()
    try:
        async with asyncio.timeout(LOOK_S):
            async with aclosing(agent.watch()) as events:  # type: ignore[type-var]
                async for event in events:
                    world.feed(event)
                    if world.me and world.peers:
                        break
    except TimeoutError:
        raise DeadlineExceeded(
            f"the agent said nothing of the mesh for {LOOK_S:g} s", hint="look at its log"
        ) from None
    world.names = await agent.names()
    traces = await agent.traces()
    budget: dict[str, Any] = {}
    try:
        budget = await agent.budget()
    except GossamerError as error:
        budget = {"none": error_line(error)}
    found = {
        "self": {key: value for key, value in world.me.items() if key != "type"},
        "nodes": world.ordered,
        "names": world.names,
        "traces": traces,
        "budget": budget,
    }
    return world, found


def once(state: Path | None, *, as_json: bool) -> None:
    """Print what the console shows, one time."""

    async def run() -> tuple[World, dict[str, Any]]:
        async with await connect(state) as agent:
            return await look(agent)

    world, found = asyncio.run(run())
    if as_json:
        print_json(found)
        return
    budget = found["budget"]
    shown = budget.get("none") or msgspec.json.encode(budget.get("windows")).decode()
    if (out := console()).is_terminal:
        show_lines(lambda width: _fitting(world, found["traces"], width))
        out.print(f"budget: {shown}")
        return
    head = text_of(Showing(world).head(10_000))
    parts = [
        head,
        text_of(legend(world)),
        plain(nodes_sheet(world, world.ordered)),
        plain(names_sheet(world.names)),
    ]
    if found["traces"]:
        parts.append(plain(traces_sheet(found["traces"])))
    parts.append(f"budget: {shown}")
    sys.stdout.write("\n\n".join(parts) + "\n")


def _fitting(world: World, traces: list[dict[str, Any]], width: int) -> Iterator[Line]:
    """The same for a screen of so many columns."""
    yield Showing(world).head(width)
    yield fitted(legend(world), width)
    bodies = [nodes_body(world, width), names_body(world.names, width)]
    for body in [*bodies, traces_body(traces, width)] if traces else bodies:
        yield line()
        yield from body.head
        yield from (row.line for row in body.rows)
    yield line()


def interactive(state: Path | None) -> None:
    """The console on this terminal, until it is left."""

    async def run() -> None:
        agent = await connect(state)  # before the screen is taken: its error stays readable

        async def again() -> Agent:
            return await connect(state)

        # Read while the connection is made: Textual takes most of the time to the first paint.
        from agents.faces.console.app import Console

        await Console(again, agent).run_async(mouse=False)

    asyncio.run(run())

"""The commands that look on: ``console``, ``top``, ``trace``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from agents.faces.cli.common import AsJson, State, fetch, guarded
from agents.faces.show import print_json

TRACES = 20
BEAT_S = 10.0  # between two lines that say how the mesh is


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        "console", epilog=_examples("gossamer console", "gossamer console --attach gossamer1....")
    )(console)
    app.command("top", epilog=_examples("gossamer top", "gossamer top --sort busy --count 1"))(top)
    app.command("trace", epilog=_examples("gossamer trace", "gossamer trace 4185bf69 --json"))(
        trace
    )


def _examples(*lines: str) -> str:
    return "\n\n".join(f"Example:  {line}" for line in lines)


def console(
    once: Annotated[bool, typer.Option("--once", help="Print one plain view and leave.")] = False,
    attach: Annotated[
        str,
        typer.Option(
            "--attach",
            metavar="INVITATION",
            help="Join that mesh for as long as the console is open; later its name will do.",
        ),
    ] = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show the mesh live: nodes, names, a chat with its route, requests, budget, data.

    It attaches to the agent of a state directory and works over ssh on 80 by 24 characters. With
    --json it prints everything once.
    """
    with guarded(as_json):
        from agents.faces.console import run

        if not (once or as_json):
            run.require_terminal("gossamer console --once, or --json")
        with _place(attach, state) as place:
            if once or as_json:
                run.once(place, as_json=as_json)
            else:
                run.interactive(place)


@contextmanager
def _place(attach: str, state: Path | None) -> Iterator[Path | None]:
    """The state directory of the agent to look at; one that is joined for it, where asked."""
    if not attach:
        yield state
        return
    from agents.faces.console.attaching import attached

    sys.stderr.write("joining the mesh ...\n")
    with attached(attach, state) as place:
        yield place


def top(
    sort: Annotated[str, typer.Option("--sort", metavar="COLUMN", help="Such as busy.")] = "node",
    wanted: Annotated[
        str, typer.Option("--filter", metavar="WORDS", help="Only nodes with these words.")
    ] = "",
    every: Annotated[
        float, typer.Option("--every", min=0.1, max=60, metavar="SECONDS", help="How often.")
    ] = 1.0,
    count: Annotated[
        int, typer.Option("--count", min=0, help="Leave after so many pictures (0: never).")
    ] = 0,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show the nodes and who is busy, again and again; lighter than the console.

    In a pipe it prints one table after the other; with --json one line of JSON each.
    """
    with guarded(as_json):
        from agents.faces.console import top as light

        light.run(
            state,
            light.Options(sort=sort, wanted=wanted, every_s=every, pictures=count, as_json=as_json),
        )


def trace(
    trace_id: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="A request, its id may be cut short; without one, the latest are listed.",
            show_default=False,
        ),
    ] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show the way of a request: its steps, spans and every decision."""
    with guarded(as_json):
        if trace_id is None:
            _list(state, as_json=as_json)
        else:
            _one(state, trace_id, as_json=as_json)


def _list(state: Path | None, *, as_json: bool) -> None:
    found = fetch(state, "traces", {"count": TRACES})
    if as_json:
        print_json(found)
        return
    from agents.faces.console.record import traces_sheet
    from agents.faces.sheets import console as paper
    from agents.faces.sheets import show_sheet

    show_sheet(traces_sheet(found), paper())


def _one(state: Path | None, trace_id: str, *, as_json: bool) -> None:
    found = fetch(state, "trace", {"trace": trace_id})
    if as_json:
        print_json(found)
        return
    from agents.faces.console.paper import show_lines
    from agents.faces.console.record import trace_lines

    show_lines(lambda width: trace_lines(found, width))


def watch_status(state: Path | None, *, as_json: bool) -> None:
    """What happens at the agent and in its mesh, line by line, until Ctrl-C."""
    import asyncio
    from contextlib import aclosing

    import msgspec

    from agents.faces.console.marks import text_of
    from agents.faces.console.showing import Showing
    from agents.faces.console.world import World
    from agents.library import connect

    async def run() -> None:
        world = World()
        greeted, told = False, 0.0
        async with await connect(state) as agent, aclosing(agent.watch()) as events:  # type: ignore[type-var]
            async for event in events:
                if as_json:
                    sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
                    sys.stdout.flush()
                    continue
                before = world.events[0] if world.events else None
                world.feed(event)
                if world.me and world.peers and (not greeted or world.now - told >= BEAT_S):
                    greeted, told = True, world.now
                    sys.stdout.write(text_of(Showing(world).head(0)) + "\n")
                if world.events and world.events[0] is not before:
                    sys.stdout.write("  " + text_of(world.events[0][1]) + "\n")
                sys.stdout.flush()

    asyncio.run(run())

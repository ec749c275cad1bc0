"""``gossamer top``: the nodes again and again, with plain escape sequences and no toolkit."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from agents.faces.console.marks import Line, fitted
from agents.faces.console.nodes import COLUMNS, chosen, nodes_body, nodes_sheet
from agents.faces.console.paper import text
from agents.faces.console.showing import Showing
from agents.faces.console.world import World
from agents.faces.sheets import console, plain
from agents.library import connect
from mesh.core.errors import ConfigError

_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the other screen, no cursor


class Options(NamedTuple):
    """What is shown and how often; ``pictures`` 0 stands for ever."""

    sort: str
    wanted: str
    every_s: float
    pictures: int
    as_json: bool


def run(state: Path | None, options: Options) -> None:
    """Show until Ctrl-C, or as often as asked. Raises :class:`ConfigError` for no such column."""
    names = [column.name.lower() for column in COLUMNS]
    found = [i for i, name in enumerate(names) if name.startswith(options.sort.lower())]
    if not options.sort or not found:
        raise ConfigError(
            f"there is no column {options.sort[:40]!r}", hint=f"one of {', '.join(names)}"
        )
    asyncio.run(_run(state, options, found[0]))


async def _run(state: Path | None, options: Options, sort: int) -> None:
    world = World()
    drawn, at = 0, 0.0
    async with await connect(state) as agent:
        with _screen(on=sys.stdout.isatty() and not options.as_json and options.pictures != 1):
            async with aclosing(agent.watch(options.every_s)) as events:  # type: ignore[type-var]
                async for event in events:
                    world.feed(event)
                    now = time.monotonic()
                    if not world.me or not world.peers or now - at < options.every_s * 0.9:
                        continue
                    at = now
                    _draw(world, options, sort)
                    drawn += 1
                    if drawn == options.pictures:
                        return


def _draw(world: World, options: Options, sort: int) -> None:
    out = console()
    if options.as_json:
        peers = chosen(world, options.wanted, sort)
        line = msgspec.json.encode({"at": world.now, "nodes": peers}).decode()
        sys.stdout.write(line + "\n")
    elif not out.is_terminal:
        sys.stdout.write(plain(nodes_sheet(world, chosen(world, options.wanted, sort))) + "\n\n")
    else:
        width, height = out.size
        body = nodes_body(world, width, options.wanted, sort)
        lines: list[Line] = [Showing(world).head(width), *body.head]
        lines += [row.line for row in body.rows]
        if options.pictures == 1:
            for line_ in lines:
                out.print(text(line_), soft_wrap=True)
            return
        with out.capture() as captured:
            for line_ in lines[: height - 1]:
                out.print(text(fitted(line_, width)), end="")
                out.file.write("")
                out.print("\n", end="")
        painted = captured.get().replace("\n", _REST_OF_LINE + "\r\n")
        sys.stdout.write(_HOME + painted + _REST)
    sys.stdout.flush()


@contextmanager
def _screen(*, on: bool) -> Iterator[None]:
    """The terminal's other screen; what was on it before comes back."""
    if not on:
        yield
        return
    sys.stdout.write(_ENTER)
    try:
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()

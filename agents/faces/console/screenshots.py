"""Pictures of every view, of a demonstration that runs for them:

python -m agents.faces.console.screenshots --out docs/images/console

The agents, the questions and the answers are real; the terminal is Textual's own test driver.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from agents.faces import demo as demonstration
from agents.faces.console.app import Console
from agents.faces.console.showing import VIEWS
from agents.library import Agent, connect

SIZE = (80, 24)
QUESTION = "What is 48 * 27? And what is gossip?"
PATIENCE_S = 60.0
FONT = "font-family: monospace;"


def screen_text(app: App[Any]) -> str:
    """What stands on the screen, line by line."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    rows = ["".join(segment.text for segment in strip).rstrip() for strip in lines]
    return "\n".join(row[:width] for row in rows[:height]) + "\n"


def without_links(svg: str) -> str:
    """A picture that loads nothing: the reader's own fixed-width font, no fonts from outside."""
    svg = re.sub(r"@font-face\s*\{[^}]*\}", "", svg)
    svg = re.sub(r"font-family:[^;]*;", FONT, svg)
    # Some readers trim the spaces at the ends of a piece of text unless they are told not to.
    return svg.replace("<text ", '<text xml:space="preserve" ')


def main() -> None:
    """Start a demonstration, show each view, write its picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--state", type=Path, default=None, help="a running agent instead")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.state is not None:
        asyncio.run(_pictures(given.state, given.out))
        return
    with demonstration.Demo(demonstration.roster(4)) as mesh:
        asyncio.run(_with_demo(mesh, given.out))


async def _with_demo(mesh: demonstration.Demo, out: Path) -> None:
    client = await demonstration.start(mesh)
    await client.close()
    await _pictures(mesh.state(mesh.nodes[0].name), out)


async def _pictures(state: Path, out: Path) -> None:
    async def again() -> Agent:
        return await connect(state)

    app = Console(again)
    async with app.run_test(size=SIZE) as pilot:

        async def shown(*words: str) -> None:
            await _until(pilot, lambda: all(word in screen_text(app) for word in words))

        def keep(name: str) -> None:
            (out / f"{name}.svg").write_text(
                without_links(app.export_screenshot(title=f"gossamer console: {name}")),
                encoding="utf-8",
            )
            sys.stderr.write(f"{name}.svg\n")

        await _until(pilot, lambda: bool(app.world.names and len(app.world.peers) > 1))
        await pilot.press("f7", "enter")
        await shown("message")
        await pilot.press("f4")
        app.query_one("#typed", Input).value = QUESTION
        await pilot.press("enter")
        await shown("cost")
        keep("chat")
        for name in VIEWS:
            if name in {"chat", "search"}:
                continue
            await pilot.press(f"f{VIEWS.index(name) + 1}")
            if name == "streams":
                await shown("2 messages")
            await pilot.pause(0.3)
            keep(name)
        await pilot.press("f9", *"arith")
        await pilot.pause(0.3)
        keep("search")
        await pilot.press("f2", "end", "enter")
        await pilot.pause(0.3)
        keep("node")
        await pilot.press("a")
        await shown("revoke it")
        keep("actions")
        await pilot.press("d")
        await shown("y: yes")
        keep("confirm")
        await pilot.press("n", "f5", "enter")
        await shown("SPANS")  # what stands below it may be out of sight
        keep("trace")
        await pilot.press("question_mark")
        await shown("colour-blind")
        keep("help")


async def _until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE_S / 0.05)):
        await pilot.pause(0.05)
        if true():
            return
    raise TimeoutError(screen_text(pilot.app))


if __name__ == "__main__":
    main()

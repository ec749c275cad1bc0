"""``gossamer write``: a long text from an outline, with a private context that stays here."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.faces.cli.common import AsJson, State, Timeout, guarded, with_agent
from agents.faces.client import Result
from agents.faces.sheets import console, printable
from agents.faces.show import GRACE_S, print_json, status_line
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.faces.client import ControlClient

WRITE_S = 120.0  # eight paragraphs of a small model on a small board
MOST_BYTES = 128 * 1024  # the agent takes 32 thousand characters


def register(app: typer.Typer) -> None:
    """Add ``write`` to the command line."""
    app.command(
        "write",
        epilog='Example:  gossamer write "An invitation to a garden party." --length 400\n\n'
        'Example:  gossamer write "A letter that declines an offer." --private-file offer.txt',
    )(write)


def write(
    instruction: Annotated[
        str, typer.Argument(help="What is to be written; any node may read it.")
    ],
    private_file: Annotated[
        Path | None,
        typer.Option(
            "--private-file",
            metavar="FILE",
            help="A context that this node's own model reads, and no other node.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    strong: Annotated[
        str,
        typer.Option(
            "--strong",
            metavar="NAME",
            help="Whose biggest node writes the outline: a name of the mesh, or cloud.",
        ),
    ] = "",
    length: Annotated[
        int, typer.Option("--length", min=0, max=4096, help="Tokens; 0: as predicted.")
    ] = 0,
    timeout: Timeout = WRITE_S,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Write a long text: one node outlines it, many write its points."""
    with guarded(as_json):
        args = {
            "instruction": instruction,
            "private": read_private(private_file) if private_file is not None else "",
            "strong": strong,
            "length": length,
            "timeout_s": timeout,
            "reach": "cloud" if strong == "cloud" else "mesh",
        }
        code = with_agent(state, lambda client: write_and_show(client, args, as_json=as_json))
    raise typer.Exit(code)


def read_private(path: Path) -> str:
    """The file as text; raises :class:`ConfigError`."""
    path = path.expanduser()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} is too long", hint="give the part of it that matters")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no UTF-8 text", hint="convert it to plain text first"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if not text.strip():
        raise ConfigError(f"{path} is empty")
    return text


async def write_and_show(client: ControlClient, args: dict[str, Any], *, as_json: bool) -> int:
    """Write and show; 0 when every point was written, 1 when something is missing."""
    found: dict[str, Any] = {}
    points = done = 0
    stream = client.request("write", args, silence_s=float(args["timeout_s"]) + GRACE_S)
    with status_line("writing", quiet=as_json) as say:
        async with contextlib.aclosing(stream):
            async for item in stream:
                if isinstance(item, Result):
                    found = dict(item.value or {})
                elif item.get("type") == "plan":
                    points = len(item["steps"])
                    say(f"{points} points")
                elif item.get("type") == "step":
                    done += 1
                    say(f"{done} of {points} points written")
    if as_json:
        print_json(found)
    else:
        show_written(found)
    return 1 if found["answer"]["degraded"] or not found["answer"]["text"].strip() else 0


def show_written(found: dict[str, Any]) -> None:
    """The text, and on a line aside who outlined and who wrote."""
    out, answer = console(), found["answer"]
    text = str(answer["text"])
    out.file.write((printable(text, lines=True) if out.is_terminal else text).rstrip("\n") + "\n")
    aside = out if out.is_terminal else console(stderr=True)
    by = f"outline of {len(found['outline'])} points by {found['outline_by'] or 'rule'}"
    how = {"direct": "at once", "outline": by, "private": f"{by}, which saw the instruction alone"}
    nodes = ", ".join(answer["nodes"]) or "nobody"
    line = f"{how.get(found['mode'], '')}; written by {nodes}, {answer['elapsed_s']:.2f} s"
    for more in (line, *answer["notes"], *(f"missing: {one}" for one in answer["missing"])):
        aside.print(printable(more), style="dim", soft_wrap=True)
    sys.stdout.flush()

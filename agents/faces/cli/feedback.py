"""``gossamer feedback``: whether an answer was right."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agents.faces.cli.common import AsJson, State, fetch, guarded
from agents.faces.show import print_json


def register(app: typer.Typer) -> None:
    """Add ``feedback`` to the command line."""
    app.command(
        "feedback",
        epilog="Example:  gossamer feedback --wrong\n\n"
        "Example:  gossamer feedback --right 5f0c9a...  (the trace, as gossamer ask --json has it)",
    )(feedback)


def feedback(
    right: Annotated[bool, typer.Option("--right/--wrong", help="Whether the answer was right.")],
    trace: Annotated[
        str, typer.Argument(help="Whose trace; by default the last answer.", show_default=False)
    ] = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Say whether an answer was right: who is asked next time learns from it.

    A wrong one is also forgotten by the knowledge base, and who gave it is trusted less.
    """
    with guarded(as_json):
        found = fetch(state, "feedback", {"trace": trace, "right": right})
        if as_json:
            print_json(found)
            return
        said = "right" if right else "wrong"
        for name, question in found["steps"]:
            sys.stdout.write(
                f"noted: {name} was {said} about {' '.join(question.split())[:60]!r}\n"
            )

"""Marked lines without Textual: coloured on a terminal, plain in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.style import Style
from rich.text import Text

from agents.faces.console.marks import COLOURS, Line, text_of
from agents.faces.sheets import console

PIPE_WIDTH = 200  # columns; a line for a file need not be cut for a screen


def show_lines(made: Callable[[int], Iterable[Line]]) -> None:
    """Print lines, laid out for the width that there is."""
    out = console()
    for row in made(out.width if out.is_terminal else PIPE_WIDTH):
        if out.is_terminal:
            out.print(text(row), soft_wrap=True)
        else:
            out.file.write(text_of(row).rstrip() + "\n")


def text(row: Line) -> Text:
    """A line as rich's text."""
    found = Text(no_wrap=True, end="")
    for span in row:
        found.append(span.text, Style.parse(COLOURS[span.tone]) if span.tone in COLOURS else None)
    return found

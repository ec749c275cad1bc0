"""Lines of marked text, and the signs that say how something is.

A tone is a meaning; what colour it has is the widget's business. Every state has a sign and a
word of its own, so that nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from agents.faces.sheets import Cell, Sheet, printable
from agents.views import PeerView

# From the palette of Okabe and Ito (2008), which stays apart for the common kinds of colour
# blindness; every pair also differs in lightness.
COLOURS = {
    "good": "#56b4e9",
    "busy": "#009e73",
    "warn": "#e69f00",
    "bad": "bold #ff7fc4",
    "dim": "#8a8a8a",
    "head": "bold",
    "name": "bold #f0e442",
    "n0": "#56b4e9",
    "n1": "#e69f00",
    "n2": "#2fc79a",
    "n3": "#ff7fc4",
    "n4": "#f0e442",
    "n5": "#c3ccd3",
}
STATES = {
    "alive": ("●", "good"),
    "busy": ("◆", "busy"),
    "unwell": ("!", "warn"),
    "draining": ("‖", "dim"),
    "suspect": ("◐", "warn"),
    "dead": ("✗", "bad"),
    "departed": ("○", "dim"),
}
# Whose words are whose: by the order in which nodes come into an answer.
NODE_TONES = ("n0", "n1", "n2", "n3", "n4", "n5")
STEPS = {
    "waiting": ("·", "dim"),
    "running": ("▶", "busy"),
    "ok": ("✓", "good"),
    "failed": ("✗", "bad"),
    "skipped": ("○", "dim"),
}
BLOCKS = "▁▂▃▄▅▆▇█"


class Span(NamedTuple):
    """A piece of text and its tone."""

    text: str
    tone: str = ""


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    """One line of pieces; what a peer said is made printable."""
    spans = (part if isinstance(part, Span) else Span(part) for part in parts)
    return tuple(Span(clean(span.text), span.tone) for span in spans if span.text)


@lru_cache(4096)
def clean(text: str) -> str:
    """The text without what a terminal would obey."""
    return text if text.isascii() and text.isprintable() else printable(text)


def text_of(row: Line) -> str:
    """A line without its marks."""
    return "".join(span.text for span in row)


def width_of(row: Line) -> int:
    """Columns that a line takes."""
    return sum(cell_len(span.text) for span in row)


def fitted(row: Line, width: int) -> Line:
    """The line, cut at ``width`` columns; an ellipsis stands where something was cut."""
    if width_of(row) <= width:
        return row
    kept: list[Span] = []
    left = max(0, width - 1)
    for span in row:
        size = cell_len(span.text)
        if size > left:
            kept.append(Span(set_cell_size(span.text, left).rstrip() + "…", span.tone))
            break
        kept.append(span)
        left -= size
    return tuple(kept)


def padded(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly ``width`` columns; cut with an ellipsis when it is longer."""
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, max(0, width - 1)) + "…" if width > 0 else ""
    gap = " " * (width - size)
    return gap + text if right else text + gap


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most ``width`` columns, broken at spaces where there are any."""
    found: list[str] = []
    for paragraph in printable(text, lines=True).expandtabs(4).split("\n"):
        rest = paragraph.rstrip()
        while cell_len(rest) > width > 0:
            head = _prefix(rest, width)
            cut = head.rfind(" ")
            if cut <= 0:
                cut = len(head)
            found.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        found.append(rest)
    return found


def _prefix(text: str, width: int) -> str:
    taken = columns = 0
    for char in text:
        columns += cell_len(char)
        if columns > width:
            break
        taken += 1
    return text[: max(1, taken)]


def state_of(peer: PeerView) -> str:
    """How a node is, in one word: a key of :data:`STATES`."""
    if peer.state != "alive":
        return peer.state if peer.state in STATES else "suspect"
    if not peer.healthy:
        return "unwell"
    if peer.draining:
        return "draining"
    return "busy" if peer.inflight or peer.queued else "alive"


def state_span(peer: PeerView) -> Span:
    """Sign and word of a node's state."""
    word = state_of(peer)
    sign, tone = STATES[word]
    return Span(f"{sign} {word}", tone)


def step_span(status: str) -> Span:
    """The sign of a step's status."""
    sign, tone = STEPS.get(status, ("?", "warn"))
    return Span(sign, tone)


def spark(values: Sequence[float], width: int) -> str:
    """The latest values as blocks between the least and the greatest of them."""
    shown = list(values)[-width:] if width > 0 else []
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        return BLOCKS[0] * len(shown)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((value - low) / (high - low) * top)] for value in shown)


def bar(share: float, width: int) -> str:
    """A share of 0 to 1 as a bar; what is above 1 fills it."""
    full = round(min(1.0, max(0.0, share)) * width)
    return "█" * full + "░" * (width - full)


def number(value: float, digits: int = 0) -> str:
    """A measured number, or a dash where there is none."""
    return f"{value:.{digits}f}" if value > 0 else "-"


def seconds(value: float) -> str:
    """A span of time for people."""
    if value < 0:
        return "-"
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.0f} h"


def squeezed(text: str, width: int) -> str:
    """The text in exactly ``width`` columns; a last word (a model's quantization) is kept when
    it is cut."""
    head, _, last = text.rpartition(" ")
    room = width - cell_len(last) - 1
    if cell_len(text) <= width or not head or room < 2:
        return padded(text, width)
    return f"{padded(head, room)} {last}"


def columns(
    sheet: Sheet, width: int, flexible: int = 0, *, tail: bool = False
) -> tuple[Line, list[Line]]:
    """A sheet as a heading and lines of at most ``width`` columns.

    The column ``flexible`` is the one that is narrowed first, with ``tail`` so that the last
    word of its cells stays; when even that will not do, the last columns are left out.
    """
    table = [[_cell(cell) for cell in row] for row in sheet.rows]
    sizes = [
        max([cell_len(header), *(cell_len(row[i].text) for row in table)])
        for i, header in enumerate(sheet.headers)
    ]
    count = len(sizes)
    least = min(12, sizes[flexible]) if sizes else 0
    while count > 1 and sum(sizes[:count]) + 2 * (count - 1) > width:
        over = sum(sizes[:count]) + 2 * (count - 1) - width
        if flexible < count and sizes[flexible] > least:
            sizes[flexible] = max(least, sizes[flexible] - over)
        else:
            count -= 1
    rights = [header in sheet.right for header in sheet.headers]

    def laid(cells: Iterable[Cell]) -> Line:
        spans: list[Span] = []
        for i, cell in zip(range(count), cells, strict=False):
            gap = "  " if i < count - 1 else ""
            if tail and i == flexible:
                text = squeezed(cell.text, sizes[i])
            else:
                text = padded(cell.text, sizes[i], right=rights[i])
            spans.append(Span(text + gap, cell.tone))
        return tuple(spans)

    heading = laid(Cell(header, "head") for header in sheet.headers)
    return fitted(heading, width), [fitted(laid(row), width) for row in table]


def _cell(cell: Cell | str) -> Cell:
    if isinstance(cell, Cell):
        return Cell(clean(cell.text), cell.tone)
    return Cell(clean(cell))

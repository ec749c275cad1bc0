"""The mesh as a picture: the agent in the middle, a spoke to each node; pure.

Nodes stand on an ellipse as long as there is room for their labels, else in a grid of cells. A
spoke is drawn thick while something goes over it, dotted to who is suspect or dead.
"""

from __future__ import annotations

import math
from itertools import groupby

from agents.faces.console.marks import (
    STATES,
    Line,
    Span,
    bar,
    clean,
    line,
    number,
    padded,
    squeezed,
    state_of,
)
from agents.faces.console.world import World
from agents.views import PeerView

LABEL = 21  # columns of a node's box
ROWS = 3  # of a node's box
MAX_ROUND = 8  # nodes on the ellipse; more would lie over one another on 80 by 24
CELL = 19  # columns of a node in the grid
_SPOKES = {"lit": ("━", "busy"), "alive": ("·", "dim"), "far": (" ", "dim")}


class Canvas:
    """A grid of characters with tones; what lies outside is not drawn."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells: list[list[tuple[str, str]]] = [
            [(" ", "")] * width for _ in range(max(0, height))
        ]

    def put(self, x: int, y: int, text: str, tone: str = "") -> None:
        """Write a text, one column a character."""
        if not 0 <= y < self.height:
            return
        for offset, char in enumerate(text):
            if 0 <= x + offset < self.width:
                self._cells[y][x + offset] = (char, tone)

    def spoke(self, ends: tuple[float, float, float, float], char: str, tone: str) -> None:
        """A straight line, without its two ends."""
        x0, y0, x1, y1 = ends
        steps = int(max(abs(x1 - x0), abs(y1 - y0) * 2))
        for step in range(1, steps):
            share = step / steps
            self.put(round(x0 + (x1 - x0) * share), round(y0 + (y1 - y0) * share), char, tone)

    def lines(self) -> list[Line]:
        """The rows, equal tones joined."""
        return [
            tuple(
                Span("".join(char for char, _ in run), tone)
                for tone, run in groupby(row, key=lambda cell: cell[1])
            )
            for row in self._cells
        ]


def picture(world: World, width: int, height: int) -> list[Line]:
    """The mesh on ``width`` by ``height`` characters, with a legend in the last line."""
    peers = world.ordered
    if not peers:
        return [line(Span("waiting for the agent's first word ...", "dim"))]
    room = height - 1
    others = [peer for peer in peers if not peer.me]
    round_ = len(others) <= MAX_ROUND and room >= 12 and width >= 60
    body = _round(world, others, width, room) if round_ else _grid(world, peers, width, room)
    return [*body, legend(world)]


def legend(world: World) -> Line:
    """What the signs mean, and how many nodes have each."""
    counted: dict[str, int] = {}
    for peer in world.peers.values():
        word = state_of(peer)
        counted[word] = counted.get(word, 0) + 1
    spans: list[str | Span] = []
    for word, (sign, tone) in STATES.items():
        if word == "draining" and word not in counted:
            continue  # seldom, and 80 columns hold no more
        count = f" {counted[word]}" if word in counted else ""
        spans.append(Span(f"{sign} {word}{count}  ", tone if count else "dim"))
    return line(*spans, Span("━ in use", "busy"))


def _round(world: World, others: list[PeerView], width: int, height: int) -> list[Line]:
    canvas = Canvas(width, height)
    middle_x, middle_y = width // 2, height // 2
    radius_x, radius_y = (width - LABEL) / 2 - 1, (height - ROWS) / 2
    places = []
    for index, peer in enumerate(others):
        angle = 2 * math.pi * index / max(1, len(others)) - math.pi / 2
        if len(others) <= 3:
            angle += math.pi / 2  # two nodes lie left and right, where there is room
        x = middle_x + radius_x * math.cos(angle)
        y = middle_y + radius_y * math.sin(angle)
        places.append((peer, round(x), round(y)))
    for peer, x, y in places:
        char, tone = _spoke(world, peer)
        canvas.spoke((middle_x, middle_y, x, y), char, tone)
    for peer, x, y in places:
        _box(canvas, world, peer, x, y)
    me = next((peer for peer in world.peers.values() if peer.me), None)
    if me is not None:
        _box(canvas, world, me, middle_x, middle_y)
    return canvas.lines()


def _spoke(world: World, peer: PeerView) -> tuple[str, str]:
    if peer.state in {"dead", "departed"}:
        return _SPOKES["far"]
    if peer.state == "suspect":
        return ("?", "warn")
    return _SPOKES["lit" if world.lit(peer.name) else "alive"]


def _box(canvas: Canvas, world: World, peer: PeerView, x: int, y: int) -> None:
    """Name and state, what it runs, how busy it is."""
    word = state_of(peer)
    sign, tone = STATES[word]
    left, top = x - LABEL // 2, max(0, min(canvas.height - ROWS, y - 1))
    left = max(0, min(canvas.width - LABEL, left))
    for row in range(ROWS):
        canvas.put(left, top + row, " " * LABEL)
    name = clean(peer.name) + (" (me)" if peer.me else "")
    canvas.put(left, top, sign, tone)
    canvas.put(left + 2, top, padded(name, LABEL - 2), "head")
    what = next(iter([*peer.models, *peer.names, peer.device]), "")
    canvas.put(left + 2, top + 1, squeezed(clean(what), LABEL - 2), "dim")
    canvas.put(left + 2, top + 2, padded(_load(world, peer, word), LABEL - 2), tone)


def _load(world: World, peer: PeerView, word: str) -> str:
    if peer.state != "alive":
        return word
    if not peer.slots:
        return clean(peer.note) or ("in use" if world.lit(peer.name) else word)
    full = bar(peer.inflight / peer.slots, 4)
    queue = f"+{peer.queued}" if peer.queued else ""
    return f"{full} {peer.inflight}/{peer.slots}{queue} {number(peer.tokens_per_s)}/s"


def _grid(world: World, peers: list[PeerView], width: int, height: int) -> list[Line]:
    across = max(1, width // CELL)
    shown = peers[: across * max(1, height - 1)]
    rows: list[Line] = []
    for start in range(0, len(shown), across):
        spans: list[str | Span] = []
        for peer in shown[start : start + across]:
            word = state_of(peer)
            sign, tone = STATES[word]
            lit = world.lit(peer.name)
            load = f"{peer.inflight}/{peer.slots}" if peer.slots else "-"
            if peer.queued:
                load += f"+{peer.queued}"
            spans.append(Span(("━" if lit else " ") + sign + " ", "busy" if lit else tone))
            name = padded(clean(peer.name), 9)
            spans.append(Span(name, "head" if peer.me else ""))
            spans.append(Span(" " + padded(load, CELL - 13), tone))
        rows.append(line(*spans))
    if len(peers) > len(shown):
        rows.append(line(Span(f"and {len(peers) - len(shown)} more: key 2 lists all", "dim")))
    return rows

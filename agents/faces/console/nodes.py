"""The table of nodes, the names, the node in full; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from agents.faces.console.marks import (
    Line,
    Span,
    columns,
    line,
    number,
    seconds,
    state_of,
    state_span,
    wrapped,
)
from agents.faces.console.world import World
from agents.faces.sheets import Cell, Sheet
from agents.views import NameView, PeerView


class Row(NamedTuple):
    """A line that can be chosen; ``key`` says what it stands for, empty for none."""

    key: str
    line: Line


class Body(NamedTuple):
    """A view: lines that stand still, and rows that scroll under them."""

    head: list[Line]
    rows: list[Row]


class Column(NamedTuple):
    """One column of the table: what it shows and what it is sorted by. ``down``: the greatest
    first."""

    name: str
    shown: Callable[[PeerView, World], Cell | str]
    key: Callable[[PeerView, World], float | str]
    down: bool = False
    right: bool = False


_NONE = Cell("-", "dim")
_ORDER = {"busy": 0, "alive": 1, "unwell": 2, "draining": 3, "suspect": 4, "dead": 5, "departed": 6}


def _best(peer: PeerView, world: World) -> float:
    return world.best.get(peer.node, 0.0)


def _state(peer: PeerView, _: World) -> Cell:
    return Cell(*state_span(peer))


def _hot(peer: PeerView, _: World) -> Cell | str:
    return "-" if peer.temperature_c == 0 else f"{peer.temperature_c:.0f}"


def _battery(peer: PeerView, _: World) -> Cell | str:
    if peer.battery < 0:
        return "-"
    return Cell(f"{peer.battery:.0%}", "warn" if peer.battery < LOW_BATTERY else "")


def _trip(peer: PeerView, _: World) -> str:
    if peer.me:
        return "0"
    return "-" if peer.round_trip_ms < 0 else f"{peer.round_trip_ms:.3g}"


LOW_BATTERY = 0.3  # from here on the scheduler counts it against a node
COLUMNS = (
    Column(
        "NODE",
        lambda p, w: Cell(f"{p.name} (me)" if p.me else p.name, "head" if p.me else ""),
        lambda p, w: p.name,
    ),
    Column("STATE", _state, lambda p, w: _ORDER[state_of(p)]),
    Column(
        "BUSY",
        lambda p, w: f"{p.inflight}/{p.slots}" if p.slots else "-",
        lambda p, w: p.inflight / p.slots if p.slots else -1.0,
        down=True,
        right=True,
    ),
    Column(
        "QUEUE",
        lambda p, w: str(p.queued) if p.slots else "-",
        lambda p, w: p.queued,
        down=True,
        right=True,
    ),
    Column(
        "TOK/S",
        lambda p, w: number(p.tokens_per_s, 0 if p.tokens_per_s >= 100 else 1),
        lambda p, w: p.tokens_per_s,
        down=True,
        right=True,
    ),
    Column(
        "BEST",
        lambda p, w: number(_best(p, w), 0 if _best(p, w) >= 100 else 1),
        _best,
        down=True,
        right=True,
    ),
    Column("RTT MS", _trip, lambda p, w: p.round_trip_ms, right=True),
    Column("°C", _hot, lambda p, w: p.temperature_c, down=True, right=True),
    Column("BATT", _battery, lambda p, w: p.battery, right=True),
    Column(
        "MODELS",
        lambda p, w: ", ".join(p.models) or _NONE,
        lambda p, w: ", ".join(p.models),
    ),
    Column("DEVICE", lambda p, w: p.device or "-", lambda p, w: p.device),
    Column("NOTE", lambda p, w: p.note, lambda p, w: p.note),
)
_RIGHT = frozenset(column.name for column in COLUMNS if column.right)


def chosen(world: World, wanted: str, sort: int = 0, *, back: bool = False) -> list[PeerView]:
    """The nodes that fit a filter, in the order of a column; ``back`` turns the order round."""
    column = COLUMNS[sort % len(COLUMNS)]
    found = [peer for peer in world.ordered if _fits(peer, wanted)]
    if sort % len(COLUMNS) == 0 and not back:
        return found  # the agent itself first, then by name
    found.sort(key=lambda peer: peer.name)
    found.sort(key=lambda peer: column.key(peer, world), reverse=column.down != back)
    return found


def _fits(peer: PeerView, wanted: str) -> bool:
    """Every word of the filter stands somewhere in what is known of the node."""
    words = wanted.lower().split()
    if not words:
        return True
    known = [peer.name, state_of(peer), peer.state, peer.device, peer.note, peer.reach, peer.node]
    text = " ".join([*known, *peer.names, *peer.models, *peer.groups]).lower()
    return all(word in text for word in words)


def nodes_body(
    world: World, width: int, wanted: str = "", sort: int = 0, *, back: bool = False
) -> Body:
    """The table of nodes."""
    peers = chosen(world, wanted, sort, back=back)
    table = [
        (i, column, [column.shown(peer, world) for peer in peers])
        for i, column in enumerate(COLUMNS)
    ]
    # What no node says anything of leaves its room to the others.
    table = [one for one in table if one[0] in {0, sort} or set(one[2]) - {"-", "", _NONE}]
    marked = [
        column.name + (("▼" if column.down != back else "▲") if i == sort else "")
        for i, column, _ in table
    ]
    rows: list[tuple[Cell | str, ...]] = [
        tuple(shown[number] for _, _, shown in table) for number in range(len(peers))
    ]
    right = frozenset(m for m, (_, c, _) in zip(marked, table, strict=True) if c.right)
    flexible = next((k for k, (_, c, _) in enumerate(table) if c.name == "MODELS"), 0)
    heading, lines = columns(Sheet(tuple(marked), rows, right), width, flexible, tail=True)
    return Body(
        [heading],
        [Row(peer.name, text) for peer, text in zip(peers, lines, strict=True)]
        or [Row("", line(Span("no node fits the filter", "dim")))],
    )


def nodes_sheet(world: World, peers: Iterable[PeerView]) -> Sheet:
    """The table without a terminal: whole cells, no marks."""
    rows: list[tuple[Cell | str, ...]] = [
        tuple(column.shown(peer, world) for column in COLUMNS) for peer in peers
    ]
    return Sheet(tuple(column.name for column in COLUMNS), rows, _RIGHT)


def node_lines(peer: PeerView, world: World, width: int) -> list[Line]:
    """Everything that is known of one node."""
    facts: list[tuple[str, str | Span]] = [
        ("state", state_span(peer)),
        ("node", peer.node),
        ("groups", ", ".join(peer.groups) or "-"),
        ("device", peer.device or "-"),
        ("software", peer.software or "-"),
        ("models", ", ".join(peer.models) or "-"),
        ("names", ", ".join(peer.names) or "-"),
        ("slots", f"{peer.inflight} of {peer.slots} busy, {peer.queued} wait"),
        (
            "tokens/s",
            f"{number(peer.tokens_per_s, 1)} now, {number(_best(peer, world), 1)} at best",
        ),
        ("temperature", f"{peer.temperature_c:.0f} °C" if peer.temperature_c else "-"),
        ("slowed", "yes" if peer.throttled else "-"),
        ("power", f"{peer.power_w:.1f} W" if peer.power_w else "-"),
        ("battery", f"{peer.battery:.0%}" if peer.battery >= 0 else "-"),
        ("round trip", f"{_trip(peer, world)} ms"),
        ("heard", "itself" if peer.me else f"{seconds(peer.seen_s)} ago"),
        ("reached", (peer.reach or "-") + f" (dialable: {peer.dialable})"),
        ("note", peer.note or "-"),
    ]
    found: list[Line] = [line(Span(peer.name, "name"))]
    for key, value in facts:
        if isinstance(value, Span):
            found.append(line(Span(f"  {key:<12}", "dim"), value))
            continue
        for number_, part in enumerate(wrapped(value, max(8, width - 14))):
            found.append(line(Span(f"  {'' if number_ else key:<12}", "dim"), part))
    return found


def names_body(names: Iterable[NameView], width: int, wanted: str = "") -> Body:
    """The names, and who serves them."""
    words = wanted.lower().split()
    shown = [
        name
        for name in names
        if all(
            word
            in " ".join(
                [name.name, name.domain, name.description, *(e.name for e in name.endpoints)]
            ).lower()
            for word in words
        )
    ]
    heading, lines = columns(
        Sheet(("NAME", "SERVED BY", "KIND", "WHAT IT IS"), [_name(name) for name in shown]),
        width,
        3,
    )
    rows = [Row(name.name, text) for name, text in zip(shown, lines, strict=True)]
    return Body([heading], rows or [Row("", line(Span("no such name is offered", "dim")))])


def _name(name: NameView) -> tuple[Cell | str, ...]:
    served = []
    for endpoint in name.endpoints:
        text = endpoint.name if endpoint.state == "alive" else f"{endpoint.name} ({endpoint.state})"
        if endpoint.accuracy > 0:
            text += f" {endpoint.accuracy:.1%}"
        served.append(text)
    return (
        Cell(name.name, "name"),
        ", ".join(served) or Cell("nobody", "warn"),
        name.kind,
        name.description,
    )

"""Data streams and the agent's own series as sparklines; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agents.faces.console.marks import Span, line, padded, spark
from agents.faces.console.nodes import Body, Row
from agents.faces.console.world import World
from agents.views import NameView

LABEL = 34
VALUE = 12


def data_names(names: Iterable[NameView]) -> list[str]:
    """The names that can be subscribed to."""
    return [name.name for name in names if name.kind == "subscribe"]


def streams_body(
    world: World, width: int, wanted: str = "", states: Mapping[str, str] | None = None
) -> Body:
    """A line a series: its name, its latest value, its way so far. Under ``states`` stands what
    each subscription is doing; a name without one can be subscribed to."""
    rows: list[Row] = []
    states = states or {}
    label = min(LABEL, max(12, width // 2 - VALUE))
    room = max(8, width - label - VALUE - 2)
    for name in data_names(world.names):
        if wanted.lower() not in name.lower():
            continue
        state = states.get(name, "not subscribed: press enter")
        rows.append(Row(name, line(Span(name, "name"), Span(f"  {state}", "dim"))))
        rows += [
            Row("", _series(f"  {key.removeprefix(name + ' ')}", values, label, room))
            for key, values in world.series.items()
            if key.startswith(name + " ")
        ]
    own = [
        Row("", _series(f"  {key}", values, label, room))
        for key, values in world.series.items()
        if not key.startswith("data.gpt/") and wanted.lower() in key.lower()
    ]
    if not rows:
        rows.append(Row("", line(Span("nobody offers data to subscribe to", "dim"))))
    if own:
        rows += [Row("", line()), Row("", line(Span("THIS AGENT", "head"))), *own]
    heading = padded("SERIES", label) + padded("LATEST", VALUE, right=True) + "  SO FAR"
    return Body([line(Span(heading, "head"))], rows)


def _series(label: str, values: Iterable[float], width: int, room: int) -> tuple[Span, ...]:
    shown = list(values)
    latest = f"{shown[-1]:.6g}" if shown else "-"
    return line(
        Span(padded(label, width)),
        Span(padded(latest, VALUE, right=True) + "  ", "head"),
        Span(spark(shown, room), "good"),
    )

"""What the cloud may cost and has cost, and when the mesh climbed the ladder; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from agents.budget.view import BudgetView
from agents.faces.cli.budget import sheets
from agents.faces.console.marks import Line, Span, bar, columns, line, spark, wrapped
from agents.faces.console.nodes import Body, Row

BAR = 20
SHOWN = 40  # escalations


def money_body(
    found: dict[str, Any] | None, escalations: Iterable[dict[str, Any]], width: int, why: str = ""
) -> Body:
    """The budget (``why`` says why there is none), then the rungs that were taken."""
    lines: list[Line] = []
    if found is None:
        text = why or "asking the agent for its budget ..."
        lines += [line(Span(part, "dim")) for part in wrapped(text, width)]
    else:
        lines += _budget(msgspec.convert(found, BudgetView), width)
        cloud = found.get("cloud")
        if isinstance(cloud, dict):
            lines += _cloud(cloud, width)
    lines += [line(), line(Span("ESCALATIONS seen by this console", "head"))]
    count = 0
    for one in escalations:
        count += 1
        if count > SHOWN:
            break
        rung = str(one.get("rule", "")).removeprefix("escalation.")
        tone = "warn" if rung in {"cloud", "none"} else "good"
        lines.append(line(Span(f"  {rung:<12}", tone), str(one.get("action", ""))))
    if not count:
        lines.append(line(Span("  none yet: they show as questions are asked", "dim")))
    return Body([], [Row("", one) for one in lines])


def _budget(view: BudgetView, width: int) -> list[Line]:
    lines: list[Line] = []
    for window in view.windows:
        if window.limit is None or window.limit <= 0:
            continue
        used = 1 - (window.left or 0.0) / window.limit
        tone = "bad" if used >= 1 else ("warn" if used >= 0.8 else "good")
        scope = "this node" if window.scope == "*" else window.scope
        lines.append(
            line(
                Span(f"{bar(used, BAR)} {used:4.0%} ", tone),
                f"{window.left:.4f} {view.currency} left of {window.limit:.4f}"
                f" in any {window.window}, {scope}",
            )
        )
    if len(view.days) > 1:
        spent = [day.spent for day in reversed(view.days)]
        lines.append(line("spent a day ", Span(spark(spent, 40), "good")))
    for sheet in sheets(view):
        heading, rows = columns(sheet, width)
        lines += [line(), heading, *rows]
    if not view.days:
        lines.append(line(Span("nothing was spent in these days", "dim")))
    return lines


def _cloud(cloud: dict[str, Any], width: int) -> list[Line]:
    """What the desk says of itself, one fact a line."""
    lines = [line(), line(Span("CLOUD", "head"))]
    for key, value in cloud.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for number, part in enumerate(wrapped(text, max(16, width - 20))):
            lines.append(line(Span(f"  {'' if number else key:<18}", "dim"), part))
    return lines

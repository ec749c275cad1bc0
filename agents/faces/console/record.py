"""Requests that the agent remembers: the list, one of them in full, its replay; pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from agents.faces.console.marks import Line, Span, bar, columns, line, seconds, wrapped
from agents.faces.console.nodes import Body, Row
from agents.faces.console.route import turn_lines, turn_of
from agents.faces.sheets import Cell, Sheet

SCALE = 24  # columns of a span's bar
MAX_RULE = 28  # columns of the name of a rule


def traces_body(traces: Iterable[dict[str, Any]], width: int, wanted: str = "") -> Body:
    """The latest requests, the newest first."""
    words = wanted.lower().split()
    shown = [
        one
        for one in traces
        if all(
            word in f"{one.get('question')} {one.get('trace')} {one.get('error')}".lower()
            for word in words
        )
    ]
    heading, lines = columns(traces_sheet(shown), width, 4)
    rows = [Row(str(one.get("trace") or ""), text) for one, text in zip(shown, lines, strict=True)]
    return Body([heading], rows or [Row("", line(Span("no request yet: key 4 asks", "dim")))])


def _words(one: dict[str, Any]) -> str:
    return f"{one.get('question')} {one.get('trace')} {one.get('error')}".lower()


def traces_sheet(traces: Iterable[dict[str, Any]]) -> Sheet:
    """The list as a table."""
    rows: list[tuple[Cell | str, ...]] = []
    for one in traces:
        took, error = float(one.get("elapsed_s") or 0.0), str(one.get("error") or "")
        if error:
            state = Cell(f"✗ {error}", "bad")
        else:
            state = Cell("▶ running", "busy") if took < 0 else Cell("✓ ok", "good")
        rows.append(
            (
                str(one.get("trace") or "")[:8],
                _clock(one.get("at")),
                state,
                seconds(took),
                str(one.get("question") or ""),
            )
        )
    return Sheet(("TRACE", "AT", "STATE", "TOOK", "QUESTION"), rows, frozenset({"TOOK"}))


def trace_lines(record: dict[str, Any], width: int, until_s: float | None = None) -> list[Line]:
    """One request: its turn as it stood after ``until_s``, and when it is over its spans and
    decisions."""
    found = [line(Span(f"trace {record.get('trace', '')}", "dim"))]
    whole = float(record.get("elapsed_s") or 0.0)
    if until_s is not None and until_s < whole:
        share = until_s / whole if whole > 0 else 1.0
        text = f"{bar(share, SCALE)} {until_s:.2f} of {whole:.2f} s"
        found.append(line(Span("▶ ", "busy"), text))
        return found + turn_lines(turn_of(record, until_s), width)
    if record.get("question"):
        found += turn_lines(turn_of(record), width)
    found += span_lines(record.get("spans") or [], width)
    answer = record.get("answer")
    if isinstance(answer, dict):
        found += decision_lines(answer.get("decisions") or [], width)
    return found


def span_lines(spans: list[dict[str, Any]], width: int) -> list[Line]:
    """Where the time went: a bar a span on one scale. Spans of other nodes are theirs to show."""
    if not spans:
        return []
    first = min(float(span.get("at") or 0.0) for span in spans)
    last = max(float(span.get("at") or 0.0) + float(span.get("elapsed_s") or 0.0) for span in spans)
    whole = max(last - first, 1e-9)
    found = [line(), line(Span("SPANS at this node", "head"))]
    for span in spans:
        took = float(span.get("elapsed_s") or 0.0)
        before = int((float(span.get("at") or 0.0) - first) / whole * SCALE)
        long = min(max(1, round(took / whole * SCALE)), SCALE - min(before, SCALE - 1))
        drawn = (" " * before + "█" * long).ljust(SCALE)[:SCALE]
        outcome = str(span.get("outcome") or "ok")
        what = f"{span.get('kind', '')} {span.get('name', '')}"
        where = f" > {span['node']}" if span.get("node") else ""
        tokens = f", {span['output_tokens']} tokens" if span.get("output_tokens") else ""
        found.append(
            line(
                Span(f"  {drawn} ", "good" if outcome == "ok" else "bad"),
                Span(f"{took:7.3f} s ", "dim"),
                f"{what}{where}",
                Span(tokens + ("" if outcome == "ok" else f"  ✗ {outcome}"), "dim"),
            )
        )
    return found


def decision_lines(decisions: Iterable[dict[str, Any]], width: int) -> list[Line]:
    """Why it went as it went: rule, score against threshold, what was done."""
    found: list[Line] = []
    decisions = list(decisions)
    longest = max((len(str(one.get("rule") or "")) for one in decisions), default=0)
    rules = min(max(20, longest), MAX_RULE)
    for one in decisions:
        if not found:
            found = [line(), line(Span("DECISIONS", "head"))]
        score, threshold = one.get("score") or 0.0, one.get("threshold") or 0.0
        scored = f"{score:.3g}/{threshold:.3g}" if score or threshold else ""
        left = f"  {float(one.get('at_s') or 0.0):6.3f} "
        step = f"[{one['step']}]" if one.get("step") else "   "
        rule = str(one.get("rule") or "")
        head = f"{left}{step} {rule[:rules]:<{rules}} {scored:>9} "
        parts = wrapped(str(one.get("action") or ""), max(16, width - len(head)))
        found.append(line(Span(head, "dim"), parts[0]))
        found += [line(" " * len(head), part) for part in parts[1:]]
    return found


def _clock(at: Any) -> str:
    if not isinstance(at, int | float):
        return "-"
    return datetime.datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")

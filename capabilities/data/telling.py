"""The latest of a feed in words, for who asks instead of following. Pure.

A figure stands behind "=", where a plan finds it for the step that waits for it. Of several
readings those that the question names are told, and all of them where it names none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from capabilities.data.messages import Embedding, Quantity, Summary, Update, View
from capabilities.data.titles import title

MAX_KEYS = 8  # told in one answer; who wants all of them follows the feed
MAX_READINGS = 8
_WORD = re.compile(r"[a-z0-9]+")


def told(updates: Iterable[Update], question: str, now: float) -> str:
    """What the latest updates of a feed say at wall time ``now``; empty when there is nothing."""
    latest = sorted((u for u in updates if u.value is not None), key=lambda u: u.at, reverse=True)
    lines = [_line(update, question, now) for update in latest[:MAX_KEYS]]
    if len(latest) > MAX_KEYS:
        lines.append(f"{len(latest) - MAX_KEYS} more are not told here.")
    return " ".join(line for line in lines if line)


def _line(update: Update, question: str, now: float) -> str:
    value = update.value
    if isinstance(value, Summary):
        return f"{value.text} ({_ago(now - value.at)})"
    if isinstance(value, View):
        return _view(value, question)
    if value is None or isinstance(value, Embedding):
        return ""  # a vector says nothing to a reader
    names = _asked(sorted(value.values), question)
    figures = ", ".join(f"{title(name)} = {value.values[name]:g}" for name in names)
    about = f"{update.key}: " if update.key else ""
    return f"{about}{figures} ({_ago(now - value.at)})."


def _view(view: View, question: str) -> str:
    names = _asked(sorted(view.quantities), question)
    lines = [_quantity(name, view.quantities[name]) for name in names]
    # Of what was asked: a thermometer that lies says nothing about the air.
    said = [s for name in names for s in view.quantities[name].stations]
    lying = sorted({s.station for s in said if s.state == "outlying"})
    silent = sorted({s.station for s in said if s.state == "stale"})
    if lying:
        lines.append(f"Not counted, far from the others: {', '.join(lying)}.")
    if silent:
        lines.append(f"Silent: {', '.join(silent)}.")
    return " ".join(lines)


def _quantity(name: str, quantity: Quantity) -> str:
    voices = [s.station for s in quantity.stations if s.state == "ok"]
    if not quantity.nodes:
        return f"No station tells {title(name)} now."
    doubt = ", and they contradict each other" if quantity.undecided else ""
    by = f", by {', '.join(voices)}" if voices else ""
    return f"{title(name)} = {quantity.value:g}, {quantity.trend}{by}{doubt}."


def _asked(names: Sequence[str], question: str) -> list[str]:
    # "PM2.5" is written pm25 in the name of a reading.
    words = set(_WORD.findall(question.lower().replace(".", "")))
    wanted = [name for name in names if words & (set(name.split("_")) - _UNITS)]
    return list(wanted or names)[:MAX_READINGS]


_UNITS = {"ug", "m3", "c", "s", "m", "mm", "h", "per", "low", "high", "share", "mph"}


def _ago(age_s: float) -> str:
    if age_s < 90:
        return f"{max(0.0, age_s):.0f} s ago"
    return f"{age_s / 60:.0f} min ago" if age_s < 5400 else f"{age_s / 3600:.0f} h ago"

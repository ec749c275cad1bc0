"""What an agent says of itself, in words for people; ``--json`` has all of it as it is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from agents.faces.console.marks import seconds

HOUR_S, DAY_S = 3600.0, 86400.0
# In words below, or of use to programs alone.
TOLD = frozenset(
    {
        "node",
        "name",
        "mesh",
        "groups",
        "seed",
        "certificate_ends_in_s",
        "certified_by",
        "revoked",
        "clock",
        "clock_behind_s",
        "endpoints",
        "dialable",
        "reach",
        "http",
        "http_fingerprint",
        "uptime_s",
        "version",
        "ready",
        "troubles",
        "counters",
        "bytes_in",
        "bytes_out",
        "drained",
    }
)


def statement(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of a word and what there is to say; what goes without saying is left out."""
    ready = "ready" if status.get("ready") else "still loading its models"
    lines = [
        ("agent", f"{status.get('name')} in {status.get('mesh')}, {ready}, up {_age(status)}"),
        ("drained", _drained(str(status.get("drained") or ""))),
        *(("trouble", str(trouble)) for trouble in status.get("troubles") or ()),
        ("version", str(status.get("version") or "")),
        ("groups", ", ".join(map(str, status.get("groups") or ()))),
        ("id", str(status.get("node") or "")),
        ("certificate", _certificate(status)),
        ("revoked", _revoked(int(status.get("revoked") or 0))),
        ("clock", _clock(status)),
        ("reachable", _joined(": ", status.get("dialable"), status.get("reach"))),
        ("traffic", _traffic(status)),
        ("web, OpenAI", str(status.get("http") or "")),
        ("fingerprint", str(status.get("http_fingerprint") or "")),
        ("seed", str(status.get("seed") or "")),
    ]
    lines += [(key, _plainly(value)) for key, value in status.items() if key not in TOLD]
    counted = ", ".join(f"{key} {value}" for key, value in (status.get("counters") or {}).items())
    return [(word, said) for word, said in [*lines, ("counted", counted)] if said]


def lines_of(pairs: list[tuple[str, str]], width: int) -> list[str]:
    """The pairs as lines of at most ``width`` columns, what is in sight of one word below another;
    a word that is longer, such as a seed that people copy, is never broken."""
    margin = max(len(word) for word, _ in pairs) + 2
    return [
        line
        for word, said in pairs
        for line in textwrap.wrap(
            word.ljust(margin) + said,
            width,
            subsequent_indent=" " * margin,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def _age(status: Mapping[str, Any]) -> str:
    return seconds(float(status.get("uptime_s") or 0.0))


def _drained(why: str) -> str:
    return f"{why}; gossamer resume takes work again" if why else ""


def _certificate(status: Mapping[str, Any]) -> str:
    left_s = status.get("certificate_ends_in_s")
    if not isinstance(left_s, int | float):
        return ""
    left = f"{left_s / DAY_S:.0f} days" if left_s >= 2 * DAY_S else f"{left_s / HOUR_S:.1f} hours"
    by = str(status.get("certified_by") or "")
    ends = f"ends in {left}" if left_s > 0 else "has ended"
    return f"{ends}{f', from {by}' if by else ''}"


def _clock(status: Mapping[str, Any]) -> str:
    behind_s = float(status.get("clock_behind_s") or 0.0)
    late = f", {seconds(abs(behind_s))} {'behind' if behind_s > 0 else 'ahead'}" if behind_s else ""
    return f"{status.get('clock') or ''}{late}"


def _revoked(count: int) -> str:
    return f"{count} {'node' if count == 1 else 'nodes'}" if count else ""


def _traffic(status: Mapping[str, Any]) -> str:
    from rich.filesize import decimal

    came, went = (int(status.get(key) or 0) for key in ("bytes_in", "bytes_out"))
    return f"{decimal(came)} in, {decimal(went)} out"


def _joined(between: str, *parts: object) -> str:
    return between.join(str(part) for part in parts if part)


def _plainly(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")

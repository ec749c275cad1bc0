"""What an answer took that was made on two machines, as people read it; pure."""

from __future__ import annotations

from capabilities.messages import Halves

MAX_MAKERS = 8  # two exits, the other side, and a few: what a peer says fills no screen
MAX_NAME_CHARS = 24  # of who made a token
_UNITS = ((1_000_000, "MB"), (1_000, "kB"))


def halves_line(halves: Halves) -> str:
    """One line: who said how many tokens, how often the far side was asked, what travelled, and
    since when it was alone."""
    tokens = sum(halves.said_by.values())
    makers = sorted(halves.said_by.items())[:MAX_MAKERS]
    parts = [f"said by {', '.join(f'{by[:MAX_NAME_CHARS]}: {n}' for by, n in makers)}"]
    if not tokens:
        parts = ["said nothing"]
    if halves.asked:
        rate = f" {halves.asked / tokens:.2f} per token" if tokens else f" {halves.asked} times"
        parts.append(f"far asked{rate}")
    if halves.bytes_up or halves.bytes_down:
        parts.append(f"{size(halves.bytes_up)} up, {size(halves.bytes_down)} down")
    parts.append(
        f"{halves.edge_s:.2f} s here, {halves.far_s:.2f} s there, {halves.link_s:.2f} s on the link"
    )
    if halves.degraded:
        parts.append(f"{halves.degraded} said unsure")
    if halves.mode == "alone":
        since = f" from token {halves.alone_from}" if halves.alone_from else ""
        parts.append(f"alone{since}{f': {halves.why}' if halves.why else ''}")
    return "; ".join(parts)


def size(count: int) -> str:
    """Bytes for people; a kilobyte has 1000."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} B"

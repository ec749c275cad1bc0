"""Whether a sum may be spent, and when it may if not now. Pure.

Windows slide: a limit per hour holds for every sixty minutes, not from one full hour to the
next, where twice as much could go within a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

HOUR_S = 3600.0
DAY_S = 86400.0
WINDOWS: dict[str, float] = {"hour": HOUR_S, "day": DAY_S}
ALL = ""  # the scope that every call falls under; the others are groups


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """Nano-units of the currency in any hour and in any day; None for no limit."""

    hour: int | None = None
    day: int | None = None

    def of(self, window: str) -> int | None:
        """The limit of a window."""
        return self.hour if window == "hour" else self.day


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the node, and of groups within it."""

    node: Limit = Limit()
    groups: dict[str, Limit] = {}

    def scopes(self, groups: Iterable[str]) -> tuple[str, ...]:
        """What a call of somebody in these groups is booked to: the node, and each of the
        groups that has a limit."""
        return (ALL, *sorted(set(groups) & self.groups.keys()))

    def limit(self, scope: str, window: str) -> int | None:
        """One limit; None where there is none."""
        found = self.node if scope == ALL else self.groups.get(scope, Limit())
        return found.of(window)


class Booked(msgspec.Struct, frozen=True):
    """A sum that counts until ``leaves`` (wall seconds), when it has left the window or, never
    sent, is given back."""

    nano: int
    leaves: float


class Full(msgspec.Struct, frozen=True, kw_only=True):
    """Why a sum may not be spent now. ``never``: it is larger than the whole limit."""

    scope: str
    window: str
    limit: int
    used: int
    free_in_s: float
    never: bool = False

    def sentence(self) -> str:
        """For people."""
        whose = f"of group {self.scope}" if self.scope else "of this node"
        return (
            f"the cloud budget {whose} for the {self.window} has no room for this for about "
            f"{max(1.0, self.free_in_s):.0f} s"
        )


def first_full(
    limits: Limits,
    scopes: Sequence[str],
    booked: Mapping[tuple[str, str], Sequence[Booked]],
    nano: int,
    now: float,
) -> Full | None:
    """The limit that would be passed by ``nano``, the one that frees up last; None for a yes.

    ``booked`` holds by scope and window what counts now.
    """
    worst: Full | None = None
    for scope in scopes:
        for window, length_s in WINDOWS.items():
            limit = limits.limit(scope, window)
            if limit is None:
                continue
            entries = booked.get((scope, window), ())
            used = sum(entry.nano for entry in entries)
            if used + nano <= limit:
                continue
            free_in_s = _free_in_s(entries, used + nano - limit, now, length_s)
            full = Full(
                scope=scope,
                window=window,
                limit=limit,
                used=used,
                free_in_s=free_in_s,
                never=nano > limit,
            )
            if worst is None or free_in_s > worst.free_in_s:
                worst = full
    return worst


def room(
    limits: Limits, scopes: Sequence[str], booked: Mapping[tuple[str, str], Sequence[Booked]]
) -> int | None:
    """The most that may be spent now; None where nothing is limited."""
    left = [
        limit - sum(entry.nano for entry in booked.get((scope, window), ()))
        for scope in scopes
        for window in WINDOWS
        if (limit := limits.limit(scope, window)) is not None
    ]
    return max(0, min(left)) if left else None


def _free_in_s(entries: Sequence[Booked], surplus: int, now: float, longest_s: float) -> float:
    for entry in sorted(entries, key=lambda e: e.leaves):
        surplus -= entry.nano
        if surplus <= 0:
            return max(0.0, entry.leaves - now)
    return longest_s

"""What people are shown of the budget: spent, reserved, left; by group, by day, by provider."""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec

from agents.budget.limits import ALL, DAY_S, WINDOWS
from agents.budget.store import BudgetStore

STATES = ("reserved", "sent", "settled", "lost")


class WindowView(msgspec.Struct, frozen=True, kw_only=True):
    """One limit now. Amounts are in whole units of the currency; ``limit`` and ``left`` are
    None where there is no limit. ``reserved`` counts calls under way and parts lent to other
    nodes; ``lost`` went out and nobody knows what it cost: it counts in full."""

    scope: str
    window: str
    limit: float | None
    spent: float
    reserved: float
    lost: float
    left: float | None


class DayView(msgspec.Struct, frozen=True, kw_only=True):
    """One day in UTC."""

    day: str
    spent: float
    calls: int
    prompt_tokens: int
    completion_tokens: int


class ProviderView(msgspec.Struct, frozen=True, kw_only=True):
    """One provider over the days shown."""

    provider: str
    model: str
    spent: float
    calls: int
    estimated: int


class LeaseView(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the budget that is lent to another node, or borrowed from one."""

    direction: str
    node: str
    amount: float
    used: float
    ends_in_s: float


class BudgetView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole budget of a node."""

    currency: str
    windows: list[WindowView]
    days: list[DayView]
    providers: list[ProviderView]
    leases: list[LeaseView]


def view(store: BudgetStore, *, days: int, currency: str = "USD") -> BudgetView:
    """The budget now, and the last ``days`` days."""
    now = store.now()
    scopes = [ALL, *sorted(store.limits.groups)]
    first = now - days * DAY_S
    return BudgetView(
        currency=currency,
        windows=[_window(store, scope, name, now) for scope in scopes for name in WINDOWS],
        days=_days(store, first),
        providers=_providers(store, first),
        leases=_leases(store, now),
    )


def _window(store: BudgetStore, scope: str, window: str, now: float) -> WindowView:
    rows = store.read(
        "SELECT c.state, SUM(c.nano) FROM charge c JOIN booked b ON b.charge = c.id"
        " AND b.scope = ? WHERE c.at > ? GROUP BY c.state",
        scope,
        now - WINDOWS[window],
    )
    nano = {str(state): int(str(total)) for state, total in rows}
    limit = store.limits.limit(scope, window)
    used = sum(nano.get(state, 0) for state in STATES)
    return WindowView(
        scope=scope,
        window=window,
        limit=None if limit is None else _units(limit),
        spent=_units(nano.get("settled", 0)),
        reserved=_units(nano.get("reserved", 0) + nano.get("sent", 0)),
        lost=_units(nano.get("lost", 0)),
        left=None if limit is None else _units(max(0, limit - used)),
    )


def _days(store: BudgetStore, first: float) -> list[DayView]:
    rows = store.read(
        "SELECT CAST(at / 86400 AS INTEGER), SUM(nano), COUNT(*), SUM(prompt_tokens),"
        " SUM(completion_tokens) FROM charge WHERE state IN ('settled', 'lost') AND at > ?"
        " GROUP BY 1 ORDER BY 1 DESC",
        first,
    )
    return [
        DayView(
            day=datetime.datetime.fromtimestamp(int(str(day)) * DAY_S, datetime.UTC)
            .date()
            .isoformat(),
            spent=_units(nano),
            calls=int(str(calls)),
            prompt_tokens=int(str(prompt)),
            completion_tokens=int(str(completion)),
        )
        for day, nano, calls, prompt, completion in rows
    ]


def _providers(store: BudgetStore, first: float) -> list[ProviderView]:
    rows = store.read(
        "SELECT provider, model, SUM(nano), COUNT(*), SUM(estimated) FROM charge"
        " WHERE kind = 'call' AND state IN ('settled', 'lost') AND at > ?"
        " GROUP BY provider, model ORDER BY 3 DESC",
        first,
    )
    return [
        ProviderView(
            provider=str(provider),
            model=str(model),
            spent=_units(nano),
            calls=int(str(calls)),
            estimated=int(str(estimated)),
        )
        for provider, model, nano, calls, estimated in rows
    ]


def _leases(store: BudgetStore, now: float) -> list[LeaseView]:
    lent = store.read(
        "SELECT holder, worst, until FROM charge WHERE kind = 'lease' AND state = 'sent'"
    )
    return [
        LeaseView(
            direction="lent to",
            node=str(holder),
            amount=_units(nano),
            used=_units(nano),
            ends_in_s=round(float(str(until)) - now, 1),
        )
        for holder, nano, until in lent
    ] + [
        LeaseView(
            direction="borrowed",
            node="",
            amount=_units(held.nano),
            used=_units(held.used),
            ends_in_s=round(held.until - now, 1),
        )
        for held in store.held()
    ]


def _units(nano: object) -> float:
    return int(str(nano)) / 1_000_000_000


def book_of(state: Path) -> Path:
    """Where the book of an agent lies in its state directory."""
    from agents.budget.store import FILE

    return state / FILE

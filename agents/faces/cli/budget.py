"""``gossamer budget``: what the cloud cost, what is reserved, what is left.

It asks the running agent; where none runs, it reads the book and shows it without limits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from agents.faces.cli.common import AsJson, State, fetch, guarded
from agents.faces.show import print_json

if TYPE_CHECKING:
    from agents.budget.view import BudgetView
    from agents.faces.sheets import Sheet

DAYS = 7


def register(app: typer.Typer) -> None:
    """Add ``budget`` to the command line."""
    app.command("budget", epilog="Example:  gossamer budget --days 30 --json")(budget)


def budget(
    days: Annotated[int, typer.Option("--days", min=1, max=40, help="Days to look back.")] = DAYS,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show what the cloud cost: spent, reserved and left, by group, by day, by provider."""
    with guarded(as_json):
        found = _found(state, days)
        if as_json:
            print_json(found)
            return
        from agents.budget.view import BudgetView
        from agents.faces.sheets import console, show_sheet

        shown = msgspec.convert(found, BudgetView)
        for sheet in sheets(shown):
            show_sheet(sheet, console())
        if not shown.days:
            sys.stdout.write(f"nothing was spent in the last {days} days\n")


def _found(state: Path | None, days: int) -> Any:
    from agents.faces.door import candidates, default_state

    if candidates(state):
        return fetch(state, "budget", {"days": days})
    from agents.budget.view import book_of, view
    from mesh.core.errors import ConfigError

    book = book_of(state or default_state())
    if not book.exists():
        raise ConfigError(
            f"no agent runs, and there is no book of a cloud in {book.parent}",
            hint="a node has one when its configuration has a [[cloud.provider]]",
        )
    from agents.budget.limits import Limits
    from agents.budget.store import BudgetStore

    store = BudgetStore(book, Limits())
    try:
        return msgspec.to_builtins(view(store, days=days))
    finally:
        store.close()


def sheets(shown: BudgetView) -> list[Sheet]:
    """The tables: limits, days, providers, leases; those without rows are left out."""
    from agents.faces.sheets import Sheet

    unit = shown.currency
    limits = Sheet(
        ("WHOSE", "IN ANY", "LIMIT", "SPENT", "RESERVED", "LOST", "LEFT"),
        [
            (
                f"group {w.scope}" if w.scope else "this node",
                w.window,
                _money(w.limit),
                _money(w.spent),
                _money(w.reserved),
                _money(w.lost),
                _money(w.left),
            )
            for w in shown.windows
        ],
        frozenset({"LIMIT", "SPENT", "RESERVED", "LOST", "LEFT"}),
    )
    days = Sheet(
        ("DAY (UTC)", f"SPENT {unit}", "CALLS", "TOKENS IN", "TOKENS OUT"),
        [
            (d.day, _money(d.spent), str(d.calls), str(d.prompt_tokens), str(d.completion_tokens))
            for d in shown.days
        ],
        frozenset({f"SPENT {unit}", "CALLS", "TOKENS IN", "TOKENS OUT"}),
    )
    providers = Sheet(
        ("PROVIDER", "MODEL", f"SPENT {unit}", "CALLS", "ESTIMATED"),
        [
            (p.provider, p.model, _money(p.spent), str(p.calls), str(p.estimated))
            for p in shown.providers
        ],
        frozenset({f"SPENT {unit}", "CALLS", "ESTIMATED"}),
    )
    leases = Sheet(
        ("LEASE", "NODE", "AMOUNT", "USED", "ENDS IN S"),
        [
            (x.direction, x.node, _money(x.amount), _money(x.used), f"{x.ends_in_s:.0f}")
            for x in shown.leases
        ],
        frozenset({"AMOUNT", "USED", "ENDS IN S"}),
    )
    return [sheet for sheet in (limits, days, providers, leases) if sheet.rows]


def _money(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:.6f}"

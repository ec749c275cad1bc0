"""``gossamer ledger``: who served whom how many tokens, as both sides signed it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agents.faces.cli.common import AsJson, State, fetch, guarded
from agents.faces.show import print_json

if TYPE_CHECKING:
    from agents.faces.sheets import Sheet
    from agents.ledger.view import LedgerView

DAYS = 7


def register(app: typer.Typer) -> None:
    """Add ``ledger`` to the command line."""
    app.command("ledger", epilog="Example:  gossamer ledger --days 30 --json")(ledger)


def ledger(
    days: Annotated[int, typer.Option("--days", min=1, max=90, help="Days to look back.")] = DAYS,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show what this node did for others and they for it. For information: nothing is owed."""
    with guarded(as_json):
        found = fetch(state, "ledger", {"days": days})
        if as_json:
            print_json(found)
            return
        from agents.faces.sheets import console, show_sheet
        from agents.ledger.view import LedgerView

        shown = msgspec.convert(found, LedgerView)
        for sheet in sheets(shown):
            show_sheet(sheet, console())
        if not shown.peers:
            sys.stdout.write(f"nobody served anybody in the last {days} days\n")


def sheets(shown: LedgerView) -> list[Sheet]:
    """The tables: nodes, and what was not agreed upon; those without rows are left out."""
    from agents.faces.sheets import Sheet

    numbers = ("SERVED IT", "TOKENS", "IT SERVED", "TOKENS HERE", "UNANSWERED", "DISPUTED")
    peers = Sheet(
        ("NODE", *numbers),
        [
            (
                line.node,
                str(line.served_calls),
                f"{line.served_prompt_tokens} + {line.served_completion_tokens}",
                str(line.asked_calls),
                f"{line.asked_prompt_tokens} + {line.asked_completion_tokens}",
                str(line.unanswered),
                str(line.disputed),
            )
            for line in shown.peers
        ],
        frozenset(numbers),
    )
    disputes = Sheet(
        ("DISPUTED WITH", "WHO SERVED", "NAME", "TRACE", "WHY"),
        [
            (line.node, "this node" if line.mine else line.node, line.name, line.trace, line.why)
            for line in shown.disputes
        ],
    )
    return [sheet for sheet in (peers, disputes) if sheet.rows]

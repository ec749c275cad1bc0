"""``gossamer access``: who may do what with which name, and why."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agents.faces.cli.common import AsJson, State, fetch, guarded
from agents.faces.show import print_json
from mesh.core.names import check_name

access_app = typer.Typer(help="See and reload the access rules.", no_args_is_help=True)


class OpName(enum.StrEnum):
    """The operations of :mod:`mesh.core.access`, without what importing it costs."""

    RESOLVE = "resolve"
    QUERY = "query"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    DELEGATE = "delegate"
    ESCALATE = "escalate"
    STATES = "states"


@access_app.command(
    "check",
    epilog="Example:  gossamer access check --as watch --name data.gpt/vitals/raw --op subscribe",
)
def check(
    node: Annotated[str, typer.Option("--as", metavar="NODE", help="Who asks.")],
    name: Annotated[str, typer.Option("--name", help="The name that is asked for.")],
    operation: Annotated[OpName, typer.Option("--op", help="What is asked of it.")] = OpName.QUERY,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Read the rules from a file; no agent need run.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", help="A group of a node that is not known here."),
    ] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Explain which rule decides whether a node may do something with a name."""
    with guarded(as_json):
        check_name(name)
        found: dict[str, Any]
        if config is None:
            asked = {"as": node, "name": name, "op": operation.value, "groups": groups or []}
            found = fetch(state, "access_check", asked)
        else:
            from agents.faces.access import check_offline

            found = check_offline(
                config, node=node, name=name, op=operation.value, groups=groups or []
            )
        if as_json:
            print_json(found)
            return
        word = "may" if found["allowed"] else "may NOT"
        where = f"rule {found['number']}" if found["number"] else "no rule fits, so"
        sys.stdout.write(
            f"{found['node']} {word} {found['op']} {found['name']} at {found['at']}\n"
            f"decided by {where}: {found['rule']}\n"
        )
        for number, rule, why in found["passed_over"]:
            sys.stdout.write(f"  passed over rule {number} ({rule}): {why}\n")


@access_app.command("reload", epilog="Example:  gossamer access reload --config agent.toml")
def reload(
    config: Annotated[
        Path,
        typer.Option(
            "--config", metavar="FILE", help="Where the rules stand.", exists=True, dir_okay=False
        ),
    ],
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Give the running agent new access rules; streams that they forbid end at once."""
    with guarded(as_json):
        from agents.faces.access import rules_of

        found = fetch(state, "access_reload", {"rules": rules_of(config)})
        if as_json:
            print_json(found)
            return
        sys.stdout.write(f"{found['rules']} rules hold now; {found['ended']} streams ended.\n")

"""``gossamer deploy``: the nodes of an inventory on their machines, over ssh."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from agents.faces.cli.common import EXIT_FAILED, AsJson, guarded
from agents.faces.show import print_json

if TYPE_CHECKING:
    from agents.boards.deploy.applying import Deployment, Done
    from agents.boards.deploy.planning import Step

WAIT_S = 120.0  # a small board loads its models from a slow card


class Action(enum.StrEnum):
    """What is done with an inventory."""

    PLAN = "plan"
    APPLY = "apply"
    STATUS = "status"
    ROLLBACK = "rollback"
    REMOVE = "remove"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("deploy", epilog=_DEPLOY)(deploy)


_DEPLOY = (
    "Example:  gossamer deploy inventory.toml plan\n\n"
    "Example:  gossamer deploy inventory.toml --yes\n\n"
    "Example:  gossamer deploy inventory.toml rollback --host camera-1"
)


def deploy(
    inventory: Annotated[
        Path,
        typer.Argument(help="The inventory (docs/deploy.md).", exists=True, dir_okay=False),
    ],
    action: Annotated[
        Action, typer.Argument(help="apply shows the plan and asks first.")
    ] = Action.APPLY,
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="Only this one (may be repeated)."),
    ] = None,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=1, help="Until a host must be well."),
    ] = WAIT_S,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Apply without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the machines of an inventory to what it says, over ssh, one after the other.

    A host whose agent does not get well goes back to what it ran before, and the rest is left.
    """
    with guarded(as_json):
        from agents.boards.deploy.applying import Deployment
        from agents.boards.deploy.inventory import load_inventory
        from agents.boards.deploy.ssh import Ssh

        loaded = load_inventory(inventory)
        chosen = loaded.chosen(hosts or [])
        with Ssh(loaded) as ssh:
            deployment = Deployment(loaded, ssh, _say, chosen)
            good = _do(action, deployment, wait_s=wait, yes=yes, as_json=as_json)
    raise typer.Exit(0 if good else EXIT_FAILED)


def _say(host: str, what: str) -> None:
    sys.stderr.write(f"{host:16} {what}\n" if host else f"{what}\n")
    sys.stderr.flush()


def _do(action: Action, deployment: Deployment, *, wait_s: float, yes: bool, as_json: bool) -> bool:
    from agents.boards.deploy.applying import healthy
    from agents.boards.deploy.planning import IMPOSSIBLE, UNCHANGED

    if action is Action.STATUS:
        found = deployment.status()
        _show_status(found, as_json)
        return all(one.get("agent", {}).get("ready") for one in found)
    if action is Action.ROLLBACK:
        return _told(deployment.rollback(wait_s=wait_s), as_json)
    if action is Action.REMOVE:
        if not yes:
            raise typer.BadParameter("removing needs --yes")
        return _told(deployment.remove(), as_json)
    steps = deployment.plan()
    possible = all(step.action != IMPOSSIBLE for step in steps)
    if action is Action.PLAN:
        _show_plan(steps, as_json)
        return possible
    if not as_json:
        _show_plan(steps, as_json=False)
    if all(step.action == UNCHANGED for step in steps):
        if as_json:
            print_json({"hosts": [{"host": s.host, "outcome": "unchanged"} for s in steps]})
        return True
    if possible and not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody is there to ask: --yes applies")
        typer.confirm("Apply?", abort=True, err=True)
    done = deployment.apply(wait_s=wait_s)
    return _told(done, as_json) and healthy(done)


def _show_plan(steps: list[Step], as_json: bool) -> None:
    if as_json:
        print_json({"steps": [msgspec.to_builtins(step) for step in steps]})
        return
    from agents.faces.sheets import Sheet, console, show_sheet

    rows: list[tuple[Any, ...]] = [
        (
            step.host,
            step.action,
            step.current or "-",
            step.release or "(new keys first)",
            f"{step.send_bytes / 1e6:.1f}",
            step.why,
        )
        for step in steps
    ]
    show_sheet(Sheet(("HOST", "ACTION", "NOW", "THEN", "MB", "WHY"), rows), console())


def _told(done: list[Done], as_json: bool) -> bool:
    from agents.boards.deploy.applying import healthy

    if as_json:
        print_json({"hosts": [msgspec.to_builtins(one) for one in done]})
        return healthy(done)
    from agents.faces.sheets import Sheet, console, printable, show_sheet

    out = console()
    rows: list[tuple[Any, ...]] = [(d.host, d.outcome, d.release or "-", d.why) for d in done]
    show_sheet(Sheet(("HOST", "OUTCOME", "RELEASE", "WHY"), rows), out)
    for one in done:
        if one.log:
            out.print(printable(f"{one.host}, the end of its log:\n{one.log}"), soft_wrap=True)
    return healthy(done)


def _show_status(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"hosts": found})
        return
    from agents.faces.sheets import Sheet, console, show_sheet

    rows: list[tuple[Any, ...]] = []
    for one in found:
        agent = one.get("agent", {})
        running = [name for name, runs in one.get("processes", {}).items() if runs]
        rows.append(
            (
                one["host"],
                "ready" if agent.get("ready") else "not ready" if one["reached"] else "not reached",
                one.get("current") or "-",
                ", ".join(running) or "-",
                agent.get("version", "-"),
                one.get("why") or "; ".join(agent.get("troubles", [])[:2]),
            )
        )
    show_sheet(Sheet(("HOST", "AGENT", "RELEASE", "RUNS", "VERSION", "WHY"), rows), console())

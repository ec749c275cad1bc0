"""Who comes in and who goes: ``invite``, ``join``, ``revoke``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agents.faces.cli.common import AsJson, KeptState, State, fetch, guarded
from agents.faces.durations import seconds
from agents.faces.show import print_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("invite", epilog=_INVITE)(invite)
    app.command("join", epilog=_JOIN)(join)
    app.command("revoke", epilog=_REVOKE)(revoke)


_INVITE = (
    "Example:  gossamer invite --name pi-kitchen\n\n"
    "Example:  gossamer invite --group sensors --publish 'data.gpt/**' --expires 1h --uses 3 --qr"
)
_JOIN = (
    "Example:  gossamer join TOKEN\n\n"
    "Example:  gossamer join TOKEN --name pi-kitchen --model builtin:arithmetic"
)
_REVOKE = "Example:  gossamer revoke pi-kitchen --reason 'it was stolen'"


def _many(option: str, metavar: str, text: str) -> Any:
    return typer.Option(option, metavar=metavar, help=f"{text} (may be repeated).")


def invite(
    groups: Annotated[list[str] | None, _many("--group", "GROUP", "A group to put it in")] = None,
    publish: Annotated[
        list[str] | None, _many("--publish", "PATTERN", "Names that it may offer")
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="How long the invitation lasts.")
    ] = "1h",
    uses: Annotated[
        int, typer.Option("--uses", min=1, max=1000, help="How many nodes may use it.")
    ] = 1,
    name: Annotated[str, typer.Option("--name", help="Only for a node of this name.")] = "",
    valid: Annotated[
        str, typer.Option("--valid", metavar="TIME", help="How long its certificate lasts.")
    ] = "30d",
    renew: Annotated[
        bool, typer.Option("--renew/--no-renew", help="Renew the certificate before it ends.")
    ] = True,
    qr: Annotated[bool, typer.Option("--qr", help="Also show it as a QR code.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Show open invitations instead.")] = False,
    withdraw: Annotated[
        str, typer.Option("--withdraw", metavar="ID", help="Make one of them void instead.")
    ] = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Invite a node: prints one line for gossamer join. The agent here must be an issuer."""
    with guarded(as_json):
        if show or withdraw:
            _tell_open(fetch(state, "invitations", {"withdraw": withdraw}), as_json)
            return
        wishes = {
            "groups": groups or [],
            "publish": publish or [],
            "expires_s": seconds(expires),
            "uses": uses,
            "name": name,
            "valid_s": seconds(valid),
            "renews": renew,
        }
        made = fetch(state, "invite", wishes)
        if as_json:
            print_json(made)
            return
        token = str(made["token"])
        if qr:
            _show_qr(token)
        sys.stdout.write(token + "\n")
        sys.stderr.write(
            f"\nOn the new machine:  gossamer join TOKEN\n"
            f"It works {_times(uses)} within {expires}; who has it can join, so send it safely.\n"
        )
        if made.get("local"):
            sys.stderr.write(
                "This agent listens on this machine only; set host in its configuration "
                "to invite other machines.\n"
            )


def _times(uses: int) -> str:
    return "once" if uses == 1 else f"{uses} times"


def _show_qr(token: str) -> None:
    import segno

    segno.make(token, error="l", micro=False).terminal(out=sys.stdout, compact=True)


def _tell_open(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    from agents.faces.sheets import Sheet, console, show_sheet

    rows: list[tuple[Any, ...]] = [
        (
            str(one["id"]),
            str(one["name"] or "any"),
            ", ".join(one["groups"]),
            str(one["uses_left"]),
            f"{one['left_s']} s",
        )
        for one in found
    ]
    show_sheet(Sheet(("ID", "NAME", "GROUPS", "USES LEFT", "ENDS IN"), rows), console())


def join(
    token: Annotated[str, typer.Argument(help="The invitation.", show_default=False)],
    name: Annotated[
        str, typer.Option("--name", help="The node's name (default: invited, or the host's).")
    ] = "",
    models: Annotated[
        list[str] | None, _many("--model", "GGUF", "A model: builtin:NAME or a file")
    ] = None,
    advertise: Annotated[
        str, typer.Option("--advertise", metavar="ADDRESS", help="What other machines dial.")
    ] = "",
    state: KeptState = None,
    as_json: AsJson = False,
) -> None:
    """Join a mesh with an invitation: makes this node's keys, gets its certificate."""
    with guarded(as_json):
        from agents.faces import joining

        made = joining.join(
            token, state, name=name, models=tuple(models or ()), advertise=advertise
        )
        if as_json:
            print_json(made)
            return
        groups = f", in {', '.join(made['groups'])}" if made["groups"] else ""
        sys.stdout.write(
            f"This is {made['node']} of mesh {made['mesh']}{groups}. Start it with:\n\n"
            f"gossamer up --config {made['config']}\n"
        )


def revoke(
    node: Annotated[
        str | None, typer.Argument(help="Its name, or its whole id.", show_default=False)
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="For people; everybody sees it.")] = "",
    statement: Annotated[
        str,
        typer.Option("--statement", metavar="TEXT", help="Spread what mesh revoke has signed."),
    ] = "",
    authority: Annotated[
        Path | None,
        typer.Option(
            "--authority",
            metavar="DIR",
            help="Sign with the mesh's own key, in the owner's directory.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Take a node out of the mesh; every member refuses it within seconds."""
    if bool(node) == bool(statement):
        raise typer.BadParameter("give a node, or a --statement of gossamer mesh revoke")
    with guarded(as_json):
        if node and authority is not None:
            from agents.faces import meshes

            statement = str(
                meshes.revoke(authority, node, reason, known=_known(state, node))["statement"]
            )
        if statement:
            done = fetch(state, "spread_revocation", {"statement": statement})
        else:
            done = fetch(state, "revoke", {"node": node, "reason": reason})
        if as_json:
            print_json(done)
            return
        told = "1 member was" if done["told"] == 1 else f"{done['told']} members were"
        sys.stdout.write(f"{done['name']} is out; {told} told at once.\n")


def _known(state: Path | None, node: str) -> str:
    """The id of a node that the running agent knows by name, for the owner's key."""
    peers = fetch(state, "peers")
    return next((str(peer["node"]) for peer in peers if peer["name"] == node), "")

"""``gossamer mesh``: making a mesh and the identities of its nodes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agents.faces.cli.common import AsJson, guarded
from agents.faces.show import print_json

mesh_app = typer.Typer(
    help="Make a mesh of your own and the identities of its nodes.", no_args_is_help=True
)

Owner = Annotated[
    Path,
    typer.Argument(help="The owner's directory: it holds the mesh's key.", show_default=False),
]


def _many(option: str, metavar: str, text: str) -> Any:
    return typer.Option(option, metavar=metavar, help=f"{text} (may be repeated).")


@mesh_app.command("create", epilog="Example:  gossamer mesh create ./home-mesh home")
def create(
    owner: Owner,
    name: Annotated[str, typer.Argument(help="The mesh's name.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Make a mesh: its authority, whose key stays on this machine."""
    with guarded(as_json):
        from agents.faces import meshes

        made = meshes.create(owner, name)
        _tell(made, as_json, f"Mesh {name} is made. Its key is in {owner}: keep it private.")


@mesh_app.command(
    "add",
    epilog="Example:  gossamer mesh add ./home-mesh kitchen ./kitchen "
    "--advertise 192.168.1.20 --model builtin:arithmetic",
)
def add(
    owner: Owner,
    name: Annotated[str, typer.Argument(help="The node's name.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="The node's new directory.", show_default=False)],
    groups: Annotated[list[str] | None, _many("--group", "GROUP", "A group it belongs to")] = None,
    publish: Annotated[
        list[str] | None, _many("--publish", "PATTERN", "Names that it may offer")
    ] = None,
    models: Annotated[
        list[str] | None, _many("--model", "GGUF", "A model: builtin:NAME or a file")
    ] = None,
    seeds: Annotated[list[str] | None, _many("--seed", "SEED", "Where to find a member")] = None,
    advertise: Annotated[
        str, typer.Option("--advertise", metavar="ADDRESS", help="What other machines dial.")
    ] = "",
    port: Annotated[
        int,
        typer.Option("--port", min=1, max=65533, help="The first of three ports in a row."),
    ] = 7100,
    issuer: Annotated[
        bool, typer.Option("--issuer", help="Let this node invite others: gossamer invite.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a node's directory: keys, certificate, configuration. Copy it to its machine."""
    with guarded(as_json):
        from agents.faces import meshes

        made = meshes.add(
            owner,
            name,
            output,
            groups=tuple(groups or ()),
            publish=tuple(publish or ()),
            models=tuple(models or ()),
            seeds=tuple(seeds or ()),
            advertise=advertise,
            ports=(port, port + 1, port + 2),
            issuer=issuer,
        )
        _tell(
            made,
            as_json,
            f"Node {name} is made. Copy {output} to its machine and start it there: "
            "gossamer up --config agent.toml",
        )


@mesh_app.command(
    "issuer",
    epilog="Example:  gossamer mesh issuer ./home-mesh ./kitchen --group sensors "
    "--publish 'data.gpt/**' --max-validity 30d",
)
def issuer(
    owner: Owner,
    directory: Annotated[Path, typer.Argument(help="The node's directory.", show_default=False)],
    groups: Annotated[list[str] | None, _many("--group", "GROUP", "A group it may give")] = None,
    publish: Annotated[
        list[str] | None, _many("--publish", "PATTERN", "Names that it may grant")
    ] = None,
    max_validity: Annotated[
        str, typer.Option("--max-validity", metavar="TIME", help="Longest certificate it gives.")
    ] = "90d",
    valid: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long it may certify.")
    ] = "365d",
    renew: Annotated[
        bool, typer.Option("--renew/--no-renew", help="May renew what this key certified.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Let a node invite others, within limits; the mesh's key can then stay offline."""
    with guarded(as_json):
        from agents.faces import meshes
        from agents.faces.durations import seconds

        made = meshes.appoint(
            owner,
            directory,
            groups=tuple(groups or ("*",)),
            publish=tuple(publish or ()),
            max_validity_s=seconds(max_validity),
            valid_s=seconds(valid),
            renews=renew,
        )
        _tell(made, as_json, f"{made['issuer']} may invite others now, after a restart.")


@mesh_app.command(
    "revoke", epilog="Example:  gossamer mesh revoke ./home-mesh kitchen --reason 'lost it'"
)
def revoke(
    owner: Owner,
    node: Annotated[str, typer.Argument(help="Its name, or its whole id.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="For people; everybody sees it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Take a node out, with the mesh's own key and offline; any member can spread the word."""
    with guarded(as_json):
        from agents.faces import meshes

        made = meshes.revoke(owner, node, reason)
        _tell(
            made,
            as_json,
            "Spread this at any running member:\n\n"
            f"gossamer revoke --statement {made['statement']}",
        )


def _tell(made: dict[str, Any], as_json: bool, line: str) -> None:
    if as_json:
        print_json(made)
    else:
        sys.stdout.write(line + "\n")

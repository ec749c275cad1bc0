"""``gossamer board``: what suits this machine, and what brings Gossamer onto another."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from agents.faces.cli.common import AsJson, guarded
from agents.faces.show import print_json
from mesh.core.errors import ConfigError

board_app = typer.Typer(
    help="Run on boards: profiles, units, wheelhouses, images for a first boot.",
    no_args_is_help=True,
)
MAX_TOKEN_BYTES = 65536

Account = Annotated[str, typer.Option("--account", help="The user that the service runs as.")]
InvitationFile = Annotated[
    Path,
    typer.Option(
        "--invitation-file",
        metavar="FILE",
        help="The invitation (- reads standard input): not an argument, which all users see.",
        show_default=False,
        allow_dash=True,
    ),
]


def _token(path: Path) -> str:
    try:
        data = sys.stdin.read(MAX_TOKEN_BYTES) if str(path) == "-" else path.read_text()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if not data.strip():
        raise ConfigError("the invitation is empty", hint="gossamer invite prints one")
    return data.strip()


@board_app.command("show", epilog="Example:  gossamer board show --json")
def show(
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="Another one than this machine's.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show which board this is, and the size of models that suits it."""
    with guarded(as_json):
        from agents.boards.profiles import choose, look, named

        board = look()
        chosen = named(profile) if profile else choose(board)
        if as_json:
            print_json({"board": board, "profile": chosen})
            return
        from agents.faces.sheets import Sheet, console, show_sheet

        size = chosen.size
        rows = [
            ("board", board.model or f"computer ({platform.machine()})"),
            ("memory", f"{board.memory_mb} MB, {board.cores} cores"),
            ("profile", chosen.name),
            ("runs", ", ".join(chosen.models)),
            ("a model of yours", f"up to {size.file_mb} MB, such as {size.example}"),
            ("context, slots", f"{size.context} tokens, {size.slots}"),
            ("threads", str(size.threads or "measured at load")),
            ("memory limit", f"{chosen.memory_share} % of the machine's"),
            ("sources", "; ".join(chosen.sources)),
        ]
        show_sheet(Sheet(("WHAT", "VALUE"), [row for row in rows if row[1]]), console())


@board_app.command("unit", epilog="Example:  gossamer board unit gossamer")
def unit(
    name: Annotated[str, typer.Argument(help="gossamer or gossamer-join.")] = "gossamer",
    prefix: Annotated[str, typer.Option("--prefix", help="Where it is installed.")] = (
        "/opt/gossamer"
    ),
    account: Account = "gossamer",
    credentials: Annotated[
        Path, typer.Option("--credentials", metavar="DIR", help="Keys that the service gets.")
    ] = Path("/etc/gossamer/credentials"),
) -> None:
    """Print the systemd unit for this machine."""
    with guarded(as_json=False):
        from agents.boards import units

        sys.stdout.write(units.unit(name, prefix=prefix, account=account, credentials=credentials))


@board_app.command("enroll", epilog="Example:  gossamer board enroll --state DIR < invitation")
def enroll(
    state: Annotated[Path, typer.Option("--state", metavar="DIR", help="Keep the node here.")],
    source: InvitationFile = Path("-"),
    name: Annotated[str, typer.Option("--name", help="The node's name.")] = "",
    as_json: AsJson = False,
) -> None:
    """Join by invitation with what this board's profile runs; a service reads its credential."""
    with guarded(as_json):
        from agents.boards import units

        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder and str(source) == "-":
            source = Path(folder) / "invitation"
        made = units.enroll(_token(source), state, name=name)
        if as_json:
            print_json(made)
            return
        sys.stdout.write(f"This is {made['node']} of mesh {made['mesh']}.\n")


@board_app.command(
    "run",
    epilog="Example:  gossamer board run --state /state --invitation-file /run/secrets/invitation",
)
def run(
    state: Annotated[Path, typer.Option("--state", metavar="DIR", help="Keep the node here.")],
    invitation: Annotated[
        Path | None,
        typer.Option("--invitation-file", metavar="FILE", help="Join with it at the first start."),
    ] = None,
    mesh: Annotated[
        str, typer.Option("--mesh", metavar="NAME", help="Make a mesh at the first start instead.")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="The node's name.")] = "",
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="GGUF", help="builtin:NAME or a file (may be repeated)."),
    ] = None,
    advertise: Annotated[
        str, typer.Option("--advertise", metavar="ADDRESS", help="What other machines dial.")
    ] = "",
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="For the invitation.")
    ] = 0.0,
    invite: Annotated[
        Path | None,
        typer.Option("--invite", metavar="FILE", help="Write an invitation for others here."),
    ] = None,
    invite_uses: Annotated[int, typer.Option("--invite-uses", min=1, max=1000)] = 1,
) -> None:
    """Run this machine's node until it is stopped, made at the first start: for containers."""
    with guarded(as_json=False):
        from agents.boards import running

        wishes = running.Wishes(
            state=state.absolute(),
            mesh=mesh,
            invitation=invitation,
            wait_s=wait,
            name=name,
            models=tuple(models or ()),
            advertise=advertise,
            invite=invite,
            invite_uses=invite_uses,
        )
        code = running.run(wishes)
    raise typer.Exit(code)


@board_app.command("first-node", hidden=True)
def first_node(
    owner: Annotated[Path, typer.Option("--owner", metavar="DIR", help="The mesh's key.")],
    name: Annotated[str, typer.Option("--name", help="The node's name.")],
    state: Annotated[Path, typer.Option("--state", metavar="DIR", help="Keep the node here.")],
    as_json: AsJson = False,
) -> None:
    """Make the first node of a mesh; it may invite others (install.sh --mesh)."""
    with guarded(as_json):
        from agents.boards import units

        print_json(units.first_node(owner, name, state))


@board_app.command(
    "wheelhouse",
    epilog="Example:  gossamer board wheelhouse -o /media/usb/gossamer\n\n"
    "Example:  gossamer board wheelhouse -o DIR --arch aarch64 --python 3.11 --without-llama",
)
def wheelhouse(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Fill this.")],
    source: Annotated[
        str, typer.Option("--source", help="Gossamer from here instead of this installation.")
    ] = "",
    arch: Annotated[str, typer.Option("--arch", help="aarch64 or x86_64; else this one.")] = "",
    python: Annotated[str, typer.Option("--python", help="3.11, say; else this one.")] = "",
    llama: Annotated[
        Path | None,
        typer.Option(
            "--llama",
            metavar="WHEEL",
            help="A llama-cpp-python built on such a board.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    without_llama: Annotated[
        bool, typer.Option("--without-llama", help="For machines that run no models.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fill a folder (a USB stick) that installs Gossamer on boards without a network."""
    with guarded(as_json):
        from agents.boards import wheelhouse as house

        def say(line: str) -> None:
            sys.stderr.write(f"  {line}\n")
            sys.stderr.flush()

        made = house.make(
            output.absolute(),
            say,
            source=source,
            arch=arch,
            python=python,
            llama=llama,
            without_llama=without_llama,
        )
        if as_json:
            print_json(made)
            return
        sys.stdout.write(
            f"{made['files']} files, {made['mb']} MB for {made['arch']} with Python "
            f"{made['python']}. On the board:\n\n"
            f"sudo sh {output}/install.sh --wheelhouse {output}"
            f"{' --without-llama' if without_llama else ''}\n"
        )


@board_app.command(
    "image-config",
    epilog="Example:  gossamer invite --name shed | gossamer board image-config -o /media/boot "
    "--hostname shed --ssh-key ~/.ssh/id_ed25519.pub",
)
def image_config(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The card's boot partition.")
    ],
    hostname: Annotated[str, typer.Option("--hostname", help="The board's name.")],
    url: Annotated[
        str,
        typer.Option("--url", envvar="GOSSAMER_INSTALL_URL", help="Where install.sh is."),
    ],
    invitation: InvitationFile = Path("-"),
    kind: Annotated[
        str, typer.Option("--kind", help="cloud-init, or firstrun (Raspberry Pi OS bookworm).")
    ] = "cloud-init",
    source: Annotated[
        str, typer.Option("--source", help="GOSSAMER_URL for install.sh: a wheel's URL, say.")
    ] = "",
    user: Annotated[str, typer.Option("--user", help="Who logs in over ssh.")] = "pi",
    ssh_keys: Annotated[
        list[Path] | None,
        typer.Option("--ssh-key", metavar="FILE", help="A public key (may be repeated)."),
    ] = None,
    wifi: Annotated[str, typer.Option("--wifi", metavar="SSID", help="A wireless network.")] = "",
    wifi_password_file: Annotated[
        Path | None,
        typer.Option(
            "--wifi-password-file", metavar="FILE", help="Its password.", show_default=False
        ),
    ] = None,
    country: Annotated[str, typer.Option("--country", help="Two letters, for wireless.")] = "",
    timezone: Annotated[str, typer.Option("--timezone", help="Europe/Berlin, say.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write what makes a board install Gossamer and join at its first boot."""
    with guarded(as_json):
        from agents.boards import images

        image = images.Image(
            hostname=hostname,
            invitation=_token(invitation),
            url=url,
            source=source,
            user=user,
            ssh_keys=tuple(_token(path) for path in ssh_keys or ()),
            wifi=wifi,
            wifi_password=_token(wifi_password_file) if wifi_password_file else "",
            country=country,
            timezone=timezone,
        )
        written = images.write(image, kind, output)
        if as_json:
            print_json(msgspec.to_builtins({"written": [str(path) for path in written]}))
            return
        sys.stdout.write("".join(f"{path}\n" for path in written))
        sys.stderr.write("Who has this card can join until the invitation is redeemed or ends.\n")

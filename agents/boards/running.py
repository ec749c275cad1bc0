"""``gossamer board run``: what a container starts. It joins or makes a mesh once, then runs.

The invitation comes as a file; where it is not there yet (another container writes it), the first
start waits for it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from agents.boards.units import enroll, first_node
from agents.config import load_config
from agents.faces import up
from agents.faces.client import ControlClient
from agents.faces.joining import CONFIG_FILE
from agents.faces.meshes import create
from mesh.core.errors import ConfigError, GossamerError
from mesh.net.statedir import write_private

LOOK_S = 0.5
INVITED_S = 86400.0  # how long an invitation for the others lasts: they may be built tomorrow


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the first start does; later ones find a node and run it."""

    state: Path
    mesh: str = ""
    """Make a mesh of this name, with this node as its first."""
    invitation: Path | None = None
    wait_s: float = 0.0
    """For the invitation's file, and for who gave it, to be there."""
    name: str = ""
    models: tuple[str, ...] = ()
    advertise: str = ""
    invite: Path | None = None
    """Where an invitation for others is written once the agent runs."""
    invite_uses: int = 1


def run(wishes: Wishes) -> int:
    """Run the agent of ``wishes.state``; returns the exit status. Raises GossamerError."""
    config = wishes.state / CONFIG_FILE
    if not config.exists():
        _become(wishes)
    return asyncio.run(_serve(config, wishes))


def _become(wishes: Wishes) -> None:
    if wishes.mesh:
        owner = wishes.state / "owner"
        create(owner, wishes.mesh)
        first_node(
            owner,
            wishes.name or "first",
            wishes.state,
            models=wishes.models,
            advertise=wishes.advertise,
        )
        return
    if wishes.invitation is None:
        raise ConfigError(
            f"{wishes.state} holds no node",
            hint="give it an invitation (--invitation-file) or a mesh to make (--mesh)",
        )
    until = time.monotonic() + wishes.wait_s
    while True:
        try:
            token = wishes.invitation.read_text(encoding="utf-8")
            enroll(
                token,
                wishes.state,
                name=wishes.name,
                models=wishes.models,
                advertise=wishes.advertise,
            )
        except (OSError, GossamerError) as error:
            if time.monotonic() > until:
                if isinstance(error, GossamerError):
                    raise
                raise ConfigError(
                    f"{wishes.invitation} cannot be read: {error.strerror}",
                    hint="gossamer invite prints an invitation; hand it in as a secret",
                ) from error
            time.sleep(LOOK_S)
        else:
            return


async def _serve(config: Path, wishes: Wishes) -> int:
    inviting = None
    if wishes.invite is not None and not wishes.invite.exists():
        inviting = asyncio.create_task(_invite(wishes.invite, wishes))
    try:
        return await up.serve(load_config(config))
    finally:
        if inviting is not None:
            inviting.cancel()
            await asyncio.gather(inviting, return_exceptions=True)


async def _invite(path: Path, wishes: Wishes) -> None:
    asked = {
        "groups": [],
        "publish": [],
        "expires_s": INVITED_S,
        "uses": wishes.invite_uses,
        "name": "",
        "valid_s": 30 * 86400.0,
        "renews": True,
    }
    while True:
        try:
            async with await ControlClient.connect(wishes.state) as client:
                made = await client.fetch("invite", asked)
        except GossamerError:
            await asyncio.sleep(LOOK_S)  # its own door is not open yet
            continue
        write_private(path, str(made["token"]).encode())
        print(f"invites  {wishes.invite_uses} by {path}", file=sys.stderr, flush=True)
        return

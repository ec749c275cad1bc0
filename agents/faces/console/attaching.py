"""The console at a mesh that no agent of this machine is in: it joins as a member that serves
nothing, with an invitation, and leaves with the console.

What it learnt to join (keys, certificate) is kept beside the user's own state, so that the same
mesh is attached again without a new invitation for as long as the certificate lasts.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agents.faces.client import ControlClient
from agents.faces.door import default_state
from agents.faces.ending import orderly, undisturbed
from agents.faces.joining import CONFIG_FILE, host_name, is_local
from mesh.core.errors import ConfigError, GossamerError, PeerLost
from mesh.core.identity import show_id
from mesh.core.invitations import PREFIX, Token, read_token
from mesh.core.names import check_node_name
from mesh.net.joining import join
from mesh.net.statedir import IDENTITY_FILE

FOLDER = "attached"
NAME_FILE = "mesh"  # what the mesh is called, for who attaches to it by name
ID_CHARS = 8  # of a mesh's id, as the name of its folder
START_S = 30.0  # for the agent, and for the first node that it meets
STOP_S = 5.0
LOOK_S = 0.1


@contextmanager
def attached(given: str, state: Path | None = None) -> Iterator[Path]:
    """The state directory of an agent in the mesh of an invitation, until the block is left.

    ``given`` is the invitation, or the name of a mesh that was attached before. Raises
    :class:`ConfigError`, and IdentityError or PeerLost as joining does.
    """
    folder = _folder(given, (state or default_state()) / FOLDER)
    if asyncio.run(_meets(folder, 0.0)) is not None:  # another console holds it open
        yield folder
        return
    log = folder / "log"
    process: subprocess.Popen[bytes] | None = None
    with orderly():
        try:
            with log.open("wb") as out, undisturbed():
                process = subprocess.Popen(
                    [sys.executable, "-m", "agents.faces.up", str(folder / CONFIG_FILE)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,  # Ctrl-C reaches the console, which ends it in order
                )
            _await_mesh(process, folder, log)
            yield folder
        finally:
            if process is not None:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with undisturbed():  # a second Ctrl-C would leave it; this ends within seconds
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        if process.poll() is None:
            process.kill()
            process.wait()


def _folder(given: str, base: Path) -> Path:
    """Where the member of that mesh is kept; joins where there is none yet."""
    if not given.strip().startswith(PREFIX):
        return _known(given.strip(), base)
    token = read_token(given)
    folder = base / show_id(token.mesh)[:ID_CHARS]
    if not (folder / IDENTITY_FILE).exists():
        _join(token, folder)
    return folder


def _known(name: str, base: Path) -> Path:
    found: dict[str, Path] = {}
    for file in base.glob(f"*/{NAME_FILE}"):
        with suppress(OSError, UnicodeDecodeError):
            found[file.read_text(encoding="utf-8").strip()] = file.parent
    if name not in found:
        raise ConfigError(
            f"{name[:60]!r} is no invitation, and no mesh that was attached before",
            hint=f"known: {', '.join(sorted(found)) or 'none'}; an invitation begins with {PREFIX}"
            " and comes from gossamer invite",
        )
    return found[name]


def _join(token: Token, folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Machines that were set up alike are called alike; an invitation may say a name as well.
    suggestion = f"{host_name()[:40] or 'guest'}-console-{os.urandom(2).hex()}"
    identity = asyncio.run(join(token, folder, suggestion=check_node_name(suggestion)))
    lines = [
        "# Written by gossamer console --attach: a member that serves nothing.",
        "[node]",
        'state = "."',
        # It calls the others and is called back over the same links, also from behind a NAT.
        "dialable = false",
        "discovery = false",
        f"host = {json.dumps('127.0.0.1' if is_local(token) else '0.0.0.0')}",  # noqa: S104
        f"seeds = {json.dumps(list(identity.doors))}",
    ]
    (folder / CONFIG_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / NAME_FILE).write_text(f"{identity.mesh_name}\n", encoding="utf-8")


def _await_mesh(process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ConfigError(
                said[-1] if said else f"its agent ended with status {process.returncode}",
                hint=f"a new invitation and an empty {folder} begin anew",
            )
        if asyncio.run(_meets(folder, LOOK_S)):
            return
        time.sleep(LOOK_S)
    raise PeerLost(
        f"nobody of the mesh answered within {START_S:g} s",
        hint="is the node that invited you running, and can this machine reach it?",
    )


async def _meets(folder: Path, patience_s: float) -> int | None:
    """How many other nodes the agent of a folder sees alive; None while none runs."""
    try:
        async with await ControlClient.connect(folder) as client:
            peers = await client.fetch("peers", {})
    except GossamerError:
        await asyncio.sleep(patience_s)
        return None
    return len([peer for peer in peers if peer["state"] == "alive" and not peer["me"]])

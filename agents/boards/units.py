"""systemd's units for this machine, and the first node of a mesh on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from agents.boards.profiles import Board, Profile, choose, look
from agents.faces.joining import CONFIG_FILE, free_ports, join
from agents.faces.meshes import (
    DEFAULT_PUBLISH,
    ISSUER_PUBLISH,
    agent_toml,
    appoint,
)
from mesh.core.errors import ConfigError
from mesh.core.identity import read_certificate, show_id
from mesh.core.invitations import Issued
from mesh.core.names import check_node_name
from mesh.net.issuer import check_free, note_issued
from mesh.net.statedir import IDENTITY_FILE, create_identity, open_authority

FOLDER = Path(__file__).parent
UNITS = ("gossamer", "gossamer-join")
STATE = "/var/lib/gossamer"
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")

# A GPU needs its devices, and its compiler of kernels memory that is written and then run.
_NO_DEVICES = ("PrivateDevices=yes", "MemoryDenyWriteExecute=yes")
_GPU = (
    "DevicePolicy=closed",
    "DeviceAllow=char-nvidia* rw",
    "DeviceAllow=char-nvmap rw",
    "DeviceAllow=char-nvhost* rw",
    "SupplementaryGroups=video render",
)


def unit(
    name: str,
    *,
    prefix: str,
    account: str,
    credentials: Path,
    board: Board | None = None,
    profile: Profile | None = None,
) -> str:
    """One of :data:`UNITS`, filled in; raises :class:`ConfigError`.

    Every file in ``credentials`` becomes a credential of the service: the agent reads it at
    ``/run/credentials/gossamer.service/NAME``, and nobody else can.
    """
    if name not in UNITS:
        raise ConfigError(f"there is no unit {name!r}", hint=", ".join(UNITS))
    for value in (prefix, account):
        if not _PLAIN.fullmatch(value):  # a space or a line's end would be another setting
            raise ConfigError(f"{value!r} cannot stand in a unit")
    board = board or look()
    profile = profile or choose(board)
    keys = []
    if credentials.is_dir():
        keys = sorted(path for path in credentials.iterdir() if _PLAIN.fullmatch(path.name))
    fields = {
        "PREFIX": prefix,
        "STATE": STATE,
        "ACCOUNT": account,
        "MODEL": re.sub(r"[^\w .()-]", "", board.model) or "a computer",
        "PROFILE": profile.name,
        "MEMORY": str(profile.memory_share),
        "CREDENTIALS": "\n".join(f"LoadCredential={path.name}:{path}" for path in keys),
        "DEVICES": "\n".join(_GPU if board.tegra else _NO_DEVICES),
    }
    text = (FOLDER / f"{name}.service").read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda match: fields[match.group(1)], text)


def enroll(
    token: str,
    state: Path,
    *,
    name: str = "",
    models: tuple[str, ...] = (),
    advertise: str = "",
) -> dict[str, Any]:
    """Redeem an invitation; without ``models`` with what the board's profile runs."""
    profile = choose(look())
    made = join(
        token.strip(), state, name=name, models=models or profile.models, advertise=advertise
    )
    return {**made, "profile": profile.name}


def first_node(
    owner: Path,
    name: str,
    state: Path,
    *,
    models: tuple[str, ...] = (),
    advertise: str = "",
) -> dict[str, Any]:
    """The first node of the mesh in ``owner``, which may invite others."""
    authority, mesh_name = open_authority(owner)
    check_node_name(name)
    check_free(owner, name)
    if (state / IDENTITY_FILE).exists():
        raise ConfigError(f"{state} is a node already")
    profile = choose(look())
    identity = create_identity(
        state,
        authority,
        mesh_name,
        name=name,
        groups=(),
        publish=(*DEFAULT_PUBLISH, *(p for p in ISSUER_PUBLISH if p not in DEFAULT_PUBLISH)),
    )
    body = read_certificate(identity.certificate)
    note_issued(owner, Issued(node=body.node, name=name, not_after=body.not_after))
    appoint(owner, state)
    host = "0.0.0.0"  # noqa: S104 - links are encrypted and admit members only
    text = agent_toml(
        ".",
        host,
        advertise,
        free_ports(host),
        (),
        models or profile.models,
        profile.size,
    )
    (state / CONFIG_FILE).write_text(text, encoding="utf-8")
    return {"node": name, "id": show_id(body.node), "mesh": mesh_name, "profile": profile.name}

"""``gossamer join``: from an invitation to a node that is ready to start."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

from agents.boards.profiles import choose, look
from agents.faces.door import default_state
from agents.faces.meshes import PORTS, agent_toml
from mesh.core.errors import ConfigError
from mesh.core.identity import read_certificate, show_id
from mesh.core.invitations import Token, read_token
from mesh.core.names import check_node_name
from mesh.net.addresses import is_loopback
from mesh.net.joining import join as redeem

CONFIG_FILE = "agent.toml"
PORT_STEP = 10  # to the next three ports, where another agent of this machine has the usual ones


def join(
    text: str,
    state: Path | None,
    *,
    name: str = "",
    models: tuple[str, ...] = (),
    advertise: str = "",
) -> dict[str, Any]:
    """Redeem the invitation in ``text`` and write identity and configuration to ``state``.

    Raises :class:`ConfigError` for a directory in use and IdentityError or PeerLost as
    :func:`mesh.net.joining.join` does.
    """
    token = read_token(text)
    if name:
        check_node_name(name)
    directory = (state or default_state()).absolute()
    config = directory / CONFIG_FILE
    if config.exists():
        raise ConfigError(f"{config} exists", hint="choose another directory with --state")
    identity = asyncio.run(redeem(token, directory, name=name, suggestion=host_name()))
    body = read_certificate(identity.certificate)
    host = "127.0.0.1" if is_local(token) else "0.0.0.0"  # noqa: S104 - members only, encrypted
    config.write_text(
        agent_toml(
            ".", host, advertise, free_ports(host), identity.doors, models, choose(look()).size
        ),
        encoding="utf-8",
    )
    return {
        "node": body.name,
        "id": show_id(body.node),
        "mesh": identity.mesh_name,
        "groups": list(body.groups),
        "publish": list(body.publish),
        "state": str(directory),
        "config": str(config),
    }


def host_name() -> str:
    """This machine's name as a node name; empty where nothing is left of it."""
    first = socket.gethostname().partition(".")[0].lower()
    return re.sub(r"[^a-z0-9-]+", "-", first).strip("-")[:63]


def is_local(token: Token) -> bool:
    """Whether an invitation leads to this machine only."""
    hosts = [address.removeprefix("tcp://").rpartition(":")[0] for address in token.addresses]
    return all(is_loopback(host) for host in hosts)


def free_ports(host: str) -> tuple[int, int, int]:
    """Three ports that are free now; any, where none of the usual are."""
    for offset in range(0, 20 * PORT_STEP, PORT_STEP):
        ports = tuple(port + offset for port in PORTS)
        if all(_is_free(host, port) for port in ports):
            return ports[0], ports[1], ports[2]
    return 0, 0, 0


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True

"""Fabrics with an issuer, and newcomers that join by invitation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mesh.core.access import Policy
from mesh.core.identity import ANY_GROUP
from mesh.core.invitations import read_token
from mesh.net.issuer import create_issuer
from mesh.net.joining import join
from mesh.net.node import MeshNode, NodeConfig
from mesh.net.statedir import StateDir, create_identity
from tests.mesh.net.harness import Fabric

EVERYTHING = ("*.gpt/**",)


async def issuing_node(mesh: Fabric, name: str = "laptop", **limits: Any) -> MeshNode:
    """A node that the mesh's authority has appointed an issuer."""
    path = mesh.folder / name
    if not (path / "identity.json").exists():
        create_identity(
            path, mesh.authority, "test", name=name, groups=("home",), publish=EVERYTHING
        )
        limits.setdefault("groups", ANY_GROUP)
        limits.setdefault("publish", EVERYTHING)
        create_issuer(path, mesh.authority, name=name, **limits)
    return await mesh.node(name)


async def invited(
    mesh: Fabric, issuer: MeshNode, name: str, *, policy: Policy | None = None, **wishes: Any
) -> MeshNode:
    """A node that joined by an invitation and runs."""
    wishes.setdefault("groups", ("home",))
    wishes.setdefault("publish", EVERYTHING)
    token, _ = await issuer.standing.invite(**wishes)
    path = mesh.folder / name
    await join(read_token(token), path, name=name)
    return await started(mesh, path, policy)


async def started(mesh: Fabric, path: Path, policy: Policy | None = None) -> MeshNode:
    """The node of a state directory, with whom it joined as its seed."""
    state = StateDir(path)
    node = MeshNode(state, NodeConfig(seeds=state.identity().doors), policy)
    await node.start()
    mesh.nodes.append(node)
    return node

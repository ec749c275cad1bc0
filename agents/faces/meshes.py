"""Making a mesh and its nodes' identities, on the owner's machine.

The owner's directory holds the authority's key. ``add`` makes a node's directory (keys,
certificate, a configuration that is ready to run) to be copied to the node's machine.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec

from agents.boards.profiles import ModelSizes
from mesh.core.errors import ConfigError, IdentityError
from mesh.core.identity import ANY_GROUP, fingerprint, read_certificate, show_id
from mesh.core.invitations import Issued
from mesh.core.issuing import DAY_S
from mesh.core.names import check_node_name, check_pattern
from mesh.core.revocation import YEAR_S, read_id, revocation_text
from mesh.core.revocation import revoke as sign_revocation
from mesh.net.issuer import check_free, create_issuer, forget_issued, issued_to, note_issued
from mesh.net.statedir import (
    IDENTITY_FILE,
    Identity,
    create_authority,
    create_identity,
    open_authority,
    parse_seed,
    read_private,
)

# What a node may offer when its owner does not say: every answer, no data, no cloud, so that
# no member can claim to be the cloud and collect prompts.
DEFAULT_PUBLISH = ("knowledge.gpt/**", "computation.gpt/generate")
# What an issuer may grant when its owner does not say: that, and data of the newcomer's own.
ISSUER_PUBLISH = (*DEFAULT_PUBLISH, "data.gpt/**")
PORTS = (7100, 7101, 7102)


def create(directory: Path, name: str) -> dict[str, Any]:
    """A new mesh authority in ``directory``; raises :class:`ConfigError` if there is one."""
    authority = create_authority(directory, check_node_name(name))
    return {"mesh": name, "id": show_id(authority.mesh), "authority": str(directory)}


def add(
    authority_directory: Path,
    name: str,
    output: Path,
    *,
    groups: tuple[str, ...] = (),
    publish: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    seeds: tuple[str, ...] = (),
    host: str = "0.0.0.0",  # noqa: S104 - links are encrypted and admit members only
    advertise: str = "",
    ports: tuple[int, int, int] = PORTS,
    issuer: bool = False,
) -> dict[str, Any]:
    """Keys, certificate and configuration of a new node in ``output``.

    ``ports`` are control, bulk and admission; ``issuer`` lets the node invite others. Raises
    :class:`ConfigError` for a directory that is not empty, a bad seed, or a name that is
    taken or out of grammar.
    """
    authority, mesh_name = open_authority(authority_directory)
    check_node_name(name)
    check_free(authority_directory, name)
    publish = publish or DEFAULT_PUBLISH
    for pattern in publish:
        check_pattern(pattern)
    for seed in seeds:
        parse_seed(seed)
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"{output} is not empty", hint="choose another directory")
    made_identity = create_identity(
        output / "state", authority, mesh_name, name=name, groups=groups, publish=publish
    )
    body = read_certificate(made_identity.certificate)
    note_issued(authority_directory, Issued(node=body.node, name=name, not_after=body.not_after))
    config = output / "agent.toml"
    config.write_text(agent_toml("state", host, advertise, ports, seeds, models), encoding="utf-8")
    if issuer:
        appoint(authority_directory, output)
    return {
        "node": name,
        "id": show_id(body.node),
        "issuer": issuer,
        "directory": str(output),
        "config": str(config),
        "groups": list(groups),
        "publish": list(publish),
    }


def appoint(
    owner: Path,
    directory: Path,
    *,
    groups: tuple[str, ...] = ANY_GROUP,
    publish: tuple[str, ...] = (),
    max_validity_s: float = 90 * DAY_S,
    valid_s: float = 365 * DAY_S,
    renews: bool = True,
) -> dict[str, Any]:
    """Make the node in ``directory`` an issuer, so that the authority's key can stay offline.

    ``publish`` (patterns that cover all that it may grant) is by default what a node may offer
    when its owner does not say, and its own data. Raises :class:`ConfigError`.
    """
    authority, _ = open_authority(owner)
    state = next(
        (p for p in (directory, directory / "state") if (p / IDENTITY_FILE).exists()), None
    )
    if state is None:
        raise ConfigError(
            f"{directory} holds no node", hint="make it first: gossamer mesh add, or gossamer join"
        )
    identity = msgspec.json.decode(read_private(state / IDENTITY_FILE), type=Identity)
    if fingerprint(identity.authority_key) != authority.mesh:
        raise IdentityError(f"the node in {directory} is of another mesh")
    name = read_certificate(identity.certificate).name
    publish = publish or ISSUER_PUBLISH
    create_issuer(
        state,
        authority,
        name=name,
        groups=groups,
        publish=publish,
        max_validity_s=max_validity_s,
        valid_s=valid_s,
        renews=renews,
    )
    return {"issuer": name, "groups": list(groups), "publish": list(publish)}


def revoke(owner: Path, node: str, reason: str, *, known: str = "") -> dict[str, Any]:
    """A signed revocation as text, made with the mesh's own key; nothing is sent.

    ``node`` is a name in the owner's ledger or a whole id; ``known`` is the id of a node that
    the ledger does not have. Raises :class:`ConfigError` for a node that neither names.
    """
    authority, _ = open_authority(owner)
    issued = issued_to(owner, node)
    target = issued.node if issued else read_id(known or node)
    wall = time.time()
    revocation = sign_revocation(
        authority.mesh,
        authority.sign,
        authority.mesh,
        target,
        name=node if issued or known else show_id(target)[:8],
        reason=reason,
        wall=wall,
        # What this key certified ends by then; what an issuer gave, within its own time.
        until=max(issued.not_after if issued else 0.0, wall + YEAR_S),
    )
    forget_issued(owner, target)
    return {"node": node, "id": show_id(target), "statement": revocation_text(revocation)}


def agent_toml(
    state: str,
    host: str,
    advertise: str,
    ports: tuple[int, int, int],
    seeds: tuple[str, ...],
    models: tuple[str, ...],
    size: ModelSizes | None = None,
) -> str:
    """A configuration that is ready to run; ``state`` is relative to the file, ``size`` what the
    machine's profile gives a model of the user's own."""
    control, bulk, admission = ports
    lines = [
        "# Written by gossamer. Start it with: gossamer up --config agent.toml",
        "[node]",
        f"state = {json.dumps(state)}",
        f"host = {json.dumps(host)}",
        f"advertise = {json.dumps(advertise)}   # the address that other machines dial",
        f"control_port = {control}",
        f"bulk_port = {bulk}",
        f"admission_port = {admission}",
        f"seeds = {json.dumps(list(seeds))}",
        "",
    ]
    for model in models:
        lines += ["[[model]]", f"path = {json.dumps(model)}"]
        if size is not None and not model.startswith("builtin:"):
            given = {"context": size.context, "slots": size.slots, "queue": size.queue}
            lines += [f"{key} = {value}" for key, value in given.items()]
            lines += [f"threads = {size.threads}"] if size.threads else []
        lines.append("")
    if not models:
        lines += ["# [[model]]", '# path = "builtin:arithmetic"   # or the path of any GGUF', ""]
    return "\n".join(lines)

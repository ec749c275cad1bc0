"""Making a mesh and its nodes' identities, on the owner's machine.

The owner's directory holds the authority's key. ``add`` makes a node's directory (keys,
certificate, a configuration that is ready to run) to be copied to the node's machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mesh.core.errors import ConfigError
from mesh.core.identity import show_id
from mesh.core.names import check_node_name, check_pattern
from mesh.net.statedir import create_authority, create_identity, open_authority, parse_seed

# What a node may offer when its owner does not say: every answer, no data, no cloud, so that
# no member can claim to be the cloud and collect prompts.
DEFAULT_PUBLISH = ("knowledge.gpt/**", "computation.gpt/generate")


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
    ports: tuple[int, int, int] = (7100, 7101, 7102),
) -> dict[str, Any]:
    """Keys, certificate and configuration of a new node in ``output``.

    ``ports`` are control, bulk and admission. Raises :class:`ConfigError` for a directory that
    is not empty, a bad seed or a name out of grammar.
    """
    authority, mesh_name = open_authority(authority_directory)
    check_node_name(name)
    publish = publish or DEFAULT_PUBLISH
    for pattern in publish:
        check_pattern(pattern)
    for seed in seeds:
        parse_seed(seed)
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"{output} is not empty", hint="choose another directory")
    create_identity(
        output / "state", authority, mesh_name, name=name, groups=groups, publish=publish
    )
    config = output / "agent.toml"
    config.write_text(_toml(host, advertise, ports, seeds, models), encoding="utf-8")
    return {
        "node": name,
        "directory": str(output),
        "config": str(config),
        "groups": list(groups),
        "publish": list(publish),
    }


def _toml(
    host: str,
    advertise: str,
    ports: tuple[int, int, int],
    seeds: tuple[str, ...],
    models: tuple[str, ...],
) -> str:
    control, bulk, admission = ports
    lines = [
        "# Written by gossamer mesh add. Start it with: gossamer up --config agent.toml",
        "[node]",
        'state = "state"',
        f"host = {json.dumps(host)}",
        f"advertise = {json.dumps(advertise)}   # the address that other machines dial",
        f"control_port = {control}",
        f"bulk_port = {bulk}",
        f"admission_port = {admission}",
        f"seeds = {json.dumps(list(seeds))}",
        "",
    ]
    for model in models:
        lines += ["[[model]]", f"path = {json.dumps(model)}", ""]
    if not models:
        lines += ["# [[model]]", '# path = "builtin:arithmetic"   # or the path of any GGUF', ""]
    return "\n".join(lines)

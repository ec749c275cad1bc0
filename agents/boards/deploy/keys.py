"""A node's keys, made where they stay: ``python -m agents.boards.deploy.keys STATE``.

Standard input holds ``{}``, or what the mesh's owner signed; standard output has the public
halves, and the certificate that the node has by now. The private halves never leave ``STATE``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from mesh.core.errors import GossamerError, IdentityError
from mesh.core.identity import NodeKeys, Signed, new_keys, read_certificate
from mesh.net.statedir import (
    IDENTITY_FILE,
    Identity,
    read_private,
    write_identity,
    write_private,
)

PENDING_FILE = "keys.pending.json"  # keys that no certificate names yet


class Public(msgspec.Struct, frozen=True, kw_only=True):
    """What a node shows of its keys, and which certificate it has: for whom, until when."""

    key: bytes
    curve: bytes
    name: str = ""
    mesh: str = ""
    groups: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    not_after: float = 0.0


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner signed for a node, all of it public."""

    mesh_name: str
    authority_key: bytes
    certificate: Signed


def public(state: Path) -> Public:
    """Make the keys where there are none, and show their public halves."""
    identity = state / IDENTITY_FILE
    if identity.exists():
        known = msgspec.json.decode(read_private(identity), type=Identity)
        body = read_certificate(known.certificate)
        return Public(
            key=known.keys.key,
            curve=known.keys.curve,
            name=body.name,
            mesh=known.mesh_name,
            groups=body.groups,
            publish=body.publish,
            not_after=body.not_after,
        )
    keys = _pending(state)
    return Public(key=keys.key, curve=keys.curve)


def _pending(state: Path) -> NodeKeys:
    path = state / PENDING_FILE
    if path.exists():
        return msgspec.json.decode(read_private(path), type=NodeKeys)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = new_keys(os.urandom)
    write_private(path, msgspec.json.encode(keys))
    return keys


def accept(state: Path, grant: Grant) -> Public:
    """Keep a certificate for this node's own key; raises IdentityError for another's."""
    identity = state / IDENTITY_FILE
    if identity.exists():
        known = msgspec.json.decode(read_private(identity), type=Identity)
        if known.authority_key != grant.authority_key:
            raise IdentityError(
                f"{state} belongs to another mesh, {known.mesh_name}",
                hint="choose another root, or remove its state there if it is not needed",
            )
        keys, doors = known.keys, known.doors
    else:
        keys, doors = _pending(state), ()
    if read_certificate(grant.certificate).key != keys.key:
        raise IdentityError("the certificate is for another key")
    write_identity(
        state,
        Identity(
            mesh_name=grant.mesh_name,
            authority_key=grant.authority_key,
            signing=keys.signing,
            curve_secret=keys.curve_secret,
            certificate=grant.certificate,
            doors=doors,
        ),
    )
    (state / PENDING_FILE).unlink(missing_ok=True)
    return public(state)


def main(arguments: list[str]) -> int:
    """Answer one request."""
    state = Path(arguments[0])
    data = sys.stdin.buffer.read()
    try:
        if data.strip() in {b"", b"{}"}:
            shown = public(state)
        else:
            shown = accept(state, msgspec.json.decode(data, type=Grant))
    except msgspec.MsgspecError as error:
        sys.stderr.write(f"no grant, or no identity: {error}\n")
        return 1
    except GossamerError as error:
        sys.stderr.write(error.sentence() + "\n")
        return 1
    sys.stdout.write(msgspec.json.encode(shown).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

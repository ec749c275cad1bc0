"""How a newcomer turns an invitation into an identity.

    token ─▶ keys, kept ─▶ the door of the token, over CURVE ─▶ certificate, checked ─▶ identity

The newcomer believes the token alone: the door must hold its CURVE key, and the authority that
comes back must have its fingerprint. The keys are kept before they are sent, so that an answer
that was lost can be asked for again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import zmq

from mesh.core.errors import ConfigError, GossamerError, IdentityError, PeerLost, WireError
from mesh.core.identity import (
    KEY_BYTES,
    NodeKeys,
    Trust,
    fingerprint,
    make_passport,
    new_keys,
    sign_curve,
)
from mesh.core.invitations import Token
from mesh.core.wire import Certified, Redeem
from mesh.net.door import ask_door
from mesh.net.statedir import (
    IDENTITY_FILE,
    Identity,
    read_private,
    seed_text,
    write_identity,
    write_private,
)

PENDING_FILE = "joining.json"  # keys that were sent to a door, until its answer is here


async def join(token: Token, state: Path, *, name: str = "", suggestion: str = "") -> Identity:
    """Redeem ``token`` and write the identity to ``state``.

    ``name`` is the node name asked for; ``suggestion`` the one taken where neither the
    invitation nor ``name`` says one. Raises :class:`ConfigError` for a directory that holds an
    identity, :class:`IdentityError` when the door refuses or is not the invitation's, and
    :class:`PeerLost` when no address of the token answers.
    """
    if (state / IDENTITY_FILE).exists():
        raise ConfigError(
            f"{state} holds an identity already", hint="choose another directory with --state"
        )
    keys = _pending_keys(state)
    asked = Redeem(
        secret=token.secret,
        key=keys.key,
        curve=keys.curve,
        name=name,
        proof=sign_curve(keys, token.mesh),
        suggestion=suggestion,
    )
    certified, address = await _redeem(token, keys, asked)
    identity = check_certified(token, keys, certified, time.time())
    identity = msgspec.structs.replace(identity, doors=(seed_text(address, token.curve),))
    write_identity(state, identity)
    (state / PENDING_FILE).unlink(missing_ok=True)
    return identity


async def _redeem(token: Token, keys: NodeKeys, asked: Redeem) -> tuple[Certified, str]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    trouble: GossamerError = PeerLost("the invitation names no address")
    try:
        for address in token.addresses:
            try:
                reply = await ask_door(context, keys, address, token.curve, asked)
            except PeerLost as error:
                trouble = error
                continue
            if not isinstance(reply, Certified):
                raise WireError(f"{address} answered with something else than a certificate")
            return reply, address
    finally:
        context.destroy(linger=0)
    raise trouble


def check_certified(token: Token, keys: NodeKeys, certified: Certified, wall: float) -> Identity:
    """The identity that an answer makes; raises :class:`IdentityError` for any other mesh.

    The fingerprint in the token decides: a door that was taken over cannot put a newcomer
    into a mesh of its own.
    """
    authority = certified.authority
    if len(authority) != KEY_BYTES or fingerprint(authority) != token.mesh:
        raise IdentityError(
            "the door answered for another mesh than the invitation's",
            hint="do not use this invitation; ask who sent it for a new one",
        )
    trust = Trust(authority)
    passport = make_passport(keys, certified.certificate, trust.mesh, issuer=certified.issuer)
    member = trust.check(passport, wall)
    if member.key != keys.key:
        raise IdentityError("the door certified other keys than those of this node")
    return Identity(
        mesh_name=certified.mesh_name[:64],
        authority_key=authority,
        signing=keys.signing,
        curve_secret=keys.curve_secret,
        certificate=certified.certificate,
        issuer=certified.issuer,
    )


def _pending_keys(state: Path) -> NodeKeys:
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"{state} cannot be made: {error.strerror}") from error
    path = state / PENDING_FILE
    if path.exists():
        try:
            return msgspec.json.decode(read_private(path), type=NodeKeys)
        except msgspec.MsgspecError:
            pass  # torn by a power cut before anything was sent with it
    keys = new_keys(os.urandom)
    write_private(path, msgspec.json.encode(keys))
    return keys

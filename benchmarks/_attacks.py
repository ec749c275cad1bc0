"""Each attack of docs/threat-model.md, tried from outside against a node in another process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zmq

from benchmarks._hose import Hose
from mesh.core.effects import Send
from mesh.core.errors import AccessDenied, GossamerError, IdentityError, PeerLost
from mesh.core.identity import Authority, make_passport, new_keys, sign
from mesh.core.invitations import read_token
from mesh.core.records import Profile, ServedName, seal
from mesh.core.signing import Purpose, Signed
from mesh.core.statements import Word, state
from mesh.core.wire import (
    MAX_ADMISSION_BYTES,
    MAX_CONTROL_BYTES,
    CallHeader,
    Op,
    Present,
    Reach,
    Rumours,
)
from mesh.net.door import ask_door
from mesh.net.joining import join
from mesh.net.node import MeshNode
from mesh.net.sockets import admission_dialer, dialer
from mesh.net.statedir import parse_seed

Stats = dict[str, Any]
Orders = Callable[..., Awaitable[dict[str, Any]]]


@dataclass
class Ground:
    """Where attacks take place: the target, an honest member, a member that lies."""

    folder: Path
    orders: Orders
    where: dict[str, Any]
    host: bytes
    guest: MeshNode
    liar: MeshNode
    leaver: MeshNode
    authority: Authority


@dataclass(frozen=True)
class Attack:
    """``act`` tries it; ``counts`` are counters of which one must rise; ``harmless`` says of
    the target's state afterwards that the attack had no effect."""

    name: str
    act: Callable[[Ground], Awaitable[None]]
    counts: tuple[str, ...]
    harmless: Callable[[Stats, Ground], bool] = lambda stats, ground: True


def _profile(ground: Ground, node: MeshNode) -> Profile:
    found = node.core.profile(node.me.node)
    assert found is not None
    return found


def _tell(ground: Ground, *records: Signed) -> None:
    ground.liar.emit([Send(ground.host, Rumours(list(records)))])


def _changed(ground: Ground, node: MeshNode, key: MeshNode, **change: Any) -> Signed:
    profile = _profile(ground, node)
    change.setdefault("sequence", profile.sequence + 100)
    return seal(key.keys.signing, key.trust.mesh, msgspec.structs.replace(profile, **change))


async def forged(ground: Ground) -> None:
    signed = _changed(ground, ground.guest, ground.guest)
    body = msgspec.msgpack.encode(
        msgspec.structs.replace(_profile(ground, ground.guest), sequence=10**6, software="forged")
    )
    _tell(ground, Signed(body, signed.signature))


async def wrong_key(ground: Ground) -> None:
    _tell(ground, _changed(ground, ground.guest, ground.liar, sequence=10**6))


async def replayed(ground: Ground) -> None:
    entry = ground.guest.core.store.get(ground.guest.me.node)
    assert entry is not None
    assert entry.profile is not None
    _tell(ground, entry.profile.signed)


async def rolled_back(ground: Ground) -> None:
    _tell(ground, _changed(ground, ground.guest, ground.guest, sequence=0, software="old"))


async def expired(ground: Ground) -> None:
    wall = ground.guest.now().wall
    _tell(ground, _changed(ground, ground.guest, ground.guest, issued=wall - 90, expires=wall - 9))


async def future(ground: Ground) -> None:
    wall = ground.guest.now().wall
    _tell(
        ground,
        _changed(ground, ground.guest, ground.guest, issued=wall + 9e3, expires=wall + 9.1e3),
    )


async def oversized(ground: Ground) -> None:
    profile = msgspec.structs.replace(
        _profile(ground, ground.guest), sequence=10**6, software="x" * 9000
    )
    mesh = ground.guest.trust.mesh
    _tell(ground, sign(ground.guest.keys.signing, Purpose.RECORD, mesh, profile))


async def _knock(ground: Ground, passport: Any, keys: Any) -> None:
    with contextlib.suppress(IdentityError):
        await ask_door(
            ground.guest.context,
            keys,
            ground.where["admission"],
            bytes.fromhex(ground.where["curve"]),
            Present(passport, 1),
        )


async def wrong_mesh(ground: Ground) -> None:
    other, keys = Authority(os.urandom(32)), new_keys(os.urandom)
    wall = ground.guest.now().wall
    certificate = other.certify(
        key=keys.key,
        name="intruder",
        groups=(),
        publish=("*.gpt/**",),
        not_before=wall,
        not_after=wall + 1000,
        serial=b"x",
    )
    await _knock(ground, make_passport(keys, certificate, other.mesh), keys)


async def borrowed_certificate(ground: Ground) -> None:
    await _knock(ground, ground.guest.passport, new_keys(os.urandom))


async def unknown_key(ground: Ground) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    curve = bytes.fromhex(ground.where["curve"])
    link = dialer(context, new_keys(os.urandom), curve, 1024)
    link.connect(ground.where["control"])
    await asyncio.sleep(0.2)
    context.destroy(0)


async def plain_text(ground: Ground) -> None:
    host, _, port = ground.where["control"].removeprefix("tcp://").rpartition(":")
    null = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    for says in (b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64, null):
        with socket.create_connection((host, int(port)), timeout=2) as one:
            one.sendall(says)
            await asyncio.sleep(0.05)


async def lone_accuser(ground: Ground) -> None:
    liar, guest = ground.liar, ground.guest
    life = guest.core.membership.life
    word = state(liar.core.identity, Word.ACCUSATION, guest.me.node, life, liar.now().wall)
    liar.emit([Send(ground.host, Rumours([], [word]))])


async def nesting_bomb(ground: Ground) -> None:
    ground.liar.transport.send(ground.host, b"\x01" + b"\x91" * 60_000, 0)  # type: ignore[arg-type]


async def without_right(ground: Ground) -> None:
    cloud = (ServedName(name="computation.gpt/cloud"),)
    _tell(ground, _changed(ground, ground.liar, ground.liar, names=cloud))


async def widened(ground: Ground) -> None:
    liar, guest = ground.liar, ground.guest
    header = CallHeader(
        os.urandom(16), os.urandom(8), 2000, guest.me.node, reach=Reach.CLOUD, hops=2
    )
    with contextlib.suppress(AccessDenied):
        async for _ in liar.call(ground.host, "knowledge.gpt/echo", b"x", header, Op.DELEGATE):
            pass


async def replayed_invitation(ground: Ground) -> None:
    token = read_token((await ground.orders("invite"))["token"])
    await join(token, ground.folder / "invited", name="invited")
    with contextlib.suppress(IdentityError):
        await join(token, ground.folder / "thief", name="thief")


async def kept_open(ground: Ground) -> None:
    """The stream is open before; the revocation is what the attempt resists."""
    leaver = ground.leaver
    header = CallHeader(os.urandom(16), os.urandom(8), 60_000, leaver.me.node)
    answer = leaver.call(ground.host, "knowledge.gpt/hang", b"x", header)
    await anext(answer)  # type: ignore[arg-type]
    assert (await ground.orders("stats"))["active"] >= 1
    await ground.orders("revoke", who="leaver")
    for _ in range(3):  # it goes on talking over what it has open
        with contextlib.suppress(GossamerError, PeerLost):
            async for _message in leaver.call(
                ground.host,
                "knowledge.gpt/echo",
                b"x",
                msgspec.structs.replace(header, timeout_ms=300),
            ):
                pass


def _guest_stays(stats: Stats, ground: Ground) -> bool:
    return "guest" in stats["names"].get("knowledge.gpt/guest", [])


async def _endless(place: str, link: zmq.Socket[bytes], part_bytes: int, most_bytes: int) -> None:
    """A message of parts whose last one never comes; what came of it is held by libzmq."""
    hose = Hose(place, most_bytes)
    link.setsockopt(zmq.IMMEDIATE, 0)
    link.connect(hose.address)
    link.send_multipart([os.urandom(part_bytes)] * (most_bytes // part_bytes + 100))
    for _ in range(200):
        if hose.most <= 0 or hose.cut:
            break
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)  # two looks at what is held
    # The connection first: libzmq aborts the process (here: ours, the attacker's) when a socket
    # is closed while its session holds half of a message (zeromq/libzmq#3442).
    hose.close()
    await asyncio.sleep(0.5)
    link.close(0)


async def endless_stranger(ground: Ground) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    _, curve = parse_seed(ground.where["seed"])
    link = admission_dialer(context, new_keys(os.urandom), curve)
    await _endless(ground.where["admission"], link, MAX_ADMISSION_BYTES - 100, 64 << 20)
    context.destroy(0)


async def endless_member(ground: Ground) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    _, curve = parse_seed(ground.where["seed"])
    link = dialer(context, ground.liar.keys, curve, MAX_CONTROL_BYTES)
    await _endless(ground.where["control"], link, MAX_CONTROL_BYTES - 100, 256 << 20)
    context.destroy(0)


async def several_parts(ground: Ground) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    _, curve = parse_seed(ground.where["seed"])
    link = dialer(context, ground.liar.keys, curve, MAX_CONTROL_BYTES)
    link.setsockopt(zmq.IMMEDIATE, 0)
    link.connect(ground.where["control"])
    link.send_multipart([b"x"] * 1000)
    await asyncio.sleep(0.5)
    link.close(0)
    context.destroy(0)


ATTACKS = (
    Attack("forged record", forged, ("refused_signature",), _guest_stays),
    Attack("wrong key", wrong_key, ("refused_signature",), _guest_stays),
    Attack("replay", replayed, ("stale",), _guest_stays),
    Attack("rollback", rolled_back, ("stale",), _guest_stays),
    Attack("expired", expired, ("refused_expired",), _guest_stays),
    Attack("from the future", future, ("refused_future",), _guest_stays),
    Attack("oversized", oversized, ("refused_malformed", "too_large"), _guest_stays),
    Attack(
        "wrong mesh",
        wrong_mesh,
        ("admission_refused",),
        lambda stats, _: "intruder" not in stats["members"],
    ),
    Attack("unknown CURVE key", unknown_key, ("key_refused",)),
    Attack("plain-text client", plain_text, ("connections_unknown", "handshake_malformed")),
    Attack(
        "lone accuser",
        lone_accuser,
        ("accusations_heard", "refused_accusation_age"),
        lambda stats, _: stats["members"].get("guest") == "ALIVE",
    ),
    Attack("certificate of another node", borrowed_certificate, ("admission_refused",)),
    Attack("widened delegation", widened, ("refused_denied",)),
    Attack("nesting bomb", nesting_bomb, ("malformed",)),
    Attack(
        "replayed invitation",
        replayed_invitation,
        ("admission_refused_redeem",),
        lambda stats, _: "thief" not in stats["members"],
    ),
    Attack(
        "name published without right",
        without_right,
        ("refused_publish",),
        lambda stats, _: "computation.gpt/cloud" not in stats["names"],
    ),
    Attack(
        "stream kept open past revocation",
        kept_open,
        ("not_a_member", "connections_cut", "handshake_refused"),
        lambda stats, _: stats["active"] == 0 and "leaver" not in stats["members"],
    ),
    Attack(
        "message without an end, of a stranger",
        endless_stranger,
        ("connections_cut_backlog",),
        _guest_stays,
    ),
    Attack(
        "message without an end, of a member",
        endless_member,
        ("connections_cut_backlog",),
        _guest_stays,
    ),
    Attack("message of several parts", several_parts, ("parts_refused",), _guest_stays),
)

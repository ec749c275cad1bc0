"""Invitations redeemed at a real door, certificates renewed while a node runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mesh.core.errors import AccessDenied, ConfigError, IdentityError, PeerLost
from mesh.core.identity import Authority, fingerprint, new_keys, sign_curve
from mesh.core.invitations import read_token
from mesh.core.wire import Certified, Redeem
from mesh.net import door as doors
from mesh.net.door import ask_door
from mesh.net.issuer import BOOK_FILE, read_book
from mesh.net.joining import PENDING_FILE, check_certified, join
from mesh.net.statedir import IDENTITY_FILE
from tests.mesh.net.harness import Echo, fabric, header, knows, offer, until
from tests.mesh.net.issuers import invited, issuing_node, started

NAME = "knowledge.gpt/echo"


async def ask(node, target, name: str = NAME) -> bytes:  # type: ignore[no-untyped-def]
    return b"".join([m async for m in node.call(target.me.node, name, b"abc", header(node))])


def test_an_invitation_makes_a_member_of_a_mesh_whose_authority_is_offline(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            offer(laptop, Echo(), NAME)
            pi = await invited(mesh, laptop, "pi", groups=("sensors",))
            await until(lambda: knows(pi, laptop, NAME), "they meet")
            assert await ask(pi, laptop) == b"abc"
            seen = laptop.core.member(pi.me.node)
            assert seen is not None
            assert (seen.name, seen.groups) == ("pi", ("sensors",))
            # Somebody who only ever heard of the authority believes the newcomer as well.
            plain = await mesh.node("plain", laptop)
            offer(pi, Echo(), "knowledge.gpt/pi")
            await until(lambda: knows(plain, pi, "knowledge.gpt/pi"), "it is heard of")
            assert await ask(plain, pi, "knowledge.gpt/pi") == b"abc"

    asyncio.run(scenario())


def test_a_replayed_invitation_is_refused_also_after_a_restart_of_the_issuer(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            token, _ = await laptop.standing.invite()
            address = laptop.endpoints.admission
            await join(read_token(token), tmp_path / "pi", name="pi")
            with pytest.raises(IdentityError, match="used up"):
                await join(read_token(token), tmp_path / "thief", name="thief")
            assert not (tmp_path / "thief" / IDENTITY_FILE).exists()
            assert laptop.door.counters["admission_refused_redeem"] == 1
            await mesh.close(laptop)
            again = await issuing_node(mesh)
            moved = read_token(token)._replace(addresses=(again.endpoints.admission,))
            assert address
            with pytest.raises(IdentityError, match="used up"):
                await join(moved, tmp_path / "thief", name="thief")

    asyncio.run(scenario())


def test_a_use_is_on_disk_before_the_certificate_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            token, _ = await laptop.standing.invite()
            seen: list[int] = []
            reply = doors.Door._reply

            def spy(self, route, message):  # type: ignore[no-untyped-def]
                if isinstance(message, Certified):
                    book = read_book(laptop.state.path)
                    seen.extend(i.uses_left for i in book.invitations.values())
                reply(self, route, message)

            monkeypatch.setattr(doors.Door, "_reply", spy)
            await join(read_token(token), tmp_path / "pi", name="pi")
            assert seen == [0]

    asyncio.run(scenario())


def test_without_a_disk_no_certificate_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            token, _ = await laptop.standing.invite()

            def full(*_: object) -> None:
                raise ConfigError("the disk is full")

            monkeypatch.setattr("mesh.net.standing.write_book", full)
            with pytest.raises(IdentityError, match="disk cannot be written"):
                await join(read_token(token), tmp_path / "pi", name="pi")
            monkeypatch.undo()
            # The same keys may ask again: nothing was lost but time.
            identity = await join(read_token(token), tmp_path / "pi", name="pi")
            assert identity.mesh_name == "test"
            assert not (tmp_path / "pi" / PENDING_FILE).exists()

    asyncio.run(scenario())


def test_a_door_of_another_mesh_cannot_take_the_newcomer_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            token, _ = await laptop.standing.invite()
            read = read_token(token)
            other = Authority(os.urandom(32))
            keys = new_keys(os.urandom)
            false = Certified(
                other.certify(
                    key=keys.key,
                    name="pi",
                    groups=(),
                    publish=(),
                    not_before=0.0,
                    not_after=9e9,
                    serial=b"",
                ),
                other.key,
            )
            with pytest.raises(IdentityError, match="another mesh than the invitation's"):
                check_certified(read, keys, false, laptop.now().wall)
            assert fingerprint(mesh.authority.key) == read.mesh
            # A door that does not hold the CURVE key of the token never hears the secret.
            stranger = await mesh.node("stranger")
            wrong = read._replace(addresses=(stranger.endpoints.admission,))
            monkey = doors.KNOCK_TIMEOUT_S
            doors.KNOCK_TIMEOUT_S = 0.5
            try:
                with pytest.raises(PeerLost):
                    await join(wrong, tmp_path / "pi", name="pi")
            finally:
                doors.KNOCK_TIMEOUT_S = monkey

    asyncio.run(scenario())


def test_a_node_that_is_no_issuer_neither_invites_nor_redeems(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop, plain = await issuing_node(mesh), await mesh.node("plain")
            with pytest.raises(AccessDenied, match="holds no issuer's key"):
                await plain.standing.invite()
            token, _ = await laptop.standing.invite()
            read = read_token(token)
            keys = new_keys(os.urandom)
            asked = Redeem(read.secret, keys.key, keys.curve, "pi", sign_curve(keys, read.mesh))
            address, curve = plain.endpoints.admission, plain.keys.curve
            with pytest.raises(IdentityError, match="issues no certificates"):
                await ask_door(plain.context, keys, address, curve, asked)

    asyncio.run(scenario())


def test_a_flood_of_guesses_is_cut_off_and_members_still_meet(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            door = laptop.door._door
            now = laptop.now()
            answered = 0
            for _ in range(300):
                keys = new_keys(os.urandom)
                asked = Redeem(
                    os.urandom(16), keys.key, keys.curve, "x", sign_curve(keys, mesh.authority.mesh)
                )
                reply, _ = door.receive(asked, keys.curve, 1, laptop.endpoints, now)
                answered += reply is not None
            assert answered <= 20
            assert door.counters["admission_over_rate"] == 300 - answered
            guest = await mesh.node("guest", laptop)
            await until(lambda: laptop.core.member(guest.me.node), "a member still gets in")

    asyncio.run(scenario())


def test_a_directory_with_an_identity_is_not_joined_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            token, _ = await laptop.standing.invite(uses=2)
            await join(read_token(token), tmp_path / "pi", name="pi")
            with pytest.raises(ConfigError, match="holds an identity already"):
                await join(read_token(token), tmp_path / "pi", name="pi")

    asyncio.run(scenario())


def test_a_damaged_book_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            await laptop.standing.invite()
            await mesh.close(laptop)
            (tmp_path / "laptop" / BOOK_FILE).write_bytes(b'{"invitations": ')
            again = await issuing_node(mesh)
            assert again.standing.desk is None
            assert any("issues no certificates" in line for line in again.troubles)

    asyncio.run(scenario())


def test_a_certificate_is_renewed_while_the_node_runs_and_peers_take_the_newer_one(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            pi = await invited(mesh, laptop, "pi", valid_s=3.0)
            offer(pi, Echo(hang=True), NAME)
            await until(lambda: knows(laptop, pi, NAME), "they meet")
            first = pi.me
            answer = laptop.call(pi.me.node, NAME, b"a", header(laptop, 60.0))
            assert await anext(answer) == b"a"  # type: ignore[arg-type]
            await until(lambda: pi.me.not_after > first.not_after, "it is renewed")
            await until(
                lambda: (m := laptop.core.member(pi.me.node)) and m.not_after > first.not_after,
                "the issuer's node has the newer one",
            )
            # The first certificate ends; link, stream and node outlive it.
            await until(lambda: laptop.now().wall > first.not_after + 1.2, "the first one ends")
            assert laptop.core.member(pi.me.node) is not None
            assert pi.streams.callee
            assert pi.calls.counters["ended_no_longer_allowed"] == 0
            await answer.aclose()  # type: ignore[attr-defined]
            # A restart begins with the newer one.
            await mesh.close(pi)
            again = await started(mesh, tmp_path / "pi")
            assert again.me.not_after > first.not_after

    asyncio.run(scenario())


def test_a_certificate_that_is_not_renewed_ends_the_nodes_streams(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            echo = Echo(hang=True)
            offer(laptop, echo, NAME)
            guest = await invited(mesh, laptop, "guest", valid_s=2.0, renews=False)
            await until(lambda: knows(guest, laptop, NAME), "they meet")
            answer = guest.call(laptop.me.node, NAME, b"a", header(guest, 60.0))
            assert await anext(answer) == b"a"  # type: ignore[arg-type]
            with pytest.raises(Exception, match="expired"):
                async for _ in answer:
                    pass
            await until(lambda: echo.active == 0, "the work stops")
            with pytest.raises(Exception, match="expired"):
                await ask(guest, laptop)
            await until(
                lambda: any("was not renewed" in line for line in guest.troubles),
                "the guest is told in good time",
            )

    asyncio.run(scenario())

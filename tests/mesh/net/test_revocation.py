"""A revoked node is out everywhere within a moment, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import zmq

from mesh.core.effects import Send
from mesh.core.errors import AccessDenied, GossamerError
from mesh.core.invitations import read_token
from mesh.core.revocation import Revocations, read_revocation, revocation_text, revoke
from mesh.core.wire import Hello, Lane, Rumours, encode
from mesh.net.joining import join
from mesh.net.sockets import cut_connection, dialer
from mesh.net.standing import REVOCATIONS_FILE
from tests.mesh.net.harness import Echo, fabric, header, knows, offer, until
from tests.mesh.net.issuers import invited, issuing_node, started

NAME = "knowledge.gpt/echo"


async def ask(node, target) -> bytes:  # type: ignore[no-untyped-def]
    answer = node.call(target.me.node, NAME, b"abc", header(node))
    return b"".join([message async for message in answer])


async def opened(node, target):  # type: ignore[no-untyped-def]
    """A stream that runs until somebody ends it."""
    answer = node.call(target.me.node, NAME, b"a", header(node, 60.0))
    assert await anext(answer) == b"a"
    return answer


async def drained(answer) -> None:  # type: ignore[no-untyped-def]
    async for _ in answer:
        pass


def test_a_revoked_node_is_refused_everywhere_and_its_streams_end_both_ways(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            echo, theirs = Echo(hang=True), Echo(hang=True)
            offer(laptop, echo, NAME)
            pi = await invited(mesh, laptop, "pi")
            tv = await invited(mesh, laptop, "tv")
            offer(pi, theirs, NAME)
            await until(lambda: knows(laptop, pi, NAME) and knows(tv, pi, NAME), "they meet")
            await until(lambda: knows(pi, laptop, NAME) and knows(tv, laptop, NAME), "all meet")
            incoming, outgoing = await opened(pi, laptop), await opened(laptop, pi)
            innocent = await opened(tv, laptop)
            told = await laptop.standing.revoke("pi", "stolen")
            assert told["told"] == 2
            with pytest.raises(GossamerError, match="revoked"):
                await drained(outgoing)
            with pytest.raises(GossamerError):
                await drained(incoming)
            await until(lambda: echo.active == 1, "the laptop works for the innocent alone")
            for node in (laptop, tv):
                await until(lambda n=node: n.core.member(pi.me.node) is None, "it is out")
                assert pi.me.node not in [n for n, _ in node.core.store.query(NAME)]
                assert any("pi was revoked: stolen" in line for line in node.troubles)
            # What it says of itself is dropped, from whomever it comes.
            profile = pi.core.store.get(pi.me.node).profile.signed  # type: ignore[union-attr]
            tv.core.adopt([profile], tv.now())
            assert tv.core.member(pi.me.node) is None
            # Its own knock is refused, with the reason.
            await until(lambda: any("revoked: stolen" in x for x in pi.troubles), "it is told")
            # The innocent stream was never broken.
            assert laptop.calls.counters["ended_no_longer_allowed"] == 0
            assert tv.streams.counters["peer_lost"] == 0
            assert echo.active == 1
            await innocent.aclose()

    asyncio.run(scenario())


def test_an_open_connection_of_a_revoked_node_is_cut_and_no_frame_gets_through(
    tmp_path: Path,
) -> None:
    """Connections that a patched node opened by hand, one used and one silent until later."""

    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            offer(laptop, Echo(), NAME)
            pi = await invited(mesh, laptop, "pi")
            tv = await invited(mesh, laptop, "tv")
            await until(lambda: knows(pi, laptop, NAME) and knows(tv, laptop, NAME), "they meet")
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
            links, watches = [], []
            for _ in range(2):
                socket = dialer(context, pi.keys, laptop.keys.curve, 65536)
                socket.setsockopt(zmq.RECONNECT_IVL, -1)
                watches.append(socket.get_monitor_socket(events))
                socket.connect(laptop.endpoints.control)
                links.append(socket)
                await until(lambda: watches[-1].poll(0), "the handshake")
                watches[-1].recv_multipart()
            used, silent = links
            hello = encode(Hello(pi.me.node, pi.incarnation))
            used.send(hello)
            await until(lambda: len(laptop.transport._descriptor_of_route) >= 2, "it is heard")
            await laptop.standing.revoke("pi", "stolen")
            await until(lambda: watches[0].poll(0), "the used one is cut")
            refused = laptop.transport.counters["not_a_member"]
            silent.send(hello)
            await until(lambda: watches[1].poll(0), "the silent one is cut when it speaks")
            assert laptop.transport.counters["not_a_member"] == refused + 1
            assert laptop.transport.counters["connections_cut"] >= 2
            # It dials again, and the gate does not let it in.
            before = laptop.transport.gate_counters["handshake_refused"]
            again = dialer(context, pi.keys, laptop.keys.curve, 65536)
            again.connect(laptop.endpoints.control)
            await until(
                lambda: laptop.transport.gate_counters["handshake_refused"] > before, "refused"
            )
            assert await ask(tv, laptop) == b"abc"
            context.destroy(linger=0)

    asyncio.run(scenario())


def test_who_was_away_hears_of_it_when_it_is_back_and_a_restart_forgets_nothing(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            pi = await invited(mesh, laptop, "pi")
            tv = await invited(mesh, laptop, "tv")
            offer(pi, Echo(), NAME)
            await until(lambda: knows(tv, pi, NAME), "they meet")
            await mesh.close(tv)  # its journal remembers the pi
            await laptop.standing.revoke("pi", "stolen")
            await mesh.close(laptop)
            tv = await started(mesh, tmp_path / "tv")
            assert tv.core.member(pi.me.node) is not None
            laptop = await issuing_node(mesh)  # a restart: the word comes from its disk
            assert (tmp_path / "laptop" / REVOCATIONS_FILE).exists()
            assert laptop.core.revocations.hash != Revocations(laptop.trust).hash
            await tv.finder.knock(laptop.endpoints.admission, laptop.keys.curve)
            await until(lambda: tv.core.member(pi.me.node) is None, "the one that was away")
            await mesh.close(tv)
            tv = await started(mesh, tmp_path / "tv")
            assert tv.core.member(pi.me.node) is None

    asyncio.run(scenario())


def test_a_forged_revocation_takes_nobody_out_and_is_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            pi = await invited(mesh, laptop, "pi")
            tv = await invited(mesh, laptop, "tv")
            offer(tv, Echo(), NAME)
            await until(lambda: knows(pi, tv, NAME), "they meet")
            forged = revoke(  # a member that makes itself a judge
                pi.me.issuer,
                pi.core.identity.sign,
                pi.trust.mesh,
                tv.me.node,
                name="tv",
                reason="lies",
                wall=pi.now().wall,
                until=pi.now().wall + 1000,
                paper=laptop.standing.require_desk().paper,
            )
            pi.emit([Send(laptop.me.node, Rumours(revocations=[forged]), Lane.CONTROL)])
            await until(lambda: laptop.core.counters["refused_revocation"], "it is counted")
            assert laptop.core.member(tv.me.node) is not None

    asyncio.run(scenario())


def test_only_who_certified_a_node_takes_it_out_and_the_authority_takes_out_anybody(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            plain = await mesh.node("plain", laptop)
            await until(lambda: laptop.core.member(plain.me.node), "they meet")
            with pytest.raises(AccessDenied, match="another key than this node's"):
                await laptop.standing.revoke("plain", "")
            with pytest.raises(AccessDenied, match="holds no issuer's key"):
                await plain.standing.revoke("laptop", "")
            word = revoke(
                mesh.authority.mesh,
                mesh.authority.sign,
                mesh.authority.mesh,
                plain.me.node,
                name="plain",
                reason="",
                wall=laptop.now().wall,
                until=laptop.now().wall + 1000,
            )
            # Any member may carry it, here the very node that it speaks of.
            await plain.standing.spread(read_revocation(revocation_text(word)))
            await until(lambda: laptop.core.member(plain.me.node) is None, "it is out")
            assert any("this node was revoked" in line for line in plain.troubles)

    asyncio.run(scenario())


def test_a_revoked_node_comes_back_only_by_invitation_and_with_new_keys(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            laptop = await issuing_node(mesh)
            pi = await invited(mesh, laptop, "pi")
            await until(lambda: laptop.core.member(pi.me.node), "they meet")
            await laptop.standing.revoke("pi", "")
            await mesh.close(pi)
            token, _ = await laptop.standing.invite(groups=("home",))
            identity = await join(read_token(token), tmp_path / "pi-again", name="pi")
            assert identity.keys.node != pi.me.node
            again = await started(mesh, tmp_path / "pi-again")
            await until(lambda: laptop.core.member(again.me.node), "it is back")

    asyncio.run(scenario())


def test_cutting_a_connection_touches_none_that_is_not_ours() -> None:
    read, write = os.pipe()
    try:
        assert not cut_connection(read, {1})
        assert not cut_connection(-1, {1})
        assert not cut_connection(987_654, {1})
        os.write(write, b"x")
        assert os.read(read, 1) == b"x"
    finally:
        os.close(read)
        os.close(write)

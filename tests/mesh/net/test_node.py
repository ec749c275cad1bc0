"""Two and more real nodes over ZeroMQ with CURVE: calls, refusals, and what must not get in."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
import zmq

from mesh.core.access import Operation, Policy, Rule
from mesh.core.effects import Send
from mesh.core.errors import (
    AccessDenied,
    DeadlineExceeded,
    NoSuchName,
    PeerLost,
    Rejected,
    StateLocked,
)
from mesh.core.identity import Authority, new_keys
from mesh.core.records import ServedName, seal
from mesh.core.wire import MAX_CONTROL_BYTES, Hello, Lane, Reach, Rumours, encode
from mesh.net.journal import read_journal
from mesh.net.node import MeshNode
from mesh.net.sockets import dialer
from mesh.net.statedir import StateDir
from tests.mesh.net.harness import Echo, Fabric, fabric, header, knows, offer, until

NAME = "knowledge.gpt/echo"


async def pair(
    mesh: Fabric, service: Echo, policy: Policy | None = None
) -> tuple[MeshNode, MeshNode]:
    host = await mesh.node("host", policy=policy)
    offer(host, service, NAME, "data.gpt/echo/raw")
    guest = await mesh.node("guest", host)
    await until(lambda: knows(guest, host, NAME), "the guest hears what the host offers")
    return host, guest


async def collect(node: MeshNode, target: MeshNode, body: bytes = b"abc", **kw: object) -> bytes:
    name = str(kw.pop("name", NAME))
    pieces = []
    async for message in node.call(target.me.node, name, body, header(node, **kw)):  # type: ignore[arg-type]
        pieces.append(message)
    return b"".join(pieces)


def test_a_call_is_answered_over_curve_and_the_callee_knows_who_asks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            echo = Echo()
            host, guest = await pair(mesh, echo)
            assert await collect(guest, host, b"hello mesh" * 50) == b"hello mesh" * 50
            assert echo.calls[0].peer.name == "guest"
            assert await collect(host, host) == b"abc"  # a node may ask itself
            assert guest.core.member(host.me.node) is not None

    asyncio.run(scenario())


def test_a_large_body_travels_in_chunks(tmp_path: Path) -> None:
    async def scenario() -> None:
        class Length(Echo):
            async def serve(self, call):  # type: ignore[no-untyped-def]
                yield str(len(call.body)).encode()

        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Length())
            assert await collect(guest, host, os.urandom(300_000)) == b"300000"

    asyncio.run(scenario())


def test_a_full_node_says_no_at_once_with_a_hint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Echo(slots=0))
            with pytest.raises(Rejected, match="slots are taken") as caught:
                await collect(guest, host)
            assert caught.value.retry_after_s == 1.5

    asyncio.run(scenario())


def test_closing_the_iterator_cancels_the_work_at_the_other_side(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            echo = Echo(hang=True)
            host, guest = await pair(mesh, echo)
            answer = guest.call(host.me.node, NAME, b"a", header(guest))
            assert await anext(answer) == b"a"  # type: ignore[arg-type]
            await answer.aclose()  # type: ignore[attr-defined]
            await until(lambda: echo.cancelled == 1 and echo.active == 0, "the work stops")
            assert len(host.streams.callee) == 0

    asyncio.run(scenario())


def test_a_deadline_ends_a_call_on_both_sides(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            echo = Echo(hang=True)
            host, guest = await pair(mesh, echo)
            with pytest.raises(DeadlineExceeded):
                await collect(guest, host, timeout_s=0.3)
            await until(lambda: echo.active == 0, "the callee stops")

    asyncio.run(scenario())


def test_a_node_that_goes_away_fails_its_streams_and_is_seen_as_departed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Echo(hang=True))
            asked = asyncio.create_task(collect(guest, host))
            await until(lambda: len(host.streams.callee) == 1, "the call is under way")
            await mesh.close(host)
            with pytest.raises((PeerLost, Exception)):
                await asked
            await until(
                lambda: guest.core.membership.state(host.me.node).name == "DEPARTED",
                "the goodbye is heard",
            )

    asyncio.run(scenario())


def test_access_is_checked_where_the_work_is_done(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            echo = Echo()
            host, guest = await pair(mesh, echo)
            with pytest.raises(AccessDenied, match=r"data\.gpt is denied"):
                await collect(guest, host, name="data.gpt/echo/raw")
            with pytest.raises(NoSuchName):
                await collect(guest, host, name="knowledge.gpt/nothing")
            with pytest.raises(AccessDenied, match="may not leave the node"):
                await collect(guest, host, reach=Reach.NODE)
            assert await collect(guest, host, reach=Reach.GROUP) == b"abc"
            assert len(echo.calls) == 1
            assert host.calls.counters["refused_denied"] == 2

    asyncio.run(scenario())


def test_a_rule_opens_data_to_a_group(tmp_path: Path) -> None:
    async def scenario() -> None:
        policy = Policy([Rule(allow=True, names="data.gpt/echo/**", groups=("home",))])
        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Echo(), policy)
            assert await collect(guest, host, name="data.gpt/echo/raw") == b"abc"

    asyncio.run(scenario())


def test_a_certificate_of_another_mesh_is_refused_in_one_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            stranger = await mesh.node("stranger", host, authority=Authority(os.urandom(32)))
            await until(lambda: stranger.troubles, "the stranger is told")
            assert "refused this node" in stranger.troubles[0]
            assert "certificate is for mesh" in stranger.troubles[0]
            await until(lambda: host.troubles, "the host tells")
            assert host.door.counters["admission_refused"] >= 1
            assert len(host.core.members()) == 1

    asyncio.run(scenario())


def test_a_message_of_several_parts_is_refused_counted_and_its_connection_cut(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Echo())
            assert await collect(guest, host) == b"abc"
            hello = encode(Hello(guest.me.node, guest.incarnation))
            guest.transport._links[host.me.node]._lanes[Lane.CONTROL]._socket.send_multipart(
                [hello] * 200
            )
            await until(lambda: host.transport.counters["parts_refused"], "it is counted")
            assert any("several parts" in line for line in host.troubles)
            await until(lambda: guest.transport.counters["link_down"], "the connection is cut")

    asyncio.run(scenario())


def test_an_unknown_curve_key_does_not_reach_the_member_socket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Echo())
            keys = new_keys(os.urandom)
            context = zmq.Context()
            socket = dialer(context, keys, host.keys.curve, 1024)
            socket.connect(host.endpoints.control)
            await until(lambda: host.transport.counters["key_refused"], "the gate refuses")
            assert any("is no member" in line for line in host.troubles)
            assert await collect(guest, host) == b"abc"  # nothing else is disturbed
            socket.close()
            context.destroy(linger=0)

    asyncio.run(scenario())


def test_malformed_and_oversized_frames_are_refused_counted_and_harmless(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Echo())
            link = guest.transport._links[host.me.node]
            for frame in (b"", b"\x01\xff\xff", b"\x09hello", b"\x07" + os.urandom(200)):
                link.send(frame, 0)  # type: ignore[arg-type]
            await until(lambda: host.counters["malformed"] >= 4, "they are counted")
            assert all("\n" not in line for line in host.troubles)
            assert await collect(guest, host) == b"abc"
            # libzmq itself cuts the connection of a frame over the limit, before it is read.
            link.send(b"\x01" + b"x" * (MAX_CONTROL_BYTES + 10_000), 0)  # type: ignore[arg-type]
            await until(lambda: guest.transport.counters["link_down"], "the link is cut")
            for _ in range(200):
                try:
                    assert await collect(guest, host) == b"abc"
                    break
                except PeerLost:
                    await asyncio.sleep(0.05)
            else:
                pytest.fail("the link never came back")

    asyncio.run(scenario())


def test_a_name_without_the_right_to_it_is_dropped_by_everybody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            liar = await mesh.node("liar", host, publish=("knowledge.gpt/echo",))
            with pytest.raises(AccessDenied, match="does not grant"):
                offer(liar, Echo(), "computation.gpt/cloud")
            # A node that is patched not to look at its own certificate:
            offer(liar, Echo(), NAME)
            await until(lambda: knows(host, liar, NAME), "the honest profile is heard")
            honest = liar.core.profile(liar.me.node)
            assert honest is not None
            forged = msgspec.structs.replace(
                honest,
                sequence=honest.sequence + 1,
                names=(ServedName(name="computation.gpt/cloud"),),
            )
            signed = seal(liar.keys.signing, liar.trust.mesh, forged)
            liar.emit([Send(host.me.node, Rumours([signed]))])
            await until(
                lambda: any("computation.gpt/cloud" in line for line in host.troubles),
                "the host says so",
            )
            assert host.core.counters["refused_publish"] == 1
            assert not knows(host, liar, "computation.gpt/cloud")
            assert knows(host, liar, NAME)  # the honest profile stays


def test_one_state_directory_runs_one_agent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            await mesh.node("host")
            with pytest.raises(StateLocked, match="another agent runs"):
                StateDir(tmp_path / "host")

    asyncio.run(scenario())


def test_a_restarted_node_knows_the_mesh_before_it_hears_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Echo())
            boots = guest.incarnation
            await mesh.close(guest)
            offline = await mesh.node("guest")  # no seed: what it knows comes from its journal
            assert knows(offline, host, NAME)
            assert offline.incarnation > boots
            await until(
                lambda: offline.core.membership.state(host.me.node).name == "ALIVE",
                "it finds the host again",
            )

    asyncio.run(scenario())


def test_what_a_node_learns_is_on_disk_before_it_can_well_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.net.disk.JOURNAL_EVERY_S", 3600.0)  # only "soon" is left

    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            _, guest = await pair(mesh, Echo())
            await until(
                lambda: len(read_journal(guest.state.journal)) == 1, "the journal names the host"
            )

    asyncio.run(scenario())


def test_hidden_rows_leave_only_for_a_node_that_a_rule_names(tmp_path: Path) -> None:
    segment = "computation.gpt/segment/tiny/0-4"

    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            echo = Echo()
            host, guest = await pair(mesh, echo)
            with pytest.raises(AccessDenied, match="hidden rows"):
                await collect(guest, host, name=segment)
            rule = Rule(
                allow=True, names="computation.gpt/**", nodes=("host",), ops=(Operation.STATES,)
            )
            guest.policy = Policy([rule])
            with pytest.raises(NoSuchName):  # it was asked; it does not offer the name
                await collect(guest, host, name=segment)
            assert not echo.calls

    asyncio.run(scenario())


def test_what_is_sent_after_a_node_has_stopped_is_dropped_and_counted(tmp_path: Path) -> None:
    """A task that ends with the node may still say goodbye."""

    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            guest = await mesh.node("guest", host)
            await until(lambda: guest.core.member(host.me.node), "they meet")
            await guest.stop()
            failed: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, told: failed.append(told))
            guest.transport.send(host.me.node, b"goodbye", Lane.CONTROL)
            await asyncio.sleep(0.01)
            assert guest.transport.counters["dropped_closed"] >= 1
            assert not failed

    asyncio.run(scenario())

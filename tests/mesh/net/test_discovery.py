"""How nodes find each other, and how one that cannot be dialled is reached; on loopback.

What needs a LAN, a NAT or a cut cable is in tests/e2e/test_namespaces.py.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from mesh.core.errors import PeerLost
from mesh.core.events import PeerState
from mesh.core.identity import new_keys, show_id
from mesh.core.records import Dialable
from mesh.net import addresses
from mesh.net.discovery import MAX_SERVICES, Discovery, announcement_text, read_announcement
from mesh.net.node import MeshNode, NodeConfig
from mesh.net.statedir import StateDir, create_identity
from tests.mesh.net.harness import Echo, Fabric, fabric, header, knows, offer, until

NAME = "knowledge.gpt/echo"
MESH = b"m" * 16
NETS = ["10.0.0.2/24"]


async def hidden(mesh: Fabric, name: str, *seeds: MeshNode) -> MeshNode:
    """A node that says that it cannot be dialled."""
    create_identity(
        mesh.folder / name,
        mesh.authority,
        "test",
        name=name,
        groups=("home",),
        publish=("knowledge.gpt/**",),
    )
    config = NodeConfig(seeds=tuple(seed.seed for seed in seeds), dialable=False)
    node = MeshNode(StateDir(mesh.folder / name), config)
    await node.start()
    mesh.nodes.append(node)
    return node


def alive(node: MeshNode, other: MeshNode) -> bool:
    return node.core.membership.state(other.me.node) is PeerState.ALIVE


async def ask(node: MeshNode, other: MeshNode) -> bytes:
    answer = node.call(other.me.node, NAME, b"abc", header(node))
    return b"".join([piece async for piece in answer])


# -- nodes that cannot be dialled -------------------------------------------------------------


def test_a_node_that_cannot_be_dialled_is_called_over_the_links_that_it_opened(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            guest = await mesh.node("guest", host)
            for node in (host, guest):
                offer(node, Echo())  # nothing, but a profile says where it listens
            phone = await hidden(mesh, "phone", host)
            offer(phone, Echo(), NAME)
            assert phone.seed == ""
            for node in (host, guest):
                await until(lambda n=node: knows(n, phone, NAME), "the phone's offer is heard")  # type: ignore[misc]
                await until(
                    lambda n=node: n.transport.reach(phone.me.node) == "called back",  # type: ignore[misc]
                    "the phone opens a link",
                )
                assert node.core.endpoints(phone.me.node).control == ""
                assert node.core.endpoints(phone.me.node).dialable == Dialable.NO
                assert await ask(node, phone) == b"abc"
            assert phone.finder.reach.verdict is Dialable.NO

    asyncio.run(scenario())


def test_a_held_link_comes_back_by_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            phone = await hidden(mesh, "phone", host)
            offer(phone, Echo(), NAME)
            await until(lambda: phone.transport.is_dialled(host.me.node), "the link is up")
            phone.transport.drop(host.me.node)
            await until(lambda: phone.transport.is_dialled(host.me.node), "it is up again")
            await until(lambda: knows(host, phone, NAME), "the offer is heard")
            for _ in range(100):  # the old way back is noticed when it is used
                try:
                    assert await ask(host, phone) == b"abc"
                    break
                except PeerLost:
                    await asyncio.sleep(0.05)
            else:
                pytest.fail("the phone was never called")

    asyncio.run(scenario())


def test_a_call_between_two_nodes_that_cannot_be_dialled_fails_at_once_with_the_reason(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            one = await hidden(mesh, "one", host)
            other = await hidden(mesh, "other", host)
            offer(other, Echo(), NAME)
            await until(lambda: knows(one, other, NAME), "gossip reaches it by way of the host")
            with pytest.raises(PeerLost, match="cannot be dialled and has no link open"):
                await ask(one, other)
            # The third passes on their probes: each knows that the other lives.
            await until(
                lambda: one.core.counters["heard_through_others"] > 1, "the other one's signed word"
            )
            assert alive(one, other)

    asyncio.run(scenario())


def test_a_node_learns_from_others_that_it_can_be_dialled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            guest = await mesh.node("guest", host)
            offer(guest, Echo(), NAME)
            offer(host, Echo(), NAME)
            for node in (host, guest):
                await until(
                    lambda n=node: n.finder.reach.verdict is Dialable.YES,  # type: ignore[misc]
                    "it has been reached",
                )

    asyncio.run(scenario())


def test_a_wrong_address_is_found_out_by_a_dial_back_and_the_node_stays_callable(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            guest = await mesh.node("guest", host)
            # Port 1 of loopback: nobody listens, as behind a NAT without a forwarded port.
            guest.endpoints = type(guest.endpoints)(*["tcp://127.0.0.1:1"] * 3)
            offer(guest, Echo(), NAME)
            await until(lambda: guest.finder.reach.verdict is Dialable.NO, "it finds out")
            await until(
                lambda: host.core.endpoints(guest.me.node).dialable == Dialable.NO, "it says so"
            )
            assert "0 of 1" in guest.finder.reach.why
            assert host.finder.counters["dial_backs_unreached"] >= 1
            assert await ask(host, guest) == b"abc"

    asyncio.run(scenario())


# -- remembered peers and seeds ---------------------------------------------------------------


def test_a_node_whose_peers_all_left_finds_the_one_that_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            guest = await mesh.node("guest", host)
            offer(host, Echo(), NAME)
            await until(lambda: knows(guest, host, NAME) and alive(host, guest), "they meet")
            seed = host.seed
            await mesh.close(host)
            await until(
                lambda: guest.core.membership.state(host.me.node) is PeerState.DEPARTED, "it left"
            )
            (tmp_path / "host" / "journal.mpk").unlink()
            port = int(seed.partition("#")[0].rpartition(":")[2])
            again = MeshNode(StateDir(tmp_path / "host"), NodeConfig(admission_port=port))
            await again.start()
            mesh.nodes.append(again)
            offer(again, Echo(), NAME)
            await until(lambda: alive(guest, again) and alive(again, guest), "it is found")

    asyncio.run(scenario())


def test_a_lonely_node_says_so_in_one_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            guest = await mesh.node("guest", host)
            await until(lambda: alive(guest, host) and alive(host, guest), "they meet")
            await asyncio.sleep(1.1)  # it has looked, and seen that it has company
            host.finder._tell_of_company(alone=False)
            peer = host.core.membership.peers[guest.me.node]
            peer.state = PeerState.DEAD
            host.finder._tell_of_company(alone=True)
            host.finder._tell_of_company(alone=True)
            lines = [line for line in host.troubles if "no other node answers" in line]
            assert len(lines) == 1

    asyncio.run(scenario())


# -- mDNS -------------------------------------------------------------------------------------


def test_an_announcement_is_read_as_it_was_written() -> None:
    keys = new_keys(os.urandom)
    text = dict(announcement_text(MESH, keys.curve))
    read = read_announcement(text, ["10.0.0.7", "8.8.8.8"], 7102, MESH, NETS)
    assert read == (keys.curve, ["tcp://10.0.0.7:7102"])
    assert set(text) == {"v", "mesh", "key"}  # docs/discovery.md names what the LAN is told


@pytest.mark.parametrize(
    ("change", "near", "why"),
    [
        ({"v": "9"}, "10.0.0.7", "mdns_other_version"),
        ({"v": None}, "10.0.0.7", "mdns_other_version"),
        ({"mesh": show_id(b"n" * 16)}, "10.0.0.7", "mdns_other_mesh"),
        ({"mesh": None}, "10.0.0.7", "mdns_other_mesh"),
        ({"key": "short"}, "10.0.0.7", "mdns_malformed"),
        ({"key": "\N{SNOWMAN}" * 43}, "10.0.0.7", "mdns_malformed"),
        ({"key": None}, "10.0.0.7", "mdns_malformed"),
        ({}, "8.8.8.8", "mdns_off_link"),
    ],
)
def test_what_is_not_of_this_mesh_or_makes_no_sense_is_counted_and_left(
    change: dict[str, str | None], near: str, why: str
) -> None:
    text: dict[str, str | None] = {**announcement_text(MESH, b"k" * 32), **change}
    assert read_announcement(text, [near], 7102, MESH, NETS) == why
    assert read_announcement({**text, **change}, [near], 0, MESH, NETS) != (b"", [])


def test_missing_multicast_is_one_line_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(19, "No such device")

    async def scenario() -> None:
        lines: list[str] = []
        found = Discovery(b"n" * 16, MESH, b"k" * 32, 1, lambda *_: None, lines.append)
        monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf.__init__", broken)
        await found.start(NETS)
        assert not found.running
        await found.stop()
        assert len(lines) == 1
        assert "mDNS does not work on this network" in lines[0]
        assert "seeds and remembered addresses" in lines[0]

    asyncio.run(scenario())


def test_a_flood_of_service_names_is_bounded() -> None:
    class Added:
        name = "Added"

    async def scenario() -> None:
        found = Discovery(b"n" * 16, MESH, b"k" * 32, 1, lambda *_: None, print)
        for number in range(5000):
            name = f"{number}._gossamer._tcp.local."
            found._changed(None, "", name, Added)  # type: ignore[arg-type]
        assert len(found._services) == MAX_SERVICES
        assert len(found._unresolved) <= MAX_SERVICES
        assert found.counters["mdns_services_dropped"] > 0
        await found.stop()

    asyncio.run(scenario())


def test_a_loopback_node_neither_announces_nor_loads_what_announcing_needs(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, os\nfrom pathlib import Path\n"
        "from mesh.core.identity import Authority\n"
        "from mesh.net.node import MeshNode, NodeConfig\n"
        "from mesh.net.statedir import StateDir, create_identity\n"
        f"path = Path({str(tmp_path / 'n')!r})\n"
        "create_identity(path, Authority(os.urandom(32)), 't', name='n', groups=(), publish=())\n"
        "async def main():\n"
        "    node = MeshNode(StateDir(path), NodeConfig())\n"
        "    await node.start()\n    await asyncio.sleep(0.2)\n    await node.stop()\n"
        "asyncio.run(main())\n"
        "assert 'zeroconf' not in sys.modules and 'ifaddr' not in sys.modules\n"
    )

    async def scenario() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        return await process.wait()

    assert asyncio.run(scenario()) == 0


# -- addresses --------------------------------------------------------------------------------


def test_a_node_bound_to_every_address_tells_one_that_can_be_dialled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            create_identity(
                tmp_path / "open", mesh.authority, "test", name="open", groups=(), publish=()
            )
            config = NodeConfig(host="0.0.0.0", discovery=False)
            node = MeshNode(StateDir(tmp_path / "open"), config)
            await node.start()
            mesh.nodes.append(node)
            assert "0.0.0.0" not in node.seed
            before = node.endpoints
            node.move("192.0.2.9")
            assert node.endpoints.control == f"tcp://192.0.2.9:{before.control.rpartition(':')[2]}"
            assert node.endpoints.dialable == Dialable.UNKNOWN

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("eth0", False)],
)
def test_loopback_is_known_by_name_and_number(host: str, loopback: bool) -> None:
    assert addresses.is_loopback(host) is loopback

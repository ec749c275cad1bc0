"""Real nodes ask each other how loaded they are, and a board without a clock for the time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mesh.core.asking import MAX_WAIT_S
from mesh.core.records import Device
from mesh.core.wire import Asked, Load
from mesh.net.node import MeshNode, NodeConfig
from mesh.net.statedir import StateDir, create_identity
from tests.mesh.net.harness import Fabric, fabric, knows, until

BUSY = Load(2, 1, 4, 30.0)


async def several(mesh: Fabric, count: int) -> list[MeshNode]:
    """Nodes that know each other; the loaded ones are all but the first."""
    nodes = [await mesh.node("n0")]
    for number in range(1, count):
        nodes.append(await mesh.node(f"n{number}", nodes[0]))
    for node in nodes:
        node.offer([], [], Device())
    await until(
        lambda: all(knows(a, b) for a in nodes for b in nodes if a is not b), "all know all"
    )
    return nodes


def test_the_load_of_a_few_nodes_is_fetched_at_once_and_gone_by(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            one, other = await several(mesh, 2)
            other.core.asking._load = lambda: BUSY
            told = await one.fresh_loads([other.me.node, one.me.node, bytes(16)], MAX_WAIT_S)
            assert told == {other.me.node: BUSY, one.me.node: Load()}
            assert one.load(other.me.node) == BUSY
            assert one.load_seen_at(other.me.node) > one.now().mono - MAX_WAIT_S

    asyncio.run(scenario())


def test_several_who_ask_the_same_node_at_once_all_hear_its_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            one, other = await several(mesh, 2)
            ask = [one.fresh_loads([other.me.node], MAX_WAIT_S) for _ in range(3)]
            assert [set(told) for told in await asyncio.gather(*ask)] == [{other.me.node}] * 3

    asyncio.run(scenario())


def test_who_is_silent_is_not_waited_for_beyond_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            one, other = await several(mesh, 2)
            asking = other.core.asking
            said = asking.complete
            monkeypatch.setattr(
                asking, "complete", lambda *a: [] if a[1] & Asked.LOAD else said(*a)
            )
            assert await one.fresh_loads([other.me.node], 0.05) == {}
            assert await one.fresh_loads([], MAX_WAIT_S) == {}

    asyncio.run(scenario())


def board(mesh: Fabric, seed: MeshNode) -> MeshNode:
    """Its clock says 1970, its disk knows today."""
    path = mesh.folder / "board"
    create_identity(path, mesh.authority, "test", name="board", groups=("home",), publish=())
    (path / "clock").write_text(str(int(time.time())))
    node = MeshNode(StateDir(path, wall=lambda: 1000.0), NodeConfig(seeds=(seed.seed,)))
    mesh.nodes.append(node)
    return node


@pytest.fixture
def _set_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may have nobody who sets its clock."""
    monkeypatch.setattr("mesh.net.statedir.is_unsynchronised", lambda: False)


@pytest.mark.usefixtures("_set_clocks")
def test_a_board_that_starts_in_1970_takes_the_time_of_three_members(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            nodes = await several(mesh, 3)
            lost = board(mesh, nodes[0])
            await lost.start()
            await until(lambda: lost.state.clock.state == "members", "the board knows the time")
            assert abs(lost.now().wall - time.time()) < 60
            assert lost.standing.describe()["clock"] == "members"

    asyncio.run(scenario())


@pytest.mark.usefixtures("_set_clocks")
def test_two_members_are_not_enough_and_the_board_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            nodes = await several(mesh, 2)
            lost = board(mesh, nodes[0])
            await lost.start()
            clock = lost.state.clock
            await until(lambda: "2 of 3 members" in clock.explain(), "both have told the time")
            assert clock.state == "doubtful"
            assert any("set the clock (NTP)" in line for line in lost.troubles)

    asyncio.run(scenario())

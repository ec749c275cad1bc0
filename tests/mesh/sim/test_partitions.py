"""The cuts, crashes and clocks that a mesh must come through, each a few sentences."""

from __future__ import annotations

import msgspec
import pytest

from mesh.core.announcing import AnnounceConfig
from mesh.core.events import PeerState
from mesh.core.node import NodeCoreConfig
from mesh.core.records import Device, Endpoints, ServedName
from mesh.sim.scenarios import settled
from mesh.sim.world import World

DAY_S = 86400.0
DEAD, ALIVE = PeerState.DEAD, PeerState.ALIVE
OTHERS = ["n0", "n1", "n2", "n3"]


def victims(world: World, *, of: set[str] | None = None) -> set[str]:
    """Who was declared dead, by anybody or by these."""
    return {subject for _, observer, subject in world.deaths() if not of or observer in of}


@pytest.mark.parametrize("cuts", ["inbound", "outbound", "both"])
def test_a_node_is_cut_off_twice_in_a_row_and_comes_back_twice(cuts: str) -> None:
    with settled(seed=101, nodes=5) as world:
        for _ in range(2):
            if cuts != "outbound":
                world.cut(OTHERS, ["n4"], one_way=True)
            if cuts != "inbound":
                world.cut(["n4"], OTHERS, one_way=True)
            # The second time they are patient: after the first it might be one that stalls.
            world.expect(world.sees_everywhere("n4", DEAD, among=OTHERS), within=20)
            world.heal()
            world.expect(world.converged(), within=10)
            world.run(1)
        assert victims(world, of=set(OTHERS)) == {"n4"}


def test_two_cuts_shorter_than_patience_kill_nobody() -> None:
    with settled(seed=102, nodes=5) as world:
        for _ in range(2):
            world.cut(OTHERS, ["n4"])
            world.run(2)
            world.heal()
            world.run(2)
        world.run(10)
        assert victims(world) == set()


def test_cut_off_for_so_long_that_it_is_forgotten_a_node_joins_again() -> None:
    brief = NodeCoreConfig(announce=AnnounceConfig(profile_life_s=40.0))
    with settled(seed=103, nodes=5, config=brief) as world:
        world.cut(OTHERS, ["n4"])
        world.run(120)
        assert all(world["n4"].node not in world[name].core.store for name in OTHERS)
        world.heal()
        world.join("n4", through="n0")
        world.expect(world.converged(), within=10)


def test_another_node_on_the_address_of_a_dead_one_is_another_node() -> None:
    with settled(seed=104, nodes=4) as world:
        world.kill("n3")
        world.expect(world.sees_everywhere("n3", DEAD), within=9)
        new = world.add("moved-in")
        address = world["n0"].core.endpoints(world["n3"].node) or Endpoints("tcp://n3:10003")
        offered = (ServedName("knowledge.gpt/moved_in"),)
        new.core.set_profile(offered, (), Device(), address, world.now(new))
        world.join("moved-in", through="n1")
        world.expect(world.converged(), within=5)
        assert new.node != world["n3"].node
        assert world.sees("n0", "n3") is DEAD
        assert world["n0"].core.endpoints(new.node) == address


def test_without_the_node_that_all_joined_through_the_mesh_goes_on_and_takes_in_others() -> None:
    with World(seed=105, nodes=6) as world:
        world.all_join(through="n0")
        world.expect(world.converged(), within=10)
        world.vanish("n0")
        world.run(12)
        world.expect(world.converged(), within=1)
        world.add("late")
        world.join("late", through="n5")
        world.expect(world.converged(), within=5)


def test_two_meshes_with_a_seed_each_become_one_when_two_of_their_nodes_meet() -> None:
    with World(seed=106, nodes=8) as world:
        west, east = [f"n{n}" for n in range(4)], [f"n{n}" for n in range(4, 8)]
        world.cut(west, east)
        for names in (west, east):
            for name in names[1:]:
                world.join(name, through=names[0])
        world.run(20)
        assert world["n4"].node not in world["n0"].core.store
        world.heal()
        world.join("n1", through="n5")
        world.expect(world.converged(), within=5)
        assert victims(world) == set()


def test_half_of_the_nodes_overloaded_do_not_take_the_others_with_them() -> None:
    with settled(seed=107, nodes=12) as world:
        weak = {f"n{n}" for n in range(6)}
        for name in sorted(weak):
            world.starve(name, (1, 5), (2, 6), until=world.time + 90)
        world.run(110)
        assert victims(world) <= weak
        world.expect(world.converged(), within=10)


def test_a_board_that_stalls_for_up_to_seven_seconds_again_and_again_is_not_dead() -> None:
    with settled(seed=108, nodes=10) as world:
        world.starve("n0", (2, 6.4), (3, 10), until=world.time + 240)
        world.run(260)
        assert victims(world) == set()


def test_a_node_that_starves_after_a_steady_minute_costs_one_alarm_at_most() -> None:
    with settled(seed=109, nodes=10, steady_s=70) as world:
        world.starve("n0", (3, 8), (3, 10), until=world.time + 240)
        world.run(260)
        alarms = [death for death in world.deaths() if death[2] == "n0"]
        assert victims(world) <= {"n0"}
        assert not alarms or max(alarms)[0] - min(alarms)[0] < 8


@pytest.mark.parametrize("skew_s", [-60.0, 60.0])
def test_a_minute_of_clock_skew_changes_nothing(skew_s: float) -> None:
    with World(seed=110, nodes=5) as world:
        world.set_clock("n2", skew_s)
        world._introduce(world["n2"])
        world.all_join()
        world.expect(world.converged(), within=5)
        world.run(12)
        world.vanish("n4")
        world.expect(world.sees_everywhere("n4", DEAD), within=9)
        world.run(20)
        assert victims(world) == {"n4"}


def test_a_board_without_a_clock_is_refused_and_told_until_its_clock_is_set() -> None:
    with World(seed=111, nodes=4) as world:
        board = world["n3"]
        world.set_clock("n3", -180 * DAY_S)
        world._introduce(board)
        world.all_join()
        world.run(5)
        assert world["n0"].core.counters["refused_expired"] > 0
        assert board.core.counters["refused_future"] > 0
        assert all(world.sees("n0", name) is ALIVE for name in ("n1", "n2"))
        board.skew_s = 0.0
        world._introduce(board)
        world.join("n3", through="n0")
        world.expect(world.converged(), within=10)


def test_a_board_that_was_off_for_days_and_starts_in_1970_takes_the_time_of_several() -> None:
    with World(seed=112, nodes=6) as world:
        world.set_clock("n5", -50 * 365 * DAY_S, knew_s=-3 * DAY_S)
        world._introduce(world["n5"])
        world.all_join()
        world.expect(world.converged(), within=15)
        board = world["n5"]
        assert abs(world.now(board).wall - world.now(world["n0"]).wall) < 1.0
        assert "days behind" in board.core.clock.explain()


def test_a_board_without_a_clock_that_knows_one_other_only_is_refused_as_before() -> None:
    with World(seed=113, nodes=2) as world:
        world.set_clock("n1", -50 * 365 * DAY_S, knew_s=-3 * DAY_S)
        world._introduce(world["n1"])
        world.all_join()
        world.run(30)
        assert world["n0"].core.store.profile(world["n1"].node) is None
        assert "1 of 3 members needed" in world["n1"].core.clock.explain()


def test_liars_about_the_time_shift_a_board_no_further_than_honest_clocks_differ() -> None:
    with World(seed=114, nodes=8) as world:
        for liar in ("n1", "n2", "n3"):
            world.set_clock(liar, 200 * DAY_S)
        world.set_clock("n4", 40.0)
        world.set_clock("n7", -50 * 365 * DAY_S, knew_s=-3 * DAY_S)
        for name in ("n4", "n7"):
            world._introduce(world[name])
        world.all_join()
        world.run(20)
        shifted = world.now(world["n7"]).wall - world.now(world["n0"]).wall
        assert -1.0 < shifted < 41.0


def test_the_configuration_that_is_compared_with_has_no_local_health() -> None:
    from mesh.sim.scenarios import plain_swim

    plain, whole = plain_swim().membership, NodeCoreConfig().membership
    differ = {f for f in whole.__struct_fields__ if getattr(plain, f) != getattr(whole, f)}
    assert differ == {"health_max", "sleep_s", "silence_trust", "suspicion_unsteady_s"}
    assert msgspec.structs.replace(plain_swim(), membership=whole) == NodeCoreConfig()


def test_a_cable_pulled_right_after_the_start_is_seen_within_twelve_seconds() -> None:
    for seed in range(120, 126):
        with World(seed=seed, nodes=5) as world:
            world.all_join()
            world.run(1)
            world.vanish("n4")
            world.expect(world.sees_everywhere("n4", DEAD), within=12)
            assert victims(world) == {"n4"}

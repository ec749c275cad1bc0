"""Meshes under virtual time. Each scenario reads as sentences and repeats from its seed."""

from __future__ import annotations

import pytest

from mesh.core.clock import Now
from mesh.core.events import PeerState
from mesh.core.records import ServedName
from mesh.core.wire import Rumours
from mesh.sim.network import Link
from mesh.sim.world import EPOCH, ScenarioFailed, World

LAN = Link()
LOSSY = Link(latency_s=0.002, loss=0.1)
DEAD, ALIVE, DEPARTED = PeerState.DEAD, PeerState.ALIVE, PeerState.DEPARTED


def settled(seed: int, nodes: int, link: Link = LAN, **how: bool) -> World:
    """A mesh that has met and been quiet for twelve seconds."""
    world = World(seed, nodes, link=link, **how)
    world.all_join()
    world.expect(world.converged(), within=10)
    world.run(12)
    return world


@pytest.mark.parametrize("nodes", [2, 4, 16])
def test_a_mesh_is_complete_soon_after_everybody_met_one_node(nodes: int) -> None:
    with World(seed=nodes, nodes=nodes, wire=True) as world:
        world.all_join()
        assert world.expect(world.converged(), within=1.5) < 1.5


@pytest.mark.parametrize("nodes", [2, 3, 4, 16])
def test_a_node_whose_power_is_cut_is_dead_everywhere_within_eight_seconds(nodes: int) -> None:
    with settled(seed=3, nodes=nodes) as world:
        world.vanish("n1")
        world.expect(world.sees_everywhere("n1", DEAD), within=8)


@pytest.mark.parametrize("nodes", [2, 4])
def test_a_killed_process_is_dead_sooner_since_its_links_are_reset(nodes: int) -> None:
    with settled(seed=4, nodes=nodes) as world:
        world.kill("n1")
        assert world.expect(world.sees_everywhere("n1", DEAD), within=8) < 4


def test_a_frozen_process_is_dead_and_comes_back_when_it_thaws() -> None:
    with settled(seed=5, nodes=4) as world:
        world.freeze("n2")
        world.expect(world.sees_everywhere("n2", DEAD), within=8)
        world.thaw("n2")
        world.expect(world.converged(), within=5)
        assert not [death for death in world.deaths() if death[2] != "n2"]


def test_a_short_stall_kills_nobody() -> None:
    with settled(seed=6, nodes=8) as world:
        world.freeze("n2")
        world.run(2.5)
        world.thaw("n2")
        world.run(10)
        assert world.deaths() == []


def test_a_starved_node_does_not_take_healthy_ones_with_it() -> None:
    with settled(seed=7, nodes=10) as world:
        world.starve("n0", (1, 8), (3, 10), until=world.time + 120)
        world.run(130)
        assert {subject for _, _, subject in world.deaths()} <= {"n0"}


def test_ten_percent_packet_loss_kills_nobody() -> None:
    with settled(seed=8, nodes=8, link=LOSSY) as world:
        world.run(180)
        assert world.deaths() == []


def test_a_split_mesh_heals_by_itself() -> None:
    with settled(seed=9, nodes=8) as world:
        west, east = [f"n{n}" for n in range(4)], [f"n{n}" for n in range(4, 8)]
        world.cut(west, east)
        for name in east:
            world.expect(world.sees_everywhere(name, DEAD, among=west), within=12)
        world.run(15)
        world.heal()
        assert world.expect(world.converged(), within=10) < 10


def test_a_mesh_split_twice_heals_twice() -> None:
    with settled(seed=10, nodes=4) as world:
        for _ in range(2):
            world.cut(["n0", "n1"], ["n2", "n3"])
            world.run(20)
            world.heal()
            world.expect(world.converged(), within=10)
            world.run(2)


@pytest.mark.parametrize("inbound", [True, False])
def test_a_node_cut_off_one_way_is_dead_to_the_others_until_it_is_mended(inbound: bool) -> None:
    with settled(seed=11, nodes=5) as world:
        others = ["n0", "n1", "n2", "n3"]
        ends = (others, ["n4"]) if inbound else (["n4"], others)
        world.cut(*ends, one_way=True)
        world.expect(world.sees_everywhere("n4", DEAD, among=others), within=12)
        assert {subject for _, observer, subject in world.deaths() if observer != "n4"} == {"n4"}
        world.heal()
        world.expect(world.converged(), within=10)


def test_two_nodes_that_cannot_reach_each_other_hear_of_each_other_through_a_third() -> None:
    with settled(seed=12, nodes=4) as world:
        world.cut(["n0"], ["n1"])
        world.run(60)
        assert world.deaths() == []
        assert world["n0"].core.counters["heard_through_others"] > 0


def test_a_node_that_starts_again_is_the_same_node_in_a_later_life() -> None:
    with settled(seed=13, nodes=4) as world:
        world.kill("n3")
        world.expect(world.sees_everywhere("n3", DEAD), within=8)
        world.restart("n3", through="n1")
        world.expect(world.converged(), within=5)
        assert world["n0"].core.membership.peers[world["n3"].node].life == (2, 0)


def test_a_node_that_starts_again_before_anybody_noticed_is_never_dead() -> None:
    with settled(seed=14, nodes=4) as world:
        world.kill("n3")
        world.run(0.3)
        world.restart("n3", through="n0")
        world.expect(world.converged(), within=5)
        world.run(10)
        assert world.deaths() == []


def test_who_leaves_is_departed_and_never_dead() -> None:
    with settled(seed=15, nodes=6) as world:
        world.leave("n2")
        world.expect(world.sees_everywhere("n2", DEPARTED), within=2)
        world.run(20)
        assert world.deaths() == []


def test_a_late_joiner_learns_the_dead_for_dead() -> None:
    with settled(seed=16, nodes=6) as world:
        world.vanish("n5")
        world.expect(world.sees_everywhere("n5", DEAD), within=8)
        world.add("late")
        world.join("late", through="n1")
        world.expect(lambda: world.sees("late", "n5") is DEAD, within=20)
        assert world.sees("late", "n4") is ALIVE


def test_any_node_may_die_and_lookups_are_still_answered() -> None:
    with settled(seed=17, nodes=5) as world:
        for name in ("n0", "n3"):
            world.vanish(name)
        world.run(8)
        for name in ("n1", "n2", "n4"):
            [choice] = world[name].core.resolve("knowledge.gpt/n4")
            assert choice.member.name == "n4"


def test_one_lying_member_cannot_remove_a_healthy_node() -> None:
    from mesh.core.statements import Word, state

    with settled(seed=18, nodes=6) as world:
        liar, victim = world["n0"], world["n1"]
        for _ in range(30):
            life = world["n2"].core.membership.peers[victim.node].life
            wall = world.now(liar).wall
            lie = state(liar.identity, Word.ACCUSATION, victim.node, life, wall)
            for sim in world.sims[2:]:
                world._send(sim, sim.core.receive(liar.node, Rumours([], [lie]), world.now(sim)))
            world.run(1)
        assert world.deaths() == []


def test_an_idle_mesh_is_quiet() -> None:
    with settled(seed=19, nodes=16, measure=True) as world:
        before = sum(sim.sent_bytes for sim in world.sims)
        world.run(30)
        spent = sum(sim.sent_bytes for sim in world.sims) - before
        assert spent / 30 / 16 < 2000


def test_news_reaches_everybody_in_datagrams_with_a_quarter_lost() -> None:
    link = Link(loss=0.25, duplicate=0.05, jitter_s=0.02, datagram=True)
    with World(seed=20, nodes=16, link=link) as world:
        world.all_know_each_other()
        world.run(2)
        sim = world["n3"]
        core = sim.core
        offered = (ServedName("knowledge.gpt/new"),)
        profile = core.profile(sim.node)
        assert profile is not None
        core.set_profile(offered, (), profile.device, profile.endpoints, world.now(sim))
        world._schedule(sim)
        world.expect(lambda: all(s.core.names("knowledge.gpt/new") for s in world.sims), within=10)


def test_a_board_whose_clock_is_an_hour_ahead_is_refused_and_said() -> None:
    with World(seed=21, nodes=2) as world:
        fast = world["n1"]
        fast.skew_s = 3600
        world._introduce(fast)
        world.all_join()
        world.run(5)
        assert world["n0"].core.counters["refused_future"] > 0


def test_the_same_seed_gives_the_same_history() -> None:
    def history(seed: int) -> tuple[list[tuple[float, str, str]], int]:
        world = settled(seed=seed, nodes=5, link=LOSSY, measure=True)
        world.vanish("n1")
        world.run(10)
        return world.deaths(), sum(sim.sent_bytes for sim in world.sims)

    assert history(22) == history(22)
    assert history(22) != history(23)


def test_a_failed_scenario_says_the_seed_that_repeats_it() -> None:
    with pytest.raises(ScenarioFailed) as failure, World(seed=12345, nodes=2) as world:
        world.expect(world.converged(), within=1)
    assert "seed 12345" in " ".join(failure.value.__notes__)


def test_virtual_clocks_are_the_worlds() -> None:
    world = World(seed=1, nodes=1)
    world.run(5)
    assert world.now(world["n0"]) == Now(5.0, EPOCH + 5.0)

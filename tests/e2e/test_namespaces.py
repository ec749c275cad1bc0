"""Nodes on networks of their own: found by mDNS, behind NAT, cut off, healed, losing packets."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.net.finding import MDNS_AGAIN_S
from tests.e2e.harness import until
from tests.e2e.namespaces import Lab, Machine, lab, run, why_not

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "namespaces work"),
]
QUIET = "discovery = false"


def acquainted(*machines: Machine) -> None:
    """Wait until each sees each alive."""
    for one in machines:
        for other in machines:
            if one is not other:
                until(lambda a=one, b=other: a.sees(b), f"{one.name} sees {other.name}")


def seeded(net: Lab, *names: str) -> list[Machine]:
    """Machines that know the first by its seed, and nobody by mDNS."""
    machines = [net.machine(name) for name in names]
    machines[0].start(QUIET)
    until(lambda: machines[0].peer(machines[0]), "the first agent answers")
    for machine in machines[1:]:
        machine.start(f"{QUIET}\n{machines[0].seed()}")
    acquainted(*machines)
    return machines


def test_nodes_on_a_lan_find_each_other_by_mdns_and_leave_other_meshes_alone(
    tmp_path: Path,
) -> None:
    with lab(tmp_path) as net:
        machines = [net.machine(name) for name in ("ash", "oak", "elm")]
        stranger = net.machine("weed")
        stranger.start(mesh="other")
        for machine in machines:
            machine.start()
        acquainted(*machines)
        assert all(one.calls(other) for one in machines for other in machines)
        for machine in (*machines, stranger):
            until(
                lambda m=machine: m.fetch("status")["counters"].get("mdns_other_mesh"),
                f"{machine.name} has heard of the other mesh",
                patience_s=2 * MDNS_AGAIN_S,  # what was missed is asked about a minute later
            )
        assert len(stranger.fetch("peers")) == 1
        assert not machines[0].peer(stranger)
        # A late answer of a friend may be a trouble on a busy machine; a stranger is none.
        troubles = machines[0].fetch("status")["troubles"]
        assert not [line for line in troubles if "seed" in line or stranger.address in line]


def test_a_node_behind_nat_finds_out_and_is_called_over_the_links_that_it_opened(
    tmp_path: Path,
) -> None:
    with lab(tmp_path) as net:
        ash, oak = seeded(net, "ash", "oak")
        phone = net.behind_nat("phone")
        phone.start(f"{QUIET}\n{ash.seed()}")
        acquainted(ash, oak, phone)
        # Nobody told it: it asked others to dial, and they could not.
        until(lambda: phone.fetch("status")["dialable"] == "no", "the phone finds out")
        until(lambda: ash.fetch("status")["dialable"] == "yes", "who is dialled knows it")
        for board in (ash, oak):
            until(lambda b=board: b.peer(phone).get("dialable") == "no", "the others hear of it")
            until(lambda b=board: b.calls(phone), f"{board.name} calls the phone")
            assert board.peer(phone)["reach"] == "called back"
            assert phone.peer(board)["reach"] == "dialled"
            assert phone.calls(board)


def test_a_node_that_restarts_without_seeds_finds_the_one_address_that_is_still_true(
    tmp_path: Path,
) -> None:
    with lab(tmp_path) as net:
        ash, oak, elm = seeded(net, "ash", "oak", "elm")
        until(lambda: elm.calls(oak), "elm has heard what oak offers")
        elm.stop()
        oak.stop()
        oak.readdress("10.77.0.99")
        oak.start(QUIET)  # no seeds: what it and elm know is in their journals
        elm.start(QUIET)
        acquainted(ash, oak, elm)
        assert elm.calls(oak)
        assert "10.77.0.99" in oak.fetch("status")["seed"]


@pytest.mark.parametrize("kind", ["no inbound", "no outbound", "both"])
def test_a_node_that_is_cut_off_is_seen_dead_and_its_mesh_heals_by_itself(
    tmp_path: Path, kind: str
) -> None:
    with lab(tmp_path) as net:
        ash, oak, elm = seeded(net, "ash", "oak", "elm")
        for _ in range(2 if kind == "both" else 1):  # twice in a row
            match kind:
                case "both":
                    net.cable(elm, "down")
                case "no inbound":
                    net.cut(elm, "input")
                case _:
                    net.cut(elm, "output")
            until(lambda: ash.sees(elm, "dead") and oak.sees(elm, "dead"), "elm is seen dead")
            until(lambda: elm.sees(ash, "dead") and elm.sees(oak, "dead"), "elm is alone")
            assert ash.sees(oak)
            assert oak.sees(ash)  # what elm says of them from where it is harms nobody
            if kind == "both":
                net.cable(elm, "up")
            else:
                net.heal(elm)
            acquainted(ash, oak, elm)
        until(lambda: ash.calls(elm) and elm.calls(oak), "calls pass again")


def test_a_lost_seed_is_knocked_at_for_as_long_as_a_node_is_alone(tmp_path: Path) -> None:
    with lab(tmp_path) as net:
        ash, oak = seeded(net, "ash", "oak")
        ash.stop(number=9)
        until(lambda: oak.sees(ash, "dead"), "the seed is lost")
        until(
            lambda: any("no other node answers" in t for t in oak.fetch("status")["troubles"]),
            "one line says so",
        )
        (ash.state / "journal.mpk").unlink(missing_ok=True)  # it comes back knowing nobody
        ash.start(QUIET)
        acquainted(ash, oak)


def test_a_machine_that_changes_its_address_stays_in_the_mesh(tmp_path: Path) -> None:
    with lab(tmp_path) as net:
        ash, oak, elm = seeded(net, "ash", "oak", "elm")
        elm.readdress("10.77.0.99")
        until(lambda: "10.77.0.99" in elm.fetch("status")["seed"], "it notices")
        until(lambda: ash.calls(elm) and oak.calls(elm), "it is called at its new address")
        acquainted(ash, oak, elm)


def test_with_a_tenth_of_all_packets_lost_nodes_still_find_and_call_each_other(
    tmp_path: Path,
) -> None:
    with lab(tmp_path) as net:
        machines = [net.machine(name) for name in ("ash", "oak", "elm")]
        for machine in machines:
            net.cut(machine, "input", share=10)
            machine.start()
        acquainted(*machines)
        for one in machines:
            for other in machines:
                until(lambda a=one, b=other: a.calls(b), f"{one.name} calls {other.name}")


def test_a_machine_without_a_network_runs_all_the_same(tmp_path: Path) -> None:
    with lab(tmp_path) as net:
        board = net.machine("board")
        run("ip", "-n", board.space, "link", "del", "eth0")
        board.start()
        until(lambda: board.peer(board), "the agent answers")
        assert not board.fetch("status")["troubles"]

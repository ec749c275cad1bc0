"""The whole core: what one node makes of what others say."""

from __future__ import annotations

import random

from mesh.core.announcing import AnnounceConfig, StatusGate, Vitals
from mesh.core.chance import SecretRandom
from mesh.core.events import (
    IncarnationRaised,
    PeerState,
    ProfileChanged,
    RecordRefused,
    StateChanged,
)
from mesh.core.node import NodeCore
from mesh.core.records import Device, Endpoints
from mesh.core.statements import Word, state
from mesh.core.wire import Call, CallHeader, Load, Ping, Rumours
from mesh.sim.cheap import CheapScheme

from .people import NOW, Mesh, Person, at

MESH = Mesh(scheme=CheapScheme())
ME, ANNA, BOB = [MESH.person(name) for name in ("me", "anna", "bob")]
X = "knowledge.gpt/x"


def core(*known: Person, incarnation: int = 1) -> NodeCore:
    node = NodeCore(ME.identity, rng=random.Random(1), incarnation=incarnation)
    node.set_profile((), (), Device(), Endpoints("tcp://me:1"), NOW)
    for person in known:
        node.learn(person.member, Endpoints(), NOW)
        node.receive(person.node, Rumours([person.profile(X)], []), NOW)
    node.drain_events()
    return node


def events(node: NodeCore, kind: type) -> list[object]:
    return [event for event in node.drain_events() if isinstance(event, kind)]


def test_a_stranger_is_not_heard() -> None:
    node = core()
    assert node.receive(ANNA.node, Ping(1, ME.node, b"n"), NOW) == []
    assert node.counters["refused_sender"] == 1


def test_a_relayed_profile_makes_a_known_member_that_resolves() -> None:
    node = core(ANNA)
    node.receive(ANNA.node, Rumours([BOB.profile(X)], []), NOW)
    assert {member.name for member in node.members()} == {"me", "anna", "bob"}
    assert {choice.member.name for choice in node.resolve(X)} == {"anna", "bob"}
    assert len(events(node, ProfileChanged)) == 1


def test_a_name_without_the_right_is_refused_with_one_clear_line() -> None:
    node = core(ANNA)
    node.receive(ANNA.node, Rumours([BOB.profile("computation.gpt/generate")], []), NOW)
    [refused] = events(node, RecordRefused)
    assert isinstance(refused, RecordRefused)
    assert (refused.node, refused.sender, refused.reason) == (BOB.node, ANNA.node, "publish")
    assert "bob" in refused.line
    assert "computation.gpt/generate" in refused.line
    assert node.counters["refused_publish"] == 1
    assert node.member(BOB.node) is None


def test_what_follows_a_bad_signature_in_a_message_is_not_verified() -> None:
    node = core(ANNA)
    bad = Mesh(5, CheapScheme()).person("eve").profile(X)
    node.receive(ANNA.node, Rumours([bad, BOB.profile(X)], []), NOW)
    assert node.member(BOB.node) is None
    assert node.counters["refused_signature"] == 1


def test_fresh_load_from_a_reply_beats_the_gossiped_one() -> None:
    node = core(ANNA)
    node.receive(ANNA.node, Rumours([ANNA.status(load=0.0)], []), NOW)
    node.observe_load(ANNA.node, Load(inflight=4, queued=2, slots=4), at(1))
    node.tick(at(1))
    assert node.resolve(X)[0].load == 1.5
    node.tick(at(30))
    assert node.resolve(X)[0].load == 0.0


def test_a_node_that_says_it_is_ill_counts_as_full() -> None:
    node = core(ANNA)
    node.receive(ANNA.node, Rumours([ANNA.status(load=0.0, healthy=False)], []), NOW)
    assert node.resolve(X)[0].load == 1.0


def test_the_journal_restores_members_that_are_unknown_until_they_answer() -> None:
    old = core(ANNA, BOB)
    journal = old.snapshot()
    node = core(incarnation=2)
    assert node.restore([*journal, b"torn", journal[0][:40]], at(5)) == 2
    assert set(node.peer_states.values()) == {PeerState.UNKNOWN}
    assert node.counters["refused_journal"] == 2
    assert {choice.state for choice in node.resolve(X)} == {PeerState.UNKNOWN}


def test_a_restored_node_that_starts_again_is_alive() -> None:
    node = core(incarnation=2)
    node.restore(core(ANNA, BOB).snapshot(), at(5))
    word = Rumours([ANNA.profile(X, incarnation=2)], [])
    node.receive(BOB.node, word, at(6))
    assert node.peer_states[ANNA.node] is PeerState.ALIVE


def test_the_mesh_remembers_a_later_boot_than_the_disk() -> None:
    node = core(ANNA)
    node.receive(ANNA.node, Rumours([ME.profile(incarnation=7)], []), NOW)
    assert events(node, IncarnationRaised) == [IncarnationRaised(8)]
    profile = node.profile(ME.node)
    assert profile is not None
    assert profile.incarnation == 8


def test_a_farewell_makes_departed_and_takes_the_names_along() -> None:
    node = core(ANNA)
    word = state(ANNA.identity, Word.LEAVE, ANNA.node, (1, 1), NOW.wall)
    node.receive(ANNA.node, Rumours([], [word]), NOW)
    assert node.peer_states[ANNA.node] is PeerState.DEPARTED
    assert node.names() == []
    [change] = events(node, StateChanged)
    assert isinstance(change, StateChanged)
    assert change.new is PeerState.DEPARTED


def test_calls_go_to_the_streams_and_are_counted_without_any() -> None:
    node = core(ANNA)
    header = CallHeader(b"t", b"s", 1000, ANNA.node)
    node.receive(ANNA.node, Call(1, header, X, 0, b"", 1), NOW)
    assert node.counters["refused_no_streams"] == 1


def test_events_that_nobody_drains_do_not_fill_the_memory() -> None:
    node = core(ANNA)
    for sequence in range(5000):
        node.receive(ANNA.node, Rumours([ANNA.status(sequence=sequence + 2)], []), at(sequence))
    assert len(node.drain_events()) <= 4096
    assert node.counters["events_dropped"] > 0


def test_an_idle_core_asks_to_be_woken_and_ticking_early_does_no_harm() -> None:
    node = core(ANNA)
    node.tick(NOW)
    due = node.next_deadline()
    assert NOW.mono < due < NOW.mono + 10
    assert node.tick(NOW) == []


# -- status -----------------------------------------------------------------------------


def gate() -> StatusGate:
    opened = StatusGate(AnnounceConfig())
    opened.set(Vitals(load=0.5, slots=4), NOW)
    vitals = opened.due(NOW, 3)
    assert vitals is not None
    opened.sent(vitals, NOW)
    return opened


def test_a_small_change_does_not_travel_and_a_large_one_does() -> None:
    status = gate()
    status.set(Vitals(load=0.6, slots=4), at(10))
    assert status.due(at(10), 3) is None
    status.set(Vitals(load=0.75, slots=4), at(10))
    assert status.due(at(10), 3) is not None


def test_becoming_idle_or_full_or_ill_always_travels() -> None:
    for change in (Vitals(load=1.0, slots=4), Vitals(load=0.5, slots=4, healthy=False)):
        status = gate()
        status.set(change, at(10))
        assert status.due(at(10), 3) == change
    nearly = gate()
    nearly.set(Vitals(load=0.0, slots=4), at(10))
    assert nearly.due(at(10), 3) is not None


def test_the_rate_has_a_ceiling_that_falls_with_the_size_of_the_mesh() -> None:
    status = gate()
    status.set(Vitals(load=1.0, slots=4), at(0.5))
    assert status.due(at(0.5), 3) is None
    assert status.due(at(1.0), 3) is not None
    assert status.due(at(1.0), 63) is None
    assert status.next_deadline(63) == NOW.mono + 8.0


def test_a_change_that_went_back_does_not_travel() -> None:
    status = gate()
    status.set(Vitals(load=1.0, slots=4), at(0.2))
    status.set(Vitals(load=0.5, slots=4), at(0.4))
    assert status.due(at(5), 3) is None


def test_chance_repeats_for_the_secret_and_differs_for_every_boot() -> None:
    draws = [SecretRandom(b"secret", boot).randbytes(8) for boot in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    share = SecretRandom(b"secret", 1)
    assert 0.45 < sum(share.random() for _ in range(2000)) / 2000 < 0.55
    assert sorted(share.sample(range(9), 9)) == list(range(9))

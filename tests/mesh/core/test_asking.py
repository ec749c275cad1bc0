"""A few nodes are asked for their load: bounded, members only, never taken for a probe."""

from __future__ import annotations

import random

import pytest

from mesh.core.asking import MAX_ASKED, MAX_UNDER_WAY, MAX_WAIT_S, LoadQuestions
from mesh.core.clock import Now
from mesh.core.events import LoadHeard, PeerState
from mesh.core.mesh_time import MeshTime
from mesh.core.node import NodeCore
from mesh.core.records import Endpoints
from mesh.core.wire import Ack, Asked, Load, Ping, decode, encode
from mesh.sim.cheap import CheapScheme

from .people import NOW, Mesh, Person, at

MESH = Mesh(scheme=CheapScheme())
ME, ANNA, BOB, EVE = [MESH.person(name) for name in ("me", "anna", "bob", "eve")]
BUSY = Load(3, 2, 4, 20.0)


def core(of: Person, *known: Person, load: Load = BUSY, clock: MeshTime | None = None) -> NodeCore:
    node = NodeCore(of.identity, rng=random.Random(1), load=lambda: load, clock=clock)
    for person in known:
        node.learn(person.member, Endpoints(), NOW)
    node.drain_events()
    return node


def asked(node: NodeCore, *people: Person) -> list[Ping]:
    sends = node.ask_loads([person.node for person in people], 1.0, NOW)
    return [send.message for send in sends if isinstance(send.message, Ping)]


def test_the_load_of_a_member_comes_back_and_is_what_the_next_choice_goes_by() -> None:
    me, anna = core(ME, ANNA), core(ANNA, ME)
    [ping] = asked(me, ANNA)
    [answer] = anna.receive(ME.node, ping, NOW)
    me.receive(ANNA.node, answer.message, at(0.01))
    assert LoadHeard(ANNA.node, BUSY) in me.drain_events()
    assert me._load_of(ANNA.node) == pytest.approx(5 / 4)


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    me = core(ME, ANNA, BOB)
    [ping] = asked(me, ANNA)
    for sender, nonce in ((BOB, ping.nonce), (ANNA, b"guessed.")):
        me.receive(sender.node, Ack(0, nonce, 1, load=BUSY), at(0.01))
    assert me.drain_events() == []
    assert me.asking.waits_for(ANNA.node, at(0.01))


def test_a_stranger_gets_no_answer() -> None:
    assert core(ANNA, ME).receive(EVE.node, Ping(0, ANNA.node, b"n", ask=Asked.LOAD), NOW) == []


def test_an_answer_after_the_time_is_not_taken() -> None:
    me = core(ME, ANNA)
    [ping] = asked(me, ANNA)
    me.receive(ANNA.node, Ack(0, ping.nonce, 1, load=BUSY), at(1.5))
    assert me.drain_events() == []


def test_an_older_node_answers_without_its_load_and_no_harm_is_done() -> None:
    me = core(ME, ANNA)
    [ping] = asked(me, ANNA)
    me.receive(ANNA.node, Ack(0, ping.nonce, 1), at(0.01))
    assert me.drain_events() == []
    assert not me.asking.waits_for(ANNA.node, at(0.01))


def test_the_load_is_sent_to_who_asks_for_it_only() -> None:
    anna = core(ANNA, ME)
    [answer] = anna.receive(ME.node, Ping(7, ANNA.node, b"n"), NOW)
    assert answer.message == Ack(7, b"n", 1)


def test_strangers_this_node_itself_and_the_dead_are_not_asked() -> None:
    me = core(ME, ANNA)
    me.membership.peers[ANNA.node].state = PeerState.DEAD
    assert asked(me, ME, ANNA, EVE) == []


def test_a_handful_is_asked_at_once_and_nobody_twice() -> None:
    questions = LoadQuestions(random.Random(1))
    nodes = [bytes([n]) * 16 for n in range(40)]
    assert [send.to for send in questions.ask(nodes + nodes, 1.0, NOW)] == nodes[:MAX_ASKED]
    assert questions.ask(nodes[:MAX_ASKED], 1.0, at(0.5)) == []
    assert len(questions.ask(nodes[:MAX_ASKED], 1.0, at(1.5))) == MAX_ASKED


def test_questions_under_way_are_bounded_in_number_and_in_time() -> None:
    questions = LoadQuestions(random.Random(1))
    sent = sum(len(questions.ask([n.to_bytes(16)], 1e9, NOW)) for n in range(200))
    assert sent == MAX_UNDER_WAY
    assert not questions.waits_for(bytes(16), at(MAX_WAIT_S + 0.1))
    assert len(questions.ask([b"x" * 16], 1.0, at(MAX_WAIT_S + 0.1))) == 1


def test_a_node_in_doubt_about_its_clock_asks_with_its_probes_and_has_no_say_itself() -> None:
    doubtful = MeshTime(NOW.wall)
    doubtful.read(0.0, NOW.mono)
    me = core(ME, ANNA, clock=doubtful)
    [probe] = me.membership.look_now(ANNA.node, NOW)
    assert isinstance(probe.message, Ping)
    assert probe.message.ask == Asked.WALL
    [told] = core(ANNA, ME).receive(ME.node, probe.message, Now(5.0, 1234.5))
    assert isinstance(told.message, Ack)
    assert told.message.wall == 1234.5
    [silent] = me.receive(ANNA.node, Ping(7, ME.node, b"n", ask=Asked.WALL), NOW)
    assert isinstance(silent.message, Ack)
    assert silent.message.wall is None


def test_a_wall_time_counts_only_in_answer_to_a_probe() -> None:
    doubtful = MeshTime(NOW.wall)
    doubtful.read(0.0, NOW.mono)
    me = core(ME, ANNA, clock=doubtful)
    me.receive(ANNA.node, Ack(16, b"guessed.", 1, wall=NOW.wall), NOW)
    assert "0 of 3" in doubtful.explain()


def test_messages_of_nodes_that_know_nothing_of_asking_are_read() -> None:
    import msgspec

    old_ping = bytes([1]) + msgspec.msgpack.encode([1, 7, ME.node, b"n", False, None])
    old_ack = bytes([1]) + msgspec.msgpack.encode([2, 7, b"n", 1, b""])
    assert decode(old_ping) == Ping(7, ME.node, b"n")
    assert decode(old_ack) == Ack(7, b"n", 1)
    assert decode(encode(Ack(7, b"n", 1, load=BUSY, wall=1.5))) == Ack(
        7, b"n", 1, load=BUSY, wall=1.5
    )

"""Whether a node can be dialled, as far as others have found out."""

from __future__ import annotations

import random

from mesh.core.clock import Now
from mesh.core.reachability import MAX_EVIDENCE, DialBackDesk, Reachability, ReachConfig
from mesh.core.records import Dialable
from mesh.core.wire import DialedBack, DialOutcome

A, B, C, D = (bytes([n]) * 16 for n in range(4))


def at(seconds: float) -> Now:
    return Now(seconds, 1e9 + seconds)


def asked_until(reach: Reachability, peers: list[bytes], start: float, end: float) -> list[bytes]:
    """Who is asked in that time, a look a second; nobody answers."""
    found = []
    for second in range(int(start), int(end)):
        asked = reach.ask(peers, at(second))
        found += [asked[0]] if asked else []
    return found


def hear(reach: Reachability, peers: list[bytes], says: dict[bytes, bool], end: float) -> float:
    """Ask and answer until ``end``; returns when everybody was heard."""
    for step in range(int(end * 2)):
        asked = reach.ask(peers, at(step / 2))
        if asked:
            peer, message = asked
            outcome = DialOutcome.REACHED if says[peer] else DialOutcome.UNREACHED
            reach.answered(peer, DialedBack(message.seq, outcome), at(step / 2))
    return end


def fresh() -> Reachability:
    return Reachability(random.Random(3))


def test_nobody_has_tried_is_unknown() -> None:
    assert fresh().verdict is Dialable.UNKNOWN


def test_who_is_called_by_enough_others_asks_nobody() -> None:
    reach = fresh()
    for peer in (A, B, C):
        reach.called_in(peer, at(1))
    assert asked_until(reach, [A, B, C], 0, 200) == []
    assert reach.verdict is Dialable.YES


def test_nobody_can_reach_it_is_a_no_and_the_reason_counts_them() -> None:
    reach = fresh()
    hear(reach, [A, B, C, D], {A: False, B: False, C: False, D: False}, 30)
    assert reach.verdict is Dialable.NO
    assert reach.why == "0 of 3 nodes that tried have reached it"


def test_a_neighbour_behind_the_same_nat_makes_it_some() -> None:
    reach = fresh()
    hear(reach, [A, B, C], {A: True, B: False, C: False}, 30)
    assert reach.verdict is Dialable.SOME


def test_in_a_mesh_of_two_the_one_other_is_heard_and_not_pestered() -> None:
    reach = fresh()
    hear(reach, [A], {A: True}, 10)
    assert reach.verdict is Dialable.YES
    assert asked_until(reach, [A], 10, 250) == []


def test_while_there_is_doubt_it_asks_again_sooner_and_a_firewall_that_opens_is_noticed() -> None:
    reach = fresh()
    hear(reach, [A, B, C], {A: False, B: False, C: False}, 30)
    hear(reach, [A, B, C], {A: True, B: True, C: True}, 600)
    assert reach.verdict is Dialable.YES


def test_one_who_does_not_answer_is_no_evidence() -> None:
    reach = fresh()
    asked = asked_until(reach, [A, B], 0, 60)
    assert 3 <= len(asked) <= 7  # one at a time, each given its time
    assert reach.verdict is Dialable.UNKNOWN


def test_a_refusal_for_its_rate_is_no_evidence_and_an_unasked_answer_counts_for_nothing() -> None:
    reach = fresh()
    reach.answered(A, DialedBack(1, DialOutcome.UNREACHED), at(1))
    asked = None
    for second in range(10):
        asked = asked or reach.ask([A], at(second))
    assert asked is not None
    reach.answered(B, DialedBack(asked[1].seq, DialOutcome.UNREACHED), at(10))
    reach.answered(A, DialedBack(asked[1].seq + 1, DialOutcome.UNREACHED), at(10))
    reach.answered(A, DialedBack(asked[1].seq, DialOutcome.DECLINED), at(10))
    assert reach.verdict is Dialable.UNKNOWN
    assert reach.counters["refused_dialed_back"] == 3


def test_what_those_say_who_are_gone_is_forgotten_and_so_is_what_held_at_another_address() -> None:
    reach = fresh()
    hear(reach, [A, B], {A: False, B: True}, 30)
    assert reach.verdict is Dialable.SOME
    for second in range(30, 400):
        reach.ask([B], at(second))
    assert reach.verdict is Dialable.YES
    reach.moved(at(400))
    assert reach.verdict is Dialable.UNKNOWN


def test_a_node_declared_undialable_asks_nobody() -> None:
    reach = Reachability(random.Random(1), declared=False)
    assert asked_until(reach, [A, B], 0, 100) == []
    reach.called_in(A, at(1))
    assert reach.verdict is Dialable.NO


def test_evidence_is_bounded() -> None:
    reach = Reachability(random.Random(1), config=ReachConfig())
    for number in range(1000):
        reach.called_in(number.to_bytes(16), at(1))
    assert len(reach._evidence) == MAX_EVIDENCE


def test_a_member_cannot_aim_another_s_connections_faster_than_allowed() -> None:
    desk = DialBackDesk()
    assert desk.take(A, at(0))
    assert not desk.take(A, at(4))
    assert desk.take(A, at(6))
    taken = sum(desk.take(n.to_bytes(16), at(7)) for n in range(1000, 2000))
    assert taken <= desk.BURST

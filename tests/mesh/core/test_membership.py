"""Who is alive, decided by what a node saw itself or by several, never by one voice."""

from __future__ import annotations

import random

import pytest

from mesh.core.effects import Send
from mesh.core.errors import IdentityError
from mesh.core.events import PeerState
from mesh.core.identity import Signed
from mesh.core.membership import Membership
from mesh.core.membership_config import MembershipConfig
from mesh.core.peers import MAX_ACCUSERS, PRESENT, TRANSITIONS, Cause
from mesh.core.probing import MAX_RELAYS_EACH, RoundTrip
from mesh.core.statements import Statement, Word, check_ack, read_statement, state
from mesh.core.wire import Ack, Ping, PingRequest, RelayedAck
from mesh.sim.cheap import CheapScheme

from .people import NOW, Mesh, Person, at

MESH = Mesh(scheme=CheapScheme())
ME, X, *OTHERS = [MESH.person(name) for name in ("me", "x", "a", "b", "c", "d", "e")]
A, B, C = OTHERS[:3]
CONFIG = MembershipConfig()


def membership(*known: Person, seed: int = 1) -> Membership:
    """A node that has known these for a minute."""
    core = Membership(ME.identity, CONFIG, random.Random(seed), 1)
    for person in known:
        core.add(person.member, heard=True, now=at(-60))
        core.new_life(person.node, (1, 0), at(-60))
        core.peers[person.node].round_trip.sample(0.01)
    return core


def accuse(core: Membership, by: Person, of: Person, seconds: float = 0.0) -> list[Send]:
    said = state(by.identity, Word.ACCUSATION, of.node, (1, 0), at(seconds).wall)
    return core.hear(said, read_statement(said), at(seconds))[1]


def run(core: Membership, start: float, end: float) -> list[Send]:
    """Tick whenever it asks, nobody answering."""
    sent: list[Send] = []
    clock = start
    while (clock := max(clock, core.next_deadline() - NOW.mono)) <= end:
        sent += core.tick(at(clock))
        clock += 1e-6
    return sent


def probe_of(core: Membership, person: Person, seconds: float) -> Ping:
    """Begin a probe and return it."""
    [send] = core.look_now(person.node, at(seconds))
    assert isinstance(send.message, Ping)
    return send.message


# -- the table --------------------------------------------------------------------------


def test_only_its_own_later_word_brings_back_who_left() -> None:
    ways = {cause for (old, cause), new in TRANSITIONS.items() if old is PeerState.DEPARTED}
    assert ways == {Cause.REFUTED}


def test_nobody_dies_without_having_been_suspect() -> None:
    assert {old for (old, _), new in TRANSITIONS.items() if new is PeerState.DEAD} == {
        PeerState.SUSPECT
    }
    assert PeerState.DEAD not in PRESENT


# -- one voice, several voices ----------------------------------------------------------


def test_one_accuser_only_makes_a_node_look_for_itself() -> None:
    core = membership(X, *OTHERS)
    [look] = accuse(core, A, X)
    assert look.to == X.node
    assert isinstance(look.message, Ping)
    assert core.state(X.node) is PeerState.ALIVE


def test_one_accuser_saying_it_often_is_still_one() -> None:
    core = membership(X, *OTHERS)
    for second in range(10):
        accuse(core, A, X, second / 10)
    assert core.state(X.node) is PeerState.ALIVE


def test_several_distinct_accusers_make_a_suspect_and_in_time_a_dead_node() -> None:
    core = membership(X, *OTHERS)
    for accuser in (A, B, C):
        accuse(core, accuser, X)
    assert core.state(X.node) is PeerState.SUSPECT
    verdict = core.peers[X.node].verdict_at - NOW.mono
    assert CONFIG.suspicion_min_s <= verdict <= CONFIG.suspicion_max_s
    accuse(core, OTHERS[3], X, 0.1)
    assert core.peers[X.node].verdict_at - NOW.mono == pytest.approx(CONFIG.suspicion_min_s)


def test_what_a_node_has_seen_itself_outweighs_its_accusers() -> None:
    core = membership(X, *OTHERS)
    for accuser in (A, B, C):
        accuse(core, accuser, X)
    ping = next(iter(core._probes._open.values()))
    core.on_ack(X.node, Ack(ping.seq, ping.nonce, 1), at(0.1))
    assert core.state(X.node) is PeerState.ALIVE
    accuse(core, OTHERS[3], X, 0.2)  # one more voice since then is one voice
    assert core.state(X.node) is PeerState.ALIVE


def test_a_crowd_of_accusers_does_not_fill_the_memory() -> None:
    crowd = [MESH.person(f"n{n}") for n in range(MAX_ACCUSERS + 5)]
    core = membership(X, *crowd)
    for accuser in crowd:
        accuse(core, accuser, X)
    assert len(core.peers[X.node].accusers) == MAX_ACCUSERS


def test_a_forged_accusation_is_refused() -> None:
    core = membership(X, A)
    said = state(A.identity, Word.ACCUSATION, X.node, (1, 0), NOW.wall)
    forged = Signed(said.payload, bytes(64))
    with pytest.raises(IdentityError):
        core.hear(forged, read_statement(forged), NOW)


def test_an_accusation_of_an_earlier_life_is_old_news() -> None:
    core = membership(X, *OTHERS)
    core.new_life(X.node, (2, 0), NOW)
    for accuser in (A, B, C):
        accuse(core, accuser, X)
    assert core.state(X.node) is PeerState.ALIVE


def test_an_accusation_replayed_after_hours_is_refused() -> None:
    core = membership(X, *OTHERS)
    said = state(A.identity, Word.ACCUSATION, X.node, (1, 0), NOW.wall - 7200)
    assert core.hear(said, read_statement(said), NOW) == (False, [])
    assert core.counters["refused_accusation_age"] == 1


# -- own probes -------------------------------------------------------------------------


def test_in_a_mesh_of_two_ones_own_probes_decide() -> None:
    core = membership(X)
    run(core, 0.0, 8.0)
    assert core.state(X.node) is PeerState.DEAD


def test_a_silent_node_is_asked_for_through_others_before_it_is_accused() -> None:
    core = membership(X, A, B)
    probe_of(core, X, 0.0)
    sent = run(core, 0.0, 0.6)
    asks = [send for send in sent if isinstance(send.message, PingRequest)]
    asked = {send.to for send in asks if send.message.target == X.node}  # type: ignore[union-attr]
    assert asked == {A.node, B.node}
    assert core.state(X.node) is PeerState.ALIVE


def test_a_relays_word_counts_only_with_the_subjects_signature() -> None:
    core = membership(X, A, B)
    ping = probe_of(core, X, 0.0)
    core.on_relayed_ack(A.node, RelayedAck(ping.seq, X.node, ping.nonce, 1, bytes(64)), at(0.7))
    assert core.counters["refused_relayed_ack"] == 1
    assert core._probes.pending(X.node)
    subject = Membership(X.identity, CONFIG, random.Random(1), 1)
    [answer] = subject.on_ping(A.node, Ping(9, X.node, ping.nonce, sign=True), at(0.7))
    assert isinstance(answer.message, Ack)
    word = answer.message.signature
    assert check_ack(MESH.trust, X.member.key, X.node, ping.nonce, 1, word)
    core.on_relayed_ack(A.node, RelayedAck(ping.seq, X.node, ping.nonce, 1, word), at(0.8))
    assert not core._probes.pending(X.node)


def test_an_answer_with_another_nonce_or_from_another_node_is_none() -> None:
    core = membership(X, A)
    ping = probe_of(core, X, 0.0)
    core.on_ack(A.node, Ack(ping.seq, ping.nonce, 1), at(0.1))
    core.on_ack(X.node, Ack(ping.seq, b"guess", 1), at(0.1))
    assert core._probes.pending(X.node)
    assert core.counters["refused_ack"] == 2


def test_a_node_does_not_probe_without_end_for_one_asker() -> None:
    core = membership(X, A)
    for seq in range(MAX_RELAYS_EACH + 3):
        core.on_ping_request(A.node, PingRequest(seq, X.node, b"n"), NOW)
    assert core.counters["refused_relay_full"] == 3


def test_a_probe_meant_for_who_was_here_before_is_not_answered() -> None:
    core = membership(X)
    assert core.on_ping(X.node, Ping(1, A.node, b"n"), NOW) == []
    assert core.counters["refused_ping_target"] == 1


# -- refuting ---------------------------------------------------------------------------


def test_the_accused_refutes_with_a_later_life() -> None:
    core = membership(X)
    said = state(X.identity, Word.ACCUSATION, ME.node, (1, 0), NOW.wall)
    core.hear(said, read_statement(said), NOW)
    word = read_statement(core.news[0])
    assert (word.kind, word.life) == (Word.ALIVE, (1, 1))
    assert core.health == 1  # perhaps it is this node that cannot keep up


def test_who_accuses_an_earlier_life_is_told_of_the_present_one() -> None:
    core = membership(X)
    core.life = (2, 0)
    said = state(X.identity, Word.ACCUSATION, ME.node, (1, 0), NOW.wall)
    core.hear(said, read_statement(said), NOW)
    assert not core.news
    assert list(core.unaware) == [(X.node, 1)]


def test_a_liar_cannot_make_a_node_fill_the_mesh_with_refutations() -> None:
    core = membership(X, A)
    for _ in range(50):
        said = state(X.identity, Word.ACCUSATION, ME.node, core.life, NOW.wall)
        core.hear(said, read_statement(said), NOW)
    assert len(core.news) == 1
    core.tick(at(CONFIG.refute_gap_s))
    assert len(core.news) == 2


def test_suspicion_is_refuted_by_its_subject() -> None:
    core = membership(X, *OTHERS)
    for accuser in (A, B, C):
        accuse(core, accuser, X)
    word = state(X.identity, Word.ALIVE, X.node, (1, 1), NOW.wall)
    assert core.hear(word, read_statement(word), at(1.0)) == (True, [])
    assert core.state(X.node) is PeerState.ALIVE
    assert core.hear(word, read_statement(word), at(1.1)) == (False, [])


def test_departed_is_not_dead_and_no_probe_is_wasted_on_it() -> None:
    core = membership(X, A)
    word = state(X.identity, Word.LEAVE, X.node, (1, 1), NOW.wall)
    core.hear(word, read_statement(word), NOW)
    assert core.state(X.node) is PeerState.DEPARTED
    assert all(send.to != X.node for send in run(core, 0.0, 5.0))
    core.new_life(X.node, (2, 0), at(6.0))
    assert core.state(X.node) is PeerState.ALIVE


# -- one's own health -------------------------------------------------------------------


def test_a_node_that_overslept_gives_everybody_that_time_again() -> None:
    core = membership(X)
    probe_of(core, X, 0.0)
    core.tick(at(0.0))
    core.tick(at(6.0))  # it should have been woken after half a second
    assert core.counters["overslept"] == 1
    assert core.counters["probes_failed"] == 0
    assert core.state(X.node) is PeerState.ALIVE


def test_failed_probes_make_a_node_doubt_itself_unless_relays_say_it_can_be_heard() -> None:
    alone, heard = membership(X, A, B), membership(X, A, B)
    for core, answer in ((alone, False), (heard, True)):
        core._next_probe = 1e9
        ping = probe_of(core, X, 0.0)
        core.tick(at(0.5))
        for relay in (A, B):
            if answer:
                core.on_relayed_ack(relay.node, RelayedAck(ping.seq, X.node, ping.nonce), at(0.9))
        run(core, 0.9, 2.1)
    assert alone.health == 2
    assert heard.health == 0


def test_a_peer_that_stalled_before_is_given_longer_the_next_time() -> None:
    core = membership(X)
    peer = core.peers[X.node]
    assert core._patience(peer, NOW) == pytest.approx(CONFIG.suspicion_min_s)
    core._remember_silence(peer, 2.0, NOW)
    assert core._patience(peer, NOW) == pytest.approx(2.0 * CONFIG.silence_trust)
    core._remember_silence(peer, 6.0, NOW)
    assert core._patience(peer, NOW) == pytest.approx(CONFIG.silence_max_s)
    core._remember_silence(peer, 3600.0, NOW)  # that was no stall
    assert core._patience(peer, NOW) == pytest.approx(CONFIG.silence_max_s)
    much_later = at(10 * CONFIG.silence_half_life_s)
    assert core._patience(peer, much_later) == pytest.approx(CONFIG.suspicion_min_s)


def test_short_patience_is_earned_by_answering_for_a_while() -> None:
    core = Membership(ME.identity, CONFIG, random.Random(1), 1)
    core.add(X.member, heard=True, now=NOW)
    peer = core.peers[X.node]
    before = core._patience(peer, at(CONFIG.steady_s - 1))
    assert before == pytest.approx(CONFIG.suspicion_unsteady_s)
    assert core._patience(peer, at(CONFIG.steady_s + 1)) == pytest.approx(CONFIG.suspicion_min_s)


def test_who_only_heard_the_accusation_learns_of_the_stall_too() -> None:
    core = membership(X, *OTHERS)
    accuse(core, A, X)
    core.new_life(X.node, (1, 1), at(4.0))
    assert core.state(X.node) is PeerState.ALIVE
    assert core.peers[X.node].silence_s == pytest.approx(4.0)


def test_a_newcomer_that_never_answered_yet_is_not_accused() -> None:
    core = Membership(ME.identity, CONFIG, random.Random(1), 1)
    core.add(X.member, heard=True, now=NOW)
    run(core, 0.0, 5.0)
    assert core.state(X.node) is PeerState.ALIVE
    assert core.counters["newcomers_spared"] > 0
    run(core, 5.0, 25.0)
    assert core.state(X.node) is PeerState.DEAD


def test_timeouts_follow_the_measured_round_trip() -> None:
    trip = RoundTrip()
    assert trip.timeout(CONFIG) == CONFIG.probe_timeout_first_s
    for _ in range(50):
        trip.sample(0.2)
    assert trip.mean_s == pytest.approx(0.2)
    assert trip.timeout(CONFIG) == CONFIG.probe_timeout_min_s
    for took in (0.2, 1.5) * 10:
        trip.sample(took)
    assert trip.timeout(CONFIG) > 1.5


def pings_to(person: Person, sent: list[Send]) -> list[Ping]:
    return [s.message for s in sent if isinstance(s.message, Ping) and s.to == person.node]


def test_an_unanswered_ping_is_repeated_and_each_has_a_number_of_its_own() -> None:
    core = membership(X)
    first = probe_of(core, X, 0.0)
    again = pings_to(X, run(core, 0.0, 1.4))
    assert len(again) == 11
    assert len({ping.seq for ping in (first, *again)}) == 12
    assert {ping.nonce for ping in again} == {first.nonce}


def test_a_node_that_answers_each_fourth_ping_only_is_not_suspected() -> None:
    core = membership(X)
    probe_of(core, X, 0.0)
    fourth = pings_to(X, run(core, 0.0, 0.45))[2]
    core.on_ack(X.node, Ack(fourth.seq, fourth.nonce, 1), at(0.46))
    run(core, 0.46, 1.6)
    assert core.counters["probes_failed"] == 0


def test_an_answer_to_a_repeated_ping_does_not_blur_the_round_trip() -> None:
    core = membership(X)
    probe_of(core, X, 0.0)
    repeated = pings_to(X, run(core, 0.0, 0.4))[-1]
    core.on_ack(X.node, Ack(repeated.seq, repeated.nonce, 1), at(0.385))
    assert core.peers[X.node].round_trip.mean_s == pytest.approx(0.01, abs=0.002)


def test_an_answer_that_took_long_is_measured_from_the_ping_that_it_answers() -> None:
    core = membership(X)
    first = probe_of(core, X, 0.0)
    run(core, 0.0, 1.0)
    core.on_ack(X.node, Ack(first.seq, first.nonce, 1), at(1.0))
    assert core.peers[X.node].round_trip.mean_s > 0.1


def test_an_answer_to_a_ping_that_was_never_sent_is_refused() -> None:
    core = membership(X)
    first = probe_of(core, X, 0.0)
    core.on_ack(X.node, Ack(first.seq + 1, first.nonce, 1), at(0.1))
    assert core.counters["refused_ack"] == 1


def test_a_peer_far_away_is_not_pinged_twice_for_one_answer() -> None:
    core = membership(X)
    for _ in range(50):
        core.peers[X.node].round_trip.sample(0.3)
    probe_of(core, X, 0.0)
    assert pings_to(X, run(core, 0.0, 0.29)) == []


def test_a_statement_has_few_bytes() -> None:
    assert len(state(A.identity, Word.ACCUSATION, X.node, (1, 0), NOW.wall).payload) < 64
    assert Statement(1, X.node, A.node, 1, 2, 0.0).life == (1, 2)

"""News reaches everybody, costs little where it is known, and never fills a node."""

from __future__ import annotations

import random

import msgspec
import pytest

from mesh.core.cms import BUCKETS, HASH_BYTES, Store
from mesh.core.effects import Send
from mesh.core.gossip import (
    MAX_PART_BYTES,
    MAX_WANTED,
    AntiEntropy,
    GossipConfig,
    RumourMill,
)
from mesh.core.identity import Signed
from mesh.core.records import Kind
from mesh.core.wire import MAX_CONTROL_BYTES, Digest, DigestEntry, Rumours, Want, encode
from mesh.sim.cheap import CheapScheme

from .people import NOW, Mesh, Person, at

MESH = Mesh(scheme=CheapScheme())
PEOPLE = [MESH.person(f"n{n}") for n in range(40)]
PEERS = [bytes([n]) * 16 for n in range(20)]
X = "knowledge.gpt/x"


def mill(**changes: object) -> RumourMill:
    config = msgspec.structs.replace(GossipConfig(), **changes)
    return RumourMill(config, random.Random(1), Store(MESH.trust), bytes(16))


def spread(news: RumourMill, person: Person, **how: object) -> Signed:
    signed = person.profile(X)
    news.add((person.node, Kind.PROFILE, b""), signed, (1, 1), **how)  # type: ignore[arg-type]
    return signed


class Side:
    """One store and what it says to another."""

    def __init__(self, *people: Person) -> None:
        self.store = Store(MESH.trust)
        for person in people:
            self.store.merge(person.profile(X), NOW)
        self.sync = AntiEntropy(
            GossipConfig(), random.Random(1), self.store, lambda _: [], lambda *_: None
        )

    def hear(self, message: object) -> list[Send]:
        if isinstance(message, Digest):
            return self.sync.on_digest(b"other", message, NOW)
        if isinstance(message, Want):
            return self.sync.on_want(b"other", message)
        assert isinstance(message, Rumours)
        for signed in message.records:
            self.store.merge(signed, NOW)
        return []


def converse(one: Side, other: Side) -> list[object]:
    """A comparison opened by ``one``, to its end; every message said."""
    said: list[object] = []
    turn = [(other, one.sync.open(b"other").message)]
    while turn:
        side, message = turn.pop(0)
        said.append(message)
        assert len(encode(message)) <= MAX_CONTROL_BYTES  # type: ignore[arg-type]
        back = one if side is other else other
        turn += [(back, send.message) for send in side.hear(message)]
    return said


def test_the_bytes_go_out_first_and_then_only_announcements() -> None:
    news = mill(eager_rounds=1)
    signed = spread(news, PEOPLE[0])
    first = news.tick(PEERS, NOW)
    assert [send.message for send in first] == [Rumours([signed], [])] * 3
    second = news.tick(PEERS, at(0.3))
    assert all(isinstance(send.message, Digest) for send in second)
    assert all(len(encode(send.message)) < 64 for send in second)


def test_news_follows_a_tree_that_tells_nobody_twice() -> None:
    ring = sorted(person.node for person in PEOPLE)
    source = PEOPLE[0]
    told: list[bytes] = []
    mills = {}
    for person in PEOPLE:
        mills[person.node] = RumourMill(
            GossipConfig(), random.Random(1), Store(MESH.trust), person.node
        )
    spread(mills[source.node], source)
    knows = [source.node]
    for step in range(3):  # 40 nodes have three digits to the base 4
        heard = []
        for node in knows:
            rumour = next(iter(mills[node]._rumours.values()))
            heard += mills[node]._branches(rumour, [peer for peer in ring if peer != node])
            rumour.rounds += 1
        for node in heard:
            spread(mills[node], source)
        told += heard
        knows += heard
        assert len(knows) == min(4 ** (step + 1), len(ring))
    assert sorted(told) == [node for node in ring if node != source.node]


def test_a_node_gossips_once_per_period() -> None:
    news = mill()
    spread(news, PEOPLE[0])
    assert news.tick(PEERS, NOW)
    spread(news, PEOPLE[1])
    assert news.tick(PEERS, at(0.1)) == []
    assert news.next_deadline() == pytest.approx(NOW.mono + 0.2)


def test_who_has_it_is_not_told() -> None:
    news = mill()
    signed = spread(news, PEOPLE[0], known=PEERS[1:])
    told = {send.to for step in range(3) for send in news.tick(PEERS, at(step))}
    assert told <= {PEERS[0]}
    news.known_to(signed.payload, PEERS[0])
    news.tick(PEERS, at(9))
    assert len(news) == 0


def test_a_subject_is_not_told_of_itself() -> None:
    news = mill()
    spread(news, PEOPLE[0])
    assert news.tick([PEOPLE[0].node], NOW) == []


def test_news_ends_after_a_logarithm_of_rounds() -> None:
    news = mill()
    spread(news, PEOPLE[0])
    rounds = 0
    while len(news):
        news.tick(PEERS, at(rounds))
        rounds += 1
    assert 4 <= rounds <= 8


def test_a_flood_pushes_out_what_was_told_most() -> None:
    news = mill(max_rumours=5)
    spread(news, PEOPLE[0])
    news.tick(PEERS, NOW)
    for person in PEOPLE[1:8]:
        spread(news, person)
    assert len(news) == 5
    assert news.counters["rumours_dropped"] == 3
    assert (PEOPLE[0].node, Kind.PROFILE, b"") not in news._rumours


def test_newer_news_of_the_same_thing_takes_its_place() -> None:
    news = mill()
    spread(news, PEOPLE[0])
    spread(news, PEOPLE[0])
    assert len(news) == 1


def test_equal_stores_cost_one_hash() -> None:
    said = converse(Side(*PEOPLE), Side(*PEOPLE))
    assert len(said) == 1
    assert len(encode(said[0])) < 40  # type: ignore[arg-type]


def test_one_comparison_makes_two_stores_equal_both_ways() -> None:
    one, other = Side(*PEOPLE[:30]), Side(*PEOPLE[10:])
    converse(one, other)
    assert one.store.root() == other.store.root()
    assert len(one.store) == len(other.store) == 40


def test_a_comparison_sends_only_what_the_other_lacks() -> None:
    said = converse(Side(*PEOPLE), Side(*PEOPLE[1:]))
    carried = [r for m in said if isinstance(m, Rumours) for r in m.records]
    assert len(carried) == 1


def test_answers_come_in_parts_below_the_frame_limit() -> None:
    side = Side(*PEOPLE)
    big = [(person.node, int(Kind.PROFILE)) for person in PEOPLE] * 10
    parts = side.sync.on_want(b"other", Want(big))
    assert len(parts) > 1
    for part in parts:
        assert len(encode(part.message)) < MAX_PART_BYTES + 10_000


def test_one_want_does_not_fetch_a_store_ten_times_over() -> None:
    side = Side(*PEOPLE)
    want = Want([(PEOPLE[0].node, int(Kind.PROFILE))] * 5000)
    parts = side.sync.on_want(b"other", want)
    assert sum(len(part.message.records) for part in parts) <= MAX_WANTED  # type: ignore[union-attr]


@pytest.mark.parametrize("buckets", [b"x", b"x" * (BUCKETS * HASH_BYTES + 1)])
def test_a_digest_of_the_wrong_size_is_refused(buckets: bytes) -> None:
    side = Side()
    assert side.hear(Digest([], False, b"r", buckets)) == []
    assert side.sync.counters["refused_digest"] == 1


def test_what_does_not_come_is_asked_of_the_others_that_offered_it() -> None:
    side = Side()
    offer = Digest([DigestEntry(PEOPLE[0].node, 1, 1, 0)], complete=False)
    asked = [side.sync.on_digest(peer, offer, NOW) for peer in PEERS[:5]]
    assert [bool(sends) for sends in asked] == [True, False, False, False, False]
    again = side.sync.tick([], at(0.2))
    assert [send.to for send in again] == PEERS[:3]


def test_what_does_not_come_is_asked_for_again_and_then_given_up() -> None:
    other = Side()
    announcement = Digest([DigestEntry(PEOPLE[0].node, 1, 1, 0)], complete=False)
    assert len(other.sync.on_digest(b"a", announcement, NOW)) == 1
    assert other.sync.on_digest(b"b", announcement, NOW) == []  # asked a moment ago
    wants = [
        send
        for step in range(1, 40)
        for send in other.sync.tick([], at(step * 0.2))
        if isinstance(send.message, Want)
    ]
    for asked in (b"a", b"b"):
        assert 1 <= sum(want.to == asked for want in wants) <= 6

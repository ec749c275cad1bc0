"""The store believes a record only from its subject, once, and within bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.cms import Outcome, Refusal, Store, StoreConfig
from mesh.core.events import MemberForgotten, MemberLearned, ProfileChanged
from mesh.core.identity import CLOCK_SKEW_S, Purpose, Signed, signing_context
from mesh.core.records import ModelInfo, ServedName

from .people import NOW, WALL, Mesh, at

MESH = Mesh()
ANNA, BOB = MESH.person("anna"), MESH.person("bob")
X, Y = "knowledge.gpt/x", "knowledge.gpt/y"


@pytest.fixture
def store() -> Store:
    return Store(MESH.trust)


def refusal(store: Store, signed: Signed) -> str:
    with pytest.raises(Refusal) as raised:
        store.merge(signed, NOW)
    assert store.counters[f"refused_{raised.value.code}"] == 1
    return raised.value.code


def test_a_verified_profile_makes_a_known_member(store: Store) -> None:
    assert store.merge(ANNA.profile(X), NOW)[0] is Outcome.NEW
    assert store.member(ANNA.node) == ANNA.member
    assert set(store.names.servers(X)) == {ANNA.node}
    kinds = [type(event) for event in store.events]
    assert kinds == [MemberLearned, ProfileChanged]


def test_the_same_bytes_are_stale_and_not_verified_again(store: Store) -> None:
    signed = ANNA.profile(X)
    store.merge(signed, NOW)
    forged = Signed(signed.payload, bytes(64))
    assert store.merge(forged, NOW)[0] is Outcome.STALE


def test_the_bytes_that_were_signed_are_kept(store: Store) -> None:
    signed = ANNA.profile(X)
    grown = msgspec.msgpack.encode([*msgspec.msgpack.decode(signed.payload), "later version"])
    context = signing_context(Purpose.RECORD, MESH.trust.mesh)
    resigned = Signed(grown, MESH.scheme.sign(ANNA.keys.signing, context + grown))
    store.merge(resigned, NOW)
    entry = store.get(ANNA.node)
    assert entry is not None
    assert entry.profile is not None
    assert entry.profile.signed.payload == grown


def test_rollback_is_refused_even_when_validly_signed(store: Store) -> None:
    store.merge(ANNA.profile(Y, incarnation=2), NOW)
    for old in (ANNA.profile(X, sequence=9), ANNA.profile(X, incarnation=2, sequence=0)):
        assert store.merge(old, NOW)[0] is Outcome.STALE
    assert not store.names.servers(X)


def test_a_new_profile_takes_the_names_of_the_old_one_away(store: Store) -> None:
    store.merge(ANNA.profile(X), NOW)
    store.merge(ANNA.profile(Y, sequence=2), NOW)
    assert not store.names.servers(X)
    assert set(store.names.servers(Y)) == {ANNA.node}


def test_a_name_that_the_certificate_does_not_grant_drops_the_whole_record(store: Store) -> None:
    assert refusal(store, ANNA.profile(X, "computation.gpt/generate")) == "publish"
    assert ANNA.node not in store
    assert not store.names.servers(X)


def test_what_is_refused_has_a_reason_that_is_counted(store: Store) -> None:
    stranger = Mesh(9).person("eve")
    assert refusal(store, stranger.profile(X)) == "signature"
    assert refusal(store, ANNA.profile(X, issued=WALL - 10, expires=WALL - 1)) == "expired"
    ahead = WALL + CLOCK_SKEW_S + 60
    assert refusal(store, ANNA.profile(X, issued=ahead, expires=ahead + 1)) == "future"
    assert refusal(store, ANNA.profile(X, expires=WALL + 30 * 86400)) == "lifetime"
    assert refusal(store, ANNA.status()) == "unknown_subject"
    assert refusal(store, Signed(b"junk", bytes(64))) == "malformed"
    assert len(store) == 0


def test_a_profile_with_anothers_passport_is_refused(store: Store) -> None:
    assert refusal(store, ANNA.profile(X, passport=BOB.passport)) == "signature"


def test_a_node_that_signs_without_end_is_held_to_its_rate() -> None:
    store = Store(MESH.trust, StoreConfig(burst=3, per_s=1.0))
    for sequence in range(1, 4):
        store.merge(ANNA.profile(X, sequence=sequence), NOW)
    assert refusal(store, ANNA.profile(X, sequence=4)) == "rate"
    assert store.merge(ANNA.profile(X, sequence=5), at(1.5))[0] is Outcome.NEW
    assert store.merge(BOB.profile(X), at(1.5))[0] is Outcome.NEW  # another's rate is its own


def test_a_full_store_refuses_strangers_and_forgets_the_dead_first() -> None:
    store = Store(MESH.trust, StoreConfig(max_members=1))
    store.merge(ANNA.profile(X), NOW)
    with pytest.raises(Refusal, match="no room"):
        store.merge(BOB.profile(X), NOW)
    store.mark_dead(ANNA.node, True)
    store.merge(BOB.profile(X), NOW)
    assert [member.name for member in store.members()] == ["bob"]


def test_what_has_run_out_is_dropped(store: Store) -> None:
    store.merge(ANNA.profile(X), NOW)
    store.merge(ANNA.status(), NOW)
    store.expire(at(700))
    assert store.status(ANNA.node) is None
    assert store.names.servers(X)
    store.expire(at(4000))
    assert not store.names.servers(X)
    assert ANNA.node in store  # still certified: it may come back


def test_the_dead_are_forgotten_when_nothing_of_theirs_can_come_back(store: Store) -> None:
    store.merge(ANNA.profile(X), NOW)
    store.mark_dead(ANNA.node, True)
    store.expire(at(3000))
    assert ANNA.node in store
    store.expire(at(4000))
    assert ANNA.node not in store
    assert any(isinstance(event, MemberForgotten) for event in store.events)
    with pytest.raises(Refusal, match="expired"):
        store.merge(ANNA.profile(X), at(4000))


def test_who_leaves_takes_its_names_along_until_its_next_boot(store: Store) -> None:
    store.merge(ANNA.profile(X), NOW)
    store.keep_word(ANNA.node, Signed(b"leave", b""), (1, 1), left=True)
    assert not store.names.servers(X)
    assert store.merge(ANNA.profile(X, sequence=5), NOW)[0] is Outcome.STALE
    assert store.merge(ANNA.profile(X, incarnation=2), NOW)[0] is Outcome.NEW
    assert store.names.servers(X)


def test_queries_go_by_name_domain_model_modality_rate_and_load(store: Store) -> None:
    served = ServedName(X, domain="maths", model="tiny")
    store.merge(ANNA.profile(served, models=(ModelInfo("tiny", modalities=("text",)),)), NOW)
    store.merge(ANNA.status(load=0.9), NOW)
    hit = [(ANNA.node, served)]
    assert store.query("knowledge.gpt/*") == hit
    assert store.query(domain="maths", model="tiny", modality="text") == hit
    assert store.query(min_tokens_per_s=5.0, max_load=0.9) == hit
    assert not store.query("data.gpt/**")
    assert not store.query(domain="art")
    assert not store.query(modality="image")
    assert not store.query(min_tokens_per_s=50.0)
    assert not store.query(max_load=0.5)


@given(st.permutations(list(range(6))))
def test_stores_that_heard_the_same_in_any_order_have_the_same_root(order: list[int]) -> None:
    said = [
        ANNA.profile(X),
        ANNA.profile(Y, sequence=3),
        ANNA.profile(X, incarnation=2),
        BOB.profile(X),
        BOB.profile(Y, sequence=2),
        BOB.profile(X, sequence=4),
    ]
    one, other = Store(MESH.trust), Store(MESH.trust)
    for signed in said:
        one.merge(signed, NOW)
    assert one.root() != other.root()
    for index in order:
        other.merge(said[index], NOW)
    assert one.root() == other.root()


@given(st.binary(max_size=200), st.binary(max_size=64))
def test_random_bytes_are_refused_as_such(payload: bytes, signature: bytes) -> None:
    with pytest.raises(Refusal):
        Store(MESH.trust).merge(Signed(payload, signature), NOW)

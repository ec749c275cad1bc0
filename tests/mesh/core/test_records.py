"""What a node says of itself: sealed, bounded, and read with care."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import IdentityError, WireError
from mesh.core.identity import Signed
from mesh.core.records import (
    MAX_NAMES,
    MAX_PROFILE_BYTES,
    Profile,
    ServedName,
    Status,
    open_record,
    read_head,
)
from mesh.core.statements import Word, read_statement, state

from .people import WALL, Mesh


def test_a_record_opens_as_it_was_sealed() -> None:
    mesh = Mesh()
    anna = mesh.person("anna")
    profile = open_record(anna.profile("knowledge.gpt/x"), anna.member.key, mesh.trust)
    assert isinstance(profile, Profile)
    assert profile.names[0].name == "knowledge.gpt/x"
    status = open_record(anna.status(load=0.5), anna.member.key, mesh.trust)
    assert isinstance(status, Status)
    assert status.load == 0.5


def test_a_record_is_its_subjects_or_nobodys() -> None:
    mesh = Mesh()
    anna, bob = mesh.person("anna"), mesh.person("bob")
    with pytest.raises(IdentityError):
        open_record(anna.profile(), bob.member.key, mesh.trust)


def test_a_typical_status_has_at_most_400_bytes() -> None:
    signed = (
        Mesh()
        .person("anna")
        .status(
            load=0.75, inflight=3, queued=2, tokens_per_s=31.25, tasks=(("0123456789abcdef", 0.5),)
        )
    )
    assert len(msgspec.msgpack.encode(signed)) <= 400


def test_what_is_over_its_limit_is_not_even_sealed() -> None:
    anna = Mesh().person("anna")
    with pytest.raises(WireError, match="at most"):
        anna.status(note="x" * 2000)
    with pytest.raises(WireError, match="at most"):
        anna.profile(ServedName("knowledge.gpt/x", description="x" * MAX_PROFILE_BYTES))


def test_a_profile_with_too_many_names_is_refused() -> None:
    mesh = Mesh()
    anna = mesh.person("anna")
    signed = anna.profile(*(f"knowledge.gpt/n{n}" for n in range(MAX_NAMES + 1)))
    with pytest.raises(WireError, match="too many"):
        open_record(signed, anna.member.key, mesh.trust)


def test_a_record_that_expires_before_it_was_issued_is_refused() -> None:
    with pytest.raises(WireError):
        read_head(Mesh().person("anna").status(expires=WALL - 1))


@given(st.binary(max_size=300))
def test_random_bytes_are_no_record_and_no_statement(raw: bytes) -> None:
    for read in (read_head, read_statement):
        with pytest.raises(WireError):
            read(Signed(raw, bytes(64)))


def test_a_later_version_may_append_fields() -> None:
    status = msgspec.msgpack.decode(Mesh().person("anna").status().payload)
    grown = msgspec.msgpack.encode([*status, "new", {"deep": [1]}])
    assert read_head(Signed(grown, b"")).version == (1, 2)


def test_nobody_speaks_in_anothers_name() -> None:
    mesh = Mesh()
    anna, bob = mesh.person("anna"), mesh.person("bob")
    for kind, subject in ((Word.ALIVE, bob), (Word.LEAVE, bob), (Word.ACCUSATION, anna)):
        with pytest.raises(WireError):
            read_statement(state(anna.identity, kind, subject.node, (1, 0), WALL))

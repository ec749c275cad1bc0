"""Who is who: certificates, passports, and signatures that cannot be used for another."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import IdentityError
from mesh.core.identity import (
    MAX_GROUPS,
    CurveBody,
    LocalIdentity,
    Passport,
    Purpose,
    Signed,
    fingerprint,
    new_keys,
    show_id,
    sign,
)

from .people import WALL, YEAR_S, Mesh


def test_a_certified_node_is_who_its_passport_says() -> None:
    mesh = Mesh()
    anna = mesh.person("anna")
    member = mesh.trust.check(anna.passport, WALL)
    assert (member.name, member.node, member.groups) == ("anna", anna.keys.node, ("home",))
    assert member.curve == anna.keys.curve
    assert member.may_publish("knowledge.gpt/arithmetic")
    assert not member.may_publish("computation.gpt/generate")
    assert len(show_id(member.node)) == 26


def test_a_passport_of_another_mesh_is_refused_by_name() -> None:
    stranger = Mesh(2).person("anna")
    with pytest.raises(IdentityError, match="is for mesh"):
        Mesh(1).trust.check(stranger.passport, WALL)


def test_a_passport_counts_only_while_it_is_valid() -> None:
    mesh = Mesh()
    passport = mesh.person("anna").passport
    with pytest.raises(IdentityError, match="expired"):
        mesh.trust.check(passport, WALL + 2 * YEAR_S)
    with pytest.raises(IdentityError, match="not valid yet"):
        mesh.trust.check(passport, WALL - 2 * YEAR_S)


def test_a_changed_certificate_is_refused() -> None:
    mesh = Mesh()
    anna = mesh.person("anna")
    forged = anna.passport.certificate.payload.replace(b"anna", b"evil")
    passport = Passport(Signed(forged, anna.passport.certificate.signature), anna.passport.curve)
    with pytest.raises(IdentityError, match="not signed by this mesh"):
        mesh.trust.check(passport, WALL)


def test_a_curve_key_must_be_signed_by_the_certified_key() -> None:
    mesh = Mesh()
    anna, bob = mesh.person("anna"), mesh.person("bob")
    with pytest.raises(IdentityError, match="CURVE key"):
        mesh.trust.check(Passport(anna.passport.certificate, bob.passport.curve), WALL)
    short = sign(anna.keys.signing, Purpose.CURVE, mesh.trust.mesh, CurveBody(anna.node, b"short"))
    with pytest.raises(IdentityError, match="32 bytes"):
        mesh.trust.check(Passport(anna.passport.certificate, short), WALL)


def test_a_signature_for_one_purpose_or_mesh_is_worth_nothing_for_another() -> None:
    mesh, other = Mesh(1), Mesh(2)
    keys = new_keys(mesh.rng.randbytes)
    signed = sign(keys.signing, Purpose.RECORD, mesh.trust.mesh, CurveBody(keys.node, b""))
    assert mesh.trust.verify(keys.key, Purpose.RECORD, signed)
    assert not mesh.trust.verify(keys.key, Purpose.STATEMENT, signed)
    assert not other.trust.verify(keys.key, Purpose.RECORD, signed)


def test_a_certificate_names_a_bounded_number_of_groups() -> None:
    mesh = Mesh()
    keys = new_keys(mesh.rng.randbytes)
    groups = tuple(f"g{n}" for n in range(MAX_GROUPS + 1))
    with pytest.raises(IdentityError, match="at most"):
        mesh.certificate(keys, "anna", groups=groups)


def test_an_identity_wants_the_keys_of_its_certificate() -> None:
    mesh = Mesh()
    anna = mesh.person("anna")
    with pytest.raises(IdentityError):
        LocalIdentity(new_keys(mesh.rng.randbytes), anna.passport, mesh.trust)


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_random_bytes_are_no_passport(one: bytes, other: bytes) -> None:
    mesh = Mesh()
    with pytest.raises(IdentityError):
        mesh.trust.check(Passport(Signed(one, bytes(64)), Signed(other, bytes(64))), WALL)


@given(st.binary(max_size=40), st.binary(max_size=70))
def test_random_bytes_are_no_signature(key: bytes, signature: bytes) -> None:
    assert not Mesh().trust.verify(key, Purpose.RECORD, Signed(b"text", signature))


def test_fingerprints_are_sixteen_bytes_and_differ() -> None:
    assert len(fingerprint(b"a")) == 16
    assert fingerprint(b"a") != fingerprint(b"b")
    assert msgspec.msgpack.encode(Signed(b"", b""))[0] == 0x92  # travels as an array

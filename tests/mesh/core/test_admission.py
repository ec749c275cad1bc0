"""The door checks a passport over the link of its own key, and is hard to flood."""

from __future__ import annotations

import random

import pytest

from mesh.core.admission import AdmissionDoor, DoorLimits, TokenBucket, check_presented
from mesh.core.clock import Now
from mesh.core.errors import IdentityError
from mesh.core.identity import Authority, NodeKeys, Passport, Trust, make_passport, new_keys
from mesh.core.records import Endpoints
from mesh.core.wire import Admitted, Present, Redeem, Refused, decode_admission, encode

WALL = 1_700_000_000.0
NOW = Now(50.0, WALL)
rng = random.Random(7)
AUTHORITY = Authority(rng.randbytes(32))
TRUST = Trust(AUTHORITY.key)


def node(name: str, authority: Authority = AUTHORITY) -> tuple[NodeKeys, Passport]:
    keys = new_keys(rng.randbytes)
    certificate = authority.certify(
        key=keys.key,
        name=name,
        groups=("home",),
        publish=("knowledge.gpt/**",),
        not_before=WALL - 10,
        not_after=WALL + 1000,
        serial=b"12345678",
    )
    return keys, make_passport(keys, certificate, authority.mesh)


def door(limits: DoorLimits | None = None) -> AdmissionDoor:
    _, passport = node("host")
    return AdmissionDoor(TRUST, passport, limits)


ENDPOINTS = Endpoints("tcp://h:1", "tcp://h:2", "tcp://h:3")


def test_a_member_is_admitted_and_shown_the_hosts_passport() -> None:
    keys, passport = node("guest")
    frame = encode(Present(passport, 1))
    reply, member = door().receive(decode_admission(frame), keys.curve, 4, ENDPOINTS, NOW)
    assert member is not None
    assert member.name == "guest"
    assert isinstance(reply, Admitted)
    assert TRUST.check(reply.passport, WALL).name == "host"
    assert (reply.incarnation, reply.control) == (4, "tcp://h:1")


def test_a_copied_passport_is_worth_nothing_over_another_key() -> None:
    _, passport = node("guest")
    thief = new_keys(rng.randbytes)
    reply, member = door().receive(Present(passport, 1), thief.curve, 1, ENDPOINTS, NOW)
    assert member is None
    assert isinstance(reply, Refused)
    assert "another key" in reply.reason


def test_the_passport_of_another_mesh_is_refused_in_one_line() -> None:
    keys, passport = node("guest", Authority(rng.randbytes(32)))
    with pytest.raises(IdentityError, match="the certificate is for mesh"):
        check_presented(TRUST, passport, keys.curve, NOW)
    checked = door()
    reply, member = checked.receive(Present(passport, 1), keys.curve, 1, ENDPOINTS, NOW)
    assert member is None
    assert isinstance(reply, Refused)
    assert "\n" not in reply.reason
    assert checked.counters["admission_refused"] == 1


def test_an_expired_passport_is_refused() -> None:
    keys, passport = node("guest")
    with pytest.raises(IdentityError, match="expired"):
        check_presented(TRUST, passport, keys.curve, Now(1.0, WALL + 2000))


def test_the_door_does_one_thing() -> None:
    reply, member = door().receive(Redeem(b"s", b"k", b"c", "x"), b"c" * 32, 1, ENDPOINTS, NOW)
    assert isinstance(reply, Refused)
    assert member is None


def test_a_stranger_that_knocks_on_and_on_gets_no_more_answers_but_others_do() -> None:
    keys, passport = node("noisy")
    other, good = node("guest")
    checked = door()
    answered = sum(
        checked.receive(Present(passport, 1), keys.curve, 1, ENDPOINTS, NOW)[0] is not None
        for _ in range(100)
    )
    assert answered <= 8
    reply, member = checked.receive(Present(good, 1), other.curve, 1, ENDPOINTS, NOW)
    assert member is not None
    assert reply is not None
    assert checked.counters["admission_over_rate"] == 100 - answered


def test_what_is_remembered_of_strangers_is_bounded() -> None:
    checked = door(DoorLimits(keys_remembered=10))
    _, passport = node("guest")
    for number in range(200):
        key = number.to_bytes(32, "big")
        checked.receive(Present(passport, 1), key, 1, ENDPOINTS, Now(50.0 + number, WALL))
    assert len(checked._per_key) <= 10


def test_a_token_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.5)
    assert not bucket.take(0.6)

"""A delegate acts in the origin's name within the origin's limits, and cannot widen them."""

from __future__ import annotations

import random

import msgspec
import pytest

from mesh.core.access import check_reach
from mesh.core.delegation import MAX_HOPS, check_origin, on_behalf, with_warrant
from mesh.core.errors import AccessDenied
from mesh.core.identity import Authority, LocalIdentity, Signed, Trust, make_passport, new_keys
from mesh.core.wire import Call, CallHeader, Reach, decode, encode

WALL = 1_700_000_000.0
rng = random.Random(5)
AUTHORITY = Authority(rng.randbytes(32))
TRUST = Trust(AUTHORITY.key)


def node(name: str, *groups: str) -> LocalIdentity:
    keys = new_keys(rng.randbytes)
    certificate = AUTHORITY.certify(
        key=keys.key,
        name=name,
        groups=groups,
        publish=(),
        not_before=WALL,
        not_after=WALL + 1000,
        serial=b"s",
    )
    return LocalIdentity(keys, make_passport(keys, certificate, AUTHORITY.mesh), TRUST)


ORIGIN, DELEGATE, THIRD = node("watch", "body", "home"), node("hub", "home"), node("tv", "home")


def task(reach: Reach = Reach.GROUP, groups: tuple[str, ...] = ("home",)) -> CallHeader:
    own = CallHeader(b"t" * 16, b"s" * 8, 5000, ORIGIN.node, reach=reach, groups=groups, hops=1)
    return with_warrant(own, ORIGIN, WALL)


def passed_on(header: CallHeader, **wishes: object) -> CallHeader:
    return on_behalf(header, span=b"x" * 8, timeout_ms=4000, **wishes)  # type: ignore[arg-type]


def checked(header: CallHeader, sender: LocalIdentity = DELEGATE) -> str:
    frame = encode(Call(1, header, "knowledge.gpt/x", 0, b"", 1))
    message = decode(frame)
    assert isinstance(message, Call)
    origin = {n.node: n.member for n in (ORIGIN, DELEGATE, THIRD)}.get(header.caller)
    return check_origin(message.header, sender.member, origin, TRUST, WALL).name


def test_a_task_is_passed_on_in_its_origins_name() -> None:
    header = passed_on(task())
    assert (header.hops, header.timeout_ms, header.caller) == (2, 4000, ORIGIN.node)
    assert checked(header) == "watch"
    check_reach(header, THIRD.member, own=False)
    again = passed_on(header)
    assert checked(again, THIRD) == "watch"


def test_limits_only_narrow_on_the_way() -> None:
    header = passed_on(task(Reach.MESH, ("body", "home")), reach=Reach.GROUP, groups=("home",))
    assert (header.reach, header.groups) == (Reach.GROUP, ("home",))
    wide = passed_on(header, reach=Reach.CLOUD, groups=("home", "street"))
    assert (wide.reach, wide.groups) == (Reach.GROUP, ("home",))
    assert passed_on(header, reach=Reach.CLOUD).timeout_ms <= header.timeout_ms


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reach": Reach.MESH}, "has widened"),
        ({"reach": Reach.CLOUD}, "has widened"),
        ({"groups": ("home", "body")}, "has widened"),
        ({"groups": ("street",)}, "has widened"),
        ({"warrant": None}, "without its warrant"),
        ({"trace": b"u" * 16}, "not watch's for this task"),
        ({"hops": 0}, "counts its hops wrongly"),
        ({"hops": MAX_HOPS + 1}, "handed on at most"),
        ({"hops": -1}, "handed on at most"),
        ({"caller": THIRD.node}, "not tv's for this task"),
        ({"caller": b"n" * 16}, "not known here"),
        ({"warrant": Signed(b"\xc1", bytes(64))}, "cannot be read"),
        ({"warrant": Signed(b"x" * 2000, bytes(64))}, "size limit"),
    ],
)
def test_a_widened_delegation_is_refused_by_the_next_node(
    change: dict[str, object], said: str
) -> None:
    header = msgspec.structs.replace(passed_on(task()), **change)
    with pytest.raises(AccessDenied, match=said):
        checked(header)


def test_a_warrant_that_another_signed_or_that_is_over_is_worth_nothing() -> None:
    header = passed_on(task())
    assert header.warrant is not None
    own = with_warrant(
        msgspec.structs.replace(header, caller=DELEGATE.node, hops=1), DELEGATE, WALL
    )
    forged = msgspec.structs.replace(header, warrant=own.warrant)
    with pytest.raises(AccessDenied, match="not watch's"):
        checked(forged)
    origin = ORIGIN.member
    with pytest.raises(AccessDenied, match="is over"):
        check_origin(header, DELEGATE.member, origin, TRUST, WALL + 1000)


def test_a_delegate_outside_the_tasks_groups_has_no_business_with_it() -> None:
    stranger = node("camera", "street")
    with pytest.raises(AccessDenied, match="outside the groups"):
        check_origin(passed_on(task()), stranger.member, ORIGIN.member, TRUST, WALL)


def test_nobody_names_groups_that_its_certificate_does_not() -> None:
    header = CallHeader(
        b"t" * 16, b"s" * 8, 1000, DELEGATE.node, reach=Reach.GROUP, groups=("body",)
    )
    with pytest.raises(AccessDenied, match="hub is not in the group body"):
        checked(header)


def test_two_delegates_that_hand_a_task_to_each_other_end_at_the_hop_limit() -> None:
    header = task()
    for _ in range(MAX_HOPS - 1):
        header = passed_on(header)
        assert checked(header) == "watch"
    with pytest.raises(AccessDenied, match="which is the most"):
        passed_on(header)


def test_a_task_without_a_warrant_or_bound_to_its_node_is_not_passed_on() -> None:
    plain = msgspec.structs.replace(task(), warrant=None)
    with pytest.raises(AccessDenied, match="without its origin's leave"):
        passed_on(plain)
    with pytest.raises(AccessDenied, match="may not leave the node"):
        passed_on(task(Reach.NODE))


def test_an_own_call_that_claims_to_be_passed_on_is_refused() -> None:
    header = CallHeader(b"t" * 16, b"s" * 8, 1000, DELEGATE.node, hops=2)
    with pytest.raises(AccessDenied, match="own name"):
        checked(header)

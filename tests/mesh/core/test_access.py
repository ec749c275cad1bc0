"""Who may do what, and that a task's own limits hold at the callee."""

from __future__ import annotations

import pytest

from mesh.core.access import Operation, Policy, Rule, check_reach
from mesh.core.errors import AccessDenied, ConfigError
from mesh.core.identity import Member
from mesh.core.wire import CallHeader, Reach


def member(name: str, *groups: str, publish: tuple[str, ...] = ()) -> Member:
    return Member(
        node=name.encode().ljust(16, b"\0"),
        name=name,
        groups=groups,
        publish=publish,
        key=b"k" * 32,
        curve=b"c" * 32,
        not_after=2e9,
        serial=b"s",
    )


def call(reach: Reach, *groups: str) -> CallHeader:
    return CallHeader(b"t" * 16, b"s" * 8, 1000, b"c" * 16, reach=reach, groups=groups)


WATCH, CAMERA = member("watch", "body"), member("camera", "street")


def test_data_is_denied_and_the_rest_allowed_where_no_rule_speaks() -> None:
    policy = Policy()
    for name, allowed in {
        "data.gpt/vitals/raw": False,
        "knowledge.gpt/arithmetic": True,
        "computation.gpt/generate": True,
    }.items():
        assert policy.decide(WATCH, name, Operation.QUERY, own=False).allowed is allowed
    assert policy.decide(WATCH, "data.gpt/vitals/raw", Operation.QUERY, own=True).allowed


def test_the_first_rule_that_fits_decides_and_says_so() -> None:
    policy = Policy(
        [
            Rule(allow=False, names="data.gpt/vitals/raw", nodes=("watch",)),
            Rule(
                allow=True,
                names="data.gpt/vitals/**",
                groups=("body",),
                ops=(Operation.SUBSCRIBE,),
            ),
        ]
    )
    summary, raw = "data.gpt/vitals/summary", "data.gpt/vitals/raw"
    assert policy.decide(WATCH, summary, Operation.SUBSCRIBE, own=False).allowed
    assert not policy.decide(WATCH, summary, Operation.QUERY, own=False).allowed
    assert not policy.decide(CAMERA, summary, Operation.SUBSCRIBE, own=False).allowed
    denied = policy.decide(WATCH, raw, Operation.SUBSCRIBE, own=False)
    assert denied.rule == "node watch may not everything on data.gpt/vitals/raw"
    with pytest.raises(AccessDenied, match="watch may not subscribe"):
        policy.require(WATCH, raw, Operation.SUBSCRIBE, own=False)


def test_publishing_is_the_certificates_to_grant_whatever_a_rule_says() -> None:
    policy = Policy([Rule(allow=True, names="*.gpt/**")])
    honest = member("abacus", publish=("knowledge.gpt/arithmetic",))
    cloud = "computation.gpt/cloud"
    assert not policy.decide(honest, cloud, Operation.PUBLISH, own=True).allowed
    granted = policy.decide(honest, "knowledge.gpt/arithmetic", Operation.PUBLISH, own=True)
    assert granted.allowed


def test_a_rule_with_a_bad_pattern_is_refused_when_it_is_read() -> None:
    with pytest.raises(ConfigError, match="access rule"):
        Policy([Rule(allow=True, names="everything")])


def test_a_task_that_may_not_leave_its_node_or_group_is_refused_elsewhere() -> None:
    check_reach(call(Reach.MESH), CAMERA, own=False)
    check_reach(call(Reach.CLOUD), CAMERA, own=False)
    check_reach(call(Reach.NODE), CAMERA, own=True)
    check_reach(call(Reach.GROUP, "street", "body"), CAMERA, own=False)
    with pytest.raises(AccessDenied, match="may not leave the node"):
        check_reach(call(Reach.NODE), CAMERA, own=False)
    with pytest.raises(AccessDenied, match="may not leave its group"):
        check_reach(call(Reach.GROUP, "body"), CAMERA, own=False)
    with pytest.raises(AccessDenied, match="may not leave its group"):
        check_reach(call(Reach.GROUP), CAMERA, own=False)


SEGMENT = "computation.gpt/segment/tiny/0-4"


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([], False),
        ([Rule(allow=True, names="computation.gpt/**")], False),
        ([Rule(allow=True, names="computation.gpt/**", ops=(Operation.QUERY,))], False),
        ([Rule(allow=True, names="computation.gpt/segment/**", ops=(Operation.STATES,))], True),
        (
            [
                Rule(allow=False, names="computation.gpt/**", nodes=("watch",)),
                Rule(allow=True, names="computation.gpt/**", ops=(Operation.STATES,)),
            ],
            False,
        ),
    ],
)
def test_hidden_rows_go_only_where_a_rule_names_them(rules: list[Rule], allowed: bool) -> None:
    policy = Policy(rules)
    assert policy.decide(WATCH, SEGMENT, Operation.STATES, own=False).allowed is allowed
    if allowed:
        policy.require(WATCH, SEGMENT, Operation.STATES, own=False)
        return
    with pytest.raises(AccessDenied, match="states"):
        policy.require(WATCH, SEGMENT, Operation.STATES, own=False)

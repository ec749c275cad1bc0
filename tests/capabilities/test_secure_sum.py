"""Secure sums as a capability, over a port that stands for the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from capabilities.base import Request
from capabilities.secure_sum import (
    SecureSumCapability,
    SumReport,
    make_plan,
    secure_sum,
    sum_name,
)
from mesh.core.errors import PeerLost, WireError
from mesh.core.secure_sum import SumLimits
from mesh.core.sum_messages import (
    Open,
    SumFailed,
    SumPlan,
    SumRefused,
    decode_question,
    encode,
)
from tests.mesh.core.sums import ASKER, NOW, Group

DOMAIN = "room"


class Port:
    """Hands each question to the capability of its node; ``broken`` may fail or bend it."""

    def __init__(self, group: Group, rows: dict[bytes, np.ndarray]) -> None:
        self.broken: Callable[[bytes, bytes], bytes | None] = lambda _node, body: body
        self.capabilities = {
            node: SecureSumCapability(
                DOMAIN, group.members[node], source_of(rows[node]), clock=lambda: NOW
            )
            for node in group.nodes
        }

    async def ask(self, node: bytes, name: str, body: bytes, timeout_s: float) -> bytes:
        bent = self.broken(node, body)
        if bent is None:
            raise PeerLost("the node is gone")
        request = Request(name=name, body=bent, timeout_s=timeout_s, isolation=ASKER)
        capability = self.capabilities[node]
        assert capability.admit(request).accepted
        [answer] = [answer async for answer in capability.serve(request)]
        return answer


def source_of(rows: np.ndarray):
    async def source(plan: SumPlan) -> np.ndarray:
        assert plan.label == "degrees"
        return rows

    return source


def scene(count: int = 5) -> tuple[Group, dict[bytes, np.ndarray], Port, SumPlan]:
    group = Group(count)
    rng = np.random.default_rng(4)
    rows = {node: rng.normal(20, 2, (3, 2)) for node in group.nodes}
    plan = make_plan(
        DOMAIN,
        group.nodes,
        group.nodes[0],
        kind="mean",
        columns=2,
        label="degrees",
        issued=NOW.wall,
        random=group.random.randbytes,
    )
    return group, rows, Port(group, rows), plan


def test_a_mean_comes_out_over_a_port() -> None:
    group, rows, port, plan = scene()
    report = SumReport()
    result = asyncio.run(secure_sum(plan, port, group.trust, group.find, report=report))
    everything = np.concatenate(list(rows.values()))
    assert result.means == pytest.approx(everything.mean(axis=0), abs=1e-5)
    assert (result.inputs, result.rows, report.problems) == (5, 15.0, {})
    assert report.sent_bytes > 0
    assert report.received_bytes > 0


def bend(stage: int, lost: bytes, raving: bytes) -> Callable[[bytes, bytes], bytes | None]:
    """From question ``stage`` on, one node is gone and another gets what is no question."""

    def broken(node: bytes, body: bytes) -> bytes | None:
        if type(decode_question(body)).__struct_config__.tag <= stage:
            return body
        return {lost: None, raving: b"\xc1"}.get(node, body)

    return broken


def test_a_node_that_is_lost_hangs_or_raves_is_dropped_and_named() -> None:
    for stage in range(5):
        group, rows, port, plan = scene(6)
        lost, raving = group.nodes[1], group.nodes[2]

        port.broken = bend(stage, lost, raving)
        report = SumReport()
        result = asyncio.run(secure_sum(plan, port, group.trust, group.find, report=report))
        assert report.problems.keys() == {lost, raving}
        inside = [n for n in group.nodes if n not in {lost, raving} or stage > 2]
        assert result.inputs == len(inside)
        expected = np.concatenate([rows[n] for n in inside]).mean(axis=0)
        assert result.means == pytest.approx(expected, abs=1e-5)


def test_a_node_that_hangs_costs_its_time_and_no_more() -> None:
    group, _rows, port, plan = scene()
    hung = group.nodes[0]
    ask = port.ask

    async def slow(node: bytes, name: str, body: bytes, timeout_s: float) -> bytes:
        if node == hung:
            await asyncio.Event().wait()
        return await ask(node, name, body, timeout_s)

    port.ask = slow  # type: ignore[method-assign]
    report = SumReport()
    result = asyncio.run(
        secure_sum(plan, port, group.trust, group.find, step_timeout_s=0.5, report=report)
    )
    assert result.dropped == (hung,)
    assert report.problems == {hung: "no answer within 0.5 s"}


def test_with_fewer_than_the_minimum_nothing_comes_out() -> None:
    group, _rows, port, plan = scene(6)
    gone = set(group.nodes[:3])
    port.broken = lambda node, body: None if node in gone else body
    with pytest.raises(SumFailed, match="3 of 6 nodes answered, 4 are needed"):
        asyncio.run(secure_sum(plan, port, group.trust, group.find))


def test_an_answer_that_is_no_answer_is_counted() -> None:
    group, _rows, port, plan = scene(6)
    ask = port.ask

    async def rubbish(node: bytes, name: str, body: bytes, timeout_s: float) -> bytes:
        answer = await ask(node, name, body, timeout_s)
        return b"rubbish" if node == group.nodes[3] else answer

    port.ask = rubbish  # type: ignore[method-assign]
    report = SumReport()
    assert asyncio.run(secure_sum(plan, port, group.trust, group.find, report=report)).inputs == 5
    assert report.counters["malformed"] == 1


def test_a_plan_for_another_name_is_refused() -> None:
    group, _rows, port, plan = scene()
    other = group.plan(name=sum_name("kitchen"))
    with pytest.raises(SumRefused, match=r"the plan is for data.gpt/kitchen"):
        asyncio.run(port.ask(group.nodes[0], sum_name(DOMAIN), encode(Open(other)), 1.0))
    with pytest.raises(WireError):
        asyncio.run(port.ask(group.nodes[0], sum_name(DOMAIN), b"rubbish", 1.0))
    assert plan.name == sum_name(DOMAIN)


def test_data_is_read_only_when_the_round_has_its_members() -> None:
    group, _rows, port, plan = scene()
    read = []

    async def source(plan: SumPlan) -> np.ndarray:
        read.append(plan.round)
        return np.zeros((0, 2))

    node = group.nodes[0]
    capability = SecureSumCapability(DOMAIN, group.members[node], source, clock=lambda: NOW)
    port.capabilities[node] = capability
    asyncio.run(port.ask(node, sum_name(DOMAIN), encode(Open(plan)), 1.0))
    assert read == []


def test_it_says_what_it_offers_and_how_full_it_is() -> None:
    group, _rows, port, _plan = scene()
    capability = port.capabilities[group.nodes[0]]
    [served] = capability.names
    assert (served.name, served.kind) == ("data.gpt/room/secure_sum", "secure_sum")
    assert capability.occupancy().inflight == 0
    wrong = Request(name="data.gpt/room/raw", body=b"", timeout_s=1.0)
    assert not capability.admit(wrong).accepted


def test_limits_are_the_nodes_own() -> None:
    group = Group(4, limits=SumLimits(min_inputs=5))
    rows = {node: np.zeros((1, 2)) for node in group.nodes}
    plan = make_plan(
        DOMAIN, group.nodes, group.nodes[0], columns=2, label="degrees", issued=NOW.wall
    )
    report = SumReport()
    with pytest.raises(SumFailed):
        asyncio.run(secure_sum(plan, Port(group, rows), group.trust, group.find, report=report))
    assert all("needs 5 inputs here" in problem for problem in report.problems.values())

"""A secure sum between real nodes, over ZeroMQ and behind access rules."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from agents.hosting import CapabilityService
from agents.meshport import NodePort
from agents.port import Task
from agents.private_sum import sum_over_mesh
from capabilities.secure_sum import SecureSumCapability, SumReport, sum_name
from mesh.core.access import Policy, Rule
from mesh.core.identity import LocalIdentity, Member
from mesh.core.records import Device
from mesh.core.secure_sum import SumMember
from mesh.core.sum_messages import SumFailed, SumPlan
from mesh.net.node import MeshNode
from tests.mesh.net.harness import fabric, knows, until

ALLOW = Policy([Rule(allow=True, names="data.gpt/*/secure_sum")])
NAME = sum_name("room")


def finder(node: MeshNode):
    def find(other: bytes) -> Member | None:
        return node.me if other == node.me.node else node.core.member(other)

    return find


def contribute(node: MeshNode, value: float) -> None:
    async def source(plan: SumPlan) -> np.ndarray:
        return np.array([[value, 2 * value]])

    identity = LocalIdentity(node.keys, node.passport, node.trust)
    member = SumMember(identity, finder(node), os.urandom)
    capability = SecureSumCapability("room", member, source, clock=node.now)
    service = CapabilityService(capability)
    node.offer([(served, service) for served in capability.names], [], Device())


async def ask(node: MeshNode, report: SumReport):
    port = NodePort(node)
    task = Task(trace=os.urandom(16), deadline=port.now() + 60.0)
    return await sum_over_mesh(
        port,
        task,
        "room",
        me=node.me.node,
        trust=node.trust,
        members=finder(node),
        kind="mean",
        columns=2,
        step_timeout_s=30.0,
        report=report,
    )


def test_a_mean_of_real_nodes_comes_out_and_strangers_to_the_rule_get_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with fabric(tmp_path) as made:
            first = await made.node("n0", policy=ALLOW)
            rest = [await made.node(f"n{n}", first, policy=ALLOW) for n in (1, 2)]
            closed = await made.node("n3", first)  # without the rule data.gpt is denied
            everybody = [first, *rest, closed]
            for number, node in enumerate(everybody):
                contribute(node, 10.0 * number)
            for node in everybody:
                for other in everybody:
                    if other is not node:
                        await until(lambda a=node, b=other: knows(a, b, NAME), "they know it")
            report = SumReport()
            result = await ask(first, report)
            assert result.means == pytest.approx((10.0, 20.0))
            assert result.dropped == (closed.me.node,)
            assert "denied" in report.problems[closed.me.node]
            # The others would let it ask, and so would it itself:
            with pytest.raises(SumFailed):  # but data rests after a sum that it went into
                await ask(closed, SumReport())

    asyncio.run(main())

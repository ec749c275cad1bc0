"""Secure sums as they are configured, and as a person asks for one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agents.config import SecureSumSection, make_config
from agents.faces.cli.sums import _sheet
from agents.hosting import CapabilityService
from agents.meshport import NodePort
from agents.sums import label_of, make_sums, run_sum, source_of
from capabilities.secure_sum import make_plan, sum_name
from mesh.core.access import Policy, Rule
from mesh.core.errors import ConfigError, NoSuchName
from mesh.core.records import Device
from mesh.core.sum_messages import SumFailed, SumPlan, SumRefused
from mesh.net.node import MeshNode
from tests.mesh.net.harness import fabric, knows, until

ALLOW = Policy([Rule(allow=True, names="data.gpt/*/secure_sum")])
NAME = sum_name("room")
NODES = [bytes([n]) * 16 for n in range(3)]


def four() -> dict[str, float]:
    return {"warmth_c": 4.0, "damp": 0.5, "secret": 1.0}


async def broken() -> dict[str, float]:
    return {}


def section(**fields: Any) -> SecureSumSection:
    given = {"domain": "room", "columns": ("warmth_c", "damp"), "source": f"{__name__}:four"}
    return SecureSumSection(**{**given, **fields})


def plan(label: str, columns: int, noise_std: float = 0.0) -> SumPlan:
    return make_plan("room", NODES, NODES[0], label=label, columns=columns, noise_std=noise_std)


def given(one: SecureSumSection, asked: SumPlan) -> Any:
    return asyncio.run(source_of(one)(asked))  # type: ignore[arg-type]


def test_a_plan_gets_the_columns_that_it_asks_for_in_its_order() -> None:
    assert given(section(), plan("damp,warmth_c", 2)) == [[0.5, 4.0]]
    assert given(section(), plan("warmth_c", 1)) == [[4.0]]


@pytest.mark.parametrize(
    ("label", "columns"), [("secret", 1), ("", 1), ("warmth_c", 2), ("warmth_c,warmth_c,damp", 2)]
)
def test_what_is_not_configured_is_not_contributed(label: str, columns: int) -> None:
    with pytest.raises(SumRefused, match="not what this node contributes"):
        given(section(), plan(label, columns))


def test_less_noise_than_the_node_asks_for_is_refused() -> None:
    one = section(least_noise=2.0)
    with pytest.raises(SumRefused, match="noise of 2"):
        given(one, plan("damp", 1, noise_std=1.9))
    assert given(one, plan("damp", 1, noise_std=2.0)) == [[0.5]]


def test_a_reading_that_is_missing_now_is_said_and_not_made_up() -> None:
    with pytest.raises(SumRefused, match="no reading of damp"):
        given(section(source=f"{__name__}:broken"), plan("damp", 1))


@pytest.mark.parametrize("source", ["nothing", "no_such_module:function", f"{__name__}:absent"])
def test_a_source_that_cannot_be_loaded_is_told_at_once(source: str) -> None:
    with pytest.raises(ConfigError, match="sum source"):
        source_of(section(source=source))


@pytest.mark.parametrize(
    "fields", [{"least_nodes": 2}, {"columns": []}, {"rest_s": -1}, {"rest": 1}, {"domain": None}]
)
def test_a_section_that_cannot_work_is_refused(fields: dict[str, Any]) -> None:
    raw = {"node": {"state": "x"}, "secure_sum": [{"domain": "room", "columns": ["a"], **fields}]}
    with pytest.raises(ConfigError):
        make_config(raw, base=Path())


@pytest.mark.parametrize("columns", [[], ["a,b"], ["x" * 65]])
def test_a_label_that_no_plan_can_carry_is_refused(columns: list[str]) -> None:
    with pytest.raises(SumRefused):
        label_of(columns)


def offer(node: MeshNode, one: SecureSumSection) -> None:
    names = [
        (served, CapabilityService(capability))
        for capability in make_sums([one], node)
        for served in capability.names
    ]
    node.offer(names, [], Device())  # type: ignore[arg-type]


def test_configured_nodes_give_a_mean_and_then_rest(tmp_path: Path) -> None:
    async def main() -> None:
        async with fabric(tmp_path) as made:
            first = await made.node("n0", policy=ALLOW)
            rest = [await made.node(f"n{n}", first, policy=ALLOW) for n in (1, 2, 3)]
            with pytest.raises(NoSuchName) as nobody:
                await run_sum(first, NodePort(first), "room", ["damp"])
            assert "[[secure_sum]]" in nobody.value.sentence()
            for node in (first, *rest[:2]):
                offer(node, section())
            offer(rest[2], section(least_nodes=5))  # it stays out of a total over four
            for node in (first, *rest):
                for other in (first, *rest):
                    if other is not node:
                        await until(lambda a=node, b=other: knows(a, b, NAME), "known")  # type: ignore[misc]
            port = NodePort(first)
            found = await run_sum(first, port, "room", ["damp", "warmth_c"], timeout_s=60)
            assert found["means"] == pytest.approx((0.5, 4.0))
            assert (found["inputs"], found["dropped"]) == (3, ["n3"])
            assert list(found["problems"]) == ["n3"]
            with pytest.raises(SumFailed, match="just now: ask in"):
                await run_sum(first, port, "room", ["damp"], timeout_s=60)

    asyncio.run(main())


def test_a_histogram_is_shown_by_its_ranges() -> None:
    found = {"kind": "histogram", "edges": [0.5, 1.0], "counts": [1, 2, 0], "of": ["load"]}
    assert _sheet(found).rows == [("below 0.5", "1"), ("0.5 to 1", "2"), ("1 and more", "0")]

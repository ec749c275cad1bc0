"""Secure sums as an agent is configured for them: what it contributes, and how one is asked for.

    [[secure_sum]]
    domain = "machine"
    columns = ["load_per_core"]

offers ``data.gpt/machine/secure_sum``. The label of a plan says which of the columns are
wanted, separated by commas; a node gives no other.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents.config import SecureSumSection
from agents.port import MeshPort, Task
from agents.private_sum import sum_over_mesh
from agents.registry import Registry
from capabilities.secure_sum import SecureSumCapability, Source, SumReport
from mesh.core.errors import NoSuchName
from mesh.core.identity import LocalIdentity, Member
from mesh.core.names import check_name
from mesh.core.sum_messages import MAX_LABEL_CHARS, MIN_INPUTS, SumFailed, SumPlan, SumRefused

if TYPE_CHECKING:
    from mesh.net.node import MeshNode

Reading = Callable[[], Mapping[str, float] | Awaitable[Mapping[str, float]]]
SOURCES: Registry[Mapping[str, float]] = Registry(
    "sum source", {"machine": "capabilities.sensors.machine:read_machine"}
)


def wanted(label: str) -> list[str]:
    """The columns that a plan's label asks for."""
    return [name for name in label.split(",") if name]


def label_of(columns: Sequence[str]) -> str:
    """The label of a plan for these columns; raises :class:`SumRefused` when it is too long."""
    label = ",".join(columns)
    if not columns or len(label) > MAX_LABEL_CHARS or any("," in name for name in columns):
        raise SumRefused(
            f"{label[:80]!r} cannot be asked for: one or more readings, {MAX_LABEL_CHARS}"
            " characters in all",
            hint="ask for fewer readings at once",
        )
    return label


def source_of(section: SecureSumSection) -> Source:
    """What this node contributes to a plan, as configured; raises :class:`ConfigError`."""
    # Looked up now: a source that cannot be loaded is told when the agent starts.
    read: Reading = SOURCES.find(section.source)

    async def contribute(plan: SumPlan) -> list[list[float]]:
        columns = wanted(plan.label)
        strange = [name for name in columns if name not in section.columns]
        if strange or len(columns) != plan.columns:
            raise SumRefused(
                f"{plan.label!r} is not what this node contributes to sums of {section.domain}",
                hint=f"it offers {', '.join(section.columns)}",
            )
        if plan.noise_std < section.least_noise:
            raise SumRefused(
                f"this node takes part only with noise of {section.least_noise:g} or more",
                hint=f"plan it with a noise of {section.least_noise:g}",
            )
        values = await _read(read)
        missing = [name for name in columns if name not in values]
        if missing:
            raise SumRefused(f"this node has no reading of {', '.join(missing)} now")
        return [[float(values[name]) for name in columns]]

    return contribute


async def _read(read: Reading) -> Mapping[str, float]:
    if inspect.iscoroutinefunction(read):
        found: Mapping[str, float] = await read()
        return found
    return await asyncio.to_thread(read)  # type: ignore[arg-type]


def members_of(node: MeshNode) -> Callable[[bytes], Member | None]:
    """Finds the certified members that ``node`` knows, itself included."""

    def find(other: bytes) -> Member | None:
        return node.me if other == node.me.node else node.core.member(other)

    return find


def make_sums(sections: Sequence[SecureSumSection], node: MeshNode) -> list[SecureSumCapability]:
    """What ``[[secure_sum]]`` offers; raises :class:`ConfigError`."""
    from mesh.core.secure_sum import SumLimits, SumMember  # only here: it brings numpy

    capabilities = []
    for section in sections:
        limits = SumLimits(min_inputs=section.least_nodes, rest_s=section.rest_s)
        identity = LocalIdentity(node.keys, node.passport, node.trust)
        member = SumMember(identity, members_of(node), os.urandom, limits)
        capabilities.append(
            SecureSumCapability(
                section.domain,
                member,
                source_of(section),
                description=section.description,
                clock=node.now,
            )
        )
    return capabilities


async def run_sum(
    node: MeshNode,
    port: MeshPort,
    domain: str,
    columns: Sequence[str],
    *,
    kind: str = "mean",
    edges: Sequence[float] = (),
    dropouts: float = 1 / 3,
    bound: float = 1e6,
    noise_std: float = 0.0,
    timeout_s: float = 30.0,
) -> dict[str, Any]:
    """Ask every node that offers the domain's secure sum; what came out, for people.

    Raises as :func:`agents.private_sum.sum_over_mesh`.
    """
    check_name(f"data.gpt/{domain}/secure_sum")
    began, report = time.monotonic(), SumReport()
    task = Task(trace=os.urandom(16), deadline=port.now() + timeout_s)
    try:
        result = await sum_over_mesh(
            port,
            task,
            domain,
            me=node.me.node,
            trust=node.trust,
            members=members_of(node),
            kind=kind,
            columns=len(columns),
            edges=edges,
            label=label_of(columns),
            dropouts=dropouts,
            bound=bound,
            noise_std=noise_std,
            step_timeout_s=timeout_s / 5,  # a round asks five questions
            report=report,
        )
    except NoSuchName as error:
        raise NoSuchName(
            f"nobody offers data.gpt/{domain}/secure_sum to this node",
            hint=f"{MIN_INPUTS} nodes or more need [[secure_sum]] with this domain",
        ) from error
    except SumFailed as error:
        why = "; ".join(f"{node.name_of(who)}: {line}" for who, line in report.problems.items())
        raise SumFailed(f"{error.message} ({why[:400]})" if why else error.message) from error
    return {
        "domain": domain,
        "kind": kind,
        "of": list(columns),
        "inputs": result.inputs,
        "dropped": [node.name_of(gone) for gone in result.dropped],
        "rows": result.rows,
        "sums": result.sums,
        "means": result.means,
        "variances": result.variances,
        "counts": result.counts,
        "edges": list(edges),
        "noise_std": noise_std,
        "problems": {node.name_of(who): line for who, line in report.problems.items()},
        "bytes": report.sent_bytes + report.received_bytes,
        "elapsed_s": round(time.monotonic() - began, 3),
    }

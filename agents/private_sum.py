"""Secure sums over the mesh: who takes part is who offers the name, and calls carry the round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agents.port import MeshPort, Offer, Task
from capabilities.secure_sum import (
    STEP_TIMEOUT_S,
    SumReport,
    make_plan,
    secure_sum,
    sum_name,
)
from mesh.core.errors import CapabilityFailed, NoSuchName
from mesh.core.identity import Member, Trust
from mesh.core.sum_messages import threshold_for

if TYPE_CHECKING:
    from mesh.core.sum_statistics import SumResult


class MeshSumPort:
    """Implements :class:`capabilities.secure_sum.SumPort` over a mesh, within one task."""

    def __init__(self, mesh: MeshPort, task: Task, offers: Sequence[Offer]) -> None:
        self._mesh = mesh
        self._task = task
        self._offers = {offer.node: offer for offer in offers}

    async def ask(self, node: bytes, name: str, body: bytes, timeout_s: float) -> bytes:
        """The one answer of ``node``; raises as :meth:`agents.port.MeshPort.call`."""
        offer = self._offers.get(node)
        if offer is None or offer.served.name != name:
            raise NoSuchName(f"{node.hex()[:8]} does not offer {name}")
        answer = self._mesh.call(offer, body, self._task)
        try:
            async with asyncio.timeout(timeout_s):
                async for message in answer:
                    return message
        finally:
            await answer.aclose()  # type: ignore[attr-defined]
        raise CapabilityFailed(f"{offer.node_name} ended its answer before it began")


async def sum_over_mesh(
    mesh: MeshPort,
    task: Task,
    domain: str,
    *,
    me: bytes,
    trust: Trust,
    members: Callable[[bytes], Member | None],
    kind: str = "sum",
    columns: int = 1,
    edges: Sequence[float] = (),
    label: str = "",
    bound: float = 1e6,
    fraction_bits: int = 20,
    noise_std: float = 0.0,
    dropouts: float = 1 / 3,
    step_timeout_s: float = STEP_TIMEOUT_S,
    report: SumReport | None = None,
) -> SumResult:
    """An aggregate over every healthy node that offers ``data.gpt/<domain>/secure_sum``.

    The fields of the plan are those of :class:`mesh.core.sum_messages.SumPlan`; ``me`` is the
    node that asks, ``members`` finds certified members (this node included). ``dropouts`` is
    the share of the nodes that may fall silent, a third at most. Raises NoSuchName,
    NobodyHealthy, AccessDenied as resolving does, SumRefused for a plan or group that cannot be
    summed, SumFailed when too few of them answer.
    """
    offers = mesh.resolve(sum_name(domain), task)
    nodes = {offer.node for offer in offers}
    plan = make_plan(
        domain,
        nodes,
        me,
        kind=kind,
        columns=columns,
        edges=edges,
        label=label,
        bound=bound,
        fraction_bits=fraction_bits,
        noise_std=noise_std,
        threshold=max(threshold_for(len(nodes)), len(nodes) - int(len(nodes) * dropouts)),
    )
    return await secure_sum(
        plan,
        MeshSumPort(mesh, task, offers),
        trust,
        members,
        step_timeout_s=step_timeout_s,
        report=report,
    )

"""Asking the first few candidates how loaded they are, where the choice among them is close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from agents.classifier.matching import Need
from agents.orchestrator.allocate import Allocation, allocate
from agents.parts import Parts
from agents.port import MeshPort, Offer
from agents.scheduling.policies import Context, Policy, Random, Weighted, busy
from mesh.core.wire import Load

# Longer than a round trip on any LAN, shorter than what a wrong choice costs: a queue's turn.
WAIT_S = 0.15
ASKED = 3  # candidates: the best of three fresh figures is nearly as good as the best of all
STALE_S = 0.5  # younger figures are as good as those that asking would bring
CALM, CALM_S = 0.5, 10.0  # who was half idle so lately takes one more request in any case
CLOSE = 0.25  # of the slots: one request more or less turns the order of a board with four


def worth_asking(order: Sequence[Offer], policy: Policy, context: Context) -> list[bytes]:
    """Whose load to ask for; empty where the figures are fresh, or the choice is clear, or the
    policy does not look at load."""
    if len(order) < 2 or isinstance(policy, Random | Weighted):
        return []
    first, second = order[:2]
    if first.served.priority != second.served.priority and busy(first, context) < 1.0:
        return []
    if busy(second, context) - busy(first, context) > CLOSE:
        return []
    calm = busy(first, context) < CALM and context.now - first.seen_at < CALM_S
    if first.me or calm:
        return []
    old = [offer for offer in order[:ASKED] if context.now - offer.seen_at > STALE_S]
    return [offer.node for offer in old if not offer.me]


def refreshed(offers: Sequence[Offer], loads: Mapping[bytes, Load], at: float) -> list[Offer]:
    """The offers with what their nodes said when they were asked, at ``at``."""
    return [
        msgspec.structs.replace(
            offer,
            load=(fresh.inflight + fresh.queued) / max(1, fresh.slots),
            slots=fresh.slots,
            tokens_per_s=fresh.tokens_per_s,
            seen_at=at,
        )
        if (fresh := loads.get(offer.node))
        else offer
        for offer in offers
    ]


async def confirm(
    port: MeshPort,
    name: str,
    offers: Sequence[Offer],
    need: Need,
    parts: Parts,
    context: Context,
) -> tuple[Allocation, str]:
    """The allocation, on fresh figures where it was close; and what asking for them changed."""
    context = msgspec.structs.replace(context, now=port.now())
    allotted = allocate(name, offers, need, parts, context)
    asked = worth_asking(allotted.order, parts.policy, context)
    if not asked:
        return allotted, ""
    # Own calls that left while the answers came may not be in them: they count on top.
    asked_at = port.now()
    loads = await port.fresh_loads(asked, WAIT_S)
    heard = f"asked {len(asked)} for their load, {len(loads)} answered"
    if not loads:
        return allotted, f"{heard}: the order stays"
    before = allotted.order[0].node_name
    allotted = allocate(name, refreshed(offers, loads, asked_at), need, parts, context)
    after = allotted.order[0].node_name
    change = f"{after} before {before} now" if after != before else "the first stays the first"
    return allotted, f"{heard}: {change}"

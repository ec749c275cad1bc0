"""What a task wants most: to be quick, to be right, or to leave the strong nodes free.

The scheduling policy has ordered the nodes; an objective moves them where it must. Latency is
what policies order by. Accuracy puts what was measured first. Resources gives a light step to the
weakest node that will be done in time, and spares nodes on battery.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agents.port import Offer
from agents.scheduling.policies import Context, busy

LATENCY, ACCURACY, RESOURCES = "latency", "accuracy", "resources"
OBJECTIVES = (LATENCY, ACCURACY, RESOURCES)

# Steps above are hard: a weak node's answer would be asked again of a strong one, and cost both.
LIGHT_DIFFICULTY = 0.5
TIME_SHARE = 0.5  # of what is left that a weak node may take: the rest is for another try
LOW_BATTERY = 0.3  # of 1; below it a node is spared
UNKNOWN_TOKENS_PER_S = 10.0  # of a node that says nothing: a small board


class Arranged(NamedTuple):
    """The order, and why it is this one."""

    order: tuple[Offer, ...]
    why: str


def arrange(
    order: Sequence[Offer],
    context: Context,
    *,
    difficulty: float,
    answer_tokens: float,
) -> Arranged:
    """The policy's order as the objective of ``context`` wants it; never a different set."""
    if context.objective == ACCURACY:
        kept = sorted(
            order, key=lambda offer: (busy(offer, context) >= 1.0, -offer.served.accuracy)
        )
        return Arranged(tuple(kept), "accuracy: the best measured first")
    if context.objective != RESOURCES:
        return Arranged(tuple(order), "latency: as the policy orders")
    if difficulty >= LIGHT_DIFFICULTY:
        return Arranged(
            tuple(order), f"resources: a hard step ({difficulty:.2f}), as the policy orders"
        )
    time_s = context.time_left_s * TIME_SHARE
    told = all(offer.joules_per_token > 0 for offer in order)

    def key(pair: tuple[int, Offer]) -> tuple[bool, bool, bool, float, int]:
        place, offer = pair
        takes_s = offer.round_trip_s + answer_tokens / rate(offer)
        return (
            busy(offer, context) >= 1.0,
            takes_s > time_s,
            0.0 <= offer.battery < LOW_BATTERY,
            offer.joules_per_token if told else rate(offer),
            place,
        )

    kept = [offer for _, offer in sorted(enumerate(order), key=key)]
    first = "the thriftiest" if told else "the weakest"
    return Arranged(tuple(kept), f"resources: a light step ({difficulty:.2f}), {first} first")


def rate(offer: Offer) -> float:
    """Tokens per second of one stream there, by its own measurement."""
    return offer.tokens_per_s if offer.tokens_per_s > 0 else UNKNOWN_TOKENS_PER_S

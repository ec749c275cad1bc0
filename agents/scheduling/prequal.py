"""Hot and cold lanes by requests in flight and latency, after Prequal.

Wydrowski, Kleinberg, Rumble, Archer: "Load is not what you should balance", NSDI 2024. Replicas
whose requests in flight are above a quantile of all are hot; among the cold ones the fastest is
taken, and only when all are hot the one with the fewest in flight. Balancing load alone sends
work to slow replicas that happen to be idle.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from statistics import median

from agents.port import Offer
from agents.scheduling.policies import Context, busy
from agents.scheduling.prediction import Outcome

HOT_QUANTILE = 0.84  # of requests in flight; the paper's 2 to the power of -0.25
REMEMBERED = 16  # latencies per endpoint
MAX_ENDPOINTS = 1024
UNKNOWN_TOKENS_PER_S = 10.0


class Prequal:
    """The fastest of the cold. Requests in flight count per slot, since boards differ in size;
    latency is seconds per token as seen here, the node's own word before that."""

    def __init__(self, hot_quantile: float = HOT_QUANTILE) -> None:
        if not 0.0 <= hot_quantile <= 1.0:
            raise TypeError("hot_quantile is 0 to 1")
        self._quantile = hot_quantile
        self._seen: OrderedDict[tuple[bytes, str], deque[float]] = OrderedDict()

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """The cold by latency, then the hot by requests in flight; ties by chance."""
        loads = [busy(offer, context) for offer in offers]
        threshold = self._threshold(loads)

        def key(place: int) -> tuple[bool, int, float, float]:
            offer, load = offers[place], loads[place]
            hot = load >= 1.0 or load > threshold
            by = load if hot else self._token_s(offer)
            return (hot, offer.served.priority, round(by, 6), context.rng.random())

        return [offers[place] for place in sorted(range(len(offers)), key=key)]

    def observe(self, outcome: Outcome) -> None:
        """Remember how long a token of the whole answer took, waiting included."""
        if outcome.status != "ok" or outcome.tokens < 1 or outcome.total_s <= 0:
            return
        key = (outcome.node, outcome.name)
        seen = self._seen.setdefault(key, deque(maxlen=REMEMBERED))
        seen.append(outcome.total_s / outcome.tokens)
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_ENDPOINTS:
            self._seen.popitem(last=False)

    def _threshold(self, loads: Sequence[float]) -> float:
        ranked = sorted(loads)
        return ranked[min(len(ranked) - 1, int(self._quantile * len(ranked)))] if ranked else 0.0

    def _token_s(self, offer: Offer) -> float:
        seen = self._seen.get((offer.node, offer.served.name))
        if seen:
            return median(seen)
        return 1 / (offer.tokens_per_s if offer.tokens_per_s > 0 else UNKNOWN_TOKENS_PER_S)

"""Earliest predicted completion: who would be done first, all things considered."""

from __future__ import annotations

from collections.abc import Sequence

from agents.port import Offer
from agents.scheduling.policies import Context
from agents.scheduling.prediction import Outcome, Prediction, Predictor

# A second of waiting in a queue is worth more than a second of writing: the wait is a guess
# about others' answers, the writing is measured, and a free slot elsewhere goes idle meanwhile.
WAIT_WEIGHT = 2.0
TIE_S = 0.02  # predictions closer than this are equal; chance decides, so that not all choose one
LOW_BATTERY = 0.3  # from here on a node's battery counts against it
HOT_C = 80.0  # boards throttle from about here
HOT_COST = 0.3
BATTERY_COST = 1.0  # an empty battery makes a node look this much slower again
# A node that needs twice the energy of the thriftiest for a token looks this much slower: of two
# about as fast the thrifty one is asked, and nobody waits for the sake of a few joules.
ENERGY_COST = 0.1
MOST_ENERGY = 5.0  # times the thriftiest; beyond it is no worse
RESOURCES_WEIGHT = 3.0  # the objective "resources" minds all of them that much more
# A node that nobody here has asked yet is tried by the next request, unless its own word is that
# it takes more than so many times as long as the best: what it can do is worth knowing early.
TRY_WITHIN = 2.0


class Predictive:
    """The node whose answer would be whole first; own calls and cached prompts counted.

    Nodes that would miss the deadline or the limit on waiting come after all others. Lower
    priorities are preferred as long as one of them has a free slot. A newcomer with a free slot
    gets one request at once. Hot boards, low batteries and thirsty boards look slower.
    """

    def __init__(self, wait_weight: float = WAIT_WEIGHT) -> None:
        self.predictor = Predictor()
        self._wait_weight = wait_weight

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """Sorted by feasible, full, priority, (accuracy), never tried, predicted cost in
        seconds."""
        if context.flights is not None:
            self.predictor.look(context.flights, context.now)
        accurate = context.objective == "accuracy"
        least_joules = min(
            (o.joules_per_token for o in offers if o.joules_per_token > 0), default=0
        )
        predicted = [
            self.predictor.predict(offer, context.job, context.unseen(offer)) for offer in offers
        ]
        costs = [
            self._cost(offer, prediction, context, least_joules)
            for offer, prediction in zip(offers, predicted, strict=True)
        ]
        try_below = TRY_WITHIN * min(costs, default=0.0)
        keyed = []
        for offer, prediction, cost in zip(offers, predicted, costs, strict=True):
            feasible = (
                prediction.completion_s <= context.time_left_s
                and prediction.wait_s <= context.patience_s
            )
            new = not prediction.full and cost <= try_below and self._untried(offer, context)
            key = (
                not feasible,
                offer.served.priority + (1 << 16 if prediction.full else 0),
                -offer.served.accuracy if accurate else 0.0,
                not new,
                round(cost / TIE_S),
                not offer.me,
                context.rng.random(),
            )
            keyed.append((key, offer))
        keyed.sort(key=lambda pair: pair[0])
        return [offer for _, offer in keyed]

    def predict(self, offer: Offer, context: Context) -> Prediction:
        """What the order was made by, for the trace."""
        return self.predictor.predict(offer, context.job, context.unseen(offer))

    def observe(self, outcome: Outcome) -> None:
        """Learn from a call that ended."""
        self.predictor.observe(outcome)

    def _untried(self, offer: Offer, context: Context) -> bool:
        """Whether no call of this node ever ended there, and none is under way."""
        under_way = context.flights.count(offer.node) if context.flights else context.unseen(offer)
        return not under_way and not self.predictor.tried(offer)

    def _cost(
        self, offer: Offer, prediction: Prediction, context: Context, least_joules: float
    ) -> float:
        seconds = prediction.completion_s + (self._wait_weight - 1) * prediction.wait_s
        strain = 0.0
        if 0 <= offer.battery < LOW_BATTERY:
            strain += BATTERY_COST * (1 - offer.battery / LOW_BATTERY)
        if offer.temperature_c >= HOT_C:
            strain += HOT_COST
        if offer.joules_per_token > 0 and least_joules > 0:
            strain += ENERGY_COST * (min(MOST_ENERGY, offer.joules_per_token / least_joules) - 1)
        if context.objective == "resources":
            strain *= RESOURCES_WEIGHT
        return seconds * (1 + strain)

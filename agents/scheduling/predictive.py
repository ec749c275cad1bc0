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
RESOURCES_WEIGHT = 3.0  # the objective "resources" minds them that much more


class Predictive:
    """The node whose answer would be whole first; own calls and cached prompts counted.

    Nodes that would miss the deadline or the limit on waiting come after all others. Lower
    priorities are preferred as long as one of them has a free slot.
    """

    def __init__(self, wait_weight: float = WAIT_WEIGHT) -> None:
        self.predictor = Predictor()
        self._wait_weight = wait_weight

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """Sorted by feasible, full, priority, (accuracy), predicted cost in seconds."""
        if context.flights is not None:
            self.predictor.look(context.flights, context.now)
        accurate = context.objective == "accuracy"
        keyed = []
        for offer in offers:
            prediction = self.predictor.predict(offer, context.job, context.unseen(offer))
            feasible = (
                prediction.completion_s <= context.time_left_s
                and prediction.wait_s <= context.patience_s
            )
            key = (
                not feasible,
                offer.served.priority + (1 << 16 if prediction.full else 0),
                -offer.served.accuracy if accurate else 0.0,
                round(self._cost(offer, prediction, context) / TIE_S),
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

    def _cost(self, offer: Offer, prediction: Prediction, context: Context) -> float:
        seconds = prediction.completion_s + (self._wait_weight - 1) * prediction.wait_s
        strain = 0.0
        if 0 <= offer.battery < LOW_BATTERY:
            strain += BATTERY_COST * (1 - offer.battery / LOW_BATTERY)
        if offer.temperature_c >= HOT_C:
            strain += HOT_COST
        if context.objective == "resources":
            strain *= RESOURCES_WEIGHT
        return seconds * (1 + strain)

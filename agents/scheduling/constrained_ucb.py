"""Constraint-satisfying upper confidence bounds: feasible arms, their slack and what they earned.

After PerLLM (Yang et al. 2024), whose published text leaves the penalty's form open; this is
one rendering. Each endpoint is an arm per service class. Arms that would break a constraint
(deadline, limit on waiting, slots, accuracy floor) are out as long as another is feasible; the
rest are ranked by mean reward, exploration bonus and slack.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from agents.port import Offer
from agents.scheduling.policies import Context
from agents.scheduling.prediction import Outcome, Prediction, Predictor

EXPLORE = 0.3  # weight of the confidence bound; rewards lie within about one of each other
SLACK = 0.5  # weight of the slack
MEMORY = 0.98  # of the counts, per observation of the class: the last fifty or so count
DELAY_WEIGHT = 1.0  # reward lost when the whole deadline is used up
ENERGY_WEIGHT = 0.1  # and for each second that a slot is held, as a share of the deadline
COST_WEIGHT = 1.0  # and per unit of money
QUALITY_WEIGHT = 0.3
PENALTY = 1.0  # a deadline that was missed
NOMINAL_DEADLINE_S = 60.0  # where a task brings none
MAX_ARMS = 4096


@dataclass(slots=True)
class _Arm:
    pulls: float = 0.0
    reward: float = 0.0


class ConstrainedUcb:
    """PerLLM's CS-UCB with a sliding factor for drift."""

    def __init__(self, explore: float = EXPLORE, slack: float = SLACK) -> None:
        self.predictor = Predictor()
        self._explore, self._slack = explore, slack
        self._arms: OrderedDict[tuple[str, bytes, str], _Arm] = OrderedDict()
        self._pulls: dict[str, float] = {}

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """Feasible arms by their score, then the infeasible by the least harm."""
        if context.flights is not None:
            self.predictor.look(context.flights, context.now)
        total = self._pulls.get(context.service_class, 0.0)
        fresh = False
        keyed = []
        for offer in offers:
            prediction = self.predictor.predict(offer, context.job, context.unseen(offer))
            slack = self.slack(offer, prediction, context)
            arm = self._arms.get((context.service_class, offer.node, offer.served.name))
            if arm is None or arm.pulls < 1e-3:
                # One exploration at a time: a burst must not try every unknown arm at once.
                under_way = context.unseen(offer) > 0 or fresh
                score = self._slack * slack if under_way else math.inf
                fresh = fresh or (slack >= 0 and not under_way)
            else:
                bonus = self._explore * math.sqrt(math.log(1 + total) / arm.pulls)
                score = arm.reward + bonus + self._slack * slack
            if slack < 0:
                score = slack
            keyed.append(((slack < 0, offer.served.priority, -score, context.rng.random()), offer))
        keyed.sort(key=lambda pair: pair[0])
        return [offer for _, offer in keyed]

    def slack(self, offer: Offer, prediction: Prediction, context: Context) -> float:
        """The tightest constraint's room as a share of it; below 0 it would be broken."""
        deadline_s = _deadline(context.time_left_s)
        room = [(deadline_s - prediction.completion_s) / deadline_s]
        if context.patience_s < math.inf:
            over = prediction.wait_s - context.patience_s
            if over > 0:
                room.append(-min(1.0, over / max(context.patience_s, 1.0)))
        if prediction.full:
            room.append(0.0 if prediction.wait_s <= context.patience_s else -1.0)
        else:
            room.append(1.0 - offer.load - context.unseen(offer) / max(1, offer.slots))
        if offer.served.accuracy >= 0:
            room.append(offer.served.accuracy - context.accuracy_floor)
        return min(room)

    def observe(self, outcome: Outcome) -> None:
        """Reward the arm for a call that ended."""
        self.predictor.observe(outcome)
        if outcome.status == "cancelled":  # who asked thought better of it: no fault of the node
            return
        key = (outcome.service_class, outcome.node, outcome.name)
        arm = self._arms.setdefault(key, _Arm())
        self._arms.move_to_end(key)
        if len(self._arms) > MAX_ARMS:
            self._arms.popitem(last=False)
        for (service_class, _, _), other in self._arms.items():
            if service_class == outcome.service_class:
                other.pulls *= MEMORY
        pulls = self._pulls.get(outcome.service_class, 0.0)
        self._pulls[outcome.service_class] = MEMORY * pulls + 1
        arm.pulls += 1
        arm.reward += (_reward(outcome) - arm.reward) / max(1.0, arm.pulls)
        if len(self._pulls) > MAX_ARMS:
            self._pulls.pop(next(iter(self._pulls)))


def _reward(outcome: Outcome) -> float:
    deadline_s = _deadline(outcome.deadline_s)
    if outcome.status != "ok":
        return -PENALTY
    late = outcome.total_s / deadline_s
    held = max(0.0, outcome.total_s - outcome.expected_wait_s) / deadline_s
    reward = -DELAY_WEIGHT * late - ENERGY_WEIGHT * held - COST_WEIGHT * outcome.cost
    reward += QUALITY_WEIGHT * max(0.0, outcome.quality)
    return reward - (PENALTY if late > 1 else 0.0)


def _deadline(seconds: float) -> float:
    return max(0.001, seconds) if seconds < math.inf else NOMINAL_DEADLINE_S

"""What the ladder is told of a step: which clouds are open, how soon the mesh would be done."""

from __future__ import annotations

from collections.abc import Sequence

from agents.orchestrator.progress import StepState
from agents.parts import Parts
from agents.port import MeshPort, Offer, Task
from agents.scheduling.flights import Flights
from agents.scheduling.policies import Context
from agents.scheduling.prediction import Predictor
from mesh.core.access import CLOUD
from mesh.core.errors import GossamerError, NoSuchName
from mesh.core.wire import Reach

MAX_CLOUD_NODES = 3  # nodes with a cloud that one step asks: each has providers of its own


def open_clouds(port: MeshPort, state: StepState, task: Task) -> list[Offer]:
    """Nodes that may be asked for the cloud and were not yet; none where the task may not go."""
    tried = frozenset(state.cloud.tried)
    if task.reach < Reach.CLOUD or len(tried) >= MAX_CLOUD_NODES:
        return []
    try:
        offers = port.resolve(CLOUD, task, tried)
    except NoSuchName:
        return []
    except GossamerError as error:
        state.cloud.why_not = state.cloud.why_not or error.message
        return []
    return [offer for offer in offers if offer.node not in tried]


def quickest_s(order: Sequence[Offer], predictor: Predictor, context: Context) -> float:
    """When the quickest of these nodes is predicted to be done, by what was seen of them; 0 when
    nothing is known of one of them: that is no reason to pay."""
    if not order or not all(predictor.knows(offer) for offer in order):
        return 0.0
    predictor.look(context.flights or Flights(), context.now)
    return min(
        predictor.predict(offer, context.job, context.unseen(offer)).completion_s for offer in order
    )


def floor_of(parts: Parts, state: StepState, task: Task, offer: Offer) -> float:
    """How sure this answer must be; an escalation of the user's own may not say. Fitted
    thresholds say when to go on to the cloud: they are not for its own answer, the last one."""
    default = parts.thresholds.floor
    floor = getattr(parts.escalation, "floor", None)
    if floor is None or offer.served.name == CLOUD:
        return default
    return float(floor(default, task.reach, max(0, len(state.attempts) - 1)))

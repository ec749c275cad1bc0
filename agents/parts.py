"""The parts that decide on one request, and the numbers that they decide by."""

from __future__ import annotations

import msgspec

from agents.classifier.catalogue import GENERATE, WELL_KNOWN, KnownName
from agents.classifier.complexity import ComplexityClassifier
from agents.classifier.gap import GapDetector
from agents.classifier.matching import Matcher
from agents.classifier.relevance import RelevanceClassifier
from agents.escalation import Escalation
from agents.orchestrator.aggregate import Aggregator
from agents.orchestrator.plan import Planner
from agents.scheduling.policies import Policy


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where decisions turn. All are probabilities, 0 to 1.

    ``name``: a question goes to its likeliest name from here on; below it the general model
    answers. Higher sends more to the general model, lower sends more to a wrong expert.
    ``second``: when the first choice declines, the next likeliest name is asked from here on.
    ``floor``: an answer less sure than this is asked of someone else, and flagged degraded.
    """

    name: float = 0.5
    second: float = 0.1
    floor: float = 0.3


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Budgets of one request.

    ``attempts``: calls per step, the first counted; two is one retry on another node, which
    recovers from one dead node; more hides a sick mesh and doubles its load.
    ``waits``: how often a step waits for a slot when every node that fits is full.
    ``first_share``: how much of a step's time the first attempt may use when another node could
    take over, so that a node that hangs leaves time for a second try.
    ``lines``: at how many nodes a step stands in line when those that fit are full, the first
    slot taking it; more finds a slot sooner and costs a message each.
    ``hedge_share``: hedges that a call earns: 0.1 lets one call in ten be asked of a second node
    once it is later than 95 of 100 would be; more cuts the tail further and costs as many calls.
    0 never hedges.
    ``concurrent``: steps of one request under way at once; more waits its turn here.
    """

    attempts: int = 2
    waits: int = 3
    first_share: float = 0.6
    concurrent: int = 8
    lines: int = 4
    hedge_share: float = 0.1


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts themselves, and the numbers that they decide by."""

    classifier: RelevanceClassifier
    complexity: ComplexityClassifier
    gap: GapDetector
    matcher: Matcher
    planner: Planner
    policy: Policy
    escalation: Escalation
    aggregator: str = "lines"  # or "model": how several findings become one text
    joiner: Aggregator | None = None  # or a user's own, where ``aggregator`` is its path
    general_name: str = GENERATE
    thresholds: Thresholds = Thresholds()
    limits: Limits = Limits()
    well_known: tuple[KnownName, ...] = WELL_KNOWN

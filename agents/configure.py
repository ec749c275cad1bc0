"""Which part decides what, chosen by name in the node's configuration.

classifier = "ngram"                   one of Gossamer's own
policy = "my_package.policies:Mine"    a user's own, by path or by entry point
options.policy = { ... }               what the part's constructor takes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from agents.classifier.catalogue import GENERATE
from agents.classifier.complexity import ComplexityClassifier
from agents.classifier.gap import GapDetector
from agents.classifier.matching import Matcher
from agents.classifier.relevance import RelevanceClassifier
from agents.config import StatesSection
from agents.escalation import Escalation
from agents.orchestrator.aggregate import Aggregator
from agents.orchestrator.plan import Planner
from agents.parts import Limits, Parts, Thresholds
from agents.redaction import Detector, RedactionSettings, Redactor, make_redactor
from agents.registry import Registry
from agents.scheduling.policies import Policy
from capabilities.state_noise import StateNoise
from mesh.core.errors import ConfigError

T = TypeVar("T")

CLASSIFIERS: Registry[RelevanceClassifier] = Registry(
    "classifier",
    {
        "ngram": "agents.classifier.shipped:ngram_classifier",
        "embedding": "agents.classifier.shipped:embedding_classifier",
    },
)
COMPLEXITIES: Registry[ComplexityClassifier] = Registry(
    "complexity",
    {
        "features": "agents.classifier.complexity:FeatureComplexity",
        "head": "agents.classifier.shipped:head_complexity",
    },
)
GAPS: Registry[GapDetector] = Registry(
    "gap",
    {
        "evidence": "agents.classifier.gap:EvidenceGap",
        "fitted": "agents.classifier.shipped:fitted_gap",
        "learning": "agents.classifier.shipped:learning_gap",
    },
)
MATCHERS: Registry[Matcher] = Registry(
    "matcher", {"rules": "agents.classifier.matching:RuleMatcher"}
)
PLANNERS: Registry[Planner] = Registry(
    "planner",
    {
        "rules": "agents.orchestrator.split:RulePlanner",
        "model": "agents.orchestrator.modelplan:ModelPlanner",
        "whole": "agents.orchestrator.plan:Whole",
    },
)
POLICIES: Registry[Policy] = Registry(
    "policy",
    {
        "random": "agents.scheduling.policies:Random",
        "weighted": "agents.scheduling.policies:Weighted",
        "load_aware": "agents.scheduling.policies:LoadAware",
        "power_of_two": "agents.scheduling.policies:PowerOfTwo",
        "prequal": "agents.scheduling.prequal:Prequal",
        "predictive": "agents.scheduling.predictive:Predictive",
        "constrained_ucb": "agents.scheduling.constrained_ucb:ConstrainedUcb",
    },
)
ESCALATIONS: Registry[Escalation] = Registry(
    "escalation",
    {"ladder": "agents.escalation:Ladder", "mesh_only": "agents.escalation:MeshOnly"},
)

AGGREGATORS = ("lines", "model")
JOINERS: Registry[Aggregator] = Registry("aggregator", {})  # users' own, beside those

DETECTORS: Registry[Detector] = Registry("redaction", {})


def build_redactor(section: RedactionSettings | None = None) -> Redactor:
    """What masks a text before it leaves for the cloud, as ``[redaction]`` says; raises
    :class:`ConfigError`. :mod:`agents.redaction` shows its use."""
    return make_redactor(section, DETECTORS)


def build_noise(section: StatesSection) -> StateNoise:
    """The noise on hidden rows and embeddings, as ``[states]`` says; raises ConfigError."""
    return StateNoise(section.noise, epsilon=section.epsilon, std=section.std)


class PartsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part decides what. ``options`` maps a kind to what its constructor takes."""

    classifier: str = "ngram"
    complexity: str = "features"
    gap: str = "fitted"
    matcher: str = "rules"
    planner: str = "rules"
    policy: str = "load_aware"
    escalation: str = "ladder"
    aggregator: str = "lines"
    general_name: str = GENERATE
    thresholds: Thresholds = Thresholds()
    limits: Limits = Limits()
    options: dict[str, dict[str, Any]] = {}


def build(config: PartsConfig | None = None) -> Parts:
    """The configured parts; raises :class:`ConfigError` that names what cannot be had."""
    config = config or PartsConfig()
    known = {registry.kind for registry in _ALL}
    for kind in config.options:
        if kind not in known:
            raise ConfigError(f"options for {kind!r}, which is no part", hint=", ".join(known))

    def part(registry: Registry[T], name: str) -> T:
        return registry.create(name, config.options.get(registry.kind))

    _check(config)
    return Parts(
        classifier=part(CLASSIFIERS, config.classifier),
        complexity=part(COMPLEXITIES, config.complexity),
        gap=part(GAPS, config.gap),
        matcher=part(MATCHERS, config.matcher),
        planner=part(PLANNERS, config.planner),
        policy=part(POLICIES, config.policy),
        escalation=part(ESCALATIONS, config.escalation),
        aggregator=config.aggregator,
        joiner=None if config.aggregator in AGGREGATORS else part(JOINERS, config.aggregator),
        general_name=config.general_name,
        thresholds=config.thresholds,
        limits=config.limits,
    )


def from_mapping(values: Mapping[str, object]) -> Parts:
    """The parts of a configuration table; raises :class:`ConfigError` that names the field."""
    try:
        config = msgspec.convert(dict(values), PartsConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the parts that decide: {error}") from error
    return build(config)


def _check(config: PartsConfig) -> None:
    for field in config.thresholds.__struct_fields__:
        value = getattr(config.thresholds, field)
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"thresholds.{field} is {value}, a probability is 0 to 1")
    known = {*AGGREGATORS, *JOINERS.names()}
    if config.aggregator not in known and ":" not in config.aggregator:
        raise ConfigError(
            f"there is no aggregator called {config.aggregator!r}",
            hint=f"one of {', '.join(sorted(known))}, or package.module:attribute",
        )
    limits = config.limits
    if limits.attempts < 1 or limits.waits < 0 or limits.concurrent < 1:
        raise ConfigError("limits: attempts and concurrent are at least 1, waits at least 0")
    if not 0.0 <= limits.hedge_share <= 1.0:
        raise ConfigError(f"limits.hedge_share is {limits.hedge_share}, it is 0 to 1")
    if not 0.0 < limits.first_share <= 1.0:
        raise ConfigError(f"limits.first_share is {limits.first_share}, it is above 0 to 1")


_ALL: tuple[Registry[Any], ...] = (
    CLASSIFIERS,
    COMPLEXITIES,
    GAPS,
    MATCHERS,
    PLANNERS,
    POLICIES,
    ESCALATIONS,
    JOINERS,
)

"""From a log of graded answers to thresholds: whom to believe, and whom to ask next. Pure.

A cascade asks its stages in order (own model, an expert, ..., the cloud) and believes the first
whose calibrated score reaches that stage's threshold. The thresholds are fitted on a log under
a budget by exhaustive search over quantiles of the scores (Chen, Zaharia and Zou, "FrugalGPT",
2023). A question is not taken to the cloud where the cloud was right no more often than the
answer at hand: easy ones and hopeless ones alike (Madaan et al., "AutoMix", 2023, their greedy
variant: mean gain per bin of the score, smoothed).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.escalation.cascade import WORTH, Cascade
from mesh.core.errors import GossamerError

QUANTILES = 20  # candidates per stage; more fit the log's noise
BINS = 20  # of the score before the cloud, 0 to 1
SMOOTH_BINS = 2.0  # standard deviation of the smoothing over bins, as AutoMix has it
MAX_STAGES = 4  # thresholds are searched exhaustively: 22 to the power of stages less one
MIN_QUESTIONS = 20  # fewer say nothing about twenty bins

Floats = NDArray[np.float64]


class LogInvalid(GossamerError):
    """A log that no cascade can be fitted on."""

    code = "log"


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage made of a question: how sure it was (0 to 1), how right (0 to 1), and
    what asking it cost."""

    score: float = 1.0
    correct: float
    cost: float = 0.0


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log: every stage's answer to one question, the cloud's last."""

    stages: list[Stage]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a cascade does on a log. Shares and accuracies are 0 to 1, costs per question."""

    accuracy: float
    cost: float
    cloud_share: float
    hopeless_share: float
    alone: float  # accuracy of the first stage by itself
    always_cloud: float
    always_cloud_cost: float


def check(log: Sequence[Question]) -> int:
    """The number of stages; raises :class:`LogInvalid` that names the line."""
    if len(log) < MIN_QUESTIONS:
        raise LogInvalid(
            f"{len(log)} questions are too few to fit on", hint=f"grade at least {MIN_QUESTIONS}"
        )
    stages = len(log[0].stages)
    if not 2 <= stages <= MAX_STAGES:
        raise LogInvalid(f"line 1: {stages} stages, there are 2 to {MAX_STAGES}")
    for number, question in enumerate(log, 1):
        if len(question.stages) != stages:
            raise LogInvalid(f"line {number}: {len(question.stages)} stages, not {stages}")
        for stage in question.stages:
            shares = (stage.score, stage.correct)
            if not all(0 <= share <= 1 for share in shares) or not 0 <= stage.cost < math.inf:
                raise LogInvalid(f"line {number}: scores and correct are 0 to 1, costs not below 0")
    return stages


def fit(log: Sequence[Question], budget: float, worth: float = WORTH) -> Cascade:
    """The cascade that is right most often on ``log`` at a mean cost of at most ``budget``; of
    several the cheapest. Raises :class:`LogInvalid`."""
    stages = check(log)
    scores, correct, costs = _columns(log)
    gains = _gains(scores[:, -2], correct[:, -1] - correct[:, -2])
    best: tuple[float, float] | None = None
    chosen: tuple[float, ...] = ()
    candidates = [_candidates(scores[:, stage]) for stage in range(stages - 1)]
    for thresholds in itertools.product(*candidates):
        right, cost, _, _ = _run(scores, correct, costs, thresholds, gains, worth)
        if cost > budget * (1 + 1e-12):
            continue
        found = (round(right, 9), -cost)
        if best is None or found > best:
            best, chosen = found, thresholds
    if best is None:
        raise LogInvalid(
            "even the first stage alone costs more than the budget",
            hint=f"it costs {costs[:, 0].mean():.6f} a question",
        )
    return Cascade(
        thresholds=[float(t) for t in chosen],
        gains=[float(g) for g in gains],
        budget=budget,
        questions=len(log),
        worth=worth,
    )


def evaluate(cascade: Cascade, log: Sequence[Question]) -> Result:
    """What ``cascade`` does on a log, which should not be the one that it was fitted on."""
    stages = len(log[0].stages)
    if stages != len(cascade.thresholds) + 1:
        raise LogInvalid(f"the cascade has {len(cascade.thresholds) + 1} stages, the log {stages}")
    scores, correct, costs = _columns(log)
    gains = np.asarray(cascade.gains)
    right, cost, cloud, hopeless = _run(
        scores, correct, costs, cascade.thresholds, gains, cascade.worth
    )
    return Result(
        accuracy=right,
        cost=cost,
        cloud_share=cloud,
        hopeless_share=hopeless,
        alone=float(correct[:, 0].mean()),
        always_cloud=float(correct[:, -1].mean()),
        always_cloud_cost=float(costs[:, -1].mean()),
    )


def _columns(log: Sequence[Question]) -> tuple[Floats, Floats, Floats]:
    def column(field: str) -> Floats:
        return np.array([[getattr(s, field) for s in q.stages] for q in log], dtype=np.float64)

    return column("score"), column("correct"), column("cost")


def _run(
    scores: Floats,
    correct: Floats,
    costs: Floats,
    thresholds: Sequence[float],
    gains: Floats,
    worth: float,
) -> tuple[float, float, float, float]:
    """Accuracy, mean cost, share taken to the cloud, share held back as hopeless."""
    count, stages = scores.shape
    asking = np.ones(count, dtype=bool)
    at = np.zeros(count, dtype=np.int64)
    cost = np.zeros(count)
    hopeless = np.zeros(count, dtype=bool)
    for stage in range(stages):
        at[asking] = stage
        cost[asking] += costs[asking, stage]
        if stage == stages - 1:
            break
        asking &= scores[:, stage] < thresholds[stage]
        if stage == stages - 2:
            bins = np.minimum((scores[:, stage] * len(gains)).astype(np.int64), len(gains) - 1)
            hopeless = asking & (gains[bins] <= worth)
            asking &= ~hopeless
    right = correct[np.arange(count), at]
    return float(right.mean()), float(cost.mean()), float(asking.mean()), float(hopeless.mean())


def _gains(scores: Floats, gained: Floats) -> Floats:
    """Mean gain per bin, each bin's neighbours weighing in by distance and by count."""
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    total = np.bincount(bins, weights=gained, minlength=BINS)
    count = np.bincount(bins, minlength=BINS).astype(np.float64)
    apart = np.subtract.outer(np.arange(BINS), np.arange(BINS)) / SMOOTH_BINS
    kernel = np.exp(-0.5 * apart**2)
    weight = kernel @ count
    return np.asarray(kernel @ total / np.maximum(weight, 1e-12), dtype=np.float64)


def _candidates(scores: Floats) -> list[float]:
    """Believe everything, believe from a quantile on, believe nothing."""
    quantiles = np.quantile(scores, np.linspace(0, 1, QUANTILES))
    return [0.0, *sorted({float(q) for q in quantiles if q > 0}), 1.0 + 1e-9]

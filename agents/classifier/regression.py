"""Small models on numbers, fitted in numpy: logistic and softmax regression, and calibration.

Nothing here draws chance that was not handed in as a seed: the same data and seed give the same
weights, up to the rounding of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mesh.core.errors import GossamerError

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

BATCH = 128
ADAM = (0.9, 0.99)
NEWTON_STEPS = 50
SIGMOID_LIMIT = 30.0  # beyond it a probability is 0 or 1 to thirteen digits


class TooFewExamples(GossamerError):
    """Nothing can be learnt from what was given."""

    code = "examples"


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    out: Floats = 1.0 / (1.0 + np.exp(-np.clip(values, -SIGMOID_LIMIT, SIGMOID_LIMIT)))
    return out


def softmax_fit(
    rows: Rows,
    labels: NDArray[np.int64],
    classes: int,
    *,
    rounds: int,
    rate: float,
    decay: float,
    seed: int,
) -> tuple[Rows, Rows]:
    """Weights (features by classes) and biases of a softmax regression.

    Adam on batches with a rate that falls to zero and decay beside the gradient (Loshchilov and
    Hutter 2019): a handful of passes is as good as a solver's hundred.
    """  # fmt: skip
    rng = np.random.default_rng(seed)
    count, width = rows.shape
    weights = np.zeros((width, classes), np.float32)
    bias = np.zeros(classes, np.float32)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    total, step = rounds * -(-count // BATCH), 0
    for _ in range(rounds):
        order = rng.permutation(count)
        for start in range(0, count, BATCH):
            chosen = order[start : start + BATCH]
            batch = rows[chosen]
            step += 1
            error = softmax(batch @ weights + bias)
            error[np.arange(len(chosen)), labels[chosen]] -= 1.0
            error /= len(chosen)
            gradient = batch.T @ error
            first += (1 - ADAM[0]) * (gradient - first)
            second += (1 - ADAM[1]) * (gradient * gradient - second)
            now = rate * (1 - step / total)
            scaled = (first / (1 - ADAM[0] ** step)) / (
                np.sqrt(second / (1 - ADAM[1] ** step)) + 1e-7
            )
            weights -= np.float32(now) * (scaled + np.float32(decay) * weights)
            bias -= np.float32(now) * error.sum(axis=0)
    return weights, bias


def softmax(logits: Rows) -> Rows:
    """Probabilities of each row."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: Rows = odds / odds.sum(axis=1, keepdims=True)
    return out


def logistic_fit(rows: Floats, target: Floats, *, decay: float) -> tuple[Floats, float]:
    """Weights and bias of a logistic regression for targets in 0 to 1, by Newton's method.

    ``decay`` is the weight of the squared norm; the bias is free. Raises
    :class:`TooFewExamples`.
    """
    if len(rows) < 2 or len(rows) != len(target):
        raise TooFewExamples(f"{len(rows)} examples with {len(target)} outcomes cannot be fitted")
    joined = np.column_stack([rows, np.ones(len(rows))])
    weights = np.zeros(joined.shape[1])
    ridge = np.full(joined.shape[1], decay)
    ridge[-1] = 1e-6
    for _ in range(NEWTON_STEPS):
        right = sigmoid(joined @ weights)
        gradient = joined.T @ (right - target) + ridge * weights
        spread = np.maximum(right * (1 - right), 1e-6)
        step = np.linalg.solve((joined * spread[:, None]).T @ joined + np.diag(ridge), gradient)
        weights = weights - step
        if float(np.abs(step).max()) < 1e-7:
            break
    return weights[:-1], float(weights[-1])


def ridge_fit(rows: Floats, target: Floats, *, decay: float) -> tuple[Floats, float]:
    """Weights and bias of the least squares fit with a penalty on the squared norm."""
    if len(rows) < 2 or len(rows) != len(target):
        raise TooFewExamples(f"{len(rows)} examples with {len(target)} outcomes cannot be fitted")
    centre, level = rows.mean(axis=0), float(target.mean())
    moved = rows - centre
    gram = moved.T @ moved + decay * np.eye(rows.shape[1])
    weights: Floats = np.linalg.solve(gram, moved.T @ (target - level))
    return weights, level - float(centre @ weights)


def isotonic_fit(
    scores: Sequence[float], right: Sequence[float]
) -> tuple[list[float], list[float]]:
    """The rising step function nearest to the outcomes, as knots (score, share right).

    Pool adjacent violators (Ayer et al. 1955); between the knots one interpolates.
    """
    if not scores or len(scores) != len(right):
        raise TooFewExamples(f"{len(scores)} scores with {len(right)} outcomes")
    blocks: list[list[float]] = []  # sum of scores, sum right, count
    for score, ok in sorted(zip(scores, right, strict=True)):
        blocks.append([score, float(ok), 1.0])
        while len(blocks) > 1 and blocks[-2][1] / blocks[-2][2] >= blocks[-1][1] / blocks[-1][2]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    return [b[0] / b[2] for b in blocks], [b[1] / b[2] for b in blocks]


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive scores above a negative, ties counted half (Mann-Whitney).

    0.5 when either side is empty.
    """
    if not positive or not negative:
        return 0.5
    values = np.array([*positive, *negative], dtype=np.float64)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    above = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))

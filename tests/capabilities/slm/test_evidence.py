"""Evidence from logits, against plain formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from capabilities.messages import Evidence
from capabilities.slm.evidence import TOP_K, Tally, calibrate, digamma, measure, top


@pytest.mark.parametrize("width", [8, 600, 5_000, 151_936])
def test_the_best_columns_are_those_of_a_full_sort(width: int) -> None:
    logits = np.random.default_rng(width).normal(0, 5, (3, width)).astype(np.float32)
    expected = np.argsort(-logits, axis=1)[:, :7]
    assert (top(logits, 7) == expected).all()


def test_digamma_is_right_at_known_points() -> None:
    euler = 0.5772156649015329
    values = digamma(np.array([1.0, 2.0, 0.5 + 1, 100.0]))
    expected = [-euler, 1 - euler, -euler - 2 * math.log(2) + 2, 4.600161852738087]
    assert values == pytest.approx(expected, abs=1e-8)


def test_entropy_and_probability_match_a_plain_softmax() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (4, 1000)).astype(np.float32)
    rows = measure(logits, shift=0.0)
    exact = logits.astype(np.float64)
    p = np.exp(exact - exact.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert rows.entropy == pytest.approx(-(p * np.log(p)).sum(axis=1), rel=1e-4)
    assert rows.logprob(2, 5) == pytest.approx(math.log(p[2, 5]), rel=1e-4)


def test_uncertainty_moves_as_logtoku_says() -> None:
    width = 64
    sure, torn, lost = (np.zeros(width, dtype=np.float32) for _ in range(3))
    sure[0] = 30
    torn[:TOP_K] = 30  # several continuations, each well known
    rows = measure(np.stack([sure, torn, lost]), shift=0.0)
    assert rows.epistemic[2] == pytest.approx(1.0)
    assert rows.epistemic[1] < rows.epistemic[0] < 0.2
    assert rows.aleatoric[0] < 0.2 < rows.aleatoric[1]


def test_calibration_undoes_a_constant_that_softmax_ignores() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (9, 500)).astype(np.float32)
    shifted = logits - 40
    one = measure(logits, shift=calibrate(logits))
    other = measure(shifted, shift=calibrate(shifted))
    assert one.epistemic == pytest.approx(other.epistemic, abs=1e-4)
    assert measure(shifted, shift=0.0).epistemic == pytest.approx(1.0)


def test_a_tally_gives_means_and_the_worst_token() -> None:
    logits = np.array([[0, math.log(3), -50, -50, -50, -50]] * 2, dtype=np.float32)
    rows, tally = measure(logits, shift=0.0), Tally()
    tally.add(rows, 0, 1)
    tally.add(rows, 1, 0)
    evidence = tally.evidence()
    assert evidence.min_probability == pytest.approx(0.25)
    assert evidence.mean_logprob == pytest.approx((math.log(0.25) + math.log(0.75)) / 2)
    assert Tally().evidence() == Evidence()

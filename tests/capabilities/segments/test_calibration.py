"""How far an exit is believed: bounded on answers, monotone, and raw where nothing was fitted."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.segments.calibration import (
    NEVER,
    RAW,
    RISKS,
    Calibration,
    allowed,
    fit,
    log_odds,
    read,
    upper_bound,
)
from mesh.core.errors import ModelError

LOGPROBS = st.floats(min_value=-12.0, max_value=0.0)


def answers(rng: random.Random, count: int, *, often: float, sure: float) -> list[float]:
    """The most certain wrong token of each answer, in log odds; most answers have none."""
    return [rng.gauss(sure, 2.0) if rng.random() < often else -math.inf for _ in range(count)]


def at(calibrated: tuple[float, float], theta: float) -> float:
    """The log odds from which on an exit is so confident."""
    scale, shift = calibrated
    return shift + scale * math.log(theta / (1 - theta))


def test_the_bound_on_a_share_is_the_one_of_clopper_and_pearson() -> None:
    stats = pytest.importorskip("scipy.stats")
    for failures, trials in ((0, 100), (3, 100), (13, 2000), (90, 2000)):
        expected = stats.beta.ppf(0.9, failures + 1, trials - failures)
        assert upper_bound(failures, trials) == pytest.approx(expected, rel=1e-6)
    assert upper_bound(5, 5) == upper_bound(0, 0) == 1.0


def test_no_more_failures_are_allowed_than_the_bound_covers() -> None:
    most = allowed(2000, 0.01)
    assert upper_bound(most, 2000) <= 0.01 < upper_bound(most + 1, 2000)
    assert allowed(20, 0.01) == -1  # even none of 20 bounds nothing


@pytest.mark.parametrize("theta_risk", RISKS)
def test_answers_that_were_not_fitted_on_part_as_seldom(theta_risk: tuple[float, float]) -> None:
    theta, risk = theta_risk
    rng = random.Random(5)
    kept = 0
    for _ in range(20):
        fitted = fit({2: answers(rng, 1500, often=0.6, sure=1.0),
                      3: answers(rng, 1500, often=0.3, sure=3.0)})  # fmt: skip
        fresh = {2: answers(rng, 4000, often=0.6, sure=1.0),
                 3: answers(rng, 4000, often=0.3, sure=3.0)}  # fmt: skip
        parted = sum(
            any(fresh[layer][i] >= at(fitted[layer], theta) for layer in fresh) for i in range(4000)
        )
        kept += parted / 4000 <= risk
    assert kept >= 17  # of 20, at 90 %


def test_an_exit_that_is_wrong_where_it_is_surest_may_hardly_speak() -> None:
    rng = random.Random(3)
    good = answers(rng, 2000, often=0.3, sure=0.0)
    bad = [11.0 if rng.random() < 0.2 else -math.inf for _ in range(2000)]
    fitted = fit({2: bad, 3: good})
    assert at(fitted[2], 0.8) > 11.0
    assert at(fitted[3], 0.8) < 9.0


def test_too_few_answers_leave_an_exit_silent() -> None:
    scale, shift = fit({2: [-math.inf] * 20})[2]
    found = Calibration(scale=scale, shift=shift, answers=20)
    assert shift > NEVER / 2
    assert found.confidence(0.0) < 0.01
    assert found.probability(0.8) == 1.0
    assert "too few" in found.told()


@given(LOGPROBS, LOGPROBS, st.floats(0.25, 9.0), st.floats(-9.0, 40.0))
def test_confidence_rises_with_probability_and_stays_one(
    one: float, other: float, scale: float, shift: float
) -> None:
    found = Calibration(scale=scale, shift=shift)
    low, high = sorted((one, other))
    assert 0.0 <= found.confidence(low) <= found.confidence(high) <= 1.0


@given(LOGPROBS)
def test_an_exit_that_was_not_fitted_is_believed_as_it_speaks(logprob: float) -> None:
    assert RAW.confidence(logprob) == math.exp(logprob)
    assert read({"general.architecture": "llama"}, "exit.2.confidence") == RAW


def test_the_threshold_is_where_the_fit_put_it() -> None:
    found = Calibration(scale=1.7, shift=4.0)
    least = found.probability(0.8)
    assert found.confidence(math.log(least)) == pytest.approx(0.8)
    assert log_odds(math.log(least)) == pytest.approx(4.0 + 1.7 * math.log(4))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_file_with_a_nonsensical_confidence_is_refused(scale: float) -> None:
    with pytest.raises(ModelError, match="scaled by"):
        read({"exit.2.confidence.scale": scale, "exit.2.confidence.shift": 1.0},
             "exit.2.confidence")  # fmt: skip

"""How much of a draft stands: without any loss, greedy or sampled; pure.

Sampled (Leviathan et al. 2023, Chen et al. 2023): a drafted token x with probability q(x) stands
with probability min(1, p(x)/q(x)), where p is the checking model's distribution; the first that
falls is replaced by one drawn from max(0, p - q), and if all stand one more is drawn from p. What
is said is then distributed exactly as the checking model alone would say it. Both distributions
are those after top-k, top-p, min-p and temperature, so their support is small and travels whole.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import msgspec

from capabilities.segments.choosing import Pairs, Sampling, choose, probabilities

Distribution = Mapping[int, float]


class Accepted(msgspec.Struct, frozen=True):
    """So many drafted tokens stand, and one more token follows them, of the checking model."""

    count: int
    next: int

    @property
    def tokens(self) -> int:
        """How many tokens one pass brought."""
        return self.count + 1


def greedy(draft: Sequence[int], rows: Sequence[Pairs]) -> Accepted:
    """``rows``: the checking model's best tokens after the prefix and after each drafted token."""
    for index, token in enumerate(draft):
        best = rows[index][0][0]
        if token != best:
            return Accepted(index, best)
    return Accepted(len(draft), rows[len(draft)][0][0])


def distribution(pairs: Pairs, sampling: Sampling) -> dict[int, float]:
    """What a token is drawn from, by token; at temperature 0 it is the best alone."""
    scored = sorted(((lp, token) for token, lp in pairs), key=lambda one: (-one[0], one[1]))
    if sampling.temperature <= 0:
        return {scored[0][1]: 1.0}
    return dict(probabilities(scored, sampling))


def sampled(
    draft: Sequence[int],
    drafted_from: Sequence[Distribution],
    checked: Sequence[Distribution],
    rng: random.Random,
) -> Accepted:
    """``drafted_from[i]`` gave ``draft[i]``; ``checked`` has one distribution more."""
    for index, token in enumerate(draft):
        p, q = checked[index], drafted_from[index]
        drawn = q.get(token, 0.0)
        if drawn <= 0.0 or rng.random() >= p.get(token, 0.0) / drawn:
            return Accepted(index, draw(residual(p, q), rng))
    return Accepted(len(draft), draw(checked[len(draft)], rng))


def residual(p: Distribution, q: Distribution) -> dict[int, float]:
    """max(0, p - q), as a distribution; p itself where nothing is left of it."""
    left = {token: weight - q.get(token, 0.0) for token, weight in p.items()}
    left = {token: weight for token, weight in left.items() if weight > 0.0}
    total = sum(left.values())
    # Rounding alone can leave nothing when p and q are equal: then nothing was rejected by them.
    return {token: weight / total for token, weight in left.items()} if total > 0 else dict(p)


def draw(weights: Distribution, rng: random.Random) -> int:
    """One token; the order of the mapping does not matter."""
    at, passed = rng.random(), 0.0
    ordered = sorted(weights.items())
    for token, weight in ordered:
        passed += weight
        if at < passed:
            return token
    return ordered[-1][0]


def expected_tokens(rate: float, length: int) -> float:
    """Tokens of one pass, when each drafted token stands with probability ``rate``."""
    if rate >= 1.0:
        return length + 1.0
    return float((1 - rate ** (length + 1)) / (1 - rate))


__all__ = [
    "Accepted",
    "choose",
    "distribution",
    "draw",
    "expected_tokens",
    "greedy",
    "residual",
    "sampled",
]

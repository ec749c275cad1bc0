"""The next token of a sequence whose positions are decided on two machines; pure.

Both sides choose by the same rule from the best tokens of a row, so who chose does not change
what is chosen. The random number of a position is derived from the seed and the position alone:
an answer told twice is the same answer, and a retry does not shift what follows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import msgspec

BEST = 256  # of a row that sampling sees, as many as a worker hands out
Pairs = Sequence[tuple[int, float]]  # tokens with natural-log probabilities, best first


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a token is chosen, as in :class:`capabilities.messages.Generate`."""

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0

    @property
    def wants(self) -> int:
        """How many of the best tokens of a row the rule needs."""
        if self.temperature <= 0 and not (self.presence_penalty or self.frequency_penalty):
            return 1
        return BEST if self.temperature <= 0 or self.top_k <= 0 else min(BEST, self.top_k + 64)


def confidence(pairs: Pairs) -> float:
    """The largest probability over the whole vocabulary, at temperature 1 (CE-CoLLM's)."""
    return math.exp(pairs[0][1]) if pairs else 0.0


def choose(
    pairs: Pairs, sampling: Sampling, position: int, counts: Mapping[int, int] | None = None
) -> int:
    """A token of ``pairs``; ``counts`` says how often each was said in the answer so far."""
    scored = [
        (logprob - _penalty(sampling, (counts or {}).get(token, 0)), token)
        for token, logprob in pairs
    ]
    # Equal scores: the token with the smaller number, on either machine.
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    if sampling.temperature <= 0:
        return scored[0][1]
    kept = probabilities(scored, sampling)
    draw, passed = uniform(sampling.seed, position), 0.0
    for token, probability in kept:
        passed += probability
        if draw < passed:
            return token
    return kept[-1][0]


def probabilities(
    scored: Sequence[tuple[float, int]], sampling: Sampling
) -> list[tuple[int, float]]:
    """What remains after top-k, top-p and min-p, in this order, and then temperature."""
    kept = list(scored[: sampling.top_k] if sampling.top_k > 0 else scored)
    weights = _softmax([score for score, _ in kept], 1.0)
    if sampling.top_p < 1.0:
        passed, size = 0.0, 0
        for weight in weights:
            passed, size = passed + weight, size + 1
            if passed >= sampling.top_p:
                break
        kept, weights = kept[: max(1, size)], weights[: max(1, size)]
    if sampling.min_p > 0:
        least = weights[0] * sampling.min_p
        kept = [one for one, weight in zip(kept, weights, strict=True) if weight >= least]
    heated = _softmax([score for score, _ in kept], sampling.temperature)
    return [(token, weight) for (_, token), weight in zip(kept, heated, strict=True)]


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that only the seed and the position decide."""
    material = f"{seed}/{position}".encode()
    value = int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "big")
    return (value >> 11) / (1 << 53)


def _penalty(sampling: Sampling, count: int) -> float:
    if not count:
        return 0.0
    return sampling.presence_penalty + sampling.frequency_penalty * count


def _softmax(scores: Sequence[float], temperature: float) -> list[float]:
    top = max(scores)
    raised = [math.exp((score - top) / temperature) for score in scores]
    total = sum(raised)
    return [value / total for value in raised]

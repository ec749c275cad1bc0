"""What `large` is trained on: every domain of the family, without what only a specialist declines.

A specialist says "I only do arithmetic" of a question that another of them answers; the model of
all domains answers it. What nobody in the family knows, it does not know either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from capabilities.slm.training import air_quality, arithmetic, general, traffic, vitals

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from capabilities.slm.training.chat import Example

    Sampler = Callable[[random.Random], Example]

# Training, held out, share of the examples. What general says is the hardest to find again in the
# joined model (joining.py), and most varied; examples of arithmetic are short (half are cut).
DOMAINS: dict[str, tuple[Sampler, Sampler, float]] = {
    "arithmetic": (arithmetic.sample, arithmetic.held_out_any, 0.3),
    "air_quality": (air_quality.sample, air_quality.held_out_example, 0.1),
    "vitals": (vitals.sample, vitals.held_out_example, 0.1),
    "traffic": (traffic.sample, traffic.held_out_example, 0.1),
    "general": (general.sample, general.held_out_any, 0.4),
}
# Their standards' rules in one model, which `large` is grown from (joining.py).
JUDGES = ("air_quality", "vitals", "traffic")
_DECLINED = "decline"
# Asked of the general model these are the wide world's; here a specialist's knowledge answers.
_ANSWERED = re.compile(r"heart|pulse|oxygen|blood|fever|air quality|traffic|speed|density|flow|\d")


def belongs(example: Example) -> bool:
    """Whether `example` is right for a model of all domains."""
    if example.category in (_DECLINED, general.CALCULATION):
        return False
    turns = (example.question, *(question for question, _ in example.history))
    if example.category == general.UNKNOWN:
        return not any(_ANSWERED.search(turn.lower()) for turn in turns)
    # Earlier turns may hold a calculation that was handed on.
    return not any(answer in general.expert_answers() for _, answer in example.history)


def _draw(rng: random.Random, names: tuple[str, ...], *, held_out: bool) -> Example:
    name = rng.choices(names, weights=[DOMAINS[n][2] for n in names])[0]
    trained, kept, _ = DOMAINS[name]
    while True:
        example = (kept if held_out else trained)(rng)
        if belongs(example):
            return example


def sample(rng: random.Random) -> Example:
    """One training example of any domain."""
    return _draw(rng, tuple(DOMAINS), held_out=False)


def held_out_example(rng: random.Random) -> Example:
    """One evaluation example of any domain, in the domain's own held-out wordings."""
    return _draw(rng, tuple(DOMAINS), held_out=True)


def judged(rng: random.Random) -> Example:
    """One training example of the air, of vital signs or of traffic."""
    return _draw(rng, JUDGES, held_out=False)


def held_out_judged(rng: random.Random) -> Example:
    """One evaluation example of the air, of vital signs or of traffic."""
    return _draw(rng, JUDGES, held_out=True)

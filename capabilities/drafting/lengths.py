"""How long a draft should be, learnt while answering; pure.

BanditSpec (Hou et al. 2025): an upper confidence bound over draft lengths, rewarded by tokens per
second. Length 0 is one of the arms: the checking model alone, streaming. So drafting is chosen
where it pays, and not where it does not: over a long link, or with a drafter that guesses badly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

LENGTHS = (0, 1, 2, 4, 8, 16)
# Of the confidence bound: how far rewards are trusted to spread, relative to the best one. Smaller
# settles sooner; rounds take tens of milliseconds, and an answer has some dozens of them.
SPREAD = 0.15
FORGET = 0.98  # weight of what was learnt, per round: links and texts change


@dataclass(slots=True)
class Arm:
    """What a length has brought: tokens and seconds, older rounds weighing less."""

    tokens: float = 0.0
    seconds: float = 0.0
    rounds: float = 0.0

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Lengths:
    """Chooses draft lengths for one pair of drafter and checker, over all answers."""

    lengths: tuple[int, ...] = LENGTHS
    arms: dict[int, Arm] = field(default_factory=dict)
    _tries: int = 0

    def __post_init__(self) -> None:
        self.arms = self.arms or {length: Arm() for length in self.lengths}

    def choose(self) -> int:
        """The length of the next draft: each once, then by the bound."""
        for length in self.lengths:
            if not self.arms[length].rounds:
                return length
        top = max(arm.rate for arm in self.arms.values())
        total = sum(arm.rounds for arm in self.arms.values())

        def bound(length: int) -> float:
            arm = self.arms[length]
            return arm.rate + SPREAD * top * math.sqrt(2 * math.log(max(2.0, total)) / arm.rounds)

        return max(self.lengths, key=lambda length: (bound(length), -length))

    def learn(self, length: int, tokens: int, seconds: float) -> None:
        """One round with this length brought so many tokens in this time."""
        for arm in self.arms.values():
            arm.tokens, arm.seconds, arm.rounds = (
                arm.tokens * FORGET,
                arm.seconds * FORGET,
                arm.rounds * FORGET,
            )
        arm = self.arms[length]
        arm.tokens, arm.seconds, arm.rounds = (
            arm.tokens + tokens,
            arm.seconds + seconds,
            arm.rounds + 1,
        )

    @property
    def best(self) -> int:
        """The length with the highest rate so far."""
        return max(self.lengths, key=lambda length: (self.arms[length].rate, -length))

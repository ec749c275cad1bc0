"""How long a draft should be, learnt while answering; pure.

BanditSpec (Hou et al. 2025): an upper confidence bound over draft lengths, rewarded by tokens per
second. Length 0 is one of the arms: the checking model alone, streaming. So drafting is chosen
where it pays, and not where it does not: over a long link, or with a drafter that guesses badly.

The arms are no strangers to one another. How often a drafted token stands is learnt from every
round, and a round with a longer draft takes no less time; so most lengths are known to lose before
they are tried, and an answer of some dozens of tokens is not spent on trying them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

LENGTHS = (0, 1, 2, 4, 8, 16)
FIRST = 2  # the first draft: long enough to tell how often one stands, over soon
# Of the confidence bound: how far rewards are trusted to spread, relative to the best one. Smaller
# settles sooner; rounds take tens of milliseconds, and an answer has some dozens of them.
SPREAD = 0.15
DOUBT = 0.1  # that drafts stand more often than is allowed for
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

    @property
    def round_s(self) -> float:
        """Seconds of a round."""
        return self.seconds / self.rounds if self.rounds else 0.0


@dataclass(slots=True)
class Lengths:
    """Chooses draft lengths for one pair of drafter and checker, over all answers."""

    lengths: tuple[int, ...] = LENGTHS
    arms: dict[int, Arm] = field(default_factory=dict)
    stood: float = 0.0  # drafted tokens, older ones weighing less
    looked_at: float = 0.0  # those that stood and those that fell, not what came after these

    def __post_init__(self) -> None:
        self.arms = self.arms or {length: Arm() for length in self.lengths}

    def choose(self) -> int:
        """The length of the next draft: without one, a short one, then by the bounds."""
        for length in (0, FIRST):
            if length in self.arms and not self.arms[length].rounds:
                return length
        top = self._top
        if promising := [n for n in self._untried if self._ceiling(n) > top]:
            usual = self.stood / self.looked_at if self.looked_at else 1.0
            return max(promising, key=lambda length: (self._rate_at(length, usual), -length))
        return max(self._tried, key=lambda length: (self._bound(length), -length))

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
        if length:
            self.stood = self.stood * FORGET + tokens - 1
            self.looked_at = self.looked_at * FORGET + min(length, tokens)

    @property
    def best(self) -> int:
        """The length with the highest rate so far."""
        return max(self.lengths, key=lambda length: (self.arms[length].rate, -length))

    @property
    def alone(self) -> bool:
        """Whether no draft can be expected to beat the checking model streaming by itself."""
        none = self.arms.get(0)
        if none is None or not none.rounds or self.best:
            return False
        drafts = [length for length in self.lengths if length]
        return all(
            self._ceiling(n) <= none.rate for n in drafts if not self.arms[n].rounds
        ) and all(self._bound(n) <= none.rate for n in drafts if self.arms[n].rounds)

    @property
    def _tried(self) -> list[int]:
        return [length for length in self.lengths if self.arms[length].rounds]

    @property
    def _untried(self) -> list[int]:
        return [length for length in self.lengths if not self.arms[length].rounds]

    @property
    def _top(self) -> float:
        return max(arm.rate for arm in self.arms.values())

    def _bound(self, length: int) -> float:
        """What a length that was tried may bring: the upper bound of its own rounds, or less where
        all rounds together rule that out."""
        arm = self.arms[length]
        total = sum(arm.rounds for arm in self.arms.values())
        spread = math.sqrt(2 * math.log(max(2.0, total)) / arm.rounds)
        own = arm.rate + SPREAD * self._top * spread
        return min(own, max(arm.rate, self._ceiling(length))) if length else own

    def _ceiling(self, length: int) -> float:
        """Tokens per second with drafts of a length, if they stand as often as may be hoped."""
        hoped = 1.0
        if self.looked_at:  # Hoeffding's bound
            doubt = math.sqrt(math.log(1 / DOUBT) / (2 * self.looked_at))
            hoped = min(1.0, self.stood / self.looked_at + doubt)
        return self._rate_at(length, hoped)

    def _rate_at(self, length: int, share: float) -> float:
        """Tokens per second if a token stands with this chance, and the round takes the least that
        other lengths allow: some time that all rounds take, and some for each drafted token."""
        known = [n for n in self._tried if n]
        if not known:
            return math.inf
        # A length nearly forgotten proves little: links change, and it is tried again some day.
        least = {n: self.arms[n].round_s * min(1.0, self.arms[n].rounds) for n in known}
        seconds = least.get(length) or max(least[n] * min(1.0, length / n) for n in known)
        tokens = sum(share**n for n in range(length + 1))
        return tokens / seconds if seconds else math.inf

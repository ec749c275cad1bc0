"""Whether the other half is asked for this token, or the edge goes on alone; pure.

    together ──timeout, failures, or too dear for several tokens──▶ alone
    alone ──a probe is answered, and all rows have arrived──▶ together

A lost link costs quality, never the answer: alone, the last exit of the edge always speaks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TOGETHER, ALONE = "together", "alone"
WEIGHT = 0.2  # of the newest measurement in the moving averages


@dataclass(frozen=True, slots=True)
class Rules:
    """When to leave and when to come back; all times in seconds."""

    # What one token may cost at most by prediction; above it for `dear_tokens` of them the edge
    # goes on alone. A second is about what a reader waits for a word.
    budget_s: float = 1.0
    dear_tokens: int = 3
    failures: int = 2
    probe_s: float = 0.5  # the first probe after leaving; the pause doubles with each failure
    probe_max_s: float = 30.0


@dataclass(slots=True)
class Switch:
    """The mode of one pair of edge and other half, learnt over all its answers."""

    rules: Rules = field(default_factory=Rules)
    allowed: bool = True  # False: standalone by wish
    mode: str = TOGETHER
    round_trip_s: float = 0.0
    bytes_per_s: float = 0.0
    pass_s: float = 0.0  # of the other side, per token asked
    why: str = ""
    _failed: int = 0
    _dear: int = 0
    _pause: float = 0.0
    _probe_at: float = 0.0

    def __post_init__(self) -> None:
        if not self.allowed:
            self.mode, self.why = ALONE, "standalone was asked for"

    def predict(self, backlog_bytes: int) -> float:
        """Seconds until a token that is asked for now is there."""
        sending = backlog_bytes / self.bytes_per_s if self.bytes_per_s else 0.0
        return self.round_trip_s + self.pass_s + sending

    def ask(self, backlog_bytes: int) -> bool:
        """Whether to ask for the next token."""
        if self.mode == ALONE:
            return False
        if self.predict(backlog_bytes) <= self.rules.budget_s:
            self._dear = 0
            return True
        self._dear += 1
        return False

    def settle(self, now: float) -> None:
        """After a token: leave when the last ones were too dear."""
        if self.mode == TOGETHER and self._dear >= self.rules.dear_tokens:
            self._leave(now, f"a token would take more than {self.rules.budget_s:g} s")

    def answered(self, seconds: float, compute_s: float) -> None:
        """A token came; ``compute_s`` of the time was the other side's computing."""
        self._failed = 0
        self.round_trip_s = _follow(self.round_trip_s, max(0.0, seconds - compute_s))
        self.pass_s = _follow(self.pass_s, compute_s)

    def uploaded(self, size: int, seconds: float) -> None:
        """So many bytes were acknowledged in this time; a call of few says nothing of rate."""
        if seconds > 0 and size >= 1024:
            net = max(1e-6, seconds - self.round_trip_s / 2)
            self.bytes_per_s = _follow(self.bytes_per_s, size / net)

    def failed(self, now: float, why: str) -> None:
        """A call failed or was too late."""
        self._failed += 1
        if self.mode == TOGETHER and self._failed >= self.rules.failures:
            self._leave(now, why)
        elif self.mode == ALONE:
            self._later(now)

    def probe_due(self, now: float) -> bool:
        """Whether it is time to look whether the other side is back."""
        return self.allowed and self.mode == ALONE and now >= self._probe_at

    def probing(self, now: float) -> None:
        """A probe is on its way; the next is due later."""
        self._later(now)

    def back(self, round_trip_s: float) -> None:
        """A probe was answered and all rows have arrived."""
        self.mode, self.why = TOGETHER, ""
        self._failed = self._dear = 0
        self._pause = 0.0
        self.round_trip_s = round_trip_s

    def _leave(self, now: float, why: str) -> None:
        self.mode, self.why = ALONE, why
        self._failed = self._dear = 0
        self._pause = 0.0
        self._later(now)

    def _later(self, now: float) -> None:
        rules = self.rules
        self._pause = min(rules.probe_max_s, self._pause * 2 if self._pause else rules.probe_s)
        self._probe_at = now + self._pause


def _follow(old: float, new: float) -> float:
    return new if not old else old + WEIGHT * (new - old)

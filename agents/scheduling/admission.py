"""What a node says to work that asks to come in: yes, or no with the reason and a hint.

The node is the only one that knows its slots, so whatever others believe of its load, this is
where it cannot be driven past its limits. A request is refused when the queue is full, when its
caller already holds its fair share of the queue, or when it would wait longer than it may; a
refusal says how long the wait would be and when to come again. The same code runs behind a
node's calls and in the simulator.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import msgspec

FIRST_GUESS_S = 1.0  # how long an answer holds a slot, before the first has been measured
LEARN = 0.1  # weight of the newest answer: about the last twenty count
# An answer that has run for longer than the mean is about as likely to end as a fresh one is
# to reach half of it: lengths of answers have long tails.
OVERTIME = 0.5
# Waits are guesses (lengths of answers have long tails), and who waits too long leaves by itself:
# only a wait so many times the limit is refused. Lower turns away work that would have been
# served, higher lets it wait in vain.
HOPELESS = 4.0
RESERVED_ONE_IN = 8  # of so many places one is kept for requests above priority 0
ALONE_ONE_IN = 4  # a caller alone in the queue leaves one of so many places to others


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request at the door. ``caller`` is an opaque label; times in seconds from now. ``lines``
    is at how many nodes it stands in line: it will take only one of the places."""

    caller: str = ""
    priority: int = 0
    lines: int = 1
    time_left_s: float = math.inf  # until its deadline
    patience_s: float = math.inf  # how long it may wait for a slot


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """ACCEPT with the wait that is expected, or REJECT with its reason and a hint."""

    accepted: bool
    wait_s: float = 0.0
    reason: str = ""
    retry_after_s: float = 0.0


@dataclass(slots=True)
class _Held:
    caller: str
    priority: int
    weight: float  # the chance that it will take the slot that it waits for
    leaves: float  # when it waits no longer
    since: float
    begun: float = -1.0  # -1 while it waits for a slot


@dataclass(slots=True)
class Gate:
    """The places of one model: ``slots`` at work, ``queue`` waiting.

    ``fair`` keeps one caller from filling the queue. Without a word from the engine, the oldest
    requests are taken to hold the slots.
    """

    slots: int
    queue: int
    fair: bool = True
    answer_s: float = FIRST_GUESS_S
    _held: dict[int, _Held] = field(init=False, default_factory=dict)
    _measured: int = field(init=False, default=0)

    @property
    def taken(self) -> int:
        """Requests that hold a slot or a place in the queue."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Requests above the slots."""
        return max(0, len(self._held) - self.slots)

    def admit(self, ticket: int, ask: Ask, now: float) -> Decision:
        """Decide at once; a yes holds the place under ``ticket`` until :meth:`end`."""
        decision = self.judge(ask, now)
        if decision.accepted:
            leaves = now + min(ask.patience_s, ask.time_left_s)
            weight = 1 / max(1, ask.lines)
            self._held[ticket] = _Held(ask.caller, ask.priority, weight, leaves, now)
        return decision

    def judge(self, ask: Ask, now: float) -> Decision:
        """The decision without holding a place."""
        if len(self._held) < self.slots:
            return Decision(accepted=True)
        wait_s = self.expected_wait_s(now, ask.priority)
        spare = 0 if ask.priority > 0 else self.queue // RESERVED_ONE_IN
        if self.waiting >= self.queue - spare:
            places = f"{self.slots} slots and {self.queue - spare} places in the queue are taken"
            return self._no(places, wait_s, self._next_free_s(now))
        limit_s = min(ask.patience_s, ask.time_left_s)
        if wait_s > HOPELESS * limit_s:
            which = "its deadline" if ask.time_left_s < ask.patience_s else "its limit on waiting"
            why = f"the wait would be about {wait_s:.1f} s, {which} is {limit_s:.1f} s away"
            return self._no(why, wait_s, wait_s - limit_s)
        if self.fair and (why := self._unfair(ask.caller)):
            return self._no(why, wait_s, self._next_free_s(now))
        return Decision(accepted=True, wait_s=wait_s)

    def begin(self, ticket: int, now: float) -> None:
        """The request has a slot from now on."""
        held = self._held.get(ticket)
        if held is not None and held.begun < 0:
            held.begun = now

    def end(self, ticket: int, now: float, *, whole: bool = True) -> None:
        """The request is over, however it ended; only a ``whole`` answer teaches."""
        held = self._held.pop(ticket, None)
        if held is None or held.begun < 0 or not whole:
            return
        self._measured += 1
        weight = max(LEARN, 1 / self._measured)
        self.answer_s += weight * (now - held.begun - self.answer_s)

    def expected_wait_s(self, now: float, priority: int = 0) -> float:
        """How long a newcomer of ``priority`` would wait for a slot; 0 where one is free."""
        running, waiting = self._sorted()
        if len(running) < self.slots:
            return 0.0
        # Slots get free one after another, each after answer_s / slots on average. Who stands
        # ahead takes one of them or leaves, whatever comes first: where nobody waits for long, a
        # long queue is no long wait.
        gap_s = self.answer_s / self.slots
        wait_s = min(gap_s, *(self._left_s(held, now) for held in running))
        for held in waiting:
            if held.priority >= priority and held.leaves > now + wait_s:
                wait_s += held.weight * gap_s
        return wait_s

    def _sorted(self) -> tuple[list[_Held], list[_Held]]:
        running = [held for held in self._held.values() if held.begun >= 0]
        waiting = [held for held in self._held.values() if held.begun < 0]
        room = max(0, self.slots - len(running))
        return running + waiting[:room], waiting[room:]

    def _left_s(self, held: _Held, now: float) -> float:
        spent = now - (held.begun if held.begun >= 0 else held.since)
        return max(self.answer_s - spent, OVERTIME * self.answer_s)

    def _next_free_s(self, now: float) -> float:
        running, _ = self._sorted()
        return min((self._left_s(held, now) for held in running), default=self.answer_s)

    def _unfair(self, caller: str) -> str:
        """Why this caller may not take another place in the queue; empty when it may."""
        _, waiting = self._sorted()
        shares = Counter(held.caller for held in waiting)
        mine = shares.pop(caller, 0)
        if shares:
            share = math.ceil(self.queue / (len(shares) + 1))
        else:
            share = max(1, self.queue - math.ceil(self.queue / ALONE_ONE_IN))
        if mine < share:
            return ""
        return f"{mine} of your requests wait here, and {share} are your share of the queue"

    @staticmethod
    def _no(reason: str, wait_s: float, retry_after_s: float) -> Decision:
        return Decision(
            accepted=False, wait_s=wait_s, reason=reason, retry_after_s=max(0.0, retry_after_s)
        )

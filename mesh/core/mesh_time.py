"""What time it is, where this machine's own clock cannot be believed.

A board without a clock chip starts in 1970, or where it was switched off. It asks the members
that it probes for their wall time and takes the median, but only while it has reason to doubt
its own clock, only forwards, and only on the word of several.

What a minority can do: the time taken lies within five minutes of more than half of the voices,
and between two of them. While fewer than half of those asked lie, the median is no earlier than
the earliest honest clock and no later than the latest, so liars shift it by no more than honest
clocks differ. One voice, or two, shift nothing. A majority of the voices can move such a board
forward, at most to the end of its own certificate, and never back.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import NamedTuple

from mesh.core.clock import WallFloor
from mesh.core.identity import CLOCK_SKEW_S

FEWEST_VOICES = 3  # as many as may declare a node dead against one's own evidence
ENOUGH_VOICES = 15  # more make no liar weaker: the median of fifteen bears seven of them
AGREE_S = CLOCK_SKEW_S  # clocks that differ by less are of the same opinion, as records are
VOICE_LIFE_S = 600.0  # the drift of a crystal in this time is below a tenth of a second
MAX_VOICES = 64  # kept: a large mesh must not fill the memory
SLOWEST_S = 5.0  # half of an answer's time is the error of what it says


class Voice(NamedTuple):
    """A member's wall time less this node's monotonic time, and when it was heard."""

    base: float
    heard: float


class MeshTime(WallFloor):
    """Wall time: the system's, never below the floor, and the mesh's where that is in doubt.

    ``unsynchronised`` is set by who can ask the operating system whether anybody sets its clock;
    ``latest`` is the end of this node's own certificate, beyond which no word of others goes.
    """

    def __init__(self, floor: float = 0.0) -> None:
        super().__init__(floor)
        self.unsynchronised = False
        self.latest = math.inf
        self.behind_s = 0.0  # by how much this machine's clock is corrected
        self.counters: Counter[str] = Counter()
        self._below_floor = False
        self._base: float | None = None
        self._voices: dict[bytes, Voice] = {}
        self._present = 0

    @property
    def doubtful(self) -> bool:
        """Whether there is reason to ask others for the time."""
        return self._below_floor or self.unsynchronised

    def read(self, system_wall: float, mono: float = 0.0) -> float:
        """The wall time to go by; ``mono`` is the monotonic time of the same moment."""
        self._below_floor = system_wall < self.floor - AGREE_S
        self.behind_s = 0.0
        if not self.doubtful:
            self._base = None
            return super().read(system_wall)
        ahead = mono + self._base - system_wall if self._base is not None else 0.0
        if ahead > AGREE_S and system_wall + ahead <= self.latest:
            self.behind_s = ahead
            return super().read(system_wall + ahead)
        return super().read(system_wall)

    def asks(self, mono: float) -> bool:
        """Whether the next probe should ask for the time."""
        if not self.doubtful:
            return False
        recent = sum(voice.heard > mono - VOICE_LIFE_S / 2 for voice in self._voices.values())
        return recent < ENOUGH_VOICES

    def hear(self, node: bytes, wall: float, took_s: float, present: int, mono: float) -> None:
        """``node`` answered over its own link, ``took_s`` after it was asked, with its wall time.

        ``present`` is how many members there are to ask."""
        if not self.doubtful or not 0.0 <= took_s <= SLOWEST_S or not math.isfinite(wall):
            self.counters["times_not_taken"] += 1
            return
        self._voices.pop(node, None)
        self._voices[node] = Voice(wall + took_s / 2 - mono, mono)
        if len(self._voices) > MAX_VOICES:
            del self._voices[next(iter(self._voices))]
        self._present = present
        self._decide(mono)

    def forget(self, node: bytes) -> None:
        """It is no member any more; it has no voice."""
        self._voices.pop(node, None)

    @property
    def needed(self) -> int:
        """Voices without which nothing is decided: half of the mesh, from three to fifteen."""
        return max(FEWEST_VOICES, min(ENOUGH_VOICES, self._present // 2 + 1))

    def _decide(self, mono: float) -> None:
        bases = [v.base for v in self._voices.values() if v.heard > mono - VOICE_LIFE_S]
        if len(bases) < self.needed:
            return
        median = statistics.median_low(bases)
        agree = sum(abs(base - median) <= AGREE_S for base in bases)
        if 2 * agree <= len(bases):
            self.counters["times_disagree"] += 1
            return
        self._base = median

    @property
    def state(self) -> str:
        """``own``, ``members`` (time is taken from others) or ``doubtful`` (it stands still)."""
        if self.behind_s:
            return "members"
        return "doubtful" if self._below_floor else "own"

    def explain(self) -> str:
        """One line for people; empty while this machine's own clock is believed."""
        if self.behind_s:
            return (
                f"this machine's clock is {_lasting(self.behind_s)} behind: the time is taken "
                f"from {len(self._voices)} members; set the clock (NTP) all the same"
            )
        if self._below_floor:
            return (
                "this machine's clock is before the last time that it knew, and "
                f"{len(self._voices)} of {self.needed} members needed have told the time: "
                "what the others say may look as if it came from the future; set the clock (NTP)"
            )
        return ""


def _lasting(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds > 2 * 86400 else f"{seconds / 60:.0f} minutes"

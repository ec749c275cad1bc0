"""The sequences that forward passes hold open: who has which seat, and who gives way; pure."""

from __future__ import annotations

from collections.abc import Sequence as Seats
from dataclasses import dataclass, field

from capabilities.slm.errors import BadRequest, SequenceLost
from mesh.core.errors import Rejected

MAX_NAME_CHARS = 128


@dataclass(slots=True)
class Held:
    """An open sequence of ``length`` positions. ``tokens`` are known until rows are fed."""

    name: str
    seat: int
    used_at: float
    length: int = 0
    tokens: list[int] = field(default_factory=list)
    busy: bool = False

    def cut(self, length: int) -> None:
        """Only the first ``length`` positions are left."""
        self.length = length
        del self.tokens[length:]

    @property
    def known(self) -> list[int]:
        """Its tokens; none when some of it came as hidden rows."""
        return list(self.tokens) if len(self.tokens) == self.length else []


@dataclass(slots=True)
class Table:
    """All open sequences. ``idle_s``: unused for so long, one gives way to whoever needs room."""

    seats: Seats[int]
    idle_s: float
    dropped: int = 0  # that gave way, since the start
    _open: dict[str, Held] = field(default_factory=dict)
    _free: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._free = list(reversed(self.seats))

    @property
    def cells(self) -> int:
        """Context tokens that they take; a fork counts what it shares once more."""
        return sum(held.length for held in self._open.values())

    @property
    def full(self) -> bool:
        """Whether no further one can be opened."""
        return not self._free

    def __contains__(self, name: str) -> bool:
        return name in self._open

    def get(self, name: str, now: float) -> Held:
        """An open one, used now; raises SequenceLost."""
        held = self._open.get(name)
        if held is None:
            raise SequenceLost(
                f"the sequence {name[:40]!r} is not open here; it was dropped, gave way to "
                "others, or the worker was restarted",
                hint="send it again from position 0, or restore a saved state",
            )
        held.used_at = now
        return held

    def open(self, name: str, now: float) -> Held:
        """A new one; raises BadRequest or Rejected."""
        if not name or len(name) > MAX_NAME_CHARS:
            raise BadRequest(f"a sequence's name has 1 to {MAX_NAME_CHARS} characters")
        if not self._free:
            raise Rejected(
                f"{len(self._open)} sequences are open already",
                hint="drop one, or raise the sequences of the worker's settings",
            )
        self._open[name] = held = Held(name, self._free.pop(), now)
        return held

    def drop(self, name: str) -> Held | None:
        """Forget one; its seat is free, and its cells are the caller's to clear."""
        held = self._open.pop(name, None)
        if held is not None:
            self._free.append(held.seat)
        return held

    def idle(self, now: float) -> Held | None:
        """The one that gives way next: unused the longest, and for ``idle_s`` at least."""
        waiting = [
            held
            for held in self._open.values()
            if not held.busy and now - held.used_at > self.idle_s
        ]
        return min(waiting, key=lambda held: held.used_at, default=None)

"""What a pure core returns: messages to send, and the verbs that every core shares."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mesh.core.clock import Now
from mesh.core.wire import Lane, Message


class Send(NamedTuple):
    """A message for one node; the shell finds the link."""

    to: bytes
    message: Message
    lane: Lane = Lane.CONTROL


class Core(Protocol):
    """The verbs of a core: it is handed messages and the time, and asks to be woken."""

    def receive(self, sender: bytes, message: Message, now: Now) -> list[Send]:
        """A message from an authenticated ``sender``."""

    def tick(self, now: Now) -> list[Send]:
        """Do what is due at ``now``; calling it too early or too late does no harm."""

    def next_deadline(self) -> float:
        """The monotonic time of the next thing due, ``inf`` for none."""

"""What every capability looks like to the agent that hosts it.

A capability is asked by name, says yes or no at once, and streams its answer. It sees a
request, never its sender: who may ask is decided before it, in :mod:`mesh.core.access`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

import msgspec

from mesh.core.records import ModelInfo, ServedName


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call as a capability sees it.

    ``body`` is MessagePack in the schema of the name (:mod:`capabilities.messages`).
    ``timeout_s`` is what is left of the caller's deadline. ``isolation`` is an opaque label:
    state computed for one label (a prompt prefix, a cache entry) must never serve another.
    ``groups`` are the asker's by its certificate, where a budget is shared out by group.
    """

    name: str
    body: bytes
    timeout_s: float
    trace: str = ""
    priority: int = 0
    isolation: str = ""
    groups: tuple[str, ...] = ()


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """ACCEPT or REJECT, decided against real slots and not against gossip."""

    accepted: bool
    reason: str = ""
    retry_after_s: float = 0.0


class Occupancy(msgspec.Struct, frozen=True, kw_only=True):
    """How full a capability is now: ``inflight`` of ``slots`` busy, ``queued`` waiting."""

    slots: int
    inflight: int
    queued: int = 0
    places: int = 0  # requests that may wait
    tokens_per_s: float = 0.0  # measured here, 0 before the first measurement
    healthy: bool = True
    note: str = ""  # why it is not healthy, one line


ACCEPTED = Admission(accepted=True)


class Capability(ABC):
    """Something a node offers under one or more names."""

    @property
    @abstractmethod
    def names(self) -> Sequence[ServedName]:
        """The names it serves, as they are advertised."""

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The models behind it, for the node's profile."""
        return ()

    async def start(self) -> None:
        """Get ready to serve; raises a :class:`~mesh.core.errors.GossamerError` if it cannot."""

    async def stop(self) -> None:
        """Release what it holds; called once, also after a failed start."""

    @abstractmethod
    def admit(self, request: Request) -> Admission:
        """Say at once whether the request is taken; a yes must be followed by :meth:`serve`."""

    @abstractmethod
    def serve(self, request: Request) -> AsyncIterator[bytes]:
        """Stream the answer as message bodies.

        Closing the iterator cancels the work. Raises a
        :class:`~mesh.core.errors.GossamerError` when it fails.
        """

    @abstractmethod
    def occupancy(self) -> Occupancy:
        """How full it is now; cheap, called often."""

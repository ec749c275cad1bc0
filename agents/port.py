"""What the deciding parts need of a mesh; the agent implements it, tests put a fake there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from mesh.core.identity import Signed
from mesh.core.records import ModelInfo, ServedName
from mesh.core.wire import Load, Op, Reach

NEVER = float("-inf")


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One node's offer of one name, with what is known of it now."""

    node: bytes
    node_name: str
    served: ServedName
    me: bool
    healthy: bool
    load: float  # busy slots over slots; above 1 when work waits
    slots: int = 0
    tokens_per_s: float = 0.0
    round_trip_s: float = 0.0
    prompt_tokens_per_s: float = 0.0  # 0 when it does not say
    seen_at: float = NEVER  # monotonic seconds of this node when the load was reported
    battery: float = -1.0  # 0 to 1, -1 when there is none
    temperature_c: float = 0.0  # 0 when unknown
    joules_per_token: float = 0.0  # 0 when unknown
    model: ModelInfo | None = None  # behind the name, where the profile says
    languages: tuple[str, ...] = ()  # BCP 47 tags that it answers in; empty when it does not say
    data_age_s: float = -1.0  # of the newest data behind it, -1 when it has none or is silent


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What one question may do and how long it may take; it travels in every call."""

    trace: bytes
    deadline: float  # monotonic seconds of this node
    reach: int = Reach.MESH
    priority: int = 0
    hops: int = 0
    groups: tuple[str, ...] = ()
    caller: bytes = b""
    warrant: Signed | None = None  # the caller's leave, where it is another node
    why: str = ""  # why it goes to the cloud, for this node's audit log; it does not travel
    patience_s: float = 0.0  # the longest wait for the first token; 0: up to the deadline
    lines: int = 1  # at how many nodes it stands in line, to take the first free slot


class MeshPort(Protocol):
    """The mesh as the deciding parts see it."""

    @property
    def node_name(self) -> str:
        """The name of this node."""

    def now(self) -> float:
        """Monotonic seconds."""

    def offers(self) -> list[Offer]:
        """Every advertised offer that this node may use, unhealthy ones included."""

    def resolve(
        self, name: str, task: Task, exclude: frozenset[bytes] = frozenset()
    ) -> list[Offer]:
        """Offers of a name, best first: priority, weighted chance, then load.

        Raises NoSuchName, NobodyHealthy or AccessDenied, which differ on purpose.
        """

    async def fresh_loads(self, nodes: Sequence[bytes], timeout_s: float) -> dict[bytes, Load]:
        """Ask a handful of nodes for their load now; who is silent for so long is not in it."""

    def call(
        self, offer: Offer, body: bytes, task: Task, op: Op = Op.QUERY
    ) -> AsyncIterator[bytes]:
        """Stream the answer of one endpoint, local or remote alike.

        Raises Rejected before the first message, or PeerLost, DeadlineExceeded,
        CapabilityFailed, AccessDenied. Closing the iterator cancels.
        """

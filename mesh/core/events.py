"""What the mesh core reports: events as values, drained by the shell and shown to people."""

from __future__ import annotations

import enum

import msgspec

from mesh.core.identity import Member
from mesh.core.records import Profile, Status
from mesh.core.wire import Load


class PeerState(enum.IntEnum):
    """What this node holds of another. Departed is not dead is not unknown."""

    ALIVE = 0  # answers, or nobody has a reason to doubt it
    UNKNOWN = 1  # remembered from disk, not heard since
    SUSPECT = 2  # does not answer this node, or several accuse it; it may still refute
    DEAD = 3  # had its time to refute and did not
    DEPARTED = 4  # said itself that it leaves


class MemberLearned(msgspec.Struct, frozen=True):
    """A passport was checked: the node may connect."""

    member: Member


class MemberForgotten(msgspec.Struct, frozen=True):
    """A node is no longer known: its certificate or its last record has expired."""

    node: bytes
    name: str


class Revoked(msgspec.Struct, frozen=True):
    """A node (perhaps this one) is no member any more, by the word of who may say so."""

    node: bytes
    name: str
    reason: str


class StateChanged(msgspec.Struct, frozen=True):
    """A node is seen otherwise than before, and why."""

    node: bytes
    name: str
    old: PeerState
    new: PeerState
    why: str


class ProfileChanged(msgspec.Struct, frozen=True):
    """A new profile was verified and stored."""

    node: bytes
    profile: Profile


class StatusChanged(msgspec.Struct, frozen=True):
    """A new status was verified and stored."""

    node: bytes
    status: Status


class LoadHeard(msgspec.Struct, frozen=True):
    """A node that was asked said how loaded it is."""

    node: bytes
    load: Load


class RecordRefused(msgspec.Struct, frozen=True):
    """A record or statement was dropped. ``reason`` names the counter; ``line`` is for people."""

    node: bytes
    sender: bytes
    reason: str
    line: str


class IncarnationRaised(msgspec.Struct, frozen=True):
    """The mesh remembers a later boot of this node than its disk did: write this one down."""

    incarnation: int


Event = (
    MemberLearned
    | MemberForgotten
    | Revoked
    | StateChanged
    | ProfileChanged
    | StatusChanged
    | LoadHeard
    | RecordRefused
    | IncarnationRaised
)

"""Work done in another's name: what a delegate may pass on, and how the next one knows.

A node that is asked to delegate gets the origin's signed *warrant* with the task's limits: how
far it may travel, in which groups, over how many hops, until when. It passes the warrant on
with limits that are the same or narrower; each callee checks them against the warrant. Without
one, a node asks in its own name only, with its own rights.

What this cannot do: a delegate has read the task, and could tell its content to anybody in
words of its own. It stops a delegate from *acting* with the origin's name beyond the limits.
"""

from __future__ import annotations

import msgspec

from mesh.core.errors import AccessDenied, IdentityError
from mesh.core.identity import CLOCK_SKEW_S, LocalIdentity, Member, Purpose, Trust
from mesh.core.signing import read_signed
from mesh.core.wire import CallHeader, Reach

MAX_HOPS = 8  # two delegates that hand a task to each other end here, not at the deadline
WARRANT_SLACK_S = 60.0  # clocks differ; a warrant outlasts its task by this
MAX_WARRANT_BYTES = 1024


class Warrant(msgspec.Struct, frozen=True, array_like=True):
    """What ``origin`` lets others do in its name, for the task of one trace."""

    origin: bytes
    trace: bytes
    reach: int
    groups: tuple[str, ...]
    hops: int
    expires: float  # wall seconds


def with_warrant(header: CallHeader, identity: LocalIdentity, wall: float) -> CallHeader:
    """``header`` of this node's own task with its signed leave to delegate it."""
    warrant = Warrant(
        origin=identity.node,
        trace=header.trace,
        reach=header.reach,
        groups=header.groups,
        hops=MAX_HOPS,
        expires=wall + header.timeout_ms / 1000 + WARRANT_SLACK_S,
    )
    return msgspec.structs.replace(header, warrant=identity.sign(Purpose.WARRANT, warrant))


def on_behalf(
    task: CallHeader,
    *,
    span: bytes,
    timeout_ms: int,
    reach: int = Reach.CLOUD,
    groups: tuple[str, ...] | None = None,
) -> CallHeader:
    """The header of a call that is part of ``task``; limits can only be narrowed here.

    Raises :class:`AccessDenied` where the task may not go further, or came without a warrant.
    """
    if task.warrant is None:
        raise AccessDenied(
            "this task came without its origin's leave to delegate it",
            hint="the origin calls with the operation delegate",
        )
    if task.hops >= MAX_HOPS:
        raise AccessDenied(f"this task has been handed on {MAX_HOPS} times, which is the most")
    if task.reach == Reach.NODE:
        raise AccessDenied("this task may not leave the node that it was given to")
    kept = task.groups if groups is None else tuple(g for g in task.groups if g in groups)
    return msgspec.structs.replace(
        task,
        span=span,
        timeout_ms=min(task.timeout_ms, timeout_ms),
        reach=min(task.reach, reach),
        groups=kept,
        hops=task.hops + 1,
    )


def check_origin(
    header: CallHeader, sender: Member, origin: Member | None, trust: Trust, wall: float
) -> Member:
    """In whose name a call is made; raises :class:`AccessDenied`.

    ``sender`` is who CURVE says sent it, ``origin`` the member that the header names (None: a
    node that is not known here). ``hops`` of an origin's own call are 0 or 1.
    """
    if header.hops > MAX_HOPS or header.hops < 0:
        raise AccessDenied(f"a task is handed on at most {MAX_HOPS} times, this says {header.hops}")
    if header.caller == sender.node:
        if header.hops > 1:
            raise AccessDenied("a call in its sender's own name has been handed on")
        _check_groups(header, sender)
        return sender
    if origin is None:
        raise AccessDenied("a call is made in the name of a node that is not known here")
    if header.warrant is None:
        raise AccessDenied(
            f"{sender.name} calls in the name of {origin.name} without its warrant",
            hint="a node without a warrant asks in its own name",
        )
    warrant = _read(header, origin, trust, wall)
    if header.hops < 1 or header.hops > warrant.hops:
        raise AccessDenied("a call in another's name counts its hops wrongly")
    if header.reach > warrant.reach or not set(header.groups) <= set(warrant.groups):
        raise AccessDenied(
            f"{sender.name} has widened the limits that {origin.name} set for this task"
        )
    _check_groups(header, origin)
    if header.reach == Reach.GROUP and set(header.groups).isdisjoint(sender.groups):
        raise AccessDenied(f"{sender.name} is outside the groups that this task may not leave")
    return origin


def _read(header: CallHeader, origin: Member, trust: Trust, wall: float) -> Warrant:
    signed = header.warrant
    assert signed is not None
    if len(signed.payload) > MAX_WARRANT_BYTES:
        raise AccessDenied("a warrant is over its size limit")
    try:
        warrant = read_signed(signed, Warrant, "warrant")
    except IdentityError as error:
        raise AccessDenied(f"a warrant cannot be read: {error.message}") from error
    good = warrant.origin == origin.node and warrant.trace == header.trace
    if not good or not trust.verify(origin.key, Purpose.WARRANT, signed):
        raise AccessDenied(f"the warrant is not {origin.name}'s for this task")
    if warrant.expires + CLOCK_SKEW_S < wall:
        raise AccessDenied("the warrant for this task is over")
    return warrant


def _check_groups(header: CallHeader, origin: Member) -> None:
    """A task can be kept within groups of its origin, as its certificate has them."""
    if header.reach == Reach.GROUP and not set(header.groups) <= set(origin.groups):
        strange = sorted(set(header.groups) - set(origin.groups))
        raise AccessDenied(f"{origin.name} is not in the group {', '.join(strange)}")

"""The admission socket: this node's own door, and knocking at the doors of others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import zmq
from zmq.utils.monitor import parse_monitor_message

from mesh.core.admission import AdmissionDoor, check_presented
from mesh.core.clock import Now
from mesh.core.errors import GossamerError, IdentityError, PeerLost, WireError
from mesh.core.identity import Member, NodeKeys, Passport, Trust
from mesh.core.records import Endpoints
from mesh.core.wire import (
    MAX_ADMISSION_BYTES,
    AdmissionMessage,
    Admitted,
    Certified,
    Present,
    Refused,
    decode_admission,
    encode,
)
from mesh.net.backlog import Backlog
from mesh.net.pump import Pump
from mesh.net.sockets import admission_dialer, dialer, listener
from mesh.net.threshold import Threshold
from mesh.net.zap import ADMISSION_DOMAIN

KNOCK_TIMEOUT_S = 4.0
# Of all strangers together: each says one message of 4 KiB at a time, and 128 may be there.
DOOR_HELD_BYTES = 4 << 20


class Door:
    """The shell around :class:`~mesh.core.admission.AdmissionDoor`."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: NodeKeys,
        door: AdmissionDoor,
        now: Callable[[], Now],
        admitted: Callable[[Member], None],
        trouble: Callable[[str], None],
        keep: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``keep`` puts the desk's book on disk; raises :class:`ConfigError` when it cannot."""
        self._keep = keep
        self._keeping: set[asyncio.Task[None]] = set()
        self._door = door
        self._now = now
        self._admitted = admitted
        self._trouble = trouble
        self.counters: Counter[str] = door.counters
        self.incarnation = 0
        self.endpoints = Endpoints()
        self._socket = listener(context, keys, ADMISSION_DOMAIN, MAX_ADMISSION_BYTES)
        # Nobody stays here: whoever is connected counts as waiting, also after it has spoken.
        self._backlog = Backlog(self.counters, self._held_too_much, DOOR_HELD_BYTES)
        self._threshold = Threshold(self._socket, self.counters, trouble, self._backlog)
        self._pump: Pump | None = None

    @property
    def passport(self) -> Passport:
        """What is shown to who comes."""
        return self._door.passport

    @passport.setter
    def passport(self, passport: Passport) -> None:
        self._door.passport = passport

    def bind(self, address: str) -> str:
        """Listen; returns the address in use."""
        self._socket.bind(address)
        self._pump = Pump(self._socket, self._on_message)
        bound: str = self._socket.getsockopt(zmq.LAST_ENDPOINT).decode()  # type: ignore[union-attr]
        self._threshold.port = int(bound.rpartition(":")[2])
        return bound

    def _held_too_much(self, _: bytes, held: int) -> None:
        self._trouble(f"refused a stranger: {held >> 10} KiB came that could not be handed on")

    def _on_message(self, frames: list[zmq.Frame]) -> None:
        if len(frames) != 2:
            self.counters["admission_malformed"] += 1
            return
        route, payload = frames
        try:
            descriptor = int(payload.get(zmq.SRCFD))
            self._threshold.heard(descriptor)
            self._backlog.took(descriptor, len(payload))
            curve = bytes.fromhex(str(payload.get("User-Id")))
            message = decode_admission(payload.bytes)
        except (WireError, ValueError) as error:
            self.counters["admission_malformed"] += 1
            self._trouble(f"malformed frame at the admission socket: {error}")
            return
        reply, member = self._door.receive(
            message, curve, self.incarnation, self.endpoints, self._now()
        )
        if isinstance(reply, Refused):
            self._trouble(f"admission refused: {reply.reason}")
        if member is not None:
            self._admitted(member)
        if isinstance(reply, Certified) and self._keep is not None:
            # A use of an invitation is spent on disk before the certificate leaves.
            task = asyncio.create_task(self._keep_then_reply(route.bytes, reply, self._keep))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)
        elif reply is not None:
            self._reply(route.bytes, reply)

    async def _keep_then_reply(
        self, route: bytes, reply: Certified, keep: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            await keep()
        except GossamerError as error:
            self.counters["admission_not_kept"] += 1
            self._trouble(f"a certificate was not given: {error.sentence()}")
            self._reply(route, Refused(error.code, "the issuer's disk cannot be written"))
        else:
            self._reply(route, reply)

    def _reply(self, route: bytes, reply: AdmissionMessage) -> None:
        if self._pump is None:
            return
        try:
            self._socket.send_multipart([route, encode(reply)], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.counters["admission_reply_lost"] += 1
        self._pump.poke()

    def close(self) -> None:
        """Stop listening."""
        for task in self._keeping:
            task.cancel()
        self._threshold.close()
        self._backlog.close()
        if self._pump is not None:
            self._pump.close()
            self._pump = None
        else:
            self._socket.close(linger=0)


async def knock(
    context: zmq.Context[zmq.Socket[bytes]],
    keys: NodeKeys,
    passport: Passport,
    trust: Trust,
    incarnation: int,
    address: str,
    server_key: bytes,
    now: Callable[[], Now],
) -> tuple[Member, Endpoints]:
    """Exchange passports at the door at ``address`` (``tcp://host:port``).

    Returns the member behind the door and its lanes' endpoints. Raises
    :class:`IdentityError` when either side does not believe the other,
    :class:`PeerLost` when nobody answers.
    """
    message = Present(passport, incarnation)
    reply = await ask_door(context, keys, address, server_key, message)
    if not isinstance(reply, Admitted):
        raise WireError(f"{address} answered with something else than its passport")
    member = check_presented(trust, reply.passport, server_key, now())
    return member, Endpoints(control=reply.control, bulk=reply.bulk, admission=address)


async def ask_door(
    context: zmq.Context[zmq.Socket[bytes]],
    keys: NodeKeys,
    address: str,
    server_key: bytes,
    message: AdmissionMessage,
) -> AdmissionMessage:
    """The answer of the door at ``address``; raises :class:`IdentityError` when it refuses and
    :class:`PeerLost` when nobody who holds ``server_key`` answers."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def on_message(frames: list[zmq.Frame]) -> None:
        if not answer.done():
            answer.set_result(frames[-1].bytes)

    def on_event(frames: list[zmq.Frame]) -> None:
        backlog.opened(parse_monitor_message([frame.bytes for frame in frames])["value"])

    socket = admission_dialer(context, keys, server_key)
    # Whoever answers is a stranger as well: mDNS tells of anybody.
    backlog = Backlog(Counter(), lambda *_: None, DOOR_HELD_BYTES)
    monitor = Pump(socket.get_monitor_socket(zmq.EVENT_CONNECTED), on_event)
    pump = Pump(socket, on_message)
    try:
        socket.connect(address)
        socket.send(encode(message), zmq.NOBLOCK)
        pump.poke()
        async with asyncio.timeout(KNOCK_TIMEOUT_S):
            reply = decode_admission(await answer)
    except TimeoutError as error:
        raise PeerLost(
            f"nobody answered at {address} within {KNOCK_TIMEOUT_S:g} s",
            hint="is the node up, the port open, and its key the one in the seed?",
        ) from error
    except zmq.ZMQError as error:
        raise PeerLost(f"{address} cannot be dialled: {error}") from error
    finally:
        backlog.close()
        with suppress(zmq.ZMQError):  # a node that stops meanwhile has closed it
            socket.disable_monitor()
        monitor.close()
        pump.close()
    if isinstance(reply, Refused):
        raise IdentityError(f"{address} refused this node: {reply.reason}")
    return reply


async def shake_hands(
    context: zmq.Context[zmq.Socket[bytes]], keys: NodeKeys, address: str, server_key: bytes
) -> None:
    """Open a connection to a member's lane and close it; raises :class:`PeerLost` when none
    comes about. That the peer's gate refuses our key shows as well that it can be reached."""
    loop = asyncio.get_running_loop()
    shaken: asyncio.Future[None] = loop.create_future()

    def on_event(_: list[zmq.Frame]) -> None:
        if not shaken.done():
            shaken.set_result(None)

    socket = dialer(context, keys, server_key, MAX_ADMISSION_BYTES)
    events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    monitor = Pump(socket.get_monitor_socket(events), on_event)
    try:
        socket.connect(address)
        async with asyncio.timeout(KNOCK_TIMEOUT_S):
            await shaken
    except TimeoutError as error:
        raise PeerLost(f"nobody answered at {address} within {KNOCK_TIMEOUT_S:g} s") from error
    except zmq.ZMQError as error:
        raise PeerLost(f"{address} cannot be dialled: {error}") from error
    finally:
        socket.disable_monitor()
        monitor.close()
        socket.close(linger=0)


def describe(error: BaseException) -> str:
    """One line for a person."""
    return error.sentence() if isinstance(error, GossamerError) else str(error)

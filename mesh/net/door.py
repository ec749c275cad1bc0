"""The admission socket: this node's own door, and knocking at the doors of others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import zmq

from mesh.core.admission import AdmissionDoor, check_presented
from mesh.core.clock import Now
from mesh.core.errors import GossamerError, IdentityError, PeerLost, WireError
from mesh.core.identity import Member, NodeKeys, Passport, Trust
from mesh.core.records import Endpoints
from mesh.core.wire import (
    MAX_ADMISSION_BYTES,
    Admitted,
    Present,
    Refused,
    decode_admission,
    encode,
)
from mesh.net.pump import Pump
from mesh.net.sockets import admission_dialer, listener
from mesh.net.zap import ADMISSION_DOMAIN

KNOCK_TIMEOUT_S = 4.0


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
    ) -> None:
        self._door = door
        self._now = now
        self._admitted = admitted
        self._trouble = trouble
        self.counters: Counter[str] = door.counters
        self.incarnation = 0
        self.endpoints = Endpoints()
        self._socket = listener(context, keys, ADMISSION_DOMAIN, MAX_ADMISSION_BYTES)
        self._pump: Pump | None = None

    def bind(self, address: str) -> str:
        """Listen; returns the address in use."""
        self._socket.bind(address)
        self._pump = Pump(self._socket, self._on_message)
        return self._socket.getsockopt(zmq.LAST_ENDPOINT).decode()  # type: ignore[union-attr]

    def _on_message(self, frames: list[zmq.Frame]) -> None:
        if len(frames) != 2:
            self.counters["admission_malformed"] += 1
            return
        route, payload = frames
        try:
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
        if reply is not None:
            try:
                self._socket.send_multipart([route.bytes, encode(reply)], zmq.NOBLOCK)
            except zmq.ZMQError:
                self.counters["admission_reply_lost"] += 1
        if self._pump is not None:
            self._pump.poke()

    def close(self) -> None:
        """Stop listening."""
        if self._pump is not None:
            self._pump.close()
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
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def on_message(frames: list[zmq.Frame]) -> None:
        if not answer.done():
            answer.set_result(frames[-1].bytes)

    socket = admission_dialer(context, keys, server_key)
    pump = Pump(socket, on_message)
    try:
        socket.connect(address)
        socket.send(encode(Present(passport, incarnation)), zmq.NOBLOCK)
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
        pump.close()
    if isinstance(reply, Refused):
        raise IdentityError(f"{address} refused this node: {reply.reason}")
    if not isinstance(reply, Admitted):
        raise WireError(f"{address} answered with something else than its passport")
    member = check_presented(trust, reply.passport, server_key, now())
    return member, Endpoints(control=reply.control, bulk=reply.bulk, admission=address)


def describe(error: BaseException) -> str:
    """One line for a person."""
    return error.sentence() if isinstance(error, GossamerError) else str(error)

"""How sockets are made here: CURVE always, bounded in size, never lingering.

The defaults of libzmq that are changed, and why, stand at each option.
"""

from __future__ import annotations

import os
import socket as stdlib
from collections.abc import Collection

import zmq

from mesh.core.identity import NodeKeys
from mesh.core.wire import MAX_ADMISSION_BYTES

# libzmq counts the CURVE envelope (16-byte tag, 8-byte nonce, flags) towards the limit.
CURVE_OVERHEAD = 64
ANY_ROUTE = b"\0"  # routing ids made by libzmq begin with a zero byte


def _common(socket: zmq.Socket[bytes], limit: int) -> None:
    socket.linger = 0  # a peer that is gone must not hold up the end of this process
    socket.maxmsgsize = limit + CURVE_OVERHEAD  # default: unlimited
    socket.sndhwm = 1000
    socket.rcvhwm = 1000
    socket.setsockopt(zmq.HANDSHAKE_IVL, 5_000)  # half-open connections are dropped: 30 s is long
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.BACKLOG, 256)


def listener(
    context: zmq.Context[zmq.Socket[bytes]], keys: NodeKeys, domain: bytes, limit: int
) -> zmq.Socket[bytes]:
    """A ROUTER behind the gate's ``domain``, for frames of at most ``limit`` bytes."""
    socket = context.socket(zmq.ROUTER)
    _common(socket, limit)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.curve_secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, domain)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else what cannot be delivered vanishes
    # The dialler's heartbeats say that it lives; where they stop, the kernel asks (no packet is
    # sent on a link with traffic) and closes it after two minutes.
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 15)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 4)
    return socket


def dialer(
    context: zmq.Context[zmq.Socket[bytes]], keys: NodeKeys, server_key: bytes, limit: int
) -> zmq.Socket[bytes]:
    """A DEALER that will only speak to the holder of ``server_key`` (32 bytes)."""
    socket = context.socket(zmq.DEALER)
    _common(socket, limit)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.curve)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.curve_secret)
    # Heartbeats keep the mappings of a NAT alive and find a link that died under an idle peer.
    # Membership finds dead peers sooner, and one end of a link is enough: from both ends and
    # every five seconds they were most of what an idle node sent.
    socket.setsockopt(zmq.HEARTBEAT_IVL, 20_000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 45_000)
    socket.setsockopt(zmq.IMMEDIATE, 1)  # queue nothing for a link that is not up: we decide
    # The system's SYN retries double up to a minute apart: after a cut they would keep a link
    # down long after packets pass again.
    socket.setsockopt(zmq.CONNECT_TIMEOUT, 3_000)
    socket.setsockopt(zmq.RECONNECT_IVL, 200)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 5_000)  # default 0: hammers a dead peer for ever
    return socket


def cut_connection(descriptor: int, ports: Collection[int]) -> bool:
    """Shut down a connection of this process that libzmq holds, if it is one to ``ports`` (any,
    where none are given).

    libzmq sees its end and closes the descriptor. It may have closed it already and another
    connection may bear the number now: at worst a member's, which dials again by itself.
    """
    if descriptor < 0:
        return False
    try:
        with stdlib.socket(fileno=os.dup(descriptor)) as connection:
            if connection.family not in {stdlib.AF_INET, stdlib.AF_INET6}:
                return False
            if ports and connection.getsockname()[1] not in ports:
                return False
            connection.shutdown(stdlib.SHUT_RDWR)
    except OSError:
        return False  # closed in the meantime: what was wanted
    return True


def admission_dialer(
    context: zmq.Context[zmq.Socket[bytes]], keys: NodeKeys, server_key: bytes
) -> zmq.Socket[bytes]:
    """A DEALER for the door of a node that is not known yet."""
    socket = dialer(context, keys, server_key, MAX_ADMISSION_BYTES)
    socket.setsockopt(zmq.IMMEDIATE, 0)  # the first frame waits for the handshake
    return socket

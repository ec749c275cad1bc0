"""A flood from a process of its own: ``python -m benchmarks._flood KIND SECONDS KEY ADDRESS...``

Prints how many attempts it made, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sys
import time

import zmq

from mesh.core.identity import new_keys
from mesh.core.wire import MAX_ADMISSION_BYTES
from mesh.net.sockets import admission_dialer, dialer

AT_ONCE = 50
HALF_OPEN = 3000


def handshakes(seconds: float, key: bytes, addresses: list[str]) -> int:
    """CURVE handshakes with fresh unknown keys at the member sockets."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        batch = []
        for _ in range(AT_ONCE):
            one = dialer(context, new_keys(os.urandom), key, 1024)
            one.connect(addresses[made % len(addresses)])
            batch.append(one)
            made += 1
        time.sleep(0.05)
        for one in batch:
            one.close(0)
    context.destroy(0)
    return made


def knocks(seconds: float, key: bytes, addresses: list[str]) -> int:
    """Frames of nonsense from fresh keys at the admission socket."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        batch = []
        for _ in range(AT_ONCE):
            one = admission_dialer(context, new_keys(os.urandom), key)
            one.connect(addresses[0])
            for _ in range(4):
                one.send(b"\x01" + os.urandom(MAX_ADMISSION_BYTES - 100), zmq.NOBLOCK)
            batch.append(one)
            made += 1
        time.sleep(0.05)
        for one in batch:
            one.close(0)
    context.destroy(0)
    return made


def half_open(seconds: float, key: bytes, addresses: list[str]) -> int:
    """Thousands of TCP connections that say nothing and stay."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, HALF_OPEN + 256)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    count = min(HALF_OPEN, wanted - 128)
    places = [a.removeprefix("tcp://").rpartition(":") for a in addresses]
    held: list[socket.socket] = []
    ends = time.monotonic() + seconds
    for number in range(count):
        host, _, port = places[number % len(places)]
        with contextlib.suppress(OSError):
            held.append(socket.create_connection((host, int(port)), timeout=1))
        if time.monotonic() > ends:
            break
    time.sleep(max(0.0, ends - time.monotonic()))
    for one in held:
        one.close()
    return len(held)


KINDS = {"handshakes": handshakes, "knocks": knocks, "half_open": half_open}

if __name__ == "__main__":
    kind, seconds, key, *addresses = sys.argv[1:]
    print(json.dumps({"made": KINDS[kind](float(seconds), bytes.fromhex(key), addresses)}))

"""Strangers that connect and say nothing are few, and members get in past them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import zmq

from mesh.core.wire import Hello, encode
from mesh.net.sockets import dialer
from mesh.net.threshold import MAX_WAITING
from mesh.net.transport import MAX_ROUTES_OF_ONE
from tests.mesh.net.harness import Echo, fabric, header, knows, offer, until

NAME = "knowledge.gpt/echo"


@contextlib.contextmanager
def strangers(address: str, count: int, says: bytes = b"") -> Iterator[list[socket.socket]]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            made.append(socket.create_connection((host, int(port)), timeout=10))
            if says:
                with contextlib.suppress(OSError):
                    made[-1].sendall(says)
        yield made
    finally:
        for one in made:
            one.close()


def test_half_open_connections_are_bounded_and_members_still_come_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            offer(host, Echo(), NAME)
            extra = 40
            for address in (host.endpoints.control, host.endpoints.admission):
                with strangers(address, MAX_WAITING + extra):
                    counters = (
                        host.transport.counters
                        if address == host.endpoints.control
                        else host.door.counters
                    )
                    await until(
                        lambda c=counters: c["connections_cut_waiting"] >= extra,  # type: ignore[misc]
                        "the oldest are cut",
                    )
                    assert all(len(t) <= MAX_WAITING for t in host.transport._thresholds)
            assert psutil.Process().num_fds() < 1000
            guest = await mesh.node("guest", host)
            await until(lambda: knows(guest, host, NAME), "a member gets in")
            answer = guest.call(host.me.node, NAME, b"abc", header(guest))
            assert b"".join([m async for m in answer]) == b"abc"

    asyncio.run(scenario())


def test_a_plain_text_client_is_refused_counted_and_told_in_one_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            request = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n" + b"x" * 64
            null = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
            for says in (request, null):
                before = host.transport.counters["connections_unknown"]
                with strangers(host.endpoints.control, 1, says):
                    await until(
                        lambda b=before: host.transport.counters["connections_unknown"] > b,  # type: ignore[misc]
                        "it is counted",
                    )
            assert any("ended before it was a member's" in line for line in host.troubles)

    asyncio.run(scenario())


def test_a_member_cannot_use_up_the_descriptors_with_connections(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host = await mesh.node("host")
            guest = await mesh.node("guest", host)
            await until(lambda: host.core.member(guest.me.node), "they meet")
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            links = []
            for _ in range(12):
                link = dialer(context, guest.keys, host.keys.curve, 1024)
                link.setsockopt(zmq.RECONNECT_IVL, -1)
                link.setsockopt(zmq.IMMEDIATE, 0)
                link.connect(host.endpoints.control)
                links.append(link)
                link.send(encode(Hello(guest.me.node, guest.incarnation)))
            await until(lambda: host.transport.counters["connections_cut"] >= 8, "some are cut")
            routes = list(host.transport._node_of_route[0].values())
            assert routes.count(guest.me.node) <= MAX_ROUTES_OF_ONE
            context.destroy(linger=0)

    asyncio.run(scenario())

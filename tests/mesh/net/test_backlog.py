"""What comes and cannot be handed on is bounded over all connections: who holds most is cut."""

from __future__ import annotations

import asyncio
import os
import socket as stdlib
import sys
from collections import Counter
from pathlib import Path

import pytest
import zmq

from benchmarks._hose import Hose
from mesh.core.identity import new_keys
from mesh.core.wire import MAX_ADMISSION_BYTES
from mesh.net import backlog as module
from mesh.net.backlog import Backlog, received_bytes, wire_bytes
from mesh.net.sockets import admission_dialer, dialer
from tests.mesh.net.harness import Echo, fabric, until
from tests.mesh.net.test_node import collect, pair

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_INFO is Linux's")


@linux
def test_the_kernel_tells_what_came_over_a_connection() -> None:
    with (
        stdlib.create_server(("127.0.0.1", 0)) as server,
        stdlib.create_connection(server.getsockname()) as client,
        server.accept()[0] as here,
    ):
        assert received_bytes(here.fileno()) == 0
        client.sendall(b"x" * 5000)
        assert len(here.recv(5000, stdlib.MSG_WAITALL)) == 5000
        assert received_bytes(here.fileno()) == 5000
        client.sendall(b"still open")
        assert here.recv(10, stdlib.MSG_WAITALL) == b"still open"
    assert received_bytes(-1) == -1
    with Path(os.devnull).open() as no_socket:
        assert received_bytes(no_socket.fileno()) == -1


class FakeKernel:
    """Says what came over connections that do not exist."""

    def __init__(self) -> None:
        self.came: dict[int, int] = {}
        self.cut: list[int] = []

    def cut_connection(self, descriptor: int, ports: object) -> bool:
        self.cut.append(descriptor)
        return True


@pytest.mark.parametrize(
    ("came", "taken", "cut"),
    [
        ({1: 500, 2: 400}, {}, []),  # together at the bound
        ({1: 501, 2: 500}, {}, [1]),
        ({1: 300, 2: 900, 3: 600}, {}, [2]),
        ({1: 800, 2: 900, 3: 700}, {}, [2, 1]),
        ({1: 5000, 2: 900}, {1: 4900}, []),  # it was handed on
        ({1: 100, 2: 1200}, {1: 5000}, [2]),  # no credit for what another took
        ({1: -1, 2: 800}, {}, []),  # not told
    ],
)
def test_who_holds_most_is_cut_until_the_rest_is_within_the_bound(
    came: dict[int, int], taken: dict[int, int], cut: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        kernel = FakeKernel()
        monkeypatch.setattr(module, "cut_connection", kernel.cut_connection)
        monkeypatch.setattr(module, "wire_bytes", lambda message: message)
        told: list[int] = []
        watch = Backlog(Counter(), lambda node, _: told.append(node[0]), 1000, came.__getitem__)
        for descriptor in came:
            watch.opened(descriptor)
            watch.spoke(descriptor, bytes([descriptor]))
        for descriptor, size in taken.items():
            watch.took(descriptor, size)
        assert watch.look() <= 1000
        assert kernel.cut == told == cut
        watch.close()

    asyncio.run(scenario())


def test_a_number_that_another_connection_bears_now_brings_nothing_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(module, "cut_connection", lambda *_: True)
        told: list[bytes] = []
        watch = Backlog(Counter(), lambda node, _: told.append(node), 1000, lambda _: 2000)
        watch.spoke(7, b"honest", b"route 1")  # its first message overtook the monitor's word
        watch.opened(7)
        watch.took(7, 1500, b"route 1")
        assert watch.look() < 1000  # what it said before the monitor's word still counts
        watch.opened(7)
        watch.took(7, 1500, b"route 1")  # the last of the old connection
        watch.look()
        assert told == [b""]  # nobody is blamed for a connection that never spoke
        watch.close()

    asyncio.run(scenario())


@linux
def test_whole_messages_that_were_handed_on_count_for_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Echo())
            for size in (0, 100, 300, 70_000):
                assert await collect(guest, host, b"x" * size) == b"x" * size
            # Handshakes and heartbeats, and nothing of what was said.
            assert 0 < host.transport.backlog.look() < 20_000
            assert 0 < guest.transport.backlog.look() < 20_000

    asyncio.run(scenario())


@linux
@pytest.mark.parametrize("who", ["member", "stranger"])
def test_a_message_without_an_end_is_cut_before_it_fills_the_memory(
    tmp_path: Path, who: str
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            host, guest = await pair(mesh, Echo())
            context = zmq.Context()
            if who == "member":
                watched, size = host.transport.backlog, 60_000
                watched._most_bytes = 4 << 20
                hose = Hose(host.endpoints.control, 8 << 20)
                link = dialer(context, guest.keys, host.keys.curve, 65536)
                link.setsockopt(zmq.IMMEDIATE, 0)
                counters = host.transport.counters
            else:
                size = MAX_ADMISSION_BYTES - 100
                hose = Hose(host.endpoints.admission, 8 << 20)
                link = admission_dialer(context, new_keys(os.urandom), host.keys.curve)
                counters = host.door.counters
            link.connect(hose.address)
            part = os.urandom(size)
            link.send_multipart([part] * ((16 << 20) // size))
            try:
                await until(lambda: counters["connections_cut_backlog"], "it is cut")
            finally:
                hose.close()
            assert any("could not be handed on" in line for line in host.troubles)
            assert await collect(guest, host) == b"abc"  # nobody else is disturbed
            context.destroy(linger=0)

    asyncio.run(scenario())


def test_what_a_message_takes_on_the_wire() -> None:
    assert wire_bytes(0) == 35
    assert wire_bytes(222) == 257
    assert wire_bytes(223) == 265

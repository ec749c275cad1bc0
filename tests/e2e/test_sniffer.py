"""Whoever reads the wire reads nothing: every packet of a working mesh, captured and searched."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import running_mesh, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CONTROL = b"knowledge.gpt/arithmetic in the clear"
ALL_PROTOCOLS = socket.htons(0x0003)  # ETH_P_ALL, linux/if_ether.h


@contextmanager
def captured_loopback() -> Iterator[list[bytes]]:
    """Every packet on the loopback interface while the block runs."""
    packets: list[bytes] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ALL_PROTOCOLS) as wire:
        wire.bind(("lo", 0))
        wire.settimeout(0.2)
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                try:
                    packets.append(wire.recv(1 << 16))
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield packets
        finally:
            over.set()
            thread.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read a whole interface")
def test_a_packet_capture_holds_no_word_of_what_is_said(tmp_path: Path) -> None:
    """Prompts, answers, names, node names and load figures, on every link of a mesh that starts,
    gossips, answers and streams. A control shows that the capture would have seen them."""
    with captured_loopback() as packets:
        with running_mesh(tmp_path) as mesh:
            text = mesh.ask("What is 48 * 27 and what is Gossamer?")["text"]
            mesh.ask("How busy is this machine?")
            ports = {
                int(address.rpartition(":")[2])
                for name in ("desk", "abacus", "tally", "gauge")
                for address in mesh.fetch(name, "status")["endpoints"].values()
            }
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as plain,
        ):
            plain.sendall(CONTROL)
            taken, _ = server.accept()
            with taken:
                taken.recv(100)
        until(lambda: any(CONTROL in packet for packet in packets), "the capture sees plain text")
    # Ethernet header 14, IPv4 header 20: the TCP ports follow.
    mine = [p for p in packets if {int.from_bytes(p[34:36]), int.from_bytes(p[36:38])} & ports]
    spoken = b"".join(mine)
    assert len(mine) > 100
    assert len(spoken) > 20_000
    answers = {word.encode() for word in re.findall(r"[A-Za-z]{6,}", text)}
    words = {b"48 * 27", b"48*27", b"What is", b"1296", b"gpt/", b"arithmetic", b"knowledge"}
    words |= {b"machine", b"memory", b"load_per_core", b"abacus", b"tally", b"gauge", *answers}
    heard = {word for word in words if word in spoken}
    assert not heard

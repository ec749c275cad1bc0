"""What systemd hears of an agent."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

from agents.boards.watchdog import Notifier, watched


def heard(server: socket.socket) -> list[str]:
    found = []
    server.setblocking(False)
    while True:
        try:
            found.append(server.recv(4096).decode())
        except BlockingIOError:
            return found


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    return server


def test_without_systemd_nothing_is_told() -> None:
    notifier = Notifier({})
    assert not notifier.tell("READY=1")
    assert notifier.watchdog_s == 0


def test_a_dead_socket_does_not_end_the_agent(tmp_path: Path) -> None:
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    values = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert Notifier(values).watchdog_s == 0
    values["WATCHDOG_PID"] = str(os.getpid())
    assert Notifier(values).watchdog_s == 3.0


def test_the_heart_beats_while_the_loop_turns_and_stops_when_it_hangs(tmp_path: Path) -> None:
    with listening(tmp_path / "notify") as server:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000"})

        async def live() -> tuple[int, int]:
            async with watched(notifier):
                notifier.tell("READY=1", "STATUS=desk")
                await asyncio.sleep(0.05)
                turning = heard(server).count("WATCHDOG=1")
                time.sleep(0.1)  # noqa: ASYNC251 - a loop that hangs
                return turning, heard(server).count("WATCHDOG=1")

        turning, hanging = asyncio.run(live())
        assert turning >= 1
        assert hanging == 0
        assert "STOPPING=1" in heard(server)

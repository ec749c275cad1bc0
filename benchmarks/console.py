"""The console: start to first paint, and what it costs to watch. `python -m benchmarks.console`.

The whole command `gossamer console` runs on a pseudo-terminal of 80 by 24 characters. The agent is
a scripted door in a process of its own (`_console_target`): 64 nodes, all of which change at every
event, twice a second. First paint is when the first node's name has reached the terminal. The CPU
share is of one core, of the console's process alone, over the given time. `gossamer top` is
measured beside it in the same way.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks._report import Options, progress, run

NODES = 64
HZ = 2.0
ROWS, COLUMNS = 24, 80
SETTLE_S = 3.0  # after a key, until the view has been drawn and what is read once is read
GIVE_UP_S = 60.0
KEYS = {"mesh": b"1", "nodes": b"2", "names": b"3", "chat": b"4"}


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, command: list[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        os.close(slave)
        self.bytes = 0

    def read(self, until_s: float, word: bytes = b"") -> float:
        """Read until ``word`` comes or the time is over; seconds since the start, -1 without."""
        seen = b""
        until = time.perf_counter() + until_s
        while (left := until - time.perf_counter()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                break
            try:
                data = os.read(self._master, 65536)
            except OSError:
                break
            self.bytes += len(data)
            seen = (seen + data)[-262144:]
            if word and word in seen:
                return time.perf_counter() - self.began
        return -1.0

    def press(self, key: bytes) -> None:
        """Type a key."""
        os.write(self._master, key)

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def end(self) -> None:
        """End the command."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


def command(*args: str) -> list[str]:
    """The command line of this environment."""
    return [sys.executable, "-m", "agents.faces.cli", *args]


def first_paint(state: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds from the start of the process to the first node on the terminal, and CPU seconds
    until then; the first round fills the disk's cache and does not count."""
    found, cpu = [], []
    for number in range(rounds + 1):
        terminal = Terminal(command("console", "--state", str(state)))
        try:
            took = terminal.read(GIVE_UP_S, b"node-")
            spent = terminal.cpu_s()
        finally:
            terminal.end()
        if took < 0:
            raise RuntimeError("the console never drew a node")
        if number:
            found.append(took)
            cpu.append(spent)
    return found, cpu


def share(terminal: Terminal, for_s: float) -> dict[str, float]:
    """CPU share of one core and bytes a second to the terminal."""
    cpu, sent, began = terminal.cpu_s(), terminal.bytes, time.perf_counter()
    terminal.read(for_s)
    took = time.perf_counter() - began
    return {
        "cpu_share": round((terminal.cpu_s() - cpu) / took, 4),
        "bytes_per_s": round((terminal.bytes - sent) / took),
    }


def measure(options: Options) -> dict[str, Any]:
    """First paint, then the share of each view, then `top`."""
    for_s = 5.0 if options.quick else options.more.seconds
    rounds = 3 if options.quick else 10
    with tempfile.TemporaryDirectory(prefix="gossamer-console-") as folder:
        state = Path(folder)
        args = [str(state), str(NODES), str(HZ), str(options.seed)]
        target = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._console_target", *args], stdout=subprocess.PIPE
        )
        try:
            assert target.stdout is not None
            target.stdout.readline()
            paints, spent = first_paint(state, rounds)
            progress(f"first paint {statistics.median(paints):.2f} s")
            terminal = Terminal(command("console", "--state", str(state)))
            try:
                terminal.read(GIVE_UP_S, b"node-")
                views = {}
                for name, key in KEYS.items():
                    terminal.press(key)
                    terminal.read(SETTLE_S)
                    views[name] = share(terminal, for_s)
                    progress(f"{name}: {views[name]}")
                memory = psutil.Process(terminal.process.pid).memory_info().rss / 2**20
            finally:
                terminal.end()
            top = Terminal(command("top", "--every", str(1 / HZ), "--state", str(state)))
            try:
                top_paint = top.read(GIVE_UP_S, b"node-")
                top.read(SETTLE_S)
                top_share = share(top, for_s)
                top_memory = psutil.Process(top.process.pid).memory_info().rss / 2**20
            finally:
                top.end()
        finally:
            target.terminate()
            target.wait()
    return {
        "nodes": NODES,
        "hz": HZ,
        "first_paint_s": {
            "median": round(statistics.median(paints), 3),
            "max": round(max(paints), 3),
            "cpu_s": round(statistics.median(spent), 3),
            "rounds": rounds,
        },
        "views": views,
        "mb": round(memory, 1),
        "load_average": round(os.getloadavg()[0], 1),
        "peers": [
            {
                "name": "gossamer top",
                "first_paint_s": round(top_paint, 3),
                "mb": round(top_memory, 1),
                **top_share,
            }
        ],
    }


def _extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="to watch each view")


if __name__ == "__main__":
    run(__doc__ or "", measure, _extend)

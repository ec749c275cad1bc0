"""A mosquitto of one's own, on a free port of this machine: for demonstrations, benchmarks, tests.

Not for a home: there the distribution's service runs it. Its sessions live on disk, so it can be
stopped, killed and started again under the feet of its clients.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path

from mesh.core.errors import ConfigError, GossamerError

START_S = 10.0
STOP_S = 120.0  # a busy machine takes its time to save a long queue; killed, it would lose it
LOG_LINES = 5
SBIN = "/usr/sbin/mosquitto"  # Debian's place, which the PATH of users lacks


def mosquitto() -> str | None:
    """Where the program is, None when it is not installed."""
    return shutil.which("mosquitto") or (SBIN if Path(SBIN).exists() else None)


class LocalBroker:
    """Started and stopped as often as one likes; the port and what it keeps stay."""

    def __init__(self, folder: Path, *, port: int = 0, extra: tuple[str, ...] = ()) -> None:
        program = mosquitto()
        if program is None:
            raise ConfigError(
                "mosquitto is not installed", hint="apt install mosquitto, or name your own broker"
            )
        self._program = program
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        listener = (
            ()
            if any(line.startswith("listener") for line in extra)
            else (f"listener {self.port} {self.host}",)
        )
        anonymous = (
            ()
            if any(line.startswith("allow_anonymous") for line in extra)
            else ("allow_anonymous true",)
        )
        self._config = folder / "mosquitto.conf"
        self._log = folder / "mosquitto.log"
        lines = [
            "per_listener_settings false",
            *listener,
            *anonymous,
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1800",
            # Its defaults drop what comes for an absent client beyond 1,000 messages.
            "max_queued_messages 0",
            "max_inflight_messages 256",
            "set_tcp_nodelay true",
            f"log_dest file {self._log}",
            *extra,
        ]
        if not any(line.startswith("user ") for line in extra):
            lines.append("user root")  # no other user may read this folder; ignored unless root
        self._config.write_text("\n".join(lines) + "\n")

    @property
    def config_file(self) -> Path:
        """For who runs the program in a place of its own, such as a network namespace."""
        return self._config

    @property
    def pid(self) -> int:
        """Of the process that runs, 0 when none does."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Run until it listens; raises :class:`GossamerError` with what it says."""
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return
            time.sleep(0.02)
        self.kill()
        raise GossamerError(f"mosquitto did not start: {self.last_lines()}")

    def stop(self) -> None:
        """In order: what it keeps is written."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """At once: what it kept in memory is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def last_lines(self) -> str:
        """The end of its log."""
        try:
            return " | ".join(self._log.read_text().splitlines()[-LOG_LINES:])
        except OSError:
            return "it left no log"


def free_port() -> int:
    """A TCP port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""What systemd is told: ready, alive, stopping (sd_notify's protocol, man 3 sd_notify).

The heartbeat is a task of the event loop: a loop that hangs sends none, and the unit's
WatchdogSec ends and restarts the agent. Without systemd all of it does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping

BEATS = 3.0  # per interval of the watchdog: two may be lost


class Notifier:
    """The socket in NOTIFY_SOCKET, where there is one."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        values = os.environ if environment is None else environment
        self._address = values.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # an abstract socket
            self._address = "\0" + self._address[1:]
        # The variable counts for the process that it names; a child inherits it all the same.
        mine = values.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
        text = values.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(text) / 1e6 if mine and text.isdecimal() else 0.0

    def tell(self, *facts: str) -> bool:
        """Send ``READY=1`` and the like; False where nobody listens."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(facts).encode(), self._address)
        except OSError:
            return False
        return True

    async def beat(self) -> None:
        """Tell that the loop turns, for as long as the task lives."""
        while self.watchdog_s > 0:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / BEATS)


@contextlib.asynccontextmanager
async def watched(notifier: Notifier) -> AsyncIterator[Notifier]:
    """Heartbeats while the block runs, and STOPPING when it ends."""
    task = asyncio.create_task(notifier.beat())
    try:
        yield notifier
    finally:
        notifier.tell("STOPPING=1")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

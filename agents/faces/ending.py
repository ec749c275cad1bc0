"""Signals that end a command which has started agents: they take the same way out as Ctrl-C.

A command that SIGTERM, or the SIGHUP of a closed terminal, ends at once leaves its agents behind.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def orderly() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit within the block; for the main thread.

    One that is ignored, as SIGHUP is under ``nohup``, stays so.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _exit)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP wait until the block is left.

    Raised within ``Popen``, between the fork and the assignment, they would leave a process that
    nobody knows of. They are not blocked: the child would inherit that, and never be ended by one.
    """
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in arrived:
            signal.raise_signal(number)


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)

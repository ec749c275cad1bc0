"""Whether anybody sets this machine's clock: the kernel knows (adjtimex, Linux)."""

from __future__ import annotations

import ctypes
import sys

TIME_ERROR = 5  # <sys/timex.h>: the clock is not synchronised
TIMEX_BYTES = 512  # more than struct timex has on any architecture; all zero: only look


def is_unsynchronised() -> bool:
    """True where the kernel says that no NTP client keeps the clock; False where it cannot say."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return False
    answer: int = adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    return answer == TIME_ERROR

"""What every test shares: reproducible properties, and no process left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import HealthCheck, settings

# Two shared cores: how long an example takes says nothing about the code. A failing example
# is printed with what reproduces it.
settings.register_profile(
    "gossamer",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gossamer")

# A shell's background job begins with Ctrl-C ignored, and its children with it: what tests it would
# wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_HELPERS = ("resource_tracker", "forkserver")  # multiprocessing's own; they end with the run


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    """Every process that a test starts is gone when the tests of this worker are over."""
    yield
    left = []
    for child in psutil.Process().children(recursive=True):
        try:
            command = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        if command and not any(helper in command for helper in _HELPERS):
            left.append(command)
            child.kill()
    assert not left, f"tests left processes behind: {left}"

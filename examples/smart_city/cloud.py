"""The stand-in for a provider's cloud: OpenAI's API on loopback with a real model, no provider.

It writes ``{"url": ..., "billed": [[prompt, completion], ...]}`` to a file, so that the bill can be
held against the budget's own book.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from benchmarks._stand_in import KEY, StandIn, running

LOOK_S = 0.1


def main(file: Path, key_file: Path) -> None:
    """Serve until the process ends."""
    key_file.touch(mode=0o600)
    key_file.write_text(KEY)
    wait = threading.Event()
    with running(StandIn(model="air_quality")) as server:
        told = -1
        while not wait.wait(LOOK_S):
            if len(server.billed) != told:
                told = len(server.billed)
                beside = file.with_suffix(".new")
                beside.write_text(json.dumps({"url": server.url, "billed": server.billed}))
                beside.replace(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""One decoder under libFuzzer, guided by the coverage of our own Python code (atheris).

    python -m benchmarks._coverage wire.decode SECONDS SEED CORPUS_DIRECTORY REPORT_FILE

An input that reaches a new branch joins the corpus and is mutated further: half of the time by
libFuzzer, half by the structure-aware changes of :mod:`benchmarks.fuzz`. msgspec's own branches
are C and not seen, but its errors say where in the schema they arose: each wording counts as a
branch as well. Nothing stops at the first finding: each is written to the report, which is
renewed every second, since libFuzzer ends the process its own way.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path

import atheris  # type: ignore[import-not-found, unused-ignore]
import psutil

with atheris.instrument_imports(include=["mesh", "agents", "capabilities"]):
    from benchmarks.fuzz import TARGETS, mutate
    from mesh.core.errors import GossamerError

_NUMBER = re.compile(r"(?:byte |got |of )\d+|'[^']*'|\d{3,}")  # what differs without a branch
WORDINGS = 2048  # of errors that are told apart, by their hash
MAX_INPUT = 4096  # bytes; branches of our own lie within the first hundreds
WARM_S = 5.0  # memory is compared with what it was by then: imports and caches are full
RSS_LIMIT_MB = 1024  # libFuzzer ends the run above it, which then is a finding


def _branches(count: int) -> list[Callable[[], None]]:
    """Functions that do nothing but be seen by the coverage."""
    made: dict[str, Callable[[], None]] = {}
    exec("\n".join(f"def f{n}(): pass" for n in range(count)), made)
    return [atheris.instrument_func(made[f"f{n}"]) for n in range(count)]


class Run:
    """What one run saw."""

    def __init__(self, name: str, seconds: float, report: Path) -> None:
        self.target = TARGETS[name]
        self.report = report
        self.branches = _branches(WORDINGS)
        self.seconds = seconds
        self.tried = self.accepted = 0
        self.found: dict[str, dict[str, str]] = {}
        self.began = self.told = time.monotonic()
        self.process = psutil.Process()
        self.warm_mb = 0.0

    def one(self, data: bytes) -> None:
        """Decode one input, and keep what no decoder may raise."""
        self.tried += 1
        try:
            self.target.decode(data)
        except GossamerError as error:
            wording = _NUMBER.sub("", f"{error.message} {error.__cause__}"[:200])
            self.branches[zlib.crc32(wording.encode()) % WORDINGS]()
        except Exception as error:  # this is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} at {where.filename}:{where.lineno}"
            self.found.setdefault(key, {"error": repr(error)[:200], "input": data[:4096].hex()})
        else:
            self.accepted += 1
        now = time.monotonic()
        if now - self.told > 1.0:
            self.tell(now)

    def tell(self, now: float) -> None:
        """Write the report as it is now."""
        self.told = now
        memory_mb = self.process.memory_info().rss / 2**20
        if now - self.began < min(WARM_S, self.seconds / 2) or not self.warm_mb:
            self.warm_mb = memory_mb
        self.report.write_text(
            json.dumps(
                {
                    "seconds": round(now - self.began, 1),
                    "cpu_s": round(time.process_time(), 1),  # less on a busy machine
                    "tried": self.tried,
                    "accepted": self.accepted,
                    "found": list(self.found.values())[:20],
                    "grown_mb": round(memory_mb - self.warm_mb, 1),
                }
            )
        )


def main(name: str, seconds: float, seed: int, corpus: Path, report: Path) -> None:
    """Run until the time is over; libFuzzer exits the process."""
    run = Run(name, seconds, report)
    rng = random.Random(seed)
    corpus.mkdir(parents=True, exist_ok=True)
    others = [run.target.make(rng)[:MAX_INPUT] for _ in range(100)]
    for valid in others:
        (corpus / hashlib.sha256(valid).hexdigest()[:16]).write_bytes(valid)

    def change(data: bytes, max_size: int, number: int) -> bytes:
        own = random.Random(number)
        if own.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        return mutate(data, own, others)[:max_size]

    options = [
        f"-max_total_time={int(seconds)}",
        f"-max_len={MAX_INPUT}",
        f"-seed={seed}",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        "-reduce_inputs=1",
        "-timeout=10",
        "-verbosity=0",
        "-print_final_stats=0",
        f"-artifact_prefix={report.parent}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], run.one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    name, seconds, seed, corpus, report = sys.argv[1:]
    main(name, float(seconds), int(seed), Path(corpus), Path(report))

"""What all benchmarks share: their command line, the machine, and the one object they print."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LIBRARIES = ("gossamer-mesh", "llama-cpp-python", "numpy", "pyzmq", "msgspec", "cryptography")


@dataclass(frozen=True)
class Options:
    """`quick` asks for a short form; `out`, when given, is the folder for raw samples and plots.

    `more` holds the arguments that the benchmark itself added.
    """

    quick: bool
    out: Path | None
    seed: int
    more: argparse.Namespace


def progress(text: str) -> None:
    """A line for whoever watches; standard output is for the result alone."""
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """CPU, cores this process may use, memory in MB, and the versions that matter."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_name(),
        "cores": cores,
        "memory_mb": round(memory_bytes / 2**20),
        "system": platform.system(),
        "versions": versions,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def run(
    description: str,
    measure: Callable[[Options], dict[str, Any]],
    extend: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Parse the command line, measure, print one JSON object last on standard output.

    `measure` returns the figures and, when something was measured beside them, `peers`.
    `extend` may add arguments of its own.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="on one line, for programs")
    parser.add_argument("--quick", action="store_true", help="a short form, for CI")
    parser.add_argument("--out", type=Path, default=None, help="folder for raw samples and plots")
    parser.add_argument("--seed", type=int, default=20_260)
    if extend:
        extend(parser)
    given = parser.parse_args()
    options = Options(given.quick, given.out, given.seed, given)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    figures = measure(options)
    result = {
        **figures,
        "machine": machine(),
        "seed": options.seed,
        "elapsed_s": round(time.monotonic() - started, 1),
        "peers": figures.get("peers", []),
    }
    print(json.dumps(result, indent=None if given.json else 2))

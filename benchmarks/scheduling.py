"""Who does it, and when the cloud: one frame over the parts that each measure some of the keys.

python -m benchmarks.scheduling --json
python -m benchmarks.scheduling --only article,staleness --quick
python -m benchmarks.scheduling --trace arrivals.csv --trace other.jsonl --out figures
python -m benchmarks.scheduling --only overhead_ms --litellm-python other/bin/python
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._report import Options, progress, run

# Key of the figure to the module that measures it; a module has PARTS: key to function.
MODULES = {
    "article": "benchmarks._scheduling_sim",
    "predictive": "benchmarks._scheduling_sim",
    "to_bound": "benchmarks._scheduling_sim",
    "staleness": "benchmarks._scheduling_sim",
    "slow_node": "benchmarks._scheduling_sim",
    "turned_slow": "benchmarks._scheduling_sim",
    "sim_vs_real": "benchmarks._scheduling_real",
    "budget": "benchmarks._scheduling_budget",
    "no_cloud": "benchmarks._scheduling_no_cloud",
    "overhead_ms": "benchmarks._http_overhead",
}

Part = Callable[[Options], dict[str, Any]]


def extend(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--only", default="", help=f"of {', '.join(MODULES)}; by commas")
    parser.add_argument(
        "--trace", type=Path, action="append", default=[], help="an arrival trace; may be repeated"
    )
    parser.add_argument("--seeds", type=int, default=0, help="20, or 3 with --quick")
    parser.add_argument(
        "--litellm-python",
        type=Path,
        default=None,
        help="the interpreter of an environment with litellm[proxy], measured beside a hop",
    )


def measure(options: Options) -> dict[str, Any]:
    """Every part that was asked for, one after another."""
    wanted = [key for key in options.more.only.split(",") if key] or list(MODULES)
    unknown = [key for key in wanted if key not in MODULES]
    if unknown:
        raise SystemExit(f"--only: there is no {unknown[0]!r}; there are {', '.join(MODULES)}")
    figures: dict[str, Any] = {}
    for key in wanted:
        progress(f"{key} ...")
        part: Part = importlib.import_module(MODULES[key]).PARTS[key]
        figures[key] = part(options)
    return figures


if __name__ == "__main__":
    run(
        "Scheduling: cost, latency and robustness, in simulation and on a real mesh.",
        measure,
        extend,
    )

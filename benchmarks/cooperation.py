"""The three cooperations: one frame over the parts that each measure some of the keys.

python -m benchmarks.cooperation --json
python -m benchmarks.cooperation --only knowledge --quick
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from typing import Any

from benchmarks._report import Options, progress, run

# Key of the figures to the module that measures them: measure(quick=, seed=) gives its object.
MODULES = {
    "knowledge": "benchmarks._cooperation_knowledge",
    "computation": "benchmarks._cooperation_computation",
    "data": "benchmarks._cooperation_data",
    "documents": "benchmarks._cooperation_documents",
}


def extend(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--only", default="", help=f"of {', '.join(MODULES)}; by commas")


def measure(options: Options) -> dict[str, Any]:
    """Every part that was asked for, one after another."""
    wanted = [key for key in options.more.only.split(",") if key] or list(MODULES)
    unknown = [key for key in wanted if key not in MODULES]
    if unknown:
        raise SystemExit(f"--only: there is no {unknown[0]!r}; there are {', '.join(MODULES)}")
    figures: dict[str, Any] = {}
    for key in wanted:
        if importlib.util.find_spec(MODULES[key]) is None:
            figures[key] = None
            figures.setdefault("missing", {})[key] = f"there is no {MODULES[key]}"
            continue
        progress(f"{key} ...")
        module = importlib.import_module(MODULES[key])
        figures[key] = module.measure(quick=options.quick, seed=options.seed)
    return figures


if __name__ == "__main__":
    run("Cooperation: knowledge, computation, data and long documents.", measure, extend)

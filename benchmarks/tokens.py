"""Token-level cooperation: one model on two machines, and drafts that a bigger model checks.

python -m benchmarks.tokens --json
python -m benchmarks.tokens --only identity,bytes --quick
python -m benchmarks.tokens --only quality --prompts 60
python -m benchmarks.tokens --model mine.gguf --exits mine.exits.gguf --at 8 --at 16
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import _tokens_drafts as drafts
from benchmarks import _tokens_split as halves
from benchmarks._report import Options, progress, run
from benchmarks._tokens_clients import clients
from benchmarks._tokens_setup import Model, cases_of, cut
from capabilities.slm.embedded import embedded_models
from capabilities.slm.training.exits import exits_of

PARTS = (
    "identity",
    "bytes",
    "order",
    "crossover",
    "quality",
    "clients",
    "link_cut",
    "segment_bitwise",
    "speculative",
)
FULL = {
    "identity": 200,
    "bytes": 10,
    "order": 4,
    "crossover": 2,
    "quality": 200,
    "speculative": 8,
}
QUICK = {"identity": 4, "bytes": 1, "order": 1, "crossover": 1, "quality": 4, "speculative": 1}


def extend(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--only", default="", help=f"of {', '.join(PARTS)}; by commas")
    parser.add_argument("--prompts", type=int, help="at most so many for each part")
    parser.add_argument("--name", default="arithmetic", help="an embedded model with early exits")
    parser.add_argument("--model", type=Path, help="a GGUF of your own")
    parser.add_argument("--exits", type=Path, help="its exit heads")
    parser.add_argument("--at", type=int, action="append", help="after so many layers is an exit")


def measure(options: Options) -> dict[str, Any]:
    """Every part that was asked for, one after another."""
    wanted = [key for key in options.more.only.split(",") if key] or list(PARTS)
    if unknown := [key for key in wanted if key not in PARTS]:
        raise SystemExit(f"--only: there is no {unknown[0]!r}; there are {', '.join(PARTS)}")
    sizes = QUICK if options.quick else FULL
    most = options.more.prompts or max(sizes.values())
    sizes = {key: min(size, most) for key, size in sizes.items()}
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(options, wanted, sizes, Path(folder)))


async def _measure(
    options: Options, wanted: list[str], sizes: dict[str, int], folder: Path
) -> dict[str, Any]:
    model, name = _model(options, folder)
    figures: dict[str, Any] = {"model": name, "trained_exits": model.trained_exits}
    cases = cases_of(name, max(sizes.values()), options.seed)
    spent: dict[str, float] = {}
    figures["elapsed_by_part_s"] = spent
    for key in wanted:
        progress(f"{key} ...")
        began, known = time.monotonic(), set(figures)
        some = cases[: sizes.get(key, 16)]
        match key:
            case "identity":
                figures[key] = await halves.identity(model, some)
            case "bytes":
                figures[key] = await halves.byte_counts(model, some)
            case "order":
                figures |= await halves.order(model, some, paced=True)
                unpaced = await halves.order(model, some[:2], paced=False)
                figures["order_unpaced"] = unpaced["order"]
            case "crossover":
                figures |= await halves.crossover(model, some)
            case "quality":
                figures[key] = await halves.quality(model, some)
            case "clients":
                figures[key] = await clients(model, some)
            case "link_cut":
                figures[key] = await halves.link_cut(model, some)
            case "segment_bitwise":
                figures[key] = halves.segment_bitwise(quick=options.quick)
            case "speculative":
                figures[key] = await drafts.measure(model, some)
        spent[key] = round(time.monotonic() - began, 1)
        # Whoever ends it early keeps what was measured.
        progress(f"  {json.dumps({k: v for k, v in figures.items() if k not in known})}")
    return figures


def _model(options: Options, folder: Path) -> tuple[Model, str]:
    more = options.more
    name, path = more.name, more.model
    if path is None:
        path = embedded_models()[name].path
    exits = more.exits or path.with_name(f"{path.stem}.exits.gguf")
    if not exits.exists():
        raise SystemExit(f"{path.name} has no exit heads beside it; give --exits")
    at = more.at or list(exits_of(exits))
    segments = cut(path, exits, at, folder)
    second = segments[1] if len(segments) > 2 else None
    return Model(path, segments[0], second, segments[-1], trained_exits=True), name


if __name__ == "__main__":
    run("Token-level cooperation between two machines.", measure, extend)

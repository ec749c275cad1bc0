"""Token-level cooperation: one model on two machines, and drafts that a bigger model checks.

python -m benchmarks.tokens --json
python -m benchmarks.tokens --only identity,bytes --quick
python -m benchmarks.tokens --only quality --prompts 60
python -m benchmarks.tokens --model mine.gguf --only identity,bytes,quality,clients --prompts 20
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
from benchmarks._tokens_setup import Case, Model, cases_of, cut, own_cases
from capabilities.segments import questions
from capabilities.segments.files import METHOD, layers_of
from capabilities.segments.fitting import Wish, make_exits, thirds
from capabilities.slm import header
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
# Answers that exits are made from where none are given: the last one can be sure with so many.
FITTING, CALIBRATING = 120, 240
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
    parser.add_argument("--exits", type=Path, help="its exit heads (else they are made, quickly)")
    parser.add_argument("--questions", type=Path, help="to ask it, one a line (else everyday ones)")
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
    model, figures = await _model(options, folder)
    cases = _cases(options, max(sizes.values()))
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


def _cases(options: Options, most: int) -> list[Case]:
    more = options.more
    if more.questions is not None:
        odd, even = questions.of_file(more.questions.read_text(), more.questions.name)
        return own_cases([*odd, *even][:most])
    if more.model is not None:
        return own_cases(questions.drawn(questions.ASKING, most, options.seed))
    return cases_of(more.name, most, options.seed)


async def _model(options: Options, folder: Path) -> tuple[Model, dict[str, Any]]:
    """The model, cut, and what is to be said of its exits."""
    more = options.more
    path = more.model or embedded_models()[more.name].path
    beside = path.with_name(f"{path.stem}.exits.gguf")
    exits = more.exits or (beside if beside.exists() else None)
    trained = exits is not None and METHOD not in header.read(exits).scalars
    figures: dict[str, Any] = {"model": path.stem, "trained_exits": trained}
    if exits is None:
        at = tuple(sorted(set(more.at or thirds(layers_of(path)))))
        exits = folder / "made.exits.gguf"
        began = time.monotonic()
        wish = Wish(at=at, fitting=FITTING, calibrating=CALIBRATING, seed=options.seed)
        progress(f"exits after {at}, fitted on {FITTING} answers ...")
        made = await make_exits(path, wish, exits, threads=1)
        figures["made_exits"] = {
            "elapsed_s": round(time.monotonic() - began, 1),
            "fitted_on_tokens": made.rows,
            "exits": [one.facts() for one in made.exits],
        }
        progress(f"  {json.dumps(figures['made_exits'])}")
    segments = cut(path, exits, more.at or list(exits_of(exits)), folder)
    second = segments[1] if len(segments) > 2 else None
    return Model(path, segments[0], second, segments[-1], trained), figures


if __name__ == "__main__":
    run("Token-level cooperation between two machines.", measure, extend)

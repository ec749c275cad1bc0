"""The engine beside llama.cpp's own server: `python -m benchmarks.engine --json`.

Speed is measured on synthetic models (random weights in a real model's shape), all sides with
the same file, threads and context, alternating. The engine is asked through its worker
process, the peers through HTTP on loopback, each as its users reach it. What is right or wrong
(schemas, canaries, batch against alone) is measured on the trained models of the package.
One call measures everything; each part has a time limit, and what it had found by then counts.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import _engine_right as right
from benchmarks import _engine_speed as speed
from benchmarks._engine_setup import Setup
from benchmarks._report import Options, progress, run
from capabilities.slm import synth
from capabilities.slm.machine import cores

# Seconds after which a part is given up, and about what it takes on two quiet cores.
LIMITS_S = {
    "batch_equals_solo": (300, 10),
    "leaks": (900, 60),
    "overfull": (60, 1),
    "cancel_steps": (60, 1),
    "schema_valid": (600, 30),
    "crash": (120, 3),
    "evidence_overhead": (300, 10),
    "prefix_hit": (600, 60),
    "overlap": (600, 60),
    "speed": (3600, 0),
}
QUICK_LIMIT_S = 180
T = TypeVar("T")


def measure(options: Options) -> dict[str, Any]:
    """All figures of the engine."""
    more = options.more
    setup = Setup(
        quick=options.quick,
        seed=options.seed,
        shape="tiny" if options.quick else more.like,
        threads=more.threads or cores(),
        rounds=1 if options.quick else more.rounds,
        tokens=8 if options.quick else more.tokens,
        repacked=not more.safe,
        server=more.server,
        peers=tuple(more.peers),
    )
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        models = _models(more.models or Path(scratch), setup)
        main = models["q8_0"]
        parts: dict[str, Callable[[], Any]] = {
            "batch_equals_solo": lambda: right.batch_equals_solo(setup),
            "leaks": lambda: right.leaks(setup),
            "overfull": lambda: right.overfull(setup),
            "cancel_steps": lambda: right.cancel_steps(setup),
            "schema_valid": lambda: right.schema_valid(setup),
            "crash": lambda: asyncio.run(_limited(speed.recovery(setup), setup)),
            "evidence_overhead": lambda: right.evidence_overhead(main, setup),
            "prefix_hit": lambda: right.prefix_hit(main, setup),
            "overlap": lambda: asyncio.run(_limited(speed.overlap(main, setup), setup)),
            "speed": lambda: asyncio.run(_limited(speed.speed(models, setup, found), setup)),
        }
        wanted = [name for name in parts if not more.only or name in more.only]
        _tell(wanted, main, setup)
        for number, name in enumerate(wanted, 1):
            setup.until = time.monotonic() + _limit_s(name, setup)
            value = _take(f"[{number}/{len(wanted)}] {name}", parts[name])
            if name != "speed" or value is not None:
                found[name] = value
    crash = found.pop("crash", None)
    if isinstance(crash, tuple):
        found["crash_recovery_s"], found["lost_without_error"] = crash
    elif crash is not None:
        found["crash_recovery_s"] = crash
    names = ("xllamacpp", "llama_cpp_python")
    found["peers"] = [{"name": name, "version": _version(name)} for name in names]
    return found


def _models(folder: Path, setup: Setup) -> dict[str, Path]:
    models = {}
    for quant in ("q8_0", "q4_k"):
        models[quant] = folder / f"synthetic-{setup.shape}-{quant}.gguf"
        if not models[quant].exists():
            progress(f"writing random weights in the shape of {setup.shape}, {quant}")
            synth.write(models[quant], setup.shape, quant, seed=setup.seed)
    return models


def _limit_s(name: str, setup: Setup) -> float:
    return QUICK_LIMIT_S if setup.quick else LIMITS_S[name][0]


def _tell(wanted: list[str], model: Path, setup: Setup) -> None:
    """How long it will take, before it begins."""
    seconds = 0.0 if setup.quick else float(sum(LIMITS_S[name][1] for name in wanted))
    if "speed" in wanted:
        seconds += speed.estimate_s(model, setup)
    most = sum(_limit_s(name, setup) for name in wanted)
    progress(
        f"{len(wanted)} parts, about {max(1, round(seconds / 60))} min on quiet cores, "
        f"at most {round(most / 60)} min"
    )


def _take(name: str, work: Callable[[], Any]) -> Any:
    begin = time.monotonic()
    progress(f"{name} ...")
    try:
        value = work()
    except Exception as error:  # a figure that is missing is said, and the others still come
        value = f"failed: {type(error).__name__}: {error}"
    progress(f"{name}: {'done' if value is None else value} ({time.monotonic() - begin:.0f} s)")
    return value


async def _limited(work: Awaitable[T], setup: Setup) -> T:
    async with asyncio.timeout(setup.left_s):
        return await work


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _extend(parser: Any) -> None:
    parser.add_argument("--models", type=Path, default=None, help="keep the synthetic models here")
    parser.add_argument("--like", default="qwen2.5-0.5b", help="the shape for speed")
    parser.add_argument("--threads", type=int, default=0, help="on all sides; 0: all cores")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, the best counts")
    parser.add_argument("--tokens", type=int, default=24, help="of each answer, for speed")
    parser.add_argument("--safe", action="store_true", help="no repacked weights, on all sides")
    parser.add_argument(
        "--server",
        type=Path,
        default=None,
        help="a llama-server built as this machine's llama.cpp was, for a second comparison",
    )
    parser.add_argument(
        "--peers", nargs="*", default=["xllamacpp", "server"], choices=["xllamacpp", "server"]
    )
    parser.add_argument("--only", nargs="*", default=[], choices=list(LIMITS_S), help="some parts")


if __name__ == "__main__":
    run("The engine beside llama.cpp's own server.", measure, _extend)

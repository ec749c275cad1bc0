"""The corpus of each decoder: the fewest inputs that reach every branch that fuzzing reached.

One file per decoder in ``tests/fuzz/corpus``, one input a line, in hexadecimal. The tests feed
it to the decoders, and a coverage-guided run begins from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "fuzz" / "corpus"
OURS = tuple(f"{ROOT / package}/" for package in ("mesh", "capabilities", "agents"))
MAX_KEPT_BYTES = 1024  # a longer input shows no other branch, and the repository is for people

Arc = tuple[str, int, int]


def read(name: str) -> list[bytes]:
    """The kept inputs of a decoder, none if there are none yet."""
    path = FOLDER / f"{name}.txt"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, decode: Callable[[bytes], object], inputs: Iterable[bytes]) -> int:
    """Keep the fewest of ``inputs`` and of those kept before; returns how many those are."""
    known = {*read(name), *(data for data in inputs if len(data) <= MAX_KEPT_BYTES)}
    kept = smallest(decode, known)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.txt").write_text("".join(f"{data.hex()}\n" for data in kept))
    return len(kept)


def smallest(decode: Callable[[bytes], object], inputs: Iterable[bytes]) -> list[bytes]:
    """A small set with every arc of ``inputs``, chosen greedily: the shortest inputs first."""
    reached: set[Arc] = set()
    kept = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        arcs = arcs_of(decode, data)
        if not arcs <= reached:
            reached |= arcs
            kept.append(data)
    return kept


def arcs_of(decode: Callable[[bytes], object], data: bytes) -> set[Arc]:
    """The steps from line to line of our own code that decoding ``data`` takes, and what
    comes out."""
    arcs: set[Arc] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        last = frame.f_code.co_firstlineno

        def step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event in {"line", "exception"}:
                arcs.add((frame.f_code.co_filename, last, frame.f_lineno))
                last = frame.f_lineno
            return step

        return step

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        outcome = type(decode(data)).__name__
    except Exception as error:  # whether it may be raised is not asked here
        outcome = type(error).__name__
    finally:
        sys.settrace(before)
    return arcs | {(outcome, 0, 0)}

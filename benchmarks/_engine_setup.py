"""What the parts of `benchmarks.engine` are told."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

CONTEXT = 4096


@dataclass(slots=True)
class Setup:
    """One run: ``repacked`` weights or not on all sides, ``server`` another llama-server."""

    quick: bool
    seed: int
    shape: str
    threads: int
    rounds: int
    tokens: int  # of an answer
    repacked: bool
    server: Path | None = None
    peers: tuple[str, ...] = ("xllamacpp", "server")
    until: float = field(default=float("inf"))  # monotonic: the part under way is given up then

    def check(self) -> None:
        """Raise TimeoutError when the part under way has had its time."""
        if time.monotonic() > self.until:
            raise TimeoutError("given up after its time limit")

    @property
    def left_s(self) -> float:
        """Seconds that the part under way still has."""
        return max(0.0, self.until - time.monotonic())


def prompt_of(rng: random.Random, size: int) -> str:
    """Letters and spaces, so that no two prompts share a beginning."""
    return "".join(rng.choice("abcdefghij klmnop") for _ in range(size))

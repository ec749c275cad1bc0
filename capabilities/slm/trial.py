"""The first decode of a model, before anybody depends on it: does it compute, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from capabilities.slm import llama
from capabilities.slm.evidence import calibrate, measure
from mesh.core.errors import ModelError

TEXT = "The quick brown fox jumps over the lazy dog. 12 + 30 = 42."
PROMPT_TOKENS = 32
STEPS = 8  # single-token steps that measure the decode rate
ENOUGH_S = 1.0  # and the time after which a slow machine has shown enough


@dataclass(frozen=True, slots=True)
class Trial:
    """Rates in tokens/s of one stream, and the zero of the model's evidence."""

    prefill: float = 0.0
    decode: float = 0.0
    shift: float = 0.0


def generate(
    context: llama.Context,
    batch: llama.Batch,
    vocab: llama.Vocab,
    *,
    room: int,
    clock: Callable[[], float],
) -> Trial:
    """Decode a sentence and a few tokens in sequence 0, which is empty before and after.

    Raises :class:`~mesh.core.errors.ModelError` when the model computes no numbers.
    """
    tokens = vocab.tokenize(TEXT, special=False, add_special=True)
    prompt = (tokens or [0])[: min(batch.size, PROMPT_TOKENS)]
    rows: list[llama.Floats] = []

    def run(piece: list[int], position: int) -> float:
        batch.clear()
        batch.add(piece, position, 0, outputs=1)
        begin = clock()
        code = context.decode(batch)
        if code:
            raise ModelError(f"the model's first decode failed (code {code})")
        logits = context.logits(1)
        measure(logits, shift=0.0)  # part of every step, so part of the rate
        rows.append(logits[0].copy())
        return max(clock() - begin, 1e-9)

    prefill_s = run(prompt, 0)
    spent, steps = 0.0, 0
    while steps < STEPS and spent < ENOUGH_S and len(prompt) + steps < room:
        spent += run([int(rows[-1].argmax())], len(prompt) + steps)
        steps += 1
    context.forget(0)
    if not np.isfinite(rows[-1]).all():
        raise ModelError("the model computes no numbers: its weights are damaged")
    return Trial(
        prefill=len(prompt) / prefill_s,
        decode=steps / spent if spent else 0.0,
        shift=calibrate(np.stack(rows)),
    )

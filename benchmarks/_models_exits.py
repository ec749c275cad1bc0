"""Early exits: how sure each is of the tokens that the whole model writes, and how often it agrees.

The whole model answers held-out questions; each exit, as a model of its own (the blocks before it
with its head), then reads the same tokens. Confidence is the largest probability over the whole
vocabulary at temperature one, as in CE-CoLLM.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from benchmarks._greedy import Greedy
from capabilities.slm.training import general
from capabilities.slm.training.chat import Example
from capabilities.slm.training.exits import cut_at_exit, exits_of

THRESHOLD = 0.8  # CE-CoLLM's default
_CONTEXT = 1024


def measure(model: Path, exits: Path, loaded: Greedy, count: int, seed: int) -> dict[str, Any]:
    """`exits.<number>`: share of confident tokens, agreement, agreement where confident."""
    rng = random.Random(seed)
    examples = [general.held_out_any(rng) for _ in range(count)]
    prompts = [loaded.prompt(messages(e)) for e in examples]
    replies = loaded.replies(prompts)
    whole = _read(model, prompts, replies)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in exits_of(exits):
            cut = Path(folder) / f"exit{number}.gguf"
            cut_at_exit(model, exits, number, cut)
            rows = _read(cut, prompts, replies)
            confident = np.array([best >= THRESHOLD for _, best in rows])
            agrees = np.array(
                [mine == full for (mine, _), (full, _) in zip(rows, whole, strict=True)]
            )
            figures[str(number)] = {
                "confident_share": round(float(confident.mean()), 4),
                "agreement": round(float(agrees.mean()), 4),
                "agreement_where_confident": (
                    round(float(agrees[confident].mean()), 4) if confident.any() else None
                ),
                "tokens": len(rows),
            }
    return figures


def messages(example: Example) -> list[dict[str, str]]:
    """The chat of an example, its answer left out."""
    turns = [{"role": "system", "content": example.system}] if example.system else []
    for question, answer in example.history:
        turns += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    return [*turns, {"role": "user", "content": example.question}]


def _read(
    path: Path, prompts: Sequence[list[int]], replies: Sequence[list[int]]
) -> list[tuple[int, float]]:
    """The likeliest token and its probability at every place where a reply's token is chosen."""
    model = llama_cpp.Llama(
        str(path), n_ctx=_CONTEXT, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )
    found: list[tuple[int, float]] = []
    for prompt, reply in zip(prompts, replies, strict=True):
        model.reset()
        model.eval([*prompt, *reply])
        logits = np.array(model.scores[len(prompt) - 1 : len(prompt) + len(reply) - 1])
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        best = odds.max(axis=1) / odds.sum(axis=1)
        found += zip(logits.argmax(axis=1).tolist(), best.tolist(), strict=True)
    model.close()
    return found

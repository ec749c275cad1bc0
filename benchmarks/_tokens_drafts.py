"""Drafts that a bigger model checks: nothing lost, fewer of its passes, and sooner where chosen.

The drafter is the first segment of the checking model with its exit (self-drafting), which every
split model has; n-grams draft beside it. Times are taken with engines at a pace.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.drafting import MeshChecker
from benchmarks._link import Shape
from benchmarks._report import progress
from benchmarks._tokens_setup import (
    CLOUD_TOKEN_S,
    EDGE_TOKEN_S,
    LINK_BITS_PER_S,
    Case,
    Model,
    Pace,
    ends_of,
    mesh_of_two,
    rendered,
)
from capabilities.drafting.accepting import distribution
from capabilities.drafting.capability import VerifyCapability
from capabilities.drafting.drafters import Drafter, ModelDrafter, NgramDrafter
from capabilities.drafting.lengths import LENGTHS, Lengths
from capabilities.drafting.speculating import Count, Speculator, Wish
from capabilities.segments.choosing import Sampling
from capabilities.segments.farewells import Farewells
from capabilities.segments.passes import Passes
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Settings

FIXED = 4  # tokens of a draft where the length is not learnt
MAX_TOKENS = 100
SAMPLES = 1500
SAMPLED = Sampling(temperature=1.0, top_k=8)
# Round trips over which the choice is looked at, in seconds: loopback, the reference, far away.
LINKS = {"loopback": None, "link": 0.002, "far": 0.2}


@dataclass
class Pair:
    """Both sides, running."""

    checker: VerifyCapability
    whole: ModelHost
    small: ModelHost
    way: MeshChecker
    small_passes: Passes
    whole_passes: Passes
    ends: set[int]
    farewells: list[Farewells] = field(default_factory=list)  # not waited for by answers

    def speculator(
        self, drafter: Callable[[], Drafter], lengths: Lengths | None = None
    ) -> Speculator:
        return Speculator(drafter, self.way, vocab_hash=self.small.info.vocab_hash, lengths=lengths)

    def own(self) -> Drafter:
        return ModelDrafter(self.small_passes, random.Random(7))

    async def alone(self, prompt: list[int], most: int = MAX_TOKENS) -> list[int]:
        """What the checking model says, at its pace."""
        said: list[int] = []
        given, position = prompt, 0
        for _ in range(most):
            found = await self.whole_passes.forward(
                "alone", position, given, timeout_s=30, logprobs=1
            )
            position += len(given)
            given = [found.logprobs[-1][0][0]]
            if given[0] in self.ends:
                break
            said += given
        await self.whole_passes.drop_sequence("alone", timeout_s=30)
        return said


@contextlib.asynccontextmanager
async def pair(model: Model, *, paced: bool, link: Shape | None) -> AsyncIterator[Pair]:
    """A drafting and a checking agent, and the link between them."""
    settings = Settings(slots=1, context_tokens=2048, threads=1, prefix_tokens=0, sequences=6)
    whole, small = ModelHost(model.whole, settings), ModelHost(model.first.path, settings)
    edge_layers = model.second.range.last if model.second else model.first.range.last
    whole_passes: Passes = whole
    small_passes: Passes = small
    if paced:
        whole_passes = Pace(whole, model.layers, CLOUD_TOKEN_S / model.layers)
        small_passes = Pace(small, model.first.range.last, EDGE_TOKEN_S / edge_layers)
    checker = VerifyCapability(whole, "whole", passes=whole_passes, rng=random.Random(3))
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await asyncio.gather(whole.start(), small.start())
        stack.push_async_callback(whole.stop)
        stack.push_async_callback(small.stop)
        _, edge, _ = await mesh_of_two(stack, folder, checker, link)
        way = MeshChecker(edge.port, "whole")
        ends = await ends_of(whole, model.whole)
        both = Pair(checker, whole, small, way, small_passes, whole_passes, ends)
        yield both
        await asyncio.gather(*(one.done() for one in both.farewells))


async def _said(
    it: Pair, speculator: Speculator, prompt: list[int], count: Count, **wish: Any
) -> list[int]:
    options = Wish(max_tokens=MAX_TOKENS, ends=tuple(it.ends), **wish)
    words = speculator.generate(prompt, options, ends=it.ends.__contains__, count=count)
    said = [word.token async for word in words]
    it.farewells.append(speculator.farewells)
    return said


async def lossless(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    """Greedy answers against the checking model's, and sampled first tokens against its own."""
    same = passes = tokens = 0
    async with pair(model, paced=False, link=None) as it:
        for case in cases:
            prompt = await rendered(it.whole, case)
            expected = await it.alone(prompt)
            for drafter in (it.own, NgramDrafter):
                count = Count()
                said = await _said(it, it.speculator(drafter), prompt, count, length=FIXED)
                same += said == expected
                if drafter is not NgramDrafter:
                    passes, tokens = passes + count.passes, tokens + max(1, count.tokens)
        p_value = await _chi_square(it, await rendered(it.whole, cases[0]))
    return {
        "lossless": same == 2 * len(cases),
        "answers": 2 * len(cases),
        "p_value": p_value,
        "verifier_passes": round(passes / tokens, 4),
    }


async def _chi_square(it: Pair, prompt: list[int]) -> float:
    """Second tokens of sampled answers: the first is fixed by the prompt's end."""
    found = await it.whole.forward("d", 0, prompt, timeout_s=10, logprobs=SAMPLED.wants)
    await it.whole.drop_sequence("d", timeout_s=10)
    expected = distribution(found.logprobs[-1], SAMPLED)
    speculator, seen = it.speculator(it.own), Counter[int]()
    for _ in range(SAMPLES):
        words = speculator.generate(
            prompt,
            Wish(max_tokens=2, length=1, sampling=SAMPLED, ahead=False),
            ends=lambda token: False,
        )
        said = [word.token async for word in words]
        seen[said[0]] += 1
    # Cells that expect fewer than five are taken together, as the test demands.
    rare = [token for token, share in expected.items() if share * SAMPLES < 5]
    cells = [(seen[t], s * SAMPLES) for t, s in expected.items() if t not in rare]
    if rare:
        cells.append((sum(seen[t] for t in rare), sum(expected[t] for t in rare) * SAMPLES))
    cells = [(o, e) for o, e in cells if e > 0]
    chi = sum((observed - wanted) ** 2 / wanted for observed, wanted in cells)
    return round(_survival(chi, max(1, len(cells) - 1)), 4)


def _survival(chi: float, freedom: int) -> float:
    """P(X >= chi) of the chi-square distribution, by the series of the incomplete gamma."""
    a, x = freedom / 2, chi / 2
    if x <= 0:
        return 1.0
    term = total = 1.0 / a
    for k in range(1, 1000):
        term *= x / (a + k)
        total += term
        if term < total * 1e-12:
            break
    return max(0.0, 1.0 - total * math.exp(-x + a * math.log(x) - math.lgamma(a)))


async def speedups(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    """Seconds of drafted answers against the checking model streaming over the same link."""
    figures: dict[str, Any] = {}
    loop = asyncio.get_running_loop()
    for name, round_trip_s in LINKS.items():
        shape = None
        if round_trip_s is not None:
            shape = Shape(bits_per_s=LINK_BITS_PER_S, delay_s=round_trip_s / 2)
        spent: dict[str, float] = {"alone": 0.0, "fixed": 0.0, "learnt": 0.0}
        lengths = Lengths()
        chosen: Counter[int] = Counter()
        async with pair(model, paced=True, link=shape) as it:
            prompts = [await rendered(it.whole, case) for case in cases]
            for prompt in prompts:  # it learns over answers, and these do not count
                await _said(it, it.speculator(it.own, lengths), prompt, Count())
            for prompt in prompts:
                began = loop.time()
                await it.alone(prompt)
                spent["alone"] += loop.time() - began + (round_trip_s or 0.0)
                began = loop.time()
                await _said(it, it.speculator(it.own), prompt, Count(), length=FIXED)
                spent["fixed"] += loop.time() - began
                count = Count()
                began = loop.time()
                await _said(it, it.speculator(it.own, lengths), prompt, count)
                spent["learnt"] += loop.time() - began
                chosen.update(count.lengths)
        figures[name] = {
            "speedup": round(spent["alone"] / spent["learnt"], 4),
            "speedup_fixed": round(spent["alone"] / spent["fixed"], 4),
            "drafts_of": {str(length): chosen[length] for length in LENGTHS if chosen[length]},
            "settled_on": lengths.best,
        }
        progress(f"  {name}: {figures[name]}")
    return figures


async def measure(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    """Everything about drafts."""
    found = await lossless(model, cases)
    fast = await speedups(model, cases[: max(1, len(cases) // 4)])
    return {
        **found,
        "speedup_loopback": fast["loopback"]["speedup"],
        "speedup_link": fast["link"]["speedup"],
        "links": fast,
    }

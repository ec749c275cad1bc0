"""Many answers at once over one pair of halves, against each alone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from benchmarks._tokens_setup import Bench, Case, Model, running
from benchmarks._tokens_split import PATIENT_S, THETA, TIE, Answers, first_other, rows_of
from capabilities.segments.accounts import FAR, Account
from capabilities.segments.edge import Said
from capabilities.slm.protocol import Block


async def clients(model: Model, cases: Sequence[Case], count: int = 16) -> dict[str, Any]:
    """Many answers at once against each alone.

    A step of many computes in another order than a step of one, so an answer may part where two
    tokens, or confidence and threshold, are as good as equal; anywhere else it is a defect.
    """
    async with running(model, paced=False, link=None, streams=count) as bench:
        answers = Answers(bench, await bench.ends())
        prompts = [await bench.render(case) for case in cases[:count]]
        bench.fresh_switch()
        alone = [await answers.ask(p, theta=THETA, max_tokens=40) for p in prompts]
        accounts = [Account() for _ in prompts]
        together = await asyncio.gather(
            *(
                answers.ask(p, theta=THETA, max_tokens=40, account=a)
                for p, a in zip(prompts, accounts, strict=True)
            )
        )
        gaps = []
        for prompt, mine, other in zip(prompts, together, alone, strict=True):
            if [s.token for s in mine] != [s.token for s in other]:
                gaps.append(await _closest(bench, prompt, mine, other))
        rows_ok = all(a.far_rows <= a.prompt_tokens + a.tokens - 1 for a in accounts)
    return {
        "same_tokens": all(gap < TIE for gap in gaps),
        "parted_at_a_tie": sum(gap < TIE for gap in gaps),
        "parted_elsewhere": sum(gap >= TIE for gap in gaps),
        "gaps": [round(gap, 5) for gap in gaps],
        "degraded": sum(a.degraded for a in accounts),
        "rows_ok": rows_ok,
        "clients": len(prompts),
    }


async def _closest(
    bench: Bench, prompt: list[int], mine: Sequence[Said], other: Sequence[Said]
) -> float:
    """How near two answers were to being alike, where they first differ: the smallest distance
    between two best logits, or of a confidence to the threshold, over all who may have spoken."""
    at = first_other([said.token for said in mine], [said.token for said in other])
    tokens = [*prompt, *(said.token for said in mine[:at])]
    edge, found = bench.edge, []
    first = await edge.first.forward(
        "tie",
        0,
        tokens,
        timeout_s=PATIENT_S,
        logprobs=2,
        want_rows=True,
        layer=edge.layers - 1,
        all_rows=True,
    )
    await edge.first.drop_sequence("tie", timeout_s=PATIENT_S)
    found.append((first.logprobs[-1], edge.calibrations[0]))
    if edge.second is not None:
        assert first.rows is not None
        block = Block(
            rows=len(tokens), width=edge.width, data=rows_of(first.rows).astype("<f4").tobytes()
        )
        second = await edge.second.forward("tie", 0, block, timeout_s=PATIENT_S, logprobs=2)
        await edge.second.drop_sequence("tie", timeout_s=PATIENT_S)
        found.append((second.logprobs[-1], edge.calibrations[1]))
    whole = await bench.whole.forward("tie", 0, tokens, timeout_s=PATIENT_S, logprobs=2)
    await bench.whole.drop_sequence("tie", timeout_s=PATIENT_S)
    makers = {said.by for said in (*mine[at : at + 1], *other[at : at + 1])}
    gaps = [abs(one.confidence(best[0][1]) - THETA) for best, one in found if len(makers) > 1]
    heads = dict(zip(("exit 1", "exit 2"), (best for best, _ in found), strict=False))
    heads[FAR] = whole.logprobs[-1]
    gaps += [heads[by][0][1] - heads[by][1][1] for by in makers if by in heads]
    return min(gaps, default=math.inf)

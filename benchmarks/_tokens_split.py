"""CE-CoLLM on layer segments: identity, bytes, order of times, quality, clients, a cut link."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._link import Shape
from benchmarks._report import progress
from benchmarks._tokens_setup import (
    CLOUD_TOKEN_S,
    LINK_BITS_PER_S,
    PAPER_WIDTH,
    Bench,
    Case,
    Model,
    Pace,
    running,
)
from capabilities.segments.accounts import FAR, Account, bytes_naive, bytes_once
from capabilities.segments.check import verify
from capabilities.segments.edge import CHUNK_BYTES, Asked, Said
from capabilities.segments.files import layers_of, ranges_at, split
from capabilities.segments.messages import Chosen, Close, Infer, Missing, Open, Upload
from capabilities.segments.rows import Floats, pack, payload
from capabilities.segments.switching import ALONE, Rules
from capabilities.slm import synth
from capabilities.slm.protocol import Block
from capabilities.slm.quantize import quantize

ZERO_TOKENS = 20  # of an answer that the first exit gives alone: each leaves there or not
THETA = 0.8  # CE-CoLLM's default
MAX_TOKENS = 100  # as in the paper
TELL_EVERY = 10  # answers
TIE = 0.01  # of two best logits: half precision may choose the other
ROUND_TRIPS_MS = (0, 2, 5, 10, 20, 40, 70, 100)
# Who speaks must not hang on how busy this machine is: nothing switches by time or cost, and no
# token is given up. Only a cut link is looked at with the times of daily use.
PATIENT_S = 120.0
QUANTIZATIONS = ("f32", "f16", "q8_0", "q4_0", "q4_k_m")
# The paper's figures, beside ours (requirements 2.1).
PAPER = {
    "time_saved": [0.0419, 0.1381],
    "cloud_compute_saved": [0.6952, 0.8453],
    "requests_per_token": [0.2773, 0.4958],
}


class Answers:
    """Asks one pair of halves, and remembers where an answer ends."""

    def __init__(self, bench: Bench, ends: set[int]) -> None:
        self.bench, self.ends = bench, ends

    async def ask(
        self, prompt: list[int], *, account: Account | None = None, **asked: Any
    ) -> list[Said]:
        """The tokens of an answer."""
        options = Asked(**{"max_tokens": MAX_TOKENS, "infer_s": PATIENT_S, **asked})
        account = account or Account()
        stream = self.bench.edge.generate(
            prompt, options, ends=self.ends.__contains__, account=account
        )
        return [said async for said in stream]

    async def whole(
        self, prompt: list[int], most: int = MAX_TOKENS
    ) -> tuple[list[int], list[float]]:
        """What the whole model says, and how far apart its two best logits were each time."""
        said: list[int] = []
        gaps: list[float] = []
        given, position = prompt, 0
        for _ in range(most):
            found = await self.bench.whole.forward("w", position, given, timeout_s=30, logprobs=2)
            (token, first), (_, second) = found.logprobs[-1][:2]
            position += len(given)
            gaps.append(first - second)
            if token in self.ends:
                break
            said.append(token)
            given = [token]
        await self.bench.whole.drop_sequence("w", timeout_s=30)
        return said, gaps


async def identity(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    """Greedy answers with a threshold that no exit reaches, against the whole model's."""
    async with running(model, paced=False, link=None) as bench:
        answers = Answers(bench, await bench.ends())
        same32 = same16 = ties = other = leaves = tokens = 0
        for case in cases:
            prompt = await bench.render(case)
            said, gaps = await answers.whole(prompt)
            bench.fresh_switch()
            f32 = [s.token for s in await answers.ask(prompt, theta=1.1, dtype="f32")]
            f16 = [s.token for s in await answers.ask(prompt, theta=1.1)]
            zero = await answers.ask(prompt, theta=0.0, max_tokens=ZERO_TOKENS)
            same32 += f32 == said
            same16 += f16 == said
            if f16 != said:
                at = first_other(f16, said)
                close = at < len(gaps) and gaps[at] < TIE
                ties, other = ties + close, other + (not close)
            leaves += sum(s.by == "exit 1" for s in zero)
            tokens += len(zero)
    return {
        "theta_above_1": same32 / len(cases),
        "theta_above_1_f16": same16 / len(cases),
        "f16_parted_at_a_tie": ties,
        "f16_parted_elsewhere": other,
        "theta_0": leaves / tokens if tokens else None,
        "prompts": len(cases),
    }


async def byte_counts(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    """Payload against the formulas, for every run; rows that nobody waits for any more may stay."""
    async with running(model, paced=False, link=None) as bench:
        answers = Answers(bench, await bench.ends())
        width, equal, runs, left = bench.edge.width, True, 0, 0
        once = naive = 0
        for case in cases:
            prompt = await bench.render(case)
            for theta in (0.0, THETA, 1.1):
                bench.fresh_switch()
                account = Account()
                await answers.ask(prompt, theta=theta, account=account, beside=False)
                expected = bytes_once(len(prompt), account.tokens, width)
                equal &= account.bytes_up == expected and account.bytes_again == 0
                runs += 1
                beside = Account()
                await answers.ask(prompt, theta=theta, account=beside)
                left += (bytes_once(len(prompt), beside.tokens, width) - beside.bytes_up) // (
                    2 * width
                )
            once += bytes_once(len(prompt), account.tokens, width)
            naive += bytes_naive(len(prompt), account.tokens, width)
            sent = await naively(bench, prompt, account.tokens, answers.ends)
            equal &= sent == bytes_naive(len(prompt), account.tokens, width)
    return {
        "equal": equal,
        "runs": runs,
        "collaborative": once,
        "naive": naive,
        "saved": round(1 - once / naive, 4),
        "rows_left_behind_when_overlapped": left,
    }


async def naively(bench: Bench, prompt: list[int], tokens: int, ends: set[int]) -> int:
    """The naive split: all rows so far in 32 bits for every token; the payload it sent."""
    edge, sent = bench.edge, 0
    assert edge.far is not None
    rows: list[Floats] = []
    given, position, name = list(prompt), 0, "naive"
    for index in range(tokens):
        found = await edge.first.forward(
            name,
            position,
            given,
            timeout_s=30,
            want_rows=True,
            layer=edge.layers - 1,
            all_rows=True,
        )
        assert found.rows is not None
        position += len(given)
        rows += [r[None] for r in rows_of(found.rows)]
        stream = f"naive{index}"
        await edge.far.ask(Open(stream=stream, epoch=0, model_sha256=edge.model_sha256), 30)
        at, most = 0, max(1, CHUNK_BYTES // (edge.width * 4))
        while at < len(rows):
            import numpy as np

            packed = pack(np.concatenate(rows[at : at + most]), "f32")
            sent += payload(packed)
            await edge.far.ask(Upload(stream=stream, epoch=0, position=at, rows=packed), 30)
            at += packed.rows
        answer = await edge.far.ask(Infer(stream=stream, epoch=0, position=position - 1), 30)
        await edge.far.ask(Close(stream=stream), 30)
        assert isinstance(answer, Chosen), answer if isinstance(answer, Missing) else ""
        given = [answer.token]
    await edge.first.drop_sequence(name, timeout_s=30)
    return sent


async def cloud_only(bench: Bench, prompt: list[int], tokens: int, delay_s: float) -> float:
    """Seconds until the last token, when the whole model streams from the other side.

    The link carries a prompt and tokens, a few bytes each: its delay counts once each way.
    """
    loop = asyncio.get_running_loop()
    whole = Pace(bench.whole, bench.model.layers, CLOUD_TOKEN_S / bench.model.layers)
    began = loop.time()
    given, position = prompt, 0
    await asyncio.sleep(delay_s)
    for _ in range(tokens):
        found = await whole.forward("c", position, given, timeout_s=30, logprobs=1)
        position += len(given)
        given = [found.logprobs[-1][0][0]]
    await asyncio.sleep(delay_s)
    await bench.whole.drop_sequence("c", timeout_s=30)
    return loop.time() - began


async def order(model: Model, cases: Sequence[Case], *, paced: bool) -> dict[str, Any]:
    """Times of the four ways over the reference link, and what collaboration saves."""
    # The paper's rows have 4,096 numbers, ours fewer: the link is narrower by as much, so that a
    # row takes as long on it.
    width = (await _width(model)) / PAPER_WIDTH
    shape = Shape(bits_per_s=LINK_BITS_PER_S * width, delay_s=0.001)
    spent: dict[str, list[float]] = {
        k: [] for k in ("standalone", "collaborative", "cloud", "naive")
    }
    serial: list[float] = []
    far_s, whole_s, asked, tokens = 0.0, 0.0, 0, 0
    loop = asyncio.get_running_loop()
    async with running(model, paced=paced, link=shape) as bench:
        answers = Answers(bench, await bench.ends())
        for case in cases:
            prompt = await bench.render(case)
            bench.fresh_switch()
            await answers.ask(prompt, theta=THETA, max_tokens=2)  # connections are open
            account = Account()
            began = loop.time()
            said = await answers.ask(prompt, theta=THETA, account=account)
            spent["collaborative"].append(loop.time() - began)
            far_s, asked, tokens = (
                far_s + account.far_s,
                asked + account.asked,
                tokens + account.tokens,
            )
            began = loop.time()
            await answers.ask(prompt, theta=THETA, beside=False)
            serial.append(loop.time() - began)
            count = max(1, len(said))
            bench.fresh_switch(alone=True)
            began = loop.time()
            await answers.ask(prompt, theta=THETA, max_tokens=count)
            spent["standalone"].append(loop.time() - began)
            bench.fresh_switch()
            if paced:
                cloud = await cloud_only(bench, prompt, account.tokens, shape.delay_s)
                spent["cloud"].append(cloud)
                whole_s += cloud - 2 * shape.delay_s
            began = loop.time()
            await naively(bench, prompt, account.tokens, answers.ends)
            spent["naive"].append(loop.time() - began)
            progress(f"  {' '.join(f'{k} {sum(v):.1f}' for k, v in spent.items())}")
    total = {key: sum(values) for key, values in spent.items()}
    ways = [total[key] for key in ("standalone", "collaborative", "cloud", "naive")]
    figures: dict[str, Any] = {
        "order": {
            "holds": ways == sorted(ways) and total["naive"] > 2 * total["cloud"],
            **{f"{key}_s": round(value, 3) for key, value in total.items()},
            "paced": paced,
            "link_mbit": round(shape.bits_per_s / 1e6, 3),
            "row_bytes": round(width * PAPER_WIDTH) * 2,
            "prompts": len(cases),
        },
        "overlap": round(total["collaborative"] / sum(serial), 4),
    }
    if paced:
        figures["collaborative_vs_cloud"] = {
            "time_saved": round(1 - total["collaborative"] / total["cloud"], 4),
            "cloud_compute_saved": round(1 - far_s / whole_s, 4),
            "requests_per_token": round(asked / max(1, tokens), 4),
            "paper": PAPER,
        }
    return figures


async def crossover(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    """The round trip from which on the cloud alone is sooner, of those that were tried."""
    width = (await _width(model)) / PAPER_WIDTH
    saved: dict[str, float] = {}
    found: float | None = None
    loop = asyncio.get_running_loop()
    for round_trip_ms in ROUND_TRIPS_MS:
        shape = Shape(bits_per_s=LINK_BITS_PER_S * width, delay_s=round_trip_ms / 2000)
        mine = cloud = 0.0
        async with running(model, paced=True, link=shape) as bench:
            answers = Answers(bench, await bench.ends())
            for case in cases:
                prompt = await bench.render(case)
                bench.fresh_switch()
                await answers.ask(prompt, theta=THETA, max_tokens=2)
                account = Account()
                began = loop.time()
                await answers.ask(prompt, theta=THETA, account=account)
                mine += loop.time() - began
                cloud += await cloud_only(bench, prompt, account.tokens, shape.delay_s)
        saved[str(round_trip_ms)] = round(1 - mine / cloud, 4)
        progress(f"  round trip {round_trip_ms} ms: {saved[str(round_trip_ms)]:+.2%}")
        if mine >= cloud and found is None:
            found = round_trip_ms
    return {"crossover_ms": found, "saved_by_round_trip_ms": saved}


async def quality(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    """Right answers of collaboration at the default threshold, against the whole model's."""
    async with running(model, paced=False, link=None) as bench:
        answers = Answers(bench, await bench.ends())
        right: dict[str, int] = dict.fromkeys(
            ("whole", "collaborative", "collaborative_f32", "standalone"), 0
        )
        asked = tokens = same = same_alone = degraded = 0
        by, parted = Counter[str](), Counter[str]()
        for done, case in enumerate(cases, 1):
            prompt = await bench.render(case)
            said, _ = await answers.whole(prompt, 160)
            right["whole"] += await _right(bench, case, said)
            bench.fresh_switch()
            account = Account()
            mine = await answers.ask(prompt, theta=THETA, max_tokens=160, account=account)
            by.update(account.said_by)
            degraded += account.degraded
            tokens_mine = [s.token for s in mine]
            good = exact = await _right(bench, case, tokens_mine)
            if tokens_mine == said:
                same += 1
            else:
                at = first_other(tokens_mine, said)
                maker = mine[at].by if at < len(mine) else "end"
                parted[maker] += 1
                if maker == FAR:  # rounded rows: what do the exits alone cost?
                    again = await answers.ask(prompt, theta=THETA, max_tokens=160, dtype="f32")
                    exact = await _right(bench, case, [s.token for s in again])
            right["collaborative"] += good
            right["collaborative_f32"] += exact
            asked, tokens = asked + account.asked, tokens + account.tokens
            bench.fresh_switch(alone=True)
            mine = await answers.ask(prompt, theta=THETA, max_tokens=160)
            alone = [s.token for s in mine]
            right["standalone"] += await _right(bench, case, alone)
            same_alone += alone == said
            if done % TELL_EVERY == 0:
                progress(f"  {done} of {len(cases)}: right {right}, the whole's words {same}")
    return {
        **_losses(right, cases),
        "same_answers": round(same / len(cases), 4),
        "same_answers_standalone": round(same_alone / len(cases), 4),
        "first_other_token_by": dict(parted),
        "degraded": degraded,
        "requests_per_token": round(asked / max(1, tokens), 4),
        "said_by": {key: round(count / max(1, tokens), 4) for key, count in sorted(by.items())},
        "confidence": {
            str(one.range.last): one.calibration.facts()
            for one in (model.first, model.second)
            if one is not None and one.calibration.fitted
        },
        "prompts": len(cases),
    }


async def _right(bench: Bench, case: Case, tokens: list[int]) -> bool:
    return case.right is not None and case.right(await bench.text(tokens))


def _losses(right: dict[str, int], cases: Sequence[Case]) -> dict[str, Any]:
    """Shares of right answers, and what cooperation costs of them, if they can be told."""
    if not all(case.right for case in cases):
        nothing = dict.fromkeys(("loss", "loss_with_32_bit_rows", *right))
        return {**nothing, "why_no_loss": "nobody has written down right answers for this model"}
    share = {key: round(value / len(cases), 4) for key, value in right.items()}
    return {
        "loss": round(share["whole"] - share["collaborative"], 4),
        "loss_with_32_bit_rows": round(share["whole"] - share["collaborative_f32"], 4),
        **share,
    }


async def link_cut(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    """The link dies in mid-answer, for 5 s and for ever; paced, so that an answer outlasts it."""
    figures: dict[str, Any] = {"complete": True, "resumed": False, "memory_back": True}
    shape = Shape(bits_per_s=LINK_BITS_PER_S, delay_s=0.001)
    for forever in (False, True):
        async with running(model, paced=True, link=shape) as bench:
            bench.fresh_switch(rules=Rules(budget_s=10.0))
            prompt = await bench.render(cases[0])
            account, seen = Account(), []
            loop = asyncio.get_running_loop()
            stream = bench.edge.generate(
                prompt,
                Asked(theta=1.1, max_tokens=420, infer_s=0.5),
                ends=lambda token: False,
                account=account,
            )
            cut_at = 0.0
            async for said in stream:
                seen.append(said.by)
                if len(seen) == 20:
                    cut_at = loop.time()
                    for link in bench.links:
                        link.cut()
                if cut_at and not forever and loop.time() - cut_at > 5.0:
                    for link in bench.links:
                        link.mend()
            figures["complete"] &= len(seen) == 420
            if not forever:
                figures["resumed"] = seen[-1] == "far" and bench.edge.switch.mode != ALONE
                figures["degraded_tokens"] = account.degraded
            else:
                figures["flagged"] = account.mode == ALONE and account.degraded > 0
                for link in bench.links:
                    link.mend()
            for key in bench.far.streams.keys():  # noqa: SIM118 - not a mapping
                stream_left = bench.far.streams.get(key, 0)
                if stream_left is not None:
                    stream_left.used_at -= bench.far.streams.limits.idle_s + 1
            await bench.far.forget(bench.far.streams.expired(loop.time()))
            figures["memory_back"] &= bench.far.streams.bytes == 0 and not len(bench.far.streams)
    return figures


def segment_bitwise(*, quick: bool) -> dict[str, Any]:
    """A synthetic model in every quantization, cut twice, against the whole."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "whole-f16.gguf"
        synth.write(source, "tiny" if quick else "smollm2-135m", "f16")
        for kind in QUANTIZATIONS:
            whole = source
            if kind == "f32":
                from benchmarks._tokens_setup import as_f32

                whole = as_f32(Path(folder) / "whole-f32.gguf")
            elif kind != "f16":
                whole = Path(folder) / f"whole-{kind}.gguf"
                quantize(source, whole, kind)
            layers = layers_of(whole)
            cuts = sorted({max(1, layers // 3), max(1, layers // 2)} - {layers})
            made = split(whole, ranges_at(cuts, layers), Path(folder) / kind)
            found[kind] = max(verify(whole, [one.path for one in made]).values())
            progress(f"  {kind}: {found[kind]}")
    return {"max_difference": max(found.values()), "by_quantization": found}


async def _width(model: Model) -> int:
    from capabilities.slm import header

    head = header.read(model.whole)
    return int(head.scalars[f"{head.arch}.embedding_length"])


def first_other(one: Sequence[int], other: Sequence[int]) -> int:
    """Where two answers first differ; the length of the shorter if it begins the other."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def rows_of(block: Block) -> Floats:
    import numpy as np

    kind = "<f2" if block.dtype == "f16" else "<f4"
    found: Floats = np.frombuffer(block.data, dtype=kind).astype(np.float32)
    return found.reshape(-1, block.width)


def median(values: Sequence[float]) -> float:
    """Of what was measured."""
    return statistics.median(values) if values else 0.0

"""HTTP beside the engine called directly: `python -m benchmarks.http --json`.

The same file is asked through the engine's own host and through an agent's HTTP, in turn: the
time to the first token and the tokens a second, at 1 and 8 streams; at 8 also beside the engine
with prompts as far apart as HTTP needs for one (`ttft_spaced_ms`). The model is synthetic (random
weights in a real model's shape). Idle streams wait at a paced engine, which sleeps. With
`--litellm-python FILE` LiteLLM's proxy is measured beside one hop of the mesh; with `--soak N`
that many requests of clients that disconnect are sent, and what is left behind is told.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks import _http_target as target
from benchmarks._http_overhead import part as overhead
from benchmarks._report import Options, progress, run
from capabilities.messages import Delta, Generate, Message
from capabilities.slm import synth
from capabilities.slm.host import ModelHost
from capabilities.slm.machine import cores
from capabilities.slm.protocol import Settings

SLOTS = 8
CONTEXT = 512  # tokens of one request
LONG_S = 600.0
PACE_S = 0.02  # per token: a 0.5B model on a Raspberry Pi 5 makes some 34 a second
IDLE_STREAMS = 200
SETTLE_S = 8.0  # until streams without a token have their headers and their memory is taken
Stream = Callable[[str, int], AsyncIterator[float]]


def _direct(host: ModelHost, bias: dict[int, float]) -> Stream:
    async def stream(prompt: str, tokens: int) -> AsyncIterator[float]:
        request = Generate(messages=[Message("user", prompt)], max_tokens=tokens, logit_bias=bias)
        async for event in host.generate(request, timeout_s=LONG_S):
            if isinstance(event, Delta):
                yield time.perf_counter()

    return stream


def _over_http(client: httpx.AsyncClient, bias: dict[int, float]) -> Stream:
    async def stream(prompt: str, tokens: int) -> AsyncIterator[float]:
        body = {
            "model": target.NAME,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "logit_bias": {str(token): value for token, value in bias.items()},
            "stream": True,
        }
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if '"content":"' in line and '"role"' not in line:
                    yield time.perf_counter()

    return stream


def _spaced(side: Stream, streams: int, gap_ms: float) -> Stream:
    """The same with one prompt after the other, as a front hands them on that reads them in turn:
    the first one is alone in the engine's first batch, and the others wait for its end."""
    turn = itertools.count()

    async def stream(prompt: str, tokens: int) -> AsyncIterator[float]:
        await asyncio.sleep((next(turn) % streams) * gap_ms / 1000)
        async for at in side(prompt, tokens):
            yield at

    return stream


async def _round(side: Stream, prompts: list[str], tokens: int) -> tuple[float, float, int]:
    """Median ms to the first piece, seconds for all, pieces."""

    async def one(prompt: str) -> tuple[float, int]:
        began = time.perf_counter()
        times = [at async for at in side(prompt, tokens)]
        return (times[0] - began) * 1000, len(times)

    began = time.perf_counter()
    found = await asyncio.gather(*(one(prompt) for prompt in prompts))
    elapsed_s = time.perf_counter() - began
    return statistics.median(first for first, _ in found), elapsed_s, sum(n for _, n in found)


def _prompt(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghij klmnop") for _ in range(40))


async def _speed(
    served: target.Target, host: ModelHost, bias: dict[int, float], options: Options
) -> dict[str, Any]:
    """Both sides in turn, at 1 and 8 streams."""
    url = served.url
    rng = random.Random(options.seed)
    tokens = 12 if options.quick else 48
    rounds = 3 if options.quick else options.more.rounds
    figures: dict[str, Any] = {
        "ttft_ms": {},
        "ttft_spaced_ms": {},
        "throughput_ratio": {},
        "front_cpu_us_per_token": {},
        "samples": {},
    }
    limits = httpx.Limits(max_connections=SLOTS * 2)
    async with httpx.AsyncClient(base_url=url, timeout=LONG_S, limits=limits) as client:
        sides = {"direct": _direct(host, bias), "http": _over_http(client, bias)}
        for side in sides.values():  # connections, templates and buffers are not what is measured
            await _round(side, [_prompt(rng)] * SLOTS, 2)
        for streams in (1, SLOTS):
            if streams > 1:
                gap_ms = max(0.0, figures["ttft_ms"]["1"])
                sides["spaced"] = _spaced(sides["direct"], streams, gap_ms)
            firsts: dict[str, list[float]] = {name: [] for name in sides}
            rates: dict[str, list[float]] = {name: [] for name in sides}
            cpu_s, made = 0.0, 0
            for number in range(rounds * (4 if streams == 1 else 1)):
                prompts = [_prompt(rng) for _ in range(streams)]
                order = list(sides.items())
                for name, side in order if number % 2 else reversed(order):
                    before_s = served.front_cpu_s()
                    first_ms, elapsed_s, pieces = await _round(side, prompts, tokens)
                    if name == "http":
                        cpu_s += served.front_cpu_s() - before_s
                        made += pieces
                    firsts[name].append(first_ms)
                    rates[name].append(pieces / elapsed_s)
            pairs = zip(firsts["http"], firsts["direct"], strict=True)
            figures["ttft_ms"][str(streams)] = round(statistics.median(h - d for h, d in pairs), 2)
            if streams > 1:
                pairs = zip(firsts["http"], firsts["spaced"], strict=True)
                added_ms = statistics.median(h - s for h, s in pairs)
                figures["ttft_spaced_ms"][str(streams)] = round(added_ms, 2)
            both = zip(rates["http"], rates["direct"], strict=True)
            ratio = round(statistics.median(h / d for h, d in both), 3)
            figures["throughput_ratio"][str(streams)] = ratio
            figures["front_cpu_us_per_token"][str(streams)] = round(cpu_s / made * 1e6)
            figures["samples"][str(streams)] = {
                name: {
                    "first_ms_p50": round(statistics.median(firsts[name]), 2),
                    "tokens_per_s_p50": round(statistics.median(rates[name]), 1),
                    "tokens_per_s_best": round(max(rates[name]), 1),
                }
                for name in sides
            }
            progress(f"{streams} streams: {figures['samples'][str(streams)]}, ratio {ratio}")
    return figures


def _compared(folder: Path, signer: Any, options: Options) -> dict[str, Any]:
    """A model that computes: both sides want the same cores."""
    shape = options.more.shape or ("tiny" if options.quick else "smollm2-135m")
    path = folder / f"{shape}.gguf"
    progress(f"writing random weights in the shape of {shape}")
    synth.write(path, shape, "q8_0", seed=options.seed)
    bias = {synth.SHAPES[shape].vocabulary - 1: -100.0}  # the end of the text
    threads = options.more.threads or max(1, cores() - 1)
    shared: dict[str, Any] = {"slots": SLOTS, "threads": threads, "prefix_tokens": 0}
    model = {"path": str(path), "context": CONTEXT, **shared}
    with target.Target(folder, signer, "desk", models=[model]) as served:
        served.wait()
        host = ModelHost(path, Settings(context_tokens=CONTEXT * SLOTS, **shared))
        figures = asyncio.run(_measured(served, host, bias, options))
    return {**figures, "setup": {"shape": shape, "quant": "q8_0", "threads": threads}}


def _paced(folder: Path, signer: Any, options: Options) -> dict[str, Any]:
    """An engine that sleeps, as on a board with a core to spare: what HTTP itself adds."""
    with target.Target(folder, signer, "paced", token_s=PACE_S) as served:
        served.wait()
        figures = asyncio.run(_measured(served, target.paced(PACE_S).host, {}, options))
    return {**figures, "token_s": PACE_S}


async def _measured(
    served: target.Target, host: ModelHost, bias: dict[int, float], options: Options
) -> dict[str, Any]:
    await host.start()
    try:
        return await _speed(served, host, bias, options)
    finally:
        await host.stop()


def _idle(folder: Path, signer: Any) -> dict[str, Any]:
    """What 200 streams cost that wait for their next token."""
    with target.Target(folder, signer, "board", token_s=600.0) as served:
        served.wait()

        async def hold() -> tuple[float, float, int]:
            async with httpx.AsyncClient(
                base_url=served.url,
                timeout=LONG_S,
                limits=httpx.Limits(max_connections=IDLE_STREAMS),
            ) as client:
                before = served.front_mb()
                body = {
                    "model": target.NAME,
                    "messages": [{"role": "user", "content": "hello"}],
                    "stream": True,
                    "gossamer": {"timeout_s": LONG_S},
                }
                begun: list[int] = []

                async def one() -> None:
                    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                        begun.append(answer.status_code)
                        async for _ in answer.aiter_lines():
                            pass

                tasks = [asyncio.create_task(one()) for _ in range(IDLE_STREAMS)]
                await asyncio.sleep(SETTLE_S)
                for _ in range(60):  # a machine with other work takes longer
                    if len(begun) == IDLE_STREAMS:
                        break
                    await asyncio.sleep(0.5)
                after = served.front_mb()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                return before, after, sum(status == 200 for status in begun)

        before, after, streams = asyncio.run(hold())
    progress(f"{streams} idle streams: {before:.1f} -> {after:.1f} MB")
    return {
        "idle_streams_mb": round(after - before, 1),
        "idle_streams": streams,
        "front_mb": round(before, 1),
    }


def _soak(count: int, seed: int) -> dict[str, Any]:
    from tests.e2e import soak
    from tests.e2e.serving import serving

    with (
        tempfile.TemporaryDirectory(prefix="gossamer-http-") as folder,
        serving(Path(folder)) as it,
    ):
        asyncio.run(soak.crowd(it.url, 60, seed=seed))
        time.sleep(2)
        before, memory = soak.held(it), soak.memory_mb(it)
        outcomes = asyncio.run(soak.crowd(it.url, count, seed=seed + 1))
        after = soak.settled(it, before)
        left = {key: after[key] - before[key] for key in before if after[key] > before[key]}
        return {
            "requests": count,
            "left_behind": left,
            "outcomes": dict(outcomes),
            "seen_to_leave": soak.left_early(it),
            "mb_before": memory,
            "mb_after": soak.memory_mb(it),
        }


def measure(options: Options) -> dict[str, Any]:
    """Every part in turn."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gossamer-http-") as name:
        folder = Path(name)
        signer = target.authority(folder)
        figures |= _compared(folder, signer, options)
        figures["paced"] = _paced(folder, signer, options)
        figures |= _idle(folder, signer)
    figures["overhead_ms"] = overhead(options)
    progress(f"one hop adds {figures['overhead_ms']}")
    if options.more.soak:
        figures["soak"] = _soak(options.more.soak, options.seed)
    figures["peers"] = []
    if options.more.litellm_python is not None:
        found = {k: v for k, v in figures["overhead_ms"].items() if k.startswith("litellm")}
        figures["peers"] = [{"name": "litellm proxy", **found}]
    return figures


def _extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", default="", help="of the synthetic model (smollm2-135m)")
    parser.add_argument("--threads", type=int, default=0, help="0: one fewer than the cores")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--soak", type=int, default=0, help="requests of clients that disconnect")
    parser.add_argument(
        "--litellm-python",
        type=Path,
        default=None,
        help="the interpreter of an environment with litellm[proxy]",
    )


if __name__ == "__main__":
    run("HTTP beside the engine called directly.", measure, _extend)

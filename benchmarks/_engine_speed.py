"""How fast the engine is beside llama.cpp's own servers, and how it behaves beside others."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _engine_peers as peers
from benchmarks._engine_setup import CONTEXT, Setup, prompt_of
from benchmarks._report import progress
from capabilities.messages import Delta, Done, Generate, Message
from capabilities.slm import synth
from capabilities.slm.embedded import embedded_path
from capabilities.slm.host import Care, ModelHost
from capabilities.slm.protocol import Settings
from mesh.core.errors import GossamerError

LONG_S = 900.0
XLLAMACPP, SERVER = "xllamacpp", "llama-server (same build)"
Stream = Callable[[str, int], AsyncIterator[float]]


class Ours:
    """The engine through its host."""

    def __init__(
        self, setup: Setup, path: Path, *, slots: int = 8, threads: int = 0, **more: Any
    ) -> None:
        self._shape = setup.shape
        settings = Settings(
            slots=slots,
            threads=threads,
            context_tokens=CONTEXT,
            use_extra_bufts=setup.repacked,
            **more,
        )
        self.host = ModelHost(path, settings, care=Care(backoff_s=0.05))

    async def __aenter__(self) -> Ours:
        await self.host.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.host.stop()

    async def stream(self, prompt: str, tokens: int) -> AsyncIterator[float]:
        """The time of each token; the end of the text is made unlikely, as the peer ignores it."""
        eos = synth.SHAPES[self._shape].vocabulary - 1
        request = Generate(
            messages=[Message("user", prompt)], max_tokens=tokens, logit_bias={eos: -100.0}
        )
        async for event in self.host.generate(request, timeout_s=LONG_S):
            if isinstance(event, Delta):
                at = time.perf_counter()
                for _ in range(event.tokens):
                    yield at


async def _collect(stream: AsyncIterator[float]) -> list[float]:
    return [at async for at in stream]


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _throughput(side: Stream, prompts: Sequence[str], tokens: int) -> float:
    begin = time.perf_counter()
    answers = await asyncio.gather(*(_collect(side(prompt, tokens)) for prompt in prompts))
    total = sum(map(len, answers))
    if total < 0.5 * tokens * len(prompts):
        progress(f"only {total} of {tokens * len(prompts)} tokens came")
    return total / (time.perf_counter() - begin)


async def _arrival(
    side: Stream, rng: random.Random, size: int, tokens: int
) -> tuple[float, float, float]:
    """Seven streams run, a long prompt arrives: its first token, and the others' p99 gap, in s.

    The last figure is the p99 of the gaps that began before the long prompt's first token: over
    all gaps after it came, one stall per stream is about one gap in a hundred, so that the p99
    falls on either side of it by chance.
    """
    running = [asyncio.create_task(_collect(side(prompt_of(rng, 40), tokens))) for _ in range(7)]
    try:
        await asyncio.sleep(0.5)
        begin = time.perf_counter()
        late = await _collect(side(prompt_of(rng, size), 4))
        gaps: list[float] = []
        during: list[float] = []
        for task in running:
            times = await task
            gaps += [b - a for a, b in itertools.pairwise(times) if b > begin]
            during += [b - a for a, b in itertools.pairwise(times) if b > begin and a < late[0]]
    finally:  # given up, nobody would fetch their errors
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return late[0] - begin, _p99(gaps), _p99(during)


def _p99(gaps: list[float]) -> float:
    return float(np.percentile(gaps, 99)) if gaps else 0.0


async def _started(path: Path, setup: Setup) -> tuple[dict[str, peers.Peer], dict[str, str]]:
    """The peers that can be had, and why the others cannot."""
    running: dict[str, peers.Peer] = {}
    missing: dict[str, str] = {}
    how = {"threads": setup.threads, "context": CONTEXT, "slots": 8}
    for name in setup.peers:
        try:
            if name == XLLAMACPP:
                running[name] = await peers.xllamacpp(path, **how, safe=not setup.repacked)
            elif setup.server is not None:
                running[SERVER] = await peers.llama_server(
                    setup.server, path, **how, safe=not setup.repacked
                )
        except (RuntimeError, OSError) as error:
            missing[name] = str(error)
            progress(f"{name} cannot be measured: {error}")
    return running, missing


async def speed(models: dict[str, Path], setup: Setup, found: dict[str, Any]) -> None:
    """All figures of speed; those that came before the time limit stay in ``found``."""
    found["setup"] = {
        "threads": setup.threads,
        "context": CONTEXT,
        "slots": 8,
        "tokens": setup.tokens,
        "rounds": setup.rounds,
        "repacked_weights": setup.repacked,
        "builds": peers.builds(setup.server),
        "shape": setup.shape,
        "load_before": os.getloadavg()[0],
    }
    for quant, path in models.items():
        async with Ours(setup, path, threads=setup.threads, prefix_tokens=0) as ours:
            running, missing = await _started(path, setup)
            found["setup"].update({"missing": missing} if missing else {})
            try:
                sides: dict[str, Stream] = {"gossamer": ours.stream}
                sides |= {name: peer.stream for name, peer in running.items()}
                pids = {"gossamer": ours.host.health().pid}
                pids |= {name: peer.process.pid for name, peer in running.items()}
                await _streams(quant, sides, pids, setup, found)
                if quant == "q8_0":
                    await _arrivals(sides, setup, found)
                    if XLLAMACPP in running:
                        beside = await _beside(running[XLLAMACPP].stream, setup.tokens)
                        found["busy_neighbour_xllamacpp"] = beside
            finally:
                for peer in running.values():
                    peer.stop()
        if quant == "q8_0":
            async with Ours(setup, path, prefix_tokens=0) as ours:  # threads follow the machine
                found["busy_neighbour"] = await _beside(ours.stream, setup.tokens)
    found["setup"]["load_after"] = os.getloadavg()[0]


async def _streams(
    quant: str,
    sides: dict[str, Stream],
    pids: dict[str, int],
    setup: Setup,
    found: dict[str, Any],
) -> None:
    """Tokens per second of wall and of CPU time at 1, 2, 4 and 8 streams, alternating."""
    rng = random.Random(setup.seed)
    for side in sides.values():  # what is only slow once is over before it counts
        await _throughput(side, [prompt_of(rng, 40)], 2)
    for streams in (1, 2, 4, 8):
        samples: dict[str, list[float]] = {name: [] for name in sides}
        cpu: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(setup.rounds):
            prompts = [prompt_of(rng, 40) for _ in range(streams)]
            for name, side in sides.items():
                before = _cpu_s(pids[name])
                samples[name].append(await _throughput(side, prompts, setup.tokens))
                cpu[name].append(_cpu_s(pids[name]) - before)
        best = {name: max(values) for name, values in samples.items()}
        least = {name: min(values) for name, values in cpu.items()}
        rates = {name: round(value, 1) for name, value in best.items()}
        found.setdefault("tokens_per_s", {}).setdefault(quant, {})[str(streams)] = rates
        for name in sides:
            if name == "gossamer":
                continue
            # The plain key is against the wheel; CPU time is the figure to read where other
            # work shares the cores.
            suffix = "" if name == XLLAMACPP else "_same_build"
            ratio = round(best["gossamer"] / best[name], 3)
            by_cpu = round(least[name] / max(0.01, least["gossamer"]), 3)
            for key, value in (("", ratio), ("_per_cpu_s", by_cpu)):
                figure = found.setdefault(f"throughput_ratio{suffix}{key}", {})
                figure.setdefault(quant, {})[str(streams)] = value
        progress(f"{quant} {streams} streams: {rates}, CPU seconds {least}")


async def _arrivals(sides: dict[str, Stream], setup: Setup, found: dict[str, Any]) -> None:
    """A long prompt arrives among seven streams."""
    rng = random.Random(setup.seed + 1)
    size = 200 if setup.quick else 600
    waits = {
        name: await _arrival(side, rng, size, 4 * setup.tokens) for name, side in sides.items()
    }
    progress(f"long prompt arriving: {waits}")
    mine = waits["gossamer"]
    for name, theirs in waits.items():
        if name != "gossamer":
            suffix = "" if name == XLLAMACPP else "_same_build"
            found[f"ttft_ratio{suffix}"] = round(mine[0] / theirs[0], 3)
            found[f"itl_p99_ratio{suffix}"] = round(mine[1] / theirs[1], 3) if theirs[1] else None
            found[f"itl_p99_ratio_while_arriving{suffix}"] = (
                round(mine[2] / theirs[2], 3) if theirs[2] else None
            )
    found["arrival_s"] = {
        name: {
            "ttft": round(first, 3),
            "itl_p99": round(gap, 3),
            "itl_p99_while_arriving": round(during, 3),
        }
        for name, (first, gap, during) in waits.items()
    }


async def _beside(side: Stream, tokens: int) -> float:
    """The share of its speed that one stream keeps beside one busy process."""
    solo = await _throughput(side, ["alone"], tokens)
    busy = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        await asyncio.sleep(1.0)  # long enough to be seen
        beside = await _throughput(side, ["beside"], tokens)
    finally:
        busy.kill()
        await busy.wait()
    return round(beside / solo, 3)


async def recovery(setup: Setup) -> tuple[float, int]:
    """Seconds from the worker's death to the next answer; requests that just vanished."""
    async with Ours(setup, embedded_path("arithmetic"), slots=4, threads=1) as ours:

        async def ask() -> bool:
            request = Generate(messages=[Message("user", "What is 12 * 34?")], max_tokens=100)
            try:
                events = [e async for e in ours.host.generate(request, timeout_s=30)]
            except GossamerError:
                return True
            return isinstance(events[-1], Done)

        tasks = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.sleep(0.02)
        os.kill(ours.host.health().pid, signal.SIGKILL)
        begin = time.perf_counter()
        told = [await task for task in tasks]
        assert await ask()
        return round(time.perf_counter() - begin, 3), told.count(False)


async def overlap(path: Path, setup: Setup) -> dict[str, Any]:
    """Two streams at once: how many come to their end, here and at llama_cpp.server."""
    tokens = min(16, setup.tokens)
    found: dict[str, Any] = {}

    async def both(side: Stream) -> int:
        async def one(prompt: str, wait: float) -> bool:
            await asyncio.sleep(wait)
            try:
                return len(await _collect(side(prompt, tokens))) >= tokens // 2
            except Exception:
                return False

        return sum(await asyncio.gather(one("first", 0.0), one("second", 0.3)))

    async with Ours(setup, path, slots=2, threads=setup.threads) as ours:
        found["gossamer"] = await both(ours.stream)
    try:
        peer = await peers.llama_cpp_server(
            path, threads=setup.threads, context=CONTEXT, safe=not setup.repacked
        )
    except RuntimeError as error:
        return {**found, "llama_cpp.server": str(error)}
    try:
        found["llama_cpp.server"] = await both(peer.stream)
        speeds = [await _throughput(peer.stream, ["alone"], tokens) for _ in range(2)]
        found["llama_cpp.server_tokens_per_s"] = round(max(speeds), 1)
    finally:
        peer.stop()
    return found


def estimate_s(path: Path, setup: Setup) -> float:
    """About how long :func:`speed` will take, from the rates of a short trial."""
    from capabilities.slm import llama
    from capabilities.slm.llama_engine import LlamaEngine

    llama.start(lambda _level, _text: None)
    settings = Settings(
        slots=1, threads=setup.threads, context_tokens=512, use_extra_bufts=setup.repacked
    )
    engine = LlamaEngine(path, settings)
    ready = engine.ready()
    engine.close()
    one, prompt = ready.decode_tokens_per_s, ready.prefill_tokens_per_s
    sides = 1 + len([name for name in setup.peers if name == XLLAMACPP or setup.server])

    def wave(streams: int, size: int, tokens: int) -> float:
        # Eight streams together give about three times the tokens of one.
        return streams * size / prompt + tokens * streams**0.5 / one

    throughput = 2 * sides * setup.rounds * sum(wave(n, 60, setup.tokens) for n in (1, 2, 4, 8))
    arrival = sides * (wave(7, 60, 4 * setup.tokens) + 600 / prompt)
    return throughput + arrival + 6 * setup.tokens / one + 20 * sides

"""The engine beside llama.cpp's own server: `python -m benchmarks.engine --json`.

Speed is measured on synthetic models (random weights in a real model's shape), both sides with
the same file, threads and context, alternating. The engine is asked through its worker
process, the peers through HTTP on loopback, each as its users reach it. What is right or wrong
(schemas, canaries, batch against alone) is measured on the trained models of the package.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _engine_peers as peers
from benchmarks._report import Options, progress, run
from capabilities.messages import Delta, Done, Generate, Message
from capabilities.slm import evidence, llama, protocol, synth
from capabilities.slm.embedded import embedded_path
from capabilities.slm.host import Care, ModelHost
from capabilities.slm.llama_engine import LlamaEngine
from capabilities.slm.machine import cores
from capabilities.slm.protocol import Settings
from mesh.core.errors import GossamerError

LONG_S = 900.0
CONTEXT = 4096
TIE = 0.001  # logits: nearer than this, which token is best is not the engine's doing
Stream = Callable[[str, int], AsyncIterator[float]]


class Ours:
    """The engine through its host."""

    def __init__(self, path: Path, *, slots: int = 8, threads: int = 0, **more: Any) -> None:
        settings = Settings(
            slots=slots, threads=threads, context_tokens=CONTEXT, use_extra_bufts=SAFE, **more
        )
        self.host = ModelHost(path, settings, care=Care(backoff_s=0.05))

    async def __aenter__(self) -> Ours:
        await self.host.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.host.stop()

    async def stream(self, prompt: str, tokens: int) -> AsyncIterator[float]:
        """The time of each token; the end of the text is made unlikely, as the peer ignores it."""
        eos = synth.SHAPES[SHAPE].vocabulary - 1
        request = Generate(
            messages=[Message("user", prompt)], max_tokens=tokens, logit_bias={eos: -100.0}
        )
        async for event in self.host.generate(request, timeout_s=LONG_S):
            if isinstance(event, Delta):
                at = time.perf_counter()
                for _ in range(event.tokens):
                    yield at


SAFE = True  # with repacked weights; --safe turns them off on both sides
SHAPE = "qwen2.5-0.5b"


def _prompt(rng: random.Random, size: int) -> str:
    return "".join(rng.choice("abcdefghij klmnop") for _ in range(size))


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


async def _arrival(side: Stream, rng: random.Random, size: int, tokens: int) -> tuple[float, float]:
    """Seven streams run, a long prompt arrives: its first token, and the others' p99 gap, in s."""
    running = [asyncio.create_task(_collect(side(_prompt(rng, 40), tokens))) for _ in range(7)]
    await asyncio.sleep(0.5)
    begin = time.perf_counter()
    late = await _collect(side(_prompt(rng, size), 4))
    gaps: list[float] = []
    for task in running:
        times = await task
        gaps += [b - a for a, b in itertools.pairwise(times) if b > begin]
    return late[0] - begin, float(np.percentile(gaps, 99)) if gaps else 0.0


async def _speed(models: dict[str, Path], options: Options, found: dict[str, Any]) -> None:
    rng = random.Random(options.seed)
    threads, tokens = options.more.threads or cores(), 8 if options.quick else 24
    rounds = 1 if options.quick else options.more.rounds
    figures: dict[str, Any] = {}
    by_cpu: dict[str, dict[str, float]] = {}
    ratios: dict[str, dict[str, float]] = {}
    for quant, path in models.items():
        async with Ours(path, threads=threads, prefix_tokens=0) as ours:
            peer = await peers.xllamacpp(
                path, threads=threads, context=CONTEXT, slots=8, safe=not SAFE
            )
            try:
                sides: dict[str, Stream] = {"gossamer": ours.stream, "xllamacpp": peer.stream}
                pids = {"gossamer": ours.host.health().pid, "xllamacpp": peer.process.pid}
                for side in sides.values():  # what is only slow once is over before it counts
                    await _throughput(side, [_prompt(rng, 40)], 2)
                for streams in (1, 2, 4, 8):
                    samples: dict[str, list[float]] = {name: [] for name in sides}
                    cpu: dict[str, list[float]] = {name: [] for name in sides}
                    for _ in range(rounds):
                        prompts = [_prompt(rng, 40) for _ in range(streams)]
                        for name, side in sides.items():
                            before = _cpu_s(pids[name])
                            samples[name].append(await _throughput(side, prompts, tokens))
                            cpu[name].append(_cpu_s(pids[name]) - before)
                    best = {name: max(values) for name, values in samples.items()}
                    figures.setdefault(quant, {})[str(streams)] = {
                        name: round(value, 1) for name, value in best.items()
                    }
                    ratio = round(best["gossamer"] / best["xllamacpp"], 3)
                    ratios.setdefault(quant, {})[str(streams)] = ratio
                    least = {name: min(values) for name, values in cpu.items()}
                    by_cpu.setdefault(quant, {})[str(streams)] = round(
                        least["xllamacpp"] / max(0.01, least["gossamer"]), 3
                    )
                    progress(f"{quant} {streams} streams: {best}, CPU seconds {least}")
                if quant == "q8_0":
                    size = 200 if options.quick else 600
                    waits = {
                        name: await _arrival(side, rng, size, 4 * tokens)
                        for name, side in sides.items()
                    }
                    progress(f"long prompt arriving: {waits}")
                    mine, theirs = waits["gossamer"], waits["xllamacpp"]
                    found["ttft_ratio"] = round(mine[0] / theirs[0], 3)
                    found["itl_p99_ratio"] = round(mine[1] / theirs[1], 3) if theirs[1] else None
                    found["arrival_s"] = {
                        name: {"ttft": round(a, 3), "itl_p99": round(b, 3)}
                        for name, (a, b) in waits.items()
                    }
                    found["busy_neighbour_xllamacpp"] = await _beside(peer.stream, tokens)
            finally:
                peer.stop()
        if quant == "q8_0":
            async with Ours(path, prefix_tokens=0) as ours:  # threads follow the machine
                found["busy_neighbour"] = await _beside(ours.stream, tokens)
    found["throughput_ratio"] = ratios
    # What a token costs in CPU time: the figure to read where other work shares the cores.
    found["throughput_ratio_per_cpu_s"] = by_cpu
    found["tokens_per_s"] = figures
    found["setup"] = {
        "threads": threads,
        "context": CONTEXT,
        "slots": 8,
        "repacked_weights": SAFE,
        "builds": peers.builds(),
        "shape": SHAPE,
        "load_before": os.getloadavg()[0],
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


class Driven:
    """The engine in this process, step by step."""

    def __init__(self, path: Path, **settings: Any) -> None:
        llama.start(lambda _level, _text: None)
        self.engine = LlamaEngine(path, Settings(threads=1, use_extra_bufts=SAFE, **settings))
        self.replies: dict[int, list[Any]] = {}
        self.keys = 0

    def ask(self, text: str, *, isolation: str = "", **request: Any) -> int:
        """Submit; the key of the request."""
        self.keys += 1
        generate = Generate(messages=[Message("user", text)], **request)
        command = protocol.Submit(id=self.keys, request=generate, isolation=isolation)
        self.engine.handle(command, self.take)
        return self.keys

    def take(self, reply: Any) -> None:
        """Keep a reply by its request."""
        self.replies.setdefault(reply.id, []).append(reply)

    def run(self) -> None:
        """Until all requests are answered."""
        while self.engine.step(self.take):
            pass

    def done(self, key: int) -> Done | None:
        """The end of an answer, nothing if it failed."""
        last = self.replies[key][-1]
        return last.events[-1] if isinstance(last, protocol.Output) else None

    def logprobs(self, key: int) -> list[Any]:
        """All tokens of an answer with their alternatives."""
        events = [e for r in self.replies[key] for e in getattr(r, "events", [])]
        return [one for e in events if isinstance(e, Delta) for one in e.logprobs]


def _batch_equals_solo(options: Options) -> dict[str, Any]:
    """Greedy answers of eight streams together against each alone, on the arithmetic model."""
    rng = random.Random(options.seed)
    asked = [f"What is {rng.randint(10, 99)} * {rng.randint(10, 99)}?" for _ in range(8)]
    together = Driven(embedded_path("arithmetic"), slots=8, prefix_tokens=0)
    keys = [together.ask(text, max_tokens=96, logprobs=2) for text in asked]
    together.run()
    identical = ties = 0
    largest = 0.0
    for key, text in zip(keys, asked, strict=True):
        alone = Driven(embedded_path("arithmetic"), slots=1, prefix_tokens=0)
        single = alone.ask(text, max_tokens=96, logprobs=2)
        alone.run()
        pairs = list(zip(alone.logprobs(single), together.logprobs(key), strict=False))
        apart = next((p for p in pairs if p[0].token != p[1].token), None)
        if apart is None:
            identical += 1
        else:
            gap = apart[0].top[0][1] - apart[0].top[1][1]
            largest = max(largest, gap)
            ties += gap < TIE
        alone.engine.close()
    together.engine.close()
    return {
        "streams": len(asked),
        "identical": identical,
        "ties": ties,
        "different": len(asked) - identical - ties,
        "largest_gap": round(largest, 4),
        "rule": (
            f"a tie is a gap below {TIE} between the two best logits. With Q8_0 weights the "
            "activations are rounded too, so logits of a batch differ from those alone by up to "
            "0.12; an answer that turns within that is counted as different, not as a tie"
        ),
    }


def _leaks(options: Options) -> dict[str, int]:
    """Canaries in everybody else's prompts, the cache full; tokens that crossed a label."""
    it = Driven(embedded_path("arithmetic"), slots=4, context_tokens=2048, prefix_tokens=1024)
    rng = random.Random(options.seed)
    tries, found, shared = 50 if options.quick else 1000, 0, 0
    for number in range(tries):
        secret = str(rng.randint(10**11, 10**12))
        it.ask(
            f"My secret number is {secret}. What is 2 + 2?", isolation=f"a{number}", max_tokens=4
        )
        other = it.ask("My secret number is", isolation=f"b{number}", max_tokens=24)
        it.run()
        done = it.done(other)
        assert done is not None
        found += secret in done.text
        shared += done.usage.cached_tokens
        it.replies.clear()
    it.engine.close()
    return {"tries": tries, "canaries": found, "shared_tokens": shared}


def _overfull() -> int:
    it = Driven(embedded_path("arithmetic"), slots=4)
    keys = [it.ask("What is 12 + 30?", max_tokens=40) for _ in range(3)]
    it.engine.step(it.take)
    keys.append(it.ask("7 + " * 2000, max_tokens=40))
    it.run()
    killed = sum(it.done(key) is None for key in keys)
    it.engine.close()
    return killed


def _cancel_steps() -> dict[str, int]:
    """Steps until the slot is free, cancelled in its prompt and while it answers."""
    it = Driven(embedded_path("arithmetic"), slots=1, batch_tokens=16, prefill_chunk=8)
    steps = {}
    for phase, before in (("prefill", 1), ("decode", 12)):
        key = it.ask("What is 12 + 30? " * 4, max_tokens=100, isolation=phase)
        for _ in range(before):
            it.engine.step(it.take)
        it.engine.handle(protocol.Cancel(id=key), it.take)
        count = 0
        while it.engine.load[1]:
            it.engine.step(it.take)
            count += 1
        steps[phase] = count
    it.engine.close()
    return steps


def _prefix_hit(path: Path, options: Options) -> dict[str, float]:
    """A long assistant prompt whose clock line at the end changes."""
    size = 400 if options.quick else 3000
    rng = random.Random(options.seed)
    system = _prompt(rng, size - 80)
    it = Driven(path, slots=1, context_tokens=CONTEXT, prefix_tokens=CONTEXT // 2 + 1400)
    spent = []
    for minute in range(3):
        key = it.ask(f"{system} It is 10:3{minute}. Hello.", max_tokens=1, isolation="me")
        it.run()
        done = it.done(key)
        assert done is not None
        spent.append(done.usage.first_token_s)
    it.engine.close()
    return {
        "share": round(done.usage.cached_tokens / done.usage.prompt_tokens, 4),
        "prompt_tokens": done.usage.prompt_tokens,
        "ttft_without_s": round(spent[0], 3),
        "ttft_with_s": round(statistics.median(spent[1:]), 3),
    }


def _word(most: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)[:1]}


SCHEMAS: list[Any] = [
    {"type": "boolean"},
    {"type": ["integer", "null"], "minimum": 0, "maximum": 100},
    {"type": "number", "minimum": -40, "exclusiveMaximum": 85.5},
    {"type": "integer", "exclusiveMinimum": 1899, "exclusiveMaximum": 2101},
    _word(12),
    {"enum": ["red", "green", 'blue "sky"', "naïve", 7, None]},
    {"const": {"answer": [42, None, True]}},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uuid"},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [_word(3), {"type": "integer"}], "minItems": 2},
    _object(x={"type": "number"}, y={"type": "number"}),
    _object(level={"enum": ["low", "high"]}, note=_word(8)),
    _object(name=_word(6), tags={"type": "array", "items": _word(4), "maxItems": 3}),
    _object(a=_object(b=_object(c={"type": "null"}))),
    {"anyOf": [{"type": "integer", "minimum": 3}, _word(5)]},
    {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": k}}, "required": ["k"]}
            for k in ("dot", "ring")
        ]
    },
    {"$ref": "#/$defs/p", "$defs": {"p": _object(city=_word(9), zip={"type": "integer"})}},
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"type": "string", "pattern": r"^[A-Z]{2}-\d{3,5}(/[a-f]+)?$"},
    {"type": "string", "format": "email"},
    {"type": "integer", "multipleOf": 7, "minimum": -50, "maximum": 5000},
    {
        "type": "array",
        "items": {"enum": ["mon", "tue", "wed", "thu", "fri"]},
        "uniqueItems": True,
        "minItems": 2,
    },
    {
        "allOf": [
            {"$ref": "#/$defs/named"},
            {"properties": {"size": {"type": "integer", "minimum": 3}}, "required": ["size"]},
        ],
        "$defs": {"named": _object(name=_word(5), size={"maximum": 9})},
    },
]


def _schema_valid(options: Options) -> dict[str, int]:
    """Answers of the arithmetic model, which knows no JSON, held to all schemas."""
    import jsonschema

    it = Driven(embedded_path("arithmetic"), slots=8, context_tokens=4096)
    each = 3 if options.quick else 500 // len(SCHEMAS)
    asked = []
    for number in range(each):
        for schema in SCHEMAS:
            key = it.ask(
                "What is 12 + 30?",
                max_tokens=400,
                json_schema=json.dumps(schema),
                temperature=1.2 if number else 0.0,
                seed=number,
            )
            asked.append((key, schema))
        it.run()
    valid = 0
    for key, schema in asked:
        done = it.done(key)
        try:
            assert done is not None
            jsonschema.validate(json.loads(done.text), schema)
            valid += 1
        except (ValueError, AssertionError, jsonschema.ValidationError) as error:
            progress(f"not valid: {schema} {done and done.text!r} {error}")
    it.engine.close()
    return {"asked": len(asked), "valid": valid}


async def _recovery() -> tuple[float, int]:
    """Seconds from the worker's death to the next answer; requests that just vanished."""
    async with Ours(embedded_path("arithmetic"), slots=4, threads=1) as ours:

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


async def _overlap(path: Path, options: Options) -> dict[str, Any]:
    """Two streams at once: how many come to their end, here and at llama_cpp.server."""
    tokens = 8 if options.quick else 16
    found: dict[str, Any] = {}

    async def both(side: Stream) -> int:
        async def one(prompt: str, wait: float) -> bool:
            await asyncio.sleep(wait)
            try:
                return len(await _collect(side(prompt, tokens))) >= tokens // 2
            except Exception:
                return False

        return sum(await asyncio.gather(one("first", 0.0), one("second", 0.3)))

    async with Ours(path, slots=2, threads=options.more.threads or cores()) as ours:
        found["gossamer"] = await both(ours.stream)
    try:
        peer = await peers.llama_cpp_server(
            path, threads=options.more.threads or cores(), context=CONTEXT, safe=not SAFE
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


def _evidence_overhead(path: Path) -> float:
    """The time that measuring a step's rows takes, to the rest of the step, four streams."""
    it = Driven(path, slots=4, context_tokens=1024, prefix_tokens=0)
    for number in range(4):
        it.ask(f"question {number}", max_tokens=12)
    for _ in range(4):
        it.engine.step(it.take)
    rows = it.engine._context.logits(4).copy()
    whole, mine = [], []
    for _ in range(6):
        begin = time.thread_time()
        it.engine.step(it.take)
        whole.append(time.thread_time() - begin)
        begin = time.thread_time()
        evidence.measure(rows, shift=0.0)
        mine.append(time.thread_time() - begin)
    it.engine.close()
    step, part = min(whole), min(mine)
    return round(part / (step - part), 4)


def measure(options: Options) -> dict[str, Any]:
    """All figures of the engine."""
    global SHAPE, SAFE  # noqa: PLW0603 - the command line decides once
    SAFE = not options.more.safe
    SHAPE = "tiny" if options.quick else options.more.like
    found: dict[str, Any] = {}

    def take(name: str, work: Callable[[], Any]) -> Any:
        begin = time.monotonic()
        try:
            value = work()
        except Exception as error:  # a figure that is missing is said, and the others still come
            value = f"failed: {type(error).__name__}: {error}"
        progress(f"{name}: {value} ({time.monotonic() - begin:.0f} s)")
        return value

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.more.models or Path(scratch)
        models = {}
        for quant in ("q8_0", "q4_k"):
            models[quant] = folder / f"synthetic-{SHAPE}-{quant}.gguf"
            if not models[quant].exists():
                synth.write(models[quant], SHAPE, quant, seed=options.seed)
        main = models["q8_0"]
        small: dict[str, Callable[[], Any]] = {
            "batch_equals_solo": lambda: _batch_equals_solo(options),
            "leaks": lambda: _leaks(options),
            "overfull": _overfull,
            "cancel_steps": _cancel_steps,
            "schema_valid": lambda: _schema_valid(options),
            "crash": lambda: asyncio.run(_recovery()),
            "evidence_overhead": lambda: _evidence_overhead(main),
            "prefix_hit": lambda: _prefix_hit(main, options),
            "overlap": lambda: asyncio.run(_overlap(main, options)),
        }
        for name, work in small.items():
            if not options.more.only or name in options.more.only:
                found[name] = take(name, work)
        crash = found.pop("crash", None)
        if isinstance(crash, tuple):
            found["crash_recovery_s"], found["lost_without_error"] = crash
        if not options.more.only or "speed" in options.more.only:
            take("speed", lambda: _run(_speed(models, options, found)))
    names = ("xllamacpp", "llama_cpp_python")
    found["peers"] = [{"name": name, "version": _version(name)} for name in names]
    return found


def _run(work: Awaitable[None]) -> str:
    async def main() -> None:
        await work

    asyncio.run(main())
    return "done"


def _version(name: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _extend(parser: Any) -> None:
    parser.add_argument("--models", type=Path, default=None, help="keep the synthetic models here")
    parser.add_argument("--like", default="qwen2.5-0.5b", help="the shape for speed")
    parser.add_argument("--threads", type=int, default=0, help="on both sides; 0: all cores")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, the best counts")
    parser.add_argument("--safe", action="store_true", help="no repacked weights, on both sides")
    parser.add_argument("--only", nargs="*", default=[], help="some figures; 'speed' is one")


if __name__ == "__main__":
    run("The engine beside llama.cpp's own server.", measure, _extend)

"""What this machine gets from a model, through the same worker that serves it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from capabilities.messages import Done, Generate, Message
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Settings

TIMEOUT_S = 600.0
QUESTION = "Tell me a story about number {}, and take your time."


async def measure(
    path: Path, *, streams: int = 4, tokens: int = 64, threads: int = 0
) -> dict[str, float]:
    """Tokens/s of one stream and of ``streams`` together, and seconds to load and to begin.

    An answer that ends by itself before ``tokens`` counts as long as it is. Raises what
    :class:`~capabilities.slm.host.ModelHost` raises.
    """
    settings = Settings(slots=streams, threads=threads, prefix_tokens=0)
    host = ModelHost(path, settings)
    await host.start()
    try:
        one, first_s = await _run(host, 1, tokens)
        many, _ = await _run(host, streams, tokens)
        ready = host.ready
        return {
            "load_s": round(ready.load_s, 2),
            "prefill_tokens_per_s": round(ready.prefill_tokens_per_s, 1),
            "tokens_per_s_1": round(one, 1),
            f"tokens_per_s_{streams}": round(many, 1),
            "first_token_s": round(first_s, 3),
            "memory_mb": round(host.health().rss_bytes / 2**20),
        }
    finally:
        await host.stop()


async def _run(host: ModelHost, streams: int, tokens: int) -> tuple[float, float]:
    async def ask(number: int) -> Done:
        request = Generate(messages=[Message("user", QUESTION.format(number))], max_tokens=tokens)
        last: object = None
        async for event in host.generate(request, timeout_s=TIMEOUT_S):
            last = event
        assert isinstance(last, Done)
        return last

    begin = time.perf_counter()
    answers = await asyncio.gather(*(ask(number) for number in range(streams)))
    spent = time.perf_counter() - begin
    total = sum(done.usage.completion_tokens for done in answers)
    return total / spent, min(done.usage.first_token_s for done in answers)

"""Clients that ask, leave early, break off and send rubbish, all at once, against one agent."""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from collections import Counter
from typing import Any

import httpx
import psutil

from tests.e2e.serving import Served

NAME = "knowledge.gpt/arithmetic"
CROWD = 16  # clients at the same time, on 4 slots and 4 places to wait
SETTLE_S = 30.0
SAY_EVERY = 1000  # requests


def body(rng: random.Random, **more: Any) -> dict[str, Any]:
    """A question that takes up to half a second."""
    question = f"What is {rng.randrange(10, 99)} * {rng.randrange(10, 99)}?"
    model = rng.choice([NAME, NAME, "mesh"])
    asked = {"model": model, "messages": [{"role": "user", "content": question}]}
    return {**asked, "max_tokens": rng.choice([4, 16, 128]), **more}


async def one(client: httpx.AsyncClient, url: str, rng: random.Random) -> str:
    """One request of one kind; what became of it."""
    kind = rng.choice(["whole", "stream", "leave", "leave", "vanish", "rubbish"])
    chat = f"{url}/v1/chat/completions"
    try:
        if kind == "whole":
            return f"whole {(await client.post(chat, json=body(rng))).status_code}"
        if kind == "rubbish":
            answer = await client.post(chat, content=rng.randbytes(rng.randrange(200)))
            return f"rubbish {answer.status_code}"
        if kind == "vanish":  # before the first word, perhaps before the first byte
            patience_s = rng.random() * 0.1
            async with asyncio.timeout(patience_s):
                await client.post(chat, json=body(rng, stream=rng.random() < 0.5))
            return "vanish late"
        async with client.stream("POST", chat, json=body(rng, stream=True)) as answer:
            pieces = 0
            async for _ in answer.aiter_lines():
                pieces += 1
                if kind == "leave" and pieces > rng.randrange(20):
                    return "left"
            return f"stream {answer.status_code}"
    except TimeoutError:
        return "vanished"


async def crowd(url: str, count: int, seed: int) -> Counter[str]:
    """``count`` requests by :data:`CROWD` clients, each with a connection pool of its own."""
    outcomes: Counter[str] = Counter()
    left = iter(range(count))
    began = time.monotonic()

    async def client(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        for index in left:
            # A client of its own for each: a broken connection is not used again anyway. Without
            # certificates to load, 24 ms each in which no client of this loop reads or leaves.
            async with httpx.AsyncClient(timeout=60, verify=False) as session:
                outcomes[await one(session, url, rng)] += 1
            if index and index % SAY_EVERY == 0:
                passed = time.monotonic() - began
                sys.stderr.write(f"{index} of {count} requests, {passed:.0f} s\n")

    await asyncio.gather(*(client(number) for number in range(CROWD)))
    return outcomes


def held(served: Served) -> dict[str, float]:
    """What is held now: slots, tasks, streams, descriptors and sockets of every process."""
    page = httpx.get(f"{served.url}/metrics").text

    def gauge(name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else -1.0

    agent, http, *_ = _by_kind(served)
    return {
        "slots": gauge("gossamer_inflight") + gauge("gossamer_queued"),
        "streams": gauge("gossamer_http_streams"),
        "agent_tasks": gauge("gossamer_tasks"),
        "http_tasks": gauge("gossamer_http_tasks"),
        "agent_files": agent.num_fds(),
        "http_files": http.num_fds(),
        "http_sockets": len(http.net_connections()),
    }


def left_early(served: Served) -> int:
    """Clients that the server saw leave before their answer was whole, since it began."""
    page = httpx.get(f"{served.url}/metrics").text
    found = re.search(r"^gossamer_http_disconnects_total (\S+)$", page, re.MULTILINE)
    return int(float(found[1])) if found else 0


def memory_mb(served: Served) -> dict[str, float]:
    """Resident memory of the agent and of its HTTP process."""
    agent, http, *_ = _by_kind(served)
    return {
        "agent": round(agent.memory_info().rss / 2**20, 1),
        "http": round(http.memory_info().rss / 2**20, 1),
    }


def settled(served: Served, before: dict[str, float]) -> dict[str, float]:
    """What is held when nothing goes down any more, at most a while later."""
    until = time.monotonic() + SETTLE_S
    now = held(served)
    while time.monotonic() < until and any(now[key] > before[key] for key in before):
        time.sleep(0.25)
        now = held(served)
    return now


def _by_kind(served: Served) -> list[psutil.Process]:
    agent, *children = served.processes
    http = [child for child in children if "agents.faces.http" in child.cmdline()]
    return [agent, *http]

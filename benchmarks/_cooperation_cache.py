"""The semantic cache on our own wordings: true paraphrases that hit, changed numbers that must not.

A true paraphrase is the same task in another wording of the training material (training and
held-out wordings mixed): a calculation worded twice, the same readings in two frames, a question
about the mesh asked twice. A near-duplicate is a remembered question with one number changed.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.cooperation.cache import Thresholds
from agents.cooperation.knowledge_memory import KnowledgeMemory
from agents.cooperation.knowledge_reader import Reader
from agents.memory import REUSE, Check, Finding
from agents.port import Task
from capabilities.knowledge.base import KnowledgeBase
from capabilities.knowledge.store import MB
from capabilities.slm.training import (
    air_quality,
    air_quality_words,
    general,
    traffic,
    traffic_words,
    vitals,
    vitals_words,
    wordings,
)
from mesh.core.errors import NoSuchName
from mesh.core.wire import Reach

SWEEP = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
NODE = bytes(16)

Pair = tuple[str, str, str]  # a question, the same in other words, what is answered


def arithmetic_pair(rng: random.Random) -> Pair:
    """A calculation in two wordings."""
    sign = rng.choice("+-*/")
    a, b = rng.randrange(2, 1000), rng.randrange(2, 100)
    patterns = rng.sample([*wordings.TRAINING[sign], *wordings.HELD_OUT[sign]], 2)
    first, second = (
        p.replace("{a}", str(a)).replace("{b}", str(b)).replace("@", sign) for p in patterns
    )
    return first, second, f"{a} {sign} {b}"


def framed(module: Any, words: Any) -> Callable[[random.Random], Pair]:
    """Readings of a specialist in two of its frames."""
    frames = [*words.FRAMES[0], *words.FRAMES[1]]

    def pair(rng: random.Random) -> Pair:
        while True:
            example = module.held_out_example(rng)
            if example.category == "decline":
                continue
            told = _told(example.question, frames)
            if told:
                first, second = (frame.format(r=told) for frame in rng.sample(frames, 2))
                return first, second, example.answer

    return pair


def _told(question: str, frames: list[str]) -> str:
    """The readings within a question: what the longest frame that fits leaves."""
    best, left = "", -1
    for frame in frames:
        before, _, after = frame.partition("{r}")
        fits = question.startswith(before) and question.endswith(after)
        if fits and len(before) + len(after) > left:
            left = len(before) + len(after)
            best = question[len(before) : len(question) - len(after)]
    return best if left > 0 else ""


def topic_pair(rng: random.Random) -> Pair:
    """A question about the mesh asked in two of the ways that its topic lists."""
    while True:
        topic = rng.choice(general.load_topics())
        asked = [*topic.questions, *topic.held_out]
        if len(asked) >= 2 and topic.answers:
            first, second = (
                general.outside.fill(rng, question) for question in rng.sample(asked, 2)
            )
            return first, second, topic.name


PAIRS: dict[str, Callable[[random.Random], Pair]] = {
    "arithmetic": arithmetic_pair,
    "air_quality": framed(air_quality, air_quality_words),
    "traffic": framed(traffic, traffic_words),
    "vitals": framed(vitals, vitals_words),
    "mesh": topic_pair,
}


def changed(rng: random.Random, question: str) -> str:
    """The question with one of its numbers changed a little; empty when it has none."""
    found = list(_NUMBER.finditer(question))
    if not found:
        return ""
    number = rng.choice(found)
    whole, dot, rest = number[0].partition(".")
    text = str(int(whole) + rng.choice((1, 2, 10, 100))) + dot + rest
    return question[: number.start()] + text + question[number.end() :]


class NoMesh:
    """A port without a mesh: what is measured here is this node's own memory."""

    node_name = "desk"

    def now(self) -> float:
        """Time stands still."""
        return 0.0

    def resolve(self, name: str, task: Task, exclude: frozenset[bytes] = frozenset()) -> list[Any]:
        """Nobody offers anything."""
        raise NoSuchName(name)


async def _measure(count: int, near: int, seed: int, upper: float) -> dict[str, Any]:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        base = KnowledgeBase(Path(folder) / "k.sqlite3", max_bytes=64 * MB)
        port: Any = NoMesh()
        thresholds = Thresholds(upper=upper, lower=min(upper, Thresholds().lower))
        memory = KnowledgeMemory(base, port, Reader(port, tuple), thresholds=thresholds)
        await base.start()
        try:
            return await _asked(memory, rng, count, near)
        finally:
            await base.stop()


async def _asked(
    memory: KnowledgeMemory, rng: random.Random, count: int, near: int
) -> dict[str, Any]:
    task = Task(trace=bytes(16), deadline=60.0, reach=Reach.NODE)
    sure = Check(outcome="correct", score=1.0, threshold=0.5, why="known by rule")
    kept: list[tuple[str, Pair]] = []
    for domain, make in PAIRS.items():
        for pair in [make(rng) for _ in range(count)]:
            # The answer names its task, so that a hit shows whose answer it is.
            text = f"answer to: {pair[2] if domain == 'mesh' else pair[0]}"
            finding = Finding(
                question=pair[0], text=text, name=f"knowledge.gpt/{domain}",
                node=NODE, node_name="expert", quality=1.0,
            )  # fmt: skip
            await memory.learn(finding, sure, task)
            kept.append((domain, (pair[0], pair[1], text)))
    hits, wrong, asked = Counter[str](), Counter[str](), Counter[str]()
    for domain, (_, second, text) in kept:
        found = await memory.recall(second, f"knowledge.gpt/{domain}", task)
        asked[domain] += 1
        if found.action == REUSE:
            good = found.text == text or _same(found.text, text)
            hits[domain] += good
            wrong[domain] += not good
    figures = [(domain, first) for domain, (first, _, _) in kept if _NUMBER.search(first)]
    # A change may lead to another question that is remembered: that one is drawn again.
    taken = {(domain, *_NUMBER.findall(question)) for domain, question in figures}
    false_hits = 0
    for _ in range(near):
        while True:
            domain, question = rng.choice(figures)
            other = changed(rng, question)
            if (domain, *_NUMBER.findall(other)) not in taken:
                break
        found = await memory.recall(other, f"knowledge.gpt/{domain}", task)
        false_hits += found.action == REUSE
    numbered = [domain for domain in asked if domain != "mesh"]
    return {
        # As the near-duplicates: questions with numbers. Those of words alone stand beside.
        "paraphrase_hits": _share(hits, asked, numbered),
        "paraphrase_hits_of_words": _share(hits, asked, ["mesh"]),
        "wrong_cache_hits": false_hits,
        "wrong_paraphrase_hits": sum(wrong.values()),
        "by_domain": {d: round(hits[d] / asked[d], 4) for d in asked},
        "paraphrases": sum(asked.values()),
        "near_duplicates": near,
    }


def _share(hits: Counter[str], asked: Counter[str], domains: list[str]) -> float:
    return round(sum(hits[d] for d in domains) / sum(asked[d] for d in domains), 4)


def _same(first: str, second: str) -> bool:
    """Whether both answers belong to one calculation: it may have been drawn twice."""
    return _NUMBER.findall(first) == _NUMBER.findall(second) != []


def measure(count: int, near: int, seed: int, *, sweep: bool) -> dict[str, Any]:
    """Figures at the default threshold, and how they move with it."""
    upper = Thresholds().upper
    figures = asyncio.run(_measure(count, near, seed, upper))
    figures["reuse_from"] = upper
    if sweep:
        keys = (
            "paraphrase_hits",
            "paraphrase_hits_of_words",
            "wrong_cache_hits",
            "wrong_paraphrase_hits",
        )
        figures["sweep"] = {
            f"{at:g}": {
                key: value
                for key, value in asyncio.run(_measure(count, near, seed + 1, at)).items()
                if key in keys
            }
            for at in SWEEP
        }
    return figures

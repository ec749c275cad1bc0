"""The semantic cache on our own wordings: true paraphrases that hit, changed numbers that must not.

With figures, a true paraphrase is the same task in another wording of the training material
(training and held-out wordings mixed): a calculation worded twice, the same readings in two frames
that ask for the same. A near-duplicate is a remembered question with one number changed.

Without figures, they are the groups of ``cooperation_paraphrases.txt``: each question with two true
paraphrases and with two that look like it and ask for something else. Half of them were kept back.

Beside them: two questions that the training material answers alike ("is there a server", "which
node is special"). They are no paraphrases, and most of them miss.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
    outside,
    traffic,
    traffic_words,
    vitals,
    vitals_words,
    wordings,
)
from mesh.core.errors import NoSuchName
from mesh.core.wire import Reach

WORDS = Path(__file__).parent / "cooperation_paraphrases.txt"
# A frame with one of these asks for advice and not for a level: another question, whose answer the
# specialist happens to give in the same words.
ADVICE = (
    "advice", "am I okay", "children", "do I need", "go for a run", "go out", "good to be outside",
    "open the window", "should", "what now", "will I be late",
)  # fmt: skip
SWEEP = (0.7, 0.8, 0.9)  # beside the default, each some 25 s of a core
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
NODE = bytes(16)
TASK = Task(trace=bytes(16), deadline=60.0, reach=Reach.NODE)

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


def framed(module: Any, words: Any, *, alike: bool = True) -> Callable[[random.Random], Pair]:
    """Readings of a specialist in two of its frames; ``alike``: in two that ask for the same."""
    every = [*words.FRAMES[0], *words.FRAMES[1]]
    frames = [f for f in every if not (alike and any(part in f for part in ADVICE))]

    def pair(rng: random.Random) -> Pair:
        while True:
            example = module.held_out_example(rng)
            if example.category == "decline":
                continue
            told = _told(example.question, every)
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
            first, second = (outside.fill(rng, question) for question in rng.sample(asked, 2))
            return first, second, topic.name


PAIRS: dict[str, Callable[[random.Random], Pair]] = {
    "arithmetic": arithmetic_pair,
    "air_quality": framed(air_quality, air_quality_words),
    "traffic": framed(traffic, traffic_words),
    "vitals": framed(vitals, vitals_words),
}
# Answered alike, but not asked alike.
LOOSE: dict[str, Callable[[random.Random], Pair]] = {
    "air_quality": framed(air_quality, air_quality_words, alike=False),
    "traffic": framed(traffic, traffic_words, alike=False),
    "vitals": framed(vitals, vitals_words, alike=False),
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


def in_words() -> list[tuple[str, list[str], list[str]]]:
    """Question, true paraphrases, lookalikes; a group at a time."""
    groups: list[tuple[str, list[str], list[str]]] = []
    for line in WORDS.read_text().splitlines():
        mark, _, text = line.partition(" ")
        if mark == "=":
            groups.append((text, [], []))
        elif mark in "~!" and text:
            _, same, other = groups[-1]
            (same if mark == "~" else other).append(text)
    return groups


@asynccontextmanager
async def _memory(upper: float) -> AsyncIterator[KnowledgeMemory]:
    with tempfile.TemporaryDirectory() as folder:
        base = KnowledgeBase(Path(folder) / "k.sqlite3", max_bytes=64 * MB)
        port: Any = NoMesh()
        thresholds = Thresholds(upper=upper, lower=min(upper, Thresholds().lower))
        await base.start()
        try:
            yield KnowledgeMemory(base, port, Reader(port, tuple), thresholds=thresholds)
        finally:
            await base.stop()


async def _learn(memory: KnowledgeMemory, question: str, domain: str, text: str) -> None:
    sure = Check(outcome="correct", score=1.0, threshold=0.5, why="known by rule")
    finding = Finding(
        question=question, text=text, name=f"knowledge.gpt/{domain}",
        node=NODE, node_name="expert", quality=1.0,
    )  # fmt: skip
    await memory.learn(finding, sure, TASK)


async def _measure(count: int, near: int, seed: int, upper: float) -> dict[str, Any]:
    rng = random.Random(seed)
    async with _memory(upper) as memory:
        figures = await _asked(memory, rng, count, near)
    async with _memory(upper) as memory:
        loose = await _hits(memory, [(d, m(rng)) for d, m in LOOSE.items() for _ in range(count)])
    async with _memory(upper) as memory:
        words = await _words(memory)
    return {
        **figures,
        **words,
        "wrong_paraphrase_hits": figures["wrong_paraphrase_hits"] + sum(loose.wrong.values()),
        "answered_alike_hits": {d: _share(loose.hits, loose.asked, [d]) for d in LOOSE},
    }


@dataclass
class Hits:
    """Counts by domain: pairs asked, answered as they should be, answered as another question."""

    asked: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)


async def _hits(memory: KnowledgeMemory, pairs: list[tuple[str, Pair]]) -> Hits:
    """All first questions are learnt, then all second ones asked."""
    found = Hits()
    # The answer names its task, so that a hit shows whose answer it is.
    texts = [f"answer to: {p[2] if domain == 'mesh' else p[0]}" for domain, p in pairs]
    for (domain, pair), text in zip(pairs, texts, strict=True):
        await _learn(memory, pair[0], domain, text)
    for (domain, pair), text in zip(pairs, texts, strict=True):
        recall = await memory.recall(pair[1], f"knowledge.gpt/{domain}", TASK)
        found.asked[domain] += 1
        if recall.action == REUSE:
            good = recall.text == text or _same(recall.text, text)
            found.hits[domain] += good
            found.wrong[domain] += not good
    return found


async def _asked(
    memory: KnowledgeMemory, rng: random.Random, count: int, near: int
) -> dict[str, Any]:
    pairs = [(domain, make(rng)) for domain, make in PAIRS.items() for _ in range(count)]
    found = await _hits(memory, pairs)
    figures = [(domain, first) for domain, (first, _, _) in pairs if _NUMBER.search(first)]
    # A change may lead to another question that is remembered: that one is drawn again.
    taken = {(domain, *_NUMBER.findall(question)) for domain, question in figures}
    false_hits = 0
    for _ in range(near):
        while True:
            domain, question = rng.choice(figures)
            other = changed(rng, question)
            if (domain, *_NUMBER.findall(other)) not in taken:
                break
        recall = await memory.recall(other, f"knowledge.gpt/{domain}", TASK)
        false_hits += recall.action == REUSE
    return {
        "paraphrase_hits": _share(found.hits, found.asked, list(PAIRS)),
        "wrong_cache_hits": false_hits,
        "wrong_paraphrase_hits": sum(found.wrong.values()),
        "by_domain": {d: _share(found.hits, found.asked, [d]) for d in PAIRS},
        "paraphrases": sum(found.asked.values()),
        "near_duplicates": near,
    }


async def _words(memory: KnowledgeMemory) -> dict[str, Any]:
    """Questions without figures: all groups are remembered at once."""
    groups = in_words()
    for question, _, _ in groups:
        await _learn(memory, question, "general", f"answer to: {question}")
    parts: dict[str, Counter[str]] = {"seen": Counter(), "kept_back": Counter()}
    for number, (question, same, other) in enumerate(groups):
        part = parts["kept_back" if number % 2 else "seen"]
        for text in (*same, *other):
            recall = await memory.recall(text, "knowledge.gpt/general", TASK)
            reused = recall.action == REUSE
            good = reused and text in same and recall.text == f"answer to: {question}"
            part["asked" if text in same else "lookalikes"] += 1
            part["hits"] += good
            part["wrong"] += reused and not good
    back = parts["kept_back"]
    return {
        "paraphrase_hits_of_words": round(back["hits"] / back["asked"], 4),
        "wrong_hits_of_words": sum(part["wrong"] for part in parts.values()),
        "words": {name: dict(part) for name, part in parts.items()},
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
            "wrong_hits_of_words",
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

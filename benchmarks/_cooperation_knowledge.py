"""Mixed questions of all domains at a general node: alone, with the mesh, a second time.

Each agent is a process of its own on loopback: a general node with a knowledge base, and one node
for each specialist that the package carries. The questions are held-out ones of the training
modules; what is right is decided by the rule of the domain, never by another model.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agents.faces import demo
from agents.faces.client import ControlClient
from agents.faces.demo import Demo, DemoNode
from benchmarks import _cooperation_cache
from benchmarks._greedy import Greedy
from benchmarks._models_arithmetic import same_number, value_of
from benchmarks._report import progress
from capabilities.slm.embedded import embedded_models
from capabilities.slm.training import air_quality, arithmetic, general, outside, traffic, vitals

PER_DOMAIN, PER_DOMAIN_QUICK = 50, 8
PARAPHRASES, PARAPHRASES_QUICK = 200, 60  # of each domain
NEAR, NEAR_QUICK = 1000, 200
TIMEOUT_S = 30.0
DESK = "desk"
LARGE = "large"


@dataclass(frozen=True)
class Domain:
    """`draw` gives a question and what it is right by."""

    model: str
    name: str
    draw: Callable[[random.Random], tuple[str, Callable[[str], bool]]]


def _number(rng: random.Random) -> tuple[str, Callable[[str], bool]]:
    while True:
        example = arithmetic.held_out_example(rng)
        expected = value_of(example.answer)
        if example.category != "decline" and expected is not None:
            return example.question, partial(same_number, expected)


def _same_category(module: Any, expected: str, answer: str) -> bool:
    return bool(module.category_of(answer) == module.category_of(expected))


def _category(module: Any) -> Callable[[random.Random], tuple[str, Callable[[str], bool]]]:
    def draw(rng: random.Random) -> tuple[str, Callable[[str], bool]]:
        while True:
            example = module.held_out_example(rng)
            if example.category != "decline":
                return example.question, partial(_same_category, module, example.answer)

    return draw


def _topic(rng: random.Random) -> tuple[str, Callable[[str], bool]]:
    topics = [t for t in general.load_topics() if t.held_out and t.nouns]
    topic = rng.choice(topics)
    question = outside.fill(rng, rng.choice(topic.held_out))
    return question, lambda answer: answer.strip() in topic.answers


DOMAINS = {
    "arithmetic": Domain("arithmetic", "knowledge.gpt/arithmetic", _number),
    "air_quality": Domain("air_quality", "knowledge.gpt/air_quality", _category(air_quality)),
    "vitals": Domain("vitals", "knowledge.gpt/vitals", _category(vitals)),
    "traffic": Domain("traffic", "knowledge.gpt/traffic", _category(traffic)),
    "mesh": Domain("general", "knowledge.gpt/mesh", _topic),
}


class KnowingDemo(Demo):
    """A demonstration whose first node keeps a knowledge base."""

    def launch(self, node: DemoNode, seeds: tuple[str, ...]) -> None:
        """As a demonstration does; the section is added to the configuration first."""
        made = demo._toml

        def with_knowledge(node: DemoNode, *more: Any, **options: Any) -> str:
            return made(node, *more, **options) + ("[knowledge]\n" if node.name == DESK else "")

        demo._toml = with_knowledge
        try:
            super().launch(node, seeds)
        finally:
            demo._toml = made


def measure(*, quick: bool, seed: int) -> dict[str, Any]:
    """The figures of knowledge cooperation."""
    shipped = embedded_models()
    domains = {key: d for key, d in DOMAINS.items() if d.model in shipped}
    missing = {
        key: f"the package carries no model {d.model!r}"
        for key, d in DOMAINS.items()
        if d.model not in shipped
    }
    rng = random.Random(seed)
    count = PER_DOMAIN_QUICK if quick else PER_DOMAIN
    questions = [(key, *d.draw(rng)) for key, d in domains.items() for _ in range(count)]
    rng.shuffle(questions)
    nodes = [DemoNode(DESK, ("computation.gpt/generate", "knowledge.gpt/**"), model="general")]
    nodes += [
        DemoNode(key.replace("_", "-"), (d.name,), model=d.model)
        for key, d in domains.items()
        if d.model != "general"
    ]
    with KnowingDemo(tuple(nodes)) as running:
        figures = asyncio.run(_on_mesh(running, questions, domains))
    if LARGE in shipped:
        large = _large(shipped[LARGE].path, questions)
    else:
        large, missing["large"] = None, "the package carries no large model of all domains"
    progress("cache ...")
    near, pairs = (NEAR_QUICK, PARAPHRASES_QUICK) if quick else (NEAR, PARAPHRASES)
    cache = _cooperation_cache.measure(pairs, near, seed, sweep=not quick)
    return {
        **figures,
        "large": large,
        "wrong_cache_hits": cache.pop("wrong_cache_hits"),
        "paraphrase_hits": cache.pop("paraphrase_hits"),
        "cache": cache,
        "questions": len(questions),
        "missing": missing,
    }


Asked = list[tuple[str, str, Callable[[str], bool]]]


def _large(path: Path, questions: Asked) -> float:
    """The share that the model of all domains gets right, asked the same without a mesh."""
    progress("large ...")
    model = Greedy(path)
    try:
        asked = [model.prompt([{"role": "user", "content": text}]) for _, text, _ in questions]
        told = [model.answer(reply) for reply in model.replies(asked)]
    finally:
        model.close()
    return _share([right(text) for (_, _, right), text in zip(questions, told, strict=True)])


async def _on_mesh(running: Demo, questions: Asked, domains: dict[str, Domain]) -> dict[str, Any]:
    client = await demo.start(running, progress)
    async with client:
        alone = [await _ask(client, q, reach="node") for _, q, _ in _told(questions, "alone")]
        before = await client.fetch("knowledge_list", {})
        mesh = [await _ask(client, q) for _, q, _ in _told(questions, "mesh")]
        experts = [
            await _ask(client, q, name=_expert(key, domains))
            for key, q, _ in _told(questions, "experts by themselves")
        ]
        learnt = await client.fetch("knowledge_list", {})
        again = [await _ask(client, q) for _, q, _ in _told(questions, "a second time")]
        after = await client.fetch("knowledge_list", {})
    rows = list(zip(questions, alone, mesh, experts, again, strict=True))
    # A gap is a step: of a question of two parts one may have been kept and the other not.
    kept = [
        second["calls"].get(step, 0)
        for _, _, first, _, second in rows
        for step, learnt in first["learnt"]
        if learnt.startswith("kept")
    ]
    return {
        "alone": _share([right(a["text"]) for (_, _, right), a, *_ in rows]),
        "mesh": _share([right(m["text"]) for (_, _, right), _, m, *_ in rows]),
        "second_time_accuracy": _share([right(x["text"]) for (_, _, right), *_, x in rows]),
        "cloud_share": _share([m["cloud"] for _, _, m, *_ in rows]),
        # Of the gaps that were filled and kept: the calls that the same questions take again.
        "second_time": sum(kept)
        + after["counters"].get("knowledge_peers_asked", 0)
        - learnt["counters"].get("knowledge_peers_asked", 0),
        "gaps": sum(calls > 0 for _, _, m, *_ in rows for calls in m["calls"].values()),
        "gaps_kept": len(kept),
        "not_kept": _counted(
            x for _, _, m, *_ in rows for _, x in m["learnt"] if x.startswith("not kept")
        ),
        "remote_calls": {
            "first": sum(m["remote"] for _, _, m, *_ in rows),
            "second": sum(x["remote"] for *_, x in rows),
        },
        "entries": after["entries"] - before["entries"],
        "domains": {key: _domain(key, rows) for key in domains},
    }


def _told(questions: Asked, what: str) -> Asked:
    progress(f"{len(questions)} questions, {what} ...")
    return questions


def _expert(key: str, domains: dict[str, Domain]) -> str:
    node = DESK if domains[key].model == "general" else key.replace("_", "-")
    return f"{domains[key].name}@{node}"


async def _ask(client: ControlClient, question: str, **more: str) -> dict[str, Any]:
    asked = {"question": question, "timeout_s": TIMEOUT_S, **more}
    answer = await client.fetch("ask", asked, silence_s=TIMEOUT_S + 10)
    calls = {step["id"]: sum(node != DESK for node in step["attempts"]) for step in answer["steps"]}
    return {
        "text": answer["text"],
        "calls": calls,
        "remote": sum(calls.values()),
        "cloud": any(step["cloud"] for step in answer["steps"]),
        "learnt": [
            (d["step"], d["action"]) for d in answer["decisions"] if d["rule"] == "knowledge.learn"
        ],
    }


def _domain(key: str, rows: list[Any]) -> dict[str, Any]:
    """The mesh beside the domain's own expert, question by question (paired sign test)."""
    mine = [row for row in rows if row[0][0] == key]
    pairs = [(right(m["text"]), right(e["text"])) for (_, _, right), _, m, e, _ in mine]
    better = sum(m and not e for m, e in pairs)
    worse = sum(e and not m for m, e in pairs)
    return {
        "alone": _share([right(a["text"]) for (_, _, right), a, *_ in mine]),
        "mesh": _share([m for m, _ in pairs]),
        "best_member": _share([e for _, e in pairs]),
        "better": better,
        "worse": worse,
        "sign_test_p": round(_worse_by_chance(better, worse), 4),
    }


def _worse_by_chance(better: int, worse: int) -> float:
    """One-sided: how likely so many or more of the differing pairs are worse by chance."""
    n = better + worse
    return sum(math.comb(n, k) for k in range(worse, n + 1)) / 2**n if n else 1.0


def _share(values: list[bool]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def _counted(lines: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        text = str(line).partition("(")[0].strip()
        found[text] = found.get(text, 0) + 1
    return found

"""Questions about long generated reports and logs: what a strong model reads, what is right.

Thirty texts of more than 10,000 tokens; each holds facts that are asked for one by one, two
together and in other words, and lacks others that look alike. Readers are real agents of one
mesh. The comparison gives the same readers every chunk, one by one. No model that ships can read
or supervise such a text, so the readers are the extractive ones (patterns, no model) and the
supervisor is the rules; the tokens are those of the prompts that the protocol would send to a
model in their place, and of answers as long as the rules' own. The sentences are of the forms
that the patterns know: what is measured is the protocol, not how well they read.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.agent import Agent
from agents.config import make_config
from agents.cooperation import documents_protocol as protocol
from agents.cooperation.documents import DocumentOptions, Read
from agents.cooperation.documents_protocol import Decision, Found
from agents.cooperation.documents_supervisor import RuleSupervisor
from agents.orchestrator.options import AskOptions
from benchmarks import _report
from capabilities.messages import Generate
from mesh.core.identity import Authority
from mesh.net.statedir import create_identity

DOCUMENTS = 30
CHARS_PER_TOKEN = 4  # of English, for most vocabularies; the ratio does not depend on it
LEAST_TOKENS = 10_000
READERS = 3
TIMEOUT_S = 120.0
SINGLE, DOUBLE, ABSENT, REWORDED = 4, 3, 3, 2  # questions per text

_DEVICES = ("pump", "gate", "sensor", "boiler", "lift", "meter", "fan", "lamp")
_QUANTITIES = (
    ("temperature", "C", 1),
    ("pressure", "hPa", 0),
    ("humidity", "%", 0),
    ("load", "%", 0),
    ("voltage", "V", 1),
    ("noise", "dB", 0),
)
# Asked in words that the text does not use: a reader needs to know what they mean.
_REWORDED = {
    "temperature": "How warm is {}?",
    "pressure": "How hard does the air press on {}?",
    "humidity": "How damp is it at {}?",
    "load": "How busy is {}?",
    "voltage": "At how many volts does {} run?",
    "noise": "How loud is {}?",
}
_PEOPLE = ("Anna", "Tom", "Clara", "Hugo", "Nina", "Victor", "Rosa", "Ivan")
_PLACES = ("hall 4", "the north gate", "room 12", "the library", "yard 7", "the harbour")
_CAUSES = ("a leak", "a power cut", "frost", "a worn belt", "a full disk", "a storm")
_DONE = ("repaired", "replaced", "stopped", "cleaned")
_FILLER = (
    "The shift went on without anything worth a note.",
    "Nothing else was seen on the round.",
    "The weather stayed as it was, and so did the queue.",
    "A walk through the building showed no change.",
    "The next check is planned as usual.",
    "All doors were closed when the night began.",
)


@dataclass(frozen=True)
class Fact:
    """A sentence of a text, and one question that it answers."""

    line: str
    key: tuple[str, str]
    part: str  # "temperature of pump-7": what joins two questions into one
    question: str
    answer: str


@dataclass(frozen=True)
class Asked:
    """A question, and what a right answer holds; nothing where the text lacks it."""

    kind: str
    question: str
    answers: tuple[str, ...]


def _reading(rng: random.Random, device: str) -> Fact:
    name, unit, decimals = rng.choice(_QUANTITIES)
    value = f"{rng.uniform(1, 99):.{decimals}f}"
    value = f"{value}%" if unit == "%" else f"{value} {unit}"
    at = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    line = rng.choice(
        (
            f"{at} {device} {name} {value}",
            f"[{at}] {device}: {name}={value}",
            f"At {at} the {name} of {device} was {value}.",
            f"{device} showed a {name} of {value} at {at}.",
        )
    )
    part = f"{name} of {device}"
    return Fact(line, (device, name), part, f"What is the {part}?", value)


def _event(rng: random.Random, device: str) -> Fact:
    done, person = rng.choice(_DONE), rng.choice(_PEOPLE)
    place, cause = rng.choice(_PLACES), rng.choice(_CAUSES)
    at = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    line = f"At {at} {device} in {place} was {done} by {person} because of {cause}."
    question, answer = rng.choice(
        (
            (f"Who took care of {device}?", person),
            (f"Why was {device} {done}?", cause),
            (f"When was {device} {done}?", at),
            (f"Where is {device}?", place),
        )
    )
    return Fact(line, (device, "event"), "", question, answer)


def report(rng: random.Random) -> tuple[str, list[Fact]]:
    """A text of at least LEAST_TOKENS, and its facts; no two facts answer the same question."""
    facts: dict[tuple[str, str], Fact] = {}
    pieces: list[str] = ["Report of the week."]
    prose = rng.random() < 0.5
    length = 0
    while length < LEAST_TOKENS * CHARS_PER_TOKEN:
        device = f"{rng.choice(_DEVICES)}-{rng.randrange(1, 200)}"
        fact = (_event if rng.random() < 0.25 else _reading)(rng, device)
        if fact.key in facts:
            continue
        facts[fact.key] = fact
        lines = [fact.line, *([rng.choice(_FILLER)] if prose and rng.random() < 0.6 else [])]
        pieces += lines
        length += sum(len(line) + 1 for line in lines)
    return "\n".join(pieces), list(facts.values())


def questions(rng: random.Random, facts: Sequence[Fact]) -> list[Asked]:
    """What is asked of a text with these facts."""
    keys = {fact.key for fact in facts}
    asked = [Asked("single", f.question, (f.answer,)) for f in rng.sample(facts, SINGLE)]
    by_name: dict[str, list[Fact]] = {}
    for fact in facts:
        if fact.part:
            by_name.setdefault(fact.key[1], []).append(fact)
    for _ in range(DOUBLE):
        name = rng.choice(sorted(by_name))
        one, two = rng.sample(by_name[name], 2)
        question = rng.choice(
            (
                f"What is the {one.part} and of {two.key[0]}?",
                f"Compare the {one.part} and {two.key[0]}.",
                f"Which has the higher {name}, {one.key[0]} or {two.key[0]}?",
            )
        )
        asked.append(Asked("double", question, (one.answer, two.answer)))
    for fact in rng.sample([fact for fact in facts if fact.part], REWORDED):
        question = _REWORDED[fact.key[1]].format(fact.key[0])
        asked.append(Asked("reworded", question, (fact.answer,)))
    while len(asked) < SINGLE + DOUBLE + REWORDED + ABSENT:
        device = rng.choice(facts).key[0]  # that is there, asked for what is not
        if rng.random() < 0.4:
            device = f"{rng.choice(_DEVICES)}-{rng.randrange(1, 200)}"
        fact = _reading(rng, device)
        if fact.key not in keys:
            asked.append(Asked("absent", fact.question, ()))
    return asked


class Counted(RuleSupervisor):
    """The rules, with the tokens counted that a model would read and write in their place."""

    def _count(self, request: Generate, answer: object) -> None:
        chars = sum(len(message.content) for message in request.messages)
        self.tokens += (chars + len(json.dumps(answer))) // CHARS_PER_TOKEN

    async def tasks(self, about: str, question: str, feedback: str) -> list[str]:
        """See :class:`RuleSupervisor`."""
        found = await super().tasks(about, question, feedback)
        self._count(protocol.tasks_request(about, question, feedback), {"tasks": found})
        return found

    async def decide(
        self, question: str, tasks: Sequence[str], found: Sequence[Found], *, more: bool
    ) -> Decision:
        """See :class:`RuleSupervisor`."""
        decision = await super().decide(question, tasks, found, more=more)
        answer = " ".join(f.answer for f in found) if decision.final else ""
        said = {"decision": "additional", "answer": answer, "feedback": decision.feedback}
        self._count(protocol.decision_request(question, tasks, found), said)
        return decision


def is_right(asked: Asked, read: Read) -> bool:
    """All that was asked for and nothing else first; of what is absent, that it is."""
    first = [step.text for step in read.answer.steps if step.status == "ok"]
    if not asked.answers:
        return not first
    return len(first) == len(asked.answers) and all(
        wanted == found for wanted, found in zip(asked.answers, first, strict=True)
    )


@asynccontextmanager
async def mesh() -> AsyncIterator[Agent]:
    """An agent that asks, and three that read."""
    authority = Authority(os.urandom(32))
    agents: list[Agent] = []
    with tempfile.TemporaryDirectory(prefix="gossamer-bench-") as folder:
        try:
            for number in range(READERS + 1):
                name = f"reader-{number}" if number < READERS else "desk"
                path = Path(folder) / name
                create_identity(
                    path, authority, "bench", name=name, groups=(), publish=("computation.gpt/**",)
                )
                seeds = [agent.node.seed for agent in agents]
                raw = {
                    "node": {"state": str(path), "seeds": seeds, "discovery": False},
                    "reader": number < READERS,
                }
                agents.append(Agent(make_config(raw, base=Path(folder))))
                await agents[-1].start()
                await agents[-1].ready.wait()
            desk = agents[-1]
            until = time.monotonic() + TIMEOUT_S
            while len([o for o in desk.port.offers() if o.served.kind == "extract"]) < READERS:
                if time.monotonic() > until:
                    raise RuntimeError("the readers never appeared")
                await asyncio.sleep(0.1)
            yield desk
        finally:
            for agent in reversed(agents):
                await agent.stop()


async def ask(desk: Agent, text: str, asked: Asked, *, select: bool) -> tuple[Read, int]:
    """One question; its answer, and the supervisor's tokens."""
    boss = Counted()
    last: Read | None = None
    async for event in desk.documents.read(
        text,
        asked.question,
        AskOptions(timeout_s=TIMEOUT_S),
        DocumentOptions(select=select),
        supervisor=boss,
    ):
        if isinstance(event, Read):
            last = event
    assert last is not None
    return last, boss.tokens


async def run(*, count: int, seed: int) -> dict[str, Any]:
    """The figures over ``count`` texts."""
    rng = random.Random(seed)
    right: Counter[str] = Counter()
    plain: Counter[str] = Counter()
    total: Counter[str] = Counter()
    strong = whole = jobs = all_jobs = unread = 0
    wrong: list[dict[str, Any]] = []
    workers: set[str] = set()
    async with mesh() as desk:
        for number in range(count):
            text, facts = report(rng)
            for asked in questions(rng, facts):
                read, tokens = await ask(desk, text, asked, select=True)
                every, _ = await ask(desk, text, asked, select=False)
                strong += tokens
                whole += (len(text) + len(asked.question)) // CHARS_PER_TOKEN
                jobs, all_jobs = jobs + read.jobs, all_jobs + every.jobs
                unread += read.failed_jobs + every.failed_jobs
                workers |= {read.worker, every.worker}
                total[asked.kind] += 1
                right[asked.kind] += is_right(asked, read)
                plain[asked.kind] += is_right(asked, every)
                if not is_right(asked, read) and asked.kind != "reworded":
                    wrong.append(
                        {
                            "question": asked.question,
                            "expected": asked.answers,
                            "found": [s.text for s in read.answer.steps],
                        }
                    )
            _report.progress(
                f"documents: {number + 1} of {count}, {sum(right.values())} of "
                f"{sum(total.values())} right, chunk by chunk {sum(plain.values())}"
            )
    return {
        "tokens": round(strong / whole, 4),
        "quality": round(sum(right.values()) / max(1, sum(plain.values())), 4),
        "right": {kind: round(right[kind] / total[kind], 3) for kind in total},
        "right_chunk_by_chunk": {kind: round(plain[kind] / total[kind], 3) for kind in total},
        "questions": sum(total.values()),
        "texts": count,
        "jobs_per_question": round(jobs / sum(total.values()), 1),
        "jobs_chunk_by_chunk": round(all_jobs / sum(total.values()), 1),
        "jobs_failed": unread,
        "worker": f"{', '.join(sorted(workers))}: extractive, patterns and no model",
        "supervisor": "rules; tokens counted as if a model had been asked",
        "wrong": wrong[:10],
    }


def measure(*, quick: bool, seed: int) -> dict[str, Any]:
    """`documents` of benchmarks.cooperation."""
    return asyncio.run(run(count=2 if quick else DOCUMENTS, seed=seed))


if __name__ == "__main__":
    _report.run(__doc__ or "", lambda o: measure(quick=o.quick, seed=o.seed))

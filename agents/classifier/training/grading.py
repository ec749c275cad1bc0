"""Puts drawn questions to an embedded model and keeps what doubt can go by: a JSONL log."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from agents.classifier.training import gap_questions
from capabilities.messages import Done, Evidence, Generate, Message
from capabilities.slm import protocol
from capabilities.slm.embedded import embedded_path
from capabilities.slm.header import file_sha256
from capabilities.slm.llama_engine import LlamaEngine
from mesh.core.errors import ModelError

SLOTS = 16
SLOT_TOKENS = 768  # the longest context of an embedded model
REPLY_TOKENS = 448  # the longest reply of one
DRAFT_TEMPERATURE = 0.7  # of the second draft: a sure model says the same again


class Graded(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model, with a second draft, and whether the first was right."""

    domain: str
    model: str
    question: str
    answer: str
    finish: str
    evidence: Evidence
    second: str  # empty where none was asked for
    right: bool
    tokens: int = 0  # of the first draft, scratchpad included
    file_sha256: str = ""  # of the model's file


def grade(domain: str, count: int, seed: int, *, drafts: int = 1) -> list[Graded]:
    """``count`` questions of a domain, answered once or twice by its model in this process."""
    model, draw = (gap_questions.domains() | gap_questions.ordinary())[domain]
    rng = random.Random(f"{seed} {domain}")
    drawn = [draw(rng) for _ in range(count)]
    engine = LlamaEngine(
        embedded_path(model),
        protocol.Settings(
            slots=SLOTS,
            context_tokens=SLOTS * SLOT_TOKENS,
            threads=1,
            max_waiting=2 * count,
            prefix_tokens=0,
        ),
    )
    done: dict[int, Done] = {}

    def keep(reply: protocol.Reply) -> None:
        if isinstance(reply, protocol.Failed):
            raise ModelError(f"{model} failed on a question of {domain}: {reply}")
        if isinstance(reply, protocol.Output):
            for event in reply.events:
                if isinstance(event, Done):
                    done[reply.id] = event

    for number, question in enumerate(drawn):
        for draft, temperature in enumerate((0.0, DRAFT_TEMPERATURE)[:drafts]):
            request = Generate(
                messages=[Message("user", question.text)],
                max_tokens=REPLY_TOKENS,
                temperature=temperature,
                seed=seed + number,
                top_k=0,
            )
            engine.handle(protocol.Submit(id=2 * number + draft, request=request), keep)
    while engine.step(keep):
        pass
    rows, sha = [], file_sha256(embedded_path(model))
    for number, question in enumerate(drawn):
        first, second = done[2 * number], done.get(2 * number + 1)
        rows.append(
            Graded(
                domain=domain,
                model=first.model or model,
                question=question.text,
                answer=first.text.strip(),
                finish=first.finish,
                evidence=first.evidence,
                second=second.text.strip() if second else "",
                right=first.text.strip() in question.right,
                tokens=first.usage.completion_tokens,
                file_sha256=sha,
            )
        )
    return rows


def write(path: Path, rows: Iterable[Graded]) -> None:
    """One JSON object a line."""
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def read(path: Path) -> list[Graded]:
    """What :func:`write` wrote; raises msgspec's ValidationError naming the field."""
    return [msgspec.json.decode(line, type=Graded) for line in path.read_bytes().splitlines()]


def main() -> None:
    """``python -m agents.classifier.training.grading COUNT SEED FILE [DOMAIN ...]``."""
    count, seed, file, *names = sys.argv[1:]
    rows = []
    for name in names or gap_questions.domains():
        rows += grade(name, int(count), int(seed))
        right = sum(row.right for row in rows if row.domain == name)
        print(f"{name}: {right} of {count} right", file=sys.stderr)
    write(Path(file), rows)


if __name__ == "__main__":
    main()

"""What readers and their supervisor say to each other, and what of it is believed.

After MinionS (Narayan et al. 2025): the supervisor writes tasks as plain sentences and sees only
what the readers found; nothing that a model writes is run. A reader answers strict JSON with a
citation, or null. What it cites must stand in the chunk that it was given, word for word, and a
number in its answer must stand in the citation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from capabilities.messages import Generate, Message
from capabilities.slm.tasks import (
    EXTRACT_JSON,
    MAX_READING_TASKS,
    READING_SCHEMA,
    READING_TASKS,
    extract_request,
    reading_request,
)
from mesh.core.errors import GossamerError

MAX_ROUNDS = 5
MAX_JOBS = 2048  # tasks times chunks of one question
MAX_FINDINGS_SHOWN = 24  # to the supervisor: its tokens are what is being saved
MAX_TASK_CHARS = 200
READER_TOKENS = 256
DECISION_TOKENS = 400

JUDGE = (
    "Decide from the findings whether the question can be answered. Answer in JSON: "
    '"final" with the answer, or "additional" with what is still to be found. '
    "Use only the findings."
)
READER_SCHEMA = {
    "anyOf": [
        {"type": "null"},
        {
            "type": "object",
            "properties": {
                "explanation": {"type": "string", "maxLength": 200},
                "citation": {"anyOf": [{"type": "string", "maxLength": 400}, {"type": "null"}]},
                "answer": {"anyOf": [{"type": "string", "maxLength": 200}, {"type": "null"}]},
            },
            "required": ["citation", "answer"],
            "additionalProperties": False,
        },
    ]
}
DECISION_SCHEMA = {
    "type": "object",
    "properties": {
        "decision": {"enum": ["final", "additional"]},
        "answer": {"type": "string", "maxLength": 800},
        "feedback": {"type": "string", "maxLength": 200},
    },
    "required": ["decision", "answer", "feedback"],
    "additionalProperties": False,
}

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


class NotBelieved(GossamerError):
    """A reader's or a supervisor's answer that is not of the form, or that its text belies."""

    code = "not_believed"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that was checked: where it stands, and who found it."""

    task: str
    chunk: int
    citation: str
    answer: str
    node: str = ""
    worker: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor's word on a round."""

    final: bool
    answer: str = ""
    feedback: str = ""


class _Reader(msgspec.Struct, frozen=True):
    citation: str | None
    answer: str | None
    explanation: str = ""


class _Tasks(msgspec.Struct, frozen=True):
    tasks: list[str]


class _Decision(msgspec.Struct, frozen=True):
    decision: str
    answer: str
    feedback: str


def reader_request(chunk: str, task: str) -> Generate:
    """What a reader is asked."""
    return Generate(
        messages=[Message("system", EXTRACT_JSON), Message("user", extract_request(chunk, task))],
        max_tokens=READER_TOKENS,
        json_schema=msgspec.json.encode(READER_SCHEMA).decode(),
    )


def tasks_request(about: str, question: str, feedback: str = "") -> Generate:
    """What a supervisor is asked first, and again when something is missing."""
    asked = f"{question} (still missing: {feedback})" if feedback else question
    return Generate(
        messages=[
            Message("system", READING_TASKS),
            Message("user", reading_request(about, asked)),
        ],
        max_tokens=DECISION_TOKENS,
        json_schema=msgspec.json.encode(READING_SCHEMA).decode(),
    )


def decision_request(question: str, tasks: Sequence[str], found: Sequence[Found]) -> Generate:
    """What a supervisor is asked after a round: the findings, never the text."""
    lines = [f"- {f.task} {f.answer} [{f.citation}]" for f in found[:MAX_FINDINGS_SHOWN]]
    lines += [f"- {task} nothing found" for task in tasks if all(f.task != task for f in found)]
    return Generate(
        messages=[
            Message("system", JUDGE),
            Message("user", f"Question: {question}\nFindings:\n" + "\n".join(lines)),
        ],
        max_tokens=DECISION_TOKENS,
        json_schema=msgspec.json.encode(DECISION_SCHEMA).decode(),
    )


def read_answer(
    text: str, task: str, chunk: str, number: int, node: str, worker: str
) -> Found | None:
    """A reader's answer, None where it found nothing; raises :class:`NotBelieved`."""
    try:
        said = msgspec.json.decode(text, type=_Reader | None)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise NotBelieved(f"the reader's answer is not of the form: {error}") from error
    if said is None or said.citation is None or said.answer is None:
        return None
    citation, answer = said.citation.strip(), said.answer.strip()
    if not citation or not answer:
        return None
    if _plain(citation) not in _plain(chunk):
        raise NotBelieved("the citation does not stand in the text")
    if numbers(answer) - numbers(citation):
        raise NotBelieved("the answer has a number that its citation lacks")
    return Found(
        task=task, chunk=number, citation=citation, answer=answer, node=node, worker=worker
    )


def read_tasks(text: str) -> list[str]:
    """A supervisor's tasks; raises :class:`NotBelieved`."""
    try:
        said = msgspec.json.decode(text, type=_Tasks).tasks
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise NotBelieved(f"the supervisor's tasks are not of the form: {error}") from error
    tasks = [task.strip()[:MAX_TASK_CHARS] for task in said if task.strip()]
    if not tasks:
        raise NotBelieved("the supervisor wrote no task")
    return list(dict.fromkeys(tasks))[:MAX_READING_TASKS]


def read_decision(text: str) -> Decision:
    """A supervisor's decision; raises :class:`NotBelieved`."""
    try:
        said = msgspec.json.decode(text, type=_Decision)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise NotBelieved(f"the supervisor's decision is not of the form: {error}") from error
    if said.decision not in {"final", "additional"}:
        raise NotBelieved(f"the supervisor decided {said.decision[:20]!r}")
    return Decision(final=said.decision == "final", answer=said.answer, feedback=said.feedback)


def numbers(text: str) -> set[str]:
    """The numbers in a text."""
    return set(_NUMBER.findall(text))


def _plain(text: str) -> str:
    return " ".join(text.split())

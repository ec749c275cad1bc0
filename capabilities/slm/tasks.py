"""The tasks that the embedded general model knows beside chat: how each is asked, what comes back.

An instruction goes into the system turn, word for word: the model was trained on exactly these.
Any larger model understands them too. Schemas are JSON Schema, for an answer held to its form.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "EXTRACT", "EXTRACT_JSON", "EXTRACT_SCHEMA", "JOIN", "MAX_PLAN_STEPS", "MAX_READING_TASKS",
    "NOT_THERE", "PLAN", "PLAN_SCHEMA", "READING_SCHEMA", "READING_TASKS", "REWORD",
    "extract_request", "join_request", "plan_request", "reading_request",
]  # fmt: skip

MAX_PLAN_STEPS = 8  # as the orchestrator takes
MAX_READING_TASKS = 3  # of one round: what MinionS allows its supervisor

PLAN = "Split the request into steps. Answer in JSON."
EXTRACT = "Answer from the text. Quote it, or say that it is not there."
EXTRACT_JSON = "Answer from the text, in JSON, with a citation or null."
REWORD = "Say the request in other words. Do not answer it."
JOIN = "Join the findings into one text. Say what is missing."
READING_TASKS = "Write tasks for readers who each see one part of the text. Answer in JSON."

NOT_THERE = "That is not in the text."

PLAN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_PLAN_STEPS,
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "integer", "minimum": 1, "maximum": MAX_PLAN_STEPS},
                    "question": {"type": "string", "maxLength": 400},
                    "name": {"type": "string", "maxLength": 253},
                    "depends": {
                        "type": "array",
                        "maxItems": MAX_PLAN_STEPS - 1,
                        "items": {"type": "integer", "minimum": 1, "maximum": MAX_PLAN_STEPS},
                    },
                },
                "required": ["id", "question", "name", "depends"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["steps"],
    "additionalProperties": False,
}
EXTRACT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "citation": {"anyOf": [{"type": "string", "maxLength": 400}, {"type": "null"}]},
        "answer": {"anyOf": [{"type": "string", "maxLength": 200}, {"type": "null"}]},
    },
    "required": ["citation", "answer"],
    "additionalProperties": False,
}
READING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "tasks": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_READING_TASKS,
            "items": {"type": "string", "maxLength": 200},
        }
    },
    "required": ["tasks"],
    "additionalProperties": False,
}


def plan_request(names: list[str], request: str) -> str:
    """The user turn that goes with PLAN; `names` are those that a step may call."""
    return f"Names: {', '.join(names)}\nRequest: {request}"


def extract_request(text: str, question: str) -> str:
    """The user turn that goes with EXTRACT and EXTRACT_JSON."""
    return f"Text:\n{text}\nQuestion: {question}"


def join_request(findings: list[tuple[str, str]]) -> str:
    """The user turn that goes with JOIN: what each name answered, empty text for nothing."""
    lines = [f"- {name}: {' '.join(text.split()) or 'no answer'}" for name, text in findings]
    return "\n".join(lines)


def reading_request(about: str, question: str) -> str:
    """The user turn that goes with READING_TASKS; `about` says what kind of text it is."""
    return f"Text: {about}\nQuestion: {question}"

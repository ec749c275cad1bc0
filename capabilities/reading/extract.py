"""A fact found in a piece of text by patterns: deterministic, no model, called extractive.

The line or sentence that holds what the task names is the citation; the answer is the part of it
that the task's question word asks for: a time, a name, a place, a cause, a number. Where either
is not there, nothing is. It reads plain statements (logs, readings, reports) and no more: it
knows no synonyms, counts nothing and follows nothing over two sentences.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from capabilities.reading.units import sentences

COVERAGE = 0.6  # of what the task names that a sentence must hold; an identifier always
MAX_CITATION_CHARS = 400
MAX_ANSWER_CHARS = 200

_WORD = re.compile(r"[A-Za-z][\w.]*(?:-[\w.]*\w)?|\d+(?:[.:,]\d+)*")
_TIME = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b|\b\d{4}-\d{2}-\d{2}\b")
_NUMBER = re.compile(
    r"(?<![\w:.-])-?\d+(?:[.,]\d+)*(?![\w:-])\s?(?:%|[a-zA-Z]+/[a-zA-Z]+\d?|[a-zA-Z]{1,5}\b)?"
)
_BY = re.compile(r"\bby ([A-Z]\w+(?: [A-Z]\w+)?)|(?:^|[.\]] )([A-Z]\w+) (?:reports|says|wrote)\b")
_PLACE = re.compile(
    r"\b(?:in|at|from) ((?:the )?[a-z]+(?: [a-z]+)?(?: \d+)?)(?= (?:was|were)\b|[,:.)\]]|$)"
    r"|, ((?:the )?[a-z]+(?: [a-z]+)?(?: \d+)?)$"
)
_CAUSE = re.compile(
    r"\b(?:because of|due to|caused by|after|cause:?) ([^,.;()]+)|\(([^()]+)\)|\b[A-Z]\w+: ([^:]+)$"
)
_KINDS = (
    ("time", re.compile(r"^\W*(?:find )?(?:when\b|(?:at|on) (?:what|which) (?:time|day|date)\b)")),
    ("person", re.compile(r"^\W*(?:find )?(?:who\b|which person\b|whose\b)")),
    ("place", re.compile(r"^\W*(?:find )?(?:where\b|in (?:what|which) place\b)")),
    ("cause", re.compile(r"^\W*(?:find )?(?:why\b|because of what\b|what (?:is|was) the cause\b)")),
)
# Words of a question that say what is asked of, not what is looked for.
_SMALL = frozenset(
    re.findall(
        r"\w+",
        "a about all an and any are as at be because been by can care cause counted date day dealt "
        "did do does find for from give get happen happened has have high how in is it its long "
        "low made many measure measured much number of on or person place recorded report reported "
        "reports saw say says see seen show showed shown some state tell that the their there they "
        "this time to took total value was were what when where which who whom whose why with work "
        "worked",
    )
)


class Finding(NamedTuple):
    """What was found: the sentence word for word, and the part of it that answers."""

    citation: str
    answer: str
    explanation: str


def extract(text: str, task: str) -> Finding | None:
    """The best sentence of ``text`` for ``task`` and its answer; None where it is not there."""
    wanted = terms(task)
    if not wanted:
        return None
    named = {term for term in wanted if _is_identifier(term)}
    kind = next((name for name, pattern in _KINDS if pattern.search(task.lower())), "value")
    best: tuple[float, Finding] | None = None
    for sentence in sentences(text):
        held = {word.lower().rstrip(".") for word in _WORD.findall(sentence)}
        if not named <= held:
            continue
        share = sum(_holds(held, term) for term in wanted) / len(wanted)
        if share < COVERAGE or (best is not None and share <= best[0]):
            continue
        answer = _answer(sentence, kind, wanted)
        if answer:
            why = f"{share:.0%} of what the task names, and a {kind}"
            best = share, Finding(sentence[:MAX_CITATION_CHARS], answer[:MAX_ANSWER_CHARS], why)
    return best[1] if best else None


def terms(task: str) -> list[str]:
    """What a task names, small words aside, each once."""
    words = (word.lower().rstrip(".") for word in _WORD.findall(task))
    return list(dict.fromkeys(word for word in words if word not in _SMALL))


def _is_identifier(term: str) -> bool:
    return any(character.isdigit() for character in term)


def _holds(held: set[str], term: str) -> bool:
    if term in held:
        return True
    stem = term[:-1] if term.endswith("s") else term
    return len(stem) > 3 and any(word in {stem, stem + "s"} for word in held)


def _answer(sentence: str, kind: str, wanted: list[str]) -> str:
    if kind == "time":
        found = _TIME.search(sentence)
        return found.group() if found else ""
    if kind == "value":
        return _value(sentence, wanted)
    pattern = {"person": _BY, "place": _PLACE, "cause": _CAUSE}[kind]
    match = pattern.search(sentence)
    return next((group.strip() for group in match.groups() if group), "") if match else ""


def _value(sentence: str, wanted: list[str]) -> str:
    """The number next to what is asked for, with its unit; times and identifiers are none."""
    plain = _TIME.sub(lambda match: "_" * len(match.group()), sentence)
    attributes = [term for term in wanted if not any(c.isdigit() for c in term)] or wanted
    places = [
        match.end() for term in attributes for match in re.finditer(re.escape(term), plain, re.I)
    ]
    best, nearest = "", len(sentence) + 1
    identifiers = [
        match.span() for term in wanted for match in re.finditer(re.escape(term), plain, re.I)
    ]
    for match in _NUMBER.finditer(plain.replace("=", " ")):
        start, end = match.span()
        if any(a <= start < b for a, b in identifiers):
            continue
        distance = min((abs(start - place) for place in places), default=start)
        if distance < nearest:
            best, nearest = _tidy(sentence[start:end], wanted), distance
    return best


def _tidy(number: str, wanted: list[str]) -> str:
    """A number without a word behind it that is no unit."""
    value, _, unit = number.strip().partition(" ")
    if unit.lower() in {"at", "in", "by", "of", "on", "to", *wanted} or len(unit) > 5:
        return value
    return f"{value} {unit}".strip()

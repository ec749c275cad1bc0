"""A document into passages that can be found, quoted and cited. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

PASSAGE_CHARS = 700  # about 150 words: one thought, and several fit a small model's prompt
LONGEST_CHARS = 1200
MIN_CHARS = 40  # a shorter rest says nothing alone

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9\"'(\[])")


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """``title`` is the headings above it, ``place`` where it stands ("lines 12 to 20")."""

    title: str
    text: str
    place: str


def passages(text: str, *, title: str = "") -> list[Passage]:
    """Cut at headings, then paragraphs, then sentences; small paragraphs are put together.

    The text of every passage is the document's own, with white space made plain.
    """
    found: list[Passage] = []
    for heading, first, lines in _sections(text):
        name = " - ".join(part for part in (title, heading) if part)
        found += _packed(name, first, lines)
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a text, for quoting only what bears on a question."""
    found = [piece.strip() for piece in _SENTENCE.split(text)]
    return [piece for piece in found if piece]


def _sections(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """Heading, number of the first line (from 1), lines; Markdown's headings count."""
    heading, first, lines = "", 1, list[str]()
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        match = None if fenced else _HEADING.match(line)
        if match is None:
            lines.append(line)
            continue
        yield heading, first, lines
        heading, first, lines = match[2], number + 1, []
    yield heading, first, lines


def _packed(title: str, first: int, lines: list[str]) -> Iterator[Passage]:
    held: list[str] = []
    size, begun, last = 0, first, first

    def made() -> Passage:
        where = f"line {begun}" if begun == last else f"lines {begun} to {last}"
        return Passage(title=title, text=" ".join(held), place=where)

    for start, end, paragraph in _paragraphs(first, lines):
        for piece in _pieces(paragraph):
            if held and size + len(piece) > PASSAGE_CHARS:
                yield made()
                held, size = [], 0
            if not held:
                begun = start
            held.append(piece)
            size += len(piece) + 1
            last = end
    if held and (size >= MIN_CHARS or len(" ".join(held).split()) > 1):
        yield made()


def _paragraphs(first: int, lines: list[str]) -> Iterator[tuple[int, int, str]]:
    held: list[str] = []
    begun = first
    for number, line in enumerate([*lines, ""], first):
        if line.strip():
            if not held:
                begun = number
            held.append(line.strip())
        elif held:
            yield begun, number - 1, " ".join(" ".join(held).split())
            held = []


def _pieces(paragraph: str) -> Iterator[str]:
    """A paragraph in pieces of at most LONGEST_CHARS, cut between sentences where there are."""
    if len(paragraph) <= LONGEST_CHARS:
        yield paragraph
        return
    held = ""
    for sentence in sentences(paragraph):
        for at in range(0, len(sentence), LONGEST_CHARS):
            part = sentence[at : at + LONGEST_CHARS]
            if held and len(held) + len(part) + 1 > PASSAGE_CHARS:
                yield held
                held = ""
            held = f"{held} {part}".strip()
    if held:
        yield held

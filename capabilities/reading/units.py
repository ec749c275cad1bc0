"""The lines and sentences of a text, word for word as they stand in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A full stop ends a sentence before a space and something that begins one.
_END = re.compile(r"(?<=[.!?])[ \t]+(?=[A-Z\[\"'(]|\d)")


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends; lines end sentences, blank ones are none."""
    start = 0
    for line in text.split("\n"):
        at = start
        for piece in _END.split(line):
            begin = text.index(piece, at) if piece else at
            at = begin + len(piece)
            if piece.strip():
                yield begin, at
        start += len(line) + 1


def sentences(text: str) -> Iterator[str]:
    """Each sentence without the space around it."""
    for start, end in spans(text):
        yield text[start:end].strip()

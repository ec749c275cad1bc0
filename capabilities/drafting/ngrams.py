"""Drafting without a model: what followed the same words before in this text; pure.

Prompt lookup (Saxena 2023): the last few tokens are looked for earlier in prompt and answer, the
longest match first and the latest of equals. It guesses well where an answer quotes its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 4, 2  # tokens of a match; one token alone matches anything


def lookup(tokens: Sequence[int], length: int) -> list[int]:
    """Up to ``length`` tokens that may follow, or none."""
    size = len(tokens)
    for width in range(min(LONGEST, size - 1), SHORTEST - 1, -1):
        tail = list(tokens[size - width :])
        for start in range(size - width - 1, -1, -1):
            if list(tokens[start : start + width]) == tail:
                return list(tokens[start + width : start + width + length])
    return []

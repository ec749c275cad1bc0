"""The grammar of capability names and how patterns match them.

    name     = root ".gpt" 1*("/" segment)          knowledge.gpt/arithmetic
    root     = "data" / "computation" / "knowledge"
    segment  = lower-case letters, digits, "_", "-" and inner dots
    pattern  = name in which a segment may be "*" (one) or, at the end, "**" (any number)
    address  = name ["@" node]                      one agent in particular

The article's form, section III-C; the limits are DNS's (RFC 1035: 253 characters).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from mesh.core.errors import NameInvalid

ROOTS = ("data", "computation", "knowledge")
MAX_NAME_CHARS = 253
MAX_SEGMENTS = 8

_SEGMENT = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_NODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_EXAMPLE = "a name looks like knowledge.gpt/arithmetic"


class Address(NamedTuple):
    """A name, and the one node asked for it (empty: any)."""

    name: str
    node: str


def _split(text: str, *, pattern: bool) -> tuple[str, list[str]]:
    if len(text) > MAX_NAME_CHARS:
        raise NameInvalid(f"a name has at most {MAX_NAME_CHARS} characters, this has {len(text)}")
    head, *segments = text.split("/")
    root, dot, suffix = head.partition(".")
    known_root = root in ROOTS or (pattern and root == "*")
    if not known_root or not dot or suffix != "gpt":
        raise NameInvalid(
            f"{text[:60]!r} does not begin with data.gpt/, computation.gpt/ or knowledge.gpt/",
            hint=_EXAMPLE,
        )
    if not 1 <= len(segments) <= MAX_SEGMENTS:
        raise NameInvalid(
            f"{text[:60]!r} has {len(segments)} segments; 1 to {MAX_SEGMENTS} are allowed",
            hint=_EXAMPLE,
        )
    for position, segment in enumerate(segments):
        if pattern and segment == "*":
            continue
        if pattern and segment == "**" and position == len(segments) - 1:
            continue
        if not _SEGMENT.fullmatch(segment):
            raise NameInvalid(
                f"{segment[:60]!r} in {text[:60]!r} is no segment: lower-case letters, digits, "
                "'_', '-' and inner dots",
                hint=_EXAMPLE,
            )
    return root, segments


@lru_cache(maxsize=4096)  # asked with each call; the bound is for peers that make up names
def check_name(text: str) -> str:
    """The name itself if it is in the grammar; raises :class:`NameInvalid`."""
    _split(text, pattern=False)
    return text


def as_segment(text: str) -> str:
    """The nearest that a segment of a name comes to a text, such as a file's name.

    >>> as_segment("Qwen2.5 0.5B-Instruct")
    'qwen2.5_0.5b-instruct'
    """
    parts = re.sub(r"[^a-z0-9_.-]", "_", text.lower()).split(".")
    return ".".join(part for part in parts if part) or "_"


def check_pattern(text: str) -> str:
    """The pattern itself if it is in the grammar; raises :class:`NameInvalid`."""
    _split(text, pattern=True)
    return text


def check_node_name(text: str) -> str:
    """A node's name is one DNS label; raises :class:`NameInvalid`."""
    if not _NODE.fullmatch(text):
        raise NameInvalid(
            f"{text[:60]!r} is no node name",
            hint="one to 63 lower-case letters, digits and inner hyphens, such as pi-kitchen",
        )
    return text


def parse_address(text: str) -> Address:
    """``name`` or ``name@node``; raises :class:`NameInvalid`."""
    name, at, node = text.partition("@")
    check_name(name)
    return Address(name, check_node_name(node) if at else "")


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> tuple[str, tuple[str, ...]]:
    root, segments = _split(pattern, pattern=True)
    return root, tuple(segments)


def matches(pattern: str, name: str) -> bool:
    """Whether a checked ``name`` falls under ``pattern``; raises for a bad pattern.

    ``*`` stands for one segment, a final ``**`` for one or more.
    """
    root, want = _compiled(pattern)
    head, *have = name.split("/")
    if root != "*" and head != f"{root}.gpt":
        return False
    if want[-1] == "**":
        want = want[:-1]
        if len(have) <= len(want):
            return False
    elif len(have) != len(want):
        return False
    return all(w in {"*", h} for w, h in zip(want, have, strict=False))


def covers(outer: str, inner: str) -> bool:
    """Whether every name under ``inner`` is also under ``outer``; raises for a bad pattern.

    So is a right decided that is handed on: the issuer's pattern covers what it grants.
    """
    outer_root, limit = _compiled(outer)
    inner_root, want = _compiled(inner)
    if outer_root not in {"*", inner_root}:
        return False
    if limit[-1] == "**":
        fixed = limit[:-1]
        # "**" stands for at least one segment, so the granted pattern must be longer.
        if len(want) <= len(fixed):
            return False
    elif "**" in want or len(want) != len(limit):
        return False
    else:
        fixed = limit
    return all(mine in {"*", theirs} for mine, theirs in zip(fixed, want, strict=False))


def is_pattern(text: str) -> bool:
    """Whether the text holds a wildcard."""
    return "*" in text

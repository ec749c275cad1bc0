"""One JSON schema that says what several say together; pure.

What stands beside ``$ref``, ``anyOf`` or within ``allOf`` holds at once. Keywords are brought
together one by one; where two cannot become one the schema is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from capabilities.slm.errors import BadRequest, Unsupported

MAX_PARTS = 32  # of a product of alternatives

_LARGER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_SMALLER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_INNER = ("items",)
Resolve = Callable[[Any], Any]


def together(parts: Sequence[Any], notes: frozenset[str], resolve: Resolve) -> Any:
    """The schema that holds where all of ``parts`` hold.

    ``notes`` are keywords that say nothing; ``resolve`` follows a ``$ref`` of a schema.
    Raises BadRequest where nothing satisfies them all, Unsupported where no one schema says it.
    """
    merged: Any = True
    for part in parts:
        merged = _two(merged, part, notes, resolve)
    return merged


def _two(one: Any, other: Any, notes: frozenset[str], resolve: Resolve) -> Any:
    one, other = resolve(one), resolve(other)
    if one is True or one == {}:
        return other
    if other is True or other == {}:
        return one
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        raise BadRequest("the JSON schema has parts of allOf that nothing satisfies together")
    one, other = (_flat(part, notes, resolve) for part in (one, other))
    for mine, theirs in ((one, other), (other, one)):
        for word in ("anyOf", "oneOf"):
            if word in mine:
                return _spread(mine, theirs, word, notes, resolve)
    made: dict[str, Any] = {}
    for word in dict.fromkeys((*one, *other)):
        if word in notes:
            continue
        if word not in other or word not in one:
            made[word] = one.get(word, other.get(word))
        else:
            made[word] = _both(word, one[word], other[word], notes, resolve)
    _closed(one, other, made)
    return _chosen(made)


def _flat(part: Mapping[str, Any], notes: frozenset[str], resolve: Resolve) -> Mapping[str, Any]:
    """A part without an allOf of its own."""
    if "allOf" not in part:
        return part
    rest = {word: value for word, value in part.items() if word != "allOf"}
    inner = part["allOf"]
    if not isinstance(inner, list):
        raise BadRequest("allOf of a JSON schema is a list")
    flat = together([rest, *inner], notes, resolve)
    return flat if isinstance(flat, Mapping) else {}


def _spread(
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    word: str,
    notes: frozenset[str],
    resolve: Resolve,
) -> Any:
    """(a or b) and c is (a and c) or (b and c)."""
    rest = {key: value for key, value in mine.items() if key != word and key not in notes}
    parts = mine[word]
    if not isinstance(parts, list) or not parts or len(parts) > MAX_PARTS:
        raise BadRequest(f"{word} of a JSON schema is a list of 1 to {MAX_PARTS} parts")
    found = []
    for part in parts:
        try:
            found.append(together([rest, part, theirs], notes, resolve))
        except BadRequest:
            continue  # this alternative cannot hold beside the rest
    if not found:
        raise BadRequest("the JSON schema has parts that nothing satisfies together")
    return {word: found}


def _both(word: str, one: Any, other: Any, notes: frozenset[str], resolve: Resolve) -> Any:
    if one == other:
        return one
    if word == "type":
        return _kinds(one, other)
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    if word in _LARGER and numbers:
        return max(one, other)
    if word in _SMALLER and numbers:
        return min(one, other)
    if word == "properties" and isinstance(one, Mapping) and isinstance(other, Mapping):
        return {
            name: together([s[name] for s in (one, other) if name in s], notes, resolve)
            for name in dict.fromkeys((*one, *other))
        }
    if word == "required" and isinstance(one, list) and isinstance(other, list):
        return list(dict.fromkeys([*one, *other]))
    if word == "enum" and isinstance(one, list) and isinstance(other, list):
        known = set(map(json.dumps, other))
        return [value for value in one if json.dumps(value) in known]
    if word in _INNER:
        return together([one, other], notes, resolve)
    if word == "uniqueItems":
        return bool(one) or bool(other)
    if word == "additionalProperties" and (isinstance(one, bool) or isinstance(other, bool)):
        if False in (one, other):
            return False
        return other if one is True else one
    raise Unsupported(
        f"a JSON schema in which two parts say {word} differently",
        hint="merge them by hand",
    )


def _kinds(one: Any, other: Any) -> Any:
    mine, theirs = ([kind] if isinstance(kind, str) else list(kind) for kind in (one, other))
    both = [kind for kind in mine if kind in theirs]
    for kinds, others in ((mine, theirs), (theirs, mine)):
        if "integer" in kinds and "number" in others and "integer" not in both:
            both.append("integer")
    if not both:
        raise BadRequest("the JSON schema has parts of different types that must hold together")
    return both[0] if len(both) == 1 else both


def _closed(one: Mapping[str, Any], other: Mapping[str, Any], made: dict[str, Any]) -> None:
    """Take out the properties that a part without further ones does not know."""
    for closed, free in ((one, other), (other, one)):
        extra = closed.get("additionalProperties", True)
        strange = set(free.get("properties", {})) - set(closed.get("properties", {}))
        if extra is True or not strange:
            continue
        if extra is not False:
            raise Unsupported(
                "a JSON schema in which additionalProperties must hold properties of another part",
                hint="merge them by hand",
            )
        if needed := strange & set(made.get("required", [])):
            raise BadRequest(
                f"the JSON schema requires {min(needed)!r:.80} and allows no such name"
            )
        made["properties"] = {k: v for k, v in made["properties"].items() if k not in strange}


def _chosen(made: dict[str, Any]) -> dict[str, Any]:
    """With an enum and a const only what both allow."""
    if "const" in made and "enum" in made:
        if json.dumps(made["const"]) not in set(map(json.dumps, made["enum"])):
            raise BadRequest("the JSON schema has a const that its enum does not allow")
        del made["enum"]
    if "enum" in made and not made["enum"]:
        raise BadRequest("the JSON schema has parts whose enums have nothing in common")
    return made

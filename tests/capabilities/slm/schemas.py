"""Twenty JSON schemas, a validator of their keywords, and a speaker of random sentences."""

from __future__ import annotations

import random
import re
from typing import Any

from capabilities.slm.gbnf import Item, Rules, check

_POINT = {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}}
SCHEMAS: dict[str, Any] = {
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "percent": {"type": "integer", "minimum": 0, "maximum": 100},
    "reading": {"type": "number", "minimum": -40, "exclusiveMaximum": 85.5},
    "year": {"type": "integer", "exclusiveMinimum": 1899, "exclusiveMaximum": 2101},
    "word": {"type": "string", "minLength": 1, "maxLength": 12},
    "colour": {"enum": ["red", "green", 'blue "sky"', "naïve"]},
    "constant": {"const": {"answer": [42, None, True]}},
    "maybe": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
    "day": {"type": "string", "format": "date"},
    "moment": {"type": "string", "format": "date-time"},
    "id": {"type": "string", "format": "uuid"},
    "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "pair": {
        "type": "array",
        "prefixItems": [{"enum": ["a", "b"]}, {"type": "integer", "minimum": 0, "maximum": 9}],
        "minItems": 2,
    },
    "point": {**_POINT, "required": ["y"], "additionalProperties": False},
    "free": {"type": "object", "additionalProperties": {"type": "boolean"}},
    "triage": {
        "type": "object",
        "title": "Triage",
        "properties": {
            "level": {"type": "string", "enum": ["low", "high"]},
            "pulse": {"type": ["integer", "null"], "minimum": 20, "maximum": 250},
            "notes": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 2},
        },
        "required": ["level", "pulse"],
    },
    "shape": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": "dot"}, "at": {"$ref": "#/$defs/point"}},
                "required": ["kind", "at"],
            },
            {
                "type": "object",
                "properties": {"kind": {"const": "ring"}, "r": {"type": "integer", "minimum": 1}},
                "required": ["kind"],
            },
        ],
        "$defs": {"point": {**_POINT, "required": ["x", "y"]}},
    },
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer", "minimum": 0, "maximum": 9},
                    "children": {
                        "type": "array",
                        "items": {"$ref": "#/$defs/node"},
                        "maxItems": 1,
                    },
                },
                "required": ["value"],
            }
        },
        "$ref": "#/$defs/node",
    },
    "anything": True,
}


def speak(grammar: str, rng: random.Random) -> str:
    """A random sentence of a grammar made by :mod:`capabilities.slm.schema`."""
    return _Speaker(grammar, check(grammar), rng).rule("root", 0)


class _Speaker:
    def __init__(self, grammar: str, rules: Rules, rng: random.Random) -> None:
        self._texts = grammar
        self._rules = rules
        self._rng = rng

    def rule(self, name: str, depth: int) -> str:
        if name == "char":
            return self._rng.choice(["a", "Z", "é", " ", "\\n", '\\"', "{", ","])
        if name == "digit":
            return self._rng.choice("0123456789")
        if name == "hex":
            return self._rng.choice("0123456789abcdef")
        return self._one_of(self._rules[name], depth + 1)

    def _one_of(self, rule: list[list[Item]], depth: int) -> str:
        return "".join(self._item(item, depth) for item in self._rng.choice(rule))

    def _item(self, item: Item, depth: int) -> str:
        most = item.most if item.most >= 0 else item.least + 3
        times = (
            item.least if depth > 60 else self._rng.randint(item.least, min(most, item.least + 3))
        )
        return "".join(self._once(item, depth) for _ in range(times))

    def _once(self, item: Item, depth: int) -> str:
        if item.rule:
            return self.rule(item.rule, depth)
        if item.body:
            return self._one_of(item.body, depth)
        return self._terminal(item)

    def _terminal(self, item: Item) -> str:
        source = self._texts[item.begin : item.end]
        if source.startswith('"'):
            body = source[1:-1]
            return re.sub(
                r"\\(x([0-9A-F]{2})|.)",
                lambda m: chr(int(m[2], 16)) if m[2] else m[1],
                body,
            )
        low, high = (source[1], source[-2])
        return chr(self._rng.randint(ord(low), ord(high)))


def valid(value: Any, schema: Any, whole: Any) -> bool:
    """Whether a value is an instance; of the keywords of :data:`SCHEMAS` only."""
    if schema is True:
        return True
    if "$ref" in schema:
        target = whole
        for step in schema["$ref"].split("/")[1:]:
            target = target[step]
        return valid(value, target, whole)
    if "oneOf" in schema and sum(valid(value, s, whole) for s in schema["oneOf"]) != 1:
        return False
    if "anyOf" in schema and not any(valid(value, s, whole) for s in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds and not any(_is(value, kind) for kind in kinds):
        return False
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, (int, float)):
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and schema.get("exclusiveMinimum", value - 1) < value
            and value < schema.get("exclusiveMaximum", value + 1)
        )
    if isinstance(value, str):
        size = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)
        return size and bool(re.fullmatch(_FORMATS[schema.get("format", "")], value, re.DOTALL))
    if isinstance(value, list):
        fixed = schema.get("prefixItems", [])
        return (
            schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9)
            and all(valid(v, s, whole) for v, s in zip(value, fixed, strict=False))
            and all(valid(v, schema.get("items", True), whole) for v in value[len(fixed) :])
        )
    named = schema.get("properties", {})
    extra = schema.get("additionalProperties", True)
    return all(name in value for name in schema.get("required", [])) and all(
        valid(v, named[k], whole) if k in named else extra is not False and valid(v, extra, whole)
        for k, v in value.items()
    )


_FORMATS = {
    "": ".*",
    "date": r"\d{4}-\d\d-\d\d",
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}


def _is(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if isinstance(value, bool):
        return kind == "boolean"
    types: dict[str, Any] = {
        "integer": int,
        "number": (int, float),
        "string": str,
        "array": list,
        "object": dict,
    }
    return kind in types and isinstance(value, types[kind])

"""JSON schemas, and a speaker of random sentences of the grammars made from them."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema

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
    "plate": {"type": "string", "pattern": r"^[A-Z]{1,3}-[A-Z]{2}[1-9]\d{0,3}$"},
    "version": {"type": "string", "pattern": r"^v?(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}$"},
    "quoted": {"type": "string", "pattern": r'^("|\\|\n|[^a-z"]){3,6}$', "maxLength": 5},
    "inside": {"type": "string", "pattern": r"\d{2}|^x.y$", "minLength": 4},
    "nick": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$", "minLength": 3, "maxLength": 8},
    "two names": {"type": "string", "pattern": r"^\w+ \S+$", "maxLength": 12},
    "mail": {"type": "string", "format": "email", "maxLength": 254},
    "address": {"type": "string", "format": "ipv4"},
    "host": {"type": "string", "format": "hostname"},
    "sevens": {"type": "integer", "multipleOf": 7, "minimum": -40, "maximum": 12345},
    "hundreds": {"type": "integer", "multipleOf": 300, "exclusiveMaximum": 4500},
    "quarters": {"type": "number", "multipleOf": 0.25, "minimum": -3, "exclusiveMaximum": 11},
    "halves": {"type": "integer", "multipleOf": 1.5},
    "days": {
        "type": "array",
        "items": {"enum": ["mon", "tue", "wed", "thu"]},
        "uniqueItems": True,
        "minItems": 1,
    },
    "lottery": {
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": 49},
        "uniqueItems": True,
        "minItems": 6,
        "maxItems": 6,
    },
    "answers": {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True},
    "both": {
        "allOf": [
            {"$ref": "#/$defs/named"},
            {"type": "object", "properties": {"size": {"minimum": 3, "type": "integer"}}},
            {"properties": {"size": {"maximum": 9}}, "required": ["size"]},
        ],
        "$defs": {"named": {"type": "object", "properties": {"name": {"enum": ["a", "b"]}}}},
    },
    "either and": {
        "type": "object",
        "properties": {"kind": {"type": "string", "maxLength": 4}},
        "anyOf": [
            {"properties": {"x": {"type": "boolean"}}, "required": ["x"]},
            {"properties": {"kind": {"minLength": 2}}, "required": ["kind"]},
        ],
    },
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
        chars = _CHAR.findall(source[1:-1])
        if source.startswith('"'):
            return "".join(map(_plain, chars))
        spans = []
        while chars:
            low = high = _plain(chars.pop(0))
            if len(chars) > 1 and chars[0] == "-":
                high = _plain(chars[1])
                del chars[:2]
            spans.append((ord(low), ord(high)))
        return chr(self._rng.randint(*self._rng.choice(spans)))


_CHAR = re.compile(r"\\x..|\\u....|\\U.{8}|\\.|.", re.DOTALL)


def _plain(char: str) -> str:
    if char[0] != "\\":
        return char
    return chr(int(char[2:], 16)) if char[1] in "xuU" else char[1]


def valid(text: str, schema: Any) -> bool:
    """Whether a JSON text is an instance, its format checked too."""
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    return bool(checker.is_valid(json.loads(text)))

"""From JSON schemas to grammars: what is held, and what is refused rather than ignored."""

from __future__ import annotations

import json
import math
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.slm import gbnf, ranges, schema
from capabilities.slm.errors import BadRequest, Unsupported
from tests.capabilities.slm.schemas import SCHEMAS, speak, valid


@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_the_grammar_says_is_an_instance(name: str) -> None:
    grammar = schema.to_gbnf(json.dumps(SCHEMAS[name]))
    rng = random.Random(name)
    for _ in range(40):
        text = speak(grammar, rng)
        assert valid(json.loads(text), SCHEMAS[name], SCHEMAS[name]), text


def test_every_optional_property_can_come_alone_and_together() -> None:
    names = ["a", "b", "c"]
    one = {"type": "object", "properties": {name: {"type": "null"} for name in names}}
    grammar = schema.to_gbnf(json.dumps(one))
    rng = random.Random(1)
    seen = {tuple(json.loads(speak(grammar, rng))) for _ in range(400)}
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("one", "word"),
    [
        ({"type": "string", "pattern": "^a+$"}, "pattern"),
        ({"type": "string", "format": "email"}, "email"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {}}, "contains"),
        ({"type": "integer", "multipleOf": 7}, "multipleOf"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
        ({"type": "object", "minProperties": 2}, "minProperties"),
        ({"not": {"type": "null"}}, "not"),
        ({"if": {}, "then": {}}, "if"),
        ({"allOf": [{"type": "null"}, {"type": "null"}]}, "allOf"),
        ({"anyOf": [{"type": "null"}], "minLength": 2}, "minLength"),
        ({"enum": ["a", "bc"], "minLength": 2}, "minLength"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"$ref": "https://example.org/schema.json"}, "outside"),
        ({"$ref": "file:///etc/passwd"}, "outside"),
    ],
)
def test_what_a_grammar_cannot_hold_is_refused_by_name(one: object, word: str) -> None:
    with pytest.raises(Unsupported, match=word):
        schema.to_gbnf(json.dumps(one))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "no JSON"),
        ("[" * 20_000, "no JSON"),
        ('{"const": NaN}', "no JSON"),
        ("7", "an object"),
        ("false", "nothing satisfies"),
        ('{"type": "colour"}', "unknown type"),
        ('{"type": []}', "unknown type"),
        ('{"enum": []}', "not empty"),
        ('{"enum": ["a"], "type": "integer"}', "without a value"),
        ('{"type": "integer", "minimum": 5, "maximum": 3}', "no whole number"),
        ('{"type": "integer", "minimum": true}', "is a number"),
        ('{"type": "number", "minimum": 0.2, "maximum": 0.3}', "too close"),
        ('{"type": "string", "minLength": -1}', "whole numbers"),
        ('{"type": "string", "minLength": 5, "maxLength": 2}', "above"),
        ('{"type": "object", "required": ["a"], "additionalProperties": false}', "requires"),
        ('{"type": "object", "properties": []}', "properties"),
        ('{"$ref": "#/$defs/none"}', "nowhere"),
        ('{"$ref": "#"}', "itself"),
        ('{"type": "array", "minItems": 1, "items": {"$ref": "#"}}', "never comes to an end"),
        ('{"type": "string", "title": "' + "x" * schema.MAX_CHARS + '"}', "characters"),
    ],
)
def test_a_wrong_schema_is_refused_with_its_reason(text: str, word: str) -> None:
    with pytest.raises(BadRequest, match=word):
        schema.to_gbnf(text)


def test_a_schema_of_schemas_without_end_is_refused() -> None:
    one: dict[str, object] = {"type": "null"}
    for _ in range(40):
        one = {"type": "array", "items": one}
    with pytest.raises(BadRequest, match="nested deeper"):
        schema.to_gbnf(json.dumps(one))
    wide = {"type": "object", "properties": {str(i): {"type": "null"} for i in range(1_100)}}
    with pytest.raises(BadRequest):
        schema.to_gbnf(json.dumps(wide))


def _expression(body: str) -> re.Pattern[str]:
    """An expression of digits as a regular expression."""
    text = body.replace("digit", "[0-9]").replace('"."', r"\.").replace(" ", "").replace('"', "")
    return re.compile(text)


@given(st.integers(-3000, 3000), st.integers(0, 3000), st.integers(-3500, 7000))
def test_a_whole_number_is_allowed_exactly_within_its_limits(
    low: int, width: int, value: int
) -> None:
    body = ranges.integers(low, False, low + width, False)
    gbnf.check(f"root ::= {body}\ndigit ::= [0-9]")
    assert bool(_expression(body).fullmatch(str(value))) == (low <= value <= low + width)


@given(
    st.floats(-50, 50),
    st.booleans(),
    st.floats(1.5, 60),
    st.booleans(),
    st.decimals(-120, 120, places=3),
)
def test_a_number_that_is_allowed_lies_within_its_limits(
    low: float, above: bool, width: float, below: bool, value: object
) -> None:
    high = low + width
    body = ranges.numbers(low, above, high, below)
    if _expression(body).fullmatch(str(value)):
        number = float(str(value))
        assert low <= number <= high
        assert not (above and number == low)
        assert not (below and number == high)


def test_numbers_without_limits_have_bounded_digits() -> None:
    body = _expression(ranges.numbers(-math.inf, False, math.inf, False))
    assert all(body.fullmatch(text) for text in ("0", "-0.5", "123456.789", "-999999999999999"))
    assert not any(body.fullmatch(text) for text in ("00", "01", "1.", ".5", "9" * 16))

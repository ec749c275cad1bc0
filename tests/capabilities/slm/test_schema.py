"""From JSON schemas to grammars: what is held, and what is refused rather than ignored."""

from __future__ import annotations

import json
import math
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.slm import gbnf, patterns, ranges, schema
from capabilities.slm.errors import BadRequest, Unsupported
from capabilities.slm.multiples import Multiples
from tests.capabilities.slm.schemas import SCHEMAS, speak, valid


@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_the_grammar_says_is_an_instance(name: str) -> None:
    grammar = schema.to_gbnf(json.dumps(SCHEMAS[name]))
    rng = random.Random(name)
    for _ in range(40):
        text = speak(grammar, rng)
        assert valid(text, SCHEMAS[name]), text


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
        ({"type": "string", "pattern": r"^(a)\1$"}, "position 6"),
        ({"type": "string", "pattern": "^(?=a)b"}, r"\(\?="),
        ({"type": "string", "pattern": r"\bword\b"}, "position 2"),
        ({"type": "string", "pattern": "a^b"}, r"'\^' at position 1"),
        ({"type": "string", "pattern": r"^\p{L}$"}, "position 3"),
        ({"type": "string", "pattern": "^(ab)+c?$", "maxLength": 5}, "counted together"),
        ({"type": "string", "pattern": "a", "format": "date"}, "beside a pattern"),
        ({"type": "string", "format": "date", "maxLength": 5}, "another length"),
        ({"type": "string", "format": "iri"}, "iri"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "items": {"enum": [*range(300)]}, "uniqueItems": True}, "300 values"),
        ({"type": "integer", "multipleOf": 127}, "multipleOf 127"),
        ({"type": "number", "multipleOf": 1e-9}, "multipleOf"),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "pattern differently"),
        (
            {"allOf": [{"anyOf": [{"minimum": n}, {"minLength": n}]} for n in range(30)]},
            "bounded time",
        ),
        ({"type": "array", "contains": {}}, "contains"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
        ({"type": "object", "minProperties": 2}, "minProperties"),
        ({"not": {"type": "null"}}, "not"),
        ({"if": {}, "then": {}}, "if"),
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
        ('{"allOf": [{"type": "null"}, {"type": "string"}]}', "different types"),
        ('{"allOf": [{"enum": [1]}, {"enum": [2]}]}', "nothing in common"),
        (
            '{"allOf": [{"required": ["a"], "properties": {"a": {}}, "type": "object"},'
            ' {"type": "object", "properties": {}, "additionalProperties": false}]}',
            "requires 'a'",
        ),
        ('{"type": "integer", "multipleOf": 0}', "above 0"),
        ('{"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 6}', "no multiple"),
        ('{"items": {"type": "boolean"}, "minItems": 3, "uniqueItems": true}', "3 different"),
        ('{"type": "string", "pattern": "(a"}', "does not close"),
        ('{"type": "string", "pattern": "*a"}', "repeats nothing"),
        ('{"type": "string", "pattern": "a{2,1}"}', "grows"),
        ('{"type": "string", "pattern": "[b-a]"}', "backwards"),
        ('{"type": "string", "pattern": "[a"}', "middle of something"),
        ('{"type": "string", "pattern": "^a{3}$", "maxLength": 2}', "longer or shorter"),
        ('{"type": "string", "pattern": "^(a*)*$"}', "may be empty"),
        ('{"type": "string", "pattern": 7}', "is a text"),
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


@given(st.integers(1, 60), st.integers(-500, 500), st.integers(0, 700), st.integers(-1500, 1500))
def test_a_multiple_is_allowed_exactly_within_its_limits(
    step: int, low: int, width: int, value: int
) -> None:
    limits = low, False, low + width, False
    try:
        body = Multiples(step, lambda one: f"({one})", whole=True).expression(*limits)
    except BadRequest:
        assert -(-low // step) * step > low + width
        return
    allowed = low <= value <= low + width and value % step == 0
    assert bool(_expression(body).fullmatch(str(value))) == allowed


@given(
    st.sampled_from([r"^[^\d\s]{1,4}$", r"^(a|b\.)*x?$", r"^\W\D\S$", "^[\\]\\-^]+$", "^.{2}$"]),
    st.randoms(use_true_random=False),
)
def test_what_a_pattern_says_matches_it_in_python_and_in_ascii(
    pattern: str, rng: random.Random
) -> None:
    text = json.loads(speak(f'root ::= "\\"" ({patterns.to_gbnf(pattern)}) "\\""', rng))
    assert re.search(pattern, text)
    assert re.search(pattern, text, re.ASCII)


def test_all_orders_of_different_items_can_come() -> None:
    one = {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True}
    grammar = schema.to_gbnf(json.dumps(one))
    rng = random.Random(2)
    seen = {"".join(json.loads(speak(grammar, rng))) for _ in range(600)}
    assert len(seen) == 1 + 3 + 6 + 6


def test_what_is_equal_to_json_is_one_value() -> None:
    one = {"items": {"enum": [1, 1.0, "1", True]}, "uniqueItems": True, "minItems": 3}
    grammar = schema.to_gbnf(json.dumps({"type": "array", **one}))
    rng = random.Random(3)
    assert {len(json.loads(speak(grammar, rng))) for _ in range(50)} == {3}


def test_an_alternative_that_cannot_hold_beside_the_rest_is_left_out() -> None:
    one = {"type": "integer", "minimum": 3, "maximum": 4, "anyOf": [{"type": "string"}, {}]}
    assert "char" not in schema.to_gbnf(json.dumps(one)).split("root", 1)[1]

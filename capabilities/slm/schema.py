"""A JSON schema as a GBNF grammar whose every sentence is an instance of it; pure.

Nothing is fetched: a reference must lie in the schema itself. A keyword that the grammar cannot
hold is refused by name, never ignored, so an answer that came to its end is valid. Where a
schema leaves a size open, the grammar bounds it (the constants below), so that an answer ends.
Dialect: JSON Schema 2020-12; the subset is listed in docs/engine.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from capabilities.slm import distinct, gbnf, merging, patterns
from capabilities.slm.errors import BadRequest, Unsupported
from capabilities.slm.multiples import Multiples
from capabilities.slm.ranges import integers, numbers

MAX_CHARS = 32 * 1024  # of the schema; its size bounds the grammar's
MAX_DEPTH = 24  # of schemas within schemas, also through references while one is being made
MAX_SCHEMAS = 1_000
MAX_MERGES = 2_000  # alternatives within allOf multiply
OPEN_STRING = 240  # characters of a string without maxLength
OPEN_ARRAY = 16  # items of an array without maxItems
LONGEST_STRING, LONGEST_ARRAY = 1_000, 200  # what a larger bound is cut down to
MOST_VALUES = 100  # of a range of whole numbers that are told apart
VALUE_DEPTH = 2  # containers within containers of a value of any type

_NOTES = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
    | {"$schema", "$id", "$comment", "$defs", "definitions"}
    | {"strict"}  # a flag of OpenAI's beside the schema, which Home Assistant writes into it
)
_KEYWORDS = {
    "object": frozenset(["properties", "required", "additionalProperties"]),
    "array": frozenset(["items", "prefixItems", "minItems", "maxItems", "uniqueItems"]),
    "string": frozenset(["minLength", "maxLength", "format", "pattern"]),
    "integer": frozenset(
        ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]
    ),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
}
_KEYWORDS["number"] = _KEYWORDS["integer"]
_BASE = """ws ::= " "?
comma ::= "," ws
colon ::= ":" ws
char ::= [^"\\\\\\x00-\\x1F\\x7F] | "\\\\" ["\\\\/bfnrt]
digit ::= [0-9]
hex ::= [0-9a-f]
boolean ::= "true" | "false"
null ::= "null"
"""
_DAY = '"0" [1-9] | "1" digit | "2" [0-8]'  # the days that every month has
_DATE = f'[1-9] digit{{3}} "-" ("0" [1-9] | "1" [0-2]) "-" ({_DAY})'
_TIME = '([01] digit | "2" [0-3]) ":" [0-5] digit ":" [0-5] digit "Z"'
_BYTE = '("25" [0-5] | "2" [0-4] digit | "1" digit{2} | [1-9] digit | digit)'
_LABEL = '[a-z] ([a-z0-9] | "-" [a-z0-9]){0,20}'
_HOST = f'{_LABEL} ("." {_LABEL}){{0,2}} "." [a-z]{{2,6}}'
# Each with its least and most characters.
_FORMATS = {
    "date": (_DATE, 10, 10),
    "time": (_TIME, 9, 9),
    "date-time": (f'{_DATE} "T" {_TIME}', 20, 20),
    "uuid": ('hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}', 36, 36),
    "ipv4": (f'{_BYTE} ("." {_BYTE}){{3}}', 7, 15),
    "hostname": (_HOST, 4, 132),
    "email": (f'[a-z0-9] ([a-z0-9] | [._+] [a-z0-9]){{0,15}} "@" {_HOST}', 6, 164),
}


def to_gbnf(text: str) -> str:
    """The grammar of a schema given as JSON text; raises BadRequest or Unsupported."""
    if len(text) > MAX_CHARS:
        raise BadRequest(f"the JSON schema has {len(text)} characters; it may have {MAX_CHARS}")
    try:
        schema = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the JSON schema is no JSON: {error}") from None
    try:
        grammar = _Maker(schema).grammar()
    except RecursionError:
        raise BadRequest("the JSON schema is nested too deeply", hint="simplify it") from None
    gbnf.check(grammar)
    return grammar


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


class _Maker:
    def __init__(self, schema: Any) -> None:
        self._whole = schema
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}  # of bodies
        self._refs: dict[str, str] = {}
        self._count = 0
        self._merges = 0

    def grammar(self) -> str:
        root = self._make(self._whole, 0)
        lines = [f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self._rules.items())]
        return _BASE + "\n".join(lines) + "\n"

    def _add(self, body: str) -> str:
        """A rule of its own, so that what it stands in stays short; equal rules are one."""
        if body not in self._names:
            self._names[body] = name = f"r{len(self._rules)}"
            self._rules[name] = body
        return self._names[body]

    def _make(self, schema: Any, depth: int) -> str:
        """An expression, safe to stand in a sequence."""
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_SCHEMAS:
            raise BadRequest(
                f"the JSON schema is nested deeper than {MAX_DEPTH} or has more than "
                f"{MAX_SCHEMAS} parts",
                hint="simplify it",
            )
        if schema is True or schema == {}:
            return self._value(VALUE_DEPTH)
        if schema is False:
            raise BadRequest("the JSON schema has a part that nothing satisfies: false")
        if not isinstance(schema, Mapping):
            raise BadRequest("a JSON schema is an object, true or false")
        used = set(schema) - _NOTES
        held = used & {"$ref", "anyOf", "oneOf", "allOf"}
        if "allOf" in held or (held and len(used) > 1):
            return self._make(self._merged(schema, held), depth + 1)
        for keyword, make in (
            ("$ref", self._ref),
            ("const", lambda value, _: self._literals(_enum([value], schema))),
            ("enum", lambda values, _: self._literals(_enum(values, schema))),
            ("anyOf", self._any_of),
            ("oneOf", self._one_of),
        ):
            if keyword in used:
                _only(used - {keyword} - ({"type"} if keyword in ("const", "enum") else set()), ())
                return make(schema[keyword], depth)
        kinds = _kinds(schema)
        allowed = {"type"}.union(*(_KEYWORDS[kind] for kind in kinds))
        _only(used, allowed)
        made = [getattr(self, f"_{kind}")(schema, depth) for kind in kinds]
        return made[0] if len(made) == 1 else self._add(" | ".join(made))

    # --- combinations

    def _ref(self, pointer: Any, depth: int) -> str:
        if pointer not in self._refs:
            target = self._target(pointer)
            self._refs[pointer] = name = f"ref{len(self._refs)}"
            self._rules[name] = ""  # a schema may refer to itself
            self._rules[name] = self._make(target, depth + 1)
        return self._refs[pointer]

    def _any_of(self, parts: Any, depth: int) -> str:
        return self._add(" | ".join(self._make(part, depth + 1) for part in _parts(parts)))

    def _one_of(self, parts: Any, depth: int) -> str:
        if not _disjoint([self._resolved(part) for part in _parts(parts)]):
            raise Unsupported(
                "the JSON schema has a oneOf whose parts are not told apart by type or by a "
                "required property with a const",
                hint="use anyOf",
            )
        return self._any_of(parts, depth)

    def _merged(self, schema: Mapping[str, Any], held: set[str]) -> Any:
        """A schema without combinations that stand beside other keywords."""
        rest = {word: value for word, value in schema.items() if word not in held | _NOTES}
        parts = _parts(schema["allOf"]) if "allOf" in held else []
        apart = [{word: schema[word]} for word in sorted(held - {"allOf"})]
        return merging.together([rest, *parts, *apart], _NOTES, self._resolved)

    def _resolved(self, part: Any) -> Any:
        """A schema whose ``$ref`` is replaced by what it names, with what stands beside it."""
        self._merges += 1
        if self._merges > MAX_MERGES:
            raise Unsupported(
                "a JSON schema whose parts cannot be brought together in bounded time",
                hint="simplify its allOf, anyOf and $ref",
            )
        for _ in range(MAX_DEPTH):
            if not isinstance(part, Mapping) or "$ref" not in part:
                return part
            rest = {k: v for k, v in part.items() if k != "$ref" and k not in _NOTES}
            target = self._target(part["$ref"])
            part = {"allOf": [target], **rest} if rest else target
        raise BadRequest("the JSON schema has a $ref that leads back to itself")

    def _target(self, pointer: Any) -> Any:
        if not isinstance(pointer, str) or not pointer.startswith("#"):
            raise Unsupported(
                f"the JSON schema refers to {str(pointer)[:80]!r}, which lies outside of it",
                hint="copy it into $defs; nothing is fetched",
            )
        target: Any = self._whole
        for step in pointer[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or key not in target:
                raise BadRequest(f"the JSON schema refers to {pointer[:80]!r}, which is nowhere")
            target = target[key]
        return target

    def _literals(self, values: Sequence[Any]) -> str:
        texts = [json.dumps(value, ensure_ascii=False) for value in values]
        return self._add(" | ".join(gbnf.quote(text) for text in texts))

    # --- types

    def _object(self, schema: Mapping[str, Any], depth: int) -> str:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        extra = schema.get("additionalProperties", True)
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            raise BadRequest("properties is an object of schemas and required a list of names")
        unknown = [name for name in required if name not in properties]
        if unknown and extra is False:
            raise BadRequest(f"the JSON schema requires {unknown[0]!r:.80} and allows no such name")
        if not properties and not unknown and extra is not False:
            pair = self._add(f"{self._text(1, 32)} colon {self._make(extra, depth + 1)}")
            return self._add(f'"{{" ({pair} (comma {pair}){{0,{OPEN_ARRAY - 1}}})? "}}"')
        schemas = {**properties, **dict.fromkeys(map(str, unknown), extra)}
        pairs = {
            name: self._add(
                f"{gbnf.quote(json.dumps(name, ensure_ascii=False))} colon "
                f"{self._make(part, depth + 1)}"
            )
            for name, part in schemas.items()
        }
        needed = [pairs[name] for name in schemas if name in required]
        free = [pairs[name] for name in schemas if name not in required]
        after = "".join(f" (comma {pair})?" for pair in free)
        if needed:
            return self._add('"{" ' + " comma ".join(needed) + after + ' "}"')
        # The first of the optional ones has no comma before it, whichever it is.
        rest = ""
        starts: list[str] = []
        for pair in reversed(free):
            starts.append(f"{pair} {rest}".strip())
            rest = self._add(f"(comma {pair})? {rest}".strip())
        return self._add('"{" (' + " | ".join(reversed(starts)) + ')? "}"') if free else '"{}"'

    def _array(self, schema: Mapping[str, Any], depth: int) -> str:
        least, most = _bounds(schema, "minItems", "maxItems", OPEN_ARRAY, LONGEST_ARRAY)
        if schema.get("uniqueItems") and most > 1:
            if "prefixItems" in schema:
                raise Unsupported("uniqueItems beside prefixItems", hint="leave one of them out")
            values = [gbnf.quote(one) for one in self._values(schema.get("items", True))]
            return self._add(distinct.array(values, least, most, self._add))
        prefix = schema.get("prefixItems", [])
        if prefix:
            if not least <= len(prefix) <= most:
                raise Unsupported(
                    "prefixItems with items after them", hint="set no larger minItems"
                )
            return self._add(
                '"[" ' + " comma ".join(self._make(p, depth + 1) for p in _parts(prefix)) + ' "]"'
            )
        if most == 0:
            return '"[]"'
        item = self._make(schema.get("items", True), depth + 1)
        some = f"{item} (comma {item}){{{max(0, least - 1)},{most - 1}}}"
        return self._add(f'"[" {some} "]"' if least else f'"[" ({some})? "]"')

    def _string(self, schema: Mapping[str, Any], _depth: int) -> str:
        least, most = _bounds(schema, "minLength", "maxLength", OPEN_STRING, LONGEST_STRING)
        form, pattern = schema.get("format"), schema.get("pattern")
        if form is not None:
            if not isinstance(form, str) or form not in _FORMATS:
                known = ", ".join(_FORMATS)
                raise Unsupported(
                    f"a JSON schema with the format {form!r:.60}", hint=f"use {known}"
                )
            body, shortest, longest = _FORMATS[form]
            if pattern is not None or shortest < least or longest > most:
                raise Unsupported(
                    f"a JSON schema with the format {form} beside a pattern or another length",
                    hint="leave one of them out",
                )
        elif pattern is not None:
            if not isinstance(pattern, str):
                raise BadRequest("pattern of a JSON schema is a text")
            limit = most if "maxLength" in schema else None
            body = f"({patterns.to_gbnf(pattern, least, limit)})"
        else:
            return self._text(least, most)
        return self._add(f'"\\"" {body} "\\""')

    def _text(self, least: int, most: int) -> str:
        return self._add(f'"\\"" char{{{least},{most}}} "\\""')

    def _integer(self, schema: Mapping[str, Any], _depth: int) -> str:
        if "multipleOf" in schema:
            return self._multiples(schema, whole=True)
        return self._add(integers(*_limits(schema)))

    def _number(self, schema: Mapping[str, Any], _depth: int) -> str:
        if "multipleOf" in schema:
            return self._multiples(schema, whole=False)
        return self._add(numbers(*_limits(schema)))

    def _multiples(self, schema: Mapping[str, Any], *, whole: bool) -> str:
        steps = Multiples(schema["multipleOf"], self._add, whole=whole)
        return self._add(steps.expression(*_limits(schema)))

    def _values(self, schema: Any) -> list[str]:
        """All values of a schema as JSON texts, where they are few; raises Unsupported."""
        part = self._resolved(schema)
        if isinstance(part, Mapping) and "allOf" in part:
            part = self._merged(part, {"allOf"})
        found: list[Any] | None = None
        if isinstance(part, Mapping):
            used = set(part) - _NOTES
            if used <= {"enum", "const", "type"} and used & {"enum", "const"}:
                found = _enum(part["enum"] if "enum" in part else [part["const"]], part)
            elif part.get("type") == "boolean":
                found = [True, False]
            elif part.get("type") == "integer" and used <= {"type", *_KEYWORDS["integer"]}:
                found = _few(part)
        if found is None:
            raise Unsupported(
                "a JSON schema with uniqueItems whose items are no enum, boolean or small range "
                "of whole numbers",
                hint="leave it out and check the answer",
            )
        # 1 and 1.0 are the same number.
        same = [int(v) if isinstance(v, float) and v.is_integer() else v for v in found]
        return list(dict.fromkeys(json.dumps(v, ensure_ascii=False) for v in same))

    def _boolean(self, _schema: Mapping[str, Any], _depth: int) -> str:
        return "boolean"

    def _null(self, _schema: Mapping[str, Any], _depth: int) -> str:
        return "null"

    def _value(self, depth: int) -> str:
        scalars = [self._text(0, OPEN_STRING), self._number({}, 0), "boolean", "null"]
        if depth:
            inner = self._value(depth - 1)
            pair = self._add(f"{self._text(1, 32)} colon {inner}")
            more = OPEN_ARRAY - 1
            scalars.append(self._add(f'"[" ({inner} (comma {inner}){{0,{more}}})? "]"'))
            scalars.append(self._add(f'"{{" ({pair} (comma {pair}){{0,{more}}})? "}}"'))
        return self._add(" | ".join(scalars))


def _only(used: set[str], allowed: object) -> None:
    assert isinstance(allowed, (set, tuple))
    if strange := sorted(used - set(allowed)):
        raise Unsupported(
            f"an answer cannot be held to {strange[0][:60]!r} of this JSON schema where it stands",
            hint="leave it out and check the answer, or write a grammar",
        )


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    given = schema.get("type")
    if given is None:
        fitting = [kind for kind, words in _KEYWORDS.items() if words & set(schema)]
        return fitting[:1] or ["object"]
    kinds = given if isinstance(given, list) else [given]
    strange = [kind for kind in kinds if not isinstance(kind, str) or kind not in _KEYWORDS]
    if strange or not kinds:
        raise BadRequest(f"the JSON schema has an unknown type {str(strange or given)[:60]}")
    return list(dict.fromkeys(kinds))


def _parts(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise BadRequest("anyOf, oneOf, allOf, prefixItems and enum are lists that are not empty")
    return value


def _is_kind(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float):
        return kind == "number" or (kind == "integer" and value.is_integer())
    types = {"string": str, "integer": int, "number": int, "array": list, "object": dict}
    return value is None if kind == "null" else isinstance(value, types.get(kind, ()))


def _enum(values: Any, schema: Mapping[str, Any]) -> list[Any]:
    kinds = _kinds(schema) if "type" in schema else []
    fitting = [v for v in _parts(values) if not kinds or any(_is_kind(v, k) for k in kinds)]
    if not fitting:
        raise BadRequest("the JSON schema has an enum without a value of its type")
    return fitting


def _bounds(
    schema: Mapping[str, Any], low: str, high: str, free: int, longest: int
) -> tuple[int, int]:
    """The least and the most, the latter made finite and no larger than ``longest``."""
    least, most = schema.get(low, 0), schema.get(high)
    for value in (least, 0 if most is None else most):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise BadRequest(f"{low} and {high} of a JSON schema are whole numbers from 0 on")
    if least > longest:
        raise Unsupported(f"a JSON schema with {low} {least}; an answer may have {longest}")
    top = max(free, least) if most is None else min(most, longest)
    if top < least:
        raise BadRequest(f"the JSON schema has {low} above {high}")
    return least, top


def _limits(schema: Mapping[str, Any]) -> tuple[float, bool, float, bool]:
    """The lower limit and whether it is excluded, the upper and whether it is."""
    for word in _KEYWORDS["integer"] & set(schema):
        value = schema[word]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadRequest(f"{word} of a JSON schema is a number")
    low, above = schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)
    high, below = schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf)
    return (
        max(low, above),
        above >= low and above > -math.inf,
        min(high, below),
        (below <= high and below < math.inf),
    )


def _few(schema: Mapping[str, Any]) -> list[Any] | None:
    """The whole numbers of a small range."""
    low, above, high, below = _limits(schema)
    if not high - low <= MOST_VALUES:
        return None
    step = schema.get("multipleOf", 1)
    if isinstance(step, bool) or not isinstance(step, (int, float)) or step <= 0:
        raise BadRequest("multipleOf of a JSON schema is a number above 0")
    return [
        value
        for value in range(math.ceil(low), math.floor(high) + 1)
        if value % step == 0 and not (above and value == low) and not (below and value == high)
    ]


def _disjoint(parts: Sequence[Any]) -> bool:
    """Whether no value satisfies two of the parts."""

    def told_apart(one: Any, other: Any) -> bool:
        if not isinstance(one, Mapping) or not isinstance(other, Mapping):
            return False
        if "type" in one and "type" in other:
            mine, theirs = set(_kinds(one)), set(_kinds(other))
            both = mine | theirs
            if not mine & theirs and not {"integer", "number"} <= both:
                return True
        names = set(one.get("required", [])) & set(other.get("required", []))
        tags = [(_tags(one, name), _tags(other, name)) for name in names]
        return any(left and right and not left & right for left, right in tags)

    return all(told_apart(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :])


def _tags(schema: Mapping[str, Any], name: str) -> set[str]:
    part = schema.get("properties", {}).get(name, {})
    values = [part["const"]] if "const" in part else part.get("enum", [])
    return {json.dumps(value) for value in values}

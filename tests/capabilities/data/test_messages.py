"""What a feed carries is checked where it arrives."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.data.lines import parse_line, value_of
from capabilities.data.messages import (
    Embedding,
    Summary,
    Update,
    decode_message,
    decode_told,
    decode_value,
)
from capabilities.messages import Sample, encode
from mesh.core.errors import WireError

NAME = "data.gpt/air/raw"
SPACE = {"model": "m", "dimensionality": 3, "normalised": True, "digest": "abc"}
GOOD = {
    "kind": "embedding",
    "domain": "air",
    "type": "raw",
    "dimensionality": 3,
    "space": SPACE,
    "data": struct.pack("<3f", 1, 0, 0),
    "source": "n",
    "at": 1.0,
}


def without(field: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != field}


def test_a_whole_embedding_is_taken() -> None:
    value = decode_value(msgspec.msgpack.encode(GOOD))
    assert isinstance(value, Embedding)
    assert value.vector() == (1, 0, 0)


@pytest.mark.parametrize("field", ["domain", "type", "dimensionality", "space", "data"])
def test_an_embedding_without_a_mandatory_field_is_refused(field: str) -> None:
    with pytest.raises(WireError):
        decode_value(msgspec.msgpack.encode(without(field)))


@pytest.mark.parametrize(
    "change",
    [
        {"dimensionality": 4},
        {"space": {**SPACE, "dimensionality": 4}},
        {"space": {**SPACE, "model": ""}},
        {"space": {**SPACE, "dimensionality": 0}, "dimensionality": 0, "data": b""},
        {"data": b"12"},
        {"data": struct.pack("<3f", 1, float("nan"), 0)},
        {"data": struct.pack("<3f", 1, float("inf"), 0)},
        {"kind": "picture"},
    ],
)
def test_an_embedding_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode_value(msgspec.msgpack.encode({**GOOD, **change}))


@pytest.mark.parametrize(
    "value",
    [
        Sample(domain="", type="raw", source="n", at=1.0, values={"v": 1.0}),
        Sample(domain="air", type="", source="n", at=1.0, values={"v": 1.0}),
        Sample(domain="air", type="raw", source="n", at=float("nan"), values={"v": 1.0}),
        Sample(domain="air", type="raw", source="n", at=1.0, values={}),
        Sample(domain="air", type="raw", source="n", at=1.0, values={"v": float("inf")}),
        Sample(
            domain="air", type="raw", source="n", at=1.0, values={f"v{n}": 1.0 for n in range(65)}
        ),
        Sample(domain="air", type="raw", source="x" * 121, at=1.0, values={"v": 1.0}),
        Summary(domain="air", type="summary", source="n", at=1.0, text="  "),
        Summary(domain="air", type="summary", source="n", at=1.0, text="x" * 9000),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(value: Any) -> None:
    with pytest.raises(WireError):
        decode_told(encode(Update(epoch=1, sequence=1, key="k", version=1, at=1.0, value=value)))


def test_a_key_that_no_terminal_should_see_is_refused() -> None:
    sample = Sample(domain="air", type="raw", source="n", at=1.0, values={"v": 1.0})
    for key in ("\x1b[2J", "x" * 121):
        update = Update(epoch=1, sequence=1, key=key, version=1, at=1.0, value=sample)
        with pytest.raises(WireError, match="printable"):
            decode_told(encode(update))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(WireError):
        decode_message(data)


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "key", "text", "values", "embedding"]),
        st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.just(SPACE)),
    )
)
def test_no_object_of_a_program_breaks_the_publisher(raw: dict[str, Any]) -> None:
    with contextlib.suppress(WireError):
        value_of(raw, NAME, source="n", now=1.0)


def test_numbers_of_a_line_are_readings() -> None:
    raw = parse_line('{"pm25": 14, "station": "north", "ok": true, "at": 5}')
    key, value = value_of(raw, NAME, source="n", now=9.0, key_field="station")
    assert key == "north"
    assert value == Sample(domain="air", type="raw", source="n", at=5.0, values={"pm25": 14.0})


def test_a_line_may_be_an_embedding_with_its_space() -> None:
    raw = {"embedding": [1, 0, 0], "dimensionality": 3, "type": "raw", "space": SPACE}
    _, value = value_of(raw, NAME, source="n", now=9.0)
    assert isinstance(value, Embedding)
    for field in ("dimensionality", "type", "space"):
        with pytest.raises(WireError, match=field):
            value_of({k: v for k, v in raw.items() if k != field}, NAME, source="n", now=9.0)
    with pytest.raises(WireError, match="traffic"):
        value_of({**raw, "domain": "traffic"}, NAME, source="n", now=9.0)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"word": "x"},
        {"values": {"a": "b"}},
        {"values": [1]},
        {"v": 1, "at": "now"},
        {"v": 1, "at": True},
        {"v": 1, "key": [1]},
        {"text": 5},
        {"embedding": "abc", "dimensionality": 3, "type": "raw", "space": SPACE},
        {"embedding": [1, 2], "dimensionality": 3, "type": "raw", "space": SPACE},
        {"embedding": [1, 2, 3], "dimensionality": 3, "type": "raw", "space": {"model": "m"}},
    ],
)
def test_an_object_that_is_no_value_says_why(raw: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        value_of(raw, NAME, source="n", now=1.0)


@pytest.mark.parametrize("line", ["", "x", "[1]", "3", "{", "[" * 5000])
def test_a_line_that_is_no_object_is_refused(line: str) -> None:
    with pytest.raises(WireError):
        parse_line(line)

"""What payloads say: plain numbers, JSON, SenML and Sparkplug, good and bad."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.sensors.mapping import Mapper, Rule, taken
from capabilities.sensors.payload import Shape, decode
from capabilities.sensors.readings import Path, moment, time_of
from capabilities.sensors.senml import decode_senml
from capabilities.sensors.sparkplug import SparkplugBook, rebirth_command, schema
from capabilities.sensors.topics import TopicPattern
from mesh.core.errors import ConfigError, GossamerError, WireError


def test_places_of_a_topic_are_known_by_name() -> None:
    pattern = TopicPattern("city/{station}/+/{rest}")
    assert pattern.filter == "city/+/+/#"
    assert pattern.match("city/north/air/a/b") == {"station": "north", "1": "air", "rest": "a/b"}
    assert pattern.match("town/north/air/a") is None
    assert TopicPattern("+/x").match("$SYS/x") is None
    assert TopicPattern("a/#").match("a") == {"rest": ""}


@pytest.mark.parametrize("bad", ["", "a/#/b", "a/b+", "{a}/{a}", "a/{A}", "x" * 600])
def test_what_is_no_filter_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError):
        TopicPattern(bad)


@pytest.mark.parametrize(
    ("body", "value"),
    [(b"14.2", 14.2), (b" -3 ", -3.0), (b"ON", 1.0), (b"false", 0.0), (b"1e3", 1000.0)],
)
def test_a_plain_number_is_a_reading(body: bytes, value: float) -> None:
    (found,) = decode(body, Shape(value="pm25"))
    assert found.values == {"pm25": value}


@pytest.mark.parametrize("body", [b"NA", b"", b"null", b"unavailable", b"NaN"])
def test_a_missing_value_is_missing_and_no_error(body: bytes) -> None:
    (found,) = decode(body, Shape(value="pm25"))
    assert found.values == {}
    assert found.missing == ("pm25",)


def test_json_is_read_by_paths_and_scaled() -> None:
    shape = Shape(
        values={"t": Path("weather.temp"), "pm": Path('m[1]["p.m"]'), "none": Path("x")},
        scale={"t": 0.1},
        time=Path("ts"),
        sequence=Path("n"),
    )
    raw = {"weather": {"temp": 215}, "m": [0, {"p.m": "7"}], "ts": "2026-01-01T00:00:00Z", "n": 3}
    (found,) = decode(json.dumps(raw).encode(), shape)
    assert found.values == pytest.approx({"t": 21.5, "pm": 7.0})
    assert found.missing == ("none",)
    assert found.sequence == 3
    assert found.at == 1767225600.0


def test_without_paths_every_number_at_the_top_is_a_reading() -> None:
    (found,) = decode(b'{"PM2.5": 4, "name": "x", "deep": {"a": 1}}', Shape())
    assert found.values == {"pm2.5": 4.0}


def test_a_list_of_samples_has_the_times_of_its_rate() -> None:
    found = decode(b'{"ppg": [1, 2, 3]}', Shape(rate_hz=100.0))
    assert [one.values["ppg"] for one in found] == [1.0, 2.0, 3.0]
    assert [moment(one.at, 50.0) for one in found] == pytest.approx([49.98, 49.99, 50.0])


@pytest.mark.parametrize("value", [1767225600, 1767225600000, "2026-01-01T00:00:00", "1767225600"])
def test_times_are_seconds_milliseconds_or_text(value: Any) -> None:
    assert time_of(value) == 1767225600.0


PACK = [
    {"bn": "urn:dev:north/", "bt": 1767225600, "bu": "Cel", "n": "temp", "v": 21.5},
    {"n": "temp", "t": 60, "v": 22.0},
    {"n": "open", "vb": True},
    {"n": "label", "vs": "text is passed over"},
]


def test_senml_resolves_its_base_fields() -> None:
    found = decode(json.dumps(PACK).encode(), Shape())
    assert [(one.at, one.values) for one in found] == [
        (1767225600.0, {"temp": 21.5, "open": 1.0}),
        (1767225660.0, {"temp": 22.0}),
    ]
    assert found[0].device == "urn:dev:north"
    assert found[0].units == {"temp": "Cel", "open": "Cel"}


def test_senml_in_cbor_says_the_same() -> None:
    labels = {"bn": -2, "bt": -3, "bu": -4, "n": 0, "v": 2, "vs": 3, "vb": 4, "t": 6}
    packed = cbor2.dumps([{labels[k]: v for k, v in record.items()} for record in PACK])
    assert decode(packed, Shape()) == decode(json.dumps(PACK).encode(), Shape())


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"[1]",
        b'[{"bver": 11, "n": "a", "v": 1}]',
        b'[{"n": "a", "v": "1"}]',
        b'[{"n": "a", "must_": 1, "v": 1}]',
        b'[{"v": 1}]',
        b'[{"n": "a", "v": 1e301}]',
        b"\x9f\x9f\x9f",
    ],
)
def test_what_is_no_senml_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_senml(body)


@given(st.binary(max_size=300))
def test_any_bytes_are_readings_or_refused(body: bytes) -> None:
    for shape in (Shape(), Shape(format="senml"), Shape(format="json"), Shape(rate_hz=10.0)):
        try:
            decode(body, shape)
        except GossamerError:
            continue
    with contextlib.suppress(WireError):
        SparkplugBook().hear("spBv1.0/g/NDATA/n", body)


def rule(topic: str, name: str, **more: Any) -> Rule:
    return Rule(TopicPattern(topic), name, **more)


def test_a_topic_names_the_feed_the_key_and_the_reading() -> None:
    made = rule("{domain}/{station}/{what}", "data.gpt/{domain}/raw", shape=Shape(value="{what}"))
    ((found, words),) = Mapper([made]).rules_for("Air Q/north 1/PM2.5")
    (one,) = taken(found, words, b"3")
    assert (one.name, one.key, one.measured.values) == (
        "data.gpt/air-q/raw",
        "north 1",
        {"pm2.5": 3.0},
    )


def test_the_first_rule_that_fits_decides() -> None:
    mapper = Mapper([rule("a/b", "data.gpt/x/raw"), rule("a/+", "data.gpt/y/raw")])
    assert [r.name for r, _ in mapper.rules_for("a/b")] == ["data.gpt/x/raw"]
    assert [r.name for r, _ in mapper.rules_for("a/c")] == ["data.gpt/y/raw"]
    assert mapper.rules_for("c") == []


@pytest.mark.parametrize(
    ("name", "key"), [("knowledge.gpt/x", ""), ("data.gpt/{no}/raw", ""), ("data.gpt/x", "{no}")]
)
def test_a_rule_that_cannot_work_is_refused(name: str, key: str) -> None:
    with pytest.raises(GossamerError):
        rule("a/{b}", name, key=key)


# -- Sparkplug ----------------------------------------------------------------------------------

NBIRTH, NDATA, NDEATH = (f"spBv1.0/plant/{kind}/edge" for kind in ("NBIRTH", "NDATA", "NDEATH"))


def payload(seq: int | None, metrics: list[dict[str, Any]], at_ms: int = 1767225600000) -> bytes:
    made = schema()[0](timestamp=at_ms)
    if seq is not None:
        made.seq = seq
    for metric in metrics:
        made.metrics.add(**metric)
    return bytes(made.SerializeToString())


def birth(number: int = 0) -> bytes:
    return payload(
        0,
        [
            {"name": "bdSeq", "datatype": 8, "long_value": number},
            {"name": "Inputs/Temp", "alias": 7, "datatype": 9, "float_value": 20.5},
            {"name": "Inputs/Offset", "alias": 8, "datatype": 3, "int_value": 2**32 - 5},
            {"name": "Serial", "datatype": 12, "string_value": "abc"},
        ],
    )


def test_sparkplug_data_is_understood_by_the_aliases_of_its_birth() -> None:
    book = SparkplugBook()
    born = book.hear(NBIRTH, birth())
    assert born.born
    assert born.measured[0].values == {"inputs_temp": 20.5, "inputs_offset": -5.0}
    told = book.hear(NDATA, payload(1, [{"alias": 7, "float_value": 21.0}]))
    assert told.measured[0].values == {"inputs_temp": 21.0}
    assert told.measured[0].at == 1767225600.0
    assert told.sequence == 1


def test_sparkplug_data_without_a_birth_asks_for_one_once() -> None:
    book = SparkplugBook()
    told = book.hear(NDATA, payload(9, [{"alias": 7, "float_value": 21.0}]))
    assert told.rebirth == "spBv1.0/plant/NCMD/edge"
    assert told.measured == []
    assert not book.hear(NDATA, payload(10, [])).rebirth
    command = schema()[0].FromString(rebirth_command(5))
    assert command.metrics[0].name == "Node Control/Rebirth"


def test_only_the_death_of_this_life_kills_a_sparkplug_node() -> None:
    book = SparkplugBook()
    book.hear(NBIRTH, birth(4))
    old = payload(None, [{"name": "bdSeq", "datatype": 8, "long_value": 3}])
    assert not book.hear(NDEATH, old).died
    own = payload(None, [{"name": "bdSeq", "datatype": 8, "long_value": 4}])
    assert book.hear(NDEATH, own).died
    assert not book.hear(NDEATH, own).died

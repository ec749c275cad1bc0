"""Home Assistant's announcements, read and written; no template is ever run."""

from __future__ import annotations

import json

import pytest

from capabilities.sensors.home_assistant import (
    announce_node,
    is_discovery,
    read_announcement,
    rules_of,
    summary_state,
)
from capabilities.sensors.mapping import Mapper, taken
from mesh.core.errors import GossamerError

TOPIC = "homeassistant/sensor/kitchen/temperature/config"
NAME = "data.gpt/home/raw"


def announced(**more: object) -> bytes:
    config = {
        "state_topic": "zigbee2mqtt/kitchen",
        "value_template": "{{ value_json.temperature | float }}",
        "unit_of_measurement": "°C",
        "device_class": "temperature",
        "device": {"name": "Kitchen"},
    }
    return json.dumps({**config, **more}).encode()


def test_an_announced_sensor_becomes_a_mapping() -> None:
    (found,) = read_announcement(TOPIC, announced(), NAME)
    assert (found.device, found.reading, found.rule.key) == ("Kitchen", "temperature_c", "Kitchen")
    (one,) = taken(found.rule, {}, b'{"temperature": 21.5, "battery": 90}')
    assert one.measured.values == {"temperature_c": 21.5}


def test_entities_of_one_message_are_one_mapping() -> None:
    first = read_announcement(TOPIC, announced(), NAME)
    more = announced(
        value_template="{{ value_json['humidity'] }}",
        unit_of_measurement="%",
        device_class="humidity",
    )
    second = read_announcement("homeassistant/sensor/kitchen/humidity/config", more, NAME)
    (rule,) = rules_of([*first, *second])
    ((found, words),) = Mapper([rule]).rules_for("zigbee2mqtt/kitchen")
    (one,) = taken(found, words, b'{"temperature": 21.5, "humidity": 40}')
    assert one.measured.values == {"temperature_c": 21.5, "humidity_percent": 40.0}


def test_abbreviations_and_devices_with_components_are_understood() -> None:
    short = {"~": "home/hall", "stat_t": "~/state", "dev_cla": "power", "unit_of_meas": "W"}
    (found,) = read_announcement("homeassistant/sensor/x/config", json.dumps(short).encode(), NAME)
    assert found.rule.pattern.text == "home/hall/state"
    assert found.reading == "power_w"
    device = {
        "dev": {"name": "Station", "ids": ["s1"]},
        "stat_t": "station/state",
        "cmps": {
            "wind": {"p": "sensor", "unit_of_meas": "m/s", "val_tpl": "{{ value_json.wind }}"},
            "reset": {"p": "button"},
        },
    }
    body = json.dumps(device).encode()
    (wind,) = read_announcement("homeassistant/device/s1/config", body, NAME)
    assert (wind.device, wind.reading) == ("Station", "wind_ms")


@pytest.mark.parametrize(
    "template",
    [
        "{{ value_json.a + 1 }}",
        "{% set x = 1 %}{{ x }}",
        "{{ value_json.__class__ () }}",
        "{{ states('sensor.other') }}",
    ],
)
def test_a_template_that_is_a_program_is_refused(template: str) -> None:
    with pytest.raises(GossamerError, match="program"):
        read_announcement(TOPIC, announced(value_template=template), NAME)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"state_topic": "a/#"}', b'{"state_topic": 5}', b"{}", b"x" * 70_000],
)
def test_what_is_no_announcement_is_refused(body: bytes) -> None:
    with pytest.raises(GossamerError):
        read_announcement(TOPIC, body, NAME)


def test_an_empty_announcement_takes_the_sensor_away_and_lights_are_none() -> None:
    assert read_announcement(TOPIC, b"", NAME) == []
    assert read_announcement("homeassistant/light/x/config", announced(), NAME) == []


def test_a_node_is_announced_as_a_device_with_its_availability() -> None:
    shown = announce_node("homeassistant", "hub", "orin 1", temperature=True)
    configs = {one.topic: json.loads(one.body) for one in shown}
    assert all(is_discovery("homeassistant", topic) for topic in configs)
    assert len({config["unique_id"] for config in configs.values()}) == 4
    for config in configs.values():
        assert config["availability_topic"] == "gossamer/hub/availability"
        assert config["state_topic"] == "gossamer/hub/nodes/orin_1"


def test_a_long_summary_is_a_short_state_with_the_whole_beside_it() -> None:
    state = json.loads(summary_state("word " * 100, 5.0))
    assert len(state["state"]) == 255
    assert len(state["text"]) == 500

"""Home Assistant's MQTT discovery: announcements read as mappings, and announcements written. Pure.

Source: Home Assistant, "MQTT discovery" (topics, device and origin, abbreviations) and "MQTT
sensor". A template there is a program (Jinja) that somebody at the broker wrote; of those only the
forms that name one value are understood, and none is ever run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from capabilities.sensors.mapping import Rule
from capabilities.sensors.payload import Shape
from capabilities.sensors.readings import Path
from capabilities.sensors.topics import TopicPattern, name_part
from mesh.core.errors import ConfigError, WireError

COMPONENTS = {"sensor", "binary_sensor", "number"}
MAX_FOUND = 512  # entities that are followed: who announces thousands is no home
MAX_CONFIG_BYTES = 64 * 1024
MAX_STATE_CHARS = 255  # of a state in Home Assistant
# Long names of the abbreviations that bear on what is measured.
_LONG = {
    "stat_t": "state_topic",
    "val_tpl": "value_template",
    "unit_of_meas": "unit_of_measurement",
    "dev_cla": "device_class",
    "uniq_id": "unique_id",
    "obj_id": "object_id",
    "dev": "device",
    "cmps": "components",
    "p": "platform",
    "qos": "qos",
}
# The unit as the end of a reading's name; what is not here goes by its letters.
_UNITS = {
    "°C": "c",
    "°F": "f",
    "%": "percent",
    "µg/m³": "ug_m3",
    "µg/m3": "ug_m3",
    "ug/m3": "ug_m3",
    "hPa": "hpa",
    "km/h": "kmh",
    "m/s": "ms",
}
_VALUE = re.compile(
    r"""\{\{\s*value(?P<json>_json)?(?P<path>(?:\.\w+|\[\d+\]|\[['"][^'"\]]+['"]\])*)\s*"""
    r"""(?:\|\s*(?:float|int|round)(?:\([\d,\s.]*\))?\s*)*\}\}"""
)


@dataclass(frozen=True)
class Entity:
    """A sensor that announced itself."""

    topic: str
    """Of the announcement: an empty one there takes the sensor away."""
    rule: Rule
    device: str
    reading: str
    unit: str


def discovery_filters(prefix: str) -> dict[str, int]:
    """What to subscribe to: with and without a node in the topic."""
    return {f"{prefix}/+/+/config": 1, f"{prefix}/+/+/+/config": 1}


def is_discovery(prefix: str, topic: str) -> bool:
    """Whether a topic is an announcement."""
    parts = topic.split("/")
    return parts[0] == prefix and parts[-1] == "config" and len(parts) in {4, 5}


def read_announcement(topic: str, body: bytes, template: str) -> list[Entity]:
    """The sensors of one announcement, each as a mapping to the feed that ``template`` names;
    none for other components. Raises :class:`WireError` or :class:`ConfigError`."""
    if not body:
        return []
    if len(body) > MAX_CONFIG_BYTES:
        raise WireError(f"an announcement of {len(body)} bytes")
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"an announcement that is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise WireError("an announcement is an object")
    component = topic.split("/")[1]
    top = _long(found)
    if component != "device":
        return _entity(topic, component, topic.split("/")[-2], top, top, template)
    entities: list[Entity] = []
    parts = top.get("components")
    for name, part in parts.items() if isinstance(parts, dict) else ():
        if isinstance(part, dict):
            each = {**_long(part), "~": part.get("~", found.get("~", ""))}
            kind = str(each.get("platform", ""))
            entities += _entity(topic, kind, str(name), each, top, template)
    return entities


def rules_of(entities: list[Entity]) -> list[Rule]:
    """The mappings of all entities: those that read one message into one key are one mapping, so
    that their readings are of one moment."""
    together: dict[tuple[str, str, str], Rule] = {}
    alone: list[Rule] = []
    for one in entities:
        rule = one.rule
        if not rule.shape.values:
            alone.append(rule)
            continue
        place = (rule.pattern.text, rule.name, rule.key)
        known = together.get(place)
        values = {**(known.shape.values if known else {}), **rule.shape.values}
        together[place] = replace(rule, shape=replace(rule.shape, values=values))
    return [*together.values(), *alone]


def _long(found: dict[str, Any]) -> dict[str, Any]:
    return {_LONG.get(str(key), str(key)): value for key, value in found.items()}


def _entity(
    topic: str, component: str, name: str, own: dict[str, Any], top: dict[str, Any], template: str
) -> list[Entity]:
    if component not in COMPONENTS:
        return []
    state = own.get("state_topic") or top.get("state_topic")
    if not isinstance(state, str) or not state or any(sign in state for sign in "+#{}"):
        raise WireError("a sensor without a topic of its state")
    base = own.get("~")
    if isinstance(base, str) and base:
        state = base + state[1:] if state.startswith("~") else state
        state = state[:-1] + base if state.endswith("~") else state
    unit = own.get("unit_of_measurement")
    unit = unit if isinstance(unit, str) else ""
    kind = str(own.get("device_class") or "")
    device = _device(top, own, name)
    word = name_part(kind or name).replace("-", "_").replace(".", "_")
    reading = (
        f"{word}_{suffix}" if (suffix := _suffix(unit)) and not word.endswith(suffix) else word
    )
    path = _path(own.get("value_template"))
    shape = Shape(
        format="auto" if path is None else "json",
        value=reading,
        values={reading: path} if path is not None else {},
    )
    feed = template.replace("{class}", name_part(kind or component).replace(".", "-"))
    feed = feed.replace("{device}", name_part(device).replace(".", "-"))
    key = "".join(sign for sign in device if sign.isprintable() and sign not in "{}")
    rule = Rule(TopicPattern(state), feed, key=key or "unnamed", shape=shape, shared=True)
    return [Entity(topic, rule, device, reading, unit)]


def _device(top: dict[str, Any], own: dict[str, Any], name: str) -> str:
    device = top.get("device")
    if isinstance(device, dict):
        for key in ("name", "ids", "identifiers"):
            word = device.get(key)
            word = word[0] if isinstance(word, list) and word else word
            if isinstance(word, str) and word:
                return word[:80]
    return str(own.get("unique_id") or own.get("object_id") or name)[:80]


def _suffix(unit: str) -> str:
    known = _UNITS.get(unit)
    if known is not None:
        return known
    return re.sub(r"[^a-z0-9]+", "_", unit.lower()).strip("_")[:20]


def _path(template: Any) -> Path | None:
    """The path that a template names, None for the payload as it is."""
    if template is None or template == "":
        return None
    found = _VALUE.fullmatch(str(template).strip())
    if found is None:
        raise ConfigError(
            f"the template {str(template)[:60]!r} is a program, and none is run for a stranger",
            hint="map its topic in [[mqtt.map]]",
        )
    if not found["json"]:
        if found["path"]:
            raise ConfigError("a template that looks into a text")
        return None
    return Path(found["path"].replace("'", '"'))


# -- what the mesh says of itself ---------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """One thing to show: where it is announced, and the announcement as JSON."""

    topic: str
    body: bytes


NODE_READINGS = (
    # key, name, unit, device class
    ("queue", "Queue", "requests", ""),
    ("tokens_per_s", "Tokens per second", "tokens/s", ""),
    ("temperature_c", "Temperature", "°C", "temperature"),
)


def announce_node(prefix: str, bridge: str, node: str, *, temperature: bool) -> list[Shown]:
    """The entities of a node, whose state ``bridge`` sends under :func:`node_state_topic`."""
    ident = _ident(node)
    shown = [
        _shown(
            prefix,
            "binary_sensor",
            bridge,
            node,
            "online",
            {
                "name": "Online",
                "device_class": "connectivity",
                "payload_on": "true",
                "payload_off": "false",
                "value_template": "{{ value_json.online | lower }}",
            },
        )
    ]
    for key, name, unit, kind in NODE_READINGS:
        if key == "temperature_c" and not temperature:
            continue
        config = {
            "name": name,
            "unit_of_measurement": unit,
            "state_class": "measurement",
            "value_template": f"{{{{ value_json.{key} }}}}",
        }
        if kind:
            config["device_class"] = kind
        shown.append(_shown(prefix, "sensor", bridge, node, key, config))
    assert all(ident in one.topic for one in shown)
    return shown


def announce_summary(prefix: str, bridge: str, domain: str, key: str) -> Shown:
    """A summary in words of a feed of the bridge's own node."""
    what = f"summary_{_ident(domain)}" + (f"_{_ident(key)}" if key else "")
    title = f"Summary of {domain}" + (f", {key}" if key else "")
    config = {
        "name": title,
        "state_topic": summary_topic(bridge, domain, key),
        "value_template": "{{ value_json.state }}",
        "json_attributes_topic": summary_topic(bridge, domain, key),
    }
    return _shown(prefix, "sensor", bridge, bridge, what, config)


def node_state_topic(bridge: str, node: str) -> str:
    """Where the state of a node is sent."""
    return f"gossamer/{bridge}/nodes/{_ident(node)}"


def summary_topic(bridge: str, domain: str, key: str) -> str:
    """Where a summary is sent."""
    return f"gossamer/{bridge}/summaries/{_ident(domain)}/{_ident(key) or 'all'}"


def summary_state(text: str, at: float) -> bytes:
    """A summary as a state: its beginning, and the whole as an attribute."""
    short = text if len(text) <= MAX_STATE_CHARS else text[: MAX_STATE_CHARS - 1] + "…"
    return msgspec.json.encode({"state": short, "text": text, "at": at})


def _shown(
    prefix: str, component: str, bridge: str, node: str, what: str, config: dict[str, Any]
) -> Shown:
    ident = f"gossamer_{_ident(node)}"
    full = {
        "unique_id": f"{ident}_{what}",
        "object_id": f"{ident}_{what}",
        "state_topic": node_state_topic(bridge, node),
        "availability_topic": f"gossamer/{bridge}/availability",
        "device": {"identifiers": [ident], "name": node, "manufacturer": "Gossamer"},
        "origin": {"name": "Gossamer"},
        **config,
    }
    return Shown(f"{prefix}/{component}/{ident}/{what}/config", msgspec.json.encode(full))


def _ident(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", word)

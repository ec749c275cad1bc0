"""Who takes part: each agent with what it may offer, its models, its sensors, who may see what."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from examples._stage import Actor

VISITOR = "phone"
JUNCTION = "junction"
CAMERA = "camera-square"
STATIONS = ("dongsi", "guanyuan", "nongzhanguan", "tiantan")
COUNTERS = ("7578", "t4013")
ACROSS = ("air-tiantan", "counter-t4013", "weather")  # beyond the river: what a split cuts off
STALE_S = 4.0  # an hour passes in half a second here; a town would say some hours
PERIOD_S = 0.5


_JUNCTION_NAMES = ("data.gpt/air/trend", "data.gpt/traffic/trend", "computation.gpt/cloud")


@dataclass(frozen=True)
class Town:
    """Where things are. ``hosts`` and ``places`` (network namespaces) are of the centre and of
    the other side of the river."""

    broker: tuple[str, int]
    cloud: str = ""
    key_file: Path = Path("cloud.key")
    added: Path | None = None
    hosts: tuple[str, str] = ("127.0.0.1", "127.0.0.1")
    places: tuple[str, str] = ("", "")
    budget: float = 0.001
    web: str = ""
    http: bool = False


def actors(town: Town) -> list[Actor]:
    """All of them, the one that the others find the mesh through first."""
    made = [_junction(town), *(_station(town, name) for name in STATIONS)]
    made += [_counter(town, name) for name in COUNTERS]
    made += [_weather(town), _camera(town), _records(town, "events"), _records(town, "incidents")]
    return [*made, _phone(town)]


def _actor(
    town: Town, name: str, config: str, *publish: str, groups: tuple[str, ...] = ("city",)
) -> Actor:
    side = int(name in ACROSS)
    return Actor(
        name=name,
        publish=publish,
        config=config,
        groups=groups,
        host=town.hosts[side],
        place=town.places[side],
        node="discovery = false",
    )


def _phone(town: Town) -> Actor:
    """The visitor's device: a general model, a list of what matters, no data of this town."""
    config = (
        _model("general")
        + '[parts]\nplanner = "examples.smart_city.checklist:CheckedPlanner"\n'
        + 'aggregator = "examples.smart_city.judgement:Outdoors"\n'
        + ("[http]\nport = 0\n" if town.http else "")
    )
    names = ("computation.gpt/generate", "knowledge.gpt/mesh")
    return _actor(town, VISITOR, config, *names, groups=("visitors",))


def _junction(town: Town) -> Actor:
    """A roadside unit: it compares the stations, and has the key of the cloud with its budget."""
    config = "".join(
        f'[[trend]]\ndomain = "{domain}"\nstale_s = {STALE_S}\nevery_s = 0.5\n'
        f'[[access]]\nallow = true\nnames = "data.gpt/{domain}/trend"\n'
        for domain in ("air", "traffic")
    )
    if not town.cloud:
        return _actor(town, JUNCTION, config, *_JUNCTION_NAMES)
    config += (
        f"[cloud]\nredirects = 1\n[cloud.budget]\nper_hour = {town.budget}\n"
        '[[cloud.provider]]\nname = "stand-in"\nmodel = "stand-in"\n'
        f"base_url = {json.dumps(town.cloud)}\nkey_file = {json.dumps(str(town.key_file))}\n"
        "prompt_price = 1.0\ncompletion_price = 1.0\nmax_tokens = 96\n"
    )
    return _actor(town, JUNCTION, config, *_JUNCTION_NAMES)


def _station(town: Town, name: str) -> Actor:
    """An air station: its own readings, its own model. Raw ones go to the junction alone."""
    values = '{ pm25_ug_m3 = "pm25", pm10_ug_m3 = "pm10", no2_ug_m3 = "no2" }'
    config = (
        _model("air_quality")
        + _feed(town, "air", f"city/air/{name}", name, values)
        + _insight("air", 'rules = { pm25_ug_m3 = "air_quality.pm2_5" }')
        + _shown("air")
    )
    return _actor(town, f"air-{name}", config, "data.gpt/air/**", "knowledge.gpt/air_quality")


def _counter(town: Town, name: str) -> Actor:
    """A traffic counter with the traffic model."""
    config = (
        _model("traffic")
        + _feed(town, "traffic", f"city/traffic/{name}", name, '{ speed_mph = "speed_mph" }')
        + _insight("traffic")
        + _shown("traffic")
    )
    return _actor(town, f"counter-{name}", config, "data.gpt/traffic/**", "knowledge.gpt/traffic")


def _weather(town: Town) -> Actor:
    """The weather station of the town hall."""
    config = _feed(town, "weather", "city/weather/dongsi", "town hall") + _insight("weather")
    return _actor(town, "weather", config + _shown("weather"), "data.gpt/weather/**")


def _camera(town: Town) -> Actor:
    """A camera: figures come from its detector, pictures never do."""
    values = '{ people = "people", closed_roads = "closed_roads" }'
    config = (
        _feed(town, "camera", "city/camera/square", "square", values)
        + _insight("camera", f"window_s = {STALE_S}")
        + _shown("camera")
    )
    return _actor(town, CAMERA, config, "data.gpt/camera/**")


def _records(town: Town, kind: str) -> Actor:
    """The event calendar, and the search over incidents."""
    options = [f'domain = "city_{kind}"', f'file = "{kind}.jsonl"']
    if kind == "incidents" and town.added is not None:
        options.append(f"added = {json.dumps(str(town.added))}")
    if kind == "incidents" and town.web:
        options.append(f"web = {json.dumps(town.web)}")
    config = (
        '[[capability]]\nuse = "examples.smart_city.records:Records"\n'
        f"options = {{ {', '.join(options)} }}\n"
    )
    name = "calendar" if kind == "events" else "search"
    return _actor(town, name, config, f"knowledge.gpt/city_{kind}")


def _model(name: str) -> str:
    # One slot and nobody waits: so a crowd fills the town sooner than it would a real one.
    return f'[[model]]\npath = "builtin:{name}"\ncontext = 512\nslots = 1\nqueue = 0\nthreads = 1\n'


def _feed(town: Town, domain: str, topic: str, key: str, values: str = "") -> str:
    host, port = town.broker
    return (
        f'[mqtt]\nhost = "{host}"\nport = {port}\nretry_max_s = 1.0\n'
        f'[[mqtt.map]]\ntopic = "{topic}"\nname = "data.gpt/{domain}/raw"\nkey = "{key}"\n'
        + (f"values = {values}\n" if values else "")
        + 'time = "ts"\nsequence = "n"\n'
    )


def _insight(domain: str, more: str = "") -> str:
    window = "" if "window_s" in more else "window_s = 20.0\n"
    return (
        f'[[insight]]\nname = "data.gpt/{domain}/raw"\nperiod_s = {PERIOD_S}\nevery_s = 1.0\n'
        f'words = "rules"\n{window}{more}\n'
    )


def _shown(domain: str) -> str:
    """Summaries for everybody, raw values for the junction, which compares them."""
    return (
        f'[[access]]\nallow = true\nnames = "data.gpt/{domain}/summary"\n'
        f'[[access]]\nallow = true\nnames = "data.gpt/{domain}/raw"\n'
        f'nodes = ["{JUNCTION}"]\nops = ["subscribe"]\n'
    )

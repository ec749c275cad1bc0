"""``gossamer sensors``: what a broker's sensors say, and what becomes of it."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from agents.faces.cli.common import AsJson, State, fetch, guarded, with_agent
from agents.faces.show import print_json
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.faces.client import ControlClient

sensors_app = typer.Typer(
    help="Sensors behind an MQTT broker: what they say, and what becomes of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
EVERY_S = 1.0


@sensors_app.command(
    "list", epilog="Example:  gossamer sensors list\n\nExample:  gossamer sensors list --json"
)
def list_sensors(state: State = None, as_json: AsJson = False) -> None:
    """The broker, every series with its latest values, what was lost and what was refused."""
    with guarded(as_json):
        found = fetch(state, "sensors")
        if as_json:
            print_json(found)
        else:
            sys.stdout.write("\n".join(_lines(found)) + "\n")


@sensors_app.command(
    epilog="Example:  gossamer sensors watch\n\nExample:  gossamer sensors watch --count 10 --json"
)
def watch(
    count: Annotated[
        int, typer.Option("--count", min=0, help="Leave after so many updates (0: never).")
    ] = 0,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Each series as it changes, a line at a time, until Ctrl-C."""
    with guarded(as_json):
        with_agent(state, lambda client: _watch(client, count, as_json=as_json))


async def _watch(client: ControlClient, count: int, *, as_json: bool) -> None:
    known: dict[tuple[str, str], int] = {}
    seen = 0
    while True:
        bridge = (await client.fetch("sensors", {}))["bridge"]
        if bridge is None:
            raise ConfigError("this agent has no broker", hint="add [mqtt] to its configuration")
        for one in bridge["series"]:
            place = (one["name"], one["key"])
            if known.get(place) == one["updates"]:
                continue
            known[place] = one["updates"]
            line = msgspec.json.encode(one).decode() if as_json else _series(one)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            seen += 1
            if count and seen >= count:
                return
        await asyncio.sleep(EVERY_S)


@sensors_app.command(
    "test",
    epilog="Example:  gossamer sensors test --config gossamer.toml --topic city/north/air"
    """ '{"pm25": 14, "n": 7}'""",
)
def try_mapping(
    payload: Annotated[
        str, typer.Argument(help="The payload; @FILE reads it from a file.", show_default=False)
    ],
    topic: Annotated[str, typer.Option("--topic", help="The topic that it comes on.")],
    config: Annotated[
        Path, typer.Option("--config", help="The agent's configuration.", dir_okay=False)
    ] = Path("gossamer.toml"),
    as_json: AsJson = False,
) -> None:
    """What the mappings make of a payload: feed, key and readings. Needs no broker, no agent."""
    with guarded(as_json):
        found = _tested(config, topic, _payload(payload))
        if as_json:
            print_json(found)
            return
        sys.stdout.write(f"mapping: {found['mapping']}\n")
        for one in found["readings"]:
            sys.stdout.write(_series({**one, "updates": 0}) + "\n")
            for name in one["missing"]:
                sys.stdout.write(f"  {name} is missing\n")
            if one["sequence"] is not None:
                sys.stdout.write(f"  number {one['sequence']}\n")


def _payload(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise ConfigError(f"{text[1:]} cannot be read: {error.strerror}") from error


def _tested(config: Path, topic: str, body: bytes) -> dict[str, Any]:
    import time

    from agents.config import load_config
    from agents.sensors.bridge import make_rule
    from capabilities.sensors.mapping import Mapper, place, taken
    from capabilities.sensors.readings import moment
    from capabilities.sensors.sparkplug import SparkplugBook

    section = load_config(config).mqtt
    if section is None or not section.map:
        raise ConfigError(f"{config} has no [[mqtt.map]]", hint="see docs/sensors.md")
    rules = Mapper([make_rule(one) for one in section.map]).rules_for(topic)
    if not rules:
        topics = ", ".join(one.topic for one in section.map)
        raise ConfigError(f"no mapping fits {topic}", hint=f"there are: {topics}")
    rule, words = rules[0]
    if rule.shape.format == "sparkplug":
        found = place(rule, words, SparkplugBook().hear(topic, body).measured)
    else:
        found = taken(rule, words, body)
    now = time.time()
    return {
        "mapping": rule.pattern.text,
        "readings": [
            {
                "name": one.name,
                "key": one.key,
                "at": moment(one.measured.at, now),
                "values": one.measured.values,
                "missing": list(one.measured.missing),
                "sequence": one.measured.sequence,
            }
            for one in found
        ],
    }


@sensors_app.command(
    epilog="Example:  gossamer sensors simulate air.csv --topic 'city/{station}/air' --rate 10\n\n"
    "Example:  gossamer sensors simulate air.csv --topic city/north/air --columns PM2.5,NO2 --loop"
)
def simulate(
    file: Annotated[
        Path, typer.Argument(help="A CSV file with a header.", exists=True, dir_okay=False)
    ],
    topic: Annotated[str, typer.Option("--topic", help="Where to; columns in braces are put in.")],
    rate: Annotated[
        float, typer.Option("--rate", metavar="HZ", min=0.0, help="Messages a second; 0: no wait.")
    ] = 1.0,
    count: Annotated[int, typer.Option("--count", min=0, help="Rows to send (0: all).")] = 0,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end.")] = False,
    columns: Annotated[
        str, typer.Option("--columns", metavar="A,B,...", help="Which columns; else all numbers.")
    ] = "",
    host: Annotated[str, typer.Option("--host", help="The broker.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 1883,
    username: Annotated[str, typer.Option("--username")] = "",
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="A file with the password alone.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send the rows of a CSV file to a broker, as if sensors did. Ctrl-C ends it."""
    with guarded(as_json):
        from agents.sensors import replay
        from agents.sensors.bridge import read_password

        what = replay.Replay(
            file,
            topic,
            rate_hz=rate,
            count=count,
            loop=loop,
            columns=tuple(word.strip() for word in columns.split(",") if word.strip()),
        )

        def tell(sent: int) -> None:
            if not as_json and sys.stderr.isatty():
                sys.stderr.write(f"\r{sent} sent")

        sent = asyncio.run(
            replay.run(
                what,
                host=host,
                port=port,
                username=username,
                password=read_password(password_file),
                tell=tell,
            )
        )
        if as_json:
            print_json({"sent": sent, "broker": f"{host}:{port}"})
        else:
            sys.stderr.write(f"\r{sent} sent to {host}:{port}.\n")


def _series(one: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(float(one["at"])).strftime("%H:%M:%S")
    values = "  ".join(f"{name}={value:g}" for name, value in one["values"].items())
    return f"{at} {one['name']} {one['key'] or '-'}  {values}"


def _lines(found: dict[str, Any]) -> list[str]:
    bridge, lines = found["bridge"], []
    if bridge is not None:
        how = "connected" if bridge["connected"] else bridge["trouble"]
        lines.append(f"broker {bridge['broker']}: {how}")
        lines += [_series(one) for one in bridge["series"]]
        counters = bridge["counters"]
        told = ("messages", "published", "lost", "duplicates", "refused", "sessions_lost")
        lines.append(", ".join(f"{counters.get('mqtt_' + key, 0)} {key}" for key in told))
        for publisher, of in bridge["publishers"].items():
            if of["lost"]:
                lines.append(f"lost {of['lost']} of {publisher.rstrip('|')}")
        lines += [f"refused {one['topic']}: {one['why']}" for one in bridge["refusals"]]
        lines += [f"found {one['topic']}: {one['reading']}" for one in bridge["found"]]
    for one in found["insights"]:
        lines.append(f"{one['name']} {one['key'] or '-'}: {' '.join(one['facts'])}")
    return lines

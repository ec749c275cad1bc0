"""``gossamer sensors``: mappings tried without a broker, files sent to a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.faces.cli.app import app
from agents.sensors.broker import LocalBroker, mosquitto
from agents.sensors.replay import Replay, messages
from mesh.core.errors import ConfigError

CONFIG = """
[node]
state = "x"
[mqtt]
[[mqtt.map]]
topic = "city/{station}/air"
name = "data.gpt/air/raw"
values = { pm25_ug_m3 = "pm25" }
sequence = "n"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "gossamer.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "air.csv"
    file.write_text("station,pm25,wind\nnorth,14,NE\nsouth,NA,E\nnorth,15,E\n")
    return file


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["sensors", *args])
    return result.exit_code, result.stdout, result.stderr


def test_a_mapping_is_tried_without_a_broker(config: Path) -> None:
    args = ("test", "--config", str(config), "--topic", "city/north/air", "--json")
    code, out, _ = run(*args, '{"pm25": 14, "n": 7}')
    assert code == 0
    (reading,) = json.loads(out)["readings"]
    assert (reading["name"], reading["key"]) == ("data.gpt/air/raw", "north")
    assert (reading["values"], reading["sequence"]) == ({"pm25_ug_m3": 14.0}, 7)


@pytest.mark.parametrize(
    ("topic", "payload", "why"),
    [
        ("city/north/air", '{"x": 1}', "nothing stands at 'pm25'"),
        ("town/air", "1", "no mapping fits town/air"),
    ],
)
def test_what_does_not_fit_is_told_with_a_reason(
    config: Path, topic: str, payload: str, why: str
) -> None:
    code, _, err = run("test", "--config", str(config), "--topic", topic, payload)
    assert code == 1
    assert why in err


def test_a_table_is_sent_as_its_sensors_would(table: Path) -> None:
    sent = [(t, json.loads(b)) for t, b in messages(Replay(table, "city/{station}/air"))]
    assert [(t, m["pm25"], m["n"]) for t, m in sent] == [
        ("city/north/air", 14.0, 1),
        ("city/south/air", None, 1),
        ("city/north/air", 15.0, 2),
    ]
    assert all("wind" not in m for _, m in sent)
    with pytest.raises(ConfigError, match="no column 'town'"):
        next(messages(Replay(table, "city/{town}/air")))


@pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed")
def test_a_file_goes_into_a_broker(table: Path, tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path / "broker")
    broker.start()
    try:
        args = ("simulate", str(table), "--topic", "city/{station}/air", "--rate", "0", "--json")
        code, out, _ = run(*args, "--port", str(broker.port))
        assert (code, json.loads(out)["sent"]) == (0, 3)
    finally:
        broker.stop()
    code, _, err = run(*args, "--port", str(broker.port))
    assert code == 1
    assert "Is it running" in err

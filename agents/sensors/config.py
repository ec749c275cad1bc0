"""The sections of the configuration about sensors: ``[mqtt]`` and ``[[insight]]``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MqttMapSection(_Section):
    """Which messages of the broker become which feed (docs/sensors.md). The first that fits a
    topic decides."""

    topic: str
    """A filter with places: city/{station}/air, home/+/state, plant/{rest}."""
    name: str
    """data.gpt/<domain>/<type>, also with places: data.gpt/{domain}/raw."""
    key: str = ""
    """What tells the series of the feed apart, such as "{station}"; empty: the places that are
    left, then the device that the payload names."""
    format: Literal["auto", "number", "json", "senml", "sparkplug"] = "auto"
    value: str = "value"
    """What a plain number is called, also with places: "{quantity}"."""
    values: dict[str, str] = {}
    """A path per reading: {pm25_ug_m3 = "pm25", temperature_c = "weather.temp"}; empty: every
    number at the top."""
    scale: dict[str, float] = {}
    """What a reading is multiplied with."""
    time: str = ""
    """The path of the time: seconds or milliseconds since 1970, or ISO 8601."""
    sequence: str = ""
    """The path of a number that counts messages: gaps are reported, repetitions dropped."""
    epoch: str = ""
    """The path of a word that the publisher chooses anew at each start (a boot id, a start time):
    then a repetition of any age is known, and never taken for a new beginning."""
    device: str = ""
    """The path of who measured."""
    rate_hz: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    """A list of numbers was measured at this rate, its last one at the time of the message."""
    qos: Literal[0, 1] = 1
    retained: bool = True
    """Take what the broker kept from before this node came."""
    description: str = ""
    history: Annotated[int, Field(ge=512, le=65536)] = 4096
    keep: bool = True
    """Keep the feed on disk; only then is a message acknowledged when it is safe."""


class HomeAssistantSection(_Section):
    """Home Assistant's discovery on the same broker, both ways."""

    prefix: Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")] = "homeassistant"
    take: bool = True
    """Sensors that announce themselves become feeds."""
    name: str = "data.gpt/home/raw"
    """Of those feeds; may hold {class} (temperature, humidity, ...) and {device}."""
    offer: bool = True
    """Nodes and summaries of the mesh appear as entities."""
    every_s: Annotated[float, Field(ge=1, le=3600)] = 10.0
    """How often the states of the entities are sent."""


class MqttSection(_Section):
    """A broker whose messages become feeds of this node (docs/sensors.md)."""

    host: str = "127.0.0.1"
    port: Port = 1883
    """1883, or 8883 with TLS."""
    username: str = ""
    password_file: Path | None = None
    """A file with the password alone, readable by its owner only."""
    tls: bool = False
    ca_file: Path | None = None
    """The authority that signed the broker's certificate; absent: those of the system."""
    certificate: Path | None = None
    private_key: Path | None = None
    """PEM files of this node, where the broker asks for them."""
    client_id: Annotated[str, Field(max_length=128)] = ""
    """Names the session at the broker, so it must not change; empty: gossamer-<node>."""
    version: Literal["5", "3.1.1"] = "5"
    session_days: Annotated[float, Field(gt=0, le=365)] = 7.0
    """How long the broker keeps messages for this node while it is away (MQTT 5)."""
    keepalive_s: Annotated[int, Field(ge=2, le=3600)] = 30
    """Half of the time after which a silent connection counts as lost."""
    retry_max_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Longest wait between two attempts to reach the broker."""
    map: tuple[MqttMapSection, ...] = ()
    home_assistant: HomeAssistantSection | None = None
    """Absent: no discovery."""


class InsightSection(_Section):
    """What a raw feed of this node means: ``data.gpt/<domain>/insight`` in figures and
    ``data.gpt/<domain>/summary`` in words, while the raw values stay here (docs/sensors.md)."""

    name: str
    """The raw feed: data.gpt/air/raw."""
    quantities: tuple[str, ...] = ()
    """Which readings; empty: all."""
    window_s: Annotated[float, Field(gt=0)] = 3600.0
    """How far back a summary looks."""
    period_s: Annotated[float, Field(gt=0)] = 60.0
    """The series is brought to one value per so many seconds."""
    season_s: Annotated[float, Field(ge=0)] = 0.0
    """A day is 86400: a value is compared with those of the same hour; 0: no season."""
    every_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """Least time between two insights of one key."""
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    """Beyond these a sensor cannot measure: such values are faults, never weather."""
    rules: dict[str, str] = {}
    """What a reading is in a public standard: {pm25_ug_m3 = "air_quality.pm2_5", pulse =
    "vitals.pulse"}; the category becomes a fact of the summary."""
    ppg: str = ""
    """The reading that is a photoplethysmogram: its heart rate is told, never the curve."""
    ppg_hz: Annotated[float, Field(ge=0, le=2000)] = 0.0
    """The sampling rate of that curve; 0: taken from the times."""
    words: Literal["model", "rules", "none"] = "model"
    """Who puts the summary in words; a model's text whose figures are not among the facts is
    replaced by the rules' own."""
    embed: bool = False
    """Publish the summary's vector as data.gpt/<domain>/processed_embeddings; needs embedder."""

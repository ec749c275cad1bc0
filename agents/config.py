"""The configuration of one agent: a TOML file, over which environment variables win.

    [node]
    state = "abacus"                 # directory of keys, certificate, journal; made beforehand
    seeds = ["tcp://10.0.0.5:7102#KEY"]

    [[model]]
    path = "builtin:arithmetic"      # or the path of any GGUF file

    [[model.name]]
    name = "knowledge.gpt/arithmetic"

Every field has a default that works on one machine; the docstrings say what a larger value
costs. Unknown fields are refused, since a misspelt limit is no limit.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from agents.config_models import ModelSection as ModelSection  # noqa: PLC0414 - configured here
from agents.config_models import NameSection as NameSection  # noqa: PLC0414
from agents.sensors.config import InsightSection, MqttSection
from mesh.core.errors import ConfigError

Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSection(_Section):
    """The node: where its state is, where it listens, whom it asks first."""

    state: Path
    host: str = "127.0.0.1"
    advertise: str = ""
    control_port: Port = 0
    bulk_port: Port = 0
    admission_port: Port = 0
    seeds: tuple[str, ...] = ()
    discovery: bool = True
    """Find nodes of the mesh on the LAN by mDNS and be found; never where host is loopback."""
    dialable: bool = True
    """False behind NAT or on a phone: no address is advertised, and links are held open to the
    other nodes, so that they can call over them."""
    watts: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """What the machine draws with all its slots at work, where it cannot measure that itself (0:
    not known). Nodes weigh the energy of a token when they choose among each other."""


class RuleSection(_Section):
    """One access rule; the first that fits decides."""

    allow: bool
    names: str
    groups: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()


class PartsSection(_Section):
    """Which implementation decides; a name from the registry or ``module:attribute``."""

    classifier: str = "ngram"
    complexity: str = "features"
    """Or "head": trained on generated questions; both are as quick."""
    gap: str = "fitted"
    """How far a draft is believed: by the curves of the shipped models, or of ``gap_curves``.
    "learning" also goes by which questions each model got right here, and costs some 40 MB;
    "evidence" goes by token probabilities alone."""
    gap_curves: Path | None = None
    """Curves of one's own (docs/understanding.md) beside the shipped ones."""
    planner: str = "rules"
    policy: str = "load_aware"
    escalation: str = "ladder"
    aggregator: str = "lines"
    """Several findings line by line, by the general model ("model") where that keeps them, or by
    a part of one's own (package.module:attribute), such as one that draws a conclusion."""


class AskSection(_Section):
    """How questions are answered when the asker does not say."""

    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    max_tokens: Annotated[int, Field(ge=1, le=65536)] = 384


class StatesSection(_Section):
    """Hidden rows and embeddings that leave this node; a rule with the operation "states" says
    to whom they may go (docs/private-data.md)."""

    noise: Literal["none", "metric", "gaussian"] = "none"
    epsilon: Annotated[float, Field(ge=0)] = 0.0
    """Of metric noise: a row of n values moves by n/epsilon on average; larger is less noise."""
    std: Annotated[float, Field(ge=0)] = 0.0
    """Of gaussian noise: standard deviation in each dimension."""


class SecureSumSection(_Section):
    """Numbers of this node that go into totals in which nobody can see them
    (docs/private-data.md): ``data.gpt/<domain>/secure_sum``."""

    domain: str
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """The readings that it contributes, by name; a plan may ask for some of them."""
    source: str = "machine"
    """"machine" (its load and memory), or ``package.module:function`` of your own, which
    returns the readings by name; it may be a coroutine function."""
    least_nodes: Annotated[int, Field(ge=3, le=100)] = 3
    """Refuse a total over fewer nodes: the fewer, the more it says of each."""
    rest_s: Annotated[float, Field(ge=0)] = 60.0
    """Least time between two totals: longer than the readings take to change, or two totals
    with and without this node give its part away."""
    least_noise: Annotated[float, Field(ge=0)] = 0.0
    """Refuse a total whose noise has a smaller standard deviation, in units of the readings."""
    description: str = ""


class PublishSection(_Section):
    """A feed of this node (docs/data.md): ``data.gpt/<domain>/<type>``."""

    name: str
    source: Path | None = None
    """A file of JSON lines that is published as it grows; absent: filled by `gossamer publish`
    and by programs."""
    key: str = "key"
    """Which field of a line tells the keys of the feed apart, such as "station"."""
    description: str = ""
    history: Annotated[int, Field(ge=1, le=65536)] = 256
    """Updates kept for subscribers that come back; more bridge a longer absence."""
    keep: bool = True
    """Keep it on disk, so that it goes on where it was after a restart."""
    every_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """How often the file is looked at."""


class TrendSection(_Section):
    """One picture of all stations of a domain: from ``data.gpt/<domain>/raw`` of every node to
    ``data.gpt/<domain>/trend`` of this one (docs/data.md)."""

    domain: str
    quantities: tuple[str, ...] = ()
    """Which readings; empty: all."""
    stale_s: Annotated[float, Field(gt=0)] = 900.0
    """A station that was silent for so long has no voice; above the slowest one's period."""
    window: Annotated[int, Field(ge=5, le=256)] = 48
    """Readings per station for trend and change; the work grows with their square."""
    every_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Least time between two pictures."""
    description: str = ""


class PatternSection(_Section):
    """A pattern of one's own: what it matches, or its group ``value``, is masked as ``kind``."""

    kind: str
    pattern: str
    ignore_case: bool = True


class RedactionSection(_Section):
    """What is masked before a text leaves for the cloud (docs/private-data.md).

    :func:`agents.configure.build_redactor` makes the redactor of it.
    """

    enabled: bool = True
    """False sends texts to the cloud as they are."""
    required: bool = True
    """Refuse a text in which something personal seems to be left after masking."""
    people: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    regions: tuple[Annotated[str, Field(pattern="^[A-Za-z]{2}$")], ...] = ()
    """Countries whose national telephone numbers are recognised; each costs milliseconds."""
    words: dict[str, tuple[str, ...]] = {}
    """Word lists of one's own by kind."""
    patterns: tuple[PatternSection, ...] = ()
    detectors: tuple[str, ...] = ()
    """Plug-ins: entry points of the group ``gossamer.redaction`` or ``module:attribute``."""
    keep: tuple[str, ...] = ()
    """Texts that always may leave, such as a public hotline."""


Amount = Annotated[float, Field(ge=0)]


class BudgetSection(_Section):
    """Hard limits in whole units of the currency, for any hour and any day (windows slide)."""

    per_hour: Amount | None = None
    per_day: Amount | None = None


class NodeBudgetSection(BudgetSection):
    """The limits of this node, and of groups of askers within them."""

    groups: dict[str, BudgetSection] = {}


class ProviderSection(_Section):
    """One OpenAI-compatible endpoint; prices are per million tokens, from its own list."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,40}$")]
    base_url: str
    """What /chat/completions is appended to: https://api.example.com/v1"""
    model: str
    prompt_price: Amount
    completion_price: Amount
    key_env: str = ""
    """The environment variable that holds the key; or key_file, of mode 600."""
    key_file: Path | None = None
    order: int = 10
    """Lower is asked first."""
    max_tokens: Annotated[int, Field(ge=1, le=1 << 17)] = 1024
    """The longest answer. All of it is reserved before each call: a larger one lets fewer calls
    into the budget at once."""
    silence_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """Saying nothing for so long counts as hanging."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_usage: bool = True
    """False for servers that refuse stream_options; costs are then estimated from above."""
    plain_http: bool = False
    """Allow http:// to a server of your own that is not on this machine."""


class CloudSection(_Section):
    """Models outside the mesh, for this node and for whom [[access]] lets escalate."""

    provider: tuple[ProviderSection, ...] = ()
    budget: NodeBudgetSection = NodeBudgetSection()
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    at_once: Annotated[int, Field(ge=1, le=1024)] = 16
    """Calls under way at once; one more is rejected with a time to come back."""
    cascade: Path | None = None
    """What `gossamer escalation fit` wrote: how sure an answer must be not to be escalated."""
    redirects: Annotated[int, Field(ge=0, le=8)] = 1
    """Nodes asked after a full one before the cloud is."""
    lease_from: str = ""
    """The node whose budget is shared: this one spends only what it is lent."""
    lease_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Of what is left, as one lease to another node."""
    lease_s: Annotated[float, Field(ge=30, le=86400)] = 300.0


class KnowledgeSection(_Section):
    """What this node knows: documents, and what it learnt from others (docs/cooperation.md)."""

    max_mb: Annotated[float, Field(gt=0, le=65536)] = 64.0
    """Texts and vectors together. When it is full, the answers that were used least leave;
    documents stay."""
    access: str = "node"
    """Who may see what is learnt: node (this node alone), group:NAME,NAME or mesh. What
    people ask this node is shown to others where it is not "node"."""
    keep_days: Annotated[float, Field(ge=0, le=3650)] = 30.0
    """How long a learnt answer is believed; 0: until it is pushed out."""
    reuse: Annotated[float, Field(ge=0.3, le=0.995)] = 0.85
    """Cosine of two questions from which one answer serves both, if their facts are the same.
    Higher asks the mesh more often. It rises with each answer reported wrong."""
    context: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Cosine from which an earlier answer goes into the own model's prompt as an example."""
    quality: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Keep only answers that are right with at least this probability."""
    ask_peers: bool = True
    """Look at what other nodes share before an expert is asked; a call of at most a second."""


class CapabilitySection(_Section):
    """Something of one's own that this node offers (docs/configuration.md)."""

    use: str
    """``package.module:attribute``, a class or a function that makes a capability, or an entry
    point of the group ``gossamer.capability``."""
    options: dict[str, Any] = {}
    """What it is called with."""


class HttpSection(_Section):
    """HTTP for programs that speak OpenAI's API; a small process beside the agent."""

    host: str = "127.0.0.1"
    port: Port = 8080
    """0: any free port; `gossamer status` shows which."""
    key: str = ""
    """What clients send as bearer token; required where host is not loopback. Better kept out of
    the file: GOSSAMER_HTTP__KEY, or key_file."""
    key_file: Path | None = None
    """A file with one key a line, readable by its owner only."""
    admin_key: str = ""
    """A key of the owner, who may drain and resume nodes on the web page with it; without one
    nobody can there. Better GOSSAMER_HTTP__ADMIN_KEY, or admin_key_file. Not one of the others."""
    admin_key_file: Path | None = None
    mcp: bool = False
    """Serve the Model Context Protocol at /mcp too (docs/mcp.md); needs the mcp extra."""
    hosts: tuple[str, ...] = ()
    """Names besides the bound one that clients may use for this server (the Host header)."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may use it, such as http://tablet.local:3000; none by default."""
    max_requests: Annotated[int, Field(ge=1, le=4096)] = 256
    """Requests under way at once; one more is answered 429. An idle stream costs some 50 KB."""
    max_body_kb: Annotated[int, Field(ge=1, le=240)] = 240
    """The largest request taken; the local door takes no more than 256 KB."""
    certificate: Path | None = None
    private_key: Path | None = None
    """PEM files for TLS; without them the agent makes its own where others can reach it."""
    tls: Literal["auto", "off"] = "auto"
    """"off": plain HTTP for others too, behind a proxy of your own, say; no web page then."""


class ShedSection(_Section):
    """When the node takes less work because it is hot or its battery is low (docs/boards.md)."""

    enabled: bool = True
    ease_slack_c: Annotated[float, Field(ge=-20, le=50)] = 5.0
    """Half of the slots from so many degrees below the machine's own limit on."""
    rest_slack_c: Annotated[float, Field(ge=-50, le=50)] = -5.0
    """No work for others from there on; -5 is five degrees above the limit."""
    ease_battery: Annotated[float, Field(ge=0, le=1)] = 0.3
    rest_battery: Annotated[float, Field(ge=0, le=1)] = 0.1
    margin_c: Annotated[float, Field(ge=0, le=50)] = 5.0
    """Degrees beyond the bound that it must cool before more is taken again."""
    margin_battery: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """How far beyond the bound the battery must be charged before more is taken again."""
    calm_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    """How long it must be better before more is taken again."""
    root: Path = Path("/")
    """Where sys and proc are; another folder stands for a board in a test."""


class TelemetrySection(_Section):
    """Where traces go besides this node's own memory."""

    otlp_endpoint: str = ""
    """The URL of an OpenTelemetry collector (http://host:4318); needs the otel extra."""


class AgentConfig(BaseSettings):
    """Everything that an agent needs to start. Environment: ``GOSSAMER_NODE__HOST`` and so on."""

    model_config = SettingsConfigDict(
        env_prefix="GOSSAMER_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    node: NodeSection
    model: tuple[ModelSection, ...] = ()
    machine: bool = False
    """Offer readings of this machine as ``data.gpt/machine/...``."""
    reader: bool = False
    """Offer ``computation.gpt/extract``: reading pieces of documents for others, by patterns."""
    embedder: str = ""
    """Offer ``computation.gpt/embed``: ``builtin``, an embedding GGUF, or
    ``sentence-transformers:MODEL``; empty: do not."""
    capability: tuple[CapabilitySection, ...] = ()
    access: tuple[RuleSection, ...] = ()
    parts: PartsSection = PartsSection()
    ask: AskSection = AskSection()
    redaction: RedactionSection = RedactionSection()
    cloud: CloudSection = CloudSection()
    secure_sum: tuple[SecureSumSection, ...] = ()
    states: StatesSection = StatesSection()
    publish: tuple[PublishSection, ...] = ()
    trend: tuple[TrendSection, ...] = ()
    mqtt: MqttSection | None = None
    """Absent: no broker."""
    insight: tuple[InsightSection, ...] = ()
    knowledge: KnowledgeSection | None = None
    """Absent: the node keeps no knowledge base."""
    http: HttpSection | None = None
    """Absent: no HTTP server."""
    telemetry: TelemetrySection = TelemetrySection()
    shed: ShedSection = ShedSection()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    log_format: Literal["text", "json"] = "text"
    log_content: bool = False
    """Questions and answers in the log, for debugging; they are private by default."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; nothing else is read."""
        return env_settings, init_settings


def load_config(path: Path) -> AgentConfig:
    """The configuration in a TOML file; raises :class:`ConfigError` naming the field.

    A relative ``state`` and relative model paths are taken from the file's own folder.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    return make_config(raw, base=path.parent, source=str(path))


def make_config(raw: dict[str, Any], *, base: Path, source: str = "configuration") -> AgentConfig:
    """Check ``raw`` and make its paths absolute; raises :class:`ConfigError`."""
    try:
        config = AgentConfig(**raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{source}: {where}: {first['msg']}",
            hint="see docs/configuration.md for every field",
        ) from error
    state = config.node.state.expanduser()
    node = config.node.model_copy(update={"state": (base / state).resolve()})
    models = tuple(
        model
        if model.path.startswith("builtin:")
        else model.model_copy(
            update={
                "path": str((base / Path(model.path).expanduser()).resolve()),
                "adapters": {
                    name: str((base / Path(file).expanduser()).resolve())
                    for name, file in model.adapters.items()
                },
            }
        )
        for model in config.model
    )
    http = config.http and config.http.model_copy(
        update={
            field: (base / path.expanduser()).resolve()
            for field in ("key_file", "admin_key_file", "certificate", "private_key")
            if (path := getattr(config.http, field)) is not None
        }
    )
    cloud = _absolute_cloud(config.cloud, base)
    publish = tuple(
        feed
        if feed.source is None
        else feed.model_copy(update={"source": (base / feed.source.expanduser()).resolve()})
        for feed in config.publish
    )
    config = config.model_copy(update={"cloud": cloud, "publish": publish})
    mqtt = config.mqtt and config.mqtt.model_copy(
        update={
            field: (base / path.expanduser()).resolve()
            for field in ("password_file", "ca_file", "certificate", "private_key")
            if (path := getattr(config.mqtt, field)) is not None
        }
    )
    parts = config.parts
    if parts.gap_curves is not None:
        curves = (base / parts.gap_curves.expanduser()).resolve()
        parts = parts.model_copy(update={"gap_curves": curves})
    return config.model_copy(
        update={"node": node, "model": models, "http": http, "mqtt": mqtt, "parts": parts}
    )


def _absolute_cloud(cloud: CloudSection, base: Path) -> CloudSection:
    def absolute(path: Path | None) -> Path | None:
        return None if path is None else (base / path.expanduser()).resolve()

    providers = tuple(
        p.model_copy(update={"key_file": absolute(p.key_file)}) for p in cloud.provider
    )
    return cloud.model_copy(update={"provider": providers, "cascade": absolute(cloud.cascade)})

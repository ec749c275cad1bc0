"""What the tools take and give, as types; their JSON schemas are made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agents.library import EndpointView

MAX_QUESTION_CHARS = 16 * 1024  # as the agent's own
MAX_NAME_CHARS = 320  # a name of 253 characters and a node's
MAX_WAIT_S = 600.0  # of a subscription: clients give a call up sooner
MAX_UPDATES = 100  # of one answer: what a model reads costs it context

TimeoutS = Annotated[float, Meta(gt=0, le=3600, description="Give up after so many seconds.")]
Reach = Annotated[
    Literal["node", "group", "mesh", "cloud"],
    Meta(description="How far the words may travel; cloud may cost money."),
]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_NAME_CHARS,
        description="A name such as knowledge.gpt/arithmetic, or name@node for one node.",
    ),
]


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``ask``."""

    question: Annotated[
        str, Meta(min_length=1, max_length=MAX_QUESTION_CHARS, description="In plain words.")
    ]
    reach: Reach = "mesh"
    max_tokens: Annotated[
        int, Meta(ge=0, le=65536, description="The longest answer; 0 leaves it to the mesh.")
    ] = 0
    timeout_s: TimeoutS = 60.0


class Resolve(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``resolve``."""

    name: Name


class Names(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``names``."""

    pattern: Annotated[
        str,
        Meta(
            max_length=MAX_NAME_CHARS,
            description="Only names like this: * is one segment, ** any; empty: all.",
        ),
    ] = ""


class Call(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``call``."""

    name: Name
    text: Annotated[
        str, Meta(min_length=1, max_length=MAX_QUESTION_CHARS, description="What it is asked.")
    ]
    reach: Reach = "mesh"
    max_tokens: Annotated[int, Meta(ge=1, le=65536, description="The longest answer.")] = 256
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    timeout_s: TimeoutS = 60.0


class Subscribe(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``subscribe``."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_NAME_CHARS,
            description="A data name, name@node, or a pattern such as data.gpt/air/*.",
        ),
    ]
    wait: Annotated[
        Literal["latest", "next"],
        Meta(description="latest: what is known now; next: wait for what is published next."),
    ] = "latest"
    count: Annotated[int, Meta(ge=1, le=MAX_UPDATES, description="With next: so many updates.")] = 1
    timeout_s: Annotated[
        float, Meta(gt=0, le=MAX_WAIT_S, description="Answer with what came after this time.")
    ] = 10.0


class Status(msgspec.Struct, forbid_unknown_fields=True):
    """``status`` takes no arguments."""


class AnswerStep(msgspec.Struct, kw_only=True):
    """One step of an answer; ``confidence`` is -1 where nobody judged."""

    name: str
    node: str
    status: str
    question: str
    elapsed_s: float
    tokens: int
    confidence: float
    error: str


class Answer(msgspec.Struct, kw_only=True):
    """What ``ask`` gives. ``degraded``: a part is missing or unsure; ``cost`` in the cloud's
    currency."""

    text: str
    nodes: list[str]
    degraded: bool
    missing: list[str]
    steps: list[AnswerStep]
    cost: float
    elapsed_s: float
    trace: str


class Called(msgspec.Struct, kw_only=True):
    """What ``call`` gives; ``finish`` is stop, length or tool_calls."""

    text: str
    node: str
    name: str
    model: str
    finish: str
    tokens: int
    elapsed_s: float
    trace: str


class Resolved(msgspec.Struct, kw_only=True):
    """What ``resolve`` gives: who would answer, best first, and by which rule."""

    name: str
    endpoints: list[EndpointView]
    decision: str


class NameLine(msgspec.Struct, kw_only=True):
    """One name. ``description`` are the words of the nodes that offer it."""

    name: str
    kind: str
    domain: str
    description: str
    nodes: list[str]


class NameList(msgspec.Struct, kw_only=True):
    """What ``names`` gives."""

    names: list[NameLine]


class Update(msgspec.Struct, kw_only=True):
    """One publication; ``value`` null: the key was taken away. ``at``: wall time, seconds."""

    name: str
    node: str
    key: str
    version: int
    at: float
    value: dict[str, Any] | None


class Updates(msgspec.Struct, kw_only=True):
    """What ``subscribe`` gives. ``complete``: every publisher was heard, or all that was wished
    for came; ``notes`` say what was missed and who was lost."""

    name: str
    updates: list[Update]
    complete: bool
    notes: list[str]


class NodeLine(msgspec.Struct, kw_only=True):
    """One node in short."""

    name: str
    state: str
    names: int
    inflight: int
    queued: int
    me: bool


class Overview(msgspec.Struct, kw_only=True):
    """What ``status`` gives: the agent that is asked, and the mesh around it."""

    node: str
    mesh: str
    ready: bool
    uptime_s: float
    version: str
    nodes: list[NodeLine]
    names: list[str]
    troubles: list[str]


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """A JSON schema whose root is an object, as the protocol wants it."""
    _, parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    root = {key: value for key, value in parts.pop(kind.__name__).items() if key != "title"}
    root.pop("description", None)  # the tool has its own
    return {**root, "$defs": parts} if parts else root

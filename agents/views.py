"""What people and programs are shown of a mesh: plain values, ready for JSON."""

from __future__ import annotations

import msgspec

from capabilities.messages import Halves


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    """One node as this node sees it. ``state`` is alive, suspect, dead or departed."""

    node: str
    name: str
    state: str
    me: bool = False
    groups: list[str] = []
    names: list[str] = []
    models: list[str] = []
    device: str = ""
    inflight: int = 0
    queued: int = 0
    slots: int = 0
    tokens_per_s: float = 0.0
    round_trip_ms: float = -1.0  # -1 until measured
    healthy: bool = True
    note: str = ""
    tasks: dict[str, float] = {}  # what it works on: beginning of the trace, progress 0 to 1
    seen_s: float = -1.0  # seconds since it was last heard itself
    reach: str = ""  # how this node reaches it: dialled, called back (over its own link), none
    dialable: str = "unknown"  # what it says of itself: yes, no, some, unknown
    best_tokens_per_s: float = 0.0  # as measured by the node itself, 0 when it has not
    temperature_c: float = 0.0  # 0 when unknown
    battery: float = -1.0  # 0 to 1, -1 when there is none
    joules_per_token: float = 0.0  # 0 when unknown
    throttled: bool = False  # it slows itself, for warmth or for want of power
    draining: bool = False  # it finishes what runs and takes nothing new
    power_w: float = 0.0  # what the whole machine draws, 0 when unknown
    software: str = ""


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """One node that offers a name."""

    node: str
    name: str
    state: str
    priority: int
    weight: int
    load: float
    accuracy: float
    me: bool = False


class NameView(msgspec.Struct, frozen=True, kw_only=True):
    """One advertised name, whoever offers it."""

    name: str
    domain: str
    description: str
    examples: list[str]
    kind: str
    endpoints: list[EndpointView]


class CloudView(msgspec.Struct, frozen=True, kw_only=True):
    """That a step went to the cloud: whom it was paid to, for what, and why it went there.
    ``cost`` is in whole units of ``currency``; ``estimated``: an upper bound."""

    provider: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost: float
    currency: str
    estimated: bool
    why: str


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an answer: which name, on which node, how it went, when (from the start)."""

    id: int
    name: str
    node: str
    question: str
    status: str  # waiting, running, ok, failed, skipped
    started_s: float = 0.0
    elapsed_s: float = 0.0
    text: str = ""
    tokens: int = 0
    attempts: list[str] = []  # nodes tried, in order
    depends: list[int] = []
    error: str = ""
    confidence: float = -1.0
    remote: bool = False
    cloud: CloudView | None = None
    spent: float = 0.0  # on the cloud, also for an answer that was not the one kept
    retry_after_s: float = -1.0  # of a step that was refused: when to ask again
    model: str = ""
    finish: str = ""  # stop or length
    prompt_tokens: int = 0
    note: str = ""  # what became of it on its way: asked again elsewhere, hedged, replanned
    halves: Halves | None = None  # of an answer that one model, or two, made on two machines


class StatementView(msgspec.Struct, frozen=True, kw_only=True):
    """One statement of an answer and where it is from; ``step`` 0: of no step's finding."""

    text: str
    step: int = 0
    name: str = ""
    node: str = ""
    citation: str = ""  # of a document: the words that it stands on


class AnswerView(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer with its route."""

    text: str
    degraded: bool
    elapsed_s: float
    steps: list[StepView]
    nodes: list[str]
    missing: list[str] = []
    trace: str = ""
    asked: str = ""  # the node that was asked
    cost: float = 0.0  # of all cloud calls, in the currency of the steps' ``cloud``
    retry_after_s: float = -1.0  # above 0: the mesh and the cloud refused, come back then
    objective: str = "latency"  # what the task wanted most: latency, accuracy or resources
    statements: list[StatementView] = []  # the text in parts, each with its source
    notes: list[str] = []  # what the mesh had to do otherwise than planned; the answer stands
    decisions: list[dict[str, object]] = []  # law 5: rule, inputs, score, threshold, action

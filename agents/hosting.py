"""From configuration to capabilities, and from capabilities to services of the mesh."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from agents.admitting import Door
from agents.boards.shedding import Shedding
from agents.classifier.catalogue import ARITHMETIC, GENERATE, MESH, WELL_KNOWN, KnownName
from agents.config import AgentConfig, ModelSection, NameSection
from agents.port import MeshPort
from agents.registry import Registry
from agents.scheduling.admission import Ask
from agents.telemetry.observer import Observer, WatchedCall, begun, count_served
from agents.telemetry.spans import SPAN_BYTES, Span
from capabilities.base import Capability, Request
from capabilities.messages import Generate, decode
from capabilities.segments.files import Segment, describe
from capabilities.sensors.machine import MachineCapability
from capabilities.slm.capability import SlmCapability
from capabilities.slm.embedded import EmbeddedModel, embedded_models
from capabilities.slm.host import Care, ModelHost
from capabilities.slm.protocol import Settings
from mesh.core.errors import ConfigError, ModelError, WireError
from mesh.core.identity import Signed
from mesh.core.names import check_name
from mesh.core.records import Device, ServedName
from mesh.net.calls import IncomingCall, Service, Verdict

BUILTIN = "builtin:"
# A caller that claims to stand in many lines weighs little in the wait that others are told of;
# beyond so many it does not get lighter.
MAX_LINES = 8

# What the shipped models answer under when the configuration does not say.
EMBEDDED_NAMES = {"arithmetic": (ARITHMETIC,), "general": (GENERATE, MESH)}


# What a user's own code offers; its names still need a certificate that grants them.
OWN: Registry[Capability] = Registry("capability", {})


class CapabilityService:
    """A capability as the mesh calls it; it drops who asked and keeps what must stay apart."""

    def __init__(
        self,
        capability: Capability,
        observer: Observer | None = None,
        shedding: Shedding | None = None,
        me: bytes = b"",
    ) -> None:
        self.capability = capability
        self._observer = observer or Observer()
        self._door = Door(capability, shedding=shedding)
        self._me = me

    def _request(self, call: IncomingCall) -> Request:
        # State computed for one asker (a prompt's prefix) must not serve another; the label
        # tells them apart without telling who they are.
        asker = hashlib.sha256(call.peer.node + call.header.caller).hexdigest()[:16]
        return Request(
            name=call.name,
            body=call.body,
            timeout_s=call.header.timeout_ms / 1000,
            trace=call.header.trace.hex(),
            priority=call.header.priority,
            isolation=asker,
        )

    def admit(self, call: IncomingCall) -> Verdict:
        """Ask the capability."""
        request = self._request(call)
        # The capability guards its own limits as well: it may be asked by other ways.
        decision = self._door.admit(
            id(call),
            Ask(
                caller=request.isolation,
                priority=request.priority,
                time_left_s=request.timeout_s,
                patience_s=call.header.patience_ms / 1000 or math.inf,
                lines=min(max(1, call.header.lines), MAX_LINES),
            ),
            own=call.peer.node == self._me,
        )
        verdict = Verdict(decision.accepted, decision.reason, decision.retry_after_s)
        if decision.accepted:
            admission = self.capability.admit(request)
            verdict = Verdict(admission.accepted, admission.reason, admission.retry_after_s)
            if not admission.accepted:
                self._door.forget(id(call))
        if not verdict.accepted:
            self._observer.meter.count("gossamer.served", name=call.name, outcome="rejected")
        return verdict

    def serve(self, call: IncomingCall) -> AsyncIterator[bytes]:
        """The capability's answer."""
        span = begun(
            trace=call.header.trace.hex(),
            span=os.urandom(SPAN_BYTES).hex(),
            parent=call.header.span.hex(),
            name=call.name,
            kind="server",
        )
        request = self._request(call)
        answer = self._door.through(id(call), self.capability.serve(request))
        answer = self._observer.working.through(request.trace, expected(request), answer)
        return WatchedCall(answer, span, lambda done: self._served(call, done))

    def _served(self, call: IncomingCall, span: Span) -> Signed | None:
        count_served(self._observer.meter, span)
        self._observer.span(span)
        ledger = self._observer.ledger
        return None if ledger is None else ledger.served(call, span)


def expected(request: Request) -> int:
    """The most messages that an answer may have: a token each."""
    try:
        return decode(request.body, Generate).max_tokens + 1
    except WireError:
        return 1  # a subscription's, say: it has no end to be near to


@runtime_checkable
class OwnServices(Protocol):
    """A capability that puts itself behind the mesh: it must know who asks."""

    def services(self, observer: Observer) -> list[tuple[ServedName, Service]]:
        """Its names, and what answers calls of them."""


def services_of(
    capability: Capability,
    observer: Observer,
    shedding: Shedding | None = None,
    me: bytes = b"",
) -> list[tuple[ServedName, Service]]:
    """The names of a capability, and what answers calls of them; ``me`` is this node's id."""
    if isinstance(capability, OwnServices):
        return capability.services(observer)
    service = CapabilityService(capability, observer, shedding, me)
    return [(served, service) for served in capability.names]


def make_capabilities(config: AgentConfig, node_name: str) -> list[Capability]:
    """Every capability that the configuration names; raises :class:`ConfigError`."""
    capabilities: list[Capability] = []
    for section in config.model:
        capabilities += _with_drafts(make_model(section, config), section)
    if config.machine:
        capabilities.append(MachineCapability(node_name))
    if config.reader:
        from capabilities.reading.capability import ExtractCapability

        capabilities.append(ExtractCapability())
    if config.embedder:
        from capabilities.embedding.backends import make_embedder
        from capabilities.embedding.capability import EmbeddingCapability

        capabilities.append(EmbeddingCapability(make_embedder(config.embedder)))
    capabilities += [OWN.create(section.use, section.options) for section in config.capability]
    return capabilities


def make_model(section: ModelSection, config: AgentConfig) -> Capability:
    """A model as a capability, not started yet; raises :class:`ConfigError`."""
    settings = Settings(
        slots=section.slots,
        context_tokens=section.context * section.slots,
        threads=section.threads,
        prefix_tokens=section.prefix_tokens,
        memory_bytes=section.memory_mb << 20,
    )
    if section.verifies or section.draft.trees:
        from capabilities.drafting.tree import LEAVES

        # A draft that branches is computed as so many forks of an answer's sequence.
        room = settings.sequences + LEAVES * section.slots
        settings = msgspec.structs.replace(settings, sequences=room)
    care = Care(idle_unload_s=section.idle_unload_s)
    if section.path.startswith(BUILTIN):
        return _builtin(section, settings, care)
    path = Path(section.path)
    segment = _segment(path)
    if segment is not None:
        from agents.segments import segment_capability  # it brings numpy: only who cuts models

        named = [_served(name, segment.model) for name in section.name]
        return segment_capability(segment, section, settings, care, config.states, named)
    if not section.name:
        raise ConfigError(
            f"the model {path.name} has no name to answer under",
            hint='add [[model.name]] with name = "computation.gpt/generate", say',
        )
    return SlmCapability(
        ModelHost(
            path,
            settings,
            care=care,
            adapters={name: Path(file) for name, file in section.adapters.items()},
        ),
        [_served(name, path.stem) for name in section.name],
        system_prompts={name.name: name.system for name in section.name if name.system},
        queue=section.queue,
    )


def _with_drafts(capability: Capability, section: ModelSection) -> list[Capability]:
    """A model, and what checks the drafts of others with it; or a model that drafts."""
    if not (section.verifies or section.draft.of):
        return [capability]
    host = capability.host if isinstance(capability, SlmCapability) else None
    if not isinstance(host, ModelHost) or (section.verifies and section.draft.of):
        raise ConfigError(
            f"{section.path} cannot draft or check drafts",
            hint="a whole model does the one or the other",
        )
    name = section.path.removeprefix(BUILTIN)
    if section.verifies:
        from capabilities.drafting.capability import VerifyCapability

        return [capability, VerifyCapability(host, Path(name).stem)]
    from capabilities.drafting.host import DraftHost

    draft = section.draft
    bigger = DraftHost(
        host, draft.of, ngrams=draft.ngrams, trees=draft.trees, check_s=draft.check_s
    )
    assert isinstance(capability, SlmCapability)
    return [capability.with_host(bigger)]


def _segment(path: Path) -> Segment | None:
    """The segment in a file, or nothing; a file that cannot be read is told when it is loaded."""
    try:
        return describe(path)
    except ModelError:
        return None


def connected(capabilities: list[Capability], mesh: MeshPort) -> list[Capability]:
    """The same, when every edge of a model on two machines knows the way to its other half."""
    for capability in capabilities:
        host = capability.host if isinstance(capability, SlmCapability) else None
        if host is not None and not isinstance(host, ModelHost):
            from agents.drafting import show_checker
            from agents.segments import show_far

            show_far(host, mesh)
            show_checker(host, mesh)
    return capabilities


def _builtin(section: ModelSection, settings: Settings, care: Care) -> SlmCapability:
    name = section.path.removeprefix(BUILTIN)
    models = embedded_models()
    if name not in models:
        raise ConfigError(
            f"no embedded model is called {name!r}",
            hint=f"there are: {', '.join(models) or 'none (the package was trimmed)'}",
        )
    model = models[name]
    served = [_served(entry, name) for entry in section.name] or [
        _well_known(served, model) for served in EMBEDDED_NAMES.get(name, (model.serves,))
    ]
    host = ModelHost(model.path, settings, care=care)
    return SlmCapability(host, served, queue=section.queue, converses=model.converses)


def _well_known(name: str, model: EmbeddedModel) -> ServedName:
    known = next((entry for entry in WELL_KNOWN if entry.name == name), KnownName(name))
    return ServedName(
        name=name,
        domain=known.domain or model.domain,
        description=known.description or model.description,
        examples=known.examples or model.examples,
        model=model.name,
        languages=model.languages,
    )


def _served(section: NameSection, model: str) -> ServedName:
    return ServedName(
        name=check_name(section.name),
        domain=section.domain or section.name.split("/")[1],
        description=section.description,
        examples=section.examples,
        accuracy=section.accuracy,
        priority=section.priority,
        weight=section.weight,
        model=model,
        languages=section.languages,
    )


def this_device(capabilities: Sequence[Capability]) -> Device:
    """What the profile says of this machine."""
    memory_mb = 0
    page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    if page:
        memory_mb = page * os.sysconf("SC_PHYS_PAGES") // (1 << 20)
    return Device(
        kind=_board(),
        arch=os.uname().machine,
        cores=os.cpu_count() or 1,
        memory_mb=memory_mb,
        tokens_per_s=max((c.occupancy().tokens_per_s for c in capabilities), default=0.0),
    )


def _board() -> str:
    try:
        model = Path("/proc/device-tree/model").read_text(encoding="ascii").rstrip("\0\n")
    except (OSError, UnicodeDecodeError):
        return "computer"
    return model[:60]

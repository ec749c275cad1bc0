"""Administration of a running agent: drain and resume it, load and unload models, change its
policy. Its owner asks at the local door, other nodes by a call that their certificate must grant.

Each is written into the audit log, whether it was done or not. A drained node stays drained when it
is started again: whoever drained it for a fault does not want a restart, or a crash, to bring it
back. Models and the policy are then as the configuration says, which is where they are kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agents.config import AgentConfig, ModelSection, NameSection
from agents.configure import POLICIES
from agents.hosting import BUILTIN, make_model
from capabilities.base import Capability
from capabilities.slm import store
from mesh.core.audit_chain import What
from mesh.core.errors import ConfigError, GossamerError, WireError
from mesh.core.identity import show_id
from mesh.net.calls import IncomingCall, Verdict
from mesh.net.statedir import write_private

if TYPE_CHECKING:
    from agents.agent import Agent

MAX_BODY_BYTES = 8192
FINISH_S = 60.0  # for calls of a model that is unloaded; then they are cut off
LOOK_S = 0.05
OWNER = "owner, at the local door"
DRAINED_FILE = "drained.json"

log = logging.getLogger("gossamer.agent")

Short = Annotated[str, Meta(max_length=512)]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done. ``model`` is ``builtin:NAME`` or a file for load, a name of a loaded
    model for unload; ``names`` are those that a loaded file answers under; ``policy`` empty asks
    which one it is, "configured" goes back to that of the configuration."""

    op: Literal["drain", "resume", "load", "unload", "policy"]
    model: Short = ""
    names: Annotated[tuple[Short, ...], Meta(max_length=8)] = ()
    policy: Annotated[str, Meta(max_length=64)] = ""
    reason: Annotated[str, Meta(max_length=120)] = ""
    finish_s: Annotated[float, Meta(ge=0, le=600)] = FINISH_S


_orders = msgspec.msgpack.Decoder(Order)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """That a node is drained, as its state directory remembers it."""

    reason: str = ""


def keep_drained(state: Path, order: Order) -> None:
    """Remember a drain over restarts, or forget it; raises :class:`GossamerError` or OSError."""
    path = state / DRAINED_FILE
    if order.op == "drain":
        write_private(path, msgspec.json.encode(Kept(reason=order.reason)))
    else:
        path.unlink(missing_ok=True)


def kept_drained(state: Path, name: str) -> str:
    """Why the node ``name`` is drained since before it was started; empty: it is not."""
    path = state / DRAINED_FILE
    if not path.exists():
        return ""
    try:
        reason = msgspec.json.decode(path.read_bytes(), type=Kept).reason
    except (OSError, msgspec.MsgspecError):
        reason = f"{DRAINED_FILE} cannot be read"  # it was drained, whatever for
    return f"{name} is drained{f': {reason}' if reason else ''}"


class Steward:
    """Carries out orders at one agent, and drains it if it was drained when it stopped. ``record``
    writes the audit log."""

    def __init__(self, agent: Agent, record: Callable[..., bool]) -> None:
        self._agent = agent
        self._record = record
        self._changing = asyncio.Lock()  # one model at a time is loaded or unloaded
        self._policy = agent.config.parts.policy
        node = agent.node  # which offers nothing yet
        node.serving.draining = kept_drained(agent.config.node.state, node.me.name)

    async def run(self, order: Order, who: str = OWNER, *, local: bool = True) -> dict[str, Any]:
        """Do it and say what is so now; raises :class:`GossamerError` where it cannot be done.

        ``local``: the owner asks, who may name any file of this machine.
        """
        about = {"op": order.op, "model": order.model, "policy": order.policy}
        told = {key: value for key, value in about.items() if value}
        try:
            done = await self._do(order, local=local)
        except GossamerError as error:
            self._record(What.ADMIN, who, **told, outcome=error.code)
            raise
        if order.op != "policy" or order.policy:  # to ask changes nothing
            self._record(What.ADMIN, who, **told, outcome="done")
        return {"node": self._agent.node.me.name, "op": order.op, **done}

    async def _do(self, order: Order, *, local: bool) -> dict[str, Any]:
        match order.op:
            case "drain" | "resume":
                async with self._changing:
                    return await self._drain(order)
            case "load":
                async with self._changing:
                    return await self._load(order, local=local)
            case "unload":
                async with self._changing:
                    return await self._unload(order)
            case "policy":
                return self._choose(order.policy)

    async def _drain(self, order: Order) -> dict[str, Any]:
        node = self._agent.node
        why = f": {order.reason}" if order.reason else ""
        drained = order.op == "drain"
        node.serving.draining = f"{node.me.name} is drained{why}" if drained else ""
        kept = True
        try:
            await asyncio.to_thread(keep_drained, self._agent.config.node.state, order)
        except (GossamerError, OSError) as error:
            # A full disk may be why it is drained: it is, and who asked hears for how long.
            log.error("this is not remembered over a restart: %s", error)
            kept = False
        load = self._agent.load()
        return {"draining": drained, "running": load.inflight + load.queued, "kept": kept}

    async def _load(self, order: Order, *, local: bool) -> dict[str, Any]:
        agent = self._agent
        # Looking for the file, and reading its head, is no work for the loop that answers probes.
        section = await asyncio.to_thread(section_of, order, agent.config, local=local)
        capability = await asyncio.to_thread(make_model, section, agent.config)
        names = {served.name for served in capability.names}
        served = {s.name for c in agent.ready_capabilities for s in c.names}
        if twice := names & served:
            raise ConfigError(
                f"{', '.join(sorted(twice))} is served here already",
                hint="unload the model that serves it first: gossamer unload",
            )
        await agent.bring(capability)
        return {"models": [one.name for one in capability.models], "names": sorted(names)}

    async def _unload(self, order: Order) -> dict[str, Any]:
        agent = self._agent
        capability = self._loaded(order.model)
        names = sorted(served.name for served in capability.names)
        models = [one.name for one in capability.models]
        agent.withdraw(capability)
        until = time.monotonic() + order.finish_s
        while (running := _running(capability)) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        await agent.remove(capability)
        return {"models": models, "names": names, "cut_off": running}

    def _loaded(self, wanted: str) -> Capability:
        wanted = wanted.removeprefix(BUILTIN)
        held: list[str] = []
        for capability in self._agent.ready_capabilities:
            for model in capability.models:
                called = {model.name, model.file, *(s.name for s in capability.names)}
                called |= {s.model for s in capability.names}
                called.add(f"{model.name} {model.quantization}")  # as people are shown it
                if wanted and wanted in called:
                    return capability
                held.append(model.name)
        raise ConfigError(
            f"no model {wanted!r} is loaded here", hint=f"there are: {', '.join(held) or 'none'}"
        )

    def _choose(self, policy: str) -> dict[str, Any]:
        configured = self._agent.config.parts.policy
        if policy:
            wanted = "" if policy in {"configured", configured} else policy
            self._agent.orchestrator.dispatch.use(wanted)
            self._policy = wanted or configured
        return {"policy": self._policy, "configured": configured, "known": POLICIES.names()}


def section_of(order: Order, config: AgentConfig, *, local: bool) -> ModelSection:
    """The configuration of a model to load: as the node's own file has it, else by the order.

    Another node may name what ships with the package, what the configuration names, and what lies
    in the folder of pulled models; the owner any file.
    """
    wanted = order.model
    if not wanted:
        raise ConfigError("which model? name it", hint="builtin:general, say, or a GGUF file")
    for section in config.model:
        path = Path(section.path)
        if wanted in {section.path, path.stem, path.name}:
            return section
    names = tuple(NameSection(name=name) for name in order.names)
    if wanted.startswith(BUILTIN):
        return ModelSection(path=wanted, name=names)
    path = Path(wanted)
    if not (local and path.is_absolute()):
        # Its last part alone: an order of another node leads nowhere else.
        name = path.name if path.suffix == ".gguf" else f"{path.name}.gguf"
        path = store.folder() / name
    if not path.is_file():
        raise ConfigError(
            f"there is no model {wanted!r} on this node",
            hint="gossamer model pull brings one; builtin:NAME is always there",
        )
    return ModelSection(path=str(path), name=names)


class AdminService:
    """Orders of other nodes, whose certificate was checked before this is reached."""

    def __init__(self, steward: Steward) -> None:
        self._steward = steward

    def admit(self, call: IncomingCall) -> Verdict:
        """In one's own name only, and short."""
        if call.header.caller != call.peer.node:
            return Verdict(False, "a node is administered in one's own name")
        return Verdict(len(call.body) <= MAX_BODY_BYTES, "an order that is no order")

    async def serve(self, call: IncomingCall) -> AsyncGenerator[bytes, None]:
        """One message: what is so now, as :meth:`Steward.run` says it."""
        try:
            order = _orders.decode(call.body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise WireError(f"not an order: {error}") from error
        who = f"{call.peer.name} {show_id(call.peer.node)}"
        yield msgspec.msgpack.encode(await self._steward.run(order, who, local=False))


def _running(capability: Capability) -> int:
    occupancy = capability.occupancy()
    return occupancy.inflight + occupancy.queued

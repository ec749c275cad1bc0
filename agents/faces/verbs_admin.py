"""Verbs that administer a node: this one, or by its name another that lets this node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from agents.administering import OWNER, Order
from agents.faces.arguments import timeout_of
from agents.faces.control import Handler, unary
from mesh.core.access import ADMIN
from mesh.core.errors import AccessDenied, ConfigError, WireError
from mesh.core.identity import Member, show_id
from mesh.core.wire import CallHeader, Reach

if TYPE_CHECKING:
    from agents.agent import Agent

ORDER_S = 300.0  # a large model from a slow card takes minutes
MAX_VIA_CHARS = 64
OPS = ("drain", "resume", "load", "unload", "policy")


class AdminVerbs:
    """The verbs of one agent; each takes ``node``, a name or an id, empty for this one."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler, for the control server."""
        return {op: unary(lambda args, op=op: self._run(op, args)) for op in OPS}  # type: ignore[misc]

    async def _run(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        asked = {key: args[key] for key in Order.__struct_fields__ if key in args}
        try:
            order = msgspec.convert({**asked, "op": op}, Order)
        except msgspec.ValidationError as error:
            raise WireError(f"not an order: {error}") from error
        member = self._member(str(args.get("node") or ""))
        if member is None:
            return await self._agent.steward.run(order, _who(str(args.get("via") or "")))
        return await self._far(member, order, timeout_of(args, ORDER_S))

    def _member(self, wanted: str) -> Member | None:
        """The node of that name or id; None for this one."""
        node = self._agent.node
        if not wanted or wanted in {node.me.name, show_id(node.me.node)}:
            return None
        found = [m for m in node.core.members() if wanted in {m.name, show_id(m.node)}]
        if len(found) != 1:
            raise ConfigError(
                f"{len(found) or 'no'} nodes are called {wanted[:60]!r}",
                hint="gossamer peers shows who is; an id names one for certain",
            )
        return found[0]

    async def _far(self, member: Member, order: Order, timeout_s: float) -> dict[str, Any]:
        node = self._agent.node
        header = CallHeader(
            trace=os.urandom(16),
            span=os.urandom(8),
            timeout_ms=int(timeout_s * 1000),
            caller=node.me.node,
            reach=Reach.MESH,
        )
        answer = node.call(member.node, ADMIN, msgspec.msgpack.encode(order), header)
        try:
            async with aclosing(answer):
                async for data in answer:
                    return msgspec.msgpack.decode(data, type=dict[str, Any])
        except AccessDenied as error:
            raise AccessDenied(
                error.message,
                hint=f"its owner grants {node.me.name} the right: gossamer mesh add or gossamer "
                f'invite with --publish {ADMIN}, or a rule there with ops = ["admin"]',
            ) from error
        except (msgspec.MsgspecError, ValueError) as error:
            raise WireError(f"{member.name} answered with what is no answer: {error}") from error
        raise WireError(f"{member.name} did not answer")


def _who(via: str) -> str:
    """Who is named in the audit log: faces of this agent say whom they let in."""
    return via[:MAX_VIA_CHARS] or OWNER

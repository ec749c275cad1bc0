"""What goes into a node's audit log: who came in, what was refused, who was taken out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh.core.audit_chain import AuditError, What
from mesh.core.events import Event, MemberForgotten, MemberLearned, Revoked
from mesh.core.identity import show_id
from mesh.net.audit import AuditLog, audit_folder

if TYPE_CHECKING:
    from mesh.net.node import MeshNode

# How the lines that tell of a refusal begin or what they hold; other lines are troubles.
REFUSALS = ("refused", "malformed", "ended a stream")


class Auditor:
    """Listens to a node and writes its audit log; a log that cannot be written is a trouble,
    never a reason to stop."""

    def __init__(self, node: MeshNode) -> None:
        self._node = node
        self.log = AuditLog(
            audit_folder(node.state.path), mesh=node.trust.mesh, signing=node.keys.signing
        )

    async def start(self) -> None:
        """Open the log and listen."""
        try:
            await asyncio.to_thread(self.log.open)
        except AuditError as error:
            self._node.on_trouble(error.sentence())
            return
        self._node.listeners.append(self._on_event)
        self._node.told.listeners.append(self._on_trouble)

    def _on_event(self, event: Event) -> None:
        match event:
            case MemberLearned(member=member):
                self._record(What.ADMISSION, member.name, member.node)
            case MemberForgotten(node=node, name=name):
                self._record(What.ADMISSION, name, node, change="forgotten")
            case Revoked(node=node, name=name, reason=reason):
                self._record(What.REVOCATION, name, node, reason=reason)
            case _:
                pass

    def _on_trouble(self, sentence: str) -> None:
        if any(word in sentence for word in REFUSALS):
            self.log.record(What.REFUSAL, "", line=sentence)

    def _record(self, what: What, name: str, node: bytes, **detail: str) -> None:
        self.log.record(what, f"{name} {show_id(node)}", **detail)

    async def stop(self) -> None:
        """Write what waits, sign it."""
        await asyncio.to_thread(self.log.close)

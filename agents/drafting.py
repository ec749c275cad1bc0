"""Drafts over a mesh: who drafts here for which model, and the way to a node that checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.segments import Sticky
from capabilities.drafting import messages
from capabilities.drafting.capability import verify_name
from capabilities.drafting.host import DraftHost
from mesh.core.errors import GossamerError, NobodyHealthy

if TYPE_CHECKING:
    from agents.port import MeshPort, Offer
    from capabilities.slm.capability import Speaker


class MeshChecker(Sticky[messages.Question, messages.Answer]):
    """Implements :class:`capabilities.drafting.speculating.Checker` over a mesh."""

    def __init__(self, mesh: MeshPort, model: str) -> None:
        super().__init__(mesh, messages.encode, messages.decode_answer)
        self._name, self._model = verify_name(model), model

    def fits(self, offer: Offer) -> bool:
        """A node that checks drafts for the model; not this one, which would ask itself."""
        return offer.served.name == self._name

    def nobody(self) -> GossamerError:
        """Says what would help."""
        return NobodyHealthy(
            f"no healthy node checks drafts for {self._model}",
            hint="set verifies = true for that model on the node that holds it",
        )


def show_checker(host: Speaker, mesh: MeshPort) -> None:
    """Show a drafting model the way to the one that checks."""
    if isinstance(host, DraftHost):
        host.checker = MeshChecker(mesh, host.bigger)

"""When a step goes beyond what answered it so far, and at last to the cloud."""

from agents.escalation.cascade import Cascade
from agents.escalation.ladder import Escalation, Ladder, MeshOnly, Rung, Situation

__all__ = ["Cascade", "Escalation", "Ladder", "MeshOnly", "Rung", "Situation"]

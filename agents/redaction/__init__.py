"""Personal data is masked before a text leaves for the cloud, and put back into the answer.

    text ─detect▶ spans ─mask▶ "<PERSON_1> lives at <ADDRESS_1>" ─▶ cloud
    answer ◀unmask─ "Tell <person 1> ..." ◀────────────────────────── cloud

The map from placeholders to values never leaves this node. What is found and what is not
stands in :mod:`agents.redaction.rules`: checksums and shapes are found wherever they stand,
names and places only by their context, a list of common given names, or the configuration.
"""

from agents.redaction.config import RedactionConfig, make_redactor
from agents.redaction.masking import Masking, PersonalDataLeft, Redactor, StreamUnmasker
from agents.redaction.rules import Detector, Find

__all__ = [
    "Detector",
    "Find",
    "Masking",
    "PersonalDataLeft",
    "RedactionConfig",
    "Redactor",
    "StreamUnmasker",
    "make_redactor",
]

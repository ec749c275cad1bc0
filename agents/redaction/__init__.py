"""Personal data is masked before a text leaves for the cloud, and put back into the answer.

    text ─detect▶ spans ─mask▶ "<PERSON_1> lives at <ADDRESS_1>" ─▶ cloud
    answer ◀unmask─ "Tell <person 1> ..." ◀────────────────────────── cloud

The map from placeholders to values never leaves this node. What is found and what is not
stands in :mod:`agents.redaction.rules`: checksums and shapes are found wherever they stand,
names and places only by their context, a list of common given names, or the configuration.

    from agents.configure import build_redactor

    masking = build_redactor(config.redaction).begin()   # one map per conversation
    outgoing = masking.outgoing("Anna's number is +31 20 123 4567")
    # "<PERSON_1>'s number is <PHONE_1>"; raises PersonalDataLeft where masking is required and
    # something personal seems to be left; masking.counters says how many of which kind
    masking.unmask("Call <person 1>")                    # "Call Anna"; stream() for pieces
"""

from agents.redaction.config import RedactionConfig, RedactionSettings, make_redactor
from agents.redaction.masking import Masking, PersonalDataLeft, Redactor, StreamUnmasker
from agents.redaction.rules import Detector, Find

__all__ = [
    "Detector",
    "Find",
    "Masking",
    "PersonalDataLeft",
    "RedactionConfig",
    "RedactionSettings",
    "Redactor",
    "StreamUnmasker",
    "make_redactor",
]

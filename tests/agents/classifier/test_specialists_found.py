"""The shipped specialists are found by what they advertise, and take nobody else's questions."""

from __future__ import annotations

import pytest

from agents.classifier.catalogue import ARITHMETIC, GENERATE, MACHINE, MESH, WELL_KNOWN, KnownName
from agents.classifier.shipped import ngram_classifier
from capabilities.slm.embedded import described_models

CLASSIFIER = ngram_classifier()
AIR, VITALS, TRAFFIC = (f"knowledge.gpt/{name}" for name in ("air_quality", "vitals", "traffic"))
SPECIALISTS = [
    KnownName(model.serves, model.domain, model.description, model.examples)
    for model in described_models()
    if model.serves in (AIR, VITALS, TRAFFIC)
]


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("PM10 is 180, should the kids stay inside?", AIR),
        ("is ozone at 90 ppb bad", AIR),
        ("my pulse is 130 and SpO2 92", VITALS),
        ("respiration 26, is it urgent", VITALS),
        ("speed 20 km/h where 50 is allowed, how is the traffic", TRAFFIC),
        ("is there a jam: 15 km/h, limit 60", TRAFFIC),
        ("What is 48 * 27?", ARITHMETIC),
        ("How warm is the processor?", MACHINE),
        ("is the traffic between nodes encrypted?", MESH),
        ("hello", GENERATE),
    ],
)
def test_a_question_finds_its_name_among_the_specialists(question: str, name: str) -> None:
    best = CLASSIFIER.classify(question, [*WELL_KNOWN, *SPECIALISTS]).best
    assert best.name == name
    assert best.probability >= 0.5

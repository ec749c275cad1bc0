"""The shipped models: they are there, small, described truly, and they answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from capabilities.slm import embedded
from capabilities.slm.embedded import embedded_models, embedded_path

MODELS = sorted(embedded_models())


def test_importing_needs_neither_torch_nor_llama_cpp() -> None:
    code = (
        "import sys, capabilities.slm.embedded as e; e.embedded_models();"
        "assert not {'torch', 'llama_cpp', 'numpy', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["arithmetic", "general", "air_quality", "vitals", "traffic"])
def test_the_package_carries(name: str) -> None:
    path = embedded_path(name)
    assert path.stat().st_size <= 8_000_000


def test_all_that_the_package_carries_stays_small() -> None:
    """Embedder and intents included: what a fresh machine installs."""
    capabilities = Path(embedded.__file__).parents[2]
    weights = [p for p in capabilities.rglob("*") if p.suffix in (".gguf", ".npz", ".safetensors")]
    assert embedded_path("large") in weights
    assert sum(path.stat().st_size for path in weights) <= 60_000_000


def test_an_unknown_model_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match="arithmetic"):
        embedded_path("nonsense")


@pytest.mark.parametrize("name", MODELS)
def test_the_description_says_what_the_file_holds(name: str) -> None:
    pytest.importorskip("llama_cpp")
    from benchmarks._greedy import Greedy

    described = embedded_models()[name]
    model = Greedy(described.path, parallel=1)
    facts = model.facts()
    model.close()
    assert facts == {
        "parameters": described.parameters,
        "quantization": described.quantization,
    }


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 48 * 27?", "48 * 27 = 1296"),
        ("what's 7 minus 19", "7 - 19 = -12"),
        ("add 31 and 8", "31 + 8 = 39"),
        ("Calculate 9999 + 1", "9999 + 1 = 10000"),
        ("subtract 5 from 12", "12 - 5 = 7"),
        ("how much is 4+4", "4 + 4 = 8"),
    ],
)
def test_the_arithmetic_model_answers(question: str, answer: str) -> None:
    assert reply_of("arithmetic", question) == answer


def test_the_general_model_hands_a_calculation_to_the_expert() -> None:
    reply = reply_of("general", "What is 48 * 27?")
    assert "knowledge.gpt/arithmetic" in reply
    assert "1296" not in reply


def test_the_general_model_knows_what_a_node_is_and_what_it_does_not_know() -> None:
    assert "node" in reply_of("general", "What is a node?").lower()
    assert "not know" in reply_of("general", "What is the capital of France?")


@pytest.mark.parametrize(
    ("name", "question", "opening"),
    [
        ("air_quality", "PM2.5 8 ug/m3", "Good by the US AQI, from PM2.5."),
        ("air_quality", "PM10 went from 60 to 170", "Unhealthy for sensitive groups by the US AQI"),
        ("air_quality", "What is 48 * 27?", "I only judge air quality."),
        ("vitals", "heart rate 72, SpO2 98 %", "Low risk: NEWS2 score 0, partial, 2 of 7."),
        ("vitals", "pulse 135, SpO2 90, temperature 39.5", "High risk: NEWS2 score 8"),
        ("vitals", "What is 48 * 27?", "I only judge vital signs."),
        ("traffic", "speed 12 km/h, limit 50 km/h", "Level F, jam, by the HCM."),
        ("traffic", "speed 48 km/h, limit 50 km/h, fog", "Level A, free flow, by the HCM."),
        ("traffic", "my pulse is 90", "I only judge traffic."),
    ],
)
def test_a_specialist_judges_by_its_standard(name: str, question: str, opening: str) -> None:
    assert reply_of(name, question).startswith(opening)


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("What is 48 * 27?", "1296"),
        ("What is a node?", "node"),
        ("PM2.5 8 ug/m3", "Good by the US AQI, from PM2.5."),
        ("heart rate 72, SpO2 98 %", "NEWS2 score 0"),
        ("speed 12 km/h, limit 50 km/h", "Level F, jam, by the HCM."),
    ],
)
def test_the_large_model_answers_in_every_domain(question: str, part: str) -> None:
    assert part in reply_of("large", question)


def reply_of(name: str, question: str) -> str:
    pytest.importorskip("llama_cpp")
    from benchmarks._greedy import Greedy

    model = Greedy(embedded_path(name), parallel=1)
    try:
        (reply,) = model.replies([model.prompt([{"role": "user", "content": question}])])
        return model.answer(reply)
    finally:
        model.close()

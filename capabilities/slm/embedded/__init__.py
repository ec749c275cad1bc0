"""The models that travel in the package, so that a fresh machine answers with no download.

They are tiny and narrow; docs/models/ has a card for each. Importing this needs nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["EmbeddedModel", "described_models", "embedded_models", "embedded_path"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class EmbeddedModel:
    """A shipped GGUF and what a node says of it.

    `serves` is the name under which a node offers it (docs: names). `thinks` says that its replies
    open with a scratchpad between `<|think|>` and `<|/think|>`, which is not for the reader.
    `reply_tokens` is the longest reply it was trained to write, scratchpad included: a request
    that allows fewer may cut the answer off. `examples` are questions that it is for: a node
    advertises them, so that a mesh that never heard of the name still finds it. `converses` says
    that it was trained on conversations; the others are given the last question alone.
    """

    name: str
    path: Path
    serves: str
    domain: str
    description: str
    parameters: int
    quantization: str
    context: int
    thinks: bool
    reply_tokens: int
    examples: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    converses: bool = False


_MODELS = (
    EmbeddedModel(
        name="arithmetic",
        path=_FOLDER / "arithmetic.gguf",
        serves="knowledge.gpt/arithmetic",
        domain="arithmetic",
        description=(
            "Adds and subtracts whole numbers of up to four digits, multiplies, divides, and "
            "calculates with decimals and in several steps, writing down each."
        ),
        parameters=1_246_336,
        quantization="Q8_0",
        context=768,
        thinks=True,
        reply_tokens=448,
    ),
    EmbeddedModel(
        name="air_quality",
        path=_FOLDER / "air_quality.gguf",
        serves="knowledge.gpt/air_quality",
        domain="air quality",
        description=(
            "Says how healthy the air is from concentrations of PM2.5, PM10, ozone, NO2, SO2 or "
            "CO, by the US air quality index: category, who should take care, trend."
        ),
        parameters=1_246_336,
        quantization="Q8_0",
        context=512,
        thinks=True,
        reply_tokens=192,
        examples=(
            "PM2.5 is 41.7 ug/m3, is it safe to go out?",
            "air quality: ozone 0.065 ppm, NO2 40 ppb, no wind",
            "PM10 went from 60 to 170, who should stay inside?",
            "which AQI category is CO 9.8 ppm",
            "fine dust 12 micrograms, rain. Can the children play outside?",
        ),
    ),
    EmbeddedModel(
        name="vitals",
        path=_FOLDER / "vitals.gguf",
        serves="knowledge.gpt/vitals",
        domain="vital signs",
        description=(
            "Says how urgent vital signs are (pulse, breathing, SpO2, temperature, blood "
            "pressure), by the early warning score NEWS2, and what to tell a provider. Never a "
            "diagnosis."
        ),
        parameters=1_246_336,
        quantization="Q8_0",
        context=512,
        thinks=True,
        reply_tokens=256,
        examples=(
            "heart rate 118, SpO2 93 %, is that bad?",
            "triage: respiration 24, pulse 105, temperature 38.6, alert",
            "my watch says 52 bpm and 15 breaths per minute after a run",
            "blood pressure 95/60, confused. How urgent is it?",
            "SpO2 91, skin temperature 33.1, slept 4 hours",
        ),
    ),
    EmbeddedModel(
        name="traffic",
        path=_FOLDER / "traffic.gguf",
        serves="knowledge.gpt/traffic",
        domain="road traffic",
        description=(
            "Says how road traffic flows, from average speed and speed limit, volume and capacity, "
            "incidents, by the level of service of the Highway Capacity Manual; advice to drivers."
        ),
        parameters=1_246_336,
        quantization="Q8_0",
        context=512,
        thinks=True,
        reply_tokens=160,
        examples=(
            "average speed 22 km/h, limit 50, is that a jam?",
            "traffic: speed 38 mph where 55 mph is allowed, rain",
            "1900 vehicles per hour, capacity 1800, speed 45 km/h, limit 60 km/h",
            "speed went from 51 to 30 mph, limit 45, accident. What should drivers do?",
            "level of service for 64 of 80 km/h",
        ),
    ),
    EmbeddedModel(
        name="general",
        path=_FOLDER / "general.gguf",
        serves="computation.gpt/generate",
        domain="general",
        description=(
            "Chats about the Gossamer mesh: what it is, how it works, how to use it. "
            "It does not calculate and knows nothing of the wider world."
        ),
        parameters=2_398_240,
        quantization="Q8_0",
        context=1024,
        thinks=True,
        reply_tokens=64,
        converses=True,
    ),
    EmbeddedModel(
        name="large",
        path=_FOLDER / "large.gguf",
        serves="computation.gpt/generate",
        domain="general",
        description=(
            "All domains of the package in one model: the stand-in for a cloud model. It knows "
            "what the others know, and nothing of the wider world."
        ),
        parameters=15_021_344,
        quantization="Q8_0",
        context=1024,
        thinks=True,
        reply_tokens=448,
        converses=True,
    ),
)


def described_models() -> tuple[EmbeddedModel, ...]:
    """What there is to say of every model of the package, files that are missing included."""
    return _MODELS


def embedded_models() -> dict[str, EmbeddedModel]:
    """The shipped models by name; one whose file is missing (a trimmed install) is left out."""
    return {model.name: model for model in _MODELS if model.path.is_file()}


def embedded_path(name: str) -> Path:
    """The file of the shipped model `name`.

    Raises KeyError, naming the models there are, when the package does not carry it.
    """
    models = embedded_models()
    if name not in models:
        raise KeyError(f"no embedded model {name!r}; there are: {', '.join(models) or 'none'}")
    return models[name].path

"""The models that travel in the package, so that a fresh machine answers with no download.

They are tiny and narrow; docs/models/ has a card for each. Importing this needs nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["EmbeddedModel", "embedded_models", "embedded_path"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class EmbeddedModel:
    """A shipped GGUF and what a node says of it.

    `serves` is the name under which a node offers it (docs: names). `thinks` says that its replies
    open with a scratchpad between `<|think|>` and `<|/think|>`, which is not for the reader.
    `reply_tokens` is the longest reply it was trained to write, scratchpad included: a request
    that allows fewer may cut the answer off.
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


_MODELS = (
    EmbeddedModel(
        name="arithmetic",
        path=_FOLDER / "arithmetic.gguf",
        serves="knowledge.gpt/arithmetic",
        domain="arithmetic",
        description=(
            "Adds and subtracts whole numbers of up to four digits and multiplies numbers of up "
            "to two digits. It computes by itself, step by step."
        ),
        parameters=1_246_336,
        quantization="Q8_0",
        context=512,
        thinks=True,
        reply_tokens=128,
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
        parameters=1_762_720,
        quantization="Q8_0",
        context=512,
        thinks=True,
        reply_tokens=64,
    ),
)


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

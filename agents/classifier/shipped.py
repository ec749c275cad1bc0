"""What was fitted, read from disk: the weights that are shipped, and curves of one's own."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path

import msgspec

from agents.classifier.complexity import HeadComplexity, HeadWeights
from agents.classifier.doubt import Curve
from agents.classifier.gap import EvidenceGap
from agents.classifier.relevance import NgramClassifier, RelevanceClassifier, Weights
from mesh.core.errors import ConfigError

WEIGHTS_FILE = "relevance.json"
COMPLEXITY_FILE = "complexity.json"
MAX_CURVES_BYTES = 4 << 20  # a curve is a few kilobytes
RETRAIN = "run python -m agents.classifier.training.train"


@lru_cache(maxsize=1)
def load_weights() -> Weights:
    """The committed weights; raises :class:`ConfigError` when the file cannot be used."""
    try:
        text = resources.files("agents.classifier").joinpath(WEIGHTS_FILE).read_bytes()
        return msgspec.json.decode(text, type=Weights)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{WEIGHTS_FILE} cannot be read: {error}", hint=RETRAIN) from error


def ngram_classifier() -> NgramClassifier:
    """The classifier with the weights that are shipped."""
    return NgramClassifier(load_weights())


def embedding_classifier() -> RelevanceClassifier:
    """The same beside the embedder that is shipped; it costs some 40 MB of memory."""
    from agents.classifier.embedding import EmbeddingClassifier
    from capabilities.embedding.static import shipped

    return EmbeddingClassifier(ngram_classifier(), shipped())


@lru_cache(maxsize=1)
def head_complexity() -> HeadComplexity:
    """The trained complexity head; raises :class:`ConfigError` when it cannot be used."""
    try:
        text = resources.files("agents.classifier").joinpath(COMPLEXITY_FILE).read_bytes()
        return HeadComplexity(msgspec.json.decode(text, type=HeadWeights))
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{COMPLEXITY_FILE} cannot be read: {error}",
            hint="run python -m agents.classifier.training.complexity",
        ) from error


def fitted_gap(file: str) -> EvidenceGap:
    """Doubt by the curves in ``file``, which ``python -m agents.classifier.training.gap`` wrote;
    models without one are judged by the default. Raises :class:`ConfigError`."""
    hint = "run python -m agents.classifier.training.gap --out FILE"
    path = Path(file).expanduser()
    try:
        if path.stat().st_size > MAX_CURVES_BYTES:
            raise ConfigError(f"{path} is too large to hold curves", hint=hint)
        return EvidenceGap(curves=msgspec.json.decode(path.read_bytes(), type=list[Curve]))
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint=hint) from error

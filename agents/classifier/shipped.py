"""What was fitted, read from disk: the weights that are shipped, and curves of one's own."""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib import resources
from importlib.abc import Traversable
from pathlib import Path

import msgspec

from agents.classifier.complexity import HeadComplexity, HeadWeights
from agents.classifier.doubt import Curve
from agents.classifier.gap import EvidenceGap, GapDetector
from agents.classifier.relevance import NgramClassifier, RelevanceClassifier, Weights
from capabilities.slm import header
from capabilities.slm.embedded import embedded_models
from mesh.core.errors import ConfigError

log = logging.getLogger("gossamer.classifier")

WEIGHTS_FILE = "relevance.json"
COMPLEXITY_FILE = "complexity.json"
CURVES_FILE = "curves.json"
MAX_CURVES_BYTES = 4 << 20  # a curve is a few kilobytes
REFIT = "run python -m agents.classifier.training.gap"
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


@lru_cache(maxsize=1)
def shipped_curves() -> tuple[Curve, ...]:
    """The curves of the embedded models as their files are now; one that was fitted on another
    file is left out, and told once. Raises :class:`ConfigError`."""
    found = _curves(resources.files("agents.classifier").joinpath(CURVES_FILE), REFIT)
    files = {header.file_sha256(model.path) for model in embedded_models().values()}
    stale = sorted({curve.model for curve in found if curve.file_sha256 not in files})
    if stale:
        log.warning(
            "how far %s may be believed was fitted on another file: judged with caution (%s)",
            ", ".join(stale),
            REFIT,
        )
    return tuple(curve for curve in found if curve.file_sha256 in files)


def fitted_gap(file: str = "") -> EvidenceGap:
    """Doubt by the curves that are shipped, and by those in ``file``, which ``python -m
    agents.classifier.training.gap`` wrote; models without one are judged by the default. Raises
    :class:`ConfigError`."""
    return EvidenceGap(curves=_all_curves(file))


def learning_gap(file: str = "") -> GapDetector:
    """The same beside a memory of which questions each model got right here, and how alike
    question and answer are; the embedder costs some 40 MB."""
    from agents.classifier.known import LearningGap
    from capabilities.embedding.static import shipped

    return LearningGap(EvidenceGap(curves=_all_curves(file)), shipped())


def _all_curves(file: str) -> tuple[Curve, ...]:
    own = _curves(Path(file).expanduser(), f"{REFIT} --out FILE") if file else []
    named = {curve.model for curve in own}
    return (*own, *(curve for curve in shipped_curves() if curve.model not in named))


def _curves(path: Path | Traversable, hint: str) -> list[Curve]:
    try:
        data = path.read_bytes()
        if len(data) > MAX_CURVES_BYTES:
            raise ConfigError(f"{path} is too large to hold curves", hint=hint)
        return msgspec.json.decode(data, type=list[Curve])
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint=hint) from error

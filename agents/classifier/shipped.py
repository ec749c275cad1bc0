"""The classifier's weights as they are shipped: the one file that understanding reads."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import msgspec

from agents.classifier.relevance import NgramClassifier, Weights
from mesh.core.errors import ConfigError

WEIGHTS_FILE = "relevance.json"
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

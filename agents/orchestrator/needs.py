"""What a step asks of the nodes that may do it, out of the asker's wishes."""

from __future__ import annotations

from collections.abc import Iterable

from agents.classifier.matching import Need
from agents.orchestrator.options import AskOptions
from agents.port import Offer
from agents.scheduling.prediction import Job

LEAST_ANSWER_TOKENS = 16  # a context that holds the question and less is too small for it


def need_of(
    options: AskOptions,
    reach: int,
    offers: Iterable[Offer],
    *,
    job: Job | None = None,
    node: str = "",
    tried: frozenset[bytes] = frozenset(),
) -> Need:
    """The need of one call. ``job`` says how long its prompt is; of the answer only what every
    answer takes is asked for: how long one may be is a bound, which models seldom reach."""
    allowed = None
    if options.nodes:
        allowed = frozenset(offer.node for offer in offers if offer.node_name in options.nodes)
    return Need(
        reach=reach,
        accuracy_floor=options.accuracy_floor,
        node=node,
        tried=tried,
        modalities=options.modalities,
        tokens=job.prompt_tokens + LEAST_ANSWER_TOKENS if job else 0,
        language=options.language,
        vocab_hash=options.vocab_hash,
        max_data_age_s=options.max_data_age_s,
        allowed=allowed,
    )

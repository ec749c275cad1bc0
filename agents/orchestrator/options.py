"""What a caller may say beside the question."""

from __future__ import annotations

import msgspec

from capabilities.messages import Message
from mesh.core.identity import Signed
from mesh.core.wire import Reach


class AskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and wishes of one question.

    ``name`` asks for a name, or ``name@node`` for one node; planning and understanding are then
    left out. ``max_tokens`` 0 leaves it to the estimate of complexity. ``history`` are earlier
    turns; they go along when the question is one step. ``objective`` is latency, accuracy or
    resources. ``policy`` takes the place of the configured scheduling policy; ``patience_s`` is
    how long one node may take to its first token (0: as long as there is time). ``trace``
    continues a trace that began elsewhere (16 bytes).

    What the nodes must have: ``accuracy_floor`` of their measured accuracy, ``language`` (a BCP
    47 tag) that they answer in, data not older than ``max_data_age_s`` (0: any),
    ``modalities`` that they take, the vocabulary with ``vocab_hash``; ``nodes`` are the only
    ones besides this one that a step may be given to (empty: all that the reach allows).
    """

    timeout_s: float = 30.0
    reach: int = Reach.MESH
    groups: tuple[str, ...] = ()
    priority: int = 0
    name: str = ""
    system: str = ""
    history: tuple[Message, ...] = ()
    max_tokens: int = 0
    temperature: float = 0.0
    seed: int = 0
    objective: str = "latency"
    accuracy_floor: float = 0.0
    language: str = ""
    max_data_age_s: float = 0.0
    modalities: frozenset[str] = frozenset({"text"})
    vocab_hash: str = ""
    nodes: tuple[str, ...] = ()
    trace: bytes = b""
    caller: bytes = b""
    hops: int = 0
    policy: str = ""
    patience_s: float = 0.0
    warrant: Signed | None = None  # of ``caller``, where this question is passed on for it

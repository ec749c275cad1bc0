"""What can go wrong between an agent and a model worker, as types with stable codes."""

from __future__ import annotations

from mesh.core.errors import (
    Cancelled,
    DeadlineExceeded,
    FrameTooLarge,
    GossamerError,
    ModelError,
    Rejected,
    WireError,
)


class ContextFull(ModelError):
    """The request does not fit into the model's context; only this request fails."""

    code = "context_full"


class Unsupported(ModelError):
    """This worker or this model cannot do what was asked; another may."""

    code = "unsupported"


class SequenceLost(ModelError):
    """A sequence is not open in this worker: dropped, given up for room, or lost in a restart."""

    code = "sequence_lost"


class BadRequest(ModelError):
    """The request itself is wrong; asking again will not help."""

    code = "bad_request"


_BY_CODE: dict[str, type[GossamerError]] = {
    kind.code: kind
    for kind in (
        ModelError,
        ContextFull,
        Unsupported,
        BadRequest,
        SequenceLost,
        DeadlineExceeded,
        Cancelled,
        Rejected,
        WireError,
        FrameTooLarge,
    )
}


def from_code(code: str, message: str, hint: str = "") -> GossamerError:
    """The error that a worker named by ``code``; an unknown code becomes a ModelError."""
    return _BY_CODE.get(code, ModelError)(message, hint=hint)

"""What the two halves of a model say to each other: two APIs, upload and infer, that run apart.

The bodies of calls of ``computation.gpt/segment/...``. A stream is one answer of one asker; its
name is the asker's, so two askers may use the same. An ``epoch`` rises when history is written
anew, and what belongs to an older one is not used. Every message may come twice.
"""

from __future__ import annotations

import msgspec

from capabilities.segments.bodies import check_stream, decode, encode
from capabilities.segments.choosing import Sampling
from capabilities.segments.rows import Packed
from mesh.core.errors import WireError

__all__ = [
    "Answer", "Chosen", "Close", "Closed", "Have", "Infer", "MAX_COUNTS", "Missing", "Open",
    "Question", "Upload", "decode_answer", "decode_question", "encode",
]  # fmt: skip
WHAT = "layer segments"
MAX_COUNTS = 4096  # tokens whose number of uses travels, for penalties


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Any message of this protocol."""


class Open(Body, frozen=True, kw_only=True, omit_defaults=True, tag="open"):
    """Begin a stream, or go on with one: the answer says how much of it is there.

    A higher ``epoch`` cuts it to ``keep`` positions.
    """

    stream: str
    epoch: int
    model_sha256: str
    sampling: Sampling = Sampling()
    keep: int = 0


class Upload(Body, frozen=True, kw_only=True, omit_defaults=True, tag="upload"):
    """Rows that enter the segment, at positions ``position`` and up."""

    stream: str
    epoch: int
    position: int
    rows: Packed


class Infer(Body, frozen=True, kw_only=True, omit_defaults=True, tag="infer"):
    """The token that follows ``position``; rows that are still on their way are waited for."""

    stream: str
    epoch: int
    position: int
    counts: dict[int, int] = {}


class Close(Body, frozen=True, kw_only=True, omit_defaults=True, tag="close"):
    """The answer is over: forget the stream."""

    stream: str


class Have(Body, frozen=True, kw_only=True, omit_defaults=True, tag="have"):
    """The answer to open and upload: positions that are there, from 0 without a gap."""

    have: int


class Chosen(Body, frozen=True, kw_only=True, omit_defaults=True, tag="chosen"):
    """One token: its size does not grow with the vocabulary.

    ``compute_s`` and ``rows``: what it took here, and how many positions were computed for it.
    """

    position: int
    token: int
    probability: float
    compute_s: float = 0.0
    rows: int = 0


class Missing(Body, frozen=True, kw_only=True, omit_defaults=True, tag="missing"):
    """Rows are not there, or not any more: send again from ``have`` on."""

    have: int


class Closed(Body, frozen=True, kw_only=True, omit_defaults=True, tag="closed"):
    """The answer to close."""


Question = Open | Upload | Infer | Close
Answer = Have | Chosen | Missing | Closed

_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def decode_question(data: bytes) -> Question:
    """Bytes as a question; raises WireError."""
    question = decode(data, _questions, WHAT)
    check_stream(question.stream)
    if isinstance(question, Upload | Infer) and question.position < 0:
        raise WireError("a position is 0 or more")
    if isinstance(question, Infer) and len(question.counts) > MAX_COUNTS:
        raise WireError(f"the uses of {len(question.counts)} tokens, at most {MAX_COUNTS}")
    return question


def decode_answer(data: bytes) -> Answer:
    """Bytes as an answer; raises WireError."""
    return decode(data, _answers, WHAT)

"""What a drafting node and a checking node say to each other.

The bodies of calls of ``computation.gpt/verify/<model>``. A stream is one answer; ``at`` counts the
tokens of prompt and answer that both sides hold. The checking node answers with how much of a
draft stands and one token more, whatever the size of the vocabulary.
"""

from __future__ import annotations

import msgspec

from capabilities.segments.bodies import check_stream, decode, encode
from capabilities.segments.choosing import Sampling
from mesh.core.errors import WireError

__all__ = [
    "Answer", "Check", "CheckTree", "Close", "Closed", "Fed", "Feed", "MAX_DRAFT", "MAX_NODES",
    "MAX_TAIL", "Question", "Told", "Verdict", "decode_answer", "decode_question", "encode",
]  # fmt: skip
WHAT = "drafts"
MAX_DRAFT = 64
MAX_NODES = 64
MAX_TAIL = 8192  # tokens that one message may bring; a longer prompt comes in several


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Any message of this protocol."""


class Feed(Body, frozen=True, kw_only=True, omit_defaults=True, tag="feed"):
    """Begin a stream, or bring it up to date: ``tokens`` follow the first ``at``."""

    stream: str
    vocab_hash: str
    at: int
    tokens: list[int]


class Check(Body, frozen=True, kw_only=True, omit_defaults=True, tag="check"):
    """How much of ``draft`` stands after the first ``at`` tokens and ``tail``.

    ``drawn`` holds, for sampled answers, the distribution that each drafted token was drawn from.
    After its own token the checking model goes on alone for ``more``, up to one of ``ends``, and
    each of these tokens comes as a :class:`Told` of its own behind the verdict.
    """

    stream: str
    at: int
    tail: list[int]
    draft: list[int] = []
    drawn: list[dict[int, float]] = []
    sampling: Sampling = Sampling()
    more: int = 0
    ends: list[int] = []


class CheckTree(Body, frozen=True, kw_only=True, omit_defaults=True, tag="check_tree"):
    """As :class:`Check`, greedily, for a tree: tokens with their parent's index, -1 at first."""

    stream: str
    at: int
    tail: list[int]
    nodes: list[tuple[int, int]]


class Close(Body, frozen=True, kw_only=True, omit_defaults=True, tag="close"):
    """The answer is over."""

    stream: str


class Fed(Body, frozen=True, kw_only=True, omit_defaults=True, tag="fed"):
    """So many tokens of the stream are there; also the answer to what does not follow them."""

    have: int


class Verdict(Body, frozen=True, kw_only=True, omit_defaults=True, tag="verdict"):
    """``count`` drafted tokens stand (of a tree, ``path``), and ``next`` follows them."""

    count: int
    next: int
    path: list[int] = []
    compute_s: float = 0.0


class Told(Body, frozen=True, kw_only=True, omit_defaults=True, tag="told"):
    """One token more, said without a draft."""

    token: int


class Closed(Body, frozen=True, kw_only=True, omit_defaults=True, tag="closed"):
    """The answer to close."""


Question = Feed | Check | CheckTree | Close
Answer = Fed | Verdict | Told | Closed

_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def decode_question(data: bytes) -> Question:
    """Bytes as a question; raises WireError."""
    question = decode(data, _questions, WHAT)
    check_stream(question.stream)
    if isinstance(question, Close):
        return question
    given = question.tokens if isinstance(question, Feed) else question.tail
    if question.at < 0 or len(given) > MAX_TAIL:
        raise WireError(f"{len(given)} tokens at {question.at}, at most {MAX_TAIL} come at once")
    if isinstance(question, Check):
        _check_draft(question)
    if isinstance(question, CheckTree):
        if len(question.nodes) > MAX_NODES:
            raise WireError(f"a tree of {len(question.nodes)} tokens, at most {MAX_NODES}")
        if any(not -1 <= parent < index for index, (_, parent) in enumerate(question.nodes)):
            raise WireError("a tree's tokens come after their parents")
    return question


def _check_draft(question: Check) -> None:
    if len(question.draft) > MAX_DRAFT:
        raise WireError(f"a draft of {len(question.draft)} tokens, at most {MAX_DRAFT}")
    if not 0 <= question.more <= MAX_DRAFT or len(question.ends) > MAX_DRAFT:
        raise WireError(f"{question.more} tokens alone, at most {MAX_DRAFT}")
    if question.sampling.temperature > 0 and len(question.drawn) != len(question.draft):
        raise WireError("a sampled draft comes with the distribution of each of its tokens")
    for weights in question.drawn:
        if any(not 0.0 <= w <= 1.0 for w in weights.values()) or sum(weights.values()) > 1.001:
            raise WireError("what a token was drawn from is no distribution")


def decode_answer(data: bytes) -> Answer:
    """Bytes as an answer; raises WireError."""
    return decode(data, _answers, WHAT)

"""What is said in a secure sum: the plan of a round, its five questions and their answers.

    coordinator   Open ▶        Share ▶        Mask ▶        Confirm ▶       Reveal ▶
    each node        ◀ Keys        ◀ Sealed      ◀ Masked       ◀ Confirmed     ◀ Revealed

Every body is MessagePack against one of these types. What a node says is signed by the key in
its certificate, over bytes that hold the digest of the plan, and so the round, the roster and
every parameter; the signing context adds the purpose and the mesh.
Source: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", figure 4 (the malicious setting).
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated

import msgspec
from msgspec import Meta

from mesh.core.errors import GossamerError, NameInvalid, WireError
from mesh.core.names import check_name

ROUND_BYTES = 16
NODE_BYTES = 16
KEY_BYTES = 32
SEED_BYTES = 16
SHARE_BYTES = 17  # an element of the field of 2^130 - 5
TAG_BYTES = 16
SEALED_BYTES = 2 * SHARE_BYTES + TAG_BYTES
SIGNATURE_BYTES = 64
CELL_BYTES = 8

MIN_INPUTS = 3  # with two inputs in a sum, either node could subtract its own from it
MAX_NODES = 100  # every node holds a share of every other: work and bytes grow with the square
MAX_CELLS = 16_384  # 128 KiB per node; a larger plan would make every member mask for seconds
MAX_BODY_BYTES = 256 * 1024  # checked before decoding: an oversized answer costs nothing
MAX_FRACTION_BITS = 40
HEADROOM_BITS = 62  # of 64: the sign, and one bit so that noise cannot wrap the sum
MAX_EDGES = 1024  # the plan travels in one frame
MAX_NOISE_BITS = 31  # standard deviation in the summed integers: what a Poisson draw can take
MAX_LABEL_CHARS = 64


class SumRefused(GossamerError):
    """A question or answer of a secure sum that breaks its rules; nothing was given away."""

    code = "sum_refused"


class SumFailed(GossamerError):
    """A secure sum that cannot be finished; no partial result exists."""

    code = "sum_failed"


class Purpose:
    """What a signature in a secure sum is for; part of what is signed."""

    KEYS = "sum-keys"
    SEALED = "sum-sealed"
    MASKED = "sum-masked"
    SURVIVORS = "sum-survivors"
    REVEALED = "sum-revealed"


RoundId = Annotated[bytes, Meta(min_length=ROUND_BYTES, max_length=ROUND_BYTES)]
Id = Annotated[bytes, Meta(min_length=NODE_BYTES, max_length=NODE_BYTES)]
Key = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Seed = Annotated[bytes, Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
Share = Annotated[bytes, Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
Box = Annotated[bytes, Meta(min_length=SEALED_BYTES, max_length=SEALED_BYTES)]
Signature = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Index = Annotated[int, Meta(ge=0, lt=MAX_NODES)]  # a node's place in the roster
Indices = Annotated[tuple[Index, ...], Meta(max_length=MAX_NODES)]


class SumPlan(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What is summed, among whom, and how: every member checks it and signs its digest.

    ``kind`` is sum, mean, variance or histogram of ``columns`` values per row; a histogram has
    one column and ``edges``, ascending. ``label`` says which data, as the domain understands
    it. ``nodes`` is the roster, ascending ids. ``threshold``: the sum comes out only with at
    least so many inputs. ``bound``: the largest absolute number that one node may contribute,
    after its own rows are added up (counts and squares included). ``fraction_bits``: values
    are rounded to multiples of 2^-fraction_bits. ``noise_std``: standard deviation of the
    noise in the result, in units of the values, 0 for none. ``issued`` is wall time, seconds.
    """

    round: RoundId
    name: str
    coordinator: Id
    nodes: Annotated[tuple[Id, ...], Meta(max_length=MAX_NODES)]
    threshold: int
    issued: float
    kind: str = "sum"
    columns: int = 1
    edges: Annotated[tuple[float, ...], Meta(max_length=MAX_EDGES)] = ()
    label: Annotated[str, Meta(max_length=MAX_LABEL_CHARS)] = ""
    bound: float = 1e6
    fraction_bits: int = 20
    noise_std: float = 0.0

    @property
    def cells(self) -> int:
        """How many integers each node contributes."""
        match self.kind:
            case "mean":
                return 1 + self.columns
            case "variance":
                return 1 + 2 * self.columns
            case "histogram":
                return len(self.edges) + 1
            case _:
                return self.columns

    def digest(self) -> bytes:
        """32 bytes that stand for the whole plan."""
        return hashlib.sha256(b"gossamer/1 sum plan\0" + msgspec.msgpack.encode(self)).digest()


def threshold_for(nodes: int) -> int:
    """The least threshold for a roster: a third may drop out, and never fewer than three remain.

    2t - n is then at least n/3, so that a coordinator with fewer than a third of the roster on
    its side cannot have t members confirm one set of survivors and t another (theorem 6.5).
    """
    return max(MIN_INPUTS, nodes - nodes // 3)


def check_plan(plan: SumPlan) -> SumPlan:
    """The plan, if it can be summed and hides its inputs; raises :class:`SumRefused`."""
    count = len(plan.nodes)
    numbers = (plan.bound, plan.noise_std, plan.issued, *plan.edges)
    problem = ""
    if not MIN_INPUTS <= count <= MAX_NODES:
        problem = f"a roster has {MIN_INPUTS} to {MAX_NODES} nodes, this one {count}"
    elif any(a >= b for a, b in zip(plan.nodes, plan.nodes[1:], strict=False)):
        problem = "the roster must name each node once, in ascending order"
    elif not threshold_for(count) <= plan.threshold <= count:
        problem = f"the threshold for {count} nodes is {threshold_for(count)} to {count}"
    elif plan.kind not in {"sum", "mean", "variance", "histogram"}:
        problem = f"{plan.kind[:20]!r} is no kind of sum (sum, mean, variance, histogram)"
    elif not all(map(math.isfinite, numbers)) or plan.bound <= 0 or plan.noise_std < 0:
        problem = "bound, noise and edges must be finite numbers, the bound above 0"
    elif (plan.kind == "histogram") != bool(plan.edges) or plan.columns < 1:
        problem = "a histogram, and nothing else, needs edges; every sum needs a column"
    elif plan.edges and (
        plan.columns != 1 or any(a >= b for a, b in zip(plan.edges, plan.edges[1:], strict=False))
    ):
        problem = "a histogram has one column, and edges that ascend"
    elif plan.columns > MAX_CELLS or plan.cells > MAX_CELLS:
        problem = f"a sum has at most {MAX_CELLS} cells"
    elif not 0 <= plan.fraction_bits <= MAX_FRACTION_BITS:
        problem = f"fraction_bits is 0 to {MAX_FRACTION_BITS}"
    elif _bits(plan, count) > HEADROOM_BITS:
        problem = (
            f"{count} inputs up to {plan.bound:g} with {plan.fraction_bits} fraction bits"
            " and the noise do not fit 64-bit integers: lower one of them"
        )
    elif plan.noise_std and math.log2(plan.noise_std) + plan.fraction_bits > MAX_NOISE_BITS:
        problem = "the noise is too wide for its fraction bits: lower fraction_bits"
    if not problem:
        try:
            check_name(plan.name)
        except NameInvalid as error:
            problem = error.message
    if problem:
        raise SumRefused(f"this sum cannot be planned: {problem}")
    return plan


def _bits(plan: SumPlan, count: int) -> float:
    # 16 standard deviations of noise on top of the largest sum: beyond any chance.
    noise = 16.0 * plan.noise_std * math.sqrt(count / plan.threshold)
    return math.log2(count * plan.bound + noise) + plan.fraction_bits


# -- what is signed ---------------------------------------------------------------------------


class KeysBody(msgspec.Struct, frozen=True, array_like=True):
    """The public keys of ``node`` for one round, and a commitment to its own mask's seed."""

    digest: bytes
    node: bytes
    mask_key: bytes
    seal_key: bytes
    commitment: bytes


class SealedBody(msgspec.Struct, frozen=True, array_like=True):
    """The shares that ``node`` sealed for the others."""

    digest: bytes
    node: bytes
    boxes: tuple[tuple[int, bytes], ...]


class MaskedBody(msgspec.Struct, frozen=True, array_like=True):
    """The masked input of ``node``, by its hash."""

    digest: bytes
    node: bytes
    cells_sha256: bytes


class SurvivorsBody(msgspec.Struct, frozen=True, array_like=True):
    """The survivors that a node holds for true; the same bytes for all who agree."""

    digest: bytes
    survivors: tuple[int, ...]


class RevealedBody(msgspec.Struct, frozen=True, array_like=True):
    """The shares that ``node`` opened, one per node of the roster."""

    digest: bytes
    node: bytes
    shares: tuple[tuple[int, bytes], ...]


# -- questions --------------------------------------------------------------------------------


class KeysOf(msgspec.Struct, frozen=True, array_like=True):
    """The keys of the node at ``index``, with its signature over :class:`KeysBody`."""

    index: Index
    mask_key: Key
    seal_key: Key
    commitment: Seed
    signature: Signature


class Open(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Will you take part in this?"""

    plan: SumPlan


class ShareOut(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """These take part besides you: share your secrets among all of you."""

    round: RoundId
    keys: Annotated[tuple[KeysOf, ...], Meta(max_length=MAX_NODES)]


class Mask(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """These have shared, and this is what they sealed for you: send your masked input."""

    round: RoundId
    boxes: Annotated[tuple[tuple[Index, Box], ...], Meta(max_length=MAX_NODES)]


class Confirm(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Masked inputs came from these: sign that you hold them for the survivors."""

    round: RoundId
    survivors: Indices


class Reveal(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """These signed the same survivors: open your shares."""

    round: RoundId
    signatures: Annotated[tuple[tuple[Index, Signature], ...], Meta(max_length=MAX_NODES)]


Question = Open | ShareOut | Mask | Confirm | Reveal


# -- answers ----------------------------------------------------------------------------------


class Keys(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Yes, and these are my keys for this round."""

    mask_key: Key
    seal_key: Key
    commitment: Seed
    signature: Signature


class Sealed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """One sealed pair of shares for each of the others."""

    boxes: Annotated[tuple[tuple[Index, Box], ...], Meta(max_length=MAX_NODES)]
    signature: Signature


class Masked(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """My input under its masks: little-endian 64-bit integers."""

    cells: Annotated[bytes, Meta(max_length=MAX_CELLS * CELL_BYTES)]
    signature: Signature


class Confirmed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """My signature over :class:`SurvivorsBody`."""

    signature: Signature


class Revealed(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """For a survivor a share of its own mask's seed, for one that dropped out a share of its
    pairwise seed; never both."""

    shares: Annotated[tuple[tuple[Index, Share], ...], Meta(max_length=MAX_NODES)]
    signature: Signature


Answer = Keys | Sealed | Masked | Confirmed | Revealed

_encoder = msgspec.msgpack.Encoder()
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(body: Question | Answer) -> bytes:
    """A question or an answer as bytes."""
    return _encoder.encode(body)


def decode_question(body: bytes) -> Question:
    """A question from a coordinator; raises :class:`WireError`."""
    try:
        return _questions.decode(_sized(body))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"not a question of a secure sum: {error}") from error


def decode_answer(body: bytes) -> Answer:
    """An answer of a member; raises :class:`WireError`."""
    try:
        return _answers.decode(_sized(body))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"not an answer of a secure sum: {error}") from error


def _sized(body: bytes) -> bytes:
    if len(body) > MAX_BODY_BYTES:
        raise WireError(f"a body of {len(body)} bytes, at most {MAX_BODY_BYTES} are allowed")
    return body

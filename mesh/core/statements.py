"""Short signed statements about who is alive: accusation, alive, leave, and the signed answer.

A statement speaks of one *life* of its subject, ``(incarnation, counter)``: the incarnation
counts boots, the counter counts refutations since the boot. An accusation stands until its
subject speaks of a greater life. Relays pass on the bytes that were signed.
"""

from __future__ import annotations

import enum

import msgspec

from mesh.core.errors import IdentityError, WireError
from mesh.core.identity import (
    ID_BYTES,
    LocalIdentity,
    Purpose,
    Signed,
    Trust,
    signing_context,
)
from mesh.core.records import MAX_STATEMENT_BYTES

MAX_NONCE_BYTES = 32  # a longer one would make a node sign text of another's choice


class Word(enum.IntEnum):
    """What a statement says."""

    ACCUSATION = 1  # by another: it does not answer me
    ALIVE = 2  # by the subject: I am here, whatever was said of my earlier life
    LEAVE = 3  # by the subject: I go on purpose


class Statement(msgspec.Struct, frozen=True, array_like=True):
    """``by`` says ``kind`` of ``subject`` in its life ``(incarnation, counter)``."""

    kind: int
    subject: bytes
    by: bytes
    incarnation: int
    counter: int
    issued: float  # wall seconds

    @property
    def life(self) -> tuple[int, int]:
        """The life of the subject that is spoken of; newer is greater."""
        return (self.incarnation, self.counter)


class AckBody(msgspec.Struct, frozen=True, array_like=True):
    """What a node signs when it answers a probe that is relayed: it was alive after the
    nonce was drawn."""

    node: bytes
    nonce: bytes
    incarnation: int


_decoder = msgspec.msgpack.Decoder(Statement)
_encoder = msgspec.msgpack.Encoder()


def state(  # the verb
    identity: LocalIdentity, kind: Word, subject: bytes, life: tuple[int, int], wall: float
) -> Signed:
    """A statement of this node."""
    return identity.sign(
        Purpose.STATEMENT, Statement(kind, subject, identity.node, life[0], life[1], wall)
    )


def read_statement(signed: Signed) -> Statement:
    """The statement, unverified; raises :class:`WireError`."""
    if len(signed.payload) > MAX_STATEMENT_BYTES:
        raise WireError("a statement is over its size limit")
    try:
        statement = _decoder.decode(signed.payload)
        kind = Word(statement.kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"a statement that cannot be read: {error}") from error
    if len(statement.subject) != ID_BYTES or len(statement.by) != ID_BYTES:
        raise WireError("a statement names no proper node")
    if statement.incarnation < 0 or statement.counter < 0:
        raise WireError("a statement counts below zero")
    if (kind is Word.ACCUSATION) == (statement.by == statement.subject):
        raise WireError("a node accuses itself, or speaks in another's name")
    return statement


def verify_statement(signed: Signed, key: bytes, trust: Trust) -> None:
    """Raises :class:`IdentityError` unless ``key`` (of ``by``) signed it for this mesh."""
    if not trust.verify(key, Purpose.STATEMENT, signed):
        raise IdentityError("a statement is not signed by the node that makes it")


def sign_ack(identity: LocalIdentity, nonce: bytes, incarnation: int) -> bytes:
    """This node's signature over a prober's nonce; empty for a nonce that is too long."""
    if len(nonce) > MAX_NONCE_BYTES:
        return b""
    return identity.sign(Purpose.ACK, AckBody(identity.node, nonce, incarnation)).signature


def check_ack(
    trust: Trust, key: bytes, node: bytes, nonce: bytes, incarnation: int, signature: bytes
) -> bool:
    """Whether ``node`` itself signed this nonce."""
    payload = _encoder.encode(AckBody(node, nonce, incarnation))
    message = signing_context(Purpose.ACK, trust.mesh) + payload
    return trust.scheme.verify(key, signature, message)

"""Receipts of served calls: one side signs what it did, the other what came of it.

With the end of an answer the serving node sends a signed receipt. The asker holds it against
what it has itself seen of the call, and countersigns that it agrees or that it does not, and
why. Both keep both words, so neither can later claim another number. What a node cannot see
(how another's vocabulary cuts a text) it bounds: a token is at least one byte.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from capabilities.messages import Delta, Done, decode_event
from mesh.core.errors import IdentityError, WireError
from mesh.core.identity import LocalIdentity, Member, Purpose, Signed
from mesh.core.signing import read_signed

MAX_PAYLOAD_BYTES = 1024  # names and models are short; a longer one is no receipt
MAX_OPEN = 1024  # calls without a receipt yet, and receipts without an answer
MAX_WHY_CHARS = 200
MAX_MODEL_CHARS = 64  # of a file's name: it must not make a receipt too long to be one
SLACK_TOKENS = 8  # that an answer may have without text: its end, a stop word cut off
SLACK_ONE_IN = 20  # and as a share of it
TEMPLATE_TOKENS = 1024  # a chat template and the serving node's own system prompt

T = TypeVar("T")


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    """``served`` says: for ``asker``, in a task of ``caller``, I did this. ``at`` is its wall
    clock in seconds; ``span`` is the asker's own number for the call, which makes it unique."""

    served: bytes
    asker: bytes
    caller: bytes
    trace: bytes
    span: bytes
    name: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    at: float


class Countersign(msgspec.Struct, frozen=True, array_like=True):
    """``asker`` on the receipt with this SHA-256: what it counted itself, and whether the two
    agree. ``prompt_tokens`` is the most that its prompt can have been."""

    digest: bytes
    asker: bytes
    agrees: bool
    prompt_tokens: int
    completion_tokens: int
    at: float
    why: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the ledger. ``state`` is open (the other side has not answered), agreed or
    disputed. ``peer`` is the other side; ``mine`` whether this node served."""

    key: bytes
    mine: bool
    peer: bytes
    receipt: Receipt
    signed: Signed
    state: str = "open"
    counter: Countersign | None = None
    countersigned: Signed | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What the asker writes down, and sends back."""

    entry: Entry
    signed: Signed


@dataclass(slots=True)
class Asked:
    """A call of this node's own, and what it has seen of it."""

    node: bytes
    trace: bytes
    span: bytes
    name: str
    prompt_bytes: int
    tokens: int = 0  # as the messages counted them
    text_bytes: int = 0
    done: Done | None = None
    over: bool = False
    receipt: Signed | None = None
    _deaf: bool = False

    def hear(self, message: bytes) -> None:
        """A message of the answer; what is no generation is not counted."""
        if self._deaf:
            return
        try:
            event = decode_event(message)
        except WireError:
            self._deaf = True
            return
        if isinstance(event, Delta):
            self.tokens += max(0, event.tokens)
            self.text_bytes += len(event.text.encode("utf-8", "surrogatepass"))
        else:
            self.done = event

    def most_tokens(self) -> int:
        """Of the answer, as far as this node can tell: no more than it counted, nor than the
        bytes that it got."""
        said = 0
        if self.done is not None:
            said = len(self.done.text.encode("utf-8", "surrogatepass"))
            said += sum(len(c.name) + len(c.arguments.encode()) for c in self.done.tool_calls)
        got = max(self.text_bytes, said)
        # Tools are called in no Delta; where nothing was streamed there is only the text.
        if self.tokens and (self.done is None or not self.done.tool_calls):
            return min(self.tokens, got)
        return got


class Ledger:
    """The receipts of one node that are not settled yet; settled ones are returned to be kept.

    ``member`` finds who a node is. What cannot be a receipt of a call under way is refused and
    counted: forged, about another call, or for a second time.
    """

    def __init__(self, identity: LocalIdentity, member: Callable[[bytes], Member | None]) -> None:
        self._identity = identity
        self._member = member
        self._asked: OrderedDict[bytes, Asked] = OrderedDict()
        self._served: OrderedDict[bytes, Entry] = OrderedDict()
        self.counters: Counter[str] = Counter()

    # -- the serving side ---------------------------------------------------------------------

    def serve(self, receipt: Receipt) -> Entry:
        """Sign what this node did; the entry is open until the asker's word comes."""
        receipt = msgspec.structs.replace(receipt, model=receipt.model[:MAX_MODEL_CHARS])
        signed = self._identity.sign(Purpose.RECEIPT, receipt)
        entry = Entry(
            key=digest(signed), mine=True, peer=receipt.asker, receipt=receipt, signed=signed
        )
        self._served[entry.key] = entry
        _bound(self._served)
        self.counters["receipts_given"] += 1
        return entry

    def countersigned(self, node: bytes, signed: Signed) -> Entry | None:
        """The asker's word on one of this node's receipts; None where it is none."""
        try:
            word = _read(signed, Countersign)
        except IdentityError:
            self._refuse("malformed")
            return None
        entry = self._served.get(word.digest)
        if entry is None:
            self._refuse("unasked")  # answered before, or never given
            return None
        member = self._member(node)
        if member is None or node != entry.peer or word.asker != node:
            self._refuse("not_the_asker")
            return None
        if not self._identity.trust.verify(member.key, Purpose.COUNTERSIGN, signed):
            self._refuse("forged")
            return None
        del self._served[word.digest]
        return self._settled(entry, word, signed)

    # -- the asking side ----------------------------------------------------------------------

    def ask(self, asked: Asked) -> Asked:
        """A call leaves; without this no receipt is taken for it."""
        self._asked[asked.span] = asked
        _bound(self._asked)
        return asked

    def over(self, asked: Asked, wall: float) -> Reply | None:
        """The call is over; the answer to its receipt, where that came already."""
        asked.over = True
        if asked.done is None:
            self._asked.pop(asked.span, None)  # no whole answer: there will be no receipt
            return None
        return self._answer(asked, wall)

    def receipt(self, node: bytes, signed: Signed, wall: float) -> Reply | None:
        """A receipt came; the answer to it, where the call is over."""
        try:
            receipt = _read(signed, Receipt)
        except IdentityError:
            self._refuse("malformed")
            return None
        asked = self._asked.get(receipt.span)
        if asked is None or asked.receipt is not None:
            self._refuse("replayed")  # or of a call that was never made
            return None
        told = (receipt.served, receipt.asker, receipt.trace, receipt.name)
        member = self._member(node)
        if member is None or told != (node, self._identity.node, asked.trace, asked.name):
            self._refuse("of_another_call")
            return None
        if node != asked.node or not self._identity.trust.verify(
            member.key, Purpose.RECEIPT, signed
        ):
            self._refuse("forged")
            return None
        asked.receipt = signed
        return self._answer(asked, wall) if asked.over else None

    def _answer(self, asked: Asked, wall: float) -> Reply | None:
        signed = asked.receipt
        if signed is None:
            return None
        del self._asked[asked.span]
        receipt = _read(signed, Receipt)
        why = dispute(receipt, asked)
        word = Countersign(
            digest=digest(signed),
            asker=self._identity.node,
            agrees=not why,
            prompt_tokens=asked.prompt_bytes + TEMPLATE_TOKENS,
            completion_tokens=asked.most_tokens(),
            at=wall,
            why=why,
        )
        mine = self._identity.sign(Purpose.COUNTERSIGN, word)
        entry = Entry(key=word.digest, mine=False, peer=asked.node, receipt=receipt, signed=signed)
        return Reply(entry=self._settled(entry, word, mine), signed=mine)

    # -- both ---------------------------------------------------------------------------------

    def _settled(self, entry: Entry, word: Countersign, signed: Signed) -> Entry:
        state = "agreed" if word.agrees else "disputed"
        self.counters[f"receipts_{state}"] += 1
        word = msgspec.structs.replace(word, why=word.why[:MAX_WHY_CHARS])
        return msgspec.structs.replace(entry, state=state, counter=word, countersigned=signed)

    def _refuse(self, why: str) -> None:
        self.counters[f"receipts_{why}"] += 1


def dispute(receipt: Receipt, asked: Asked) -> str:
    """What is wrong with a receipt of this call, as far as its asker can tell; empty: nothing.

    Too little is never disputed: it costs nobody anything.
    """
    if min(receipt.prompt_tokens, receipt.completion_tokens) < 0:
        return "a number of tokens below zero"
    most = asked.most_tokens()
    if receipt.completion_tokens > most + SLACK_TOKENS + most // SLACK_ONE_IN:
        return f"{receipt.completion_tokens} tokens of answer, {most} came"
    most = asked.prompt_bytes + TEMPLATE_TOKENS
    if receipt.prompt_tokens > most:
        return f"{receipt.prompt_tokens} tokens of prompt, it cannot have been over {most}"
    if asked.done is not None:
        usage = asked.done.usage
        if (receipt.prompt_tokens, receipt.completion_tokens) != (
            usage.prompt_tokens,
            usage.completion_tokens,
        ):
            return "not the numbers that came with the answer"
    return ""


def digest(signed: Signed) -> bytes:
    """What names a receipt."""
    return hashlib.sha256(signed.payload).digest()


def _read(signed: Signed, kind: type[T]) -> T:
    if len(signed.payload) > MAX_PAYLOAD_BYTES:
        raise IdentityError("a receipt is over its size limit")
    return read_signed(signed, kind, "receipt")


def _bound(held: OrderedDict[bytes, Asked] | OrderedDict[bytes, Entry]) -> None:
    while len(held) > MAX_OPEN:
        held.popitem(last=False)

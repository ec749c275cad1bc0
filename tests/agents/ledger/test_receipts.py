"""The ledger: both sides sign, and what is forged, replayed or inflated gets nowhere."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from agents.ledger.receipts import (
    MAX_OPEN,
    SLACK_TOKENS,
    TEMPLATE_TOKENS,
    Asked,
    Countersign,
    Entry,
    Ledger,
    Receipt,
    Reply,
)
from capabilities.messages import Delta, Done, Usage, encode
from mesh.core.identity import LocalIdentity, Purpose, Signed
from tests.mesh.core.people import WALL, Mesh

NAME = "knowledge.gpt/tides"
TEXT = "The tide is high at noon."
TOKENS = 6


class Two:
    """Anna asks Ben; Eve is a member as well."""

    def __init__(self) -> None:
        mesh = Mesh()
        self.people = {name: mesh.person(name) for name in ("anna", "ben", "eve")}
        self.anna, self.ben = self.ledger("anna"), self.ledger("ben")

    def ledger(self, name: str) -> Ledger:
        members = {self.node(other): self.who(other).member for other in self.people}
        return Ledger(self.who(name), members.get)

    def who(self, name: str) -> LocalIdentity:
        return self.people[name].identity

    def node(self, name: str) -> bytes:
        return self.who(name).node

    def call(self, span: bytes = b"s" * 8, *, text: str = TEXT, tokens: int = TOKENS) -> Asked:
        """Anna's call, its whole answer heard."""
        asked = self.anna.ask(Asked(self.node("ben"), b"t" * 16, span, NAME, prompt_bytes=40))
        for word in range(tokens):
            part = len(text) // max(1, tokens) + 1
            asked.hear(encode(Delta(text=text[word * part : (word + 1) * part])))
        usage = Usage(prompt_tokens=9, completion_tokens=tokens)
        asked.hear(encode(Done(text=text, finish="stop", usage=usage)))
        return asked

    def receipt(self, **changes: object) -> Receipt:
        fields: dict[str, object] = {
            "served": self.node("ben"),
            "asker": self.node("anna"),
            "caller": self.node("anna"),
            "trace": b"t" * 16,
            "span": b"s" * 8,
            "name": NAME,
            "model": "small",
            "prompt_tokens": 9,
            "completion_tokens": TOKENS,
            "at": WALL,
        }
        return Receipt(**(fields | changes))  # type: ignore[arg-type]

    def settle(self, entry: Entry, asked: Asked) -> Reply:
        assert self.anna.receipt(self.node("ben"), entry.signed, WALL) is None
        reply = self.anna.over(asked, WALL)
        assert reply is not None
        return reply


def test_both_sides_end_with_both_signatures() -> None:
    two = Two()
    given = two.ben.serve(two.receipt())
    reply = two.settle(given, two.call())
    kept = two.ben.countersigned(two.node("anna"), reply.signed)
    assert kept is not None
    assert (reply.entry.state, kept.state) == ("agreed", "agreed")
    for entry in (reply.entry, kept):
        trust = two.who("eve").trust  # anybody of the mesh can check it
        assert entry.countersigned is not None
        assert trust.verify(two.who("ben").member.key, Purpose.RECEIPT, entry.signed)
        assert trust.verify(two.who("anna").member.key, Purpose.COUNTERSIGN, entry.countersigned)
    assert (reply.entry.mine, kept.mine) == (False, True)


def test_a_receipt_that_comes_after_the_call_was_closed_is_answered_as_well() -> None:
    two = Two()
    assert two.anna.over(two.call(), WALL) is None
    reply = two.anna.receipt(two.node("ben"), two.ben.serve(two.receipt()).signed, WALL)
    assert reply is not None
    assert reply.entry.state == "agreed"


@pytest.mark.parametrize(
    "changes",
    [
        {"completion_tokens": TOKENS + 100},
        {"completion_tokens": TOKENS + 1},  # not what came with the answer
        {"prompt_tokens": 40 + TEMPLATE_TOKENS + 1},
        {"completion_tokens": -1},
        {"prompt_tokens": -5},
    ],
)
def test_an_inflated_receipt_is_countersigned_as_disputed_and_kept_by_both(
    changes: dict[str, int],
) -> None:
    two = Two()
    reply = two.settle(two.ben.serve(two.receipt(**changes)), two.call())
    kept = two.ben.countersigned(two.node("anna"), reply.signed)
    assert kept is not None
    assert kept.counter is not None
    assert (reply.entry.state, kept.state) == ("disputed", "disputed")
    assert kept.counter.why
    assert kept.counter.completion_tokens == TOKENS  # what anna counted


def test_a_node_that_inflates_the_numbers_of_its_answer_too_is_held_to_its_bytes() -> None:
    two = Two()
    asked = two.anna.ask(Asked(two.node("ben"), b"t" * 16, b"s" * 8, NAME, prompt_bytes=40))
    asked.hear(encode(Delta(text="yes", tokens=5000)))
    usage = Usage(prompt_tokens=9, completion_tokens=5000)
    asked.hear(encode(Done(text="yes", finish="stop", usage=usage)))
    reply = two.settle(two.ben.serve(two.receipt(completion_tokens=5000)), asked)
    assert reply.entry.state == "disputed"
    assert asked.most_tokens() == len("yes")


def test_an_answer_may_have_some_tokens_without_text() -> None:
    two = Two()
    told = TOKENS + SLACK_TOKENS
    asked = two.call()
    assert asked.done is not None
    usage = Usage(prompt_tokens=9, completion_tokens=told)
    asked.done = msgspec.structs.replace(asked.done, usage=usage)
    reply = two.settle(two.ben.serve(two.receipt(completion_tokens=told)), asked)
    assert reply.entry.state == "agreed"


def forged(two: Two, receipt: Receipt) -> Signed:
    """What Eve signs in Ben's name."""
    return two.who("eve").sign(Purpose.RECEIPT, receipt)


@pytest.mark.parametrize(
    ("sent", "counted"),
    [
        (lambda two: forged(two, two.receipt()), "forged"),
        (lambda two: two.who("ben").sign(Purpose.WARRANT, two.receipt()), "forged"),
        (lambda two: two.ben.serve(two.receipt(span=b"x" * 8)).signed, "replayed"),
        (lambda two: two.ben.serve(two.receipt(trace=b"x" * 16)).signed, "of_another_call"),
        (lambda two: two.ben.serve(two.receipt(name="data.gpt/x")).signed, "of_another_call"),
        (lambda two: two.ben.serve(two.receipt(asker=b"x" * 16)).signed, "of_another_call"),
        (lambda two: Signed(b"\xc1", b""), "malformed"),
        (lambda two: Signed(b"\x00" * 5000, b""), "malformed"),
    ],
)
def test_what_is_no_receipt_of_this_call_is_refused_and_counted(
    sent: Callable[[Two], Signed], counted: str
) -> None:
    two = Two()
    asked = two.call()
    assert two.anna.receipt(two.node("ben"), sent(two), WALL) is None
    assert two.anna.over(asked, WALL) is None  # nothing was signed for it
    assert two.anna.counters == {f"receipts_{counted}": 1}


def test_a_receipt_counts_once() -> None:
    two = Two()
    given = two.ben.serve(two.receipt())
    reply = two.settle(given, two.call())
    assert two.anna.receipt(two.node("ben"), given.signed, WALL) is None
    assert two.anna.counters["receipts_replayed"] == 1
    assert two.ben.countersigned(two.node("anna"), reply.signed) is not None
    assert two.ben.countersigned(two.node("anna"), reply.signed) is None
    assert two.ben.counters["receipts_unasked"] == 1


def test_another_members_receipt_for_a_call_of_ben_is_not_taken() -> None:
    two = Two()
    asked = two.call()
    eve = two.ledger("eve").serve(two.receipt(served=two.node("eve")))
    assert two.anna.receipt(two.node("eve"), eve.signed, WALL) is None
    assert two.anna.over(asked, WALL) is None


def test_only_the_asker_can_countersign() -> None:
    two = Two()
    given = two.ben.serve(two.receipt())
    word = Countersign(given.key, two.node("anna"), True, 0, TOKENS, WALL)
    by_eve = two.who("eve").sign(Purpose.COUNTERSIGN, word)
    assert two.ben.countersigned(two.node("eve"), by_eve) is None
    assert two.ben.countersigned(two.node("anna"), by_eve) is None
    assert two.ben.counters["receipts_not_the_asker"] == 1
    assert two.ben.counters["receipts_forged"] == 1
    by_anna = two.who("anna").sign(Purpose.COUNTERSIGN, word)
    assert two.ben.countersigned(two.node("anna"), by_anna) is not None


def test_a_call_that_ended_without_an_answer_takes_no_receipt() -> None:
    two = Two()
    asked = two.anna.ask(Asked(two.node("ben"), b"t" * 16, b"s" * 8, NAME, prompt_bytes=40))
    asked.hear(encode(Delta(text="The tide")))
    assert two.anna.over(asked, WALL) is None
    assert two.anna.receipt(two.node("ben"), two.ben.serve(two.receipt()).signed, WALL) is None


def test_what_is_open_is_bounded() -> None:
    two = Two()
    first = two.ben.serve(two.receipt())
    for number in range(MAX_OPEN):
        two.ben.serve(two.receipt(span=number.to_bytes(8, "big")))
    word = Countersign(first.key, two.node("anna"), True, 0, TOKENS, WALL)
    signed = two.who("anna").sign(Purpose.COUNTERSIGN, word)
    assert two.ben.countersigned(two.node("anna"), signed) is None


def test_bytes_that_are_no_generation_are_not_counted() -> None:
    asked = Asked(b"n", b"t", b"s", NAME, prompt_bytes=1)
    asked.hear(b"\xc1")
    asked.hear(encode(Delta(text="x")))
    assert (asked.tokens, asked.done) == (0, None)

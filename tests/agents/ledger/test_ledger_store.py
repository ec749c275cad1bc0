"""The ledger on disk: bounded, never rewritten behind its end, shown by node."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.ledger.receipts import Countersign, Entry, Receipt
from agents.ledger.store import DAY_S, KEEP_S, LedgerStore
from agents.ledger.view import PeerLine, view
from mesh.core.errors import ConfigError
from mesh.core.identity import Signed

NOW = 1_800_000_000.0
PEER = b"P" * 16


def entry(
    key: bytes, state: str = "open", *, mine: bool = True, at: float = NOW, tokens: int = 7
) -> Entry:
    receipt = Receipt(PEER, PEER, PEER, b"t" * 16, key, "knowledge.gpt/x", "small", 5, tokens, at)
    word = None
    if state != "open":
        why = "too much" if state == "disputed" else ""
        word = Countersign(key, PEER, state == "agreed", 10, 3, at, why)
    signed = Signed(b"payload", b"signature")
    return Entry(
        key=key,
        mine=mine,
        peer=PEER,
        receipt=receipt,
        signed=signed,
        state=state,
        counter=word,
        countersigned=signed if word else None,
    )


def shown(store: LedgerStore, days: int = 7) -> list[PeerLine]:
    return view(store, days=days, now=NOW, name_of=lambda node: "peer").peers


def test_an_answer_closes_the_line_and_nothing_opens_or_changes_it_again(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "book")
    store.keep([entry(b"a")], NOW)
    assert shown(store)[0].unanswered == 1
    store.keep([entry(b"a", "agreed")], NOW)
    store.keep([entry(b"a", "disputed"), entry(b"a")], NOW)
    assert shown(store) == [
        PeerLine(node="peer", served_calls=1, served_prompt_tokens=5, served_completion_tokens=7)
    ]
    store.close()


def test_what_is_disputed_is_told_apart_and_not_added_up(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "book")
    store.keep([entry(b"a", "agreed", mine=False), entry(b"b", "disputed", mine=False)], NOW)
    found = view(store, days=7, now=NOW, name_of=lambda node: "peer")
    assert found.peers[0].asked_calls == 1
    assert found.peers[0].disputed == 1
    assert [(line.why, line.counted) for line in found.disputes] == [("too much", 3)]
    store.close()


def test_it_keeps_so_many_lines_and_so_many_days(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "book", max_rows=10)
    store.keep([entry(b"old", at=NOW - KEEP_S - DAY_S)], NOW)
    for number in range(40):
        store.keep([entry(bytes([number]), at=NOW - 40 + number)], NOW)
    [(count, oldest)] = store.read("SELECT COUNT(*), MIN(at) FROM receipt")
    assert int(str(count)) <= 20
    assert float(str(oldest)) > NOW - 40
    store.close()


def test_numbers_and_clocks_that_a_peer_chooses_fit_the_file(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "book")
    store.keep([entry(b"a", "disputed", at=NOW * 1000, tokens=10**30)], NOW)
    [(at,)] = store.read("SELECT at FROM receipt")
    assert at == NOW
    store.close()


def test_a_file_that_is_none_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(b"no database" * 200)
    with pytest.raises(ConfigError, match="cannot be used"):
        LedgerStore(tmp_path / "book")

"""What people are shown of the ledger: by node, what was served and what was asked."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from agents.ledger.store import DAY_S, LedgerStore

MAX_DISPUTES = 20


class PeerLine(msgspec.Struct, frozen=True, kw_only=True):
    """One node over the days shown. ``served`` is what this node did for it, ``asked`` what it
    did for this node; tokens as agreed, disputed ones left out."""

    node: str
    served_calls: int = 0
    served_prompt_tokens: int = 0
    served_completion_tokens: int = 0
    asked_calls: int = 0
    asked_prompt_tokens: int = 0
    asked_completion_tokens: int = 0
    unanswered: int = 0  # served, and the other side has not countersigned
    disputed: int = 0


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt that its asker does not agree with. ``at`` is wall seconds."""

    node: str
    mine: bool
    name: str
    trace: str
    at: float
    completion_tokens: int
    counted: int
    why: str


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger over some days. It is for information: nothing is owed for it."""

    days: int
    peers: list[PeerLine]
    disputes: list[Dispute]


def view(
    store: LedgerStore, *, days: int, now: float, name_of: Callable[[bytes], str]
) -> LedgerView:
    """The last ``days`` days."""
    first = now - days * DAY_S
    rows = store.read(
        "SELECT peer, mine, state, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens)"
        " FROM receipt WHERE at >= ? GROUP BY peer, mine, state",
        first,
    )
    found: dict[bytes, dict[str, int]] = {}
    for peer, mine, state, calls, prompt, completion in rows:
        line = found.setdefault(_bytes(peer), {})
        if state == "disputed":
            _add(line, "disputed", calls)
            continue
        if state == "open":
            _add(line, "unanswered", calls)
        side = "served" if mine else "asked"
        _add(line, f"{side}_calls", calls)
        _add(line, f"{side}_prompt_tokens", prompt)
        _add(line, f"{side}_completion_tokens", completion)
    peers = [PeerLine(node=name_of(peer), **line) for peer, line in found.items()]
    disputed = store.read(
        "SELECT peer, mine, name, trace, at, completion_tokens, counted, why FROM receipt"
        " WHERE state = 'disputed' AND at >= ? ORDER BY at DESC LIMIT ?",
        first,
        MAX_DISPUTES,
    )
    return LedgerView(
        days=days,
        peers=sorted(peers, key=lambda line: line.node),
        disputes=[
            Dispute(
                node=name_of(_bytes(peer)),
                mine=bool(mine),
                name=str(name),
                trace=str(trace),
                at=float(str(at)),
                completion_tokens=int(str(tokens)),
                counted=int(str(counted)),
                why=str(why),
            )
            for peer, mine, name, trace, at, tokens, counted, why in disputed
        ],
    )


def _add(line: dict[str, int], key: str, count: object) -> None:
    line[key] = line.get(key, 0) + int(str(count))


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value

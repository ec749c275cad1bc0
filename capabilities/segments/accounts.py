"""What an answer of two halves took: time, bytes, and who said each token; pure."""

from __future__ import annotations

from collections import Counter

import msgspec

FAR = "far"  # the other half said it
LAST = "last"  # the edge's last exit, without the confidence, because the other half was away


class Account(msgspec.Struct, kw_only=True):
    """Of one answer. Times in seconds; bytes are payload, both ways without envelopes.

    ``waited_s`` is what the answer waited for the other half in all; ``far_s`` of it is the
    other half's computing. Uploads that ran beside computing do not show in either.
    """

    prompt_tokens: int = 0
    tokens: int = 0
    total_s: float = 0.0
    edge_s: float = 0.0
    far_s: float = 0.0
    waited_s: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_again: int = 0  # of bytes_up, what had been sent before
    asked: int = 0  # tokens that the other half was asked for
    far_rows: int = 0  # positions that it computed
    degraded: int = 0  # tokens that it should have said and did not
    mode: str = "together"
    why: str = ""
    alone_from: int = 0  # the token, from 1, since which the edge was alone; 0: it is not
    said_by: Counter[str] = msgspec.field(default_factory=Counter)

    @property
    def link_s(self) -> float:
        """Waiting that was neither half's computing."""
        return max(0.0, self.waited_s - self.far_s)

    @property
    def ask_rate(self) -> float:
        """Requests to the other half per token (the paper's cloud request rate)."""
        return self.asked / self.tokens if self.tokens else 0.0

    def facts(self) -> dict[str, float | int | str | dict[str, int]]:
        """As the trace and ``--json`` show it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "total_s": round(self.total_s, 4),
            "edge_s": round(self.edge_s, 4),
            "far_s": round(self.far_s, 4),
            "link_s": round(self.link_s, 4),
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "ask_rate": round(self.ask_rate, 4),
            "degraded": self.degraded,
            "mode": self.mode,
            "why": self.why,
            "alone_from": self.alone_from,
            "said_by": dict(self.said_by),
        }


def bytes_once(prompt: int, tokens: int, width: int) -> int:
    """CE-CoLLM: every fed position once, in half precision; the last token is never fed back."""
    return (prompt + tokens - 1) * width * 2


def bytes_naive(prompt: int, tokens: int, width: int) -> int:
    """The naive split: all positions so far with every token, in 32 bits."""
    return sum(prompt + i for i in range(tokens)) * width * 4

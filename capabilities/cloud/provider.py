"""A provider as the configuration names it, and what a call of it costs at most. Pure.

Money is counted in whole nano-units of the currency, since a token of a small model costs less
than a millionth: 0.15 a million tokens is 150 nano each.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from capabilities.messages import Generate

NANO = 1_000_000_000
TOKENS_PER_PRICE = 1_000_000  # price lists are per million tokens

# What a chat template and its special tokens add, per turn and per request. Published counts
# for OpenAI's models are 3 to 4 a turn; templates of open models need up to about ten.
TURN_TOKENS = 16
REQUEST_TOKENS = 64
CHARS_PER_TOKEN = 4  # of English prose in the usual tokenizers; only for estimates


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One OpenAI-compatible endpoint with its prices per million tokens.

    ``base_url`` is what ``/chat/completions`` is appended to. Lower ``order`` is asked first.
    ``max_tokens`` caps what an answer may have, whatever the caller wants. ``silence_s`` is how
    long it may say nothing before it counts as hanging. ``length_field`` is how it calls the
    limit of an answer; ``stream_usage`` whether it knows ``stream_options``.
    """

    name: str
    base_url: str
    model: str
    prompt_price: float
    completion_price: float
    order: int = 10
    max_tokens: int = 1024
    connect_s: float = 5.0
    silence_s: float = 30.0
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_usage: bool = True

    def cost_nano(self, prompt_tokens: int, completion_tokens: int) -> int:
        """What so many tokens cost at list price, rounded up."""
        exact = prompt_tokens * self.prompt_price + completion_tokens * self.completion_price
        return math.ceil(round(exact * (NANO // TOKENS_PER_PRICE), 6))

    def answer_tokens(self, body: Generate) -> int:
        """How many tokens the answer is limited to."""
        return max(1, min(body.max_tokens, self.max_tokens))

    def worst_nano(self, body: Generate) -> int:
        """The most that this call can cost: every byte of the prompt a token, a full answer."""
        return self.cost_nano(prompt_bound(body), self.answer_tokens(body))


def prompt_bound(body: Generate) -> int:
    """No tokenizer makes more tokens of this prompt.

    Byte-level BPE and byte fallback never make more than one token of a byte; the template's
    own tokens come on top.
    """
    size = REQUEST_TOKENS
    for message in body.messages:
        size += TURN_TOKENS + len(message.content.encode())
        size += sum(
            TURN_TOKENS + len(call.name.encode()) + len(call.arguments.encode())
            for call in message.tool_calls
        )
    for tool in body.tools:
        size += TURN_TOKENS + len((tool.name + tool.description + tool.parameters).encode())
    return size + len(body.json_schema.encode())


def prompt_guess(body: Generate) -> int:
    """About how many tokens the prompt has; for limits of a rate, never for money."""
    return REQUEST_TOKENS // 4 + sum(len(m.content) for m in body.messages) // CHARS_PER_TOKEN


def show(nano: int, currency: str = "USD") -> str:
    """An amount for people: at least two digits that are not zero."""
    amount = nano / NANO
    if amount == 0 or amount >= 1:
        return f"{amount:.2f} {currency}"
    digits = min(9, 1 - math.floor(math.log10(abs(amount))))
    return f"{amount:.{max(2, digits)}f} {currency}"

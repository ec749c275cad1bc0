"""How a worker runs its model, and the pace of one that only stands for a board."""

from __future__ import annotations

import msgspec

MAX_SLOTS = 256  # of llama.cpp (LLAMA_MAX_SEQ)
MIN_SLOT_TOKENS = 16  # below it no template with a question fits


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker runs its model. The defaults suit a board that does other things too."""

    # Sequences decoded together. More raises throughput until prefill speed is reached, and
    # costs context, since all slots share it.
    slots: int = 4
    # Tokens of context shared by all slots. 0 takes slots x the trained context, at most 4096.
    # It is the largest block of memory beside the weights.
    context_tokens: int = 0
    # The most tokens of one decode step; a longer step is more efficient and later to cancel.
    batch_tokens: int = 256
    # The most prompt tokens of one step while others are generating. Smaller keeps their
    # tokens coming evenly, larger brings the newcomer's first token sooner. On a slow machine it
    # is at most what a second computes.
    prefill_chunk: int = 64
    # Cells that may keep prompts computed before. -1: half the context, less for tiny models.
    # More spares more prefill; each kept token makes every step a little longer, since
    # attention passes over it. 0 keeps none.
    prefix_tokens: int = -1
    # 0 measures at load and follows what other processes leave. With a fixed number equal to
    # the cores, decode falls to a sixth beside one busy process.
    threads: int = 0
    # Sequences that Forward may hold open beside the slots, and how long one that nobody uses
    # keeps its cells when others need them. Each costs a row of logits in memory.
    sequences: int = 4
    sequence_idle_s: float = 60.0
    # Let Forward hand out hidden rows. It asks about every node of every step, so a worker that
    # only generates is better without (the small models of the package lose 10 to 30 %).
    capture: bool = False
    # Refuse a model that needs more memory than this; 0 takes what the machine has available.
    memory_bytes: int = 0
    # Requests that wait for a slot; one above is refused.
    max_waiting: int = 64
    # None chooses by the width of a head. With narrow ones (the models of the package) batched
    # decode is faster without (185 against 240 us per token at four streams) and ten times nearer
    # to what a stream gives alone: on a CPU flash attention sums in half precision. From 64 on it
    # is 1 to 7 % faster with it (Qwen2.5-0.5B's shape, prompts and decode), and saves memory:
    # heads x context x batch_tokens x 4 bytes.
    flash_attention: bool | None = None
    # Repacked weights are faster; on some virtual machines they crash (see ModelHost).
    use_extra_bufts: bool = True
    # Pass everything that llama.cpp says to stderr, not only warnings.
    verbose: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= MAX_SLOTS:
            raise ValueError(f"slots must be 1 to {MAX_SLOTS}, not {self.slots}")
        if not 0 <= self.sequences <= MAX_SLOTS - self.slots or self.sequence_idle_s < 0:
            raise ValueError(f"slots and sequences together are 0 to {MAX_SLOTS}, idle times too")
        if self.context_tokens < 0 or 0 < self.context_tokens < self.slots * MIN_SLOT_TOKENS:
            raise ValueError(
                f"context_tokens must be 0 or at least {MIN_SLOT_TOKENS} for each slot"
            )
        if self.batch_tokens < 1 or self.prefill_chunk < 1:
            raise ValueError("batch_tokens and prefill_chunk must be at least 1")
        if self.prefix_tokens < -1:
            raise ValueError("prefix_tokens must be -1, 0 or the tokens to keep")
        if self.threads < 0 or self.max_waiting < 0 or self.memory_bytes < 0:
            raise ValueError("threads, max_waiting and memory_bytes must not be negative")


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """The stated pace of an engine that sleeps instead of computing; it stands for a board."""

    name: str = "paced"
    token_s: float = 0.05  # seconds of one decode step with one stream
    prompt_token_s: float = 0.005  # seconds per prompt token
    # Each further stream lengthens a step by this share of ``token_s``: 0 is perfect batching,
    # 1 none. 0.5 gives 1.6 times the tokens at four streams (1.3 to 2 measured on two cores).
    stream_cost: float = 0.5
    answer_tokens: int = 0  # words in each answer; 0 echoes the question once
    context_tokens: int = 4096

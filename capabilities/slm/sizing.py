"""The sizes of a model's context, and whether they fit into this machine."""

from __future__ import annotations

from pathlib import Path

from capabilities.slm import llama, machine, memory, protocol
from capabilities.slm.cache import MAX_SEATS
from capabilities.slm.capture import Capture
from capabilities.slm.header import Header

DEFAULT_CONTEXT = 4096
FLASH_HEAD = 64  # numbers of a head; see Settings.flash_attention
FORWARD_ROWS = 32  # rows of output of a step for forward passes: the drafts of a few streams


def context(path: Path, head: Header, settings: protocol.Settings) -> tuple[int, int]:
    """Tokens of context, and how many of them may keep prefixes.

    Raises ModelError when the model with them does not fit into memory.
    """
    wanted = settings.context_tokens
    if not wanted:
        trained = int(head.scalars.get(f"{head.arch}.context_length", 0)) or DEFAULT_CONTEXT
        wanted = min(settings.slots * trained, DEFAULT_CONTEXT)
    need = memory.estimate(
        head,
        path.stat().st_size,
        context_tokens=wanted,
        batch_tokens=min(settings.batch_tokens, wanted),
        rows=settings.slots + (settings.batch_tokens if settings.capture else MAX_SEATS),
    )
    memory.refuse_above(need, settings.memory_bytes or machine.available_bytes(), path.name)
    if settings.prefix_tokens < 0:
        return wanted, memory.prefix_tokens(need, wanted)
    return wanted, min(settings.prefix_tokens, wanted)


def shape(
    settings: protocol.Settings,
    tokens: int,
    threads: int,
    *,
    head_width: int,
    keeps: bool,
    capture: Capture | None,
) -> tuple[llama.ContextShape, range, int]:
    """The sizes of a context, the sequences that keep prefixes, and the rows of output that
    forward passes may take of a step."""
    batch = min(max(settings.batch_tokens, settings.slots), tokens)
    most = protocol.MAX_SLOTS - settings.slots - settings.sequences
    seats = range(settings.slots, settings.slots + (min(MAX_SEATS, most) if keeps else 0))
    rows = 0
    if settings.sequences:
        rows = max(batch if capture else FORWARD_ROWS, len(seats) + settings.sequences)
    sizes = llama.ContextShape(
        tokens=tokens,
        batch=batch,
        sequences=seats.stop + settings.sequences,
        outputs=settings.slots + max(rows, len(seats)),  # llama.cpp wants one for each sequence
        threads=threads,
        flash_attention=head_width >= FLASH_HEAD
        if settings.flash_attention is None
        else settings.flash_attention,
        eval_callback=capture.callback if capture else None,
    )
    return sizes, seats, rows

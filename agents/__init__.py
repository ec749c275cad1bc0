"""Who decides: understanding, planning, choosing a peer, checking the answer.

And the library: ``from agents import connect, Agent`` reaches a running agent from a program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.library import Agent, SyncAgent, connect, connect_sync

__all__ = ["Agent", "SyncAgent", "connect", "connect_sync"]


def __getattr__(name: str) -> object:
    # Loaded on first use: every module of an agent imports this package first.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agents import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

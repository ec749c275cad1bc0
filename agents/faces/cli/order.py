"""The order of the commands in ``gossamer --help``: what a newcomer needs comes first."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

FIRST = (
    *("demo", "up", "ask", "write", "call"),  # a mesh, and what it is for
    *("status", "peers", "names", "resolve", "top", "console", "trace", "web", "mcp"),  # to look
    *("mesh", "join", "invite", "revoke", "access", "audit"),  # who is in it
    *("model", "load", "unload", "drain", "resume", "policy"),  # what a node does
    *("knowledge", "subscribe", "publish", "sensors", "sum"),  # data
    *("budget", "ledger", "feedback", "escalation"),  # what it costs, and how well it goes
    *("board", "deploy", "doctor", "simulate", "version"),
)


class Ordered(TyperGroup):
    """Lists its commands by :data:`FIRST`, and behind them those that are not in it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """As the library asks for them, whose own or click's context it is."""
        there = super().list_commands(ctx)
        return [name for name in FIRST if name in there] + [n for n in there if n not in FIRST]

"""The command ``gossamer``."""

from __future__ import annotations


def main() -> None:
    """Entry point; what it needs is imported when it is called."""
    from agents.faces.cli.app import app

    app()

"""``python -m agents.faces.cli`` is the command ``gossamer``."""

from agents.faces.cli import main

main()
